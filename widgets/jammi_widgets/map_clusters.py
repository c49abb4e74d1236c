"""Points of a map: those inside an outline, and clusters with the words that tell them apart."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from jammi_lab.features.words.analyzers import STOP_WORDS, analyze, stem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_CLUSTERS = 12
MIN_POINTS = 30
"""Fewer points have no clusters."""
_GRID_WIDTH = 48
"""Number of cells of the density grid along each axis."""
_MIN_CLUSTER_SHARE = 0.01
_MAX_WORDS = 3
_MIN_WORD_LENGTH = 3
_MIN_RATE_RATIO = 1.5
"""A word of a cluster is this many times as frequent there as in all texts."""


class Clusters(NamedTuple):
    """Clusters, the largest first."""

    labels: "NDArray[np.int64]"
    """The cluster of each point; −1 for points in none."""
    centres: "NDArray[np.float64]"
    """Where the points of each cluster are densest, (clusters, 2)."""


def find_clusters(points: "NDArray[np.float32]") -> Clusters:
    """Points in [−1, 1]² by the peak of density that is uphill of them: each cell of a smoothed
    grid leads to its densest neighbour, as mean shift does for single points."""
    import numpy as np

    if len(points) < MIN_POINTS:
        return Clusters(np.full(len(points), -1), np.zeros((0, 2)))
    cells = np.clip(((points + 1) / 2 * _GRID_WIDTH).astype(np.int64), 0, _GRID_WIDTH - 1)
    cell_numbers = cells[:, 1] * _GRID_WIDTH + cells[:, 0]
    counts = np.bincount(cell_numbers, minlength=_GRID_WIDTH**2)
    peaks = _peak_of_each_cell(_smooth(counts.reshape(_GRID_WIDTH, -1), points))
    peak_of_points = peaks[cell_numbers]
    found, sizes = np.unique(peak_of_points, return_counts=True)
    largest = np.argsort(-sizes, kind="stable")[:MAX_CLUSTERS]
    kept = found[largest[sizes[largest] >= max(2, _MIN_CLUSTER_SHARE * len(points))]]
    rank = np.full(_GRID_WIDTH**2, -1)
    rank[kept] = np.arange(len(kept))
    centres = (np.stack([kept % _GRID_WIDTH, kept // _GRID_WIDTH], 1) + 0.5) / _GRID_WIDTH * 2 - 1
    return Clusters(rank[peak_of_points], centres)


def _smooth(counts: "NDArray[np.int64]", points: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """The counts, blurred with half of the width of Scott's rule, so that peaks stay apart."""
    import numpy as np

    width = float(points.std()) * len(points) ** (-1 / 6) / 2 * _GRID_WIDTH / 2
    density = counts.astype(np.float64)
    for _ in range(max(2, round(1.5 * width * width))):  # each pass adds a variance of 2/3 cells
        padded = np.pad(density, 1)
        rows = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
        density = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 3
    return density


def _peak_of_each_cell(density: "NDArray[np.float64]") -> "NDArray[np.int64]":
    """The number of the cell that the steepest way up from each cell ends in."""
    import numpy as np

    size = len(density)
    padded = np.pad(density, 1, constant_values=-1.0)
    shifts = [(0, 0), *((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))]
    around = [padded[1 + y : 1 + y + size, 1 + x : 1 + x + size] for y, x in shifts]
    steps = np.array([y * size + x for y, x in shifts])
    best: NDArray[np.int64] = np.argmax(np.array(around), axis=0).ravel()
    uphill = np.arange(size * size, dtype=np.int64) + steps[best]
    while True:
        further = uphill[uphill]
        if np.array_equal(uphill, further):
            return np.asarray(uphill, np.int64)
        uphill = further


def distinctive_words(labels: Sequence[int], texts: Sequence[str | None]) -> dict[int, list[str]]:
    """Up to three words for each cluster that occur in many of its texts and in few others.

    Ranked by class-based TF-IDF over texts with the word: Grootendorst, BERTopic, 2022."""
    in_cluster: dict[int, Counter[str]] = {}
    sizes = Counter[int]()
    everywhere = Counter[str]()
    for label, text in zip(labels, texts, strict=True):
        words = {w for w in analyze(text or "", "simple") if _is_telling(w)}
        everywhere.update(words)
        if label >= 0:
            sizes[label] += 1
            in_cluster.setdefault(label, Counter()).update(words)
    return {
        label: _best_words(counts, sizes[label], everywhere, len(texts))
        for label, counts in in_cluster.items()
    }


def _is_telling(word: str) -> bool:
    is_long = len(word) >= _MIN_WORD_LENGTH or not word.isascii()
    return is_long and word not in STOP_WORDS and any(c.isalpha() for c in word)


def _best_words(counts: Counter[str], size: int, everywhere: Counter[str], total: int) -> list[str]:
    import math

    scores = {
        word: count / size * math.log(1 + total / everywhere[word])
        for word, count in counts.items()
        if count > 1 and count / size >= _MIN_RATE_RATIO * everywhere[word] / total
    }
    chosen: dict[str, str] = {}
    for word in sorted(scores, key=lambda word: (-scores[word], word)):
        chosen.setdefault(stem(word), word)  # `return` and `returns` say the same
        if len(chosen) == _MAX_WORDS:
            break
    return list(chosen.values())


def points_inside(
    points: "NDArray[np.float32]", outline: "NDArray[np.float64]"
) -> "NDArray[np.bool_]":
    """Which points lie inside a closed outline, by the even-odd rule: a ray from the point crosses
    the outline an odd number of times."""
    import numpy as np

    lower, upper = outline.min(0), outline.max(0)
    candidates = np.flatnonzero(((points >= lower) & (points <= upper)).all(1))
    order = candidates[np.argsort(points[candidates, 1], kind="stable")]
    x, y = points[order, 0].astype(np.float64), points[order, 1].astype(np.float64)
    crossed = np.zeros(len(order), bool)
    for (ax, ay), (bx, by) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if ay != by:
            low, high = np.searchsorted(
                y, (min(ay, by), max(ay, by))
            )  # the points within the edge's height
            crossed[low:high] ^= x[low:high] < (bx - ax) * (y[low:high] - ay) / (by - ay) + ax
    enclosed = np.zeros(len(points), bool)
    enclosed[order[crossed]] = True
    return enclosed
