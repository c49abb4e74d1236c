"""Explanations: the engine's steps as a tree."""

import pytest

import jammi_lab as jl
from jammi_lab.workspace.query_plan import Explanation


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "papers.csv").write_text("id,venue,year\n1,X,2020\n2,Y,2021\n3,X,2022\n")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("papers", str(tmp_path / "papers.csv"))
        ws.materialize("recent", "SELECT * FROM papers WHERE year > 2020")
        yield ws


SQL = "SELECT p.venue, count(*) AS n FROM papers p JOIN jammi.recent r USING (id) WHERE p.year > $least GROUP BY ALL ORDER BY n"


def names(operator):
    return [operator.name, *(n for child in operator.children for n in names(child))]


def test_a_plan_is_a_tree_with_estimated_rows_and_runs_nothing(ws):
    found = ws.explain(SQL, least=2000)
    assert {"order", "group", "join", "read csv", "read parquet"} <= set(names(found.root))
    assert (
        found.seconds is None
        and "└─ " in found
        and found.endswith("not run: row counts are estimates")
    )
    assert isinstance(found, str) and "(year > " in found


def test_analyze_runs_it_and_tells_real_rows_and_times(ws):
    found = ws.explain(SQL, {"least": 2000}, analyze=True)
    assert found.root.rows == 2 and found.root.seconds >= 0 and found.seconds > 0
    assert " ms" in found and "took " in found and "explain" not in found.lower()


def test_steps_that_only_carry_columns_along_are_left_out(ws):
    assert "#" not in ws.explain("SELECT venue, count(*) FROM papers GROUP BY 1 ORDER BY 1")
    assert ws.explain("SELECT 1").root is not None


def test_its_forms_are_escaped_and_alike(ws):
    found = ws.explain("SELECT * FROM papers WHERE venue = '<b>'")
    assert (
        "<b>" not in found._repr_html_()
        and "&lt;b&gt;" in found._repr_html_()
        and repr(found) == str(found)
    )


def test_a_wrong_statement_and_a_missing_parameter_are_typed(ws):
    with pytest.raises(jl.SqlError):
        ws.explain("SELECT nothing FROM papers")
    with pytest.raises(jl.ParameterMissing):
        ws.explain(SQL)
    with pytest.raises(jl.StatementNotAllowed):
        ws.explain("DROP TABLE papers")


@pytest.mark.parametrize("analyze", [False, True])
@pytest.mark.parametrize(
    "text",
    ["SELECT 1; DELETE FROM mutable.notes", "SELECT 1;; SELECT 2", "DELETE FROM mutable.notes"],
)
def test_what_is_only_to_be_explained_runs_no_other_statement(ws, text, analyze):
    notes = ws.mutable.create("notes", {"id": "int64"}, primary_key=["id"])
    notes.insert([{"id": 1}])
    with pytest.raises(
        jl.JammiError,
        match=r"Only one statement can be explained at a time, got 2\.|Only a SELECT can be explained",
    ):
        ws.explain(text, analyze=analyze)
    assert notes.version == 1 and ws.sql("SELECT id FROM mutable.notes").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("SELECT x\nFROM nothing_like_it", 14),
        ("SELEC 1", 0),
        ("SELECT $z", 7),
        ("SELECT nothing FROM papers", 7),
        ("", 0),
    ],
)
def test_an_error_marks_its_place_in_what_was_typed(ws, text, at):
    for analyze in (False, True):
        with pytest.raises(jl.JammiError) as refused:
            ws.explain(text, analyze=analyze)
        assert (refused.value.statement, refused.value.position) == (
            text,
            at,
        ) and "EXPLAIN" not in str(refused.value)


def test_nothing_to_do_is_said():
    assert str(Explanation("[]")).startswith("no operators")


def test_each_scan_names_what_it_reads(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,2\n")
    (tmp_path / "b.csv").write_text("id,y\n1,2\n")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("a", str(tmp_path / "a.csv"))
        ws.sources.add("b", str(tmp_path / "b.csv"))
        ws.materialize("kept", "SELECT id, x AS z FROM a")
        statement = "SELECT x, y, z FROM a JOIN b USING (id) JOIN jammi.kept USING (id)"
        for shown in (ws.explain(statement), ws.explain(statement, analyze=True)):
            assert {"a: id, x", "b: id, y", "kept: id, z"} <= {
                scan.split(" · ")[1].split("  ")[0].strip()
                for scan in shown.splitlines()
                if "read " in scan
            }
        both = ws.explain("SELECT a.id FROM a JOIN b USING (id)")
        assert str(both).count("a or b: id") == 2
