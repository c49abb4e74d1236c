"""Column lineage as a picture and as text.

Solid lines are direct dependencies (values); dashed lines are columns that filter, join or group
the rows.
"""

from collections.abc import Sequence

from jammi_lab.core.html import Rendered, display_width, escape_invisible
from jammi_lab.features.pictures.lineage_svg import End, draw, picture_html, subtitle
from jammi_lab.freshness.node_states import NodeLike, NodeStates
from jammi_lab.freshness.table_column_lineage import ColumnEdge

MAX_TABLES = 40
"""Maximum number of tables in an image."""


def column_lineage_svg(
    nodes: Sequence[NodeLike],
    edges: Sequence[ColumnEdge],
    states: NodeStates,
    focus: str | None = None,
) -> Rendered:
    """The picture and the text list; columns without an edge are omitted. Raises
    DependencyCycle."""
    ends = index_edges(nodes, edges)
    tables = sorted({table for a, _, b, _, _ in ends for table in (a, b)})
    drawn_ends = ends_between(tables[:MAX_TABLES], ends)
    lines = _text_lines(nodes, edges, states)
    drawing = draw(
        [nodes[n] for n in tables[:MAX_TABLES]],
        sorted({(a, b) for a, _, b, _, _ in drawn_ends}),
        states,
        focus,
        ends=drawn_ends,
    )
    alt = "Columns: " + "; ".join(lines[:60])
    return Rendered(picture_html(drawing, alt, f"{len(tables):,} tables"), "\n".join(lines))


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


def ends_between(tables: Sequence[int], ends: Sequence[End]) -> list[End]:
    """The edges between these tables, with the places of the tables for their indexes."""
    place = {table: at for at, table in enumerate(tables)}
    return [
        (place[a], x, place[b], y, direct)
        for a, x, b, y, direct in ends
        if a in place and b in place
    ]


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
