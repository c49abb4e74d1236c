"""Rows of a table of vectors with equal bits."""

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
