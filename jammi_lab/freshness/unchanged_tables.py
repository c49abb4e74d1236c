"""Tables of which everything equals what was recorded: the short way to the verdict Fresh."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from jammi_lab.core.anchors import (
    Anchor,
    InputKind,
    Observed,
    Snapshot,
    Unknown,
    is_rounded,
    rests_on_statement,
)
from jammi_lab.core.records import TableRecord
from jammi_lab.core.verdicts import Damaged, Fresh, Verdict
from jammi_lab.freshness.recipe_graph import RecipeGraph, RecipeKey, RecipeNode
from jammi_lab.freshness.table_verdict import State

_Identity = tuple[str, str, str]


class UnchangedTables:
    """Finds the tables of one pass that are fresh because nothing differs: the definition, each
    input, the files, and the tables upstream.

    They are nearly all tables of nearly all passes. To evaluate one would give the same verdict and
    the same states, for several times the work. Whatever needs a second look (another state, whose
    rows may be equal; frames, exact versions, notes) is left to the evaluation.
    """

    def __init__(
        self,
        graph: RecipeGraph,
        verdicts: Mapping[RecipeKey, Verdict],
        observe: Callable[[Anchor, str | None], Observed],
        damage: Callable[[TableRecord], Damaged | Unknown | None],
    ) -> None:
        self._graph, self._verdicts = graph, verdicts
        self._observe, self._damage = observe, damage
        self._anchors: dict[tuple[str | None, _Identity, tuple[str, ...]], Anchor | None] = {}
        """The state of each input over some columns; None for one that is not a plain one."""
        self._compared: dict[tuple[str | None, int], tuple[Sequence[Anchor], bool | None]] = {}
        """The results of `_compare`, by the identity of lists, which are kept with them."""

    def contain(self, node: RecipeNode, definition: str | Unknown | None) -> bool:
        """Whether the newest version of a recipe is unchanged. `definition` is the hash of its
        current definition; its upstream tables have verdicts."""
        record = node.record
        if record is None or definition is None or record.definition_hash != definition:
            return False
        compared = self._compare(record.anchors, node.tenant)
        if compared is None:
            return False
        if compared:
            for parent in self._graph.recorded_inputs(node):
                if type(self._verdicts[parent.key]) is not Fresh:
                    return False
        return self._damage(record) is None

    def _compare(self, anchors: Sequence[Anchor], tenant: str | None) -> bool | None:
        """Whether tables with these anchors read other tables; None when an input is not in its
        recorded state. Records whose anchors are equal often share the list."""
        key = (tenant, id(anchors))
        if key not in self._compared:
            self._compared[key] = anchors, self._compare_each(anchors, tenant)
        return self._compared[key][1]

    def _compare_each(self, anchors: Sequence[Anchor], tenant: str | None) -> bool | None:
        reads_tables = False
        for recorded in anchors:
            current = self._current_anchor(recorded, tenant)
            if current is None or not _is_equal(recorded, current):
                return None
            reads_tables = reads_tables or recorded.input.kind is InputKind.RESULT
        return reads_tables

    def states(self, node: RecipeNode) -> dict[_Identity, State]:
        """The current states of the inputs of an unchanged table."""
        anchors = node.record.anchors if node.record is not None else []
        current = {a.input.identity: self._current_anchor(a, node.tenant) for a in anchors}
        return {identity: state for identity, state in current.items() if state is not None}

    def _current_anchor(self, recorded: Anchor, tenant: str | None) -> Anchor | None:
        """The state of an input over the recorded columns; None when it is not a plain one."""
        if recorded.origin is not msgspec.UNSET:
            return None
        key = (tenant, recorded.input.identity, recorded.input.columns)
        if key not in self._anchors:
            self._anchors[key] = self._observe_anchor(recorded, tenant)
        return self._anchors[key]

    def _observe_anchor(self, recorded: Anchor, tenant: str | None) -> Anchor | None:
        kind, name = recorded.input.kind, recorded.input.name
        if kind is InputKind.FRAME or (
            kind is InputKind.RESULT and self._graph.find(name, tenant) is None
        ):
            return None
        state = self._observe(recorded, tenant)
        return state.anchor(recorded.input, recorded.columns) if type(state) is Snapshot else None


def _is_equal(recorded: Anchor, current: Anchor) -> bool:
    """Whether a state is the recorded one, without anything to say about it."""
    return (
        recorded.same_state(current)
        and recorded.schema in ("", current.schema)
        and not current.note
        and not rests_on_statement(recorded.method)
        and not is_rounded(recorded)
    )
