"""What the footer of a Parquet file says about the values of its column chunks. Readers skip row
groups by it, and answer `min`, `max` and `count` from it, whatever the values are."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jammi_lab.core.identifiers import fold
from jammi_lab.storage.parquet import decoded_type
from jammi_lab.storage.thrift import parse_struct

_ROW_GROUPS, _GROUP_COLUMNS, _GROUP_ROWS, _CHUNK_FIELDS = 4, 1, 3, 3
STATISTICS, BLOOM_FILTER_OFFSET, BLOOM_FILTER_LENGTH = 12, 14, 15
CHUNK_OFFSETS = frozenset({9, 10, 11, BLOOM_FILTER_OFFSET})
"""The fields of a column chunk that say where its parts lie."""
_NULL_COUNT, _BOUNDS = 3, (1, 2, 5, 6)


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


def are_statistics_true(path: Path, columns: Collection[str]) -> bool:
    """Whether the statistics of these top-level columns are those of their values, so that the rows
    alone decide what a reader finds. False also when that cannot be determined; bloom filters are
    not checked. Reads the columns. Raises pyarrow.ArrowException, OSError."""
    wanted = set(map(fold, columns))
    with open(path, "rb") as raw, pq.ParquetFile(path, arrow_extensions_enabled=False) as file:
        leaves = [file.metadata.schema.column(j).path for j in range(file.metadata.num_columns)]
        if len(set(map(fold, leaves))) < len(leaves):
            return False
        positions = {name: j for j, name in enumerate(leaves) if fold(name) in wanted}
        try:
            groups = row_groups(raw)
        except (ValueError, IndexError):
            return False
        for number, group in enumerate(groups):
            rows = file.read_row_group(number, columns=list(positions))
            for name, j in positions.items():
                known = file.metadata.row_group(number).column(j).statistics
                if not _is_true(group.columns[j], known, rows[name]):
                    return False
    return True


def _is_true(chunk: Mapping[int, Any], known: Any, values: pa.ChunkedArray) -> bool:
    statistics = chunk.get(STATISTICS, {})
    if statistics.get(_NULL_COUNT, values.null_count) != values.null_count:
        return False
    if not any(field in statistics for field in _BOUNDS):
        return True
    if known is None or not known.has_min_max:  # pyarrow does not trust them, DuckDB does
        return False
    bounds = pc.min_max(values.cast(decoded_type(values.type))).as_py()
    try:
        return bool(bounds["min"] == known.min and bounds["max"] == known.max)
    except NotImplementedError:  # before 23, pyarrow has no bounds of some decimals
        return False
