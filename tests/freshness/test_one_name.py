"""A question about one name loads that name and what is upstream of it, and answers as a look at
everything."""

import contextlib
import sqlite3
from collections.abc import Callable

import pytest

import jammi_lab as jl
from jammi_lab import Workspace

ASKED_OF_ONE: dict[str, Callable[[Workspace], object]] = {
    "staleness": lambda ws: ws.staleness("first"),
    "why": lambda ws: ws.why("first"),
    "a version": lambda ws: ws.staleness(ws.table("first")),
    "plan": lambda ws: ws.plan("first"),
    "recompute": lambda ws: ws.recompute("first"),
    "badge": lambda ws: repr(ws.sql("SELECT * FROM jammi.first")),
    "direct dependents": lambda ws: ws.derives_from("titles"),
    "lineage": lambda ws: repr(ws.lineage("first")),
}


def test_a_question_about_one_name_reads_nothing_but_its_ancestors(papers):
    """The rows of a recipe that nothing reads cannot be decoded, which every look at all tells."""
    papers.materialize("unrelated", "SELECT year FROM papers")
    with contextlib.closing(sqlite3.connect(papers.folder / "catalog.sqlite3")) as db, db:
        db.execute("UPDATE result_tables SET anchors = '{' WHERE recipe = 'unrelated'")
        db.execute("UPDATE recipes SET descriptor = '{' WHERE name = 'unrelated'")
    for question in ASKED_OF_ONE.values():
        question(papers.ws)
    with pytest.raises(jl.TableDamaged):
        papers.status()


def test_what_only_the_new_definition_reads_is_an_ancestor(papers):
    papers.materialize("years", "SELECT year FROM papers")
    papers.materialize("spans", "SELECT max(year) - min(year) AS span FROM jammi.years")
    papers.define("first", "SELECT span FROM jammi.spans")
    papers.csv("papers", "id,title,year", "9,Z,2001")
    assert [step.name for step in papers.plan("first").certain] == ["years", "first"]
    assert [step.name for step in papers.plan("first").possible] == ["spans"]


@pytest.mark.parametrize("tenant", [None, "one"])
def test_a_look_at_one_name_is_the_look_at_everything(lab, tenant):
    """Also with names that mean one thing to a tenant and another to shared tables."""
    ws = lab.ws
    lab.csv("s", "a,b", "1,2")
    lab.csv("u", "a,b", "3,4")
    ws.materialize("base", "SELECT a FROM s")
    ws.materialize("shared", "SELECT a FROM jammi.base")
    with ws.tenant("one"):
        ws.materialize("base", "SELECT a FROM u")
        ws.materialize("own", "SELECT x.a FROM jammi.base x, jammi.shared y")
        ws.materialize("other", "SELECT a FROM u")
        ws.define("other", "SELECT a FROM jammi.own")
    ws.define("undone", "SELECT a FROM jammi.shared")
    lab.csv("s", "a,b", "5,6")
    with ws.tenant(tenant):
        board = {row.name: repr(row.verdict) for row in ws.status(deep=True)}
        assert {name: repr(ws.staleness(name)) for name in board} == board
        assert len(set(board.values())) > 1
