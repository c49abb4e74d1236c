"""What a fresh verdict relies on reaches everything that is computed from the table, with the way,
and every surface shows it."""

import json

import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import verdicts_sentence
from jammi_lab.freshness.table_verdict import MAX_CAUSES, Ground, inherited_grounds
from tests.freshness.lab import Lab
from tests.shell import run_shell

SOURCE = "on its source; imported modules and files that it opens are not followed"


def step(papers):
    return papers.polars()


@pytest.fixture
def chain(lab: Lab) -> Lab:
    """papers → step → middle → last, beside → both, and `apart`, which has no ground."""
    lab.csv("papers", "id,year", "1,2001", "2,2002")
    lab.compute("step", step, inputs=["papers"])
    lab.materialize("middle", "SELECT id FROM jammi.step")
    lab.materialize("last", "SELECT count(*) AS n FROM jammi.middle")
    lab.materialize("both", "SELECT n, s.id FROM jammi.last, jammi.step s")
    lab.materialize("apart", "SELECT id FROM papers")
    return lab


GROUNDS = {
    "step": [SOURCE],
    "middle": [f"{SOURCE}, by way of step"],
    "last": [f"{SOURCE}, by way of middle ← step"],
    "both": [f"{SOURCE}, by way of step"],
    "apart": [],
}


def test_grounds_travel_with_the_shortest_way(chain):
    for _ in range(2):  # also in another kernel
        assert {row.name: row.grounds for row in chain.status()} == GROUNDS
        assert str(chain.staleness("last")) == f"fresh*, {SOURCE}, by way of middle ← step"
        assert str(chain.staleness("apart")) == "fresh"
        assert chain.table("last").staleness().grounds == GROUNDS["last"]
        chain.reopen()


def test_every_surface_has_the_star(chain):
    ws, way = chain.ws, "by way of middle ← step"
    assert f"last is fresh*, {SOURCE}, {way}" in repr(ws.sql("FROM jammi.last"))
    assert "last: fresh*" in ws.why("last").lines and way in ws.why("last").lines[-1]
    shown = repr(ws.status())
    assert shown.startswith("5 recipes: 1 fresh, 4 fresh*") and way in shown
    listed = "SELECT grounds FROM jammi_catalog.status WHERE name = 'last'"
    assert ws.sql(listed).fetchall() == [(GROUNDS["last"],)]
    lineage = ws.lineage("last")
    assert "last (sql, version 1): fresh*" in repr(lineage)
    assert "✓* last" in lineage.to_mermaid() and "last (fresh*)" in lineage._rendered().html
    assert "middle (sql, version 1): fresh*" in repr(ws.lineage("last", columns=True))
    assert verdicts_sentence(ws.sql("FROM jammi.last").staleness()) == "fresh*"
    board = jl.widgets.StalenessBoard(ws)
    assert {row["name"]: row["verdict"] for row in board._body()["rows"]} == {
        name: "fresh*" if grounds else "fresh" for name, grounds in GROUNDS.items()
    }
    chain.close()
    folder = str(chain.folder)
    jl.trust(folder)
    assert run_shell("status", folder, "--fail").exit_code == 0
    assert run_shell("why", folder, "last", "--fail=grounds").exit_code == 1
    assert run_shell("why", folder, "apart", "--fail=grounds").exit_code == 0
    rows = json.loads(run_shell("status", folder, "--json").output)
    assert {row["name"]: row["grounds"] for row in rows} == GROUNDS


def test_the_grounds_of_a_frame_are_those_of_the_tables_that_it_was_made_from(chain):
    chain.sources.add("handed", chain.table("last").read().arrow())
    chain.materialize("kept", "SELECT n FROM handed")
    assert chain.staleness("kept").grounds == [f"{SOURCE}, by way of handed ← last ← middle ← step"]


def test_several_grounds_upstream_are_one_clause(chain):
    chain.sources.add("years", chain.path("papers.csv"), anchor="column:year")
    chain.materialize("latest", "SELECT max(id) AS id FROM years")
    chain.materialize("joined", "SELECT l.id FROM jammi.latest l, jammi.middle")
    [clause] = chain.staleness("joined").grounds
    assert clause == "years by column:year alone, by way of latest, and others upstream"


def test_of_very_many_grounds_the_nearest_are_passed_on():
    far = [Ground("far", ("x",) * 3 + (f"t{i}",)) for i in range(40)]
    near = Ground("near")
    [first, *others] = inherited_grounds([("a", far), ("b", [near])])
    assert first == Ground("near", ("b",)) and len(others) == MAX_CAUSES - 1
