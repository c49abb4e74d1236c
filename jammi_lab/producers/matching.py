"""Values of two tables beside each other: in a type in which both are exact, so that equal means equal."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.storage.parquet import plain_column
from jammi_lab.vectors.arrays import found_of
from jammi_lab.vectors.exact import Places

_UNITS = ("s", "ms", "us", "ns")
_ARROW = {
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "HUGEINT": pa.decimal128(38, 0),
    "UHUGEINT": pa.decimal128(38, 0),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "UUID": pa.string(),
    "BLOB": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIME_NS": pa.time64("ns"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_S": pa.timestamp("s"),
    "TIMESTAMP_MS": pa.timestamp("ms"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    '"NULL"': pa.null(),
}
_NESTED = pa.struct([])


def arrow_of(sql: str) -> pa.DataType:
    """The Arrow type in which the engine hands out values of an SQL type; a struct of nothing for any that is nested or has no order."""
    if found := re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", sql):
        return pa.decimal128(int(found[1]), int(found[2]))
    if sql.startswith("ENUM(") and sql.endswith(")"):
        return pa.string()
    return _ARROW.get(sql, _NESTED)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array of plain type: no dictionary, no view, no extension."""
    column = plain_column(column)
    array = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array  # of no chunk at all pyarrow makes a chunked one
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type in which values of both can be compared and none loses a part; None when they are of different kinds."""
    kinds = (one, other)
    if pa.types.is_null(one) or pa.types.is_null(other):
        return one if pa.types.is_null(other) else other
    if all(pa.types.is_string(k) or pa.types.is_large_string(k) for k in kinds):
        return pa.large_string()
    if all(pa.types.is_binary(k) or pa.types.is_large_binary(k) or pa.types.is_fixed_size_binary(k) for k in kinds):
        return one if one == other else pa.large_binary()
    if all(pa.types.is_integer(k) or pa.types.is_decimal(k) for k in kinds):
        return _number(one, other)
    if all(pa.types.is_floating(k) for k in kinds):
        return pa.float64()
    if all(is_wall_clock(k) for k in kinds):
        return one if one == other else pa.timestamp(_finest(one, other))
    if all(is_moment(k) for k in kinds):
        return pa.timestamp(_finest(one, other), "UTC")
    if all(pa.types.is_time(k) for k in kinds):
        return pa.time64("ns" if "ns" in (one.unit, other.unit) else "us")
    return one if one == other and not pa.types.is_nested(one) else None


def as_type(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values as that type; NULL for one so far away that the type cannot hold it, and that equals none which it can."""
    if pa.types.is_floating(values.type):
        return pc.add(values.cast(kind), pa.scalar(0.0, kind))  # −0 and 0 are one number
    if values.type == kind:
        return values
    if pa.types.is_integer(values.type) and pa.types.is_decimal(kind):
        return values.cast(pa.decimal128(20, 0)).cast(kind)
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:
        moved = values.cast(kind, safe=False)
        return pc.if_else(pc.equal(moved.cast(values.type, safe=False), values), moved, pa.scalar(None, kind))


def is_wall_clock(kind: pa.DataType) -> bool:
    """Dates and times without a zone."""
    return bool(pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None))


def is_moment(kind: pa.DataType) -> bool:
    """Times with a zone."""
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


class Groups:
    """Numbers for the combinations of values of some columns: equal ones have one number, and −1 stands for any with a NULL in it."""

    def __init__(self, columns: Sequence[pa.Array], rows: int, kinds: Sequence[pa.DataType]) -> None:
        """`kinds`: for each column the type in which it is compared."""
        self._kinds, self._values, self._known = kinds, [], []
        self.numbers = np.zeros(rows, np.int64)
        for column, kind in zip(columns, kinds, strict=True):
            encoded = as_type(column, kind).dictionary_encode()
            self._values.append(encoded.dictionary)
            codes = found_of(encoded.indices)
            combined = _combined(self.numbers, codes, len(encoded.dictionary))
            known = np.unique(combined[combined >= 0])
            self._known.append(known)
            self.numbers = _numbered(combined, known)

    def of(self, columns: Sequence[pa.Array], rows: int) -> Places:
        """The numbers of other rows; −1 also for a combination that is not there."""
        numbers = np.zeros(rows, np.int64)
        for column, kind, values, known in zip(columns, self._kinds, self._values, self._known, strict=True):
            codes = found_of(pc.index_in(as_type(column, kind), value_set=values, skip_nulls=True))
            numbers = _numbered(_combined(numbers, codes, len(values)), known)
        return numbers


def _combined(numbers: Places, codes: Places, count: int) -> Places:
    return np.where((numbers < 0) | (codes < 0), -1, numbers * max(1, count) + codes)


def _numbered(combined: Places, known: Places) -> Places:
    """The place of each among those that are known; −1 for the others."""
    if not len(known):
        return np.full(len(combined), -1, np.int64)
    place = np.minimum(np.searchsorted(known, combined), len(known) - 1)
    return np.where(known[place] == combined, place, -1)


def _number(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if all(pa.types.is_integer(k) and not pa.types.is_uint64(k) for k in (one, other)):
        return pa.int64()
    if one == other:
        return one
    scales = [k.scale for k in (one, other) if pa.types.is_decimal(k)]
    return pa.decimal128(20, 0) if not scales else pa.decimal256(76, max(scales))


def _finest(one: pa.DataType, other: pa.DataType) -> str:
    return max((k.unit for k in (one, other) if pa.types.is_timestamp(k)), key=_UNITS.index, default="s")
