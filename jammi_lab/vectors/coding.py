"""How vectors are handed to an index: at unit length, as differences from their mean where they all point nearly one way, in whole numbers for i8.

Between vectors with a strong common direction the differences are small beside what they share: bf16 and i8 have too few digits left for them.
Differences from the mean have all digits for what tells rows apart. Their distance |a − b|² is that of the vectors themselves, 2 − 2·cos, so the
order is that of the cosine, which an inner product of differences would not give.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jammi_lab.errors import SchemaMismatch
from jammi_lab.vectors.arrays import Floats
from jammi_lab.vectors.exact import norms_of
from jammi_lab.vectors.streamed import Rows

_ROUNDING = {"bf16": 2.0**-9, "f16": 2.0**-12, "f32": 2.0**-25}
"""The most by which a component is off when it is stored, against its size; whole numbers are off by half a step, whatever its size."""
_LOST = 0.002
"""How much of what tells rows apart may be lost in the rounding of what they share, before differences from the mean are stored."""
_SAMPLE = 8192
"""Rows that the mean is taken of."""
_CHUNK = 2048


@dataclass(frozen=True)
class Coding:
    """What an index stores of a vector."""

    precision: str
    """bf16, f16, i8 or f32."""
    scale: float = 1.0
    """What a component is multiplied with, where whole numbers are stored; else 1."""
    centre: bytes = b""
    """The mean of the unit vectors, that is taken off each, as little-endian float32; empty where its rounding does not matter."""

    @classmethod
    def of(cls, vectors: Rows, precision: str) -> Self:
        """The one that serves these vectors best. SchemaMismatch, TableDamaged."""
        found = cls(precision, centre=_centre(vectors, precision))
        return cls(precision, found._largest(vectors), found.centre) if precision == "i8" else found

    @property
    def metric(self) -> str:
        """What the index compares by: the inner product is 1 − cosine of unit vectors, the squared distance 2 − 2·cosine of their differences."""
        return "l2sq" if self.centre else "ip"

    def rows(self, vectors: Floats) -> NDArray[Any]:
        """(n, d): rows as they are put in. SchemaMismatch for one without a direction."""
        return self._whole(self._centred(units(vectors)), self.scale)

    def queries(self, units: Floats) -> NDArray[Any]:
        """(q, d): queries of unit length as they are asked."""
        if self.precision != "i8" or self.centre:
            return self._whole(self._centred(units), self.scale)
        # a product with any multiple of a query has the same order, so each uses the whole range
        return self._whole(units, np.divide(127, np.abs(units).max(1, keepdims=True)))

    def _centred(self, units: Floats) -> Floats:
        return units - np.frombuffer(self.centre, "<f4") if self.centre else units

    def _whole(self, components: Floats, scale: float | NDArray[np.float32]) -> NDArray[Any]:
        if self.precision != "i8":
            return components
        whole: NDArray[np.int8] = np.clip(np.rint(components * scale), -127, 127).astype(np.int8)
        return whole

    def _largest(self, vectors: Rows) -> float:
        """What makes the largest component of a row the largest whole number that is stored."""
        largest = 0.0
        for at in range(0, vectors.shape[0], _CHUNK):
            part = vectors.at(np.arange(at, min(at + _CHUNK, vectors.shape[0])))
            largest = max(largest, float(np.abs(self._centred(units(part))).max()))
        return 127.0 / largest if largest else 1.0


def units_of(vectors: Floats, norms: NDArray[np.float64]) -> Floats:
    """(n, d) float32 of length 1, whatever the size of the vectors."""
    return (vectors / norms[:, None]).astype(np.float32)


def units(vectors: Floats) -> Floats:
    """The same, of vectors whose norms nobody knows yet. SchemaMismatch."""
    norms = norms_of(vectors)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise SchemaMismatch("A vector has no direction.", column="vector", expected="finite, not all zero", actual="not finite, or all zero")
    return units_of(vectors, norms)


def _centre(vectors: Rows, precision: str) -> bytes:
    """The mean of the unit vectors of some rows; empty when products of it with itself, rounded, hide nothing of what is left of them."""
    count, width = vectors.shape
    some = np.arange(0, count, -(-count // _SAMPLE))
    total = np.zeros(width)
    for at in range(0, len(some), _CHUNK):
        total += units(vectors.at(some[at : at + _CHUNK])).sum(0, dtype=np.float64)
    mean = total / len(some)
    off = np.abs(mean) * _ROUNDING[precision] if precision != "i8" else np.abs(mean).max() / 254
    lost, left = np.sqrt(np.square(mean * off).sum()), 1 - mean @ mean
    return mean.astype("<f4").tobytes() if lost > _LOST * left else b""
