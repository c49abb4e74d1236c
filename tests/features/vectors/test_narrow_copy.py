"""The narrow copy rules out rows and never one of the best: what exact search answers with it has
the bits of what it answers without it."""

import numkong
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_lab.features.vectors import exact_search
from jammi_lab.features.vectors.exact_search import ExactSearch
from jammi_lab.features.vectors.narrow_copy import MAX_WIDTH, NarrowCopy
from tests.sizes import examples


@pytest.fixture
def always_narrow(monkeypatch):
    """Vectors of every size are narrowed."""
    monkeypatch.setattr(exact_search, "MIN_NARROWED_BYTES", 0)
    monkeypatch.setattr(exact_search, "MIN_NARROWED_WIDTH", 1)


@pytest.fixture
def products(monkeypatch):
    """The numbers of rows that products of integers were made of."""
    counts, dot = [], numkong.dot

    def counted(query, rows, **options):
        counts.append(len(rows))
        return dot(query, rows, **options)

    monkeypatch.setattr(numkong, "dot", counted)
    return counts


def normal(rng, n, d):
    return rng.standard_normal((n, d)).astype(np.float32)


def aligned(rng, n, d):
    return (normal(rng, n, d) * np.float32(0.05) + normal(rng, 1, d)).astype(np.float32)


def nearly_equal(rng, n, d):
    return (normal(rng, 1, d) * (1 + rng.integers(-2, 3, (n, d)) * 2.0**-23)).astype(np.float32)


def with_one_large_component(rng, n, d):
    vectors = normal(rng, n, d)
    vectors[np.arange(n), rng.integers(0, d, n)] *= 1000
    return vectors


def sparse(rng, n, d):
    vectors = normal(rng, n, d) * (rng.random((n, d)) < 0.05)
    vectors[~vectors.any(1), 0] = 1
    return vectors.astype(np.float32)


def of_all_lengths(rng, n, d):
    return (normal(rng, n, d) * np.float32(2) ** rng.integers(-58, 56, (n, 1))).astype(np.float32)


def equal(rng, n, d):
    return np.repeat(normal(rng, 1, d), n, axis=0)


def with_tiny_components(rng, n, d):
    vectors = normal(rng, n, d) * np.float32(2) ** rng.integers(-140, 0, (n, d))
    vectors[:, 0] = np.where(rng.random(n) < 0.5, 1, -1)
    return vectors.astype(np.float32)


KINDS = (
    normal,
    aligned,
    nearly_equal,
    with_one_large_component,
    sparse,
    of_all_lengths,
    equal,
    with_tiny_components,
)


@settings(max_examples=examples(60), deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from([1, 2, 7, 64, 384, 1000]),
    st.integers(1, 300),
    st.integers(0, 2**32 - 1),
)
def test_every_similarity_is_within_its_bounds(kind, d, n, seed):
    rng = np.random.default_rng(seed)
    vectors = kind(rng, n, d)
    exact = ExactSearch(vectors)
    narrow = NarrowCopy(vectors, exact.inverse_norms)
    for query in (normal(rng, 1, d)[0], vectors[n // 2], -vectors[0], kind(rng, 1, d)[0]):
        wide = query.astype(np.float64)
        found = narrow.candidates(wide / np.linalg.norm(wide), n)
        assert found is not None and found.rows.tolist() == list(range(n))
        similarities = exact.similarities(query, found.rows)
        assert (found.lowest <= similarities).all() and (similarities <= found.highest).all()


@settings(max_examples=examples(40), deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from([1, 3, 33, 384]),
    st.integers(1, 3000),
    st.integers(1, 40),
    st.sampled_from([None, "half", "first", "most"]),
    st.integers(0, 2**32 - 1),
)
def test_answers_have_the_same_bits_with_and_without_it(kind, d, n, k, allowed, seed):
    rng = np.random.default_rng(seed)
    vectors = kind(rng, n, d)
    vectors[n // 2 :: 7] = vectors[0]  # ties
    order, queries = rng.permutation(n), np.concatenate([normal(rng, 2, d), vectors[:1]])
    mask = {
        None: None,
        "half": rng.random(n) < 0.5,
        "first": np.arange(n) < n // 3,
        "most": rng.random(n) < 0.95,
    }[allowed]
    without = ExactSearch(vectors, order).search(queries, k, allow=mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_search, "MIN_NARROWED_BYTES", 0)
        patch.setattr(exact_search, "MIN_NARROWED_WIDTH", 1)
        exact = ExactSearch(vectors, order)
        for _ in range(3):
            found = exact.search(queries, k, allow=mask)
            assert found.rows.tolist() == without.rows.tolist()
            assert found.similarities.tobytes() == without.similarities.tobytes()


@pytest.mark.parametrize("kind", [normal, aligned])
def test_few_rows_are_left_of_vectors_without_structure(kind):
    rng = np.random.default_rng(0)
    vectors, queries = np.split(kind(rng, 20_010, 384), [20_000])
    narrow = NarrowCopy(vectors, ExactSearch(vectors).inverse_norms)
    assert narrow.nbytes < vectors.nbytes * 0.27
    for query in queries.astype(np.float64):
        found = narrow.candidates(query / np.linalg.norm(query), 10)
        assert found is not None and 10 <= len(found.rows) < 200


def test_it_is_made_at_the_second_search_with_few_queries(always_narrow, products):
    vectors = normal(np.random.default_rng(0), 2000, 384)
    exact, made = ExactSearch(vectors), list[bool]()
    size = exact.nbytes
    for queries in (vectors[:20], vectors[:1], vectors[:20], vectors[:2]):
        products.clear()
        exact.search(queries, 5)
        made.append(exact.nbytes > size)
    assert made == [False, False, False, True]
    assert products.count(2000) == 2  # one for each query
    products.clear()
    exact.search(vectors[:1], 5, allow=np.arange(2000) < 100)
    assert products == []  # the few rows are compared alone


def test_a_small_table_is_not_narrowed(products):
    vectors = normal(np.random.default_rng(0), 2000, 384)
    exact = ExactSearch(vectors)
    for _ in range(3):
        exact.search(vectors[0], 5)
    assert products == []


def test_large_copies_are_read_by_several_threads(always_narrow, monkeypatch, products):
    from jammi_lab.features.vectors import narrow_copy

    vectors = normal(np.random.default_rng(0), 2001, 384)
    exact = ExactSearch(vectors)
    expected = exact.search(vectors[7], 5)
    monkeypatch.setattr(narrow_copy, "MIN_PART_BYTES", 1 << 17)
    monkeypatch.setattr(narrow_copy, "MAX_CALL_BYTES", 1 << 17)
    monkeypatch.setattr(narrow_copy, "usable_cores", lambda: 3)
    products.clear()
    found = exact.search(vectors[7], 5)
    assert found.rows.tolist() == expected.rows.tolist()
    parts = [rows for rows in products if rows != 16]  # those of the test of the kernel
    assert sum(parts) == 2001 and len(parts) == 6 and max(parts) <= (1 << 17) // 384 + 1


def test_a_copy_that_leaves_too_many_rows_is_given_up(always_narrow, products):
    rng = np.random.default_rng(0)
    vectors = normal(rng, 2000, 384)
    vectors[:, 0] = np.where(rng.random(2000) < 0.5, 1000, -1000)  # takes all of the integers
    query = normal(rng, 1, 384)[0]
    exact = ExactSearch(vectors)
    expected = exact.search(query, 5)
    read = list[bool]()
    for _ in range(5):
        products.clear()
        found = exact.search(query, 5)
        read.append(2000 in products)
        assert found.rows.tolist() == expected.rows.tolist()
    assert read == [True, True, True, False, False]


def test_a_kernel_that_saturates_is_not_used(always_narrow, monkeypatch):
    def saturating(query, rows, out):
        out[:] = np.clip(rows.astype(np.int64) @ query.astype(np.int64), -(2**15), 2**15 - 1)

    monkeypatch.setattr(numkong, "dot", saturating)
    vectors = normal(np.random.default_rng(0), 2000, 383)
    assert not NarrowCopy(vectors, ExactSearch(vectors).inverse_norms).is_exact
    exact = ExactSearch(vectors)
    for row in (1, 2, 3):
        assert exact.search(vectors[row], 1).rows.tolist() == [[row]]


@pytest.mark.parametrize("width", [1, 63, 64, 65, 127, 384, 4096, MAX_WIDTH])
def test_this_machine_multiplies_exactly(width):
    vectors = normal(np.random.default_rng(0), 3, width)
    assert NarrowCopy(vectors, ExactSearch(vectors).inverse_norms).is_exact
