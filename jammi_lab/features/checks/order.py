"""The order of the steps of a plan by what their checks read: a new version is checked against the
tables as the same run leaves them."""

import graphlib
from collections.abc import Mapping

from jammi_lab.freshness.evaluated_graph import EvaluatedGraph
from jammi_lab.freshness.plan import PlannedStep
from jammi_lab.freshness.recipe_graph import RecipeKey


def order_by_checks(
    steps: list[PlannedStep],
    evaluated: EvaluatedGraph,
    nearest: Mapping[RecipeKey, frozenset[RecipeKey]],
) -> list[PlannedStep]:
    """The steps, each after those that make what the checks on its table read, unless these run
    after it already. `nearest` has the step that makes each recipe, or those upstream of it."""
    by_key = {step.node.key: step for step in steps}
    checked = evaluated.checks.checked_recipes() if len(steps) > 1 else frozenset()
    has_changed = False
    for step in steps:
        if step.node.key not in checked:
            continue
        for name in evaluated.checks.tables_read(step.node.tenant, step.node.name):
            node = evaluated.graph.find(name, step.node.tenant)
            makers = frozenset() if node is None else nearest.get(node.key, frozenset())
            added = {key for key in makers if not _runs_after(by_key, key, step.node.key)}
            if not added <= step.predecessors:
                step.predecessors, has_changed = step.predecessors | added, True
    if not has_changed:
        return steps
    sorter = graphlib.TopologicalSorter({step.node.key: step.predecessors for step in steps})
    return [by_key[key] for key in sorter.static_order()]


def _runs_after(by_key: Mapping[RecipeKey, PlannedStep], key: RecipeKey, other: RecipeKey) -> bool:
    """Whether a step is another one, or waits for it."""
    waiting, seen = [key], {key}
    while waiting:
        current = waiting.pop()
        if current == other:
            return True
        new = by_key[current].predecessors - seen
        seen |= new
        waiting += new
    return False
