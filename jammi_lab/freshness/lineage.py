"""Table lineage, from the anchors of the newest ready versions."""

import graphlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jammi_lab.catalog.lineage import Link
from jammi_lab.core.anchors import Input
from jammi_lab.core.errors import DependencyCycle
from jammi_lab.core.input_kinds import MODEL_KIND
from jammi_lab.core.records import Edge
from jammi_lab.core.value import Value
from jammi_lab.freshness.node_states import NodeStates
from jammi_lab.freshness.table_column_lineage import ColumnEdge


class Node(Value, frozen=True):
    """A node of the lineage graph."""

    kind: str
    """source, frame, mutable, topic, clock, model, or the kind of the result table: sql, external
    …"""
    name: str
    """Its name; `source.table` for a source with several tables."""
    version: int | None = None
    """Newest ready version of a recipe."""


@dataclass(frozen=True)
class LineagePart:
    """A part of the lineage graph, parents before children."""

    nodes: list[Node]
    edges: list[Edge]
    focus: str | None
    """The name that it is around."""
    states: Callable[[], NodeStates]
    """Returns the present states of the nodes."""
    column_edges: list[ColumnEdge] | None
    """None unless they were asked for."""


def topological_nodes(
    links: Sequence[Link],
    kinds: Mapping[str, tuple[str, int | None]],
    start: str | None,
    kind_if_isolated: str,
) -> list[Node]:
    """The nodes of links, parents before children. `kinds` gives kind and version of recipes.
    `start` is always included; without edges it gets the kind `kind_if_isolated`. Raises
    DependencyCycle."""
    parents_of: dict[_Key, set[_Key]] = {}
    for link in links:
        parents_of.setdefault(_node_key(link.input), set())
        parents_of.setdefault(("result", link.derived), set()).add(_node_key(link.input))
    if start is not None and not any(name == start for _, name in parents_of):
        parents_of[kind_if_isolated, start] = set()
    ordered = list[_Key]()
    sorter = graphlib.TopologicalSorter(parents_of)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        names = [name for _, name in reversed(error.args[1])]
        raise DependencyCycle(
            "Tables depend on each other in a cycle: " + " ← ".join(names) + ".",
            path=names,
            hint="When recipes have swapped names, ws.recompute() computes the later one anew.",
        ) from None
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda key: (key[0] == MODEL_KIND, key))
        sorter.done(*ready)
        ordered += ready
    return [_lineage_node(key, kinds) for key in ordered]


def _lineage_node(key: "_Key", kinds: Mapping[str, tuple[str, int | None]]) -> Node:
    kind, version = kinds.get(key[1], (key[0], None)) if key[0] == "result" else (key[0], None)
    return Node(kind, key[1], version)


_Key = tuple[str, str]
"""Kind of input and name. The kind is part of the key because a recipe may have the name of a
source that it reads."""


def _node_key(input: Input) -> _Key:
    return input.kind, input.label
