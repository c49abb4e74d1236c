"""Consistency of a Parquet file's pages with its footer.

A reader starts where the footer says that a column chunk begins, and reads pages until it has all
values. Column digests cover the byte range that the footer gives. Equal digests mean equal values
only where both are the same bytes; otherwise only the digest of the whole file counts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO

from jammi_lab.storage.thrift import parse_struct

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_HEADER_BYTES = 256
"""Enough for most page headers. Headers contain the minimum and maximum value, which may be long.
"""
_MAX_HEADER_BYTES = 1 << 20
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3


def pages_match_footer(file: BinaryIO, footer: pq.FileMetaData) -> bool:
    """Whether each chunk of an open file begins and ends where the footer says, and holds as many
    values. Raises OSError."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    if sum(group.num_rows for group in groups) != footer.num_rows:
        return False
    return all(
        _chunk_matches_footer(file, group.column(number))
        for group in groups
        for number in range(footer.num_columns)
    )


def _chunk_matches_footer(file: BinaryIO, chunk: pq.ColumnChunkMetaData) -> bool:
    dictionary_offset, data_offset = chunk.dictionary_page_offset or None, chunk.data_page_offset
    if chunk.num_values == 0:
        return True  # readers read no page of it
    if chunk.file_path or (
        dictionary_offset is not None and not 4 <= dictionary_offset < data_offset
    ):
        return False  # readers disagree on where such a chunk begins
    position = data_offset if dictionary_offset is None else dictionary_offset
    end, values = position + chunk.total_compressed_size, 0
    while position < end:
        header, body_offset = _read_page_header(file, position, end)
        if header is None:
            return False
        kind, length = header.get(1), header.get(3)
        if (
            not isinstance(length, int)
            or length < 0
            or kind not in (_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2)
        ):
            return False
        if kind != _DICTIONARY_PAGE:
            if values == 0 and dictionary_offset is not None and position != data_offset:
                return False
            page_header = header.get(5 if kind == _DATA_PAGE else 8)
            if (
                not isinstance(page_header, dict)
                or not isinstance(count := page_header.get(1), int)
                or count < 0
            ):
                return False
            values += count
            if values >= chunk.num_values and body_offset + length != end:
                return False  # a reader stops here, before the end of the chunk
        position = body_offset + length
    return bool(position == end and values == chunk.num_values)


def _read_page_header(file: BinaryIO, position: int, end: int) -> tuple[dict[int, Any] | None, int]:
    """The header of a page, and the offset of the page's data; None when there is no valid
    header."""
    size = _HEADER_BYTES
    while True:
        file.seek(position, os.SEEK_SET)
        raw = file.read(min(size, end - position))
        try:
            fields, length = parse_struct(raw, 0)
            return fields, position + length
        except IndexError:
            if size >= min(_MAX_HEADER_BYTES, end - position):
                return None, position
            size *= 16
        except (ValueError, RecursionError):
            return None, position
