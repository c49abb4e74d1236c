"""Duplicate vectors in an index: rows with equal bits share one entry. In a graph, equal vectors
would only have edges to each other and lead nowhere."""

import numpy as np
from numpy.typing import NDArray

from jammi_lab.features.vectors.exact_search import VectorRows
from jammi_lab.storage.vector_arrays import RowNumbers

BATCH_ROWS = 4096
"""Rows per step."""


def first_equal_rows(vectors: VectorRows) -> RowNumbers | None:
    """For each row the first row with the same bits; None when all rows differ. Raises
    TableDamaged."""
    count, width = vectors.shape
    random_factors = np.random.default_rng(0).integers(1, 1 << 63, width, np.uint64)
    checksums = np.empty(count, np.uint64)
    for start in range(0, count, BATCH_ROWS):
        rows = np.arange(start, min(start + BATCH_ROWS, count))
        checksums[rows] = _bit_patterns(vectors, rows).astype(np.uint64) @ random_factors
    order = np.argsort(checksums, kind="stable")
    checksums = checksums[order]
    equal_to_previous = 1 + np.flatnonzero(checksums[1:] == checksums[:-1])
    if not len(equal_to_previous):
        return None
    is_new = np.ones(count, np.bool_)
    for start in range(0, len(equal_to_previous), BATCH_ROWS):
        batch = equal_to_previous[start : start + BATCH_ROWS]
        is_new[batch] = (
            _bit_patterns(vectors, order[batch]) != _bit_patterns(vectors, order[batch - 1])
        ).any(1)
    first_rows: RowNumbers = np.empty(count, np.int64)
    first_rows[order] = order[np.flatnonzero(is_new)][np.cumsum(is_new) - 1]
    return first_rows


def _bit_patterns(vectors: VectorRows, rows: RowNumbers) -> NDArray[np.uint32]:
    return np.ascontiguousarray(vectors.vectors_at(rows)).view(np.uint32)


class UniqueVectors:
    """The rows of each index entry. `numbers`: the entry number of each row."""

    def __init__(self, numbers: RowNumbers) -> None:
        self.numbers = numbers
        self._rows = np.argsort(numbers, kind="stable")
        self._counts = np.bincount(numbers) if len(numbers) else np.zeros(1, np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self._all_unique = bool((self._counts <= 1).all())

    def __len__(self) -> int:
        """The number of entries."""
        return int(np.count_nonzero(self._counts))

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.numbers.nbytes + self._rows.nbytes + self._counts.nbytes + self._starts.nbytes

    def rows_of(self, entries: RowNumbers, width: int) -> RowNumbers:
        """Expand entries to rows: (queries, `width`), equal rows in row order, −1 where there are
        fewer. `entries`: (queries, entries) entry numbers, −1 for none."""
        valid = entries >= 0
        out = np.full((len(entries), width), -1, np.int64)
        if self._all_unique:
            rows = self._rows[self._starts[entries]]
            out[:, : entries.shape[1]] = np.where(valid, rows, -1)
            return out
        counts = np.where(valid, self._counts[entries], 0)
        ends = np.minimum(np.cumsum(counts, axis=1), width)
        taken_counts = np.diff(ends, axis=1, prepend=0)
        flat_counts = taken_counts.reshape(-1)
        rank_in_entry = np.arange(flat_counts.sum()) - np.repeat(
            np.cumsum(flat_counts) - flat_counts, flat_counts
        )
        rows = self._rows[np.repeat(self._starts[entries].reshape(-1), flat_counts) + rank_in_entry]
        out[np.arange(width) < ends[:, -1:]] = rows
        return out
