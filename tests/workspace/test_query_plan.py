"""Explanations: the query plan as the engine draws it."""

import pytest

import jammi_lab as jl


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "papers.csv").write_text("id,venue,year\n1,X,2020\n2,Y,2021\n3,X,2022\n")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("papers", tmp_path / "papers.csv")
        ws.materialize("recent", "SELECT * FROM papers WHERE year > 2020")
        yield ws


SQL = "SELECT p.venue, count(*) AS n FROM papers p JOIN jammi.recent r USING (id) WHERE p.year > $least GROUP BY ALL ORDER BY n"


def test_a_plan_is_drawn_with_estimated_rows_and_runs_nothing(ws):
    found = ws.explain(SQL, least=2000)
    assert all(name in found for name in ("HASH_GROUP_BY", "HASH_JOIN", "READ_CSV", "READ_PARQUET"))
    assert isinstance(found, str) and "(year > " in found and "~" in found


def test_analyze_runs_it_and_tells_real_rows_and_times(ws):
    found = ws.explain(SQL, {"least": 2000}, analyze=True)
    assert "Total Time: " in found and "2 rows" in found and "~" not in found


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


def test_an_error_marks_its_place_in_what_was_typed(ws):
    for text, at in (
        ("SELECT x\nFROM nothing_like_it", 14),
        ("SELEC 1", 0),
        ("SELECT $z", 7),
        ("SELECT nothing FROM papers", 7),
        ("", 0),
    ):
        for analyze in (False, True):
            with pytest.raises(jl.JammiError) as refused:
                ws.explain(text, analyze=analyze)
            assert (refused.value.statement, refused.value.position) == (
                text,
                at,
            ) and "EXPLAIN" not in str(refused.value)
