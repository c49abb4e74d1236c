"""A copy of vectors in one byte per component. Reading it instead of the vectors, a quarter of the
bytes, rules out all but a few rows: exact search then compares those alone.

A unit row is u = m + w, where m is the mean of all, and w is stored as s·c with a float s and
integers c from −127 to 127; what that leaves is e = w − s·c. A unit query is v = m + z, and z is
likewise t·b with the rest f. The product of the integers is exact, so

    v·u = z·m + m·u + z·w,    |z·w − t·s·(b·c)| = |t·b·e + f·w| ≤ (‖z‖ + ‖f‖)·‖e‖ + ‖f‖·‖w‖.

The norms on the right are known, so each row has a lowest and a highest possible similarity. A row
whose highest one is below the k-th of the lowest ones is not among the k best. (Without the mean,
vectors that all point nearly one way would differ by less than the bound.)
"""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jammi_lab.core.gc_pause import import_modules
from jammi_lab.core.thread_pool import ThreadPool
from jammi_lab.features.vectors.encoders.blas_threads import usable_cores
from jammi_lab.storage.vector_arrays import Floats

Integers = NDArray[np.int8]

MAX_WIDTH = 1 << 16
"""Components up to which the product of integers stays below 2³¹."""
_MAX_INTEGER = 127
_CHUNK_NUMBERS = 1 << 16
"""Numbers per step of making the copy, so that they stay in the cache."""
_MAX_SAMPLE_ROWS = 1024
"""Rows from which the mean is computed. Any other vector in its place gives bounds that hold."""
_ROUNDING_ERROR = 2.0**-17
"""More than all float32 roundings between a vector and its bounds, apart from those of sums over
its components: some 30 of values below 2, each off by 2⁻²⁴ of it."""
_MIN_SCALE = np.float32(2.0**-80)
"""Smaller components are stored as 0."""
MIN_PART_BYTES = 16 << 20
"""Bytes that are worth a thread of their own."""
MAX_CALL_BYTES = 64 << 20
"""Bytes per call of the kernel, which no interrupt stops."""
_BLOCK_ROWS = 64
"""Rows of which one stands for all where a bound of the k-th best is enough."""
_MIN_BLOCKS_PER_HIT = 8
MAX_CANDIDATES_RATIO = 16
"""One row in so many may be left; with more, comparing all vectors is as fast."""


class Candidates(NamedTuple):
    """Rows that include the best ones, with the bounds of their similarities."""

    rows: NDArray[np.int64]
    lowest: Floats
    highest: Floats


class NarrowCopy:
    """The copy of some vectors. Read-only and thread-safe."""

    def __init__(self, vectors: Floats, inverse_norms: Floats) -> None:
        """`vectors`: (n, d) float32, d up to `MAX_WIDTH`; `inverse_norms`: (n,) float32, neither
        zero nor infinite."""
        count, width = vectors.shape
        sample = np.arange(0, count, -(-count // _MAX_SAMPLE_ROWS))
        units = vectors[sample] * inverse_norms[sample, None]
        self.is_exact = _multiplies_exactly(width)
        """Whether the product of the integers can be relied on."""
        self._mean: Floats = units.mean(0, dtype=np.float64).astype(np.float32)
        self._codes = np.empty((count, width), np.int8)
        self._scales, self._errors, self._offsets = np.empty((3, count), np.float32)
        largest = 0.0
        step = max(1, _CHUNK_NUMBERS // width)
        for start in range(0, count, step):
            part = slice(start, start + step)
            rest = vectors[part] * inverse_norms[part, None]
            self._offsets[part] = rest.astype(np.float64) @ self._mean
            rest -= self._mean
            largest = max(largest, float(np.square(rest).sum(1).max()))
            scales = np.maximum(np.abs(rest).max(1) / _MAX_INTEGER, _MIN_SCALE)
            rounded = np.rint(rest / scales[:, None])
            self._codes[part], self._scales[part] = rounded, scales
            rest -= rounded * scales[:, None]
            self._errors[part] = np.sqrt(np.square(rest).sum(1))
        # A sum of d products in float32 is off by less than d roundings (see `exact_search`).
        sum_error = width * 2.0**-23
        self._errors *= np.float32(1 + sum_error)
        self._largest_norm = np.sqrt(largest) * (1 + sum_error)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self._codes.nbytes + 3 * self._scales.nbytes + self._mean.nbytes

    def candidates(
        self, unit: NDArray[np.float64], count: int, excluded: NDArray[np.bool_] | None = None
    ) -> Candidates | None:
        """Rows that include the `count` most similar ones to a unit query, apart from `excluded`
        ones; None when too many are left."""
        rest = unit - self._mean
        scale = max(np.float32(np.abs(rest).max() / _MAX_INTEGER), _MIN_SCALE)
        codes = np.rint(rest / scale).astype(np.int8)
        lost = float(np.linalg.norm(rest - float(scale) * codes))
        error = np.float32(np.linalg.norm(rest) + lost)
        scales = self._scales * scale
        similarities: Floats = np.multiply(self._products(codes), scales, dtype=np.float32)
        similarities += self._offsets + np.float32(rest @ self._mean)
        reach = self._errors * error
        reach += np.float32(lost * self._largest_norm + _ROUNDING_ERROR)
        lowest = similarities - reach
        if excluded is not None:
            lowest[excluded] = similarities[excluded] = -np.inf
        highest = np.add(similarities, reach, out=similarities)
        rows = np.flatnonzero(highest >= _bound_of_kth(lowest, count))
        if len(rows) > max(4 * count, len(lowest) // MAX_CANDIDATES_RATIO):
            return None
        return Candidates(rows, lowest[rows], highest[rows])

    def _products(self, codes: Integers) -> NDArray[np.int32]:
        """(n,): the products of the query's integers with those of every row."""
        count, width = self._codes.shape
        out = np.empty(count, np.int32)

        def multiply(start: int, stop: int) -> None:
            step = max(1, MAX_CALL_BYTES // width)
            for first in range(start, stop, step):
                part = slice(first, min(first + step, stop))
                _multiply(codes, self._codes[part], out[part])

        parts = max(1, min(usable_cores(), self._codes.nbytes // MIN_PART_BYTES))
        bounds = [count * i // parts for i in range(parts + 1)]
        if parts == 1:
            multiply(0, count)
            return out
        with ThreadPool(parts - 1, "jammi-product") as pool:
            others = [pool.submit(multiply, bounds[i], bounds[i + 1]) for i in range(1, parts)]
            multiply(bounds[0], bounds[1])
        for other in others:
            other.result()
        return out


def _multiply(codes: Integers, rows: Integers, out: NDArray[np.int32]) -> None:
    with import_modules():
        import numkong  # here, like usearch: most kernels search no vectors

    numkong.dot(codes, rows, out=out)


@functools.cache
def _multiplies_exactly(width: int) -> bool:
    """Whether the kernel that this processor gets sums integers of this width without saturating,
    which would rule out rows that belong to the best."""
    rng = np.random.default_rng(0)
    rows = rng.integers(-_MAX_INTEGER, _MAX_INTEGER, (16, width), np.int8, endpoint=True)
    rows[:4] = np.array([[_MAX_INTEGER], [-_MAX_INTEGER], [1], [0]], np.int8)
    found = np.empty(len(rows), np.int32)
    for query in rows:
        _multiply(query, rows, found)
        if not np.array_equal(found, rows.astype(np.int64) @ query.astype(np.int64)):
            return False
    return True


def _bound_of_kth(lowest: Floats, count: int) -> np.float32:
    """A value that at least `count` of these reach: the k-th largest, or a little less."""
    blocks = len(lowest) // _BLOCK_ROWS
    if blocks >= _MIN_BLOCKS_PER_HIT * count:
        best = lowest[: blocks * _BLOCK_ROWS].reshape(blocks, _BLOCK_ROWS).max(1)
        bound: np.float32 = np.partition(best, blocks - count)[blocks - count]
        if bound > -np.inf:  # else the rows that may be found are in few of the blocks
            return bound
    kth: np.float32 = np.partition(lowest, len(lowest) - count)[len(lowest) - count]
    return kth
