"""Vectors as the index builder reads them: from memory, or in parts from their Parquet file."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jammi_lab.core.errors import TableDamaged
from jammi_lab.features.vectors.exact_search import ExactSearch
from jammi_lab.storage.parquet_rows import ParquetRowReader
from jammi_lab.storage.vector_arrays import Floats, RowNumbers

COMPARE_CHUNK_BYTES = 8 << 20
"""Size of the vectors that are compared at a time."""


class VectorSource(Protocol):
    """Access to the vectors of a table by row number."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of vectors and their width."""
        ...

    def vectors_at(self, rows: RowNumbers) -> Floats:
        """The vectors of some rows: (rows, dimensions) float32. Raises TableDamaged."""
        ...

    def pairs(self, queries: Floats, rows: RowNumbers) -> Floats:
        """Exact similarities of checked queries (q, d) to rows of their own (q, c); −2 for row −1,
        which means none. Raises TableDamaged."""
        ...

    def kth_similarity(self, queries: Floats, k: int, allow: NDArray[np.bool_]) -> Floats:
        """(q,): the similarity of the k-th best of the masked rows to each checked query. The mask
        must have at least k rows. Raises TableDamaged."""
        ...


class FileVectorSource:
    """Vectors in their file. Results have the same bits as those of `ExactSearch`."""

    def __init__(self, rows: ParquetRowReader, count: int, dimensions: int) -> None:
        self._reader, self._shape = rows, (count, dimensions)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of vectors and their width."""
        return self._shape

    def vectors_at(self, rows: RowNumbers) -> Floats:
        """The vectors of some rows: (rows, dimensions) float32. Raises TableDamaged."""
        try:
            return self._reader.take(rows)
        except OSError as error:
            raise TableDamaged(
                "The vectors can no longer be read from their file.",
                hint="ws.fsck() compares catalog and files.",
            ) from error

    def pairs(self, queries: Floats, rows: RowNumbers) -> Floats:
        """Exact similarities of checked queries (q, d) to rows of their own (q, c); −2 for row −1,
        which means none. Raises TableDamaged."""
        distinct_rows, positions = np.unique(np.maximum(rows, 0), return_inverse=True)
        return ExactSearch(self.vectors_at(distinct_rows)).pairs(
            queries, np.where(rows < 0, -1, positions.reshape(rows.shape))
        )

    def kth_similarity(self, queries: Floats, k: int, allow: NDArray[np.bool_]) -> Floats:
        """(q,): the similarity of the k-th best of the masked rows to each checked query. The mask
        must have at least k rows. Raises TableDamaged."""
        best = np.empty((len(queries), 0), np.float32)
        allowed, step = np.flatnonzero(allow), max(1, COMPARE_CHUNK_BYTES // (4 * self._shape[1]))
        for start in range(0, len(allowed), step):
            similarities = (
                ExactSearch(self.vectors_at(allowed[start : start + step]))
                .search(queries, k)
                .similarities
            )
            best = -np.sort(-np.concatenate([best, similarities], axis=1), axis=1)[:, :k]
        return best[:, -1]
