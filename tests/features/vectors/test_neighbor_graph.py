"""Neighbour graphs: against a naive reference, with floors and both directions, and as tables like
any other."""

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.core import errors
from jammi_lab.features.vectors import all_pairs as nearest
from jammi_lab.features.vectors.all_pairs import nearest_others
from jammi_lab.features.vectors.exact_search import ExactSearch
from jammi_lab.features.vectors.index.hnsw import AnnIndex
from tests.features.vectors import test_exact_search
from tests.sizes import examples
from tests.store.lab import flip


def given_vectors(ws: Any, name: str, keys: Any, vectors: Any) -> Any:
    rows = pa.table(
        {
            "id": keys,
            "vector": pa.array(
                list(np.asarray(vectors, np.float32)), pa.list_(pa.float32(), len(vectors[0]))
            ),
        }
    )
    return ws.import_embeddings(name, rows)


def given_one_and_none(ws: Any) -> None:
    """The tables `one`, of one row, and `none`, of none."""
    given_vectors(ws, "one", ["a"], [[1.0, 0.0]])
    ws.import_embeddings(
        "none",
        pa.table(
            {"id": pa.array([], pa.string()), "vector": pa.array([], pa.list_(pa.float32(), 3))}
        ),
    )


def naive(vectors: Any, k: int) -> list[tuple[int, int, int, float]]:
    """src, dst, rank, similarity by the definition: what a search by each row finds of the others."""
    edges = []
    for row, vector in enumerate(vectors):
        others = np.arange(len(vectors)) != row
        found, similarities = test_exact_search.naive(vectors, vector, k, others)
        edges += [
            (row, other, rank, float(similarity))
            for rank, (other, similarity) in enumerate(zip(found, similarities, strict=True), 1)
        ]
    return edges


def edges_of(table: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in table.read().fetchall()]


@pytest.fixture
def few(ws: Any) -> Any:
    """Forty rows, some of them equal."""
    draw = np.random.default_rng(7)
    vectors = draw.integers(-2, 3, (40, 4)).astype(np.float32)
    vectors[~vectors.any(1)] = 1
    given_vectors(ws, "v", list(range(40)), vectors)
    ws.naive = naive(vectors, 5)
    return ws


# -- what the edges are ----------------------------------------------------------------------------


@st.composite
def matrices(draw: Any) -> Any:
    n, width = draw(st.integers(1, 60)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    match draw(st.sampled_from(["few values", "normal", "one value", "scales", "copies"])):
        case "few values":
            vectors = rng.integers(-1, 2, (n, width)).astype(np.float32)
        case "normal":
            vectors = rng.standard_normal((n, width)).astype(np.float32)
        case "one value":
            vectors = np.ones((n, width), np.float32)
        case "scales":
            vectors = (
                rng.standard_normal((n, width)) * 10.0 ** rng.integers(-25, 18, (n, 1))
            ).astype(np.float32)
        case _:
            vectors = rng.standard_normal((3, width)).astype(np.float32)[rng.integers(0, 3, n)]
    vectors[~vectors.any(1)] = 1
    return vectors


@settings(max_examples=examples(120), deadline=None)
@given(matrices(), st.integers(1, 70), st.sampled_from([16, 4096]))
def test_the_nearest_others_are_those_of_a_naive_reference_bit_by_bit(vectors, k, block):
    before, nearest.MAX_BLOCK_BYTES = nearest.MAX_BLOCK_BYTES, block * len(vectors)
    try:
        found = [
            (block.first + i, j, rank, float(s))
            for block in nearest_others(ExactSearch(vectors), k)
            for i, (rows, similarities) in enumerate(
                zip(block.hits.rows.tolist(), block.hits.similarities, strict=True)
            )
            for rank, (j, s) in enumerate(zip(rows, similarities, strict=True), 1)
        ]
    finally:
        nearest.MAX_BLOCK_BYTES = before
    assert found == naive(vectors, k)


def test_many_rows_in_several_blocks_and_threads_have_the_neighbours_that_a_search_finds():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((30, 24))
    vectors = (centres[rng.integers(0, 30, 3000)] + 0.3 * rng.standard_normal((3000, 24))).astype(
        np.float32
    )
    vectors[::7] = vectors[0]
    exact = ExactSearch(vectors)
    found = np.concatenate([block.hits.rows for block in nearest_others(exact, 12)])
    for row in range(0, 3000, 61):
        allow = np.ones(3000, np.bool_)
        allow[row] = False
        assert found[row].tolist() == exact.search(vectors[row], 12, allow=allow).rows[0].tolist()


def test_a_graph_has_the_columns_rows_and_order_that_it_is_said_to_have(few):
    table = few.neighbor_graph("g", "v", k=5)
    assert edges_of(table) == few.naive
    assert [(c.name, c.type) for c in table.manifest.columns] == [
        ("src", "BIGINT"),
        ("dst", "BIGINT"),
        ("rank", "INTEGER"),
        ("similarity", "FLOAT"),
    ]
    assert (table.kind, table.key, table.derived_from, table.source_id, table.model_id) == (
        "neighbor_graph",
        ["src", "dst"],
        "v",
        None,
        None,
    )


@pytest.mark.parametrize("exact", [True, False, None])
def test_exact_and_approximate_graphs_of_few_rows_are_one(few, exact):
    assert edges_of(few.neighbor_graph("g", "v", k=5, exact=exact)) == few.naive


def test_above_the_setting_none_means_the_index_and_below_every_pair(few, monkeypatch):
    from jammi_lab.features.vectors import neighbor_edges as neighbors

    asked = []
    monkeypatch.setattr(
        neighbors, "approximate_blocks", lambda *a: asked.append("index") or iter(())
    )
    few.neighbor_graph("g", "v")
    assert asked == []
    few.settings.set("vectors.exact_max_rows", 39)
    few.neighbor_graph("g", "v")
    assert asked == ["index"]


def test_the_setting_is_part_of_the_definition_of_a_graph_that_goes_by_it_and_of_no_other(
    few,
):
    chosen, exact = few.neighbor_graph("g", "v"), few.neighbor_graph("h", "v", exact=True)
    few.settings.set("vectors.exact_max_rows", 1000)
    assert few.staleness("g") == jl.Fresh()
    assert few.neighbor_graph("g", "v").definition_hash != chosen.definition_hash
    assert few.neighbor_graph("h", "v", exact=True).definition_hash == exact.definition_hash


def test_an_approximate_graph_misses_few_edges_and_gives_none_a_wrong_similarity(ws):
    rng = np.random.default_rng(3)
    vectors = (
        rng.standard_normal((20, 16))[rng.integers(0, 20, 1500)]
        + 0.5 * rng.standard_normal((1500, 16))
    ).astype(np.float32)
    given_vectors(ws, "v", list(range(1500)), vectors)
    exact, found = (
        {(s, d): x for s, d, _, x in edges_of(ws.neighbor_graph("g", "v", exact=e))}
        for e in (True, False)
    )
    shared = exact.keys() & found.keys()
    assert len(shared) >= 0.99 * len(exact) and all(exact[e] == found[e] for e in shared)


def test_an_index_gives_a_graph_as_many_candidates_as_the_setting_says(few, monkeypatch):
    widths, plain = [], AnnIndex.candidates
    monkeypatch.setattr(
        AnnIndex,
        "candidates",
        lambda index, units, count, **how: (
            widths.append(count) or plain(index, units, count, **how)
        ),
    )
    for oversample in (1, 3):
        few.settings.set("vectors.oversample", oversample)
        few.neighbor_graph("g", "v", k=11, exact=False, cache="bypass")
    assert widths == [12, 36]  # the row itself is one more hit


@pytest.mark.every_case
@pytest.mark.parametrize("mutual", [False, True])
@pytest.mark.parametrize("floor", [None, -1, 0.0, 0.5, 0.9, 1.0, 0.8164966])
def test_mutual_and_a_floor_leave_out_edges_of_the_unpruned_list_and_ranks_as_they_were(
    few, floor, mutual
):
    pairs = {(s, d) for s, d, _, _ in few.naive}
    assert edges_of(few.neighbor_graph("g", "v", k=5, min_similarity=floor, mutual=mutual)) == [
        e
        for e in few.naive
        if (floor is None or np.float32(e[3]) >= np.float32(floor))
        and (not mutual or (e[1], e[0]) in pairs)
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "told", [{"k": 0}, {"min_similarity": 2}, {"min_similarity": 1e300}, {"k": 0, "mutual": True}]
)
def test_what_leaves_nothing_leaves_an_empty_table(few, told):
    table = few.neighbor_graph("g", "v", **told)
    assert table.row_count == 0 and table.read().columns == ["src", "dst", "rank", "similarity"]


@pytest.mark.parametrize("k", [39, 40, 1000])
def test_k_beyond_the_number_of_rows_gives_all_others(few, k):
    assert few.neighbor_graph("g", "v", k=k).row_count == 40 * 39


@pytest.mark.parametrize("mutual", [True, False])
def test_one_row_has_no_neighbours_and_neither_has_none(ws, mutual):
    given_one_and_none(ws)
    assert [
        ws.neighbor_graph("g", t, mutual=mutual, exact=e).row_count
        for t in ("one", "none")
        for e in (True, False)
    ] == [0] * 4


def test_keys_keep_their_type(ws):
    for name, keys in {
        "texts": ["b", "a"],
        "dates": [datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)],
        "bytes": [b"\0", b"\xff"],
    }.items():
        given_vectors(ws, name, pa.array(keys), [[1.0, 0.0], [1.0, 1.0]])
        schema = ws.neighbor_graph("g", name).read().schema
        assert (
            schema.field("src").type
            == schema.field("dst").type
            == ws.table(name).read().schema.field("key").type
        )


# -- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        {"k": -1},
        {"k": 2.5},
        {"k": True},
        {"min_similarity": float("nan")},
        {"min_similarity": "0.5"},
        {"min_similarity": 10**400},
        {"exact": "yes"},
        {"exact": 0},
        {"exact": 1.0},
        {"mutual": 1},
    ],
    ids=lambda told: f"{told!s:.40}",
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(few, told):
    with pytest.raises(errors.InvalidArgument):
        few.neighbor_graph("g", "v", **told)
    assert "g" not in [r.name for r in few.recipes()]


def test_truths_of_numpy_are_truths(few):
    plain = few.neighbor_graph("g", "v", exact=False, mutual=True)
    assert (
        few.neighbor_graph("h", "v", exact=np.bool_(0), mutual=np.bool_(1)).definition_hash
        == plain.definition_hash
    )


def test_a_table_without_vectors_is_refused_and_says_what_it_is(few):
    few.materialize("t", "SELECT 1 AS key")
    few.neighbor_graph("g", "v")
    few.sources.add("s", pa.table({"key": [1]}))
    for name, what in {"t": "sql", "g": "neighbor_graph", "s": "no embedding table"}.items():
        with pytest.raises(errors.SchemaMismatch, match=what) as refused:
            few.neighbor_graph("h", name)
        assert (refused.value.table, refused.value.column) == (name, "vector")


@pytest.mark.parametrize("name", ["v", "V", "jammi.v", 'jammi."v"'])
def test_a_table_is_found_by_its_name_in_each_of_its_forms(few, name):
    assert few.neighbor_graph("g", name, k=5).row_count == len(few.naive)


def test_a_result_table_stands_for_its_recipe_and_an_older_one_for_itself(few):
    old = few.table("v")
    assert [i.name for i in few.neighbor_graph("g", old).inputs] == ["v"]
    given_vectors(few, "v", [1, 2], [[1.0, 2.0], [2.0, 1.0]])
    assert [i.name for i in few.neighbor_graph("g", old).inputs] == [old.table_name]


# -- as a table like any other ---------------------------------------------------------------------


def test_a_graph_of_a_graph_of_itself_is_a_circle(few):
    few.neighbor_graph("g", "v")
    few.propagate("p", "v", "g")
    few.neighbor_graph("h", "p")
    with pytest.raises(errors.DependencyCycle) as circle:
        few.neighbor_graph("g", "p")
    assert "p" in circle.value.path and few.staleness("g") == jl.Fresh()


def test_progress_tells_rows_done_of_all(few):
    told: list[Any] = []
    few.neighbor_graph("g", "v", progress=told.append)
    assert ("neighbours g", 40, 40, "rows") in [(p.stage, p.done, p.total, p.unit) for p in told]


def test_damaged_vectors_are_not_read(few):
    flip(few.table("v").path, 200)
    with pytest.raises(errors.TableDamaged):
        few.neighbor_graph("g", "v")
