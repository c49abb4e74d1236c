"""Verdicts on frames: what became of the tables that a frame of Python was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jammi_lab.core.anchors import (
    Anchor,
    FrameOrigin,
    Input,
    InputKind,
    Observed,
    Snapshot,
    cell_names,
    schema_digest,
    unpinned_anchor,
)
from jammi_lab.core.verdicts import Undecidable, Verdict
from jammi_lab.freshness.judge import Evidence, State, evaluate_frame, with_changed_meaning

if TYPE_CHECKING:
    from jammi_lab.freshness.recipe_graph import EvaluatedGraph, RecipeNode


def evaluate_origin(evaluated: EvaluatedGraph, node: RecipeNode, origin: FrameOrigin) -> Verdict:
    """The verdict on a frame that a table of the node was made from."""
    observed_at = evaluated.observation.started_at
    evidence = [
        Evidence(
            recorded="",
            current="",
            anchors=(a,),
            current_states={a.input.identity: _current_state(evaluated, a, node.tenant)},
            observed_at=observed_at,
        )
        for a in origin.inputs
    ]
    parents = [
        (a.input.name, verdict)
        for a in origin.inputs
        if a.input.kind is InputKind.RESULT
        and (verdict := _verdict_on_table(evaluated, node, a.input)) is not None
    ]
    return evaluate_frame(evidence, parents, observed_at)


def _verdict_on_table(evaluated: EvaluatedGraph, node: RecipeNode, table: Input) -> Verdict | None:
    """The verdict on a table by recipe or physical name; None for a table that was dropped.
    Undecidable for one that was made from the node in turn: neither can be judged first."""
    parent = evaluated.graph.find(table.name, node.tenant)
    if parent is None:
        return evaluated.table_verdict(table.name, node.tenant)
    if parent.key in {p.key for p in evaluated.graph.frame_inputs(node)}:
        return evaluated.verdicts[parent.key]
    note = f"{table.name} was made from {node.name} in turn"
    return Undecidable([unpinned_anchor(table, evaluated.observation.started_at, note)])


def _current_state(evaluated: EvaluatedGraph, source: Anchor, tenant: str | None) -> State:
    """The current state of a table that a frame was made from. A column more or less counts: code
    that derives frames may take them all."""
    state = evaluated.observe(source, tenant)
    if not isinstance(state, Snapshot):
        return state
    current = state.anchor(source.input, source.columns)
    return (
        with_changed_meaning(current)
        if schema_changed(source, state) and source.same_state(current)
        else current
    )


def frame_grounds(anchor: Anchor) -> list[str]:
    """What a fresh verdict leaves out about a frame that a table of the node was made from."""
    if anchor.input.kind is not InputKind.FRAME or not anchor.pinned:
        return []
    frame = f"the frame {anchor.input.label}"
    if not isinstance(anchor.origin, FrameOrigin):
        return [f"as far as {frame} goes"]
    grounds = [*anchor.origin.grounds]
    if anchor.origin.derived:
        grounds.append(f"made in {cell_names(anchor.origin.cells)}")
    return [f"as far as {frame} goes: {ground}" for ground in grounds]


def schema_changed(anchor: Anchor, state: Observed) -> bool:
    """Whether the schema changed, so that the statement must be bound again. False for an input
    that cannot be read: there is no schema to bind to."""
    return (
        isinstance(state, Snapshot)
        and not state.fault
        and bool(anchor.schema)
        and schema_digest(state.columns) != anchor.schema
    )
