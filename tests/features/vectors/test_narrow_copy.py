"""The narrow copy rules out rows and never one of the best: what exact search answers with it has
the bits of what it answers without it."""

import numkong
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_lab.features.vectors import exact_search
from jammi_lab.features.vectors.exact_search import ExactSearch, NarrowCopy
from tests.features.vectors.drawn import normal
from tests.sizes import examples


def narrow_all(patch):
    """Vectors of every size are narrowed."""
    patch.setattr(exact_search, "_MIN_BYTES", 0)
    patch.setattr(exact_search, "_MIN_WIDTH", 1)


@pytest.fixture
def always_narrow(monkeypatch):
    narrow_all(monkeypatch)


@pytest.fixture
def in_parts(monkeypatch):
    """Small copies are read by several threads."""
    monkeypatch.setattr(exact_search, "_MIN_PART_BYTES", 1 << 17)
    monkeypatch.setattr(exact_search, "usable_cores", lambda: 3)


@pytest.fixture
def products(monkeypatch):
    """The numbers of rows that products of integers were made of, but for tests of the kernel."""
    counts, dot = [], numkong.dot

    def counted(query, rows, **options):
        if len(rows) > 3:
            counts.append(len(rows))
        return dot(query, rows, **options)

    monkeypatch.setattr(numkong, "dot", counted)
    return counts


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
def test_every_similarity_is_off_by_at_most_its_error(kind, d, n, seed):
    rng = np.random.default_rng(seed)
    vectors = kind(rng, n, d)
    units = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1)[:, None]
    narrow = NarrowCopy(vectors, np.linalg.norm(vectors.astype(np.float64), axis=1))
    for query in (normal(rng, 1, d)[0], vectors[n // 2], -vectors[0], kind(rng, 1, d)[0]):
        unit = query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
        near, error = narrow.similarities(unit)
        # the answer's similarity has one rounding to float32 more
        assert (np.abs(near - (units @ unit).astype(np.float32)) <= error).all()


@settings(max_examples=examples(40), deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from([1, 3, 33, 384]),
    st.integers(1, 3000),
    st.integers(1, 40),
    st.sampled_from([None, "half", "first", "most", "few"]),
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
        "few": rng.random(n) < 0.02,
    }[allowed]
    without = ExactSearch(vectors, order).search(queries, k, allow=mask)
    with pytest.MonkeyPatch.context() as patch:
        narrow_all(patch)
        exact = ExactSearch(vectors, order)
        exact.search(queries[0], 1)
        for number, query in enumerate(queries):
            found = exact.search(query, k, allow=mask)
            assert found.rows[0].tolist() == without.rows[number].tolist()
            assert found.similarities[0].tobytes() == without.similarities[number].tobytes()


def test_large_copies_are_read_by_several_threads(always_narrow, in_parts, products):
    vectors = normal(0, 2001, 384)
    exact = ExactSearch(vectors)
    expected = exact.search(vectors[7], 5)
    found = exact.search(vectors[7], 5)
    assert found.rows.tolist() == expected.rows.tolist()
    assert products == [667, 667, 667]


def test_all_rows_are_compared_where_a_copy_leaves_too_many(always_narrow, products):
    rng = np.random.default_rng(0)
    vectors = normal(rng, 2000, 384)
    vectors[:, 0] = np.where(rng.random(2000) < 0.5, 1000, -1000)  # takes all of the integers
    query = normal(rng, 1, 384)[0]
    exact = ExactSearch(vectors)
    first, second = exact.search(query, 5), exact.search(query, 5)
    assert products == [2000]
    assert first.rows.tolist() == second.rows.tolist()


def test_a_kernel_that_saturates_is_not_used(always_narrow, monkeypatch):
    def saturating(query, rows, out):
        out[:] = np.clip(rows.astype(np.int64) @ query.astype(np.int64), -(2**15), 2**15 - 1)

    monkeypatch.setattr(numkong, "dot", saturating)
    vectors = normal(0, 2000, 383)
    assert not exact_search.pays_off(vectors)


@pytest.mark.parametrize("width", [96, 127, 384, 4096, exact_search._MAX_WIDTH - 1])
def test_this_machine_multiplies_exactly(width, monkeypatch):
    monkeypatch.setattr(exact_search, "_MIN_BYTES", 0)
    vectors = np.ones((1, width), np.float32)
    assert exact_search.pays_off(vectors)
    query = np.random.default_rng(0).integers(-127, 128, (2, width), np.int8)
    exact = query.astype(np.int64) @ query[0].astype(np.int64)
    assert exact_search._products(query[0], query).tolist() == exact.tolist()
