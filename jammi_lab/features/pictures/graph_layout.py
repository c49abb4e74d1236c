"""Layered graph layout: layers by longest path from the sources, positions within a layer by
barycentre sweeps.

It has no dummy nodes and no edge routing, which is adequate for a few hundred visible nodes and
fast for tens of thousands.
"""

import itertools
from collections.abc import Sequence

from jammi_lab.core.errors import DependencyCycle

_MAX_SWEEPS = 8


def assign_layers(size: int, edges: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """The layer of each of `size` nodes, the length of the longest path to it, and its position
    within the layer. An edge (a, b) always leads to a later layer.

    Deterministic. Raises DependencyCycle when the graph has a cycle.
    """
    graph = LayeredGraph(size, sorted(set(edges)))
    return graph.layers, graph.positions(graph.layers, _MAX_SWEEPS)


class LayeredGraph:
    """A graph whose layers are known before it is decided whether positions are needed: `layers`
    has the length of the longest path to each node. The order of edges, each of which is there
    once, decides between equal positions. Raises DependencyCycle."""

    def __init__(self, size: int, edges: Sequence[tuple[int, int]]) -> None:
        self._children: list[list[int]] = [[] for _ in range(size)]
        self._parents: list[list[int]] = [[] for _ in range(size)]
        for a, b in edges:
            self._children[a].append(b)
            self._parents[b].append(a)
        self.layers, self._order = _layers_by_longest_path(self._children, self._parents)

    def positions(self, layers: list[int], sweeps: int) -> list[int]:
        """The position of each node within its layer."""
        columns: list[list[int]] = [[] for _ in range(max(layers, default=-1) + 1)]
        for node in self._order:
            columns[layers[node]].append(node)
        return _order_within_layers(columns, len(layers), self._parents, self._children, sweeps)


def wrap_layers(column: Sequence[int], position: Sequence[int], max_rows: int) -> list[int]:
    """The layer of each node when layers of more than `max_rows` nodes are split into several side
    by side. Nodes take turns, so that each stays at the height of its neighbours. Edges still lead
    to later layers, because no edge joins two nodes of one layer."""
    counts = [0] * (max(column, default=-1) + 1)
    for layer in column:
        counts[layer] += 1
    parts = [-(-count // max_rows) for count in counts]
    starts = list(itertools.accumulate(parts, initial=0))
    return [
        starts[layer] + place % parts[layer] for layer, place in zip(column, position, strict=True)
    ]


def _layers_by_longest_path(
    children: list[list[int]], parents: list[list[int]]
) -> tuple[list[int], list[int]]:
    """The length of the longest path to each node, and a topological order (Kahn's algorithm)."""
    unplaced_parents = [len(parents) for parents in parents]
    column = [0] * len(parents)
    order = [node for node, missing in enumerate(unplaced_parents) if not missing]
    for node in order:  # the list grows during the iteration
        for child in children[node]:
            column[child] = max(column[child], column[node] + 1)
            unplaced_parents[child] -= 1
            if not unplaced_parents[child]:
                order.append(child)
    if len(order) != len(parents):
        raise DependencyCycle(
            f"{len(parents) - len(order)} of {len(parents)} nodes are on a cycle or downstream of "
            "one."
        )
    return column, order


def _order_within_layers(
    columns: list[list[int]],
    size: int,
    parents: list[list[int]],
    children: list[list[int]],
    sweeps: int,
) -> list[int]:
    """Positions that bring neighbours close: sweeps to the right order by parents, sweeps to the
    left by children, until nothing changes."""
    height = [0.0] * size
    for nodes in columns:
        _store_heights(nodes, height)
    for _ in range(sweeps):
        has_changed = False
        for layers, neighbours in ((columns, parents), (columns[::-1], children)):
            for nodes in layers:
                current, ideal = nodes.copy(), _ideal_heights(nodes, neighbours, height)
                nodes.sort(key=ideal.__getitem__)  # stable: equal nodes keep their order
                if nodes != current:
                    _store_heights(nodes, height)
                    has_changed = True
        if not has_changed:
            break
    position = [0] * size
    for nodes in columns:
        for place, node in enumerate(nodes):
            position[node] = place
    return position


def _ideal_heights(
    nodes: list[int], neighbours: list[list[int]], height: list[float]
) -> dict[int, float]:
    """The ideal height of each node of a layer: the mean height of its neighbours, or its current
    height if it has none."""
    return {
        node: sum(map(height.__getitem__, near)) / len(near)
        if (near := neighbours[node])
        else height[node]
        for node in nodes
    }


def _store_heights(nodes: list[int], height: list[float]) -> None:
    """Store the height of each node of a layer, from 0 to 1."""
    number = len(nodes)
    for place, node in enumerate(nodes):
        height[node] = place / number
