"""What an index stores of a vector."""

import numpy as np
import pytest

from jammi_lab.features.vectors.exact_search import ExactSearch
from jammi_lab.features.vectors.index.quantization import Quantizer


def one_way(rows=600, width=32, share=0.9, axes=1, seed=0):
    """Vectors of which any two have about that similarity, by what they have in common along some
    axes."""
    noise = np.random.default_rng(seed).standard_normal((rows, width))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    common = np.zeros(width)
    common[:axes] = axes**-0.5
    return (noise * (1 - share) ** 0.5 + common * share**0.5).astype(np.float32)


def test_the_mean_is_taken_off_where_its_rounding_would_hide_what_tells_rows_apart():
    for precision, shares in {
        "i8": [0, 1, 1, 1],
        "bf16": [0, 0, 1, 1],
        "f16": [0, 0, 0, 1],
        "f32": [0, 0, 0, 0],
    }.items():
        found = [
            bool(Quantizer.for_vectors(ExactSearch(one_way(share=share)), precision).centre)
            for share in (0, 0.4, 0.85, 0.99)
        ]
        assert found == [bool(each) for each in shares], precision


@pytest.mark.parametrize("precision", ["bf16", "i8"])
def test_the_distance_of_what_is_stored_has_the_order_of_the_cosine(precision):
    vectors = one_way()
    coding = Quantizer.for_vectors(ExactSearch(vectors), precision)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    stored, asked = (
        coding.encode_rows(vectors * 7).astype(np.float64),
        coding.encode_queries(units[:5]).astype(np.float64),
    )
    assert coding.metric == "l2sq"
    for one, query in zip(asked, units[:5], strict=True):
        by_cosine, by_distance = (
            np.argsort(-(units @ query)),
            np.argsort(((stored - one) ** 2).sum(1)),
        )
        assert len(set(by_cosine[:20]) & set(by_distance[:20])) >= (
            20 if precision == "bf16" else 18
        )


def test_equal_rows_that_are_their_own_mean_have_a_coding():
    for precision in ("bf16", "f16", "i8", "f32"):
        coding = Quantizer.for_vectors(ExactSearch(np.ones((50, 4), np.float32)), precision)
        assert np.isfinite(
            coding.encode_rows(np.ones((3, 4), np.float32)).astype(float)
        ).all() and np.isfinite(coding.scale)


def test_queries_of_whole_numbers_use_the_whole_range_whatever_their_own_size():
    vectors = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    coding = Quantizer.for_vectors(ExactSearch(vectors), "i8")
    assert (np.abs(coding.encode_queries(vectors[:9]).astype(int)).max(1) == 127).all() and np.abs(
        coding.encode_rows(vectors).astype(int)
    ).max() == 127
