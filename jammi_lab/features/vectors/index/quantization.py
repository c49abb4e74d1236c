"""Encoding of vectors in an index: unit length, centred on their mean where they all point in
nearly the same direction, and rounded to integers for i8.

Vectors with a strong common direction differ little compared with what they share, and bf16 and i8
have too few digits left for the differences. Centred vectors use all digits for what distinguishes
the rows. Their squared distance |a − b|² equals that of the original vectors, 2 − 2·cos, so it has
the order of the cosine; an inner product of centred vectors would not.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.features.vectors.exact_search import VectorRows, first_unusable, row_norms
from jammi_lab.storage.vector_arrays import Floats

_ROUNDING_ERRORS = {"bf16": 2.0**-9, "f16": 2.0**-12, "f32": 2.0**-25}
"""Maximal relative rounding error of a stored component. (That of integers is half a step, whatever
the component's size.)"""
_MAX_LOST_RATIO = 0.002
"""Maximal rounding error of the common part, relative to what distinguishes the rows; above it the
vectors are centred."""
_MAX_SAMPLE_ROWS = 8192
"""Rows from which the mean is computed."""
_CHUNK_ROWS = 2048
"""Rows per step."""


@dataclass(frozen=True)
class Quantizer:
    """The encoding of vectors in one index."""

    precision: str
    """bf16, f16, i8 or f32."""
    scale: float = 1.0
    """Factor of each component when integers are stored; else 1."""
    centre: bytes = b""
    """The mean of the unit vectors, subtracted from each, as little-endian float32; empty for
    vectors that are not centred."""

    @classmethod
    def for_vectors(cls, vectors: VectorRows, precision: str) -> Self:
        """The best encoding for these vectors. Raises SchemaMismatch, TableDamaged."""
        unscaled = cls(precision, centre=_needed_centre(vectors, precision))
        return (
            cls(precision, unscaled._integer_scale(vectors), unscaled.centre)
            if precision == "i8"
            else unscaled
        )

    @property
    def metric(self) -> str:
        """The metric of the index: the inner product of unit vectors gives 1 − cosine; the squared
        distance of centred vectors gives 2 − 2·cosine."""
        return "l2sq" if self.centre else "ip"

    def encode_rows(self, vectors: Floats) -> NDArray[Any]:
        """(n, d): rows as stored. Raises SchemaMismatch for a vector without a direction."""
        return self._quantize(self._centred(normalize_checked(vectors)), self.scale)

    def encode_queries(self, units: Floats) -> NDArray[Any]:
        """(q, d): unit queries as passed to the index."""
        if self.precision != "i8" or self.centre:
            return self._quantize(self._centred(units), self.scale)
        # a scaled query gives the same order by inner product, so each uses the full integer range
        return self._quantize(units, np.divide(127, np.abs(units).max(1, keepdims=True)))

    def _centred(self, units: Floats) -> Floats:
        return units - np.frombuffer(self.centre, "<f4") if self.centre else units

    def _quantize(self, components: Floats, scale: float | NDArray[np.float32]) -> NDArray[Any]:
        if self.precision != "i8":
            return components
        rounded: NDArray[np.int8] = np.clip(np.rint(components * scale), -127, 127).astype(np.int8)
        return rounded

    def _integer_scale(self, vectors: VectorRows) -> float:
        """The factor that maps the largest component of all rows to the largest integer."""
        largest = 0.0
        for start in range(0, vectors.shape[0], _CHUNK_ROWS):
            chunk = vectors.vectors_at(np.arange(start, min(start + _CHUNK_ROWS, vectors.shape[0])))
            largest = max(largest, float(np.abs(self._centred(normalize_checked(chunk))).max()))
        return 127.0 / largest if largest else 1.0


def normalize(vectors: Floats, norms: NDArray[np.float64]) -> Floats:
    """(n, d) float32: the vectors at unit length. `norms`: their norms in float64, so that very
    small and large vectors work, too."""
    return (vectors / norms[:, None]).astype(np.float32)


def normalize_checked(vectors: Floats) -> Floats:
    """As `normalize`, computing the norms. Raises SchemaMismatch."""
    norms = row_norms(vectors)
    if first_unusable(norms) is not None:
        raise SchemaMismatch(
            "A vector has no direction.",
            column="vector",
            expected="finite, not all zero",
            actual="not finite, or all zero",
        )
    return normalize(vectors, norms)


def _needed_centre(vectors: VectorRows, precision: str) -> bytes:
    """The mean of the unit vectors of a sample; empty when rounding the common part does not hide
    what distinguishes the rows."""
    count, width = vectors.shape
    sample = np.arange(0, count, -(-count // _MAX_SAMPLE_ROWS))
    total = np.zeros(width)
    for start in range(0, len(sample), _CHUNK_ROWS):
        total += normalize_checked(vectors.vectors_at(sample[start : start + _CHUNK_ROWS])).sum(
            0, dtype=np.float64
        )
    mean = total / len(sample)
    rounding_error = (
        np.abs(mean) * _ROUNDING_ERRORS[precision]
        if precision != "i8"
        else np.abs(mean).max() / 254
    )
    lost_part = np.sqrt(np.square(mean * rounding_error).sum())
    distinguishing_part = 1 - mean @ mean
    return (
        mean.astype("<f4").tobytes() if lost_part > _MAX_LOST_RATIO * distinguishing_part else b""
    )
