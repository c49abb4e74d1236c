"""Why: the tree of reasons, one line per cause."""

import re

import pytest

import jammi_lab as jl
from jammi_lab.engine.sql import releases
from tests.freshness.lab import Lab
from tests.steps.modules import write

__all__ = ["write"]

_MOMENT = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC")
_DIGEST = re.compile(r"\b[0-9a-f]{12}\b")


def tree(lab: Lab, name: object) -> list[str]:
    """Its lines, moments and digests left open."""
    return [_DIGEST.sub("#", _MOMENT.sub("then", line)) for line in lab.why(name).lines]


def test_a_moved_input_has_old_and_new_state_its_method_and_when_each_was_seen(papers):
    table = papers.table("titles")
    papers.csv("papers", "id,title,year", "9,New,2020")
    why = papers.why("titles")
    [_, line] = why.lines
    verdict = why.verdict
    assert isinstance(verdict, jl.Stale)
    [reason] = verdict.reasons
    assert isinstance(reason, jl.InputAdvanced)
    assert not _DIGEST.search(line) and reason.recorded.value != reason.current.value
    assert f"(read {table.completed_at[:10]} {table.completed_at[11:19]} UTC, seen" in line
    assert tree(papers, "titles") == [
        "titles: stale",
        "└─ papers changed, 3 → 1 row (read then, seen then), columns read: id, title, year",
    ]


def test_rows_and_versions_are_told_where_they_are_known(lab):
    lab.parquet("rows", a=[1])
    lab.materialize("top", "SELECT a FROM rows")
    lab.materialize("next", "SELECT a FROM jammi.top")
    lab.parquet("rows", a=[1, 2])
    assert (
        tree(lab, "top")[1] == "└─ rows changed, 1 → 2 rows (read then, seen then), columns read: a"
    )
    lab.recompute("top")
    assert tree(lab, "next")[1].startswith("└─ top changed, version 1 → 2, 1 → 2 rows (read then")


def test_a_definition_whose_last_run_failed_says_why(papers):
    papers.csv("papers", "id,title,year", "1,a,2020", "2,a,2021")
    papers.recompute()
    made = "SELECT id, title FROM papers"
    papers.materialize("kept", made)
    papers.materialize("above", "SELECT id FROM jammi.kept")
    with pytest.raises(jl.DuplicateKey):
        papers.materialize("kept", made, key="title")
    said = "its last run failed: The key title of 'kept' must be unique and non-NULL; these keys are duplicate or NULL: 'a'."
    assert tree(papers, "kept") == [
        "kept: stale",
        "├─ definition changed (made then, seen then)",
        "│  └─ what differs: the key columns",
        f"└─ {said}",
    ]
    assert tree(papers, "above")[-1] == f"   └─ {said}"
    assert (
        papers.materialize("kept", made).outcome == "reused"
        and tree(papers, "kept")[0] == "kept: fresh"
    )
    papers.define("kept", "SELECT id FROM papers")
    assert tree(papers, "kept")[2:] == ["   └─ what differs: the statement"]


def test_a_changed_statement_names_its_values_and_key(papers):
    query = "SELECT id, year FROM papers WHERE year > $since AND id <> $but"
    values = {"since": 2000, "but": 7}
    papers.materialize("recent", jl.Sql(query, params=values))
    papers.define("recent", jl.Sql(query, params={**values, "since": 2010}))
    assert tree(papers, "recent")[2:] == ["   └─ what differs: $since"]
    papers.define("recent", jl.Sql(f"{query} AND id > 0", params=values, key="id"))
    assert tree(papers, "recent")[2:] == ["   └─ what differs: the statement, the key columns"]
    papers.define("recent", jl.Sql(f"{query}  -- a comment", params=values))
    assert tree(papers, "recent")[0] == "recent: fresh"


def test_another_release_of_duckdb_is_named_and_the_way_back_is_fresh(papers, monkeypatch):
    papers.lexical("words", "papers", key="id", text="title")
    installed = releases.ENVIRONMENT.get("release", "1.5")
    monkeypatch.setitem(releases.ENVIRONMENT, "release", "2.9")
    papers.reopen()
    named = f"the release of DuckDB: {installed} computed it, and 2.9 is installed"
    assert papers.why("titles").lines[-1].endswith(named)
    assert papers.why("words").lines[-1].endswith(named)
    monkeypatch.undo()
    papers.reopen()
    assert str(papers.staleness("titles")) == "fresh"


def test_a_changed_value_of_a_step_is_a_change_of_the_function(papers, write):
    text = "RATE = 2\ndef step(papers): return [{'y': RATE}]\n"
    papers.materialize("scaled", jl.PythonStep(write(text).module.step, inputs=["papers"]))
    changed = write(text.replace("RATE = 2", "RATE = 3")).module.step
    papers.define("scaled", jl.PythonStep(changed, inputs=["papers"]))
    assert tree(papers, "scaled")[2:] == ["   └─ what differs: the function"]


def test_what_cannot_be_decided_says_why_with_the_way_there(papers):
    papers.materialize("now", "SELECT id, now() AS t FROM papers")
    papers.materialize("later", "SELECT id FROM jammi.now")
    assert tree(papers, "now") == [
        "now: undecidable",
        "└─ now() returns another value on each call",
    ]
    assert tree(papers, "later") == [
        "later: undecidable",
        "└─ now",
        "   └─ now() returns another value on each call",
    ]


def test_a_fresh_table_tells_what_it_rests_on(papers):
    assert tree(papers, "titles") == [
        "titles: fresh",
        "└─ papers is unchanged (read then, seen then), columns read: id, title, year",
    ]


def test_both_forms_say_the_same_and_hostile_names_do_no_harm(lab):
    lab.csv("s", "id", "1")
    name = "<b>\u202e&"
    lab.materialize(name, "SELECT id FROM s")
    lab.csv("s", "id", "2")
    why = lab.why(name)
    assert "<b>" not in why._repr_html_() and "&lt;b&gt;" in why._repr_html_()
    assert "\u202e" not in why._repr_html_() + repr(why)
    assert repr(why).split("\n")[1:] == why.lines[1:]


def test_a_run_that_could_not_be_bound_is_named_until_one_succeeds(lab):
    lab.csv("a", "id,cost", "1,2")
    lab.materialize("t", "SELECT sum(cost) AS s FROM a")
    lab.csv("a", "id,costs", "1,2")
    [step] = lab.recompute().steps
    assert step.outcome == "failed"
    said = f"its last run failed: {step.error}"
    assert (step.error, step.hint) == ("There is no column cost in a.", "Did you mean costs?")
    assert lab.why("t").lines[1].startswith("├─ a changed its columns, cost is gone (")
    assert lab.why("t").lines[2] == f"└─ {said}"
    status = lab.status()
    assert status["t"].remarks == [said, "a changed its columns"] and said in repr(status)
    assert said in status["t"]._repr_html_()
    assert status.arrow()["failed_run"].to_pylist() == [said]
    assert [(table.version, table.status) for table in lab.tables(status="failed")] == [
        (2, "failed")
    ]
    lab.csv("a", "id,cost", "1,2")
    assert lab.status()["t"].remarks == []  # it holds again: no run is needed
    lab.csv("a", "id,y", "1,2")
    assert lab.status()["t"].remarks[0] == said
    lab.csv("a", "id,cost", "1,7")
    lab.recompute()
    assert not any("failed" in line for line in lab.why("t").lines)
    assert lab.table("t").read().fetchall() == [(7,)]
