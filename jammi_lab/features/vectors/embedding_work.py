"""What an embedding computes for rows: the vectors of their texts."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from jammi_lab.features.vectors.encoders.base import Encoder, Floats, encode_rows
from jammi_lab.steps.executor import Executor
from jammi_lab.steps.row_digests import Digests
from jammi_lab.steps.row_texts import TextWork
from jammi_lab.storage.vector_arrays import RowNumbers, chunk_matrices, to_arrow, to_arrow_rows

_BLOCK_ROWS = 1024
"""Vectors that are in memory twice at a time."""


class EmbeddingWork(TextWork):
    """The vectors of one run, as one matrix: they may fill half of the memory."""

    stage = "embed"
    done_word = "encoded"

    def __init__(self, encoder: Encoder, executor: Executor) -> None:
        self._encoder, self._executor = encoder, executor
        self._unsaved: list[RowNumbers] = []

    def load(self, columns: Sequence[pa.ChunkedArray]) -> Digests:
        """Receive the text columns, and return the digest of each row's text."""
        digests = super().load(columns)
        self._vectors: Floats = np.empty((len(digests), self._encoder.dimensions), np.float32)
        return digests

    def take_over(self, rows: RowNumbers, outputs: pa.Table) -> None:
        """Receive the known vectors of some rows."""
        for part in chunk_matrices(outputs["vector"], dimensions=self._encoder.dimensions):
            self._vectors[rows[: len(part)]] = part
            rows = rows[len(part) :]

    def compute(self, rows: RowNumbers, keys: pa.Array, /) -> Iterator[int]:
        """Encode in order of text length, because batches of similar length are cheapest."""
        rows = rows[np.argsort(self._texts.lengths[rows], kind="stable")]
        for batch, vectors in encode_rows(
            self._encoder,
            rows,
            self._texts.texts_of,
            lambda batch: keys.take(to_arrow_rows(batch)).to_pylist(),
            run_batches=self._executor.map,
        ):
            self._vectors[batch] = vectors
            self._unsaved.append(batch)
            yield len(batch)

    def unsaved(self) -> Iterator[tuple[RowNumbers, pa.Table]]:
        """The vectors encoded since the last time, with their rows."""
        rows = np.concatenate([np.empty(0, np.int64), *self._unsaved])
        self._unsaved = []
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[start : start + _BLOCK_ROWS]
            yield block, pa.table({"vector": self._column(self._vectors[block])})

    def outputs(self, same_row: RowNumbers) -> Mapping[str, pa.Array]:
        """The vectors of all rows."""
        copies = np.flatnonzero(same_row != np.arange(len(same_row)))
        for start in range(0, len(copies), _BLOCK_ROWS):
            block = copies[start : start + _BLOCK_ROWS]
            self._vectors[block] = self._vectors[same_row[block]]
        return {"vector": self._column(self._vectors)}

    def _column(self, vectors: Floats) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(to_arrow(vectors), self._encoder.dimensions)
