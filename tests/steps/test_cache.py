"""When a ready table answers, and that equal questions at once are answered once."""

import dataclasses
import os
import subprocess
import sys
import threading
import time

import pytest

import jammi_lab as jl
from jammi_lab.catalog.database import Database
from jammi_lab.core.errors import DependencyCycle, LostOwnership
from jammi_lab.steps import build as base
from jammi_lab.storage.files import install_fault_hook
from jammi_lab.store import publish as funnel
from jammi_lab.store.removal import Removal
from tests import processes
from tests.conftest import PACKAGE_ROOTS
from tests.inside import services_of
from tests.steps.conftest import VENUES
from tests.store.lab import DEAD, catalog, file_of, files, files_of, statuses, unpublish
from tests.waiting import at_once, until

SLOW = "SELECT venue, count(*) AS n, (SELECT sum(sqrt(i)) FROM range(3000000) t(i)) AS s FROM papers GROUP BY venue"


def test_a_definition_that_is_worded_anew_is_on_the_disk_before_its_reuse_is_told(lab, monkeypatch):
    """The reuse itself commits nothing then, and a definition is not synced alone."""
    synced = []
    sync = Database.start_sync
    monkeypatch.setattr(Database, "start_sync", lambda self: synced.append(self) or sync(self))
    lab.materialize("venues", VENUES)
    assert len(synced) == 1  # of the building row
    assert lab.materialize("venues", VENUES).outcome == "reused" and len(synced) == 1
    assert lab.materialize("venues", f"{VENUES} -- by venue").outcome == "reused"
    assert len(synced) == 2


def test_a_candidate_whose_row_leads_elsewhere_is_passed_over(lab, folder):
    lab.materialize("venues", VENUES)
    with catalog(folder) as db:
        db.execute("UPDATE result_tables SET path = '../../etc/passwd'")
    assert lab.materialize("venues", VENUES).outcome == "computed"


def test_a_candidate_that_is_dropped_between_the_look_and_the_reuse_is_computed_anew(
    lab, monkeypatch
):
    lab.materialize("venues", VENUES)
    find, dropped = base.find_reusable, []

    def find_then_drop(*args):
        found = find(*args)
        if found is not None and not dropped:
            dropped.append(lab.drop("venues"))
        return found

    monkeypatch.setattr(base, "find_reusable", find_then_drop)
    again = lab.materialize("other", VENUES)
    assert dropped and again.outcome == "computed" and again.read().arrow().num_rows == 2


def test_lookup_finds_what_is_there_and_computes_nothing(lab, folder, papers):
    assert lab.lookup(VENUES) is None
    one = lab.materialize("venues", VENUES)
    assert lab.lookup(VENUES.lower()).table_name == one.table_name
    papers.write_text("id,venue,year\n9,z,2029\n")
    assert lab.lookup(VENUES) is None and len(statuses(folder)) == 1


def test_lookup_finds_a_table_with_a_key_when_it_is_asked_with_that_key(lab):
    one = lab.materialize("venues", VENUES, key="venue")
    assert lab.lookup(VENUES) is None, "the key orders the rows, so it belongs to the definition"
    assert (
        lab.lookup(VENUES, key="venue").table_name
        == lab.lookup(VENUES, key=["venue"]).table_name
        == one.table_name
    )


def test_a_tenants_equal_question_never_hits_anothers_table(lab):
    shared = lab.materialize("venues", VENUES)
    with lab.tenant("acme"):
        own = lab.materialize("venues", VENUES)
    with lab.tenant("bolt"):
        other = lab.materialize("venues", VENUES)
    assert {own.outcome, other.outcome} == {"computed"} and len(
        {shared.table_name, own.table_name, other.table_name}
    ) == 3


@pytest.mark.parametrize("name", ["venues", "venues {}"])
def test_eight_threads_that_ask_at_once_compute_once(lab, folder, name):
    made = at_once([lambda n=n: lab.materialize(name.format(n), SLOW) for n in range(8)])
    assert sorted(t.outcome for t in made) == ["computed"] + ["reused"] * 7
    assert len({t.table_name for t in made}) == 1 == len(statuses(folder)) and files(
        folder
    ) == files_of(made[0])


def test_eight_threads_that_bypass_compute_eight_times(lab, folder):
    made = at_once([lambda: lab.materialize("venues", VENUES, cache="bypass")] * 8)
    assert [t.outcome for t in made] == ["computed"] * 8 and sorted(
        t.version for t in made
    ) == list(range(1, 9))
    assert list(statuses(folder).values()) == ["ready"] * 8


CHILD = """
import sys, jammi_lab as jl
with jl.open(sys.argv[1]) as ws:
    print("OPEN", flush=True)
    sys.stdin.readline()
    t = ws.materialize(sys.argv[2], sys.argv[3])
    print(t.outcome, t.table_name, t.row_count, flush=True)
"""


def test_two_processes_that_ask_at_once_compute_once(lab, folder, tmp_path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PACKAGE_ROOTS))}
    children = [
        processes.Popen(
            [sys.executable, "-c", CHILD, str(folder), name, SLOW],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        for name in ("one", "two")
    ]
    try:
        for each in children:
            assert each.stdout.readline() == "OPEN\n"
        for each in children:
            each.stdin.write("go\n")
            each.stdin.flush()
        said = [each.communicate(timeout=120)[0].split() for each in children]
    finally:
        for each in children:
            each.kill()
            each.wait()
    assert (
        sorted(s[0] for s in said) == ["computed", "reused"]
        and len({s[1] for s in said}) == 1
        and list(statuses(folder).values()) == ["ready"]
    )


def test_a_waiter_says_for_whom_it_waits_and_takes_over_when_the_first_fails(lab, folder):
    begun, go, said = threading.Event(), threading.Event(), []

    def stop(progress):
        begun.set()
        go.wait(60)
        raise RuntimeError("the first asker fails")

    def wait(progress):
        said.append(progress.stage)
        if progress.stage.startswith("waiting"):
            go.set()

    def second():
        begun.wait(60)
        return lab.materialize("venues", VENUES, progress=wait)

    first, made = at_once([lambda: lab.materialize("venues", VENUES, progress=stop), second])
    assert isinstance(first, RuntimeError) and made.outcome == "computed"
    assert f"process {os.getpid()}" in said[0] and sorted(statuses(folder).values()) == [
        "failed",
        "ready",
    ]


@pytest.fixture
def beside(lab):
    """What a call gives that is held while it builds, and what a second call gives beside it."""
    begun, go = threading.Event(), threading.Event()

    def hold(progress):
        begun.set()
        go.wait(60)

    def both(**how):
        def second():
            begun.wait(60)
            try:
                return lab.materialize("venues", VENUES, **how)
            finally:
                go.set()

        return at_once([lambda: lab.materialize("venues", VENUES, progress=hold), second])

    return both


def test_a_waiter_can_be_interrupted_and_leaves_the_first_alone(beside, folder):
    def interrupted(progress):
        raise KeyboardInterrupt

    first, other = beside(progress=interrupted)
    assert (
        first.outcome == "computed"
        and isinstance(other, KeyboardInterrupt)
        and list(statuses(folder).values()) == ["ready"]
    )


def test_a_waiter_whose_patience_runs_out_builds_beside(lab, folder, beside):
    services_of(lab).build_context.single_flight.wait_seconds = lambda: 0.2
    first, other = beside()
    assert [first.outcome, other.outcome] == ["computed"] * 2 and list(
        statuses(folder).values()
    ) == ["ready"] * 2
    assert lab.table("venues").table_name == other.table_name  # the one begun later


class Slept:
    """A clock that is as late as a test wants it to be."""

    def __init__(self, clock):
        self.clock, self.late = clock, 0.0

    def __getattr__(self, name):
        return getattr(self.clock, name)

    def monotonic(self):
        return self.clock.monotonic() + self.late


def test_the_patience_of_a_call_is_one_for_all_builds_that_it_waits_for(lab, papers, monkeypatch):
    flight = services_of(lab).build_context.single_flight
    clock = Slept(flight.clock)
    monkeypatch.setattr(flight, "clock", clock)
    monkeypatch.setattr(flight, "wait_seconds", lambda: 30.0)
    begun, alone, tries, held = threading.Event(), threading.Event(), [], []
    looks, stopped = threading.Event(), threading.Event()  # the waiter looks again, or has stopped

    def starts_over(read):
        tries.append(None)
        looks.set()
        begun.set()
        if len(tries) <= 2:
            stopped.clear()
            looks.clear()
            assert until(stopped.is_set), "nobody waits"
            clock.late += 16
            papers.write_text(papers.read_text() + f"{9 + len(tries)},z,2024\n")
        if len(tries) == 2:
            looks.set()
            held.append(alone.wait(5))
        return read.arrow()

    def reported(progress):
        if not looks.is_set():  # until who starts over is back
            stopped.set()
            assert looks.wait(60)

    def waiter():
        begun.wait(60)
        return lab.compute(
            "copied",
            beside,
            inputs="papers",
            version="1",
            progress=reported,
        ).outcome

    def beside(read):
        alone.set()
        return read.arrow()

    def first():
        return lab.compute("copied", starts_over, inputs="papers", version="1").outcome

    assert at_once([first, waiter])[1] == "computed" and held == [
        True
    ]  # in the second try the waiter had lost its patience


def test_bypass_never_waits(lab, folder):
    inner = []

    def hold(progress):
        if not inner:
            inner.append(None)
            with jl.open(folder) as other:
                inner[0] = other.materialize("venues", VENUES, cache="bypass")

    made = lab.materialize("venues", VENUES, progress=hold)
    assert [inner[0].outcome, made.outcome] == ["computed"] * 2


def test_asking_for_what_this_very_thread_is_building_is_a_cycle(lab, folder):
    def ask(progress):
        lab.materialize("venues", VENUES)

    with pytest.raises(DependencyCycle):
        lab.materialize("venues", VENUES, progress=ask)
    assert list(statuses(folder).values()) == ["failed"] and files(folder) == []


def test_a_dead_writers_build_is_settled_by_the_one_who_waits_for_it(lab, folder):
    table = lab.materialize("venues", VENUES)
    unpublish(folder, table.table_name, writer=DEAD)
    again = lab.materialize("venues", VENUES)
    assert (again.outcome, again.table_name) == ("reused", table.table_name) and list(
        statuses(folder).values()
    ) == ["ready"]


def test_a_dead_writers_torn_build_is_failed_and_computed_anew_at_once(lab, folder):
    table = lab.materialize("venues", VENUES)
    path = file_of(folder, table)
    unpublish(folder, table.table_name, writer=DEAD)
    path.write_bytes(b"PAR1")
    began = time.monotonic()
    again = lab.materialize("venues", VENUES)
    assert (
        again.outcome == "computed"
        and sorted(statuses(folder).values()) == ["failed", "ready"]
        and files(folder) == files_of(again)
    )
    assert time.monotonic() - began < lab.settings["flight.wait_seconds"]


def test_an_input_that_moves_while_it_is_read_is_read_again(lab, folder, papers):
    moved = []

    def move(progress):
        if progress.done and not moved:
            moved.append(papers.write_text("id,venue,year\n9,z,2029\n"))

    table = lab.materialize("venues", VENUES, progress=move)
    assert [r["venue"] for r in table.read().arrow().to_pylist()] == ["z"] and str(
        table.staleness()
    ) == "fresh"
    assert (
        sorted(statuses(folder).values()) == ["failed", "ready"]
        and files(folder) == files_of(table)
        and table.version == 2
    )
    assert repr(lab.tables(status="failed")[0]).endswith(
        "\nInputChanged: papers was changed while it was being read"
    )


def test_an_input_that_never_holds_still_is_recorded_as_unpinned(lab, papers):
    turns = []

    def move(progress):
        if progress.done:
            turns.append(papers.write_text(f"id,venue,year\n{len(turns)},z,2029\n"))

    table = lab.materialize("venues", VENUES, progress=move)
    # three attempts; a build that takes long reports its progress once more
    assert len(turns) >= 3 and [a.pinned for a in table.manifest.anchors] == [False]
    assert str(table.staleness()).startswith("undecidable")


def test_dropping_and_asking_at_once_gives_a_whole_table_or_none(lab, folder):
    for turn in range(15):
        lab.materialize("venues", VENUES)
        dropped, asked = at_once(
            [lambda: lab.drop("venues", if_exists=True), lambda: lab.materialize("other", VENUES)]
        )
        assert dropped is None and not isinstance(asked, BaseException), (turn, dropped, asked)
        assert lab.table("other").read().arrow().num_rows == 2 and set(
            statuses(folder).values()
        ) == {"ready"}
        lab.drop("other")
    assert isinstance(services_of(lab).removal, Removal) and files(folder) == []


@pytest.mark.parametrize(
    "point", ["publish:building", "publish:sealed", "publish:manifest-durable"]
)
def test_a_recipe_dropped_at_any_point_of_a_build_ends_it_as_lost(lab, folder, point):
    lab.materialize("late", "SELECT id FROM papers")
    lost = threading.Event()

    def drop(name):
        if name == point and not lost.is_set():
            lost.set()
            lab.drop("late")
            lab.define(
                "late", "SELECT year FROM papers"
            )  # the name is there, and means something else

    install_fault_hook(drop)
    try:
        with pytest.raises(LostOwnership):
            lab.materialize("late", VENUES)
    finally:
        install_fault_hook(None)
    assert (
        lab.tables() == []
        and files(folder) == []
        and str(lab.staleness("late")) == "stale: defined, not computed yet"
    )


@pytest.mark.parametrize("gone", ["drop", "rename"])
def test_a_recipe_that_goes_just_before_its_table_is_published_gets_none(
    lab, folder, monkeypatch, gone
):
    write = funnel.commit_with

    def written(*given, **more):
        write(*given, **more)
        lab.drop("late", force=True) if gone == "drop" else lab.rename(
            "late", "later"
        )  # as another kernel may, right now

    monkeypatch.setattr(funnel, "commit_with", written)
    with pytest.raises(LostOwnership, match="'late' was dropped or renamed"):
        lab.materialize("late", VENUES)
    assert "late" not in lab and lab.tables() == [] and files(folder) == []


@pytest.mark.parametrize("gone", ["drop", "rename"])
def test_a_recipe_that_goes_while_a_table_is_found_that_answers_it_gets_no_version(
    lab, monkeypatch, gone
):
    first = lab.materialize("first", VENUES)
    find = base.find_reusable

    def found(*given):
        answer = find(*given)
        lab.drop("second") if gone == "drop" else lab.rename(
            "second", "third"
        )  # as another kernel may, right now
        return answer

    lab.materialize("second", "SELECT 1 AS x")
    monkeypatch.setattr(base, "find_reusable", found)
    with pytest.raises(LostOwnership, match="'second' was dropped or renamed"):
        lab.materialize("second", VENUES)
    assert (
        "second" not in {r.name for r in lab.recipes()}
        and {t.name for t in lab.tables()} <= {r.name for r in lab.recipes()}
        and first.verify() == jl.Match()
    )


def replaced(path, text):
    """Another file under the name. Written in place it would be torn for a moment, and who reads it
    then is told that it is."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def test_a_first_call_that_fails_leaves_the_name_to_another_that_is_building_for_it(lab):
    building, failed = threading.Event(), threading.Event()

    def fail(progress):
        if progress.stage.startswith("materialize"):
            assert building.wait(60)
            raise RuntimeError("the first one fails")

    def second(progress):
        building.set()
        assert failed.wait(60)

    def first_call():
        try:
            lab.materialize("venues", VENUES, progress=fail)
        finally:
            failed.set()

    def second_call():
        until(lambda: "venues" in [each.name for each in lab.recipes()])
        return lab.materialize("venues", "SELECT id FROM papers", progress=second)

    error, made = at_once([first_call, second_call])
    assert isinstance(error, RuntimeError), error
    assert made.outcome == "computed" and lab.table("venues").table_name == made.table_name
    assert str(lab.staleness("venues")) == "fresh"


@pytest.mark.parametrize("known", [False, True])
def test_a_first_call_that_fails_between_anothers_claim_and_its_build_takes_nothing_from_it(
    lab, monkeypatch, known
):
    if known:  # by the first call, before the other began
        lab.define("venues", VENUES)
    begun = funnel.Publisher.build_row

    def late(self, order, *args, **kwargs):
        self.catalog.recipes.remove_unbuilt(order.recipe, order.definition_hash)
        return begun(self, order, *args, **kwargs)

    monkeypatch.setattr(funnel.Publisher, "build_row", late)
    lab.materialize("venues", VENUES)
    assert str(lab.staleness("venues")) == "fresh"


def test_a_first_call_that_fails_leaves_no_recipe_but_one_that_was_defined_meanwhile(lab):
    def fail(_):
        raise RuntimeError("it fails")

    with pytest.raises(RuntimeError):
        lab.materialize("venues", VENUES, progress=fail)
    assert "venues" not in lab

    def defined(_):
        lab.define("venues", "SELECT id FROM papers")
        raise RuntimeError("it fails")

    with pytest.raises(RuntimeError):
        lab.materialize("venues", VENUES, progress=defined)
    assert [each.name for each in lab.recipes()] == ["venues"]


def test_an_input_that_is_changed_and_changed_back_while_it_is_read_is_read_again(lab, papers):
    was, reports = papers.read_text(), []

    def edit(progress):
        reports.append(progress)
        replaced(papers, was.replace("b", "X") if len(reports) == 1 else was)

    table = lab.materialize("venues", VENUES, progress=edit)
    rows = sorted(table.read().fetchall())
    assert len(reports) > 2 and (
        rows == [("a", 2), ("b", 1)] or str(lab.staleness("venues")) != "fresh"
    )


def test_an_input_that_is_written_anew_during_every_try_is_never_fresh(lab, papers):
    lab.materialize("venues", VENUES, progress=lambda _: replaced(papers, papers.read_text()))
    assert "kept changing" in str(lab.staleness("venues"))


def test_an_input_that_comes_in_with_the_last_binding_is_not_anchored_on_a_later_look(
    lab, tmp_path
):
    """What is read changes with every try; what was observed only after it was bound must not count
    as known."""
    (tmp_path / "late.csv").write_text("id\n1\n")
    lab.sources.add("late", tmp_path / "late.csv")
    recorded, turns = services_of(lab).recorded_recipes, iter(range(100))
    names = ("papers", "late")

    def moving():
        job = jl.Sql(f"SELECT id FROM {names[next(turns) % 2]}").bind(recorded.bind_context())
        return dataclasses.replace(job, rebind=moving)

    made = base.produce(
        services_of(lab).build_context, "moving", moving(), bypass_cache=False, on_progress=None
    )
    assert [a.pinned for a in made.record.anchors] == [False]
    assert isinstance(lab.staleness("moving"), jl.Undecidable)
