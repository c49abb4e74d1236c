"""Column lineage as SVG and as text.

Solid lines are direct dependencies (values); dotted lines are columns that filter, join or group
the rows. The SVG is shown in an `<img>`, like the table lineage.
"""

from collections.abc import Iterable, Sequence

from jammi_lab.core.html import (
    Rendered,
    count_noun,
    display_width,
    escape,
    escape_invisible,
    svg_image,
)
from jammi_lab.features.pictures.lineage_svg import draw_graph, edge_svg, layout_graph, subtitle
from jammi_lab.freshness.node_states import NO_STATES, NodeLike, NodeStates
from jammi_lab.freshness.table_column_lineage import ColumnEdge

MAX_COLUMNS = 14
"""Maximum number of columns drawn per table."""
MAX_TABLES = 40
"""Maximum number of tables in an image."""

End = tuple[int, str, int, str, bool]
"""Index of the input table, its column, index of the derived table, its column, whether direct."""


def column_lineage_svg(
    nodes: Sequence[NodeLike], edges: Sequence[ColumnEdge], states: NodeStates
) -> Rendered:
    """The SVG and the text list; columns without an edge are omitted. Raises DependencyCycle."""
    ends = index_edges(nodes, edges)
    tables = [n for n in range(len(nodes)) if any(n in (a, b) for a, _, b, _, _ in ends)]
    drawn_tables = set(tables[:MAX_TABLES])
    drawn_ends = [
        (a, x, b, y, direct)
        for a, x, b, y, direct in ends
        if a in drawn_tables and b in drawn_tables
    ]
    note = (
        ""
        if len(drawn_tables) == len(tables)
        else f"{len(drawn_tables):,} of {len(tables):,} tables are drawn; pass a table's name to "
        "see its neighbourhood."
    )
    alt = "Columns: " + "; ".join(_text_lines(nodes, edges, NO_STATES)[:60])
    image = svg_image(_svg(nodes, drawn_ends), alt) if drawn_ends else ""
    html = f'<div style="overflow-x:auto">{image}</div>' + (
        f'<div style="opacity:0.7">{escape(note)}</div>' if note else ""
    )
    return Rendered(html, "\n".join(_text_lines(nodes, edges, states)))


def index_edges(nodes: Sequence[NodeLike], edges: Sequence[ColumnEdge]) -> list[End]:
    """Edges by node index. If a source and a recipe share a name, the recipe is the derived one: a
    table never reads itself."""
    last = {n.name: i for i, n in enumerate(nodes)}
    first: dict[str, int] = {}
    for i, node in enumerate(nodes):
        first.setdefault(node.name, i)
    ends = []
    for e in edges:
        if e.input in first and e.derived in last:
            start = first[e.input] if e.input == e.derived else last[e.input]
            ends.append((start, e.input_column, last[e.derived], e.derived_column, e.direct))
    return ends


def _text_lines(
    nodes: Sequence[NodeLike], edges: Sequence[ColumnEdge], states: NodeStates
) -> list[str]:
    """`total ← rain.mm, by rain.town` below the name of each table."""
    kinds = {n.name: n for n in nodes}
    by_table: dict[str, dict[str, tuple[list[str], list[str]]]] = {}
    for e in edges:
        values, rows = by_table.setdefault(e.derived, {}).setdefault(e.derived_column, ([], []))
        (values if e.direct else rows).append(escape_invisible(f"{e.input}.{e.input_column}"))
    lines = []
    for name in sorted(by_table, key=list(kinds).index):
        word = states.verdicts.get(kinds[name])
        verdict = f": {word}" if word else ""
        lines.append(f"{escape_invisible(name)} ({subtitle(kinds[name])}){verdict}")
        name_width = max(display_width(escape_invisible(c)) for c in by_table[name])
        for column, (values, rows) in by_table[name].items():
            row_clause = f"{', ' if values else ''}by {', '.join(rows)}" if rows else ""
            lines.append(
                f"  {escape_invisible(column)}"
                f"{' ' * (name_width - display_width(escape_invisible(column)))} ← "
                f"{', '.join(values)}{row_clause}"
            )
    return lines or ["No columns are read."]


def _svg(nodes: Sequence[NodeLike], ends: Sequence[End]) -> str:
    drawn = sorted({n for a, _, b, _, _ in ends for n in (a, b)})
    index_of = {n: i for i, n in enumerate(drawn)}
    drawn_nodes = [nodes[n] for n in drawn]
    rows = [
        select_columns(
            [*(y for _, _, b, y, _ in ends if b == n), *(x for a, x, _, _, _ in ends if a == n)]
        )
        for n in drawn
    ]
    pairs = sorted({(index_of[a], index_of[b]) for a, _, b, _, _ in ends})
    layout = layout_graph(drawn_nodes, pairs, {}, rows)

    def draw_edge(a: int, x: str, b: int, y: str, direct: bool) -> str:
        start, end = index_of[a], index_of[b]
        path = layout.row_line(
            pairs.index((start, end)),
            len(rows[start]) - 1 - row_index(rows[start], x),
            len(rows[end]) - 1 - row_index(rows[end], y),
        )
        return edge_svg(path, dotted=not direct)

    edges = dict.fromkeys(draw_edge(*end) for end in sorted(ends, key=lambda e: e[4]))
    return draw_graph(drawn_nodes, layout, edges, rows=rows)


def select_columns(columns: Iterable[str]) -> list[str]:
    """The columns of a table to draw, without duplicates; of very many the first ones and a count
    of the rest."""
    unique = list(dict.fromkeys(columns))
    return (
        unique
        if len(unique) <= MAX_COLUMNS
        else [
            *unique[: MAX_COLUMNS - 1],
            f"… {count_noun(len(unique) - MAX_COLUMNS + 1, 'more column')}",
        ]
    )


def row_index(columns: Sequence[str], column: str) -> int:
    """The row of a column in its box; the last row for columns that are only counted."""
    return columns.index(column) if column in columns else len(columns) - 1
