"""A lineage by column: what stands in the nodes, and the way of one column, all that it rests on and all that rests on it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jammi_lab.sensing.column_picture import End, ends_of, row_of, shown_columns
from jammi_lab.sensing.lineage import Lineage
from jammi_lab.sensing.models import MODEL
from jammi_lab.sensing.picture import Arranged, is_derived
from jammi_widgets.graph import Snapshot

MOST_TABLES = 120
"""Nodes whose columns are drawn; of more, none are."""
MOST_KNOWN = 1_000
"""Nodes of a lineage whose columns are looked up as a whole; of a larger one, those around a node."""

Spot = tuple[int, str]
"""A table by its place, and one of its columns."""
Step = tuple[Spot, Spot]
"""Two columns of which one is made from the other."""


def ends_in(snapshot: Snapshot, found: Lineage) -> list[End]:
    """The edges between columns, by the places that their tables have in the snapshot."""
    tables = [n for n in found.nodes if n.kind != MODEL]
    known = {(is_derived(n), n.name): at for at, n in enumerate(snapshot.nodes) if n.kind != MODEL}
    place = [known.get((is_derived(n), n.name), -1) for n in tables]
    ends = ((place[a], x, place[b], y, direct) for a, x, b, y, direct in ends_of(tables, found.column_edges))
    return [end for end in ends if end[0] >= 0 and end[2] >= 0]


def way_of(ends: Sequence[End], start: Spot) -> tuple[dict[int, list[str]], dict[Step, bool]]:
    """Columns by table, those of `start` among them, and the steps between them with whether values go there, or only decide on rows."""
    above: dict[Spot, list[tuple[Spot, bool]]] = defaultdict(list)
    below: dict[Spot, list[tuple[Spot, bool]]] = defaultdict(list)
    for table, column, derived, made, direct in ends:
        above[derived, made].append(((table, column), direct))
        below[table, column].append(((derived, made), direct))
    steps: dict[Step, bool] = {}
    seen = {start}
    for near, upwards in ((above, True), (below, False)):
        todo, known = [start], {start}
        while todo:
            here = todo.pop()
            for there, direct in near[here]:
                step = (there, here) if upwards else (here, there)
                steps[step] = steps.get(step, False) or direct
                if there not in known:
                    known.add(there)
                    todo.append(there)
        seen |= known
    return _by_table(seen), steps


def by_pair(steps: Mapping[Step, bool]) -> dict[tuple[int, int], bool]:
    """Pairs of tables with whether values go from one to the other."""
    pairs: dict[tuple[int, int], bool] = {}
    for ((a, _), (b, _)), direct in steps.items():
        pairs[a, b] = pairs.get((a, b), False) or direct
    return pairs


def _by_table(spots: Iterable[Spot]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for table, column in sorted(spots):
        found[table].append(column)
    return dict(found)


@dataclass(frozen=True)
class InNodes:
    """The columns of a drawing: those on an edge between two nodes that are drawn."""

    rows: list[list[str]]
    """What stands in each node."""
    lines: list[tuple[int, str, str, bool]] = field(default_factory=list)
    """For each line the pair of nodes that it belongs to, the columns at its ends, and whether values go there."""

    def told(self, placed: Arranged, pairs: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """The lines as a page draws them, those that carry values above the others; of two that would lie on each other, one."""
        found: dict[str, dict[str, Any]] = {}
        for pair, x, y, direct in sorted(self.lines, key=lambda line: line[3]):
            a, b = pairs[pair]
            row, to = (len(self.rows[n]) - 1 - row_of(self.rows[n], column) for n, column in ((a, x), (b, y)))
            path = placed.line_of_rows(pair, row, to)
            found[path] = {"from": a, "to": b, "path": path, "columns": [x, y], "direct": direct}
        return list(found.values())


def in_nodes(places: Sequence[int], pairs: Sequence[tuple[int, int]], ends: Sequence[End]) -> InNodes:
    """The columns of what is drawn, by the places of the nodes in the snapshot and the pairs of nodes that edges are between."""
    at, of = {place: n for n, place in enumerate(places)}, {pair: n for n, pair in enumerate(pairs)}
    made: list[list[str]] = [[] for _ in places]  # in the order that they have in their table
    read: list[list[str]] = [[] for _ in places]
    lines = []
    for a, x, b, y, direct in ends:
        if (pair := of.get((at.get(a, -1), at.get(b, -1)))) is not None:
            read[at[a]].append(x)
            made[at[b]].append(y)
            lines.append((pair, x, y, direct))
    return InNodes([shown_columns([*some, *others]) for some, others in zip(made, read, strict=True)], lines)
