"""What derives from what."""

import sqlite3

import pytest

import jammi_lab as jl
from jammi_lab.core.records import Edge, RecipeRecord
from tests.freshness.lab import Lab
from tests.inside import services_of


def names(edges: list[Edge]) -> list[tuple[str, str, str]]:
    return sorted((e.input, e.derived, e.kind) for e in edges)


def test_one_hop_gives_exactly_the_direct_dependents(papers):
    papers.materialize("years", "SELECT year FROM papers")
    assert names(papers.derives_from("papers")) == [
        ("papers", "titles", "source_version"),
        ("papers", "years", "source_version"),
    ]
    assert names(papers.derives_from("titles")) == [("titles", "first", "result_digest")]
    assert papers.derives_from("first") == []


def test_a_lineage_that_is_shown_after_a_recompute_tells_no_verdict_of_versions_that_it_does_not_hold(
    papers,
):
    lineage = papers.lineage("titles", direction="up")
    assert "titles (sql, version 1): fresh" in repr(lineage)
    papers.csv("papers", "id,title,year", "1,Other,2020")
    papers.recompute("titles")
    assert "titles (sql, version 1)" in repr(lineage) and "fresh" not in repr(lineage)
    assert "titles (sql, version 2): fresh" in repr(papers.lineage("titles"))


def test_upwards_and_downwards_and_both(papers):
    papers.materialize("years", "SELECT year FROM papers")
    assert papers.lineage("titles", direction="up").closure() == ["papers", "titles"]
    assert papers.lineage("titles", direction="down").closure() == ["titles", "first"]
    assert papers.lineage("titles").closure() == ["papers", "titles", "first"]
    assert papers.lineage("papers", depth=1).closure() == ["papers", "titles", "years"]
    assert papers.lineage().closure() == ["papers", "titles", "years", "first"]


@pytest.mark.parametrize("bad", [{"direction": "sideways"}, {"depth": 0}, {"depth": "2"}])
def test_a_bad_argument_is_refused(papers, bad):
    with pytest.raises(jl.InvalidArgument):
        papers.lineage("titles", **bad)  # type: ignore[arg-type]


def test_a_volatile_input_and_the_clock_are_edges_of_their_kind(lab):
    lab.materialize("t", "SELECT random() AS r, current_date AS d")
    assert names(lab.lineage("t").edges) == [
        ("current_date", "t", "clock"),
        ("random()", "t", "unpinned_at_instant"),
    ]


# -- circles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["define", "materialize"])
def test_a_definition_that_closes_a_circle_is_refused_and_changes_nothing(papers, how):
    before = (
        [(r.name, r.definition_hash, r.newest_version) for r in papers.recipes()],
        papers.tables(status=None),
    )
    with pytest.raises(jl.DependencyCycle) as caught:
        getattr(papers.ws, how)("titles", "SELECT id FROM jammi.first")
    assert caught.value.path == ["titles", "first", "titles"]
    after = (
        [(r.name, r.definition_hash, r.newest_version) for r in papers.recipes()],
        papers.tables(status=None),
    )
    assert before[0] == after[0]
    assert len(before[1]) == len(after[1])
    assert papers.verdict("first") == "fresh"


def test_a_new_name_that_closes_a_circle_is_refused(papers):
    papers.materialize("other", "SELECT id FROM jammi.first")
    papers.drop("titles", force=True)
    with pytest.raises(jl.DependencyCycle):
        papers.rename("other", "titles")
    assert "other" in papers.ws


@pytest.fixture
def turned(papers: Lab) -> Lab:
    """`first` was made from `titles`; then it was redefined over the source, and `titles` was made
    from it. No table was ever made from itself."""
    papers.materialize("last", "SELECT count(*) AS n FROM jammi.titles")
    papers.define("first", "SELECT id FROM papers")
    papers.materialize("titles", "SELECT id FROM jammi.first")
    return papers


def test_two_recipes_that_changed_places_have_a_lineage_once_they_are_recomputed(
    turned,
):
    with pytest.raises(jl.DependencyCycle, match=r"ws\.recompute") as caught:
        turned.lineage()
    assert caught.value.path in (["first", "titles", "first"], ["titles", "first", "titles"])
    assert isinstance(turned.status()["first"].verdict, jl.Stale)
    turned.csv("papers", "id,title,year", "6,Graphs,2020")
    turned.recompute()
    assert turned.rows("titles") == [(6,)] and {r.verdict for r in turned.status()} == {jl.Fresh()}
    assert turned.lineage().closure() == ["papers", "first", "titles", "last"]


def forge(lab: Lab, name: str, reads: str) -> None:
    """A recipe in the catalog whose definition is said to read another, whatever it reads."""
    catalog = services_of(lab.ws).catalog
    recipe = catalog.recipes.get(name)
    assert recipe is not None
    changed = {
        **{f: getattr(recipe, f) for f in RecipeRecord.__struct_fields__},
        "inputs": [("result", reads, "")],
    }
    catalog.recipes.put(RecipeRecord(**changed))


@pytest.mark.timeout(60)
def test_a_forged_circle_is_a_typed_error_and_no_hang(papers):
    forge(papers, "titles", "first")
    for call in (
        papers.status,
        papers.plan,
        lambda: papers.staleness("first"),
        lambda: papers.recompute("titles"),
    ):
        with pytest.raises(jl.DependencyCycle) as caught:
            call()
        assert set(caught.value.path) == {"titles", "first"}


@pytest.mark.timeout(120)
def test_a_long_chain_needs_no_recursion(lab):
    """1 200 recipes, each reading the one before: put into the catalog, since running them is not
    what is asked here."""
    lab.csv("s", "id", "1")
    lab.define("r0000", "SELECT id FROM s")
    catalog = services_of(lab.ws).catalog
    first = catalog.recipes.get("r0000")
    assert first is not None
    with catalog.transaction():
        for n in range(1, 1200):
            inputs = [("result", f"r{n - 1:04}", "")]
            catalog.recipes.put(
                RecipeRecord(
                    name=f"r{n:04}",
                    kind="sql",
                    descriptor=first.descriptor,
                    environment=first.environment,
                    definition_hash=f"{n:064x}",
                    inputs=inputs,
                )
            )

    def work(parents: list[str]) -> int:
        """What SQLite does to see that a recipe may read these."""
        steps: list[None] = []
        with catalog.snapshot() as tx:
            raw = tx.raw
            assert isinstance(raw, sqlite3.Connection)
            raw.set_progress_handler(lambda: steps.append(None), 100)
            catalog.recipes.check_acyclic("new", None, parents)
            raw.set_progress_handler(None, 0)
        return len(steps)

    assert work(["r0001"]) * 100 < work(["r1199"])  # only what it would derive from is read
    status = lab.status()
    assert len(status) == 1200
    assert [s.name for s in lab.plan("r1199").certain] == [f"r{n:04}" for n in range(1200)]
    lab.materialize("leaf", "SELECT 1 AS one")
    with pytest.raises(jl.DependencyCycle):
        catalog.recipes.check_acyclic("r0000", None, ["r1199"])
