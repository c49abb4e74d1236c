"""The checks among the steps of a plan: those without a result that holds, and those that read a
table which the plan recomputes."""

from collections.abc import Collection

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.checks import CheckOutcome, CheckRecord, CheckResult
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import Step
from jammi_lab.core.verdicts import Reason, Stale
from jammi_lab.freshness.evaluated_graph import EvaluatedGraph
from jammi_lab.freshness.plan import Planner, StepKind
from jammi_lab.freshness.recipe_graph import RecipeNode

CHECK_ACTION = "check"
_MAKES_A_VERSION = (StepKind.CERTAIN, StepKind.REUSED)


def due_checks(catalog: Catalog, evaluated: EvaluatedGraph, planner: Planner) -> list[Step]:
    """The steps for the checks on what a plan is about, by name. The checks of a table that the
    plan is certain to make are none of them: they are part of its publication."""
    nodes = {node.key: node for node in planner.order}
    inputs = {
        (a.input.kind, fold(a.input.label))
        for node in planner.order
        for a in (node.record.anchors if node.record else ())
    }
    steps = []
    for check in catalog.checks.list():
        node = nodes.get((check.tenant, fold(check.recipe)))
        if check.kind is not InputKind.RESULT:
            if planner.is_complete or (check.kind, fold(check.recipe)) in inputs:
                steps.append(_step(check, None, evaluated, planner))
        elif node is not None and node.record is not None:
            planned = planner.planned.get(node.key)
            if planned is None or planned.kind not in _MAKES_A_VERSION:
                steps.append(_step(check, node, evaluated, planner))
    return [step for step in steps if step is not None]


def _step(
    check: CheckRecord, node: RecipeNode | None, evaluated: EvaluatedGraph, planner: Planner
) -> Step | None:
    """The step for a check that is due, or may be after the steps before it; else None."""
    judge, record = evaluated.checks, None if node is None else node.record
    result = judge.stored_result(check, record)
    verdict = judge.verdict(check, record, result, evaluated.observation, evaluated.verdict_on)
    reasons: list[Reason | str] = [*verdict.reasons] if isinstance(verdict, Stale) else []
    if result is None:
        reasons = ["it has not been run yet"]
    elif result.outcome is CheckOutcome.ERROR:
        reasons = ["it could not be run"]
    if not reasons and result is not None:
        running = _running_inputs(check, result, evaluated, planner)
        reasons = [f"{input_.label} is recomputed first" for input_ in running]
    if not reasons:
        return None
    seconds = None if result is None else result.seconds
    return Step(name=check.name, action=CHECK_ACTION, reasons=reasons, seconds=seconds)


def _running_inputs(
    check: CheckRecord, result: CheckResult, evaluated: EvaluatedGraph, planner: Planner
) -> Collection[Input]:
    """The tables read by a check that the plan recomputes."""
    return [
        anchor.input
        for anchor in result.anchors
        if anchor.input.kind is InputKind.RESULT
        and (node := evaluated.graph.find(anchor.input.name, check.tenant)) is not None
        and (planned := planner.planned.get(node.key)) is not None
        and planned.kind is not StepKind.BLOCKED
    ]
