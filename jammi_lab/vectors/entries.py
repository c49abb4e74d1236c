"""Rows that are equal bit by bit share one entry of an index: a graph of equal vectors has edges between them only, and leads nowhere."""

import numpy as np
from numpy.typing import NDArray

from jammi_lab.vectors.exact import Places
from jammi_lab.vectors.streamed import Rows

_TOGETHER = 4096
"""Rows that are looked at at a time."""


def first_equal(vectors: Rows) -> Places | None:
    """For each row the first one with the same bits; None when no two rows are equal. TableDamaged."""
    count, width = vectors.shape
    draw = np.random.default_rng(0).integers(1, 1 << 63, width, np.uint64)
    sums = np.empty(count, np.uint64)
    for at in range(0, count, _TOGETHER):
        rows = np.arange(at, min(at + _TOGETHER, count))
        sums[rows] = _words(vectors, rows).astype(np.uint64) @ draw
    order = np.argsort(sums, kind="stable")
    sums = sums[order]
    twins = 1 + np.flatnonzero(sums[1:] == sums[:-1])
    if not len(twins):
        return None
    new = np.ones(count, np.bool_)
    for at in range(0, len(twins), _TOGETHER):
        some = twins[at : at + _TOGETHER]
        new[some] = (_words(vectors, order[some]) != _words(vectors, order[some - 1])).any(1)
    first: Places = np.empty(count, np.int64)
    first[order] = order[np.flatnonzero(new)][np.cumsum(new) - 1]
    return first


def _words(vectors: Rows, rows: Places) -> NDArray[np.uint32]:
    return np.ascontiguousarray(vectors.at(rows)).view(np.uint32)


class Entries:
    """Which rows an entry of an index stands for. `numbers`: the number of the entry of each row."""

    def __init__(self, numbers: Places) -> None:
        self.numbers = numbers
        self._rows = np.argsort(numbers, kind="stable")
        self._counts = np.bincount(numbers) if len(numbers) else np.zeros(1, np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self._alone = bool((self._counts <= 1).all())

    def __len__(self) -> int:
        """How many entries there are."""
        return int(np.count_nonzero(self._counts))

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self.numbers.nbytes + self._rows.nbytes + self._counts.nbytes + self._starts.nbytes

    def rows_of(self, found: Places, width: int) -> Places:
        """(queries, `width`) rows of the entries that were found for each query, in their order, equal rows in theirs; −1 where there are fewer.
        `found`: (queries, entries) numbers, −1 for none."""
        there = found >= 0
        out = np.full((len(found), width), -1, np.int64)
        if self._alone:
            rows = self._rows[self._starts[found]]
            out[:, : found.shape[1]] = np.where(there, rows, -1)
            return out
        counts = np.where(there, self._counts[found], 0)
        ends = np.minimum(np.cumsum(counts, axis=1), width)
        taken = np.diff(ends, axis=1, prepend=0)
        flat = taken.reshape(-1)
        nth = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
        rows = self._rows[np.repeat(self._starts[found].reshape(-1), flat) + nth]
        out[np.arange(width) < ends[:, -1:]] = rows
        return out
