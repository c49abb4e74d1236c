"""The edges of a neighbour graph: for each row of an embedding table the most similar rows."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from jammi_lab.features.vectors.all_pairs import (
    BatchResult,
    search_blocks,
    without_themselves,
)
from jammi_lab.features.vectors.exact_search import Hits
from jammi_lab.features.vectors.index.search import search
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.storage.vector_arrays import to_arrow

if TYPE_CHECKING:
    from jammi_lab.features.vectors.index.hnsw import AnnIndex

_QUERY_BLOCK_ROWS = 1024
"""Rows per index query, between which progress is reported and interrupts are handled."""
_MAX_BLOCKS_AHEAD = 2
"""Index queries in flight: one is rescored exactly while the index answers the next."""


class Edges:
    """The edges, streamed in order of src and rank: columns src, dst, rank, similarity."""

    def __init__(
        self,
        matrix: Matrix,
        blocks: Iterator[BatchResult],
        k: int,
        floor: float | None,
        *,
        mutual: bool,
    ) -> None:
        self._matrix, self._k = matrix, min(k, max(0, len(matrix) - 1))
        # beyond ±1 every floor means the same; clipping keeps it in the range of float32
        self._floor = None if floor is None else np.float32(np.clip(floor, -2, 2))
        self._blocks = _mutual_edges(blocks, len(matrix)) if mutual else blocks
        kind = matrix.keys.type
        self.schema = pa.schema(
            [("src", kind), ("dst", kind), ("rank", pa.int32()), ("similarity", pa.float32())]
        )

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield the edges."""
        if self._k == 0:
            return
        for block in self._blocks:
            neighbours, similarities = block.hits
            selected = (
                neighbours >= 0
                if self._floor is None
                else (neighbours >= 0) & (similarities >= self._floor)
            )
            row, position = np.nonzero(selected)
            for start in range(0, len(row), rows):
                row_part, rank = row[start : start + rows], position[start : start + rows]
                columns = [
                    self._matrix.keys_at(row_part + block.first),
                    self._matrix.keys_at(neighbours[row_part, rank]),
                    to_arrow((rank + 1).astype(np.int32)),
                    to_arrow(similarities[row_part, rank]),
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def close(self) -> None:
        """Stop the search."""
        if hasattr(self._blocks, "close"):
            self._blocks.close()


def _mutual_edges(blocks: Iterator[BatchResult], n: int) -> Iterator[BatchResult]:
    """Keep mutual edges: in place of every neighbour that does not list the row, put −1."""
    hits = [block.hits for block in blocks]
    if not hits:
        return
    rows = np.concatenate([each.rows for each in hits])
    numbers = np.arange(len(rows))[:, None]
    is_mutual = np.isin(rows * n + numbers, numbers * n + rows)
    similarities = np.concatenate([each.similarities for each in hits])
    yield BatchResult(0, Hits(np.where(is_mutual, rows, -1), similarities))


def approximate_blocks(
    matrix: Matrix,
    index: "AnnIndex",
    k: int,
    oversample: int,
    report_progress: Callable[[int], None],
) -> Iterator[BatchResult]:
    """The nearest other rows through an index. It may miss a neighbour; similarities are exact."""

    def search_block(first: int, end: int) -> Hits:
        rows = np.arange(first, end)
        hits = search(
            matrix,
            index,
            matrix.vectors_at(rows),
            k + 1,
            oversample=oversample,
            always_use_index=True,
        )
        assert hits is not None, "a forced search always has a result"
        return without_themselves(hits, rows)

    with contextlib.closing(
        search_blocks(len(matrix), _QUERY_BLOCK_ROWS, search_block, _MAX_BLOCKS_AHEAD)
    ) as blocks:
        for block in blocks:
            yield block
            report_progress(block.first + len(block.hits.rows))
