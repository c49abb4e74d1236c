"""Random access to single vector rows of a Parquet file: reading a few rows takes a few reads, not
the whole column.

This works for files of our own writer (no compression, no dictionary, no NULL in vectors): the
values of a page are then its last bytes, one number after another. For any other layout the result
is None, and the caller reads with pyarrow.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from jammi_lab.storage.parquet import open_parquet
from jammi_lab.storage.thrift import parse_struct

_MAX_HEADER_BYTES = 1024
"""Enough bytes for any page header."""
_DATA_PAGE, _PLAIN = 0, 0
_TYPE, _SIZE, _STORED, _DATA = 1, 2, 3, 5
_COUNT, _ENCODING = 1, 2
"""Field numbers in the format's page header and data page header."""


class ParquetRowReader:
    """The rows of one vector column. May be shared between threads; keeps no file open."""

    def __init__(
        self, path: Path, width: int, first: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> None:
        """`first` is the index of the first value of each page, followed by the number of all
        values. `offsets` is the file offset of that value."""
        self._path, self._width, self._first, self._offsets = path, width, first, offsets
        starts = np.arange(0, first[-1], width)
        pages = np.searchsorted(first, starts, "right") - 1
        self._row_offsets = np.where(
            starts + width <= first[pages + 1], offsets[pages] + 4 * (starts - first[pages]), -1
        )
        """The file offset of each row; −1 where a row continues in another page."""

    @classmethod
    def for_column(cls, path: Path, column: str) -> Self | None:
        """The rows of a column of fixed-size lists of float32; None for another layout. Raises
        OSError and pyarrow's errors."""
        first, offsets = [0], []
        with open(path, "rb") as raw, open_parquet(raw) as file:
            kind, metadata = file.schema_arrow.field(column).type, file.metadata
            leaf_indexes = [
                position
                for position in range(metadata.num_columns)
                if metadata.schema.column(position).path.split(".")[0] == column
            ]
            for group in range(metadata.num_row_groups):
                chunk = metadata.row_group(group).column(leaf_indexes[0])
                if (
                    len(leaf_indexes) != 1
                    or chunk.compression != "UNCOMPRESSED"
                    or chunk.physical_type != "FLOAT"
                    or chunk.has_dictionary_page
                ):
                    return None
                position = chunk.data_page_offset
                end = chunk.data_page_offset + chunk.total_compressed_size
                while position < end:
                    page = _parse_data_page(os.pread(raw.fileno(), _MAX_HEADER_BYTES, position))
                    if page is None:
                        return None
                    length, count = page
                    position += length
                    offsets.append(
                        position - 4 * count
                    )  # the values are the last bytes of the page
                    first.append(first[-1] + count)
            if first[-1] != metadata.num_rows * kind.list_size:
                return None
            reader = cls(
                path, kind.list_size, np.array(first, np.int64), np.array(offsets, np.int64)
            )
            # Compare the first row with what pyarrow reads, in case the layout was misjudged.
            if metadata.num_rows:
                [row] = (
                    next(file.iter_batches(1, columns=[column], use_threads=False))
                    .column(0)
                    .to_pylist()
                )
                if (
                    reader.take(np.zeros(1, np.int64)).tobytes()
                    != np.array(row, np.float32).tobytes()
                ):
                    return None
        return reader

    @property
    def nbytes(self) -> int:
        """Memory in use, in bytes."""
        return self._first.nbytes + self._offsets.nbytes + self._row_offsets.nbytes

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows as (rows, width) float32, read-only. Raises OSError when the file is missing or
        truncated."""
        length, parts = 4 * self._width, list[bytes]()
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for row, offset in zip(rows.tolist(), self._row_offsets[rows].tolist(), strict=True):
                if offset >= 0:
                    parts.append(os.pread(descriptor, length, offset))
                else:
                    parts += [
                        os.pread(descriptor, size, position) for position, size in self._pieces(row)
                    ]
        finally:
            os.close(descriptor)
        body = b"".join(parts)
        if len(body) != len(rows) * length:  # no part is longer than requested
            raise OSError(5, "the file is shorter than before")
        return np.frombuffer(body, np.float32).reshape(len(rows), self._width)

    def _pieces(self, row: int) -> Iterator[tuple[int, int]]:
        """Offset and length in bytes of each part of a row that spans several pages."""
        value_index, end = row * self._width, (row + 1) * self._width
        page = int(np.searchsorted(self._first, value_index, "right")) - 1
        while value_index < end:
            value_count = min(end, int(self._first[page + 1])) - value_index
            yield (
                int(self._offsets[page]) + 4 * (value_index - int(self._first[page])),
                4 * value_count,
            )
            value_index, page = value_index + value_count, page + 1


def _parse_data_page(body: bytes) -> tuple[int, int] | None:
    """Length including header, and number of values, of the data page that begins here; None for
    another kind of page."""
    try:
        header, body_offset = parse_struct(body, 0)
        data = header[_DATA]
        plain = (
            header[_TYPE] == _DATA_PAGE
            and data[_ENCODING] == _PLAIN
            and header[_SIZE] == header[_STORED]
        )
        return (body_offset + header[_STORED], data[_COUNT]) if plain else None
    except (KeyError, IndexError, TypeError, ValueError):
        return None
