"""A copy of vectors in one byte per component. Reading a quarter of the bytes rules out all but a
few rows, which exact search then compares.

A unit row is u = s·c + e with a float s and integers c from −127 to 127; a unit query is likewise
v = t·b + f. The product of the integers is exact, so |v·u − t·s·(b·c)| = |t·b·e + f·u| ≤
(1 + ‖f‖)·‖e‖ + ‖f‖.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from jammi_lab.core.thread_pool import ThreadPool
from jammi_lab.features.vectors.encoders.blas_threads import usable_cores
from jammi_lab.storage.vector_arrays import Floats

Doubles = NDArray[np.float64]

_MIN_BYTES = 8 << 20
_MIN_PART_BYTES = 16 << 20
"""Bytes that are worth a thread of their own: one core alone does not use the full memory
bandwidth."""
_MIN_WIDTH, _MAX_WIDTH = 96, 1 << 17
"""Components from which fewer bytes are worth the work for each row, and up to which a product of
integers stays below 2³¹."""
_MAX_INTEGER = 127
_CHUNK_NUMBERS = 1 << 15
"""Numbers per step of making the copy, so that they stay in the cache."""
_ROUNDING = 2.0**-18
"""More than all roundings to float32 of a similarity."""


def pays_off(vectors: Floats) -> bool:
    """Whether a copy of these vectors is read faster than they are."""
    width = vectors.shape[1]
    return (
        vectors.nbytes >= _MIN_BYTES
        and _MIN_WIDTH <= width < _MAX_WIDTH
        and _multiplies_exactly(width)
    )


@functools.cache
def _multiplies_exactly(width: int) -> bool:
    """Whether the kernel that this processor gets sums integers of this width without saturating,
    which would rule out rows that are among the best."""
    rows = np.repeat(np.array([[_MAX_INTEGER], [-_MAX_INTEGER], [1]], np.int8), width, axis=1)
    exact = rows.astype(np.int64) @ rows[0]
    return np.array_equal(_products(rows[0], rows), exact)


def _products(codes: NDArray[np.int8], rows: NDArray[np.int8]) -> NDArray[np.int32]:
    import numkong  # here, like usearch: most kernels search no vectors

    products = np.empty(len(rows), np.int32)
    numkong.dot(codes, rows, out=products)
    return products


class NarrowCopy:
    """The copy of some vectors (n, d) whose norms are neither zero nor infinite. Thread-safe."""

    def __init__(self, vectors: Floats, norms: Doubles) -> None:
        self._codes = np.empty(vectors.shape, np.int8)
        self._scales = np.empty(len(vectors), np.float32)
        self._error = 0.0
        step = _CHUNK_NUMBERS // vectors.shape[1] + 1
        for start in range(0, len(vectors), step):
            part = slice(start, start + step)
            units = vectors[part] / norms[part, None]
            self._codes[part], self._scales[part], error = _narrowed(units)
            self._error = max(self._error, error)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self._codes.nbytes + self._scales.nbytes

    def similarities(self, unit: Doubles) -> tuple[Floats, float]:
        """(n,): about the similarity of each row to a unit query, and the most by which one is
        off."""
        codes, scales, lost = _narrowed(unit[None])
        parts = max(1, min(usable_cores(), self._codes.nbytes // _MIN_PART_BYTES))
        first, *others = np.array_split(self._codes, parts)
        with ThreadPool(parts, "jammi-product") as pool:
            futures = [pool.submit(_products, codes[0], part) for part in others]
            products = [_products(codes[0], first), *(future.result() for future in futures)]
        near = np.multiply(np.concatenate(products), self._scales * scales, dtype=np.float32)
        return near, (1 + lost) * self._error + lost + _ROUNDING


def _narrowed(units: Doubles) -> tuple[NDArray[np.int8], Floats, float]:
    """The integers of unit vectors (n, d), their scales (n,), and the largest norm of what these
    leave out."""
    scales = (np.abs(units).max(1) / _MAX_INTEGER).astype(np.float32)
    codes = np.rint(units / scales[:, None])
    lost = np.square(units - codes * scales[:, None]).sum(1).max()
    return codes.astype(np.int8), scales, float(np.sqrt(lost))
