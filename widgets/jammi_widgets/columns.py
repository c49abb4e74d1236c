"""The way of one column through a lineage: all that it rests on, and all that rests on it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from jammi_lab.sensing.column_picture import End

Spot = tuple[int, str]
"""A table by its place, and one of its columns."""


def way_of(ends: Sequence[End], start: Spot) -> tuple[dict[int, list[str]], dict[tuple[int, int], bool]]:
    """Columns by table, those of `start` among them, and pairs of tables with whether values go from one to the other, or only decide on rows."""
    above: dict[Spot, list[tuple[Spot, bool]]] = defaultdict(list)
    below: dict[Spot, list[tuple[Spot, bool]]] = defaultdict(list)
    for table, column, derived, made, direct in ends:
        above[derived, made].append(((table, column), direct))
        below[table, column].append(((derived, made), direct))
    pairs: dict[tuple[int, int], bool] = {}
    seen = {start}
    for near, upwards in ((above, True), (below, False)):
        todo, known = [start], {start}
        while todo:
            here = todo.pop()
            for there, direct in near[here]:
                pair = (there[0], here[0]) if upwards else (here[0], there[0])
                pairs[pair] = pairs.get(pair, False) or direct
                if there not in known:
                    known.add(there)
                    todo.append(there)
        seen |= known
    return _by_table(seen), pairs


def _by_table(spots: Iterable[Spot]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for table, column in sorted(spots):
        found[table].append(column)
    return dict(found)
