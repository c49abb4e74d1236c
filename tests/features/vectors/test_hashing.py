import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.features.vectors.encoders import hashing
from jammi_lab.features.vectors.encoders.hashing import Hashing
from tests.cases.texts import ENCODABLE
from tests.contracts.encoder import TEXTS, EncoderSuite


class TestHashing(EncoderSuite):
    @pytest.fixture
    def encoder(self):
        return Hashing()


class TestNarrowHashing(EncoderSuite):
    @pytest.fixture
    def encoder(self):
        return Hashing(8)


def naive(text, dimensions):
    """Gram after gram in Python's own whole numbers."""
    points = [
        2,
        2,
        *(int(hashing._folding_table()[ord(c)]) if ord(c) < 0x2500 else ord(c) for c in text),
        3,
    ]
    sums = [0] * dimensions
    word = (1 << 64) - 1
    for n in (3, 4, 5):
        for i in range(len(points) - n + 1):
            h = n
            for p in points[i : i + n]:
                h = (h * 0x9E3779B97F4A7C15 & word) ^ p
            h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & word
            h = (h ^ h >> 27) * 0x94D049BB133111EB & word
            h ^= h >> 31
            sums[(h >> 1) % dimensions] += -1 if h & 1 else 1
    if not any(sums):
        sums[0] = 1
    total = np.sqrt(float(sum(s * s for s in sums)))
    return np.array([s / total for s in sums], np.float32)


@given(st.lists(st.text(st.characters(), max_size=40), max_size=8), st.sampled_from([8, 33, 256]))
def test_vectors_are_those_of_a_naive_reference(texts, dimensions):
    made = Hashing(dimensions).encode(texts)
    assert all(np.array_equal(made[i], naive(text, dimensions)) for i, text in enumerate(texts))


@given(st.lists(st.text(ENCODABLE, max_size=60), min_size=1, max_size=12), st.integers(3, 40))
def test_the_size_of_blocks_does_not_show(texts, block):
    whole = Hashing(64).encode(texts)
    before, hashing.BLOCK_CHARS = hashing.BLOCK_CHARS, block
    try:
        assert np.array_equal(Hashing(64).encode(texts), whole)
    finally:
        hashing.BLOCK_CHARS = before


def test_the_bits_are_the_ones_of_every_other_machine():
    texts = [t for t in TEXTS if t.isascii() or "naïve" in t]
    assert (
        hashlib.sha256(Hashing().encode(texts).astype("<f4").tobytes()).hexdigest()
        == "bafd416a9f0c83bd3e6b81ae5f47c3a7f624d5fa54b4762aa8fa95515f6216ad"
    )


def test_it_says_that_it_is_lexical():
    assert "lexical" in repr(Hashing())


def test_spelling_counts_and_case_does_not():
    a, b, c, d = Hashing().encode(
        ["The Result Table", "the result\ttable", "the results tables", "quick brown foxes"]
    )
    assert np.array_equal(a, b) and a @ c > 0.5 > a @ d


def test_another_width_is_another_identity():
    assert Hashing(128).identity.digest != Hashing().identity.digest


@pytest.mark.parametrize("dimensions", [0, 7, True, 3.0, 1 << 17])
def test_a_width_that_makes_no_sense_is_refused(dimensions):
    with pytest.raises(InvalidArgument):
        Hashing(dimensions)
