"""What the footer of a Parquet file says about its column chunks. Readers skip row groups by it,
and answer `min`, `max` and `count` from it, whatever the values are."""

import os
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

from jammi_lab.storage.thrift import parse_struct

_ROW_GROUPS, _GROUP_COLUMNS, _GROUP_ROWS, _CHUNK_FIELDS = 4, 1, 3, 3
BLOOM_FILTER_OFFSET, BLOOM_FILTER_LENGTH = 14, 15
CHUNK_OFFSETS = frozenset({9, 10, 11, BLOOM_FILTER_OFFSET})
"""The fields of a column chunk that say where its parts lie."""


class RowGroup(NamedTuple):
    """A row group as the footer describes it, without what pyarrow leaves out."""

    rows: int
    """The number of rows."""
    columns: list[Mapping[int, Any]]
    """The fields of the column chunks by their number in the format."""


def row_groups(file: BinaryIO) -> list[RowGroup]:
    """The row groups in the footer of an open, complete Parquet file. Raises OSError, ValueError
    and IndexError."""
    size = file.seek(0, os.SEEK_END)
    file.seek(size - 8)
    length = int.from_bytes(file.read(4), "little")
    file.seek(size - 8 - length)
    fields, _ = parse_struct(file.read(length), 0)
    return [
        RowGroup(
            group[_GROUP_ROWS], [chunk.get(_CHUNK_FIELDS, {}) for chunk in group[_GROUP_COLUMNS]]
        )
        for group in fields.get(_ROW_GROUPS, [])
    ]
