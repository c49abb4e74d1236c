"""Column lineage: the columns drawn in each node, and the path of one column, upstream and
downstream."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jammi_lab.features.pictures.column_svg import End, index_edges, row_index, select_columns
from jammi_lab.features.pictures.lineage import Lineage
from jammi_lab.features.pictures.lineage_svg import GraphLayout
from jammi_lab.freshness.model_edges import MODEL_KIND
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


def trace_column(
    edges: Sequence[End], start: ColumnKey
) -> tuple[dict[int, list[str]], dict[ColumnStep, bool]]:
    """The columns upstream and downstream of `start` by table, with `start` itself, and the steps
    between them; a step maps to whether it carries values (True) or only selects rows."""
    upstream: dict[ColumnKey, list[tuple[ColumnKey, bool]]] = defaultdict(list)
    downstream: dict[ColumnKey, list[tuple[ColumnKey, bool]]] = defaultdict(list)
    for table, column, child, child_column, direct in edges:
        upstream[child, child_column].append(((table, column), direct))
        downstream[table, column].append(((child, child_column), direct))
    steps: dict[ColumnStep, bool] = {}
    reached = {start}
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
        reached |= visited
    return _columns_by_table(reached), steps


def table_pairs(steps: Mapping[ColumnStep, bool]) -> dict[tuple[int, int], bool]:
    """The pairs of connected tables, with whether values flow between them."""
    pairs: dict[tuple[int, int], bool] = {}
    for ((a, _), (b, _)), direct in steps.items():
        pairs[a, b] = pairs.get((a, b), False) or direct
    return pairs


def _columns_by_table(keys: Iterable[ColumnKey]) -> dict[int, list[str]]:
    columns: dict[int, list[str]] = defaultdict(list)
    for table, column in sorted(keys):
        columns[table].append(column)
    return dict(columns)


@dataclass(frozen=True)
class NodeColumns:
    """The columns in a drawing: those with an edge between two drawn nodes."""

    rows: list[list[str]]
    """The columns listed in each node."""
    lines: list[tuple[int, str, str, bool]] = field(default_factory=list)
    """For each line the index of its node pair, the columns at its ends, and whether it carries
    values."""

    def line_messages(
        self, layout: GraphLayout, pairs: Sequence[tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """The lines as messages for the page. Lines that carry values come last, so that they are
        drawn on top; overlapping lines are merged."""
        messages: dict[str, dict[str, Any]] = {}
        for pair, x, y, direct in sorted(self.lines, key=lambda line: line[3]):
            a, b = pairs[pair]
            start_row, end_row = (
                len(self.rows[n]) - 1 - row_index(self.rows[n], column)
                for n, column in ((a, x), (b, y))
            )
            path = layout.row_line(pair, start_row, end_row)
            messages[path] = {"from": a, "to": b, "path": path, "columns": [x, y], "direct": direct}
        return list(messages.values())


def drawn_columns(
    node_indexes: Sequence[int], pairs: Sequence[tuple[int, int]], edges: Sequence[End]
) -> NodeColumns:
    """The columns of a drawing. `node_indexes` gives the drawn nodes by their indexes in the
    snapshot, `pairs` the node pairs connected by edges."""
    drawn_index = {node_index: n for n, node_index in enumerate(node_indexes)}
    pair_index = {pair: n for n, pair in enumerate(pairs)}
    derived: list[list[str]] = [[] for _ in node_indexes]  # in the order of the table
    sources: list[list[str]] = [[] for _ in node_indexes]
    lines = []
    for a, x, b, y, direct in edges:
        if (pair := pair_index.get((drawn_index.get(a, -1), drawn_index.get(b, -1)))) is not None:
            sources[drawn_index[a]].append(x)
            derived[drawn_index[b]].append(y)
            lines.append((pair, x, y, direct))
    return NodeColumns(
        [
            select_columns([*derived_columns, *source_columns])
            for derived_columns, source_columns in zip(derived, sources, strict=True)
        ],
        lines,
    )
