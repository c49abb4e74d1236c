"""Positions of a graph: columns by longest path, few crossings, the same from run to run."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.core.errors import DependencyCycle
from jammi_lab.freshness.graph_layout import assign_layers

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


def test_sweeps_leave_fewer_crossings_than_the_order_of_arrival():
    found = random.Random(3)
    pairs = sorted({(found.randrange(10), 10 + found.randrange(10)) for _ in range(14)})
    before, after = assign_layers(20, pairs, sweeps=0), assign_layers(20, pairs)
    assert crossings(*after, pairs) < crossings(*before, pairs)
