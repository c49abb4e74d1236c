"""What others do between a plan and its end: told as deviations, because the plan's bounds hold only when nothing moved."""

import threading
from collections.abc import Iterator

import pytest

from jammi_lab.sensing.reports import Plan, RunReport
from jammi_lab.values.records import Progress
from jammi_lab.workspace import Workspace
from tests.sensing.lab import Lab

SOON = 20.0
"""Seconds after which something that should have happened is taken not to happen."""


@pytest.fixture
def other(lab: Lab) -> Iterator[Workspace]:
    """The same workspace in another kernel."""
    lab.csv("s", "id,x", "1,10", "2,20")
    with lab.open() as other:
        yield other


def edit(lab: Lab, x: int = 11) -> None:
    lab.csv("s", "id,x", f"1,{x}", "2,20")


def outcomes(report: RunReport) -> dict[str, str]:
    return {step.name: step.outcome for step in report.steps}


def certain(plan: Plan) -> list[str]:
    return [step.name for step in plan.certain]


def test_a_certain_step_that_another_recipes_table_answers_is_a_deviation(lab: Lab, other: Workspace) -> None:
    lab.ws.materialize("b", "SELECT sum(x) AS x FROM s")
    edit(lab)
    plan = lab.ws.plan()
    other.materialize("z", "SELECT sum(x) AS x FROM s")
    report = plan.apply()
    assert (certain(plan), outcomes(report)) == (["b"], {"b": "reused"})
    assert report.deviations == ["b was answered by a table of z that was ready by then"]


def test_a_certain_step_that_another_kernel_was_building_is_a_deviation(lab: Lab, other: Workspace) -> None:
    lab.ws.materialize("b", "SELECT sum(x) AS x FROM s")
    edit(lab)
    plan = lab.ws.plan()
    building, waited = threading.Event(), threading.Event()

    def slow(progress: Progress) -> None:
        if progress.stage == "materialize b":
            building.set()
            waited.wait(SOON)

    theirs = threading.Thread(target=other.recompute, args=("b", slow))
    theirs.start()
    try:
        assert building.wait(SOON)
        report = plan.apply(lambda progress: waited.set() if progress.stage != "recompute b" else None)
    finally:
        waited.set()
        theirs.join()
    assert (outcomes(report), report.deviations) == ({"b": "reused"}, ["b was answered by a table that was ready by then"])


def test_a_step_that_a_table_was_to_answer_and_that_ran_is_a_deviation(lab: Lab, other: Workspace) -> None:
    lab.ws.materialize("b", "SELECT sum(x) AS x FROM s")
    edit(lab)
    other.materialize("z", "SELECT sum(x) AS x FROM s")
    plan = lab.ws.plan("b")
    other.drop("z")
    report = plan.apply()
    assert ([s.name for s in plan.reused], outcomes(report)) == (["b"], {"b": "computed"})
    assert report.deviations == ["no ready table answered b any more"]


def test_a_step_that_was_true_by_then_is_not_said_to_have_equal_inputs(lab: Lab, other: Workspace) -> None:
    lab.ws.materialize("b", "SELECT id, x FROM s")
    lab.ws.materialize("c", "SELECT sum(x) AS x FROM jammi.b")
    edit(lab)
    plan = lab.ws.plan()
    assert outcomes(plan.apply()) == {"b": "computed", "c": "computed"}
    again = plan.apply()
    assert outcomes(again) == {"b": "cut_off", "c": "cut_off"}
    assert again.deviations == ["b was made true meanwhile", "c was made true meanwhile"]
    assert repr(again).count("not needed: it was true by then") == 2 and "came out equal" not in repr(again)
