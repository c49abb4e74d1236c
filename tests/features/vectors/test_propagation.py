"""Propagation over a graph: against a reference in dense matrices, and as an embedding table like
any other."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.core.definitions import CanonicalStatement, StepInput
from jammi_lab.features.vectors import pooled_vectors as pooled
from jammi_lab.features.vectors.propagated_vectors import Hops, load_graph, propagate
from tests.features.vectors.test_neighbor_graph import given_vectors
from tests.sizes import examples

EDGES = "SELECT * FROM (VALUES ('a', 'b', 0.5::FLOAT), ('b', 'c', 0.25), ('c', 'a', 1.0), ('a', 'c', -0.5)) t(src, dst, similarity)"


def dense(
    x0: Any,
    edges: list[tuple[int, int, float]],
    hops: int,
    alpha: float,
    direction: str,
    weighting: str,
    output: str,
) -> Any:
    """The definition, with a whole matrix P."""
    n, x0 = len(x0), np.asarray(x0, np.float32).astype(np.float64)
    weight: dict[tuple[int, int], float] = {}
    for src, dst, similarity in edges:
        for row, other in {
            "out": [(src, dst)],
            "in": [(dst, src)],
            "both": [(src, dst), (dst, src)],
        }[direction]:
            if row != other:
                weight[row, other] = max(weight.get((row, other), 0.0), similarity, 0.0)
    p = np.zeros((n, n))
    for (row, other), w in weight.items():
        p[row, other] = w if weighting == "similarity" else 1
    if weighting == "uniform":
        p += np.eye(n)
    total = p.sum(1, keepdims=True)
    x, blocks = x0, [x0]
    for _ in range(hops):
        mean = np.where(total > 0, p @ x / np.where(total > 0, total, 1), x0)
        x = (1 - alpha) * mean + alpha * x0
        blocks.append(x)
    if output == "final":
        return x.astype(np.float32)
    return np.concatenate(
        [
            b / np.where((norm := np.linalg.norm(b, axis=1, keepdims=True)) > 0, norm, 1)
            for b in blocks
        ],
        1,
    ).astype(np.float32)


class Read:
    """What `load_graph` needs of an input."""

    def __init__(self, table: pa.Table) -> None:
        self.table_, self.step_input, self.prepared = (
            table,
            StepInput("edges", "", CanonicalStatement("", "", [])),
            self,
        )

    def run(self) -> "Read":
        return self

    def table(self) -> pa.Table:
        return self.table_


@settings(max_examples=examples(150), deadline=None)
@given(
    st.integers(1, 30), st.integers(1, 5), st.integers(0, 120), st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from(["out", "in", "both"]), st.sampled_from(["uniform", "similarity"]), st.sampled_from(["final", "concat"]), st.booleans(),
)  # fmt: skip
def test_rows_are_those_of_the_definition_in_whole_matrices(
    n,
    width,
    count,
    seed,
    hops,
    alpha,
    direction,
    weighting,
    output,
    small,
):
    rng = np.random.default_rng(seed)
    x0 = rng.standard_normal((n, width)).astype(np.float32)
    edges = [
        (int(s), int(d), float(np.float32(w)))
        for s, d, w in zip(
            rng.integers(0, n, count),
            rng.integers(0, n, count),
            rng.uniform(-0.5, 1, count),
            strict=True,
        )
    ]
    table = pa.table(
        {
            "src": pa.array([e[0] for e in edges], pa.int64()),
            "dst": pa.array([e[1] for e in edges], pa.int64()),
            "similarity": pa.array([e[2] for e in edges], pa.float32()),
        }
    )
    held = pooled.BLOCK_BYTES
    pooled.BLOCK_BYTES = 8 if small else held
    try:
        graph, ignored = load_graph(pa.array(range(n)), Read(table), "v", direction, weighting)
        found = propagate(x0, graph, Hops(hops, alpha, output == "concat"), "", None)
    finally:
        pooled.BLOCK_BYTES = held
    assert ignored == 0 and found.dtype == np.float32
    np.testing.assert_allclose(
        found, dense(x0, edges, hops, alpha, direction, weighting, output), rtol=2e-6, atol=1e-7
    )


def test_slabs_change_no_bit_of_the_result_and_terms_are_added_in_order():
    rng = np.random.default_rng(0)
    x, row = rng.standard_normal((500, 6)), np.sort(rng.integers(0, 4, 3000))
    other, weight = rng.integers(0, 500, 3000), rng.uniform(size=3000)
    for how, reduce in (("sum", np.add), ("max", np.maximum)):
        fold = pooled.GroupedRows(row, other, weight, 5, how)
        found = fold(x)
        assert np.array_equal(found, np.concatenate([fold(x[:, [c]]) for c in range(6)], 1))
        for number in range(4):
            terms = (x[other] * weight[:, None])[row == number]
            assert np.array_equal(found[number], reduce.accumulate(terms)[-1])


@pytest.fixture
def three(ws: Any) -> Any:
    given_vectors(ws, "v", ["a", "b", "c", "d"], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    ws.materialize("edges", EDGES)
    return ws


def vectors_of(ws: Any, name: str) -> dict[Any, list[float]]:
    return {key: [float(x) for x in vector] for key, vector in ws.table(name).read().fetchall()}


def test_the_table_is_an_embedding_table_and_input_of_every_producer_over_vectors(
    three,
):
    table = three.propagate("p", "v", "edges")
    assert (table.kind, table.key, table.dimensions, table.model_id) == (
        "graph_propagation",
        ["key"],
        2,
        "propagation-uniform",
    )
    assert table.read().columns == ["key", "vector"] and table.read().arrow()[
        "key"
    ].to_pylist() == ["a", "b", "c", "d"]
    assert len(three.search("p", three.vector("p", "a"), k=2)) == 2
    three.neighbor_graph("g", "p", k=1)
    three.propagate("q", "p", "g", weighting="similarity")
    three.context_set("c", "q", members="SELECT 'all' AS target, key AS member FROM jammi.p")
    assert (
        three.table("c").row_count == 1
        and [str(n.name) for n in three.lineage("c", direction="up").nodes][-1] == "c"
    )


def test_concat_is_as_wide_as_all_hops(three):
    table = three.propagate("p", "v", "edges", hops=2, output="concat")
    assert table.dimensions == len(three.vector("p", "a")) == 6


def test_edges_without_an_end_among_the_vectors_are_counted_and_left_out(three):
    table = three.propagate(
        "p",
        "v",
        "SELECT src, dst FROM jammi.edges UNION ALL SELECT 'a', 'zzz' UNION ALL SELECT NULL, 'a'",
        hops=1,
        alpha=0.0,
    )
    assert table.manifest.counts == {"edges_ignored": 2}
    assert vectors_of(three, "p") == vectors_of(
        three, three.propagate("q", "v", "edges", hops=1, alpha=0.0).name
    )


def test_keys_of_another_width_are_the_same_keys(ws):
    given_vectors(ws, "v", pa.array([1, 2], pa.uint8()), [[1.0, 0.0], [0.0, 1.0]])
    ws.propagate(
        "p",
        "v",
        "SELECT 1::BIGINT AS src, 2::SMALLINT AS dst UNION ALL SELECT 257, 2",
        hops=1,
        alpha=0.0,
    )
    assert vectors_of(ws, "p") == {1: [0.5, 0.5], 2: [0.0, 1.0]} and ws.table(
        "p"
    ).manifest.counts == {"edges_ignored": 1}
    with pytest.raises(errors.SchemaMismatch, match="Column 'src'") as refused:
        ws.propagate("q", "v", "SELECT 1::HUGEINT AS src, 2::BIGINT AS dst")
    assert "Cast it in SQL" in refused.value.hint


A_TO_B = "SELECT 'a' AS src, 'b' AS dst"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("edges", "said", "column"),
    [
        ("SELECT 'x' AS src, 'y' AS dst, 1.0 AS similarity", "No edge", "src"),
        ("SELECT 1 AS src, 2 AS dst, 1.0 AS similarity", "string", "src"),
        ("SELECT 'a' AS src, 'b' AS dest", "(?s)no column 'dst'.*dest", "dst"),
        (A_TO_B, "no column 'similarity'", "similarity"),
        *(
            (f"{A_TO_B}, {weight} AS similarity", "similarity", "similarity")
            for weight in ("NULL", "'nan'::FLOAT", "'inf'::DOUBLE", "'much'")
        ),
        (
            "SELECT 'a' AS src, unnest(['b', 'c']) AS dst, 1.7e308::DOUBLE AS similarity",
            "'a' is not finite",
            "vector",
        ),
    ],
)
def test_edges_that_do_not_fit_are_refused_by_their_column(three, edges, said, column):
    with pytest.raises(errors.SchemaMismatch, match=said) as refused:
        three.propagate("p", "v", edges, weighting="similarity")
    assert refused.value.column == column
    assert "p" not in [r.name for r in three.recipes()]


def test_vectors_that_cancel_out_are_refused_by_their_key(three):
    given_vectors(three, "w", ["a", "b"], [[1.0, 0.0], [-1.0, 0.0]])
    with pytest.raises(errors.SchemaMismatch, match="'a' is all zeros"):
        three.propagate("p", "w", A_TO_B, hops=1, alpha=0.0)
    assert not [t for t in three.tables(status=None) if t.status == "building"]


def test_what_makes_no_sense_is_refused(three):
    for told in (
        {"hops": 0},
        {"hops": 4},
        {"hops": 1.0},
        {"hops": True},
        {"alpha": -0.1},
        {"alpha": 1.1},
        {"alpha": float("nan")},
        {"alpha": "0.1"},
        {"direction": "up"},
        {"weighting": "cosine"},
        {"output": "all"},
    ):
        with pytest.raises(errors.InvalidArgument):
            three.propagate("p", "v", "edges", **told)


def test_a_weight_that_is_not_read_moves_nothing(three):
    three.propagate("p", "v", "edges")
    three.propagate("w", "v", "edges", weighting="similarity")
    three.materialize("edges", EDGES.replace("0.5::FLOAT", "0.75::FLOAT"))
    assert three.staleness("p") == jl.Fresh() and isinstance(three.staleness("w"), jl.Stale)


@pytest.fixture
def notes(ws: Any, tmp_path: Any) -> Any:
    (tmp_path / "n.csv").write_text(
        "id,text,year\n1,red tomatoes,2020\n2,tomatoes in a sauce,2021\n3,a red bicycle,2022\n"
    )
    ws.sources.add("n", tmp_path / "n.csv")
    ws.embed("v", "n", key="id", text="text", model="hashing")
    ws.neighbor_graph("g", "v", k=1)
    ws.propagate("p", "v", "g")
    ws.propagate("q", "p", "g")
    return ws


@pytest.mark.parametrize("table", ["p", "q"])
def test_behind_propagated_vectors_stand_the_rows_whose_vectors_they_were(notes, tmp_path, table):
    found = notes.search(table, row=1, k=2, select="text", where="year > 2020")
    assert found.columns == ["key", "rank", "similarity", "text", "source_missing"] and {
        r[3] for r in found.fetchall()
    } == {
        "tomatoes in a sauce",
        "a red bicycle",
    }
    (tmp_path / "n.csv").write_text("id,text,year\n1,red tomatoes,2020\n3,a red bicycle,2022\n")
    assert {r[0]: r[-1] for r in notes.search(table, row=1, k=2).fetchall()} == {2: True, 3: False}
    assert notes.sql(
        f"SELECT key FROM neighbors('{table}', 1) WHERE source_missing"
    ).fetchall() == [(2,)]


def test_propagated_vectors_have_no_encoder_of_their_own_and_where_a_text_can_be_searched_is_said(
    notes,
):
    notes.context_set("c", "p", members="SELECT 1 AS target, 2 AS member")
    for table in ("p", "c"):
        with pytest.raises(errors.ModelNotFound, match="no encoder") as of_search:
            notes.search(table, "tomatoes")
        with pytest.raises(errors.ModelNotFound, match="no encoder") as in_from:
            notes.sql(f"SELECT * FROM search('{table}', 'tomatoes')")
        assert all("Text queries work on 'v'" in each.value.hint for each in (of_search, in_from))


def test_when_the_first_vectors_are_gone_their_derived_ones_are_still_searched(notes):
    notes.drop("v", force=True)
    assert len(notes.search("q", row=1, k=2)) == 2
