"""Positions of a graph: columns by longest path, few crossings, the same from run to run."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.core.errors import DependencyCycle
from jammi_lab.features.pictures.box_layout import layout_boxes
from jammi_lab.features.pictures.graph_layout import LayeredGraph, assign_layers, wrap_layers

edges = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(
            st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1]),
            max_size=60,
        ),
    )
)


def crossings(column: list[int], place: list[int], graph: list[tuple[int, int]]) -> int:
    return sum(
        column[a] == column[c]
        and column[b] == column[d]
        and (place[a] - place[c]) * (place[b] - place[d]) < 0
        for i, (a, b) in enumerate(graph)
        for c, d in graph[:i]
    )


def test_a_diamond_has_three_columns():
    assert assign_layers(4, [(0, 1), (0, 2), (1, 3), (2, 3)]) == ([0, 1, 1, 2], [0, 0, 1, 0])


def test_no_nodes_are_no_columns():
    assert assign_layers(0, []) == ([], [])


def test_a_cycle_is_a_typed_error():
    with pytest.raises(DependencyCycle):
        assign_layers(3, [(0, 1), (1, 2), (2, 1)])


@given(edges)
def test_every_edge_goes_to_a_later_column_and_no_place_is_taken_twice(graph):
    size, pairs = graph
    column, place = assign_layers(size, pairs)
    assert all(column[a] < column[b] for a, b in pairs)
    assert len(set(zip(column, place, strict=True))) == size
    for c in set(column):
        assert sorted(p for p, k in zip(place, column, strict=True) if k == c) == list(
            range(column.count(c))
        )


@given(edges)
def test_the_order_and_repetition_of_edges_change_nothing(graph):
    size, pairs = graph
    shuffled = pairs * 2
    random.Random(1).shuffle(shuffled)
    assert assign_layers(size, pairs) == assign_layers(size, shuffled)


def test_the_layers_of_a_cycle_are_a_typed_error():
    with pytest.raises(DependencyCycle):
        LayeredGraph(2, [(0, 1), (1, 0)])


@given(edges, st.integers(1, 6))
def test_long_layers_are_split_into_several_and_edges_still_lead_to_later_ones(graph, most):
    size, pairs = graph
    column, place = assign_layers(size, pairs)
    wrapped = wrap_layers(column, place, most)
    assert all(wrapped[a] < wrapped[b] for a, b in pairs)
    assert all(wrapped.count(c) <= most for c in set(wrapped))
    assert all(  # what was left of something stays left of it
        wrapped[a] < wrapped[b] for a in range(size) for b in range(size) if column[a] < column[b]
    )


def wide_graph(size: int = 150) -> list[tuple[int, int]]:
    """Four layers, of which the longest has a third of the nodes."""
    found, starts = random.Random(5), [0, 10, 50, 100, size]
    return sorted(
        {
            (found.randrange(starts[layer - 1], starts[layer]), node)
            for layer in range(1, 4)
            for node in range(starts[layer], starts[layer + 1])
            for _ in range(2)
        }
    )


def test_the_layout_of_many_tables_uses_the_width_and_no_two_boxes_overlap():
    pairs, sizes = wide_graph(), [(100 + i % 3, 62) for i in range(150)]
    tower = layout_boxes(sizes, pairs)
    spread = layout_boxes(sizes, pairs, 2.2)
    assert tower.height > 3 * tower.width
    assert 1.4 < spread.width / spread.height < 3.3

    def scale(layout):
        return min(1366 / layout.width, 418 / layout.height)

    assert scale(spread) > 2 * scale(tower)
    for i, (x, y, w, h) in enumerate(spread.points):
        for x2, y2, w2, h2 in spread.points[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_a_small_graph_is_laid_out_by_layers_whatever_the_area():
    sizes, pairs = [(100, 62)] * 8, [(0, i) for i in range(1, 8)]
    assert layout_boxes(sizes, pairs, 2.2) == layout_boxes(sizes, pairs)
