"""A lineage as a picture that needs no script and no network, and as a tree of text.

Sources, recipes, models and frames differ in shape as well as in colour; every node brings its own fill, so that it reads on light and on dark
pages; a verdict is a word on the node. The picture goes into an `<img>`, where nothing inside it can act.
"""

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from jammi_lab.markup import MARKS, Form, count, dim, escape, picture, visible, width
from jammi_lab.sensing.layout import layered

MOST_DRAWN = 120
"""Nodes in a picture; of a larger graph the ones nearest to what was asked about, or to what is not fresh."""
MOST_LINES = 200
"""Lines of a tree."""
_FILLS = {"source": "#3b6a96", "frame": "#7a5a96", "mutable": "#8a6a2f", "topic": "#2f7a78", "model": "#7d4f62", "clock": "#5b6470"}
_MODEL = "model"
_RECIPE = "#4d5a6b"
EDGE_COLOUR = "#8a94a0"
_LETTER, _SMALL, _HIGH, _PILL, _GAP_X, _GAP_Y, _PAD = 7.4, 6.2, 44, 18, 56, 22, 10
_PASSAGE = 6.0
_ROW_LETTER = 7.0
ROW, ROWS_PAD = 17, 6
"""The height of a row below the head of a box, and what is left free below the last one, in pixels."""


class NodeLike(Protocol):
    """What a picture needs of a node."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int | None: ...


class EdgeLike(Protocol):
    """What a picture needs of an edge: the names at its ends."""

    @property
    def input(self) -> str: ...
    @property
    def derived(self) -> str: ...
    @property
    def kind(self) -> str: ...


def lineage(nodes: Sequence[NodeLike], edges: Sequence[EdgeLike], verdicts: Mapping[str, str] | None = None, focus: str | None = None) -> Form:
    """Picture and tree of a graph. `verdicts`: word by name; `focus`: the name that was asked about. Raises DependencyCycle."""
    if not nodes:
        return dim("No lineage yet.")
    words = dict(verdicts or {})
    pairs = pairs_of(nodes, edges)
    column, place = layered(len(nodes), pairs)
    drawn = _chosen(nodes, pairs, words, focus)
    note = "" if len(drawn) == len(nodes) else f"{len(drawn):,} of {len(nodes):,} nodes are drawn; name one of them to see what is around it."
    kept = {n: i for i, n in enumerate(drawn)}
    part = [nodes[n] for n in drawn]
    image = picture(svg(part, [(kept[a], kept[b]) for a, b in pairs if a in kept and b in kept], words, focus), _alt(part, words))
    shown = image + (f'<div style="opacity:0.7">{escape(note)}</div>' if note else "")
    return Form(f'<div style="overflow-x:auto">{shown}</div>', tree(nodes, pairs, column, place, words, focus))


def pairs_of(nodes: Sequence[NodeLike], edges: Sequence[EdgeLike]) -> list[tuple[int, int]]:
    """Edges as indexes. A source, a model and a recipe may share a name: what derives is a recipe, a digest is never a source's, and an edge of a
    model leaves a model."""
    derived = {n.name: i for i, n in enumerate(nodes) if n.kind not in _FILLS}
    outside = {n.name: i for i, n in enumerate(nodes) if n.kind in _FILLS and n.kind != _MODEL}
    models = {n.name: i for i, n in enumerate(nodes) if n.kind == _MODEL}
    pairs = []
    for edge in edges:
        places = {"result_digest": (derived, outside), _MODEL: (models, {})}.get(edge.kind, (outside, derived))
        start = next((place[edge.input] for place in places if edge.input in place), None)
        end = derived.get(edge.derived, outside.get(edge.derived))
        if start is not None and end is not None:
            pairs.append((start, end))
    return sorted(set(pairs))


def ids_of(nodes: Sequence[NodeLike]) -> list[str]:
    """A text for each node that no other has: its name, or `<kind>:<name>` where a recipe, or for a model anything, has the same."""
    derived = {n.name for n in nodes if is_derived(n)}
    taken = {_MODEL: derived | {n.name for n in nodes if n.kind != _MODEL}}
    return [n.name if is_derived(n) or n.name not in taken.get(n.kind, derived) else f"{n.kind}:{n.name}" for n in nodes]


def is_derived(node: NodeLike) -> bool:
    """Whether a node is made here, and not read from outside."""
    return node.kind not in _FILLS


def _chosen(nodes: Sequence[NodeLike], pairs: Sequence[tuple[int, int]], words: Mapping[str, str], focus: str | None) -> list[int]:
    if len(nodes) <= MOST_DRAWN:
        return list(range(len(nodes)))
    near: list[list[int]] = [[] for _ in nodes]
    for a, b in pairs:
        near[a].append(b)
        near[b].append(a)
    starts = [i for i, n in enumerate(nodes) if n.name == focus]
    starts += [i for i, n in enumerate(nodes) if words.get(n.name, "fresh") != "fresh"]
    seen: dict[int, None] = {}
    for start in [*starts, *range(len(nodes))]:
        waiting = deque([start])
        while waiting and len(seen) < MOST_DRAWN:
            if (node := waiting.popleft()) not in seen:
                seen[node] = None
                waiting.extend(near[node])
    return sorted(seen)


def _alt(nodes: Sequence[NodeLike], words: Mapping[str, str]) -> str:
    named = [f"{n.name} ({words.get(n.name) or n.kind})" for n in nodes[:40]]
    return "Lineage: " + ", ".join(named) + (f", and {len(nodes) - 40} more" if len(nodes) > 40 else "")


def svg(nodes: Sequence[NodeLike], pairs: Sequence[tuple[int, int]], verdicts: Mapping[str, str], focus: str | None = None) -> str:
    """The drawing, left to right from what is read to what is derived; `pairs` are (input, derived) indexes."""
    placed = arranged(nodes, pairs, verdicts)
    lines = "".join(f'<path d="{line}" fill="none" stroke="{EDGE_COLOUR}" stroke-width="1.6" marker-end="url(#a)"/>' for line in placed.lines)
    drawn = "".join(_node(node, placed.boxes[i], verdicts.get(node.name, ""), node.name == focus) for i, node in enumerate(nodes))
    return svg_frame(lines + drawn, placed.wide, placed.high)


@dataclass(frozen=True)
class Arranged:
    """Where the nodes and lines of a graph are drawn, in pixels."""

    boxes: list["Box"]
    """One for each node."""
    lines: list[str]
    """One path for each pair, from the right side of a box to the left side of another, between the boxes in its way."""
    wide: int
    """Of the whole."""
    high: int
    """Of the whole."""
    ways: list[list[int]] = field(default_factory=list, repr=False)
    """For each pair the points that its line goes through."""
    points: list["Box"] = field(default_factory=list, repr=False)
    """The boxes, and the places between boxes that lines pass."""

    def line_of_rows(self, pair: int, row: int, to: int) -> str:
        """The way of a pair from one of the rows below the first one's head to one of the last one's; rows are counted from the last, from 0."""
        first, last = (self.points[self.ways[pair][end]] for end in (0, -1))
        start, end = (f"{y + h - ROWS_PAD - ROW * (at + 0.5):.0f}" for (_, y, _, h), at in ((first, row), (last, to)))
        middles = {each: f"{self.points[each][1] + self.points[each][3] / 2:.0f}" for each in self.ways[pair]}
        return _curve(self.ways[pair], self.points, {**middles, self.ways[pair][0]: start, self.ways[pair][-1]: end})


def arranged(
    nodes: Sequence[NodeLike], pairs: Sequence[tuple[int, int]], verdicts: Mapping[str, str], rows: Sequence[Sequence[str]] | None = None
) -> Arranged:
    """The places of a graph, left to right from what is read to what is derived; `pairs` are (input, derived) indexes. `rows`: for each node what
    stands in lines of `ROW` pixels below its head. DependencyCycle."""
    if not nodes:
        return Arranged([], [], 0, 0)
    column, _ = layered(len(nodes), pairs, sweeps=0)
    ways, size = _ways(len(nodes), pairs, column)
    column, place = layered(size, [step for way in ways for step in itertools.pairwise(way)])
    boxes, wide, high = _boxes(nodes, column, place, verdicts, rows or [()] * len(nodes))
    return Arranged(boxes[: len(nodes)], _curves(ways, boxes), wide, high, ways, boxes)


def svg_frame(body: str, wide: int, high: int) -> str:
    """A drawing of that size around its parts, with the arrow head `#a`."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">'
    )
    arrow = f'<path d="M0 0 8 4 0 8Z" fill="{EDGE_COLOUR}"/>'
    marker = f'<defs><marker id="a" markerWidth="8" markerHeight="8" refX="7.5" refY="4" orient="auto">{arrow}</marker></defs>'
    return f"{head}{marker}{body}</svg>"


def fill(kind: str) -> str:
    """The colour of a node of that kind."""
    return _FILLS.get(kind, _RECIPE)


def _ways(size: int, pairs: Sequence[tuple[int, int]], column: Sequence[int]) -> tuple[list[list[int]], int]:
    """Each edge as a way through one point per column, so that it passes between nodes, not behind them; and the number of points in all."""
    ways = []
    for a, b in pairs:
        between = column[b] - column[a] - 1
        ways.append([a, *range(size, size + between), b])
        size += between
    return ways, size


Box = tuple[float, float, float, float]
"""Left, top, width and height."""


def _boxes(
    nodes: Sequence[NodeLike], column: list[int], place: list[int], verdicts: Mapping[str, str], rows: Sequence[Sequence[str]]
) -> tuple[list[Box], int, int]:
    """Each point's (x, y, width, height), and the size of the whole; every column is as wide as its widest node and centred."""
    columns = max(column) + 1
    wide, tall = [0.0] * columns, [-float(_GAP_Y)] * columns
    high = [float(_HIGH + (_PILL if n.name in verdicts else 0) + high_of(some)) for n, some in zip(nodes, rows, strict=True)]
    high += [_PASSAGE] * (len(column) - len(nodes))
    for i, c in enumerate(column):
        tall[c] += high[i] + _GAP_Y
        if i < len(nodes):
            node = nodes[i]
            texts = [width(cut(node.name)) * _LETTER, width(subtitle(node)) * _SMALL, (width(verdicts.get(node.name, "")) + 3) * _SMALL]
            texts += [width(cut(row)) * _ROW_LETTER for row in rows[i]]
            wide[c] = max(wide[c], max(texts) + 32)
    top = [_PAD + (max(tall) - t) / 2 for t in tall]
    left = [_PAD + before + _GAP_X * c for c, before in enumerate(itertools.accumulate(wide, initial=0.0))]
    boxes: list[Box] = [(0.0, 0.0, 0.0, 0.0)] * len(column)
    for i in sorted(range(len(column)), key=place.__getitem__):
        c = column[i]
        boxes[i] = (left[c], top[c], wide[c], high[i])
        top[c] += high[i] + _GAP_Y
    return boxes, round(_PAD * 2 + sum(wide) + _GAP_X * (columns - 1)), round(max(tall) + 2 * _PAD)


def cut(name: str) -> str:
    """A name as it stands in a picture."""
    shown = visible(name)
    return shown if len(shown) <= 28 else shown[:27] + "…"


def subtitle(node: NodeLike) -> str:
    """What a node is, as it stands below its name."""
    kind = "recipe" if node.kind not in _FILLS and node.kind == "result" else node.kind
    return f"{kind}, version {node.version}" if node.version is not None and node.kind not in _FILLS else kind


def high_of(rows: Sequence[str]) -> float:
    """How much higher rows make a box, in pixels."""
    return ROW * len(rows) + ROWS_PAD if rows else 0


def _curves(ways: Sequence[Sequence[int]], boxes: Sequence[Box]) -> list[str]:
    """A line for each way, from the right side of its first box to the left side of its last, straight through those between."""
    middles = [f"{box[1] + box[3] / 2:.0f}" for box in boxes]
    return [_curve(way, boxes, middles) for way in ways]


def _curve(way: Sequence[int], boxes: Sequence[Box], middles: Mapping[int, str] | Sequence[str]) -> str:
    first, *between, last = way
    x, y = boxes[first][0] + boxes[first][2], middles[first]
    path = f"M{x:.0f} {y}"
    for each in between:
        box = boxes[each]
        path += f"{_bend(x, y, box[0], middles[each])}h{box[2]:.0f}"
        x, y = box[0] + box[2], middles[each]
    return path + _bend(x, y, boxes[last][0] - 1, middles[last])


def _bend(x: float, y: str, end: float, there: str) -> str:
    half = (end - x) / 2
    return f"C{x + half:.0f} {y} {end - half:.0f} {there} {end:.0f} {there}"


def _node(node: NodeLike, box: Box, verdict: str, focused: bool) -> str:
    x, y, w, h = box
    middle = x + w / 2
    edge = f'stroke="{EDGE_COLOUR}" stroke-width="{3 if focused else 1}"'
    shape = _shape(node.kind, box, f'fill="{fill(node.kind)}" {edge}')
    name = (
        f'<text x="{middle:.0f}" y="{y + 19:.0f}" font-size="13" font-weight="600" fill="#fff" text-anchor="middle">{escape(cut(node.name))}</text>'
    )
    below = f'<text x="{middle:.0f}" y="{y + 34:.0f}" font-size="11" fill="#fff" text-anchor="middle">{escape(subtitle(node))}</text>'
    return f"<g><title>{escape(node.name)}</title>{shape}{name}{below}{_pill(verdict, middle, y + h - 21) if verdict else ''}</g>"


def _shape(kind: str, box: Box, paint: str) -> str:
    """A source is a drum, a frame a sheet with a folded corner, a model has cut corners, what else is read a hexagon, a recipe a box."""
    x, y, w, h = (round(v) for v in box)
    if kind == "source":
        top = f"M{x} {y + 5}v{h - 10}a{w / 2} 6 0 0 0 {w} 0v-{h - 10}a{w / 2} 6 0 0 0-{w} 0Z"
        return f'<path d="{top}" {paint}/>'
    if kind == "frame":
        return f'<path d="M{x} {y}h{w - 12}l12 12v{h - 12}h-{w}Z" {paint}/><path d="M{x + w - 12} {y}v12h12" fill="#fff" fill-opacity="0.35"/>'
    if kind == _MODEL:
        return f'<path d="M{x + 9} {y}h{w - 18}l9 9v{h - 18}l-9 9h-{w - 18}l-9-9v-{h - 18}Z" {paint}/>'
    if kind in _FILLS:
        return f'<path d="M{x + 10} {y}h{w - 20}l10 {h / 2}l-10 {h / 2}h-{w - 20}l-10-{h / 2}Z" {paint}/>'
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="7" {paint}/>'


def _pill(word: str, middle: float, y: float) -> str:
    sign, colour = MARKS.get(word, ("", "#808890"))
    wide = (width(word) + 3) * _SMALL + 10
    back = f'<rect x="{middle - wide / 2:.0f}" y="{y:.0f}" width="{wide:.0f}" height="16" rx="8" fill="#fff" fill-opacity="0.94"/>'
    said = f'<tspan fill="{colour}" font-weight="700">{escape(sign)}</tspan> {escape(word)}'
    return f'{back}<text x="{middle:.0f}" y="{y + 12:.0f}" font-size="11" fill="#1f2933" text-anchor="middle">{said}</text>'


def tree(
    nodes: Sequence[NodeLike],
    pairs: Sequence[tuple[int, int]],
    column: Sequence[int],
    place: Sequence[int],
    verdicts: Mapping[str, str],
    focus: str | None = None,
) -> str:
    """The graph as text from its sources down; what was listed before is named again without what hangs below it."""
    below: list[list[int]] = [[] for _ in nodes]
    inner = set()
    for a, b in pairs:
        below[a].append(b)
        inner.add(b)
    order = sorted(range(len(nodes)), key=lambda i: (column[i], place[i]))
    rank = {node: i for i, node in enumerate(order)}
    lines: list[str] = []
    listed: set[int] = set()
    waiting = [(root, "", "") for root in reversed([i for i in order if i not in inner])]
    while waiting and len(lines) < MOST_LINES:
        node, lead, indent = waiting.pop()
        again = node in listed and bool(below[node])
        lines.append(lead + _said(nodes[node], verdicts, focus) + (" (see above)" if again else ""))
        if not again:
            listed.add(node)
            children = sorted(below[node], key=rank.__getitem__, reverse=True)
            waiting += [(c, indent + ("└─ " if i == 0 else "├─ "), indent + ("   " if i == 0 else "│  ")) for i, c in enumerate(children)]
    if waiting:
        lines.append(f"… {count(len(nodes) - len(listed), 'more node')}")
    return "\n".join(lines)


def _said(node: NodeLike, verdicts: Mapping[str, str], focus: str | None) -> str:
    word = verdicts.get(node.name, "")
    return f"{visible(node.name)} ({subtitle(node)})" + (f": {visible(word)}" if word else "") + (" ←" if node.name == focus else "")
