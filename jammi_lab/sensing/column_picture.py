"""A lineage by column: a picture with a line for each column that matters, and a list as text.

Full lines carry values; dotted ones end at what filters, joins or groups the rows. The picture goes into an `<img>`, like that of the tables.
"""

from collections.abc import Iterable, Mapping, Sequence

from jammi_lab.markup import Form, count, escape, picture, visible, width
from jammi_lab.sensing.columns import ColumnEdge
from jammi_lab.sensing.layout import layered
from jammi_lab.sensing.picture import EDGE_COLOUR, NodeLike, cut, fill, subtitle, svg_frame

MOST_COLUMNS = 14
"""Columns of one table that are drawn."""
MOST_TABLES = 40
"""Tables in a picture."""
_ROW, _HEAD, _GAP_X, _GAP_Y, _PAD, _LETTER = 17, 40, 70, 18, 10, 7.0

Place = tuple[float, float, float]
"""Left, top and width of a table's box."""
End = tuple[int, str, int, str, bool]
"""The place of a table, its column, the place of the table made from it, that one's column, and whether values go there."""


def column_lineage(nodes: Sequence[NodeLike], edges: Sequence[ColumnEdge], verdicts: Mapping[str, str]) -> Form:
    """Picture and list; columns without an edge are left out. DependencyCycle."""
    ends = ends_of(nodes, edges)
    tables = [n for n in range(len(nodes)) if any(n in (a, b) for a, _, b, _, _ in ends)]
    drawn = set(tables[:MOST_TABLES])
    part = [(a, x, b, y, direct) for a, x, b, y, direct in ends if a in drawn and b in drawn]
    note = "" if len(drawn) == len(tables) else f"{len(drawn):,} of {len(tables):,} tables are drawn; name one of them to see what is around it."
    alt = "Columns: " + "; ".join(_lines(nodes, edges, {})[:60])
    shown = picture(_svg(nodes, part), alt) if part else ""
    html = f'<div style="overflow-x:auto">{shown}</div>' + (f'<div style="opacity:0.7">{escape(note)}</div>' if note else "")
    return Form(html, "\n".join(_lines(nodes, edges, verdicts)))


def ends_of(nodes: Sequence[NodeLike], edges: Sequence[ColumnEdge]) -> list[End]:
    """Edges as (node, column, node, column, direct). Of a source and a recipe of one name the recipe derives; a table never reads itself."""
    last = {n.name: i for i, n in enumerate(nodes)}
    first: dict[str, int] = {}
    for i, node in enumerate(nodes):
        first.setdefault(node.name, i)
    found = []
    for e in edges:
        if e.input in first and e.derived in last:
            start = first[e.input] if e.input == e.derived else last[e.input]
            found.append((start, e.input_column, last[e.derived], e.derived_column, e.direct))
    return found


def _lines(nodes: Sequence[NodeLike], edges: Sequence[ColumnEdge], verdicts: Mapping[str, str]) -> list[str]:
    """`total ← rain.mm, by rain.town` below the name of each table."""
    kinds = {n.name: n for n in nodes}
    by_table: dict[str, dict[str, tuple[list[str], list[str]]]] = {}
    for e in edges:
        values, rows = by_table.setdefault(e.derived, {}).setdefault(e.derived_column, ([], []))
        (values if e.direct else rows).append(visible(f"{e.input}.{e.input_column}"))
    lines = []
    for name in sorted(by_table, key=list(kinds).index):
        said = f": {verdicts[name]}" if name in verdicts else ""
        lines.append(f"{visible(name)} ({subtitle(kinds[name])}){said}")
        wide = max(width(visible(c)) for c in by_table[name])
        for column, (values, rows) in by_table[name].items():
            by = f"{', ' if values else ''}by {', '.join(rows)}" if rows else ""
            lines.append(f"  {visible(column)}{' ' * (wide - width(visible(column)))} ← {', '.join(values)}{by}")
    return lines or ["No columns are read."]


def _svg(nodes: Sequence[NodeLike], ends: Sequence[End]) -> str:
    used = sorted({n for a, _, b, _, _ in ends for n in (a, b)})
    at = {n: i for i, n in enumerate(used)}
    shown = {n: shown_columns([*(y for _, _, b, y, _ in ends if b == n), *(x for a, x, _, _, _ in ends if a == n)]) for n in used}
    column, place = layered(len(used), sorted({(at[a], at[b]) for a, _, b, _, _ in ends}))
    places, wide, high = _places([nodes[n] for n in used], [shown[n] for n in used], column, place)
    lines = dict.fromkeys(
        _line(places[at[a]], row_of(shown[a], x), places[at[b]], row_of(shown[b], y), direct)
        for a, x, b, y, direct in sorted(ends, key=lambda e: e[4])
    )
    boxes = "".join(_box(nodes[n], shown[n], places[at[n]]) for n in used)
    return svg_frame("".join(lines) + boxes, wide, high)


def shown_columns(columns: Iterable[str]) -> list[str]:
    """The columns of a table that are drawn, each once; of many the first, and how many more."""
    every = list(dict.fromkeys(columns))
    return every if len(every) <= MOST_COLUMNS else [*every[: MOST_COLUMNS - 1], f"… {count(len(every) - MOST_COLUMNS + 1, 'more column')}"]


def row_of(shown: Sequence[str], column: str) -> int:
    """The row that a column is drawn in; the last for one of those that are only counted."""
    return shown.index(column) if column in shown else len(shown) - 1


def _places(nodes: Sequence[NodeLike], shown: Sequence[Sequence[str]], column: Sequence[int], place: Sequence[int]) -> tuple[list[Place], int, int]:
    """The box of each table, and the size of the whole; every column of tables is as wide as its widest one and centred."""
    layers = max(column) + 1
    high = [_HEAD + _ROW * len(s) + 6 for s in shown]
    wide, tall = [0.0] * layers, [-float(_GAP_Y)] * layers
    for i, c in enumerate(column):
        texts = [width(cut(nodes[i].name)) + 2, width(subtitle(nodes[i])), *(width(cut(s)) for s in shown[i])]
        wide[c] = max(wide[c], max(texts) * _LETTER + 24)
        tall[c] += high[i] + _GAP_Y
    top = [_PAD + (max(tall) - t) / 2 for t in tall]
    places: list[Place] = [(0.0, 0.0, 0.0)] * len(nodes)
    for i in sorted(range(len(nodes)), key=place.__getitem__):
        c = column[i]
        places[i] = (_PAD + sum(wide[:c]) + _GAP_X * c, top[c], wide[c])
        top[c] += high[i] + _GAP_Y
    return places, round(2 * _PAD + sum(wide) + _GAP_X * (layers - 1)), round(max(tall) + 2 * _PAD)


def _middle(place: Place, row: int) -> float:
    return place[1] + _HEAD + _ROW * (row + 0.5)


def _line(start: Place, row: int, end: Place, to: int, direct: bool) -> str:
    x, y, u, v = start[0] + start[2], _middle(start, row), end[0] - 1, _middle(end, to)
    half = (u - x) / 2
    path = f"M{x:.0f} {y:.0f}C{x + half:.0f} {y:.0f} {u - half:.0f} {v:.0f} {u:.0f} {v:.0f}"
    look = 'stroke-width="1.5" marker-end="url(#a)"' if direct else 'stroke-width="1" stroke-dasharray="2 4" stroke-opacity="0.7"'
    return f'<path d="{path}" fill="none" stroke="{EDGE_COLOUR}" {look}/>'


def _box(node: NodeLike, shown: Sequence[str], place: Place) -> str:
    x, y, wide = place
    high = _HEAD + _ROW * len(shown) + 6
    frame = f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{high:.0f}" rx="6" fill="#f4f6f8" stroke="{EDGE_COLOUR}"/>'
    head = f'<path d="M{x:.0f} {y + 36:.0f}v-30a6 6 0 0 1 6-6h{wide - 12:.0f}a6 6 0 0 1 6 6v30Z" fill="{fill(node.kind)}"/>'
    name = f'<text x="{x + 10:.0f}" y="{y + 16:.0f}" font-size="13" font-weight="600" fill="#fff">{escape(cut(node.name))}</text>'
    kind = f'<text x="{x + 10:.0f}" y="{y + 30:.0f}" font-size="11" fill="#fff">{escape(subtitle(node))}</text>'
    rows = "".join(
        f'<text x="{x + 10:.0f}" y="{_middle(place, i) + 4:.0f}" font-size="12" fill="#1f2933">{escape(cut(c))}</text>' for i, c in enumerate(shown)
    )
    return f"<g><title>{escape(node.name)}</title>{frame}{head}{name}{kind}{rows}</g>"
