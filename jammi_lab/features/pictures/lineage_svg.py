"""Table lineage as static SVG and as a text tree.

Kinds of nodes differ in shape as well as in colour. Every node has its own fill, so that it is
legible on light and dark pages. The fill of a table is that of its verdict: dark when fresh, light
when something is the matter, which the colour-blind see, too; the patterns of the light ones
differ. The SVG is shown in an `<img>`, where it cannot run scripts.
"""

import functools
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

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
from jammi_lab.core.input_kinds import leaf_kind
from jammi_lab.features.pictures.graph_layout import LayeredGraph, assign_layers, wrap_layers
from jammi_lab.freshness.model_edges import MODEL_KIND
from jammi_lab.freshness.node_states import NO_STATES, NodeLike, NodeStates, is_derived

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
PATTERN_PATHS: Mapping[str, str] = {
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
_GAP_WIDTH = 56
_GAP_HEIGHT = 22
_PADDING_PIXELS = 10
_PASSAGE_HEIGHT, _PASSAGE_GAP = 6.0, 8
MAX_UNWRAPPED_HEIGHT = 600
"""Up to this height in pixels, which a panel shows at a readable size, layers stay whole."""
_SWEEPS, _FEW_SWEEPS = 8, 3
"""Number of sweeps that bring neighbours close; fewer do for large graphs, and before layers are
split."""
MAX_SWEPT_POINTS = 1_500
"""Up to this many points, nodes and passages, a graph gets all sweeps."""
MAX_LAYER_PARTS = 24
"""Maximum number of parts into which a long layer is split."""
_ROW_LETTER_WIDTH = 7.0
ROW_HEIGHT, ROWS_PADDING = 17, 6
"""The height of a row below the head of a box, and the padding below the last row, in pixels."""


class EdgeLike(Protocol):
    """The attributes of an edge that are drawn."""

    @property
    def input(self) -> str: ...
    @property
    def derived(self) -> str: ...
    @property
    def kind(self) -> str: ...


SAVED_ASPECT_RATIO = 0.6
"""Width by height that long layers of a picture are split for: one that is as wide as a page at a
readable scale, and read by scrolling."""


def render_lineage(
    nodes: Sequence[NodeLike],
    edges: Sequence[EdgeLike],
    states: NodeStates = NO_STATES,
    focus: str | None = None,
) -> Rendered:
    """The SVG and text tree of a graph. `focus` is the name to highlight. Raises
    DependencyCycle."""
    if not nodes:
        return dim_text("No lineage yet.")
    pairs = index_pairs(nodes, edges)
    column, position = assign_layers(len(nodes), pairs)
    drawn_nodes = _nodes_to_draw(nodes, pairs, states.verdicts, focus)
    note = (
        ""
        if len(drawn_nodes) == len(nodes)
        else f"{len(drawn_nodes):,} of {len(nodes):,} nodes are drawn; pass a table's name to see "
        "its neighbourhood."
    )
    new_index = {n: i for i, n in enumerate(drawn_nodes)}
    nodes_drawn = [nodes[n] for n in drawn_nodes]
    drawn_pairs = [(new_index[a], new_index[b]) for a, b in pairs if {a, b} <= new_index.keys()]
    image = svg_image(
        svg(nodes_drawn, drawn_pairs, states, focus, SAVED_ASPECT_RATIO),
        _alt_text(nodes_drawn, states.verdicts),
    )
    image_html = image + (f'<div style="opacity:0.7">{escape(note)}</div>' if note else "")
    return Rendered(
        f'<div style="overflow-x:auto">{image_html}</div>',
        tree_text(nodes, pairs, column, position, states, focus),
    )


def index_pairs(nodes: Sequence[NodeLike], edges: Sequence[EdgeLike]) -> list[tuple[int, int]]:
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
    if len(nodes) <= MAX_NODES:
        return list(range(len(nodes)))
    neighbours: list[list[int]] = [[] for _ in nodes]
    for a, b in pairs:
        neighbours[a].append(b)
        neighbours[b].append(a)
    starts = [i for i, n in enumerate(nodes) if n.name == focus]
    starts += [i for i, n in enumerate(nodes) if unmarked_word(verdicts.get(n, "fresh")) != "fresh"]
    chosen_nodes: dict[int, None] = {}
    for start in [*starts, *range(len(nodes))]:
        queue = deque([start])
        while queue and len(chosen_nodes) < MAX_NODES:
            if (node := queue.popleft()) not in chosen_nodes:
                chosen_nodes[node] = None
                queue.extend(neighbours[node])
    return sorted(chosen_nodes)


def _alt_text(nodes: Sequence[NodeLike], verdicts: Mapping[Any, str]) -> str:
    descriptions = [f"{n.name} ({verdicts.get(n) or n.kind})" for n in nodes[:40]]
    return (
        "Lineage: "
        + ", ".join(descriptions)
        + (f", and {len(nodes) - 40} more" if len(nodes) > 40 else "")
    )


def svg(
    nodes: Sequence[NodeLike],
    pairs: Sequence[tuple[int, int]],
    states: NodeStates,
    focus: str | None = None,
    aspect: float | None = None,
) -> str:
    """The SVG, with inputs on the left and derived tables on the right. `pairs` are (input,
    derived) indexes, `aspect` is that of `layout_graph`."""
    layout = layout_graph(nodes, pairs, states.verdicts, changes=states.changes, aspect=aspect)
    return draw_graph(nodes, layout, map(edge_svg, layout.lines), states, focus)


def edge_svg(path: str, *, dotted: bool = False) -> str:
    """One edge: a line with an arrow head, or a thin dotted line."""
    style = (
        'stroke-width="1" stroke-dasharray="2 4" stroke-opacity="0.7"'
        if dotted
        else 'stroke-width="1.6" marker-end="url(#a)"'
    )
    return f'<path d="{path}" fill="none" stroke="{_EDGE_COLOUR}" {style}/>'


@dataclass(frozen=True)
class GraphLayout:
    """The computed layout of a graph, in pixels."""

    boxes: list["Box"]
    """One box per node."""
    lines: list[str]
    """One SVG path per pair, from the right side of a box to the left side of another, routed
    between other boxes."""
    width: int
    """The total width."""
    height: int
    """The total height."""
    paths: list[list[int]] = field(default_factory=list, repr=False)
    """For each pair the indexes of the points that its line passes."""
    points: list["Box"] = field(default_factory=list, repr=False)
    """The boxes, followed by the passages between boxes."""

    def row_line(self, pair: int, row: int, end_row: int) -> str:
        """The SVG path of a pair from a row of the first box to a row of the last one. Rows are
        counted from the bottom, starting at 0."""
        first, last = (self.points[self.paths[pair][end]] for end in (0, -1))
        start, end = (
            f"{y + h - ROWS_PADDING - ROW_HEIGHT * (row_index + 0.5):.0f}"
            for (_, y, _, h), row_index in ((first, row), (last, end_row))
        )
        middles = {
            point: f"{self.points[point][1] + self.points[point][3] / 2:.0f}"
            for point in self.paths[pair]
        }
        return _curve(
            self.paths[pair],
            self.points,
            {**middles, self.paths[pair][0]: start, self.paths[pair][-1]: end},
            {},
        )


def layout_graph(
    nodes: Sequence[NodeLike],
    pairs: Sequence[tuple[int, int]],
    verdicts: Mapping[Any, str],
    rows: Sequence[Sequence[str]] | None = None,
    *,
    changes: Mapping[Any, str] | None = None,
    aspect: float | None = None,
) -> GraphLayout:
    """Compute the layout of a graph, with inputs on the left and derived tables on the right.

    `pairs` are (input, derived) indexes; `rows` are the texts below each node's head, `ROW_HEIGHT`
    pixels high each. `aspect`: width by height of the area in which the whole graph is to be seen;
    long layers are split for it. Raises DependencyCycle."""
    if not nodes:
        return GraphLayout([], [], 0, 0)
    sizes = _box_sizes(nodes, verdicts, rows or [()] * len(nodes), changes or {})
    graph = LayeredGraph(len(nodes), pairs)
    column = graph.layers
    if aspect is not None and (max_rows := _max_rows(column, pairs, sizes, aspect)) is not None:
        column = wrap_layers(column, graph.positions(column, _FEW_SWEEPS), max_rows)
    paths, steps, layers = _edge_paths(pairs, column)
    sweeps = _SWEEPS if len(layers) <= MAX_SWEPT_POINTS else _FEW_SWEEPS
    position = LayeredGraph(len(layers), steps).positions(layers, sweeps)
    boxes, width, height = _layout_boxes(sizes, layers, position)
    return GraphLayout(boxes[: len(nodes)], _curves(paths, boxes), width, height, paths, boxes)


def draw_graph(
    nodes: Sequence[NodeLike],
    layout: GraphLayout,
    edges: Iterable[str],
    states: NodeStates = NO_STATES,
    focus: str | None = None,
    rows: Sequence[Sequence[str]] | None = None,
) -> str:
    """The SVG document of a graph: `edges` as `edge_svg` returns them, then the nodes. The verdicts
    and changes of `states`, and `rows`, are those of the layout."""
    body = "".join(edges) + "".join(
        _node_svg(node, box, states, node.name == focus, rows_of_node)
        for node, box, rows_of_node in zip(
            nodes, layout.boxes, rows or [()] * len(nodes), strict=True
        )
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{layout.width}" height="{layout.height}" '
        f'viewBox="0 0 {layout.width} {layout.height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">'
    )
    arrow = f'<path d="M0 0 8 4 0 8Z" fill="{_EDGE_COLOUR}"/>'
    patterns = "".join(
        pattern_svg(word, f"p-{word.replace(' ', '-')}")
        for word in PATTERN_PATHS
        if word in states.verdicts.values()
    )
    marker = (
        f'<defs>{patterns}<marker id="a" markerWidth="8" markerHeight="8" refX="7.5" refY="4" '
        f'orient="auto">{arrow}</marker></defs>'
    )
    return f"{head}{marker}{body}</svg>"


def pattern_svg(verdict: str, pattern_id: str) -> str:
    """The pattern that fills tables with a verdict."""
    fill, line, _ = VERDICT_FILLS[verdict]
    paint = f'fill="{line}"' if verdict == "undecidable" else f'stroke="{line}" stroke-width="2"'
    return (
        f'<pattern id="{pattern_id}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8" fill="{fill}"/>'
        f'<path d="{PATTERN_PATHS[verdict]}" {paint}/></pattern>'
    )


def _node_paint(node: NodeLike, verdict: str, focused: bool, *, changed: bool) -> tuple[str, str]:
    """The attributes of a node's outline, and the colour of the text in it."""
    leaf = leaf_kind(node.kind)
    other = _MODEL_COLOUR if node.kind == MODEL_KIND else _RECIPE_COLOUR
    plain = (other if leaf is None else leaf.colour, "", "#fff")
    fill, _, ink = VERDICT_FILLS.get(unmarked_word(verdict), plain)
    if verdict in PATTERN_PATHS:
        fill = f"url(#p-{verdict.replace(' ', '-')})"
    border, width = _BORDERS.get(verdict, _EDGE_COLOUR), 3 if verdict in _BORDERS else 1
    if changed:
        border, width = CHANGE_COLOUR, 5
    dashes = ' stroke-dasharray="6 4"' if verdict == "missing manifest" else ""
    return (
        f'fill="{fill}" stroke="{border}" stroke-width="{width + 2 * focused}" '
        f'vector-effect="non-scaling-stroke"{dashes}'
    ), ink


def _max_rows(
    column: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    sizes: Sequence[tuple[float, float]],
    aspect: float,
) -> int | None:
    """The number of nodes in a layer at which the whole graph is largest in an area with this
    aspect ratio; None where the layers may stay whole."""
    layers: list[list[tuple[float, float]]] = [[] for _ in range(max(column) + 1)]
    for layer, size in zip(column, sizes, strict=True):
        layers[layer].append(size)
    counts = list(map(len, layers))
    widths = [max(w for w, _ in of) + _GAP_WIDTH for of in layers]
    heights = [sum(h + _GAP_HEIGHT for _, h in of) for of in layers]
    if max(heights) <= MAX_UNWRAPPED_HEIGHT:
        return None
    last_child = {a: column[b] for a, b in sorted(pairs, key=lambda pair: column[pair[1]])}
    spans = Counter((column[a], layer) for a, layer in last_child.items())

    def extent(max_rows: int) -> float:
        parts = [-(-count // max_rows) for count in counts]
        starts = list(itertools.accumulate(parts, initial=0))
        passages = sum(  # from somewhere in one layer to one of the later parts of the other
            count * (starts[end] - starts[start] + 0.7 * parts[end] - 0.5 * parts[start])
            for (start, end), count in spans.items()
        )
        width = sum(part * w for part, w in zip(parts, widths, strict=True))
        height = max(h / part for part, h in zip(parts, heights, strict=True))
        height += passages / sum(parts) * (_PASSAGE_HEIGHT + _PASSAGE_GAP)
        return max(width / aspect, height)

    choices = {-(-max(counts) // parts) for parts in range(1, MAX_LAYER_PARTS + 1)}
    best = min(sorted(choices, reverse=True), key=extent)
    return None if best == max(counts) else best


def _edge_paths(
    pairs: Sequence[tuple[int, int]], column: Sequence[int]
) -> tuple[list[list[int]], list[tuple[int, int]], list[int]]:
    """Each edge as a path through one point per layer, so that it is drawn between nodes and not
    behind them; the steps of all paths; and the layer of each point. Edges from one node share
    their points."""
    paths, steps, layers = [], [], list(column)
    passages: dict[int, list[int]] = {}
    for a, b in pairs:
        points = passages.setdefault(a, [a])
        first, last = column[a], column[b]
        for layer in range(first + len(points), last):
            steps.append((points[-1], len(layers)))
            points.append(len(layers))
            layers.append(layer)
        steps.append((points[last - first - 1], b))
        paths.append([*points[: last - first], b])
    return paths, steps, layers


Box = tuple[float, float, float, float]
"""Left, top, width and height."""


def _box_sizes(
    nodes: Sequence[NodeLike],
    verdicts: Mapping[Any, str],
    rows: Sequence[Sequence[str]],
    changes: Mapping[Any, str],
) -> list[tuple[float, float]]:
    """The width that the texts of each node need, and its height."""
    sizes = []
    pill_widths = {
        word: (display_width(word) + 3) * _SMALL_LETTER_WIDTH for word in {*verdicts.values(), ""}
    }
    for node, rows_of_node in zip(nodes, rows, strict=True):
        word = verdicts.get(node, "")
        width = max(
            display_width(shorten(node.name)) * _LETTER_WIDTH,
            display_width(second_line(node, changes)) * _SMALL_LETTER_WIDTH,
            pill_widths[word],
        )
        if rows_of_node:
            width = max(
                width, *(display_width(shorten(r)) * _ROW_LETTER_WIDTH for r in rows_of_node)
            )
        height = float(_NODE_HEIGHT + (_PILL_HEIGHT if word else 0) + rows_height(rows_of_node))
        sizes.append((width + 32, height))
    return sizes


def _layout_boxes(
    sizes: Sequence[tuple[float, float]], column: list[int], position: list[int]
) -> tuple[list[Box], int, int]:
    """The box of each point, and the total width and height. A layer is as wide as its widest node
    and centred vertically. `sizes` are those of the nodes, the first points."""
    columns = max(column) + 1
    widths, layer_heights = [0.0] * columns, [-float(_GAP_HEIGHT)] * columns
    passages = len(column) - len(sizes)
    heights = [height for _, height in sizes] + [_PASSAGE_HEIGHT] * passages
    steps = [height + _GAP_HEIGHT for _, height in sizes]
    steps += [_PASSAGE_HEIGHT + _PASSAGE_GAP] * passages
    for i, c in enumerate(column):
        layer_heights[c] += steps[i]
        if i < len(sizes):
            widths[c] = max(widths[c], sizes[i][0])
    top = [_PADDING_PIXELS + (max(layer_heights) - t) / 2 for t in layer_heights]
    left_edges = [
        _PADDING_PIXELS + width_before + _GAP_WIDTH * c
        for c, width_before in enumerate(itertools.accumulate(widths, initial=0.0))
    ]
    boxes: list[Box] = [(0.0, 0.0, 0.0, 0.0)] * len(column)
    for i in sorted(range(len(column)), key=position.__getitem__):
        c = column[i]
        boxes[i] = (left_edges[c], top[c], widths[c], heights[i])
        top[c] += steps[i]
    return (
        boxes,
        round(_PADDING_PIXELS * 2 + sum(widths) + _GAP_WIDTH * (columns - 1)),
        round(max(layer_heights) + 2 * _PADDING_PIXELS),
    )


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


def rows_height(rows: Sequence[str]) -> float:
    """The height that rows add to a box, in pixels."""
    return ROW_HEIGHT * len(rows) + ROWS_PADDING if rows else 0


def _curves(paths: Sequence[Sequence[int]], boxes: Sequence[Box]) -> list[str]:
    """One SVG path per way, from the right side of its first box to the left side of its last."""
    middles = [f"{box[1] + box[3] / 2:.0f}" for box in boxes]
    beginnings: dict[int, str] = {}
    return [_curve(way, boxes, middles, beginnings) for way in paths]


def _curve(
    path_points: Sequence[int],
    boxes: Sequence[Box],
    middles: Mapping[int, str] | Sequence[str],
    beginnings: dict[int, str],
) -> str:
    """`beginnings` keeps the part up to each point, because edges from one node share it."""
    first, *passages, last = path_points
    right, y = boxes[first][0] + boxes[first][2], middles[first]
    if first not in beginnings:
        beginnings[first] = f"M{right:.0f} {y}"
    path = beginnings[first]
    for passage in passages:
        left, _, width, _ = boxes[passage]
        if passage not in beginnings:
            bend = _bend(right, y, left, middles[passage])
            beginnings[passage] = f"{path}{bend}h{width:.0f}"
        path, right, y = beginnings[passage], left + width, middles[passage]
    return path + _bend(right, y, boxes[last][0] - 1, middles[last])


def _bend(x: float, y: str, end: float, end_y: str) -> str:
    middle_text, end_text = _bend_texts(x, end)
    return f"C{middle_text} {y} {middle_text} {end_y} {end_text} {end_y}"


@functools.lru_cache(512)
def _bend_texts(x: float, end: float) -> tuple[str, str]:
    """The middle and the end of a bend: nodes of a layer begin and end at the same place."""
    return f"{(x + end) / 2:.0f}", f"{end:.0f}"


def _node_svg(
    node: NodeLike, box: Box, states: NodeStates, focused: bool, rows: Sequence[str]
) -> str:
    x, y, w, h = box
    middle, verdict = x + w / 2, states.verdicts.get(node, "")
    paint, ink = _node_paint(node, verdict, focused, changed=node in states.changes)
    shape = _shape(node.kind, box, paint)
    name = (
        f'<text x="{middle:.0f}" y="{y + 19:.0f}" font-size="13" font-weight="600" '
        f'fill="{ink}" text-anchor="middle">{escape(shorten(node.name))}</text>'
    )
    subtitle_text = (
        f'<text x="{middle:.0f}" y="{y + 34:.0f}" font-size="11" fill="{ink}" '
        f'text-anchor="middle">{escape(second_line(node, states.changes))}</text>'
    )
    pill = _pill_svg(verdict, middle, y + h - 21) if verdict else ""
    row_texts = _rows_svg(rows, box) if rows else ""
    title, mark = node.name, ""
    if (checks := states.checks.get(node)) is not None:
        mark += _mark_svg(*VERDICT_ICONS[checks.verdict], x + w - 6, y + 4)
        title += f", checks: {checks.text}"
    if held := states.held.get(node):
        mark += _mark_svg(HELD_SIGN, VERDICT_ICONS["missing manifest"][1], x + 1, y + 1)
        title += f"\n{held}. A recompute of everything leaves it as it is"
    parts = f"{shape}{name}{subtitle_text}{pill}{row_texts}{mark}"
    return f"<g><title>{escape(title)}</title>{parts}</g>"


def _mark_svg(sign: str, colour: str, x: float, y: float) -> str:
    """A small disc with a sign, at a corner of a node."""
    return (
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="8" fill="#fff" stroke="{colour}" '
        f'stroke-width="1.5"/><text x="{x:.0f}" y="{y + 4:.0f}" font-size="11" '
        f'font-weight="700" fill="{colour}" text-anchor="middle">{escape(sign)}</text>'
    )


def _rows_svg(rows: Sequence[str], box: Box) -> str:
    x, y, w, h = box
    top = y + h - ROWS_PADDING - ROW_HEIGHT * len(rows)
    background = (
        f'<rect x="{x + 12:.0f}" y="{top:.0f}" width="{w - 24:.0f}" '
        f'height="{ROW_HEIGHT * len(rows)}" rx="3" fill="#fff" fill-opacity="0.94"/>'
    )
    return background + "".join(
        f'<text x="{x + 16:.0f}" y="{top + ROW_HEIGHT * (row + 0.5) + 4:.0f}" font-size="12" '
        f'fill="#1f2933">{escape(shorten(text))}</text>'
        for row, text in enumerate(rows)
    )


def _shape(kind: str, box: Box, paint: str) -> str:
    """The outline of a node: a source is a cylinder, a frame a sheet with a folded corner, a model
    a box with cut corners, a recipe a rounded box, any other input a hexagon."""
    x, y, w, h = (round(v) for v in box)
    leaf = leaf_kind(kind)
    if leaf is not None and leaf.is_stored:
        top = f"M{x} {y + 5}v{h - 10}a{w / 2} 6 0 0 0 {w} 0v-{h - 10}a{w / 2} 6 0 0 0-{w} 0Z"
        return f'<path d="{top}" {paint}/>'
    if leaf is not None and leaf.has_origin:
        return (
            f'<path d="M{x} {y}h{w - 12}l12 12v{h - 12}h-{w}Z" {paint}/><path '
            f'd="M{x + w - 12} {y}v12h12" fill="#fff" fill-opacity="0.35"/>'
        )
    if kind == MODEL_KIND:
        return (
            f'<path d="M{x + 9} {y}h{w - 18}l9 9v{h - 18}l-9 9h-{w - 18}l-9-9v-{h - 18}Z" {paint}/>'
        )
    if leaf is not None:
        return (
            f'<path d="M{x + 10} {y}h{w - 20}l10 {h / 2}l-10 '
            f'{h / 2}h-{w - 20}l-10-{h / 2}Z" {paint}/>'
        )
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="7" {paint}/>'


def _pill_svg(verdict: str, middle: float, y: float) -> str:
    sign, colour = VERDICT_ICONS.get(unmarked_word(verdict), ("", "#808890"))
    width = (display_width(verdict) + 3) * _SMALL_LETTER_WIDTH + 10
    background = (
        f'<rect x="{middle - width / 2:.0f}" y="{y:.0f}" width="{width:.0f}" '
        'height="16" rx="8" fill="#fff" fill-opacity="0.94"/>'
    )
    text = f'<tspan fill="{colour}" font-weight="700">{escape(sign)}</tspan> {escape(verdict)}'
    return (
        f'{background}<text x="{middle:.0f}" y="{y + 12:.0f}" font-size="11" '
        f'fill="#1f2933" text-anchor="middle">{text}</text>'
    )


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
    checks, change = states.checks.get(node), states.changes.get(node, "")
    parts = [
        states.verdicts.get(node, ""),
        f"changed: {change}" if change else "",
        f"checks: {checks.text}" if checks is not None else "",
        states.held.get(node, ""),
    ]
    state = ", ".join(part for part in parts if part)
    return (
        f"{escape_invisible(node.name)} ({subtitle(node)})"
        + (f": {escape_invisible(state)}" if state else "")
        + (" ←" if node.name == focus else "")
    )
