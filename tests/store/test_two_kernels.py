"""Two kernels that change the same names at the same time: one definition wins, no circle closes, and nobody's files are in the way."""

import contextlib
import threading

import pytest

import jammi_lab as jl
from jammi_lab.catalog.recipes import Recipes
from tests.store.conftest import VENUES
from tests.store.lab import files, files_of, statuses


@pytest.fixture
def other(lab, folder):
    """A second handle: another writer with its own lock, as another kernel has it."""
    with jl.open(folder) as ws:
        yield ws


def together(*calls):
    """The results of calls in threads of their own; errors in their place."""
    results = [None] * len(calls)

    def run(n):
        try:
            results[n] = calls[n]()
        except BaseException as error:
            results[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(calls))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    return results


@pytest.fixture
def meeting(monkeypatch):
    """Lets two definitions meet after each was checked by itself and before either is written."""
    meet, define = threading.Barrier(2, timeout=10), Recipes.define

    def slow(self, record, **how):
        with contextlib.suppress(threading.BrokenBarrierError):
            meet.wait()
        return define(self, record, **how)

    def on():
        monkeypatch.setattr(Recipes, "define", slow)

    return on


def test_two_kernels_cannot_close_a_circle_together(lab, other, meeting):
    for name in ("a", "b"):
        lab.materialize(name, f"SELECT '{name}' AS x")
    meeting()
    one, two = together(lambda: lab.define("a", "SELECT x FROM jammi.b"), lambda: other.define("b", "SELECT x FROM jammi.a"))
    refused = [e for e in (one, two) if e is not None]
    assert [type(e) for e in refused] == [jl.DependencyCycle] and set(refused[0].path) == {"a", "b"}
    assert len(lab.status()) == 2 and lab.plan() is not None


def test_a_circle_over_three_that_closes_between_look_and_write_is_refused_and_changes_nothing(lab, other):
    lab.materialize("a", "SELECT 1 AS x")
    lab.materialize("b", "SELECT x FROM jammi.a")
    lab.materialize("c", "SELECT x FROM jammi.b")
    recipes = lab._rooms.catalog.recipes
    job = lab._rooms.producers.sql.job("SELECT x FROM jammi.c", {})
    before = recipes.get("a")
    with pytest.raises(jl.DependencyCycle) as caught:
        recipes.define(job.recipe("a", None, "2026-01-01T00:00:00.000000Z"))
    assert caught.value.path == ["a", "c", "b", "a"] and recipes.get("a") == before


def test_a_tenants_recipe_over_a_shared_one_of_its_name_is_no_circle(lab):
    lab.materialize("base", "SELECT 1 AS x")
    lab.materialize("view", "SELECT x FROM jammi.base")
    with lab.tenant("acme"):
        assert lab.materialize("base", "SELECT x + 1 AS x FROM jammi.view").read().fetchall() == [(2,)]
        assert lab.staleness("base") == jl.Fresh()


def test_two_kernels_that_redefine_one_name_both_get_their_table_and_one_definition_stays(lab, other, folder):
    lab.materialize("venues", VENUES)
    start = threading.Barrier(2, timeout=10)

    def make(ws, statement):
        start.wait()
        return ws.materialize("venues", statement)

    one, two = together(lambda: make(lab, "SELECT 'one' AS v"), lambda: make(other, "SELECT 'two' AS v"))
    assert [one.read().fetchall(), two.read().fetchall()] == [[("one",)], [("two",)]]
    assert {one.version, two.version} == {2, 3}
    definition = next(r.definition for r in lab.recipes() if r.name == "venues")
    assert definition in ("SELECT 'one' AS v", "SELECT 'two' AS v")
    assert definition == next(r.definition for r in other.recipes() if r.name == "venues")
    newest = lab.table("venues")
    as_defined = newest.read().fetchall() == [("one" if "one" in definition else "two",)]
    assert (lab.staleness("venues") == jl.Fresh()) == as_defined == (other.staleness("venues") == jl.Fresh())
    lab.recompute("venues")
    assert lab.staleness("venues") == jl.Fresh() == other.staleness("venues")
    assert len(statuses(folder)) == len(files(folder)) // 2


def test_a_slow_build_of_the_older_definition_leaves_the_newer_one_in_place(lab, other):
    lab.materialize("venues", VENUES)
    redefined = []

    def redefine(progress):
        if not redefined:
            redefined.append(other.define("venues", "SELECT 'new' AS v"))

    old = lab.materialize("venues", "SELECT 'old' AS v", progress=redefine)
    assert old.read().fetchall() == [("old",)]
    assert next(r.definition for r in lab.recipes() if r.name == "venues") == "SELECT 'new' AS v"
    assert isinstance(lab.staleness("venues"), jl.Stale)


def test_a_table_that_turns_ready_between_look_and_build_answers_and_is_not_computed_again(lab, other, folder, monkeypatch):
    from jammi_lab.producers import base

    find, made = base.find_reusable, []

    def slow(*arguments):
        found = find(*arguments)
        if not made:
            made.append(None)
            made.append(other.materialize("theirs", VENUES))  # wholly between this kernel's look and its building row
        return found

    monkeypatch.setattr(base, "find_reusable", slow)
    mine = lab.materialize("mine", VENUES)
    assert mine.outcome == "reused" and mine.table_name == made[1].table_name
    assert files(folder) == files_of(mine)
