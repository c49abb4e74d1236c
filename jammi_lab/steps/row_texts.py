"""Texts of rows: kept in Arrow memory, each with a digest and a length, and turned into Python
strings on demand."""

from collections.abc import Iterator, Sequence
from typing import AnyStr

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.core.definitions import TEXT_DIGEST_COLUMN
from jammi_lab.steps.row_digests import Digests, digests_of
from jammi_lab.storage.parquet import decoded_column
from jammi_lab.storage.vector_arrays import to_arrow_rows, to_numpy, to_scalar

_BLOCK_ROWS = 4096
"""Texts that are in Python memory at a time."""


class RowTexts:
    """One text per row: the text columns joined by newlines, without NULL and empty values."""

    def __init__(self, columns: Sequence[pa.ChunkedArray]) -> None:
        self._columns = [_single_array(column) for column in columns]
        self.lengths = _joined_lengths(self._columns)
        """The length of each text in characters."""

    def digests(self) -> Digests:
        """The digest of each text."""
        return digests_of(text for block in self._blocks() for text in block)

    def _blocks(self) -> Iterator[list[bytes]]:
        columns = [column.cast(pa.large_binary()) for column in self._columns]
        for start in range(0, len(columns[0]), _BLOCK_ROWS):
            yield _join_columns([column.slice(start, _BLOCK_ROWS) for column in columns], b"\n")

    def texts_of(self, rows: NDArray[np.int64]) -> list[str]:
        """The texts of some rows as Python strings."""
        return _join_columns([column.take(to_arrow_rows(rows)) for column in self._columns], "\n")


def _join_columns(columns: Sequence[pa.Array], separator: AnyStr) -> list[AnyStr]:
    """The joined texts, of the type of the separator."""
    parts: list[list[AnyStr]] = [column.to_pylist() for column in columns]
    return (
        parts[0]
        if len(parts) == 1
        else [separator.join(filter(None, row_parts)) for row_parts in zip(*parts, strict=True)]
    )


def _joined_lengths(columns: Sequence[pa.Array]) -> NDArray[np.int64]:
    """The number of characters of each joined text."""
    lengths = np.array([to_numpy(pc.utf8_length(column)) for column in columns], np.int64)
    separators = np.maximum(np.count_nonzero(lengths, axis=0) - 1, 0)
    joined: NDArray[np.int64] = lengths.sum(axis=0) + separators
    return joined


def _single_array(column: pa.ChunkedArray) -> pa.Array:
    """A text column as one array with 64-bit offsets, empty where it is NULL."""
    chunks = decoded_column(column).cast(pa.large_string()).chunks
    array = (
        chunks[0]
        if len(chunks) == 1
        else pa.concat_arrays(chunks or [pa.array([], pa.large_string())])
    )
    return pc.fill_null(array, to_scalar("").cast(array.type)) if array.null_count else array


class TextWork:
    """The part of row-wise work that computes something of the texts of rows."""

    unit = "text"
    digest_column = TEXT_DIGEST_COLUMN
    save_pause = 50.0  # what a kill loses costs time, no money

    _texts: RowTexts

    def load(self, columns: Sequence[pa.ChunkedArray]) -> Digests:
        """Receive the text columns, and return the digest of each row's text."""
        self._texts = RowTexts(columns)
        return self._texts.digests()

    def call_count(self, rows: int) -> int:
        """How many texts are computed."""
        return rows
