"""Vectors as points of a plane: the two directions in which they differ most."""

import numpy as np

from jammi_lab.embedders.blas import one_blas_thread
from jammi_lab.vectors.arrays import Floats
from jammi_lab.vectors.exact import norms_of

_SAMPLE = 20_000
"""Rows that the directions are found from."""


def plane(vectors: Floats) -> tuple[Floats, tuple[float, float]]:
    """(n, 2) float32: each row, at unit length, along the first two principal components; and the share of all variance that each of them holds.

    `vectors`: (n, d), none of zero or infinite norm. The signs are such that the greatest share of each component is positive; equal vectors give
    equal points. Rows that do not differ lie at the origin.
    """
    n, width = vectors.shape
    points = np.zeros((n, 2), np.float32)
    if n < 2:
        return points, (0.0, 0.0)
    step = -(-n // _SAMPLE)
    some = _units(vectors[::step])
    centre = some.mean(0)
    some -= centre
    with one_blas_thread():
        values, directions = np.linalg.eigh(some.T @ some)
    total = float(np.maximum(values, 0).sum())
    if total <= 1e-12 * len(some):
        return points, (0.0, 0.0)
    first = directions[:, ::-1][:, :2]
    first *= np.where(first[np.abs(first).argmax(0), np.arange(first.shape[1])] < 0, -1, 1)
    for at in range(0, n, 4096):
        # a sum row by row, not a product of matrices, whose bits depend on the rows beside
        rows = _units(vectors[at : at + 4096]) - centre
        points[at : at + 4096, : first.shape[1]] = np.stack([(rows * direction).sum(1) for direction in first.T], 1)
    shares = np.maximum(values[::-1][:2], 0) / total
    return points, (float(shares[0]), float(shares[1]) if width > 1 else 0.0)


def _units(vectors: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return vectors / norms_of(vectors)[:, None]
