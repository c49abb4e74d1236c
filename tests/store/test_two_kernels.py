"""Two kernels that change the same names at the same time: one definition wins, no circle closes,
and nobody's files are in the way."""

import datetime
import os
import threading

import pytest

import jammi_lab as jl
from jammi_lab.core.clock import SystemClock
from jammi_lab.steps import single_flight as flight
from jammi_lab.steps import single_flight as pulse
from tests.features.live.clocks import opened
from tests.inside import services_of
from tests.store.conftest import VENUES
from tests.store.lab import files, files_of, statuses
from tests.waiting import at_once


@pytest.fixture
def other(lab, folder):
    """A second handle: another writer with its own lock, as another kernel has it."""
    with jl.open(folder) as ws:
        yield ws


def test_a_circle_over_three_that_closes_between_look_and_write_is_refused_and_changes_nothing(
    lab, other
):
    lab.materialize("a", "SELECT 1 AS x")
    lab.materialize("b", "SELECT x FROM jammi.a")
    lab.materialize("c", "SELECT x FROM jammi.b")
    recipes = services_of(lab).catalog.recipes
    job = jl.Sql("SELECT x FROM jammi.c").bind(services_of(lab).recorded_recipes.bind_context("a"))
    before = recipes.get("a")
    with pytest.raises(jl.DependencyCycle) as caught:
        recipes.define(job.recipe("a", None, "2026-01-01T00:00:00.000000Z"))
    assert caught.value.path == ["a", "c", "b", "a"] and recipes.get("a") == before


def test_a_tenants_recipe_over_a_shared_one_of_its_name_is_no_circle(lab):
    lab.materialize("base", "SELECT 1 AS x")
    lab.materialize("view", "SELECT x FROM jammi.base")
    with lab.tenant("acme"):
        assert lab.materialize("base", "SELECT x + 1 AS x FROM jammi.view").read().fetchall() == [
            (2,)
        ]
        assert lab.staleness("base") == jl.Fresh()


def test_two_kernels_that_redefine_one_name_both_get_their_table_and_one_definition_stays(
    lab, other, folder
):
    lab.materialize("venues", VENUES)
    one, two = at_once(
        [
            lambda: lab.materialize("venues", "SELECT 'one' AS v"),
            lambda: other.materialize("venues", "SELECT 'two' AS v"),
        ]
    )
    assert [one.read().fetchall(), two.read().fetchall()] == [[("one",)], [("two",)]]
    assert {one.version, two.version} == {2, 3}
    definition = next(r.definition for r in lab.recipes() if r.name == "venues")
    assert definition in ("SELECT 'one' AS v", "SELECT 'two' AS v")
    assert definition == next(r.definition for r in other.recipes() if r.name == "venues")
    newest = lab.table("venues")
    as_defined = newest.read().fetchall() == [("one" if "one" in definition else "two",)]
    assert (
        (lab.staleness("venues") == jl.Fresh())
        == as_defined
        == (other.staleness("venues") == jl.Fresh())
    )
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


def test_a_table_that_turns_ready_between_look_and_build_answers_and_is_not_computed_again(
    lab, other, folder, monkeypatch
):
    from jammi_lab.steps import build as base

    find, made = base.find_reusable, []

    def slow(*arguments):
        found = find(*arguments)
        if not made:
            made.append(None)
            made.append(
                other.materialize("theirs", VENUES)
            )  # wholly between this kernel's look and its building row
        return found

    monkeypatch.setattr(base, "find_reusable", slow)
    mine = lab.materialize("mine", VENUES)
    assert mine.outcome == "reused" and mine.table_name == made[1].table_name
    assert files(folder) == files_of(mine)


# -- waiting for another kernel's build ------------------------------------------------------------

MANY = "SELECT i FROM range(200000) t(i)"


def waits(lab, other, monkeypatch, *, heard, statement=MANY):
    """One kernel builds MANY and stands still after its first rows, or another statement and stands
    still before; the other waits for it until `heard` says of some progress that it is enough."""
    monkeypatch.setattr(pulse, "_HEARTBEAT_SECONDS", 0.02)
    begun, go, told = threading.Event(), threading.Event(), []

    def hold(progress):
        if not progress.stage.startswith("materialize"):
            return  # a slow look, before there is a building row
        if statement != MANY or progress.done:
            begun.set()
            assert go.wait(30)

    def listen(progress):
        told.append(progress)
        if progress.stage.startswith("waiting") and not go.is_set() and heard(progress):
            go.set()

    def second():
        assert begun.wait(30)
        try:
            return other.materialize("theirs", statement, progress=listen)
        finally:
            go.set()

    first, made = at_once([lambda: lab.materialize("mine", statement, progress=hold), second])
    # over rows that moved, the first begins anew, too, and either of them may be first then
    assert first.outcome == "computed" or statement != MANY, first
    return made, told


def test_one_who_waits_sees_for_whom_since_when_and_how_many_rows_there_are_by_now(
    lab, other, monkeypatch
):
    monkeypatch.setattr(flight, "HEARTBEAT_POLL_SECONDS", 0.02)
    made, told = waits(lab, other, monkeypatch, heard=lambda progress: progress.done)
    seen = next(progress for progress in told if progress.done)
    assert made.outcome == "reused" and 0 < seen.done < 200_000 and seen.unit == "rows"
    since = datetime.datetime.fromisoformat(lab.table("mine").created_at)
    assert (
        seen.stage
        == f"waiting for process {os.getpid()} on {os.uname().nodename} to build mine (since {since:%H:%M:%S} UTC)"
    )


def lock_files(folder):
    return {path.name: path.read_bytes() for path in (folder / "writers").iterdir()}


def test_a_build_of_less_than_a_second_leaves_no_word(lab, folder):
    for n in range(5):
        lab.materialize(f"venues {n}", VENUES)
    assert lock_files(folder) == {f"{services_of(lab).writer_id}.lock": b""}


def test_a_word_that_is_torn_or_of_a_later_release_is_a_sign_of_life_all_the_same(
    lab, other, folder, monkeypatch
):
    monkeypatch.setattr(flight, "HEARTBEAT_POLL_SECONDS", 0.02)
    for word in ('{"at":1,"builds":{"x"', '{"later": "release"}', "\x00\xff"):
        services_of(lab).catalog.writers.write_note(word)
        beat = services_of(other).build_context.single_flight.heartbeat.read(
            services_of(lab).writer_id, "x"
        )
        assert beat.said and beat.progress is None and beat.age < 30


def test_one_who_waited_computes_anew_when_what_it_reads_moved_meanwhile(
    lab, other, papers, monkeypatch
):
    """What the first one makes is not the answer to a question that was asked over other rows."""

    def moved(_):
        papers.write_text("id,venue,year\n9,z,2030\n")
        return True

    made, _ = waits(lab, other, monkeypatch, heard=moved, statement=VENUES)
    for each in (made, lab.table("mine")):
        assert each.read().fetchall() == [("z", 1)]
    assert lab.staleness("mine") == jl.Fresh() == lab.staleness("theirs")


class Ahead(SystemClock):
    def now_ns(self):
        return super().now_ns() + 3_600_000_000_000


@pytest.fixture
def later(lab, folder):
    """A kernel whose wall clock is an hour ahead."""
    with opened(folder, Ahead()) as ws:
        yield ws


def test_a_kernel_that_has_been_silent_for_long_is_not_waited_for_another_minute(
    lab, later, monkeypatch
):
    monkeypatch.setattr(flight, "MIN_SILENCE_SECONDS", 0.2)
    services_of(
        lab
    ).build_context.single_flight.heartbeat.stop_event.set()  # silent, as a stopped process
    made, told = waits(lab, later, monkeypatch, heard=lambda progress: False)
    assert made.outcome == "computed" and len(told) < 200 and told[-1].stage == "materialize theirs"


def test_a_clock_that_jumped_does_not_make_a_working_kernel_silent(lab, later, monkeypatch):
    monkeypatch.setattr(flight, "MIN_SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(flight, "HEARTBEAT_POLL_SECONDS", 0.02)
    writers, heard = services_of(later).catalog.writers, []
    hear = writers.read_note
    monkeypatch.setattr(
        writers, "read_note", lambda writer: (found := hear(writer)) and (found[0] + 3600, found[1])
    )
    made, _ = waits(
        lab, later, monkeypatch, heard=lambda progress: heard.append(1) or len(heard) > 15
    )
    assert made.outcome == "reused"


def test_a_kernel_whose_lock_files_were_removed_goes_on_building_beside_others(lab, folder):
    lab.materialize("venues", VENUES)
    for path in (folder / "writers").glob("*.lock"):
        path.unlink()

    def others_open(progress):
        with jl.open(folder) as ws:
            opened.append(ws.recovery)

    opened = []
    table = lab.materialize("late", "SELECT id FROM papers", progress=others_open)
    assert table.verify() == jl.Match() and opened and not any(each.failed for each in opened)
