"""Vectors as points of a plane by t-SNE: rows that are alike stand together, which two directions of the vectors cannot show. scikit-learn does it.

What goes in is ours, so that equal vectors give equal points: the exact neighbours, and the plane of the principal components to begin with. One
thread adds up the forces, because several add them up in another order each time.
"""

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from jammi_lab.errors import ExtensionMissing
from jammi_lab.vectors.arrays import Floats
from jammi_lab.vectors.exact import Exact
from jammi_lab.vectors.nearest import nearest_others
from jammi_lab.vectors.projection import plane

ITERATIONS = 1000
"""How often the points move."""
_FEWEST = 5
"""Rows that have neighbourhoods at all."""
_SPREAD, _JITTER = 1e-4, 1e-6
"""How far apart points are at first along the first component, and how far from where it puts them: else those of a line would stay on it."""

Told = Callable[[str, int, int], None]
"""Hears what is done, how much of it, and of how much; what it raises ends the work."""


def installed() -> str | None:
    """The version of scikit-learn; None without it."""
    try:
        return importlib.metadata.version("scikit-learn")
    except importlib.metadata.PackageNotFoundError:
        return None


def tsne(exact: Exact, perplexity: float, seed: int, told: Told) -> Floats:
    """(n, 2) float32. Rows must stand in the order of their keys.

    A row is held near to about `perplexity` others, at most a third of all the others. Fewer than five rows, and rows that do not differ, are
    placed by their principal components. ExtensionMissing without scikit-learn.
    """
    sklearn = manifold()
    points, (first, _) = plane(exact.vectors)
    n = len(points)
    if n < _FEWEST or not first:
        return points
    perplexity = at_most(perplexity, n)
    distances = _distances(exact, int(3 * perplexity + 1), told)
    drawn = np.random.RandomState(seed).standard_normal((n, 2))  # its numbers are the same in every release
    begin = points / np.std(points[:, 0]) * _SPREAD + drawn * _JITTER
    begun = _Moving.of(begin.astype(np.float32), lambda moves: told("iterations", min(moves, ITERATIONS), ITERATIONS))
    with _one_thread():
        fit = sklearn.TSNE(metric="precomputed", init=begun, perplexity=perplexity, max_iter=ITERATIONS, random_state=seed)
        return np.array(fit.fit_transform(distances), np.float32, subok=False)


def at_most(perplexity: float, n: int) -> float:
    """The perplexity that so many rows can have."""
    return min(perplexity, (n - 1) / 3)


def manifold() -> Any:
    """The module of scikit-learn. ExtensionMissing without it."""
    try:
        return importlib.import_module("sklearn.manifold")
    except ImportError:
        raise ExtensionMissing("t-SNE needs scikit-learn, which is not installed.", hint='Run: pip install "jammi-lab[maps]".') from None


def _one_thread() -> Any:
    """A count of threads that is the caller's own."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().limit(limits=1, user_api="openmp")


def _distances(exact: Exact, k: int, told: Told) -> Any:
    """(n, n) sparse: of each row the `k` nearest others and itself, with the distances of the vectors at unit length, nearest first."""
    n = len(exact.vectors)
    k = min(k, n - 1)
    places, distances = np.empty((n, k + 1), np.int32), np.zeros((n, k + 1), np.float64)
    places[:, 0] = np.arange(n)
    told("rows", 0, n)
    for first, (rows, similarities) in nearest_others(exact, k, on_rows=lambda done: told("rows", done, n)):
        some = slice(first, first + len(rows))
        places[some, 1:] = rows
        distances[some, 1:] = np.sqrt(np.maximum(2 - 2 * similarities.astype(np.float64), 0))
    ends = np.arange(0, n * (k + 1) + 1, k + 1)
    return importlib.import_module("scipy.sparse").csr_array((distances.ravel(), places.ravel(), ends), shape=(n, n))


class _Moving(np.ndarray[tuple[int, ...], np.dtype[np.float32]]):
    """Points that tell each time when they move: the only sign of life that scikit-learn's loop gives."""

    _told: Callable[[int], None] | None = None
    _moves = 0

    @classmethod
    def of(cls, points: Floats, told: Callable[[int], None]) -> Self:
        """The points, as such."""
        made = points.view(cls)
        made._told = told
        return made

    def __array_finalize__(self, other: Any) -> None:
        self._told, self._moves = getattr(other, "_told", None), getattr(other, "_moves", 0)

    def __iadd__(self, by: Any) -> Self:  # type: ignore[override,misc]
        np.add(self.view(np.ndarray), by, out=self.view(np.ndarray))
        if self._told is not None and isinstance(by, np.ndarray):  # what the loop makes like the points adds plain numbers
            self._moves += 1
            self._told(self._moves)
        return self
