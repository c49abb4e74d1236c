"""Single rows of a column of vectors, read where they stand in a Parquet file: some rows of a table cost some reads, not the whole column.

This is for files that our own sink wrote (no compression, no dictionary, no NULL in vectors): the values of a page are then the last bytes of it, one
number after the other. What is laid out otherwise gives None, and is read by pyarrow as ever.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

_HEADER = 1024
"""Bytes that a page's header surely fits into."""
_DATA_PAGE, _PLAIN = 0, 0
_TYPE, _SIZE, _STORED, _DATA = 1, 2, 3, 5
_COUNT, _ENCODING = 1, 2
"""Numbers of fields in the format's page header and data page header."""


class PlainRows:
    """The rows of one column. May be shared between threads; holds no file open."""

    def __init__(self, path: Path, width: int, first: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        """`first`: of each page the number of its first value, and at last the number of all values; `offsets`: where in the file that value is."""
        self._path, self._width, self._first, self._offsets = path, width, first, offsets
        starts = np.arange(0, first[-1], width)
        pages = np.searchsorted(first, starts, "right") - 1
        self._places = np.where(starts + width <= first[pages + 1], offsets[pages] + 4 * (starts - first[pages]), -1)
        """Of each row where in the file it begins; −1 where it ends in another page."""

    @classmethod
    def of(cls, path: Path, column: str) -> Self | None:
        """The rows of a column of fixed-size lists of float32; None when they are not laid out plainly. OSError; pyarrow's errors."""
        first, offsets = [0], []
        with open(path, "rb") as raw, pq.ParquetFile(raw) as file:
            kind, metadata = file.schema_arrow.field(column).type, file.metadata
            places = [at for at in range(metadata.num_columns) if metadata.schema.column(at).path.split(".")[0] == column]
            for group in range(metadata.num_row_groups):
                chunk = metadata.row_group(group).column(places[0])
                if len(places) != 1 or chunk.compression != "UNCOMPRESSED" or chunk.physical_type != "FLOAT" or chunk.has_dictionary_page:
                    return None
                at, end = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
                while at < end:
                    page = _page(os.pread(raw.fileno(), _HEADER, at))
                    if page is None:
                        return None
                    length, count = page
                    at += length
                    offsets.append(at - 4 * count)
                    first.append(first[-1] + count)
            if first[-1] != metadata.num_rows * kind.list_size:
                return None
            found = cls(path, kind.list_size, np.array(first, np.int64), np.array(offsets, np.int64))
            if metadata.num_rows:
                [row] = next(file.iter_batches(1, columns=[column], use_threads=False)).column(0).to_pylist()
                if found.take(np.zeros(1, np.int64)).tobytes() != np.array(row, np.float32).tobytes():
                    return None
        return found

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self._first.nbytes + self._offsets.nbytes + self._places.nbytes

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(rows, width) float32, read-only. OSError when the file is gone or too short."""
        length, parts = 4 * self._width, list[bytes]()
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for row, place in zip(rows.tolist(), self._places[rows].tolist(), strict=True):
                if place >= 0:
                    parts.append(os.pread(descriptor, length, place))
                else:
                    parts += [os.pread(descriptor, size, at) for at, size in self._pieces(row)]
        finally:
            os.close(descriptor)
        body = b"".join(parts)
        if len(body) != len(rows) * length:  # no part is longer than it was asked for
            raise OSError(5, "the file is shorter than it was")
        return np.frombuffer(body, np.float32).reshape(len(rows), self._width)

    def _pieces(self, row: int) -> Iterator[tuple[int, int]]:
        """Where in the file the parts of a row are that begins in one page and ends in another, and how many bytes each has."""
        at, end = row * self._width, (row + 1) * self._width
        page = int(np.searchsorted(self._first, at, "right")) - 1
        while at < end:
            some = min(end, int(self._first[page + 1])) - at
            yield int(self._offsets[page]) + 4 * (at - int(self._first[page])), 4 * some
            at, page = at + some, page + 1


def _page(body: bytes) -> tuple[int, int] | None:
    """Of the data page that begins here: its length with its header, and how many values it has; None for another kind of page."""
    try:
        header, at = _struct(body, 0)
        data = header[_DATA]
        plain = header[_TYPE] == _DATA_PAGE and data[_ENCODING] == _PLAIN and header[_SIZE] == header[_STORED]
        return (at + header[_STORED], data[_COUNT]) if plain else None
    except (KeyError, IndexError, TypeError):
        return None


def _struct(body: bytes, at: int) -> tuple[dict[int, Any], int]:
    """A struct of Thrift's compact protocol: its fields by number, and where it ends."""
    found: dict[int, Any] = {}
    field = 0
    while (head := body[at]) != 0:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _zigzag(body, at)
        kind = head & 15
        match kind:
            case 1 | 2:
                found[field] = kind == 1
            case 3:
                found[field], at = body[at], at + 1
            case 4 | 5 | 6:
                found[field], at = _zigzag(body, at)
            case 8:
                length, at = _varint(body, at)
                found[field], at = body[at : at + length], at + length
            case 12:
                found[field], at = _struct(body, at)
            case _:
                raise TypeError("a page header has no such field")
    return found, at + 1


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _zigzag(body: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(body, at)
    return (value >> 1) ^ -(value & 1), at
