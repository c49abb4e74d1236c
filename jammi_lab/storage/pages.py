"""The pages of a Parquet file's column chunks: whether what its footer says of them is what a reader finds.

A reader begins where the footer says that a chunk begins, and reads page after page until it has all values. Digests of columns are over as many
bytes as the footer says that a chunk has. Where both are the same bytes, equal digests are equal values; where not, only the whole file tells.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_HEADER = 256
"""Bytes that hold most page headers; a header holds the smallest and the largest value, which may be long."""
_LONGEST = 1 << 20
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3


def as_told(file: BinaryIO, footer: pq.FileMetaData) -> bool:
    """Whether each chunk of an open file begins and ends where its footer says, and holds as many values. OSError."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    if sum(group.num_rows for group in groups) != footer.num_rows:
        return False
    return all(_chunk_as_told(file, group.column(number)) for group in groups for number in range(footer.num_columns))


def _chunk_as_told(file: BinaryIO, chunk: pq.ColumnChunkMetaData) -> bool:
    first, data = chunk.dictionary_page_offset or None, chunk.data_page_offset
    if chunk.num_values == 0:
        return True  # nothing is read
    if chunk.file_path or (first is not None and not 4 <= first < data):
        return False  # readers do not agree on where such a chunk begins
    at = data if first is None else first
    end, values = at + chunk.total_compressed_size, 0
    while at < end:
        page, begins = _page(file, at, end)
        if page is None:
            return False
        kind, length = page.get(1), page.get(3)
        if not isinstance(length, int) or length < 0 or kind not in (_DATA, _DICTIONARY, _DATA_V2):
            return False
        if kind != _DICTIONARY:
            if values == 0 and first is not None and at != data:
                return False
            said = page.get(5 if kind == _DATA else 8)
            if not isinstance(said, dict) or not isinstance(count := said.get(1), int) or count < 0:
                return False
            values += count
            if values >= chunk.num_values and begins + length != end:
                return False  # a reader stops here
        at = begins + length
    return bool(at == end and values == chunk.num_values)


def _page(file: BinaryIO, at: int, end: int) -> tuple[dict[int, Any] | None, int]:
    """The header of a page, and where the page itself begins; None when there is no header."""
    size = _HEADER
    while True:
        file.seek(at, os.SEEK_SET)
        raw = file.read(min(size, end - at))
        try:
            said, length = _struct(raw, 0)
            return said, at + length
        except IndexError:
            if size >= min(_LONGEST, end - at):
                return None, at
            size *= 16
        except (ValueError, RecursionError):
            return None, at


# -- Thrift's compact protocol, as far as headers of pages need it ----------------------------------------------------------------------------------


def _struct(raw: bytes, at: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct by number, and where it ends. IndexError when it does not end here; ValueError."""
    found, number = dict[int, Any](), 0
    while kind := raw[at]:
        step, at = kind >> 4, at + 1
        if not step:
            number, at = _signed(raw, at)
        else:
            number += step
        found[number], at = _value(raw, at, kind & 15)
    return found, at + 1


def _value(raw: bytes, at: int, kind: int) -> tuple[Any, int]:
    match kind:
        case 1 | 2:
            return kind == 1, at
        case 3:
            return raw[at], at + 1
        case 4 | 5 | 6:
            return _signed(raw, at)
        case 7:
            return None, at + 8
        case 8:
            length, at = _plain(raw, at)
            return None, at + length
        case 9 | 10:
            count, of = raw[at] >> 4, raw[at] & 15
            count, at = _plain(raw, at + 1) if count == 15 else (count, at + 1)
            if count > len(raw) - at:  # each takes a byte at least
                raise IndexError(count)
            for _ in range(count):
                _, at = _value(raw, at, of) if of > 2 else (None, at + 1)
            return None, at
        case 12:
            return _struct(raw, at)
        case _:
            raise ValueError(kind)


def _plain(raw: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte, at = raw[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(shift)


def _signed(raw: bytes, at: int) -> tuple[int, int]:
    value, at = _plain(raw, at)
    return (value >> 1) ^ -(value & 1), at
