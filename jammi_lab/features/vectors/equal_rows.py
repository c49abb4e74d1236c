"""Rows of a table of vectors with equal bits."""

import numpy as np

from jammi_lab.storage.vector_arrays import Floats, RowNumbers

BATCH_ROWS = 4096
"""Rows per step."""


def first_equal_rows(vectors: Floats) -> RowNumbers | None:
    """For each row of a C-contiguous matrix the first row with the same bits; None when all rows
    differ."""
    bits = vectors.view(np.uint32)
    factors = np.random.default_rng(0).integers(1, 1 << 63, bits.shape[1], np.uint64)
    checksums = np.empty(len(bits), np.uint64)
    for start in range(0, len(bits), BATCH_ROWS):
        batch = slice(start, start + BATCH_ROWS)
        checksums[batch] = bits[batch].astype(np.uint64) @ factors
    _, first_of_sum, sum_of_row = np.unique(checksums, return_index=True, return_inverse=True)
    first: RowNumbers = first_of_sum[sum_of_row]
    repeated = np.flatnonzero(first != np.arange(len(first)))
    if not len(repeated):
        return None
    for start in range(0, len(repeated), BATCH_ROWS):
        rows = repeated[start : start + BATCH_ROWS]
        # a sum that is another row's by chance: such a row counts as unlike all others
        unlike = rows[(bits[rows] != bits[first[rows]]).any(1)]
        first[unlike] = unlike
    return first
