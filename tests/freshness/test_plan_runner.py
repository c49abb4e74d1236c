"""Carrying a plan out, one step after another."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jammi_lab as jl
from jammi_lab.core.records import Progress
from jammi_lab.storage.files import install_fault_hook
from tests.freshness.lab import Lab, outcomes
from tests.inside import record_of, services_of
from tests.templates import Template

SOON = 20.0
"""Seconds after which something that should have happened is taken not to happen."""


def build_two(root: Path) -> None:
    lab = Lab(root)
    lab.csv("s", "id,x", "1,10", "2,20")
    for name in ("a", "b"):
        lab.materialize(name, f"SELECT id, x, '{name}' AS which FROM s")
        lab.materialize(f"{name}2", f"SELECT sum(x) AS total, '{name}' AS which FROM jammi.{name}")
    lab.materialize("both", "SELECT a.x + b.x AS x FROM jammi.a a JOIN jammi.b b USING (id)")
    lab.close()


TEMPLATES = {"two": Template(build_two)}


@pytest.fixture
def two(lab: Lab) -> Lab:
    """Two branches that need nothing of each other: s → a → a2, and s → b → b2, and `both` from a
    and b."""
    return lab


@contextlib.contextmanager
def at_point(point: str, do: Callable[[], object]) -> Iterator[None]:
    """A block in which something is done in each thread that passes a fault point."""
    install_fault_hook(lambda name: do() if name == point else None)
    try:
        yield
    finally:
        install_fault_hook(None)


def edit(lab: Lab) -> None:
    lab.csv("s", "id,x", "1,11", "2,20")


def test_a_run_of_a_workspace_that_is_closed_meanwhile_ends_and_reports_no_failed_steps(two):
    edit(two)
    begun = list[str]()

    def close_after_one_step(progress: Progress) -> None:
        if progress.unit == "steps":
            begun.append(progress.stage)
            if progress.done:
                two.ws.close()

    with pytest.raises(jl.SessionClosed):
        two.plan().apply(progress=close_after_one_step)
    assert len(begun) == 2


def test_a_step_waits_for_all_that_it_reads_and_the_report_keeps_the_plans_order(two):
    edit(two)
    plan = two.plan()
    planned = [s.name for s in [*plan.certain, *plan.possible]]
    report = plan.apply()
    assert set(outcomes(report).values()) == {"computed"}
    assert sorted(planned) == sorted(report.executed) == ["a", "a2", "b", "b2", "both"]
    assert {r.verdict for r in two.status()} == {jl.Fresh()}
    assert two.rows("both") == [(22,), (40,)]
    names = [s.name for s in report.steps]
    assert names.index("a") < names.index("a2") and max(
        names.index("a"), names.index("b")
    ) < names.index("both")
    edit_again = two.plan().apply()
    assert edit_again.steps == []


def slow(lab: Lab) -> None:
    """`quick`, `slow1` and `slow2` from s; the last two would take hours once s has the row that
    they look for."""
    lab.csv("s", "id,x", "-1,1")
    lab.materialize("quick", "SELECT id FROM s")
    for name in ("slow1", "slow2"):
        lab.materialize(
            name,
            f"SELECT count(*) AS n, '{name}' AS which FROM s, range(CASE WHEN s.id > 0 THEN 100_000_000_000 ELSE 1 END) t(i)",
        )
    lab.csv("s", "id,x", "1,1")


def test_an_interrupt_stops_the_step_that_runs_and_running_again_goes_on(lab):
    slow(lab)
    assert lab.recompute("quick").executed == ["quick"]
    building = threading.Semaphore(0)
    asked: list[float] = []

    def interrupt() -> None:
        building.acquire(timeout=SOON)
        time.sleep(0.3)  # the statement runs by now, or is about to
        asked.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    knock = threading.Thread(target=interrupt)
    with at_point("publish:building", building.release):
        knock.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            lab.recompute()
    stopped = time.monotonic()
    knock.join()
    assert stopped - asked[0] < 2  # half a second on a machine that has nothing else to do
    assert caught.value.__notes__ == ["'slow1' was not computed; nothing was left behind."]
    assert (lab.verdict("quick"), lab.verdict("slow1"), lab.verdict("slow2")) == (
        "fresh",
        "stale",
        "stale",
    )
    assert {t.name: t.status for t in lab.tables(status=None) if t.version == 2} == {
        "quick": "ready",
        "slow1": "failed",
    }
    ready = {t.path for t in lab.tables()}
    assert set((lab.folder / "results").rglob("*.parquet")) == ready
    lab.csv("s", "id,x", "-2,1")
    assert outcomes(lab.recompute()) == {
        "quick": "computed",
        "slow1": "computed",
        "slow2": "computed",
    }


def test_steps_run_for_the_tenant_that_is_bound(lab):
    lab.csv("s", "id,x", "1,10")
    with lab.tenant("acme"):
        for name in ("a", "b", "c"):
            lab.materialize(name, f"SELECT id, '{name}' AS which FROM s")
        lab.csv("s", "id,x", "2,20")
        report = lab.recompute()
        assert outcomes(report) == {"a": "computed", "b": "computed", "c": "computed"}
        assert [record_of(t).tenant for t in lab.tables()] == ["acme"] * 6
    assert lab.tables() == []


def test_progress_counts_up_in_the_callers_thread(two):
    edit(two)
    seen: list[tuple[Progress, threading.Thread]] = []
    two.recompute(progress=lambda p: seen.append((p, threading.current_thread())))
    assert {thread for _, thread in seen} == {threading.current_thread()}
    steps = [p for p, _ in seen if p.unit == "steps"]
    assert sorted(p.stage for p in steps) == [
        f"recompute {n}" for n in ("a", "a2", "b", "b2", "both")
    ]
    assert [p.done for p in steps] == sorted(p.done for p in steps) and {
        p.total for p in steps
    } == {5}
    assert {p.stage for p, _ in seen if p.unit == "rows"} == {
        f"materialize {n}" for n in ("a", "a2", "b", "b2", "both")
    }


def test_progress_that_asks_for_what_is_being_built_is_a_cycle_and_does_not_hang(two):
    edit(two)
    found: list[BaseException] = []

    def ask(progress: Progress) -> None:
        if progress.stage == "materialize a" and not found:
            try:
                two.materialize("again", "SELECT id, x, 'a' AS which FROM s", progress=False)
            except jl.JammiError as error:
                found.append(error)

    two.recompute(["a", "b"], progress=ask)
    assert [type(e) for e in found] == [jl.DependencyCycle]


def test_a_recipe_that_is_redefined_while_its_step_runs_keeps_the_new_definition(two):
    edit(two)
    plan, recorded = two.plan("a2"), services_of(two.ws).recorded_recipes
    job, once = recorded.job, []

    def redefined(name: str, descriptor: Any) -> Any:
        made = job(name, descriptor)
        if name == "a" and not once:
            once.append(1)
            two.define(
                "a", "SELECT id, x + 100 AS x, 'a' AS which FROM s"
            )  # as another kernel would, between the look and the run
        return made

    recorded.job = redefined  # type: ignore[method-assign]
    try:
        report = plan.apply()
    finally:
        del recorded.job
    assert outcomes(report) == {"a": "skipped", "a2": "skipped"}
    assert report.deviations == ["a changed after the plan was made"]
    assert "x + 100" in next(r.definition for r in two.recipes() if r.name == "a")
    assert two.recompute("a2").executed == ["a", "a2"]
    assert two.rows("a") == [(1, 111, "a"), (2, 120, "a")]
