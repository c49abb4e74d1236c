"""The layout of a graph of boxes: layers from left to right, long layers split into several side by
side, and lines between boxes that lead through passages between others."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from jammi_lab.features.pictures.graph_layout import LayeredGraph, wrap_layers

_GAP_WIDTH = 56
_GAP_HEIGHT = 22
_PADDING_PIXELS = 10
_PASSAGE_HEIGHT, _PASSAGE_GAP = 6, 8
MAX_UNWRAPPED_HEIGHT = 600
"""Up to this height in pixels, which a panel shows at a readable size, layers stay whole."""
_SWEEPS, _FEW_SWEEPS = 8, 1
"""Number of sweeps that bring neighbours close; fewer do for large graphs, and before layers are
split."""
MAX_SWEPT_POINTS = 1_500
"""Up to this many points, nodes and passages, a graph gets all sweeps."""
Box = tuple[int, int, int, int]
"""Left, top, width and height, in pixels."""


@dataclass(frozen=True)
class GraphLayout:
    """The computed layout of a graph, in pixels."""

    boxes: list[Box]
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
    points: list[Box] = field(default_factory=list, repr=False)
    """The boxes, followed by the passages between boxes."""

    def line(self, pair: int, start: int, end: int) -> str:
        """The SVG path of a pair that begins and ends at these heights."""
        return _curve(self.paths[pair], self.points, {}, start, end)


def layout_boxes(
    sizes: Sequence[tuple[int, int]], pairs: Sequence[tuple[int, int]], aspect: float | None = None
) -> GraphLayout:
    """Compute the layout of boxes of these widths and heights, with inputs on the left and derived
    tables on the right.

    `pairs` are (input, derived) indexes. `aspect`: width by height of the area in which the whole
    graph is to be seen; long layers are split for it. Raises DependencyCycle."""
    if not sizes:
        return GraphLayout([], [], 0, 0)
    graph = LayeredGraph(len(sizes), pairs)
    column = graph.layers
    if aspect is not None and (max_rows := _max_rows(column, sizes, aspect)) is not None:
        column = wrap_layers(column, graph.positions(column, _FEW_SWEEPS), max_rows)
    paths, steps, layers = _edge_paths(pairs, column)
    sweeps = _SWEEPS if len(layers) <= MAX_SWEPT_POINTS else _FEW_SWEEPS
    position = LayeredGraph(len(layers), steps).positions(layers, sweeps)
    boxes, width, height = _place_boxes(sizes, layers, position)
    beginnings: dict[int, str] = {}
    lines = [_curve(way, boxes, beginnings) for way in paths]
    return GraphLayout(boxes[: len(sizes)], lines, width, height, paths, boxes)


def _max_rows(column: Sequence[int], sizes: Sequence[tuple[int, int]], aspect: float) -> int | None:
    """The number of nodes in a layer at which the whole graph has about this aspect ratio; None
    where the layers may stay whole."""
    step = _GAP_HEIGHT + sum(height for _, height in sizes) / len(sizes)
    tallest = max(Counter(column).values())
    if tallest * step <= MAX_UNWRAPPED_HEIGHT:
        return None
    width = _GAP_WIDTH + sum(width for width, _ in sizes) / len(sizes)
    return min(tallest, math.ceil(math.sqrt(len(sizes) * width / step / aspect)))


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


def _place_boxes(
    sizes: Sequence[tuple[int, int]], column: list[int], position: list[int]
) -> tuple[list[Box], int, int]:
    """The box of each point, and the total width and height. A layer is as wide as its widest node
    and centred vertically. `sizes` are those of the nodes, the first points."""
    columns = max(column) + 1
    widths, layer_heights = [0] * columns, [-_GAP_HEIGHT] * columns
    passages = len(column) - len(sizes)
    heights = [height for _, height in sizes] + [_PASSAGE_HEIGHT] * passages
    steps = [height + _GAP_HEIGHT for _, height in sizes]
    steps += [_PASSAGE_HEIGHT + _PASSAGE_GAP] * passages
    for i, c in enumerate(column):
        layer_heights[c] += steps[i]
        if i < len(sizes):
            widths[c] = max(widths[c], sizes[i][0])
    tallest = max(layer_heights)
    top = [_PADDING_PIXELS + (tallest - height) // 2 for height in layer_heights]
    left_edges = [
        _PADDING_PIXELS + width_before + _GAP_WIDTH * c
        for c, width_before in enumerate(itertools.accumulate(widths, initial=0))
    ]
    boxes: list[Box] = [(0, 0, 0, 0)] * len(column)
    for i in sorted(range(len(column)), key=position.__getitem__):
        c = column[i]
        boxes[i] = (left_edges[c], top[c], widths[c], heights[i])
        top[c] += steps[i]
    return (
        boxes,
        _PADDING_PIXELS * 2 + sum(widths) + _GAP_WIDTH * (columns - 1),
        tallest + 2 * _PADDING_PIXELS,
    )


def _curve(
    way: Sequence[int],
    boxes: Sequence[Box],
    beginnings: dict[int, str],
    start: int | None = None,
    end: int | None = None,
) -> str:
    """The SVG path from the right side of the first box of a way through passages to the left side
    of its last, at these heights, else in their middles. `beginnings` keeps the part up to each
    passage, because edges from one node share it."""
    first, *passages, last = way
    left, top, width, height = boxes[first]
    x = left + width
    y = top + height // 2 if start is None else start
    path = f"M{x} {y}"
    for point in passages:
        left, top, width, height = boxes[point]
        middle = top + height // 2
        if point not in beginnings:
            bend = (x + left) // 2
            beginnings[point] = f"{path}C{bend} {y} {bend} {middle} {left} {middle}h{width}"
        path, x, y = beginnings[point], left + width, middle
    left, top, _, height = boxes[last]
    bend, middle = (x + left - 1) // 2, top + height // 2 if end is None else end
    return f"{path}C{bend} {y} {bend} {middle} {left - 1} {middle}"
