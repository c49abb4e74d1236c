"""Projections of vectors to a plane: the first two principal components, and t-SNE through
scikit-learn, in which similar rows form clusters that two components cannot show.

The input of t-SNE is our own, so that equal vectors give equal points: the exact neighbours, and
the principal components as initial positions. The forces are summed in one thread, because several
threads would sum them in another order each time.
"""

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.core.errors import ExtensionMissing
from jammi_lab.core.module_imports import import_modules
from jammi_lab.features.vectors.all_pairs import nearest_others
from jammi_lab.features.vectors.encoders.blas_threads import one_blas_thread
from jammi_lab.features.vectors.exact_search import ExactSearch, row_norms
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.storage.vector_arrays import Floats

_MAX_SAMPLE_ROWS = 20_000
"""Maximal number of rows from which the components are computed."""


def project_to_points(
    matrix: Matrix,
    tsne_settings: tuple[float, int] | None,
    report_progress: Callable[[str, int, int], None],
) -> pa.Table:
    """The columns key, x, y, in key order. `tsne_settings`: perplexity and seed; None for the
    principal components."""
    if tsne_settings is None:
        report_progress("rows", 0, len(matrix))
        points = project_to_plane(matrix.vectors)[0]
    else:
        points = tsne(matrix.exact, *tsne_settings, report_progress)
    x, y = (pa.array(points[:, axis].copy()) for axis in (0, 1))
    return pa.table({"key": matrix.keys, "x": x, "y": y})


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


MAX_ITERATIONS = 1000
"""Optimisation steps."""
_MIN_EMBEDDABLE_ROWS = 5
"""Least number of rows for which neighbourhoods make sense."""
_INITIAL_SPREAD_RATIO, _INITIAL_JITTER_RATIO = 1e-4, 1e-6
"""Initial spread of the points along the first component, and a random displacement; without it,
points on a line would stay on the line."""

ProgressCallback = Callable[[str, int, int], None]
"""Progress callback (unit, done, total). An exception that it raises stops the work."""


def installed_version() -> str | None:
    """The version of scikit-learn; None when it is not installed."""
    try:
        return importlib.metadata.version("scikit-learn")
    except importlib.metadata.PackageNotFoundError:
        return None


def tsne(
    exact: ExactSearch, perplexity: float, seed: int, report_progress: ProgressCallback
) -> Floats:
    """(n, 2) float32. The rows must be in key order.

    `perplexity`: about how many neighbours each row attracts, at most a third of the other rows.
    Fewer than five rows, and rows that are all equal, get their principal-component projection.
    Raises ExtensionMissing without scikit-learn.
    """
    sklearn = import_manifold()
    points, (first, _) = project_to_plane(exact.vectors)
    n = len(points)
    if n < _MIN_EMBEDDABLE_ROWS or not first:
        return points
    perplexity = limit_perplexity(perplexity, n)
    distances = _neighbor_distances(exact, int(3 * perplexity + 1), report_progress)
    # RandomState, because its numbers are the same in every release of numpy
    noise = np.random.RandomState(seed).standard_normal((n, 2))
    initial = points / np.std(points[:, 0]) * _INITIAL_SPREAD_RATIO + noise * _INITIAL_JITTER_RATIO
    report_progress("iterations", 0, MAX_ITERATIONS)
    with _single_openmp_thread():
        estimator = sklearn.TSNE(
            metric="precomputed",
            init=initial.astype(np.float32),
            perplexity=perplexity,
            max_iter=MAX_ITERATIONS,
            random_state=seed,
        )
        return np.array(estimator.fit_transform(distances), np.float32)


def limit_perplexity(perplexity: float, n: int) -> float:
    """The perplexity limited to what so many rows allow."""
    return min(perplexity, (n - 1) / 3)


def import_manifold() -> Any:
    """The module `sklearn.manifold`. Raises ExtensionMissing without scikit-learn."""
    try:
        with import_modules():
            return importlib.import_module("sklearn.manifold")
    except ImportError:
        raise ExtensionMissing(
            "t-SNE needs scikit-learn, which is not installed.",
            hint='Run: pip install "jammi-lab[maps]".',
        ) from None


def _single_openmp_thread() -> Any:
    """A context with one OpenMP thread."""
    with import_modules():
        from threadpoolctl import ThreadpoolController

    return ThreadpoolController().limit(limits=1, user_api="openmp")


def _neighbor_distances(exact: ExactSearch, k: int, report_progress: ProgressCallback) -> Any:
    """A sparse (n, n) matrix: for each row itself and its `k` nearest other rows, with the
    distances of the unit vectors, nearest first."""
    n = len(exact.vectors)
    k = min(k, n - 1)
    columns, distances = np.empty((n, k + 1), np.int32), np.zeros((n, k + 1), np.float64)
    columns[:, 0] = np.arange(n)
    report_progress("rows", 0, n)
    for first, (rows, similarities) in nearest_others(
        exact, k, on_rows=lambda done: report_progress("rows", done, n)
    ):
        block = slice(first, first + len(rows))
        columns[block, 1:] = rows
        distances[block, 1:] = np.sqrt(np.maximum(2 - 2 * similarities.astype(np.float64), 0))
    ends = np.arange(0, n * (k + 1) + 1, k + 1)
    with import_modules():
        sparse = importlib.import_module("scipy.sparse")
    return sparse.csr_array((distances.ravel(), columns.ravel(), ends), shape=(n, n))
