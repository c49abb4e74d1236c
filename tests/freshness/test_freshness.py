"""Is a table still true: files, names and definitions."""

import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.steps import recipe
from tests.freshness.lab import Lab, said, same_size_edit
from tests.store.lab import flip

# -- files as a whole ------------------------------------------------------------------------------


def test_two_looks_at_one_edit_give_equal_verdicts_though_only_the_first_had_to_read(
    tmp_path,
):
    (tmp_path / "papers.csv").write_text("id\n1\n")
    with jl.open(tmp_path / "lab", settings={"look.racy_seconds": 0.0}) as ws:
        ws.sources.add("papers", tmp_path / "papers.csv")
        ws.materialize("titles", "SELECT id FROM papers")
        (tmp_path / "papers.csv").write_text("id\n2\n3\n")
        first, second = ws.staleness("titles"), ws.staleness("titles")
        assert isinstance(first, jl.Stale) and isinstance(second, jl.Stale)
        assert [verdict.reasons[0].current.cost for verdict in (first, second)] == ["scan", "free"]  # type: ignore[union-attr]
        [step] = ws.plan().certain
        assert (
            first == second == ws.status()["titles"].verdict
            and step.reasons == first.reasons
            and repr(first) == repr(second)
        )


@pytest.mark.every_case
@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_an_edit_that_puts_size_and_times_back_is_seen_when_the_memo_is_old_enough_to_be_trusted(
    papers, how
):
    papers.clock.ahead = 3600  # the file is an hour old: its stat stands for its bytes from now on
    assert papers.verdict("titles") == "fresh"
    path = edited = papers.path("papers.csv")
    if how == "by another file":
        edited = papers.path("twin.csv")
        shutil.copy2(path, edited)
    same_size_edit(edited, "Trees", "Woods")
    os.replace(edited, path)
    assert papers.verdict("titles") == "stale"


# -- files by column -------------------------------------------------------------------------------

ID_V = {"id": [1], "v": [2]}
WIDER = {**ID_V, "w": [3]}
OTHER_TYPE = {"id": [1], "v": [2.0]}
FRESH, STALE = "fresh", "stale"
CHANGES = [
    ("SELECT id FROM s", ID_V, {"id": [1], "v": [3]}, FRESH),
    ("SELECT v FROM s", ID_V, {"id": [1], "v": [3]}, STALE),
    ("SELECT id FROM s WHERE v > 2", ID_V, {"id": [1], "v": [3]}, STALE),
    # added rows count for all, other rows not for who only counts
    *(
        (f"SELECT {each} FROM s", {"id": [1, 1]}, {"id": [1, 1, 1]}, STALE)
        for each in ("id", "1 AS one", "count(*) AS n")
    ),
    ("SELECT count(*) AS n FROM s", {"id": [1, 2]}, {"id": [5, 6]}, FRESH),
    # added columns count for a star and a pattern that they match
    ("FROM s", ID_V, WIDER, STALE),
    *(
        (f"SELECT {each} FROM s", ID_V, WIDER, STALE)
        for each in ("*", "COLUMNS(*)", "* EXCLUDE (id)", "s")
    ),
    ("SELECT v, id FROM s", ID_V, WIDER, FRESH),
    ("SELECT COLUMNS('v.*') FROM s", {"v1": [1], "w": [2]}, {"v1": [1], "w": [2], "x": [3]}, FRESH),
    (
        "SELECT COLUMNS('v.*') FROM s",
        {"v1": [1], "w": [2]},
        {"v1": [1], "w": [2], "v2": [3]},
        STALE,
    ),
    # renamed
    ("SELECT id FROM s", ID_V, {"id": [1], "w": [2]}, FRESH),
    ("SELECT v FROM s", ID_V, {"id": [1], "w": [2]}, STALE),
    # of another type
    ("SELECT v FROM s", ID_V, {"id": [1], "v": ["2"]}, STALE),
    ("SELECT id FROM s", ID_V, {"id": [1], "v": ["2"]}, FRESH),
    ("SELECT typeof(v) AS t FROM s", ID_V, OTHER_TYPE, STALE),
    ("SELECT id FROM s WHERE typeof(v) = 'BIGINT'", ID_V, OTHER_TYPE, STALE),
    ("SELECT CASE WHEN false THEN v ELSE id END AS c FROM s", ID_V, OTHER_TYPE, STALE),
    (
        "SELECT id FROM s WHERE (CASE WHEN false THEN v ELSE id END)::VARCHAR = '1'",
        ID_V,
        OTHER_TYPE,
        STALE,
    ),
]


@pytest.mark.parametrize(("statement", "before", "after", "expected"), CHANGES)
def test_a_change_counts_for_those_who_read_it(lab, statement, before, after, expected):
    lab.parquet("s", **before)
    lab.materialize("t", statement)
    lab.parquet("s", **after)
    assert lab.verdict("t") == expected


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT a.id FROM a NATURAL JOIN b",
        "SELECT id FROM a NATURAL JOIN b",
        "SELECT v FROM a JOIN b USING (id)",  # ambiguous by then
        "SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE v = 2)",  # captures the outer v
    ],
)
def test_an_added_column_counts_where_it_changes_what_names_mean(lab, statement):
    lab.parquet("a", id=[1, 2], v=[1, 2])
    lab.parquet("b", id=[1, 2])
    lab.materialize("t", statement)
    lab.parquet("b", id=[1, 2], v=[2, 2])
    assert "advanced b" in said(lab.staleness("t"))


def test_columns_of_files_or_tables_in_another_order_change_what_goes_by_position(lab):
    lab.parquet("a", x=[1], y=[10])
    lab.parquet("b", x=[2], y=[20])
    statement = "SELECT * FROM a UNION ALL SELECT * FROM b"
    lab.materialize("t", statement)
    lab.parquet("b", y=[20], x=[2])
    assert said(lab.staleness("t")) == ["advanced b"]
    assert lab.materialize("t", statement).outcome == "computed"
    assert lab.rows("t") == [(1, 10), (20, 2)]
    lab.materialize("p", "SELECT x, y FROM a")
    lab.materialize("u", "SELECT 0 AS a, 0 AS b UNION ALL SELECT * FROM jammi.p")
    lab.materialize("p", "SELECT y, x FROM a")
    assert said(lab.staleness("u")) == ["advanced p"]


# -- several files ---------------------------------------------------------------------------------


@pytest.fixture
def parts(lab: Lab) -> Lab:
    folder = lab.path("parts")
    folder.mkdir()
    for n in (1, 2):
        pq.write_table(pa.table({"id": [n], "v": [n * 10]}), folder / f"p{n}.parquet")
    lab.sources.add("globbed", folder / "*.parquet")
    lab.sources.add("folder", folder)
    for name in ("globbed", "folder"):
        lab.materialize(f"{name}_ids", f"SELECT id FROM {name}")
        lab.materialize(f"{name}_all", f"SELECT * FROM {name}")
    return lab


def verdicts(lab: Lab) -> dict[str, str]:
    return {
        row.name: "stale" if isinstance(row.verdict, jl.Stale) else "fresh"
        for row in lab.status()
        if row.verdict is not None
    }


@pytest.mark.every_case
@pytest.mark.parametrize("change", ["gains", "loses"])
def test_a_glob_or_folder_that_gains_or_loses_a_file_makes_its_tables_stale(parts, change):
    if change == "gains":
        pq.write_table(pa.table({"id": [3], "v": [30]}), parts.path("parts/p3.parquet"))
    else:
        parts.path("parts/p2.parquet").unlink()
    assert set(verdicts(parts).values()) == {"stale"}


def test_a_glob_without_a_match_has_vanished(parts):
    shutil.rmtree(parts.path("parts"))
    assert said(parts.staleness("globbed_ids")) == ["vanished globbed"]
    assert said(parts.staleness("folder_ids")) == ["vanished folder"]


def test_one_column_of_one_file_of_a_folder_counts_for_its_readers(parts):
    pq.write_table(pa.table({"id": [2], "v": [21]}), parts.path("parts/p2.parquet"))
    assert verdicts(parts) == {
        "folder_all": "stale",
        "folder_ids": "fresh",
        "globbed_all": "stale",
        "globbed_ids": "fresh",
    }


def test_a_file_that_no_glob_names_is_nothing_to_it(parts):
    parts.path("parts/notes.txt").write_text("nothing")
    assert verdicts(parts)["globbed_all"] == "fresh"


def test_files_that_change_names_change_the_order_of_rows(parts):
    parts.materialize("cut", "SELECT v FROM globbed LIMIT 1")
    one, two = parts.path("parts/p1.parquet"), parts.path("parts/p2.parquet")
    one.rename(parts.path("aside"))
    two.rename(one)
    parts.path("aside").rename(two)
    assert parts.verdict("cut") == "stale"  # order is part of what a file anchor carries
    assert parts.verdict("globbed_all") == "stale"


# -- definitions and names -------------------------------------------------------------------------


def test_a_producer_that_would_give_other_rows_by_now_makes_its_tables_stale_and_only_its_own(
    papers, monkeypatch
):
    papers.embed("vectors", "papers", key="id", text="title", model="hashing")
    monkeypatch.setattr(jl.Embedding, "revision", 2)
    assert (
        said(papers.staleness("vectors")) == ["definition"]
        and papers.staleness("titles") == jl.Fresh()
    )
    assert [step.name for step in papers.plan().certain] == ["vectors"]
    monkeypatch.undo()
    monkeypatch.setattr(recipe, "OUTPUT_VERSION", 2)
    assert said(papers.staleness("titles")) == ["definition"]


def test_every_reason_is_told_the_definition_first(lab):
    lab.csv("b", "id", "1")
    lab.csv("a", "id", "1")
    lab.materialize("t", "SELECT a.id FROM a JOIN b USING (id)")
    lab.csv("b", "id", "2")
    lab.path("a.csv").unlink()
    lab.define("t", "SELECT b.id FROM b")
    assert said(lab.staleness("t")) == ["definition", "vanished a", "advanced b"]


def test_a_source_put_under_the_name_of_another_decides_by_its_content(papers):
    shutil.copyfile(papers.path("papers.csv"), papers.path("copy.csv"))
    papers.path("other.csv").write_text("id,title,year\n9,Rings,2024\n")
    papers.sources.add("papers", papers.path("other.csv"), replace=True)
    assert papers.verdict("titles") == "stale"


def test_a_recipe_whose_last_version_was_dropped_has_vanished_for_its_readers(papers):
    papers.table("titles").drop()
    assert said(papers.staleness("first")) == ["vanished titles"]
    assert said(papers.staleness("titles")) == ["definition"]


# -- result tables ---------------------------------------------------------------------------------


def test_a_parent_that_gains_a_column_leaves_those_fresh_who_name_theirs(papers):
    papers.materialize("titles", "SELECT year, id, title FROM papers WHERE year > 2019")
    assert papers.verdict("first") == "fresh"


def test_an_older_version_is_judged_by_the_present_and_not_by_being_old(papers):
    old = papers.table("titles")
    text = papers.path("papers.csv").read_text()
    papers.path("papers.csv").write_text(text + "4,Cubes,2023\n")
    papers.recompute("titles")
    assert said(old.staleness()) == ["advanced papers"]
    papers.path("papers.csv").write_text(text)
    assert papers.staleness(old) == jl.Fresh()
    assert papers.verdict("titles") == "stale"


# -- bytes of the table itself ---------------------------------------------------------------------


def test_a_damaged_exact_table_makes_its_readers_possibly_stale(papers):
    exact = papers.table("titles")
    papers.materialize("of_exact", f'SELECT count(*) AS n FROM jammi."{exact.table_name}"')
    flip(exact.path)
    assert said(papers.staleness("of_exact")) == [f"damaged ← {exact.table_name}"]


BROKEN = {
    "csv": (b"id,v\n1,10\n2,20\n", b"id,v\n1,10\n2,20,30,40\n"),
    "json": (b'[{"id": 1, "v": 10}, {"id": 2, "v": 20}]', b'[{"id": 1, "v": 10}, {"id": 2, "v'),
    "ndjson": (b'{"id": 1, "v": 10}\n{"id": 2, "v": 20}\n', b'{"id": 1, "v": 10}\n{"id": 2, "v\n'),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_text_file_that_can_no_longer_be_read_has_moved_and_says_what_is_wrong(lab, kind):
    whole, broken = BROKEN[kind]
    file = lab.folder / f"f.{kind}"
    file.write_bytes(whole)
    pq.write_table(pa.table({"id": [1, 2], "w": [3, 4]}), lab.folder / "other.parquet")
    lab.sources.add("f", file)
    lab.sources.add("other", lab.folder / "other.parquet")
    lab.materialize("t", "SELECT f.v FROM f JOIN other USING (id)")
    lab.materialize("u", "SELECT v FROM jammi.t")
    file.write_bytes(broken)
    verdict = lab.staleness("t")
    assert said(verdict) == [
        "advanced f"
    ] and f"f changed and cannot be read: f.{kind}, {'value' if kind == 'json' else 'line'}" in str(
        verdict
    )
    assert lab.verdict("u") == "possibly_stale"
    assert [step.name for step in lab.plan("u").certain] == ["t"]
    assert lab.sources["f"].anchor(columns=["v"]).note
    file.write_bytes(whole)
    assert lab.verdict("t") == lab.verdict("u") == "fresh"


def test_a_column_of_another_type_is_another_one_though_no_row_is_left(papers):
    papers.materialize("none", "SELECT 1::INTEGER AS x WHERE false")
    papers.materialize("child", "SELECT typeof(x) AS x FROM jammi.none UNION ALL SELECT 'end'")
    papers.materialize("none", "SELECT 1::BIGINT AS x WHERE false")
    assert said(papers.staleness("child")) == ["advanced none"]
