"""The neighbour explorer's and the catalog browser's kernel sides."""

import pytest

import jammi_lab as jl
from jammi_widgets.catalog import CatalogBrowser
from jammi_widgets.neighbors import NeighborExplorer


@pytest.fixture
def texts(ws):
    ws.embed("titles", "SELECT id, title, venue, year FROM papers", key="id", text="title", model="hashing")
    return ws


def test_a_text_finds_rows_with_the_columns_behind_them(texts, told):
    panel = NeighborExplorer(texts, "titles")
    body = told(panel).ask("near", text="a", k=2)["body"]
    assert next(h["key"] for h in body["hits"]) == "1" and len(body["hits"]) == 2
    assert body["about"]["columns"] == ["title", "venue", "year"] and body["hits"][0]["values"] == ["a", "X", "2020"]
    assert sum(body["histogram"]["bins"]) == 3 and panel.query == "a"


def test_a_row_finds_its_neighbours_and_never_itself(texts, told):
    panel = NeighborExplorer(texts, "titles", 2)
    body = told(panel).ask("open")["body"]
    assert panel.selection == ["2"] and body["row"] == "2" and body["own"] == ["b", "Y", "2021"]
    assert sorted(h["key"] for h in body["hits"]) == ["1", "3"]


def test_a_condition_is_applied_before_the_cut(texts, told):
    panel = NeighborExplorer(texts, "titles", k=1)
    line = told(panel)
    panel.filter = "venue = 'Y'"
    assert [h["key"] for h in line.ask("near", text="a", k=1)["body"]["hits"]] == ["2"]
    panel.filter = "venue ="
    answer = line.ask("near", text="a", k=1)
    assert answer["kind"] == "refused"


def test_two_rows_are_compared(texts, told):
    line = told(NeighborExplorer(texts, "titles", 1))
    line.ask("open")
    body = line.ask("compare", rows=["2", "3"])["body"]
    assert body["values"] == [["b", "Y", "2021"], ["c", "X", "2022"]] and -1 <= body["similarity"] <= 1


def test_a_stale_table_and_a_row_that_is_gone_are_said(texts, told, papers):
    line = told(NeighborExplorer(texts, "titles", 1))
    papers.write_text("id,title,year,venue\n1,a,2020,X\n2,b,2021,Y\n")
    body = line.ask("near", row="1", k=5)["body"]
    assert body["about"]["verdict"] == "stale" and "papers changed" in body["about"]["notes"][0]
    assert [h["missing"] for h in body["hits"] if h["key"] == "3"] == [True]


@pytest.mark.parametrize(("make", "error"), [(("nothing",), jl.TableNotFound), (("recent",), jl.SchemaMismatch), (("titles", 99), jl.RowNotFound)])
def test_what_is_not_there_is_a_typed_error(texts, make, error):
    with pytest.raises(error):
        NeighborExplorer(texts, *make)


def test_the_saved_form_lists_the_hits(texts):
    panel = NeighborExplorer(texts, "titles", query="a")
    data, _ = panel._repr_mimebundle_()
    assert "nearest to 'a'" in data["text/plain"] and "<table" in data["text/html"]


def items(body, group):
    return {p["name"]: p for g in body["groups"] if g["name"] == group for p in g["parts"]}


def test_the_catalog_names_things_as_a_cell_says_them(texts, told):
    texts.materialize("my table", "SELECT 1 AS a")
    line = told(CatalogBrowser(texts))
    body = line.ask("open")["body"]
    assert items(body, "Sources")["papers"]["insert"] == "papers"
    assert items(body, "Result tables")["my table"]["insert"] == 'jammi."my table"'
    assert items(body, "Result tables")["recent"]["verdict"] == "fresh"
    below = line.ask("children", part=items(body, "Sources")["papers"]["id"])["body"]["parts"]
    assert [(p["name"], p["said"]) for p in below][:2] == [("id", "BIGINT"), ("title", "VARCHAR")]


def test_the_catalog_previews_and_filters_and_an_unknown_part_is_refused(texts, told):
    line = told(CatalogBrowser(texts))
    body = line.ask("open")["body"]
    ended = line.act("preview", items(body, "Result tables")["venues"]["id"])
    assert ended["body"]["columns"] == ["venue", "n"]
    assert line.ask("children", part="99.99")["kind"] == "refused"
    line.panel.filter = "summ"
    groups = {g["name"]: [p["name"] for p in g["parts"]] for g in line.messages[-1]["body"]["groups"]}
    assert groups["Result tables"] == ["summary"] and groups["Sources"] == []
