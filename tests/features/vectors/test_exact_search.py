import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.features.vectors import exact_search as exact
from jammi_lab.features.vectors.exact_search import ExactSearch, margin
from tests.features.vectors.drawn import normal
from tests.sizes import examples


def naive(vectors, query, k, allow=None, order=None):
    """Row after row in float64, then sorted by (−similarity, place of the key)."""
    q = query.astype(np.float64)
    found = []
    for i, row in enumerate(vectors.astype(np.float64)):
        if allow is None or allow[i]:
            similarity = (row * q).sum() / (np.sqrt((row * row).sum()) * np.sqrt((q * q).sum()))
            found.append(
                (-np.float32(np.clip(similarity, -1, 1)), i if order is None else order[i], i)
            )
    found.sort()
    return [i for _, _, i in found[:k]], [-s for s, _, _ in found[:k]]


def check_agreement(vectors, queries, k, allow=None, order=None):
    hits = ExactSearch(vectors, order).search(queries, k, allow=allow)
    for at, query in enumerate(queries):
        rows, similarities = naive(vectors, query, k, allow, order)
        assert hits.rows[at].tolist() == rows
        assert hits.similarities[at].tobytes() == np.array(similarities, np.float32).tobytes()
    assert hits.rows.dtype == np.int64 and hits.similarities.dtype == np.float32


@st.composite
def cases(draw):
    """Vectors with many ties: drawn from a few, some scaled, some moved by one unit in the last
    place."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    d, n = draw(st.sampled_from([1, 2, 3, 7, 8, 16, 33, 384])), draw(st.integers(1, 80))
    few = normal(rng, draw(st.integers(1, 6)), d)
    vectors = few[rng.integers(0, len(few), n)]
    match draw(st.sampled_from(["ties", "scaled", "near", "small integers", "spread"])):
        case "scaled":
            vectors = vectors * np.float32(2) ** rng.integers(-20, 20, (n, 1))
        case "near":
            vectors = np.where(
                rng.random((n, d)) < 0.1, np.nextafter(vectors, np.float32(9)), vectors
            )
        case "small integers":
            vectors = rng.integers(-2, 3, (n, d)).astype(np.float32)
            vectors[~vectors.any(1), 0] = 1
        case "spread":
            vectors = vectors * np.float32(10) ** rng.integers(-30, 30, (n, 1))
    vectors = np.ascontiguousarray(vectors, np.float32)
    vectors[~np.isfinite(vectors).all(1) | ~vectors.any(1)] = 1
    queries = np.concatenate([vectors[:1], few[:1], normal(rng, 1, d)])
    k = draw(st.integers(0, n + 2))
    allow = draw(st.none() | st.floats(0, 1).map(lambda p: rng.random(n) < p))
    order = draw(st.none() | st.just(rng.permutation(n)))
    return vectors, queries, k, allow, order


@given(cases())
def test_the_answer_is_that_of_a_naive_float64_reference_bit_by_bit(case):
    check_agreement(*case)


@settings(max_examples=examples(15))
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_rows_nearer_to_each_other_than_a_float32_product_can_tell_are_in_order(seed, k):
    rng = np.random.default_rng(seed)
    base, query = rng.standard_normal((2, 384))
    # almost at a right angle, where similarities are small, float32 holds them finely, and the
    # errors of a product are large beside them
    query -= base * (base @ query) / (base @ base) * 0.999
    vectors = (base * (1 + 3e-7 * rng.standard_normal((600, 384)))).astype(np.float32)
    query = query.astype(np.float32)
    assert np.argsort(-(vectors @ query), kind="stable").tolist() != naive(vectors, query, 600)[0]
    check_agreement(vectors, query[None], k)


def test_the_margin_bounds_what_a_float32_product_is_off_by():
    rng = np.random.default_rng(5)
    for d in (2, 17, 384, 1536):
        vectors = np.abs(rng.standard_normal((2000, d))).astype(np.float32)
        it = ExactSearch(vectors)
        query = np.abs(rng.standard_normal(d)).astype(np.float32)
        unit = (query / np.linalg.norm(query.astype(np.float64))).astype(np.float32)
        sequential = np.zeros(2000, np.float32)
        for j in range(d):
            sequential += vectors[:, j] * unit[j]  # the worst order there is
        rows = np.arange(2000)
        found = exact.similarities(vectors, it.norms, query[None], 0 * rows, rows)
        off = np.abs(sequential * it.inverse_norms - found)
        assert off.max() <= margin(d)


def counted(monkeypatch):
    """How many rows were computed in float64."""
    rows = []
    whole = exact.similarities
    monkeypatch.setattr(
        exact, "similarities", lambda *given: (rows.append(len(given[-1])), whole(*given))[1]
    )
    return rows


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_vectors_that_float32_products_cannot_hold_are_all_computed_in_float64(monkeypatch, scale):
    rows = counted(monkeypatch)
    vectors = normal(1, 300, 8)
    vectors[7] *= np.float32(scale)
    check_agreement(vectors, vectors[:1], 3)
    assert rows == [300]


def test_a_product_outside_its_margin_is_not_believed(monkeypatch):
    rows = counted(monkeypatch)
    vectors = normal(1, 300, 8)
    it = ExactSearch(vectors)
    it.inverse_norms = it.inverse_norms * np.float32(1.01)  # what a BLAS in half precision would do
    hits = it.search(vectors[0], 3)
    assert hits.rows[0].tolist() == naive(vectors, vectors[0], 3)[0] and rows[-1] == 300


def test_equal_rows_get_equal_bits_whatever_their_place_the_block_or_the_threads(monkeypatch):
    rng = np.random.default_rng(3)
    row = normal(rng, 384)
    query = normal(rng, 384)
    seen = set()
    for n, threads in itertools.product((1, 2, 3, 17, 64, 75, 1000), (1, 2)):
        vectors = normal(rng, n, 384)
        vectors[rng.integers(0, n, 5)] = row
        for rescore in (1, 1000, 1 << 15):
            monkeypatch.setattr(exact, "RESCORE_CHUNK_SIZE", rescore)
            with threadpool_limits(threads, "blas"):
                hits = ExactSearch(vectors).search(query, n)
            seen |= {
                s.tobytes()
                for i, s in zip(hits.rows[0], hits.similarities[0], strict=True)
                if np.array_equal(vectors[i], row)
            }
    assert len(seen) == 1


def test_the_block_of_queries_does_not_show(monkeypatch):
    rng = np.random.default_rng(4)
    vectors, queries = (
        normal(rng, 500, 32),
        normal(rng, 9, 32),
    )
    whole = ExactSearch(vectors).search(queries, 5)
    monkeypatch.setattr(exact, "MAX_BLOCK_BYTES", 4 * 500 * 2)
    blocks = ExactSearch(vectors).search(queries, 5)
    assert np.array_equal(whole.rows, blocks.rows) and np.array_equal(
        whole.similarities, blocks.similarities
    )
    one = [ExactSearch(vectors).search(query, 5) for query in queries]
    assert np.array_equal(whole.rows, np.concatenate([h.rows for h in one]))


@pytest.mark.parametrize("query", [[1, 2], [np.nan, 1, 1], [0, 0, 0]])
def test_a_bad_query_is_refused_even_where_nothing_could_be_found(query):
    with pytest.raises(SchemaMismatch):
        ExactSearch(np.empty((0, 3), np.float32)).search(query, 0)


@pytest.mark.parametrize("mask", [np.ones(2, bool), np.ones(3, int), [0, 1, 2]])
def test_a_mask_of_another_shape_or_type_is_refused(mask):
    with pytest.raises(InvalidArgument, match="3 booleans"):
        ExactSearch(np.eye(3, dtype=np.float32)).search([1, 2, 3], 1, allow=mask)
