"""Context sets: against a reference in plain Python, and as an embedding table like any other."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_lab.core import errors
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.features.vectors.pooled_members import MemberSets, pool_vectors
from tests.features.vectors.test_neighbor_graph import given_vectors
from tests.features.vectors.test_propagation import Read, vectors_of
from tests.sizes import examples

MEMBERS = "SELECT * FROM (VALUES ('t', 'a'), ('t', 'b'), ('t', 'a'), ('s', 'c'), ('s', 'nobody'), ('u', 'nobody')) m(target, member)"


@settings(max_examples=examples(150), deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 15)), max_size=60),
    st.sampled_from(["mean", "sum", "max"]),
    st.integers(0, 2**32 - 1),
)
def test_rows_are_those_of_the_definition_target_by_target(n, width, members, pool, seed):
    vectors = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    wanted, left_out = {}, 0
    for target in sorted({t for t, _ in members}):
        known = sorted({m for t, m in members if t == target and m < n})
        left_out += not known
        if known:
            wide = vectors[known].astype(np.float64)
            wanted[target] = (
                wide.sum(0) / len(known)
                if pool == "mean"
                else wide.sum(0)
                if pool == "sum"
                else wide.max(0)
            ).astype(np.float32)
    table = pa.table(
        {
            "target": pa.array([t for t, _ in members], pa.int32()),
            "member": pa.array([m for _, m in members], pa.int64()),
        }
    )
    sets = MemberSets(Matrix(pa.array(range(n)), vectors), Read(table))
    found = pool_vectors(vectors, sets, pool, "", None)
    assert sets.targets.to_pylist() == list(wanted) and sets.targets.type == pa.int32()
    np.testing.assert_allclose(
        found, np.array(list(wanted.values()), np.float32).reshape(len(wanted), width), rtol=1e-6
    )
    assert sets.counts == {
        "members_ignored": len({m for m in members if m[1] >= n}),
        "targets_left_out": left_out,
    }


@pytest.fixture
def some(ws: Any) -> Any:
    given_vectors(ws, "v", ["a", "b", "c"], [[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    ws.materialize("members", MEMBERS)
    return ws


@pytest.mark.parametrize(
    ("pool", "t"), [("mean", [0.5, 1.5]), ("sum", [1.0, 3.0]), ("max", [1.0, 3.0])]
)
def test_members_are_pooled_once_each_and_unknown_ones_are_counted(some, pool, t):
    table = some.context_set("c", "v", members="members", pool=pool)
    assert vectors_of(some, "c") == {"s": [1.0, 1.0], "t": t}
    assert table.manifest.counts == {"members_ignored": 2, "targets_left_out": 1}


def test_a_member_that_is_said_in_two_ways_counts_once(ws):
    given_vectors(ws, "v", [0.0, 1.0], [[1.0, 0.0], [0.0, 3.0]])
    members = "SELECT 't' AS target, m::DOUBLE AS member FROM (VALUES ('0'), ('-0'), ('1')) AS _(m)"
    ws.context_set("c", "v", members=members, pool="sum")
    assert vectors_of(ws, "c") == {"t": [1.0, 3.0]}


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
def test_zero_and_minus_zero_are_one_target_as_they_are_one_number_to_sql(some, kind):
    members = f"SELECT t::{kind} AS target, m AS member FROM (VALUES ('0', 'a'), ('-0', 'b'), ('-0', 'a'), ('1', 'c')) AS _(t, m)"
    some.context_set("c", "v", members=members, pool="sum")
    assert vectors_of(some, "c") == {0.0: [1.0, 3.0], 1.0: [1.0, 1.0]}


def test_the_table_is_an_embedding_table(some):
    table = some.context_set("c", "v", members=MEMBERS)
    assert (table.kind, table.key, table.dimensions, table.model_id, table.derived_from) == (
        "context_set",
        ["key"],
        2,
        "context-mean",
        "v",
    )
    assert [r[0] for r in some.search("c", [1.0, 1.0], k=1).fetchall()] == ["s"]
    assert some.neighbor_graph("g", "c", k=1).row_count == 2


def test_no_known_member_at_all_leaves_an_empty_table(some):
    for number, members in enumerate(
        [
            "SELECT 'x' AS target, 'nobody' AS member",
            "SELECT 'x' AS target, 'a' AS member WHERE false",
            "SELECT 'x' AS target, NULL AS member",
        ]
    ):
        table = some.context_set(f"c{number}", "v", members=members)
        assert table.row_count == 0 and len(some.search(table, [1.0, 0.0])) == 0


@pytest.mark.parametrize(
    ("target", "member", "said"),
    [
        ("NULL AS target", "'a'", "1 of 1 members"),
        ("[1] AS target", "'a'", "no order"),
        ("1 AS targets", "'a'", "no column 'target'"),
        ("'x' AS target", "7", "'member'.*int32"),
        ("'x' AS target", "['a']", "'member'.*list"),
    ],
)
def test_members_and_targets_that_do_not_fit_are_refused(some, target, member, said):
    with pytest.raises(errors.SchemaMismatch, match=said):
        some.context_set("c", "v", members=f"SELECT {target}, {member} AS member")
    assert not [r for r in some.recipes() if r.name == "c"]


def test_members_that_cancel_out_are_refused_by_their_target(some):
    given_vectors(some, "w", ["a", "b"], [[1.0, 0.0], [-1.0, 0.0]])
    with pytest.raises(errors.SchemaMismatch, match="'t' is all zeros"):
        some.context_set("c", "w", members="SELECT 't' AS target, unnest(['a', 'b']) AS member")


def test_sums_beyond_float32_are_refused(some):
    given_vectors(some, "w", ["a", "b"], [[3e38, 0.0], [3e38, 1.0]])
    with pytest.raises(errors.SchemaMismatch, match="not finite"):
        some.context_set(
            "c", "w", members="SELECT 't' AS target, unnest(['a', 'b']) AS member", pool="sum"
        )
    some.context_set("c", "w", members="SELECT 't' AS target, unnest(['a', 'b']) AS member")
    assert vectors_of(some, "c")["t"][1] == 0.5


@pytest.mark.parametrize("pool", ["average", None, "Mean"])
def test_an_unknown_pool_is_refused(some, pool):
    with pytest.raises(errors.InvalidArgument, match='"mean", "sum" or "max"'):
        some.context_set("c", "v", members="members", pool=pool)
