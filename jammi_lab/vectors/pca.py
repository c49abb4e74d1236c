"""Projection of vectors to a plane: the first two principal components."""

import numpy as np

from jammi_lab.vectors.arrays import Floats
from jammi_lab.vectors.encoders.blas_threads import one_blas_thread
from jammi_lab.vectors.exact_search import row_norms

_MAX_SAMPLE_ROWS = 20_000
"""Maximal number of rows from which the components are computed."""


def project_to_plane(vectors: Floats) -> tuple[Floats, tuple[float, float]]:
    """(n, 2) float32: each row, at unit length, along the first two principal components; and the
    share of the total variance of each.

    `vectors`: (n, d), no norm zero or infinite. The sign of each component is chosen so that its
    largest coefficient is positive; equal vectors give equal points. Rows that are all equal lie at
    the origin.
    """
    n, width = vectors.shape
    points = np.zeros((n, 2), np.float32)
    if n < 2:
        return points, (0.0, 0.0)
    step = -(-n // _MAX_SAMPLE_ROWS)
    sample = _unit_vectors(vectors[::step])
    centre = sample.mean(0)
    sample -= centre
    with one_blas_thread():
        values, directions = np.linalg.eigh(sample.T @ sample)
    total = float(np.maximum(values, 0).sum())
    if total <= 1e-12 * len(sample):
        return points, (0.0, 0.0)
    first = directions[:, ::-1][:, :2]
    first *= np.where(first[np.abs(first).argmax(0), np.arange(first.shape[1])] < 0, -1, 1)
    for start in range(0, n, 4096):
        # sum row by row: the bits of a matrix product would depend on the other rows of the block
        rows = _unit_vectors(vectors[start : start + 4096]) - centre
        points[start : start + 4096, : first.shape[1]] = np.stack(
            [(rows * direction).sum(1) for direction in first.T], 1
        )
    shares = np.maximum(values[::-1][:2], 0) / total
    return points, (float(shares[0]), float(shares[1]) if width > 1 else 0.0)


def _unit_vectors(vectors: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return vectors / row_norms(vectors)[:, None]
