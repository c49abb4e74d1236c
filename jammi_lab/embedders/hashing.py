"""A lexical encoder without weights: hashed character 3- to 5-grams. It knows spelling, not meaning.

The same bits on every machine and under every Python: integers until the last division, and letters folded by a table of Unicode 3.2, which
no later release changes.
(Method: the hashing trick with signs, Weinberger et al. 2009; the mixer is that of SplitMix64.)
"""

import functools
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from jammi_lab.embedders.base import EncoderIdentity, Floats
from jammi_lab.errors import InvalidArgument

_NS = (3, 4, 5)
_BLOCK = 1 << 16
"""Characters that are hashed at a time; bounds memory whatever the texts."""
_FOLDED = 0x2500
"""Letters with two cases lie below this, as do all white-space characters but one."""
_OPEN, _CLOSE = 2, 3
"""Marks around a text: with two before and one after, even the empty text has a 3-gram."""


class Hashing:
    """The encoder `"hashing"`: lexical, `dimensions` wide, unit length, thousands of texts a second, no dependencies."""

    name = "hashing"
    version = "1"

    def __init__(self, dimensions: int = 256) -> None:
        if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 8 <= dimensions <= 65536:
            raise InvalidArgument(f"The lexical encoder has from 8 to 65536 dimensions, not {dimensions!r}.")
        self.dimensions = dimensions
        self.identity = EncoderIdentity(
            name=self.name, version=self.version, dimensions=dimensions, revision="1", pooling="sum of signed 3-5-grams", normalised=True
        )

    def __repr__(self) -> str:
        return f"Hashing('hashing', {self.dimensions} dimensions, lexical: compares spelling, not meaning)"

    def encode(self, texts: Sequence[str]) -> Floats:
        """(len(texts), dimensions) float32 of unit length."""
        out = np.empty((len(texts), self.dimensions), np.float32)
        for first, last in _runs(texts):
            sums = self._sums(texts[first:last])
            # grams whose signs cancel in every place leave nothing: such a text is one of its own kind
            sums[~sums.any(1), 0] = 1
            # sums are whole numbers, so the order in which they were added cannot show
            out[first:last] = sums / np.sqrt(np.square(sums).sum(1, keepdims=True))
        return out

    def _sums(self, texts: Sequence[str]) -> NDArray[np.float64]:
        points, row = _code_points(texts)
        sums = np.zeros(len(texts) * self.dimensions)
        for start in range(0, len(points), _BLOCK):
            end = min(start + _BLOCK, len(points))
            base, over = int(row[start]), int(row[end - 1]) + 1
            places, signs = [], []
            for n in _NS:
                stop = min(end, len(points) - n + 1)
                if stop <= start:
                    continue
                inside = row[start:stop] == row[start + n - 1 : stop + n - 1]
                mixed = _mixed(points[start : stop + n - 1], n)[inside]
                places.append((row[start:stop][inside] - base) * self.dimensions + (mixed >> np.uint64(1)).astype(np.int64) % self.dimensions)
                signs.append(1.0 - 2.0 * (mixed & np.uint64(1)))
            if not places:  # the end of the last text, too short for a gram of its own
                continue
            counted = np.bincount(np.concatenate(places), np.concatenate(signs), (over - base) * self.dimensions)
            sums[base * self.dimensions : over * self.dimensions] += counted
        return sums.reshape(len(texts), self.dimensions)


def _runs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges of texts of about a block of characters together."""
    first = size = 0
    for i, text in enumerate(texts):
        size += len(text) + 3
        if size >= _BLOCK:
            yield first, i + 1
            first, size = i + 1, 0
    if first < len(texts):
        yield first, len(texts)


def _code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The folded characters of all texts, each between its marks, and for each character the number of its text."""
    joined = "".join(f"\2\2{text}\3" for text in texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    row = np.repeat(np.arange(len(texts)), [len(text) + 3 for text in texts])
    table = _folding()
    folded = np.where(points < _FOLDED, table[np.minimum(points, _FOLDED - 1)], points)
    return folded.astype(np.uint64), row


@functools.cache
def _folding() -> NDArray[np.uint32]:
    """For each of the first characters the one it counts as: small letters for capitals, one space for all white space."""
    table = np.arange(_FOLDED, dtype=np.uint32)
    for point in range(_FOLDED):
        kind = unicodedata.ucd_3_2_0.category(chr(point))
        if kind in ("Lu", "Lt") and len(chr(point).lower()) == 1:
            table[point] = ord(chr(point).lower())
        elif kind in ("Zs", "Zl", "Zp") or chr(point) in "\t\n\v\f\r":
            table[point] = 32
    return table


def _mixed(points: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """One well-mixed number for each n-gram of the characters."""
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
