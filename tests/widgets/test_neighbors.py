"""The neighbour explorer's and the catalog browser's kernel sides."""

import contextlib
import sqlite3

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_widgets.catalog import CatalogBrowser
from jammi_widgets.map import EmbeddingMap
from jammi_widgets.neighbors import NeighborExplorer


@pytest.fixture
def texts(ws):
    ws.embed(
        "titles",
        "SELECT id, title, venue, year FROM papers",
        key="id",
        text="title",
        model="hashing",
    )
    return ws


def test_a_text_finds_rows_with_the_columns_behind_them(texts, told):
    panel = NeighborExplorer(texts, "titles")
    body = told(panel).answer("near", text="a", k=2)
    assert next(h["key"] for h in body["hits"]) == "1" and len(body["hits"]) == 2
    assert body["about"]["columns"] == ["title", "venue", "year"] and body["hits"][0]["values"] == [
        "a",
        "X",
        "2020",
    ]
    assert panel.query == "a"
    assert "nearest to 'a'" in repr(panel)


def test_a_row_finds_its_neighbours_and_never_itself(texts, told):
    panel = NeighborExplorer(texts, "titles", 2)
    body = told(panel).answer("open")
    assert panel.selection == ["2"] and body["row"] == "2" and body["own"] == ["b", "Y", "2021"]
    assert sorted(h["key"] for h in body["hits"]) == ["1", "3"]


def test_a_condition_is_applied_before_the_cut(texts, told):
    panel = NeighborExplorer(texts, "titles", k=1)
    line = told(panel)
    panel.filter = "venue = 'Y'"
    assert [h["key"] for h in line.answer("near", text="a", k=1)["hits"]] == ["2"]
    panel.filter = "venue ="
    answer = line.ask("near", text="a", k=1)
    assert answer["kind"] == "refused"


@pytest.mark.parametrize(
    "condition",
    [
        "(SELECT s FROM jammi.secret) = 'T'",
        "EXISTS (FROM jammi.secret)",
        "venue IN (SELECT 'Y')",
        "true /* ' */ AND 0 = (FROM range(1))",
    ],
)
def test_a_condition_of_the_page_reads_no_other_table_and_the_one_from_python_may(
    texts, told, condition
):
    texts.materialize("secret", "SELECT 'T' AS s")
    panel = NeighborExplorer(texts, "titles", k=1)
    line = told(panel)
    panel.filter = condition
    answer = line.ask("near", text="a", k=1)
    assert answer["kind"] == "refused" and "without subqueries" in answer["lines"][0]
    assert texts.search("titles", "a", where=condition).arrow().num_rows


def test_a_source_with_a_column_called_key_shows_the_row_that_is_meant(ws, told, tmp_path):
    (tmp_path / "k.csv").write_text("id,key,title\n1,2,first\n2,1,second\n")
    ws.sources.add("keyed", tmp_path / "k.csv")
    ws.embed("k", "keyed", key="id", text="title", model="hashing")
    line = told(NeighborExplorer(ws, "k", 1))
    assert line.answer("open")["own"] == ["first"]
    assert line.answer("near", row="2", k=1)["own"] == ["second"]


@pytest.mark.parametrize("now", ["x2", "02"])
def test_keys_that_are_texts_by_now_are_looked_for_as_they_were(texts, told, papers, now):
    papers.write_text(f"id,title,year,venue\n1,a,2020,X\n{now},b,2021,Y\nz,c,2022,X\n")
    line = told(NeighborExplorer(texts, "titles", key=1))
    assert line.answer("open")["own"] == ["a", "X", "2020"]
    assert line.answer("near", row="2", k=1)["own"] == [None, None, None]
    panel = EmbeddingMap(texts, "titles")
    legend = told(panel).answer("colour", column="venue")["legend"]
    assert [(name, n) for name, _, n in legend] == [("X", 1)]
    panel.filter = "true"
    assert panel._filtered_out.tolist() == [False, True, True]


def test_a_stale_table_and_a_row_that_is_gone_are_said(texts, told, papers):
    line = told(NeighborExplorer(texts, "titles", 1))
    papers.write_text("id,title,year,venue\n1,a,2020,X\n2,b,2021,Y\n")
    body = line.answer("near", row="1", k=5)
    assert body["about"]["verdict"] == "stale" and "papers changed" in body["about"]["notes"][0]
    assert [h["missing"] for h in body["hits"] if h["key"] == "3"] == [True]


def test_the_state_of_the_index_is_said(ws, told):
    vectors = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)
    ws.import_embeddings("many", pa.table({"id": range(3000), "vector": list(vectors)}))
    line = told(NeighborExplorer(ws, "many"))
    notes = line.answer("near", row="5", k=3)["about"]["notes"]
    assert notes == ["3,000 rows of 8 dimensions, index bf16, 100 %"]
    for path in ws.table("many").path.parent.glob("*.idx.*"):
        path.unlink()
    assert "index missing, 0 %" in line.answer("open")["about"]["notes"][-1]


def test_a_row_chosen_elsewhere_is_gone_to_and_one_on_the_page_is_only_chosen(texts, told):
    panel = NeighborExplorer(texts, "titles", 1, k=1)
    line = told(panel)
    [here] = [h["key"] for h in line.answer("open")["hits"]]
    [other] = {"2", "3"} - {here}
    panel.selection = [here]
    assert line.messages[-1]["kind"] == "answer"
    panel.selection = [other]
    assert line.messages[-1]["kind"] == "changed" and line.messages[-1]["body"]["row"] == other
    with pytest.raises(jl.RowNotFound):
        panel.selection = ["4711"]


def test_a_panel_that_does_not_act_says_so(texts, told):
    ended = told(NeighborExplorer(texts, "titles")).act("recompute", "titles")
    assert (
        ended["kind"] == "failed"
        and ended["lines"][0]
        == "InvalidArgument: This panel does not support the action 'recompute'."
    )


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (("nothing",), jl.TableNotFound),
        (("recent",), jl.SchemaMismatch),
        (("titles", 99), jl.RowNotFound),
    ],
)
def test_what_is_not_there_is_a_typed_error(texts, make, error):
    with pytest.raises(error):
        NeighborExplorer(texts, *make)


@pytest.mark.parametrize(
    "make",
    [lambda ws: NeighborExplorer(ws, "titles", query="a"), lambda ws: EmbeddingMap(ws, "titles")],
)
def test_a_saved_form_says_that_its_table_is_stale_gone_or_another_by_now(texts, edited, make):
    panel, older = make(texts), make(texts)

    def said(shown=panel):
        data, _ = shown._repr_mimebundle_()
        assert all("<script" not in text for text in data.values() if isinstance(text, str))
        return data["text/plain"].split("\n")[0], data["text/html"]

    assert "stale" not in said()[0] + said()[1]
    edited()
    assert (
        said()[0].startswith("titles is stale: papers changed")
        and "<b style=" in said()[1].partition("titles is stale")[0]
    )
    texts.recompute("titles")
    panel.refresh()
    assert "stale" not in said()[0] + said()[1]
    assert said(older)[0].startswith("This is version 1 of titles; version 2 is available")
    texts.drop("titles")
    assert said()[0] == "titles no longer exists."
    texts.close()
    assert "stale" not in said()[0]


def test_the_saved_form_of_the_catalog_has_the_signs_of_verdicts(ws, edited):
    edited()
    data, _ = CatalogBrowser(ws)._repr_mimebundle_()
    assert data["text/html"].count("<b style=") == 4


def items(body, group):
    return {p["name"]: p for g in body["groups"] if g["name"] == group for p in g["parts"]}


def test_the_catalog_names_things_as_a_cell_says_them(texts, told):
    texts.materialize("my table", "SELECT 1 AS a")
    line = told(CatalogBrowser(texts))
    body = line.answer("open")
    assert items(body, "Sources")["papers"]["insert"] == "papers"
    assert items(body, "Result tables")["my table"]["insert"] == 'jammi."my table"'
    assert items(body, "Result tables")["recent"]["verdict"] == "fresh"
    below = line.answer("children", part=items(body, "Sources")["papers"]["id"])["parts"]
    assert [(p["name"], p["said"]) for p in below][:2] == [("id", "BIGINT"), ("title", "VARCHAR")]


def test_a_table_that_is_dropped_while_the_catalog_shows_it_is_a_word(texts, told):
    line = told(CatalogBrowser(texts))
    venues = items(line.answer("open"), "Result tables")["venues"]["id"]
    texts.drop("summary")
    texts.drop("venues")
    assert (
        line.ask("children", part=venues)["kind"] == "refused"
        and line.act("preview", venues)["kind"] == "failed"
    )
    assert "venues" not in items(line.answer("refresh"), "Result tables")


def test_the_catalog_previews_and_filters_and_an_unknown_part_is_refused(texts, told):
    line = told(CatalogBrowser(texts))
    body = line.answer("open")
    ended = line.act("preview", items(body, "Result tables")["venues"]["id"])
    assert ended["body"]["columns"] == ["venue", "n"]
    assert line.ask("children", part="99.99")["kind"] == "refused"
    line.panel.filter = "summ"
    groups = {
        g["name"]: [p["name"] for p in g["parts"]] for g in line.messages[-1]["body"]["groups"]
    }
    assert groups["Result tables"] == ["summary"] and groups["Sources"] == []


def below(line, part):
    return {p["name"]: p for p in line.answer("children", part=part["id"])["parts"]}


def test_a_database_shows_its_tables_also_when_there_is_only_one(ws, told, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "one.db")) as at:
        at.executescript(
            "CREATE TABLE 'my.people' (name TEXT); INSERT INTO 'my.people' VALUES ('Ann')"
        )
    ws.sources.add("one", tmp_path / "one.db")
    line = told(CatalogBrowser(ws))
    source = items(line.answer("open"), "Sources")["one"]
    assert source["opens"] and not source["rows"]
    [table] = below(line, source).values()
    assert (table["name"], table["insert"], table["rows"]) == ("my.people", 'one."my.people"', True)
    assert ws.sql(f"SELECT * FROM {table['insert']}").fetchall() == [("Ann",)]
    assert list(below(line, table)) == ["name"] and line.act("preview", table["id"])["body"][
        "rows"
    ] == [["Ann"]]


def test_a_database_that_was_added_unchecked_offers_no_rows_under_its_own_name(ws, told, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "one.db")) as at:
        at.executescript("CREATE TABLE people (name TEXT)")
    sqlite3.connect(tmp_path / "empty.db").close()
    for name in ("one", "empty"):
        ws.sources.add(name, tmp_path / f"{name}.db", check=False)
    line = told(CatalogBrowser(ws))
    found = items(line.answer("open"), "Sources")
    assert not found["one"]["rows"] and not found["empty"]["rows"] and found["papers"]["rows"]
    assert list(below(line, found["one"])) == ["people"] and list(below(line, found["empty"])) == [
        "no tables"
    ]


def test_the_filter_finds_tables_inside_databases_and_asks_none_for_them(
    ws, told, tmp_path, monkeypatch
):
    with duckdb.connect(str(tmp_path / "m.duckdb")) as at:
        at.execute(
            "CREATE SCHEMA s; CREATE TABLE orders(x INT); CREATE TABLE s.ordered(y INT); CREATE TABLE s.other(z INT)"
        )
        for n in range(250):
            at.execute(f"CREATE TABLE z{n:03}(x INT)")
    ws.sources.add("m", tmp_path / "m.duckdb")
    line = told(CatalogBrowser(ws))

    def found(text):
        line.panel.filter = text
        return {
            name: p["insert"] for name, p in items(line.messages[-1]["body"], "Sources").items()
        }

    assert (
        found("order")["m.orders"] == "m.orders" and found("z249") == {}
    )  # of very many tables the first are known without a look
    line.panel.filter = ""
    below(line, items(line.answer("open"), "Sources")["m"])
    monkeypatch.setattr(
        type(ws.sources["m"]), "tables", lambda _: pytest.fail("the source was asked")
    )
    assert found("order") == {"m.orders": "m.orders", "m.s.ordered": "m.s.ordered"} and found(
        "z249"
    ) == {"m.z249": "m.z249"}
    table = items(line.messages[-1]["body"], "Sources")["m.z249"]
    assert list(below(line, table)) == ["x"] and line.act("preview", table["id"])["body"][
        "columns"
    ] == ["x"]
