"""Checks of the data files of a Delta or Iceberg table against what its log says of them.

DuckDB takes the log for true: it casts the values of a file to the types of the log (2.5 to the 2
of a BIGINT), skips files by the logged bounds, and counts rows by the logged counts (1.5.5).
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.sources.files.parquet_schemas import plain_type
from jammi_lab.storage.arrow_values import common_type

_COMPARED = (int, str, datetime.date)
"""Types of bounds that a log and a footer write alike."""


@dataclass(frozen=True, slots=True)
class LoggedFile:
    """What a log says of a data file."""

    rows: int | None
    """The number of its rows, deleted ones included; None if it is not said."""
    bounds: Mapping[str, tuple[Any, Any, int | None]]
    """The least and the largest value of a column and its number of NULLs, or None, by
    `column_keys`."""


@dataclass(frozen=True, slots=True)
class TableLog:
    """What a log says of a table."""

    types: Mapping[str, pa.DataType]
    """The types of columns, by `column_keys`."""
    files: Mapping[str, LoggedFile]
    """The data files, by path or URL."""


def column_keys(schema: pa.Schema, *, uses_ids: bool) -> dict[str, tuple[str, pa.DataType]]:
    """The name and type of each column of a file, also nested ones, by its key: the dotted name or,
    for a format that identifies columns by number, `#` and the number."""
    keys = dict[str, tuple[str, pa.DataType]]()
    pending = [(field, field.name) for field in schema]
    while pending:
        field, name = pending.pop()
        number = (field.metadata or {}).get(b"PARQUET:field_id")
        keys[f"#{number.decode()}" if uses_ids and number else name] = name, field.type
        for index in range(field.type.num_fields):
            part = field.type.field(index)
            pending.append((part, f"{name}.{part.name}"))
    return keys


def contradiction(
    footer: pq.FileMetaData, logged: LoggedFile, log: TableLog, *, uses_ids: bool
) -> str | None:
    """How a data file contradicts the log, as "what the log says, and what is there"; None if it
    does not."""
    if logged.rows not in (None, footer.num_rows):
        return f"has {logged.rows} rows by its log, and {footer.num_rows}"
    keys = column_keys(footer.schema.to_arrow_schema(), uses_ids=uses_ids)
    for key, (name, kind) in keys.items():
        stored = plain_type(kind)
        if key in log.types and not keeps_values(stored, log.types[key]):
            return f"has {log.types[key]} in column {name!r} by its log, and {stored}"
    values = _bounds(footer)
    for key, (least, largest, nulls) in logged.bounds.items():
        has_values = nulls is None or nulls != logged.rows
        for value in values.get(keys.get(key, ("",))[0], ()):
            is_below = type(value) is type(least) in _COMPARED and value < least
            is_above = type(value) is type(largest) in _COMPARED and value > largest
            if is_below or is_above or not has_values:
                shown = f"{least!r} to {largest!r}" if has_values else "NULL alone"
                return f"has {shown} in column {keys[key][0]!r} by its log, and {value!r}"
    return None


def _bounds(footer: pq.FileMetaData) -> dict[str, list[Any]]:
    """The least and largest values of the row groups of a file, by column."""
    found = dict[str, list[Any]]()
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            column = footer.row_group(group).column(index)
            if column.is_stats_set and column.statistics.has_min_max:
                found.setdefault(column.path_in_schema, []).extend(
                    (column.statistics.min, column.statistics.max)
                )
    return found


def keeps_values(stored: pa.DataType, kind: pa.DataType) -> bool:
    """Whether DuckDB's cast of the values of a file to the type of the log changes none of them. It
    fails for an integer that is too large."""
    if pa.types.is_struct(stored) and pa.types.is_struct(kind):
        return all(
            keeps_values(field.type, kind.field(field.name).type)
            for field in stored
            if kind.get_field_index(field.name) >= 0
        )
    if stored.num_fields and stored.num_fields == kind.num_fields:
        pairs = ((stored.field(n).type, kind.field(n).type) for n in range(kind.num_fields))
        return all(keeps_values(*pair) for pair in pairs)
    if pa.types.is_timestamp(kind) and pa.types.is_temporal(stored):
        is_int96 = stored == pa.timestamp("ns")  # how it is shown
        is_cut = getattr(stored, "unit", "us") == "ns"
        return bool(is_int96 or (not is_cut and getattr(stored, "tz", None) == kind.tz))
    if pa.types.is_decimal(kind) and pa.types.is_decimal(stored):
        return bool(stored.scale <= kind.scale)
    if pa.types.is_integer(stored) and (pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        return True
    return bool(common_type(stored, kind) == kind)
