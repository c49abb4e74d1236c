"""Column lineage: the path of one column, upstream and downstream."""

from collections import defaultdict
from collections.abc import Sequence

from jammi_lab.core.input_kinds import MODEL_KIND
from jammi_lab.features.pictures.column_svg import index_edges
from jammi_lab.features.pictures.lineage import Lineage
from jammi_lab.features.pictures.lineage_svg import End
from jammi_lab.freshness.node_states import is_derived
from jammi_widgets.graph_view import LineageSnapshot

MAX_TABLES = 120
"""Maximum number of nodes drawn with columns; larger drawings show none."""
MAX_LINEAGE_NODES = 1_000
"""Largest lineage whose columns are computed as a whole; in a larger one only those around a
node."""

ColumnKey = tuple[int, str]
"""A node, by its index in the snapshot, and one of its columns."""
ColumnStep = tuple[ColumnKey, ColumnKey]
"""Two columns, the second of which is derived from the first."""


def snapshot_edges(snapshot: LineageSnapshot, lineage: Lineage) -> list[End]:
    """The edges between columns, with tables given by their indexes in the snapshot."""
    tables = [n for n in lineage.nodes if n.kind != MODEL_KIND]
    index_by_table = {
        (is_derived(n), n.name): index
        for index, n in enumerate(snapshot.nodes)
        if n.kind != MODEL_KIND
    }
    indexes = [index_by_table.get((is_derived(n), n.name), -1) for n in tables]
    edges = (
        (indexes[a], x, indexes[b], y, direct)
        for a, x, b, y, direct in index_edges(tables, lineage.column_edges)
    )
    return [edge for edge in edges if edge[0] >= 0 and edge[2] >= 0]


def trace_column(edges: Sequence[End], start: ColumnKey) -> dict[ColumnStep, bool]:
    """The steps between the columns upstream and downstream of `start`; a step maps to whether it
    carries values (True) or only selects rows."""
    upstream: dict[ColumnKey, list[tuple[ColumnKey, bool]]] = defaultdict(list)
    downstream: dict[ColumnKey, list[tuple[ColumnKey, bool]]] = defaultdict(list)
    for table, column, child, child_column, direct in edges:
        upstream[child, child_column].append(((table, column), direct))
        downstream[table, column].append(((child, child_column), direct))
    steps: dict[ColumnStep, bool] = {}
    for adjacency, upwards in ((upstream, True), (downstream, False)):
        todo, visited = [start], {start}
        while todo:
            current = todo.pop()
            for neighbor, direct in adjacency[current]:
                step = (neighbor, current) if upwards else (current, neighbor)
                steps[step] = steps.get(step, False) or direct
                if neighbor not in visited:
                    visited.add(neighbor)
                    todo.append(neighbor)
    return steps
