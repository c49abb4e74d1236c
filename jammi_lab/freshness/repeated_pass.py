"""Verdicts of an earlier pass that still hold: work that a repeated status need not do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jammi_lab.core.anchors import Unknown
from jammi_lab.core.verdicts import Fresh, Verdict
from jammi_lab.freshness.judge import State
from jammi_lab.freshness.recipe_graph import RecipeGraph, RecipeKey, RecipeNode
from jammi_lab.inputs.observation import Observation

States = Mapping[tuple[str, str, str], State]


@dataclass(frozen=True)
class PassResults:
    """The recipe graph of one pass, what was observed, and the verdicts."""

    graph: RecipeGraph
    observation: Observation
    verdicts: dict[RecipeKey, Verdict] = field(default_factory=dict)
    own_verdicts: dict[RecipeKey, Verdict] = field(default_factory=dict)
    """Verdicts without causes inherited from upstream."""
    states: dict[RecipeKey, States] = field(default_factory=dict)
    """The states of the inputs that each verdict rests on."""


class RepeatedPass:
    """A pass after an earlier one over all recipes of the same tenant.

    A table that was fresh is fresh again when its rows in the catalog, its definition and the
    states of its inputs are the same, its upstream tables were taken over in the same way, and its
    files are intact. To evaluate it would give the same verdict with the same grounds."""

    def __init__(self, earlier: PassResults, current: PassResults) -> None:
        self._earlier, self._current = earlier, current
        self._unchanged = current.observation.states_equal_to(earlier.observation)
        self._repeated: set[RecipeKey] = set()

    def repeat(self, node: RecipeNode, definition: str | Unknown | None) -> bool:
        """Take over the verdict on a node that was fresh, and return whether it still holds.
        `definition` is the hash of its current definition."""
        key = node.key
        verdict = self._earlier.verdicts.get(key)
        if type(verdict) is not Fresh or not self._holds(node, definition):
            return False
        self._current.verdicts[key] = verdict
        self._current.own_verdicts[key] = self._earlier.own_verdicts[key]
        self._current.states[key] = self._earlier.states[key]
        self._repeated.add(key)
        return True

    def _holds(self, node: RecipeNode, definition: str | Unknown | None) -> bool:
        earlier = self._earlier.graph.nodes[node.key]
        if (
            node.record is None
            or node.record is not earlier.record
            or node.version is not earlier.version
            or node.recipe is not earlier.recipe
            or node.record.definition_hash != definition
        ):
            return False
        observed = self._current.graph.observed_inputs(node)
        parents = [p.key for p in self._current.graph.recorded_inputs(node)]
        return (
            observed is not None
            and self._unchanged.issuperset(observed)
            and self._repeated.issuperset(parents)
            and (
                earlier is node
                or parents == [p.key for p in self._earlier.graph.recorded_inputs(earlier)]
            )
            and self._current.observation.damage(node.record) is None
        )
