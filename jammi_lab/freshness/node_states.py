"""What a drawing of the lineage shows of its nodes besides their names: verdicts, checks, holds and
root causes. Pictures, text trees, Mermaid and the panel take it from here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jammi_lab.core.checks import CheckMark
from jammi_lab.core.input_kinds import MODEL_KIND, leaf_kind
from jammi_lab.core.verdicts import (
    Damaged,
    DefinitionChanged,
    InputAdvanced,
    InputVanished,
    Reason,
    Verdict,
    causes_of,
)


class NodeLike(Protocol):
    """The attributes of a node that are drawn."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int | None: ...


@dataclass(frozen=True)
class NodeStates:
    """The states of the nodes of a drawing. Nodes without one are left out."""

    verdicts: Mapping[Any, str] = field(default_factory=dict)
    """Verdict words of recipes."""
    checks: Mapping[Any, CheckMark] = field(default_factory=dict)
    """What the checks of a node found, as `1 of 3 fails`."""
    held: Mapping[Any, str] = field(default_factory=dict)
    """Since when, by whom and why a node is held."""
    changes: Mapping[Any, str] = field(default_factory=dict)
    """What changed in the root causes."""


NO_STATES = NodeStates()


def is_derived(node: NodeLike) -> bool:
    """Whether a node is a result table, not an external input."""
    return node.kind != MODEL_KIND and leaf_kind(node.kind) is None


def root_causes(
    nodes: Sequence[NodeLike], verdicts: Mapping[str, Verdict]
) -> dict[int, list[tuple[str, Reason]]]:
    """The indexes of the nodes in which something changed, with the tables that are stale for it
    and the reasons."""
    indexes = {(is_derived(n), n.name): i for i, n in enumerate(nodes)}
    causes: dict[int, list[tuple[str, Reason]]] = {}
    for name, verdict in verdicts.items():
        for reason in (cause.reason for cause in causes_of(verdict) if not cause.path):
            if isinstance(reason, Damaged):
                continue
            key = (
                (True, name)
                if isinstance(reason, DefinitionChanged)
                else (reason.input.kind_class.is_result, reason.input.label)
            )
            if (index := indexes.get(key)) is not None:
                causes.setdefault(index, []).append((name, reason))
    return causes


def change_text(causes: Sequence[tuple[str, Reason]]) -> str:
    """What changed in a root cause, in a few words."""
    return "; ".join(dict.fromkeys(_reason_text(reason) for _, reason in causes))


def _reason_text(reason: Reason) -> str:
    match reason:
        case InputAdvanced():
            return reason.change or "content changed"
        case InputVanished():
            return "gone"
        case DefinitionChanged(recorded):
            return "never computed" if recorded is None else "definition changed"
