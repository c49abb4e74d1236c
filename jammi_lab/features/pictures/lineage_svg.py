"""The drawing of a lineage as SVG, which files and panels show alike, and as a text tree.

Kinds of nodes differ in shape as well as in colour. Every node has its own fill, so that it is
legible on light and dark pages. The fill of a table is that of its verdict: dark when fresh, light
when something is the matter, which the colour-blind see, too; the patterns of the light ones
differ. A notebook shows the SVG in an `<img>`, where it cannot run scripts.
"""

import functools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jammi_lab.core.html import (
    VERDICT_ICONS,
    Rendered,
    count_noun,
    dim_text,
    display_width,
    escape,
    escape_invisible,
    svg_image,
    unmarked_word,
)
from jammi_lab.core.input_kinds import MODEL_KIND, leaf_kind
from jammi_lab.core.records import Edge
from jammi_lab.features.pictures.box_layout import Box, GraphLayout, layout_boxes
from jammi_lab.features.pictures.graph_layout import assign_layers
from jammi_lab.freshness.node_states import (
    NO_STATES,
    NodeLike,
    NodeStates,
    is_derived,
)

MAX_NODES = 120
"""Maximum number of nodes in an image. Of a larger graph the nodes nearest to the focus, or to
tables that are not fresh, are drawn."""
MAX_TREE_LINES = 200
"""Maximum number of lines of a tree."""
VERDICT_FILLS: Mapping[str, tuple[str, str, str]] = {
    "fresh": ("#35664f", "", "#fff"),
    "possibly stale": ("#ffd166", "#e6a817", "#1f2933"),
    "stale": ("#ff9340", "", "#1f2933"),
    "undecidable": ("#cdbdff", "#a893f0", "#1f2933"),
    "missing manifest": ("#d3d9df", "", "#1f2933"),
    "damaged": ("#b3202c", "#8e1420", "#fff"),
}
"""Fill, colour of the pattern if there is one, and text colour of a table with each verdict."""
_PATTERN_PATHS: Mapping[str, str] = {
    "possibly stale": "M-2 10 10-2M-2 2 2-2M6 10 10 6",
    "undecidable": "M2 2h2v2h-2zM6 6h2v2h-2z",
    "damaged": "M-2 10 10-2M-2 2 2-2M6 10 10 6M-2-2 10 10",
}
"""What is drawn in each 8 × 8 tile of a pattern: stripes, dots, a lattice."""
_BORDERS: Mapping[str, str] = {
    "possibly stale": "#8a5a00",
    "stale": "#8a2f0a",
    "undecidable": "#6650c4",
    "missing manifest": "#5c656e",
    "damaged": "#ffb3b8",
}
"""Colour of the border of a table that is not fresh. It is as wide at every scale."""
MAX_CHANGE_CHARS = 48
"""Maximum number of characters about a change, enough for a version and millions of rows."""
HELD_SIGN = "‖"
"""Sign of a table that a recompute of everything leaves as it is."""
CHANGE_SIGN, CHANGE_COLOUR = "Δ", "#e4572e"
"""Sign and border of the node in which something changed: a root cause."""
_MODEL_COLOUR, _RECIPE_COLOUR = "#7d4f62", "#4d5a6b"
_EDGE_COLOUR = "#8a94a0"
_LETTER_WIDTH = 7.4
_SMALL_LETTER_WIDTH = 6.2
_NODE_HEIGHT = 44
_PILL_HEIGHT = 18
_ROW_LETTER_WIDTH = 7.0
ROW_HEIGHT, ROWS_PADDING = 17, 6
"""The height of a row below the head of a box, and the padding below the last row, in pixels."""
MAX_COLUMNS = 14
"""Maximum number of columns listed in a node."""
MARK_WORDS = ("held", "checked")
"""The words of the small marks on nodes."""
_FONTS = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
_ARROW = (
    '<marker id="a" markerWidth="8" markerHeight="8" refX="7.5" refY="4" orient="auto">'
    f'<path d="M0 0 8 4 0 8Z" fill="{_EDGE_COLOUR}"/></marker>'
)
_EDGE_STYLE = f'fill="none" stroke="{_EDGE_COLOUR}" stroke-width="1.6" marker-end="url(#a)"'
_FINE_STYLE = _EDGE_STYLE.replace("1.6", "1")
_BY_STYLE = f'fill="none" stroke="{_EDGE_COLOUR}" stroke-dasharray="4 4"'
"""How edges, lines between columns, and those that only select rows are drawn."""
End = tuple[int, str, int, str, bool]
"""An edge between columns: index of the input table, its column, index of the derived table, its
column, and whether it carries values."""


SAVED_ASPECT_RATIO = 0.6
"""Width by height that long layers of a picture are split for: one that is as wide as a page at a
readable scale, and read by scrolling."""


@dataclass(frozen=True)
class Drawing:
    """A drawn graph. A file shows the SVG as it is; a panel adds what clicks and keys do."""

    svg: str
    """Each node is a group of class `jammi-node`, each edge a path in one of class `jammi-edges`,
    in the order of `boxes` and `edges`. Texts in it are for people: it has no names to look up."""
    boxes: list[Box]
    """The box of each node."""
    rows: Sequence[Sequence[str]]
    """The columns listed in each node."""
    edges: list[tuple[int, int, str, str]]
    """For each path the input and the derived node, and the columns at its ends if it leads from
    one column to another."""


def render_lineage(
    nodes: Sequence[NodeLike],
    edges: Sequence[Edge],
    states: NodeStates = NO_STATES,
    focus: str | None = None,
) -> Rendered:
    """The picture and the text tree of a graph. `focus` is the name to highlight. Raises
    DependencyCycle."""
    if not nodes:
        return dim_text("No lineage yet.")
    pairs = index_pairs(nodes, edges)
    column, position = assign_layers(len(nodes), pairs)
    drawn_nodes = _nodes_to_draw(nodes, pairs, states.verdicts, focus)
    new_index = {n: i for i, n in enumerate(drawn_nodes)}
    nodes_drawn = [nodes[n] for n in drawn_nodes]
    drawn_pairs = [(new_index[a], new_index[b]) for a, b in pairs if {a, b} <= new_index.keys()]
    html = picture_html(
        draw(nodes_drawn, drawn_pairs, states, focus, SAVED_ASPECT_RATIO),
        _alt_text(nodes_drawn, states.verdicts),
        f"{len(nodes):,} nodes",
    )
    return Rendered(html, tree_text(nodes, pairs, column, position, states, focus))


def picture_html(drawing: Drawing, alt: str, total: str) -> str:
    """A drawing as an image, with a note if it has fewer nodes than there are in `total`, as
    `1,000 nodes`."""
    image = svg_image(drawing.svg, alt) if drawing.boxes else ""
    drawn = f"{len(drawing.boxes):,}"
    note = f"{drawn} of {total} are drawn; pass a table's name to see its neighbourhood."
    is_whole = drawn == total.split(maxsplit=1)[0]
    note_html = "" if is_whole else f'<div style="opacity:0.7">{escape(note)}</div>'
    return f'<div style="overflow-x:auto">{image}{note_html}</div>'


def index_pairs(nodes: Sequence[NodeLike], edges: Sequence[Edge]) -> list[tuple[int, int]]:
    """Edges as pairs of node indexes. A source, a model and a recipe may share a name; the edge
    kind decides: the derived end is a recipe, an edge by result digest starts at a result table, an
    edge of a model at a model."""
    derived_index = {n.name: i for i, n in enumerate(nodes) if is_derived(n)}
    external_index = {
        n.name: i for i, n in enumerate(nodes) if not is_derived(n) and n.kind != MODEL_KIND
    }
    models = {n.name: i for i, n in enumerate(nodes) if n.kind == MODEL_KIND}
    pairs = []
    for edge in edges:
        indexes = {"result_digest": (derived_index, external_index), MODEL_KIND: (models, {})}.get(
            edge.kind, (external_index, derived_index)
        )
        start = next((index[edge.input] for index in indexes if edge.input in index), None)
        end = derived_index.get(edge.derived, external_index.get(edge.derived))
        if start is not None and end is not None:
            pairs.append((start, end))
    return sorted(set(pairs))


def unique_ids(nodes: Sequence[NodeLike]) -> list[str]:
    """A unique id for each node: its name, or `<kind>:<name>` if a recipe (for a model: any other
    node) has the same name."""
    derived_names = {n.name for n in nodes if is_derived(n)}
    names_in_use = {MODEL_KIND: derived_names | {n.name for n in nodes if n.kind != MODEL_KIND}}
    return [
        n.name
        if is_derived(n) or n.name not in names_in_use.get(n.kind, derived_names)
        else f"{n.kind}:{n.name}"
        for n in nodes
    ]


def _nodes_to_draw(
    nodes: Sequence[NodeLike],
    pairs: Sequence[tuple[int, int]],
    verdicts: Mapping[Any, str],
    focus: str | None,
) -> list[int]:
    neighbours: list[list[int]] = [[] for _ in nodes]
    for a, b in pairs:
        neighbours[a].append(b)
        neighbours[b].append(a)
    starts = [i for i, n in enumerate(nodes) if n.name == focus] or [
        i for i, n in enumerate(nodes) if unmarked_word(verdicts.get(n, "fresh")) != "fresh"
    ]
    return nearest_nodes(range(len(nodes)), neighbours, starts, MAX_NODES)


def nearest_nodes(
    nodes: Sequence[int], neighbours: Sequence[Sequence[int]], starts: Iterable[int], limit: int
) -> list[int]:
    """All of these nodes, ascending; of more than `limit` those nearest to `starts`, and then
    others."""
    waiting, chosen = set(nodes), list[int]()
    for queue in (deque(starts), deque(nodes)):
        while queue and len(chosen) < limit:
            node = queue.popleft()
            if node in waiting:
                waiting.remove(node)
                chosen.append(node)
                queue.extend(neighbours[node])
    return sorted(chosen)


def _alt_text(nodes: Sequence[NodeLike], verdicts: Mapping[Any, str]) -> str:
    descriptions = [f"{n.name} ({verdicts.get(n) or n.kind})" for n in nodes[:40]]
    return (
        "Lineage: "
        + ", ".join(descriptions)
        + (f", and {len(nodes) - 40} more" if len(nodes) > 40 else "")
    )


def draw(
    nodes: Sequence[NodeLike],
    pairs: Sequence[tuple[int, int]],
    states: NodeStates = NO_STATES,
    focus: str | None = None,
    aspect: float | None = None,
    ends: Sequence[End] = (),
) -> Drawing:
    """Draw a graph, with inputs on the left and derived tables on the right. `pairs` are (input,
    derived) indexes, `aspect` is that of `layout_boxes`. `ends`: edges between columns, which are
    listed in the nodes; a line from one to the other takes the place of the edge. Raises
    DependencyCycle."""
    pair_index = {pair: index for index, pair in enumerate(pairs)}
    ends = [end for end in ends if (end[0], end[2]) in pair_index]
    rows = _column_rows(len(nodes), ends)
    layout = layout_boxes(_box_sizes(nodes, states, rows), pairs, aspect)
    column_lines = _column_lines(layout, pair_index, rows, ends)
    detailed = {(a, b) for line in column_lines for a, b, _, _ in line.values()}
    plain = {
        path: (a, b, "", "")
        for path, (a, b) in zip(layout.lines, pairs, strict=True)
        if (a, b) not in detailed
    }
    by_rows, by_values = column_lines
    edges = (
        _edges_svg(plain, "jammi-edges", _EDGE_STYLE)
        + _edges_svg(by_rows, "jammi-edges jammi-fine", _BY_STYLE)
        + _edges_svg(by_values, "jammi-edges jammi-fine", _FINE_STYLE)
    )
    body = edges + "".join(
        _node_svg(node, box, states, node.name == focus, rows_of_node)
        for node, box, rows_of_node in zip(nodes, layout.boxes, rows, strict=True)
    )
    words = set(map(unmarked_word, states.verdicts.values()))
    patterns = "".join(_pattern_svg(word) for word in _PATTERN_PATHS if word in words)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{layout.width}" height="{layout.height}" '
        f'viewBox="0 0 {layout.width} {layout.height}"><defs>{patterns}{_ARROW}</defs>'
        f'<g font-family="{_FONTS}" font-size="11" text-anchor="middle">{body}</g></svg>'
    )
    return Drawing(
        svg, layout.boxes, rows, [*plain.values(), *by_rows.values(), *by_values.values()]
    )


def _edges_svg(paths: Iterable[str], css_class: str, style: str) -> str:
    lines = "".join(f'<path d="{path}"/>' for path in paths)
    return f'<g class="{css_class}" {style}>{lines}</g>' if lines else ""


def _column_rows(size: int, ends: Sequence[End]) -> list[list[str]]:
    """The columns to list in each node, in the order of the table that they are derived in."""
    if not ends:  # mostly
        return [[]] * size
    derived: list[list[str]] = [[] for _ in range(size)]
    sources: list[list[str]] = [[] for _ in range(size)]
    for a, x, b, y, _ in ends:
        sources[a].append(x)
        derived[b].append(y)
    return [_select_columns([*of, *also]) for of, also in zip(derived, sources, strict=True)]


def _select_columns(columns: Iterable[str]) -> list[str]:
    """The columns without duplicates; of very many the first ones and a count of the rest."""
    unique = list(dict.fromkeys(columns))
    if len(unique) <= MAX_COLUMNS:
        return unique
    rest = count_noun(len(unique) - MAX_COLUMNS + 1, "more column")
    return [*unique[: MAX_COLUMNS - 1], f"… {rest}"]


def _column_lines(
    layout: GraphLayout,
    pair_index: Mapping[tuple[int, int], int],
    rows: Sequence[Sequence[str]],
    ends: Sequence[End],
) -> tuple[dict[str, tuple[int, int, str, str]], dict[str, tuple[int, int, str, str]]]:
    """The paths between columns, each with its ends: of those that only select rows, and of those
    that carry values, which are drawn on top."""
    by_rows: dict[str, tuple[int, int, str, str]] = {}
    by_values: dict[str, tuple[int, int, str, str]] = {}
    for a, x, b, y, direct in ends:
        heights = [_row_height(layout.boxes[n], rows[n], column) for n, column in ((a, x), (b, y))]
        path = layout.line(pair_index[a, b], *heights)
        (by_values if direct else by_rows)[path] = a, b, x, y
    return {path: by_rows[path] for path in by_rows if path not in by_values}, by_values


def _row_height(box: Box, rows: Sequence[str], column: str) -> int:
    """The height of the middle of a column's row; of the last one for columns that are only
    counted."""
    row = rows.index(column) if column in rows else len(rows) - 1
    return box[1] + box[3] - ROWS_PADDING - ROW_HEIGHT * (len(rows) - row) + ROW_HEIGHT // 2


def _pattern_svg(verdict: str) -> str:
    """The pattern that fills tables with a verdict."""
    fill, line, _ = VERDICT_FILLS[verdict]
    paint = f'fill="{line}"' if verdict == "undecidable" else f'stroke="{line}" stroke-width="2"'
    return (
        f'<pattern id="p-{verdict.replace(" ", "-")}" width="8" height="8" '
        f'patternUnits="userSpaceOnUse"><rect width="8" height="8" fill="{fill}"/>'
        f'<path d="{_PATTERN_PATHS[verdict]}" {paint}/></pattern>'
    )


def swatch_svg(word: str) -> str:
    """A sample of how tables with a verdict, root causes or small marks are drawn."""
    paint, _ = _node_paint("", word, focused=False, changed=word == "changed")
    if word not in VERDICT_FILLS:
        paint += ' fill-opacity="0"'
    pattern = _pattern_svg(word) if word in _PATTERN_PATHS else ""
    width, radius = (11, 5.5) if word in MARK_WORDS else (15, 3)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="18" height="14"><defs>{pattern}</defs>'
        f'<rect x="1.5" y="1.5" width="{width}" height="11" rx="{radius}" {paint}/></svg>'
    )


@functools.lru_cache(100)
def _node_paint(kind: str, word: str, *, focused: bool, changed: bool) -> tuple[str, str]:
    """The attributes of a node's outline, and the colour of the text in it."""
    leaf = leaf_kind(kind)
    other = _MODEL_COLOUR if kind == MODEL_KIND else _RECIPE_COLOUR
    plain = (other if leaf is None else leaf.colour, "", "#fff")
    fill, _, ink = VERDICT_FILLS.get(word, plain)
    if word in _PATTERN_PATHS:
        fill = f"url(#p-{word.replace(' ', '-')})"
    border, width = _BORDERS.get(word, _EDGE_COLOUR), 3 if word in _BORDERS else 1
    if changed:
        border, width = CHANGE_COLOUR, 5
    dashes = ' stroke-dasharray="6 4"' if word == "missing manifest" else ""
    return (
        f'fill="{fill}" stroke="{border}" stroke-width="{width + 2 * focused}" '
        f'vector-effect="non-scaling-stroke"{dashes}'
    ), ink


def _box_sizes(
    nodes: Sequence[NodeLike], states: NodeStates, rows: Sequence[Sequence[str]]
) -> list[tuple[int, int]]:
    """The width that the texts of each node need, and its height."""
    sizes = []
    for node, rows_of_node in zip(nodes, rows, strict=True):
        word = states.verdicts.get(node, "")
        width = max(
            display_width(shorten(node.name)) * _LETTER_WIDTH,
            display_width(second_line(node, states.changes)) * _SMALL_LETTER_WIDTH,
            _pill(word)[0] - 10 if word else 0,
            *(display_width(shorten(row)) * _ROW_LETTER_WIDTH for row in rows_of_node),
        )
        rows_height = ROW_HEIGHT * len(rows_of_node) + ROWS_PADDING if rows_of_node else 0
        height = _NODE_HEIGHT + (_PILL_HEIGHT if word else 0) + rows_height
        sizes.append((round(width) + 32, height))
    return sizes


def shorten(name: str) -> str:
    """A name, shortened for display."""
    text = escape_invisible(name)
    return text if len(text) <= 28 else text[:27] + "…"


def subtitle(node: NodeLike) -> str:
    """The second line of a node: its kind and version."""
    kind = "recipe" if is_derived(node) and node.kind == "result" else node.kind
    return (
        f"{kind}, version {node.version}" if node.version is not None and is_derived(node) else kind
    )


def second_line(node: NodeLike, changes: Mapping[Any, str]) -> str:
    """The second line of a node in a drawing: what changed in it, else its kind and version."""
    if not changes or node not in changes:
        return subtitle(node)
    text = escape_invisible(changes[node])
    is_long = len(text) > MAX_CHANGE_CHARS
    return f"{CHANGE_SIGN} {text[: MAX_CHANGE_CHARS - 1]}…" if is_long else f"{CHANGE_SIGN} {text}"


def _node_svg(
    node: NodeLike, box: Box, states: NodeStates, focused: bool, rows: Sequence[str]
) -> str:
    x, y, w, h = box
    middle, verdict, change = x + w // 2, states.verdicts.get(node, ""), states.changes.get(node)
    word = unmarked_word(verdict)
    paint, ink = _node_paint(node.kind, word, focused=focused, changed=change is not None)
    sign, mark = "" if word in ("", "fresh") else VERDICT_ICONS[word][0], ""
    if change is not None:
        sign, mark = CHANGE_SIGN, 'data-changed="" '
    outline = _shape(node, box, f'class="jammi-shape" {mark}{paint}')
    far_sign = (
        f'<text class="jammi-far-sign" display="none" x="{middle}" y="{y + h // 2 + 17}" '
        f'font-size="48" font-weight="700">{sign}</text>'
        if sign
        else ""
    )
    marks = ""
    if (checks := states.checks.get(node)) is not None:
        text = f"Checks of {node.name}: {checks.text}"
        marks += _mark_svg("checks", *VERDICT_ICONS[checks.verdict], x + w - 6, y + 4, text)
    if held := states.held.get(node):
        text = f"{held}. A recompute of everything leaves it as it is"
        colour = VERDICT_ICONS["missing manifest"][1]
        marks += _mark_svg("held", HELD_SIGN, colour, x + 1, y + 1, text)
    kind = subtitle(node)
    title = ", ".join([node.name, kind, *state_texts(node, states)])
    return (
        f'<g class="jammi-node" data-verdict="{word}" fill="{ink}">'
        f"<title>{escape(title)}</title>{outline}{far_sign}"
        f'<g class="jammi-text"><text x="{middle}" y="{y + 19}" font-size="13" '
        f'font-weight="600">{escape(shorten(node.name))}</text>'
        f'<text class="jammi-kind" x="{middle}" y="{y + 34}">'
        f"{kind if change is None else escape(second_line(node, states.changes))}</text>"
        f"{_pill_svg(verdict, middle, y + 41) if verdict else ''}"
        f"{_rows_svg(rows, box) if rows else ''}</g>{marks}</g>"
    )


def _mark_svg(part: str, sign: str, colour: str, x: int, y: int, text: str) -> str:
    """A small disc with a sign, at a corner of a node."""
    return (
        f'<g data-part="{part}"><title>{escape(text)}</title>'
        f'<circle cx="{x}" cy="{y}" r="8" fill="#fff" stroke="{colour}" '
        f'stroke-width="1.5"/><text x="{x}" y="{y + 4}" font-weight="700" '
        f'fill="{colour}">{escape(sign)}</text></g>'
    )


def _rows_svg(rows: Sequence[str], box: Box) -> str:
    x, y, w, h = box
    top = y + h - ROWS_PADDING - ROW_HEIGHT * len(rows)
    return "".join(
        f'<g class="jammi-column"><title>{escape(text)}</title><rect x="{x + 8}" '
        f'y="{top + ROW_HEIGHT * row}" width="{w - 16}" height="{ROW_HEIGHT}" fill="#fff" '
        f'fill-opacity="0.94"/><text x="{x + 14}" y="{top + ROW_HEIGHT * row + 13}" '
        f'font-size="12" fill="#1f2933" text-anchor="start">{escape(shorten(text))}</text></g>'
        for row, text in enumerate(rows)
    )


def _shape(node: NodeLike, box: Box, paint: str) -> str:
    """The outline of a node: a source is a cylinder, a frame a sheet with a folded corner, a model
    a box with cut corners, a recipe a rounded box, any other input a hexagon."""
    x, y, w, h = box
    leaf = leaf_kind(node.kind)
    if leaf is not None and leaf.is_stored:
        top = f"M{x} {y + 5}v{h - 10}a{w / 2} 6 0 0 0 {w} 0v-{h - 10}a{w / 2} 6 0 0 0-{w} 0Z"
        return f'<path d="{top}" {paint}/>'
    if leaf is not None and leaf.has_origin:
        return (
            f'<path d="M{x} {y}h{w - 12}l12 12v{h - 12}h-{w}Z" {paint}/><path '
            f'd="M{x + w - 12} {y}v12h12" fill="#fff" fill-opacity="0.35"/>'
        )
    if node.kind == MODEL_KIND:
        return (
            f'<path d="M{x + 9} {y}h{w - 18}l9 9v{h - 18}l-9 9h-{w - 18}l-9-9v-{h - 18}Z" {paint}/>'
        )
    if leaf is not None:
        return (
            f'<path d="M{x + 10} {y}h{w - 20}l10 {h / 2}l-10 '
            f'{h / 2}h-{w - 20}l-10-{h / 2}Z" {paint}/>'
        )
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="7" {paint}/>'


@functools.lru_cache(100)
def _pill(verdict: str) -> tuple[int, str]:
    """The width of the label of a verdict, and the text in it."""
    sign, colour = VERDICT_ICONS[unmarked_word(verdict)]
    text = f'<tspan fill="{colour}" font-weight="700">{sign}</tspan> {escape(verdict)}'
    return round((display_width(verdict) + 3) * _SMALL_LETTER_WIDTH) + 10, text


def _pill_svg(verdict: str, middle: int, y: int) -> str:
    width, text = _pill(verdict)
    return (
        f'<rect x="{middle - width // 2}" y="{y}" width="{width}" height="16" rx="8" fill="#fff" '
        f'fill-opacity="0.94"/><text data-part="verdict" x="{middle}" y="{y + 12}" '
        f'fill="#1f2933">{text}</text>'
    )


def state_texts(node: NodeLike, states: NodeStates) -> list[str]:
    """What there is to say of a node besides its name and kind."""
    checks, change = states.checks.get(node), states.changes.get(node, "")
    parts = [
        states.verdicts.get(node, ""),
        f"changed: {change}" if change else "",
        f"checks: {checks.text}" if checks is not None else "",
        states.held.get(node, ""),
    ]
    return [part for part in parts if part]


def tree_text(
    nodes: Sequence[NodeLike],
    pairs: Sequence[tuple[int, int]],
    column: Sequence[int],
    position: Sequence[int],
    states: NodeStates,
    focus: str | None = None,
) -> str:
    """The graph as a text tree from its sources down. A node that occurs again is listed without
    its children."""
    children_of: list[list[int]] = [[] for _ in nodes]
    derived_nodes = set()
    for a, b in pairs:
        children_of[a].append(b)
        derived_nodes.add(b)
    order = sorted(range(len(nodes)), key=lambda i: (column[i], position[i]))
    rank = {node: i for i, node in enumerate(order)}
    lines: list[str] = []
    listed_nodes: set[int] = set()
    stack = [(root, "", "") for root in reversed([i for i in order if i not in derived_nodes])]
    while stack and len(lines) < MAX_TREE_LINES:
        node, lead, indent = stack.pop()
        is_repeated = node in listed_nodes and bool(children_of[node])
        lines.append(
            lead + _node_line(nodes[node], states, focus) + (" (see above)" if is_repeated else "")
        )
        if not is_repeated:
            listed_nodes.add(node)
            children = sorted(children_of[node], key=rank.__getitem__, reverse=True)
            stack += [
                (c, indent + ("└─ " if i == 0 else "├─ "), indent + ("   " if i == 0 else "│  "))
                for i, c in enumerate(children)
            ]
    if stack:
        lines.append(f"… {count_noun(len(nodes) - len(listed_nodes), 'more node')}")
    return "\n".join(lines)


def _node_line(node: NodeLike, states: NodeStates, focus: str | None) -> str:
    state = ", ".join(state_texts(node, states))
    return (
        escape_invisible(f"{node.name} ({subtitle(node)})")
        + (f": {escape_invisible(state)}" if state else "")
        + (" ←" if node.name == focus else "")
    )
