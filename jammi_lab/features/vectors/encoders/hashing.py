"""Lexical encoder without weights: hashed character 3- to 5-grams. It compares spelling, not
meaning.

It gives the same bits on every machine and Python release: the arithmetic is in integers until the
final division, and letters are folded by the table of Unicode 3.2, which never changes.
(Method: the hashing trick with signs, Weinberger et al. 2009; the mixer is that of SplitMix64.)
"""

import functools
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.features.vectors.encoders.base import EncoderIdentity, Floats

_GRAM_SIZES = (3, 4, 5)
BLOCK_CHARS = 1 << 16
"""Characters hashed at a time, to bound memory."""
_MAX_FOLDED_CODE = 0x2500
"""All letters with case, and all white space but one character, are below this code point."""


class Hashing:
    """The encoder `"hashing"`: lexical, unit length, thousands of texts a second, no
    dependencies."""

    name = "hashing"
    version = "1"

    def __init__(self, dimensions: int = 256) -> None:
        if (
            not isinstance(dimensions, int)
            or isinstance(dimensions, bool)
            or not 8 <= dimensions <= 65536
        ):
            raise InvalidArgument(
                f"dimensions must be an integer from 8 to 65536, got {dimensions!r}."
            )
        self.dimensions = dimensions
        self.identity = EncoderIdentity(
            name=self.name,
            version=self.version,
            dimensions=dimensions,
            revision="1",
            pooling="sum of signed 3-5-grams",
            normalised=True,
        )

    def __repr__(self) -> str:
        return (
            f"Hashing('hashing', {self.dimensions} dimensions, lexical: compares spelling, not "
            "meaning)"
        )

    def encode(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dimensions) float32 of unit length."""
        sums = self._signed_sums(texts)
        # a text whose signed grams cancel in every dimension gets a vector of its own kind
        sums[~sums.any(1), 0] = 1
        # sums are integers, so the order of addition does not matter
        vectors: Floats = (sums / np.sqrt(np.square(sums).sum(1, keepdims=True))).astype(np.float32)
        return vectors

    def _signed_sums(self, texts: Sequence[str]) -> NDArray[np.float64]:
        points, row = _code_points(texts)
        sums = np.zeros(len(texts) * self.dimensions)
        for start in range(0, len(points), BLOCK_CHARS):
            end = min(start + BLOCK_CHARS, len(points))
            first_row, end_row = int(row[start]), int(row[end - 1]) + 1
            positions, signs = [], []
            for n in _GRAM_SIZES:
                stop = min(end, len(points) - n + 1)
                if stop <= start:
                    continue
                in_one_text = row[start:stop] == row[start + n - 1 : stop + n - 1]
                hashes = _hash_grams(points[start : stop + n - 1], n)[in_one_text]
                positions.append(
                    (row[start:stop][in_one_text] - first_row) * self.dimensions
                    + (hashes >> np.uint64(1)).astype(np.int64) % self.dimensions
                )
                signs.append(1.0 - 2.0 * (hashes & np.uint64(1)))
            if not positions:  # the rest of the last text is too short for a gram
                continue
            block_sums = np.bincount(
                np.concatenate(positions),
                np.concatenate(signs),
                (end_row - first_row) * self.dimensions,
            )
            sums[first_row * self.dimensions : end_row * self.dimensions] += block_sums
        return sums.reshape(len(texts), self.dimensions)


def _code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The folded characters of all texts with their marks, and for each character the number of its
    text."""
    # with two marks before and one after it, even an empty text has a 3-gram
    joined = "".join(f"\2\2{text}\3" for text in texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    row = np.repeat(np.arange(len(texts)), [len(text) + 3 for text in texts])
    table = _folding_table()
    folded = np.where(
        points < _MAX_FOLDED_CODE, table[np.minimum(points, _MAX_FOLDED_CODE - 1)], points
    )
    return folded.astype(np.uint64), row


@functools.cache
def _folding_table() -> NDArray[np.uint32]:
    """A folding table for the first characters: lower case for upper case, one space for all white
    space."""
    table = np.arange(_MAX_FOLDED_CODE, dtype=np.uint32)
    for point in range(_MAX_FOLDED_CODE):
        kind = unicodedata.ucd_3_2_0.category(chr(point))
        if kind in ("Lu", "Lt") and len(chr(point).lower()) == 1:
            table[point] = ord(chr(point).lower())
        elif kind in ("Zs", "Zl", "Zp") or chr(point) in "\t\n\v\f\r":
            table[point] = 32
    return table


def _hash_grams(points: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """A hash of each character n-gram."""
    count = len(points) - n + 1
    h = np.full(count, n, np.uint64)
    for i in range(n):
        h *= np.uint64(0x9E3779B97F4A7C15)
        h ^= points[i : i + count]
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    return h
