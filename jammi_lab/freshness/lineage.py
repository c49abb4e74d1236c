"""Table lineage, from the anchors of the newest ready versions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from jammi_lab.catalog.lineage import Direction, Link
from jammi_lab.catalog.lineage import Node as Point
from jammi_lab.core.anchors import Input
from jammi_lab.core.errors import DependencyCycle
from jammi_lab.core.identifiers import fold
from jammi_lab.core.input_kinds import input_kind
from jammi_lab.core.records import Edge
from jammi_lab.core.value import Value
from jammi_lab.freshness.model_edges import MODEL_KIND
from jammi_lab.freshness.node_states import NodeStates
from jammi_lab.freshness.recipe_graph import RecipeKey
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


def checked_input(node: Node) -> tuple[str, str]:
    """The kind and the folded name of the input behind a node, as checks have them: a frame is
    checked as the source that it is registered as."""
    kind = "source" if input_kind(node.kind).has_origin else node.kind
    return kind, fold(node.name)


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
    model_edges: Sequence[Edge],
    kinds: Mapping[str, tuple[str, int | None]],
    start: str | None,
    kind_if_isolated: str,
) -> list[Node]:
    """The nodes of links and model edges, parents before children. `kinds` gives kind and version
    of recipes. `start` is always included; without edges it gets the kind `kind_if_isolated`.
    Raises DependencyCycle."""
    parents_of: dict[_Key, set[_Key]] = {}
    for link in links:
        parents_of.setdefault(_node_key(link.input), set())
        parents_of.setdefault(("result", link.derived), set()).add(_node_key(link.input))
    for edge in model_edges:
        parents_of.setdefault((MODEL_KIND, edge.input), set())
        parents_of.setdefault(("result", edge.derived), set()).add((MODEL_KIND, edge.input))
    if start is not None and not any(name == start for _, name in parents_of):
        parents_of[kind_if_isolated, start] = set()
    children_of: dict[_Key, list[_Key]] = {}
    for key, parents in parents_of.items():
        for parent in parents:
            children_of.setdefault(parent, []).append(key)
    unmet_parents = {key: len(parents) for key, parents in parents_of.items()}
    ready = sorted(
        (key for key, number in unmet_parents.items() if not number),
        key=lambda key: (key[0] == MODEL_KIND, key),
    )
    for key in ready:  # Kahn's algorithm: the list grows during the iteration
        for child in sorted(children_of.get(key, ())):
            unmet_parents[child] -= 1
            if not unmet_parents[child]:
                ready.append(child)
    if len(ready) < len(parents_of):
        raise _cycle_error(
            {key: parents_of[key] for key, number in unmet_parents.items() if number}
        )
    return [_lineage_node(key, kinds) for key in ready]


def reachable_links(
    links: Sequence[Link], direction: Direction, excluded: Collection[tuple[RecipeKey, RecipeKey]]
) -> list[Link]:
    """The links that a traversal in one direction reaches when some edges between recipes, given as
    (input, reader), are excluded."""
    if not excluded:
        return list(links)
    links_from: dict[Point, list[Link]] = {}
    for link in links:
        if not (
            input_kind(link.source[0]).is_result
            and (_recipe_key(link.source), _recipe_key(link.target)) in excluded
        ):
            links_from.setdefault(link.source if direction == "down" else link.target, []).append(
                link
            )
    reached = dict.fromkeys(
        link.source if direction == "down" else link.target for link in links if link.depth == 1
    )
    queue = list(reached)
    for point in queue:  # the list grows during the iteration
        neighbours = [
            link.target if direction == "down" else link.source
            for link in links_from.get(point, ())
        ]
        queue += [point for point in dict.fromkeys(neighbours) if point not in reached]
        reached |= dict.fromkeys(neighbours)
    return [link for point in queue for link in links_from.get(point, ())]


def _recipe_key(point: Point) -> RecipeKey:
    return point[3] or None, point[1]


def _lineage_node(key: "_Key", kinds: Mapping[str, tuple[str, int | None]]) -> Node:
    kind, version = kinds.get(key[1], (key[0], None)) if key[0] == "result" else (key[0], None)
    return Node(kind, key[1], version)


_Key = tuple[str, str]
"""Kind of input and name. The kind is part of the key because a recipe may have the name of a
source that it reads."""


def _node_key(input: Input) -> _Key:
    return input.kind, input.label


def _cycle_error(parents_of: Mapping[_Key, set[_Key]]) -> DependencyCycle:
    """The error for a set of nodes in which each has a parent: it contains a cycle."""
    path = [min(parents_of)]
    while (parent := min(p for p in parents_of[path[-1]] if p in parents_of)) not in path:
        path.append(parent)
    names = [name for _, name in [*path[path.index(parent) :], parent]]
    return DependencyCycle(
        "Tables depend on each other in a cycle: " + " ← ".join(names) + ".",
        path=names,
        hint=f"ws.recompute({names[0]!r}) recomputes it.",
    )
