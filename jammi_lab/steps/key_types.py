"""Comparison of values of two tables: a common type in which both are exact, so that equality is
exact, too."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.storage.parquet import decoded_column

_TIME_UNITS = ("s", "ms", "us", "ns")
_ARROW_TYPES = {
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
_UNSUPPORTED = pa.struct([])


def to_arrow_type(sql: str) -> pa.DataType:
    """The Arrow type of the engine's results for a SQL type; an empty struct for nested types and
    types without an order."""
    if decimal := re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", sql):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    if sql.startswith("ENUM(") and sql.endswith(")"):
        return pa.string()
    return _ARROW_TYPES.get(sql, _UNSUPPORTED)


def single_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array of plain type: no dictionary, view or extension type."""
    column = decoded_column(column)
    array = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
    # pyarrow combines no chunk at all into a chunked array
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def common_type(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """The type in which values of both types can be compared without loss; None for types of
    different kinds."""
    kinds = (left, right)
    if pa.types.is_null(left) or pa.types.is_null(right):
        return left if pa.types.is_null(right) else right
    if all(pa.types.is_string(k) or pa.types.is_large_string(k) for k in kinds):
        return pa.large_string()
    if all(
        pa.types.is_binary(k) or pa.types.is_large_binary(k) or pa.types.is_fixed_size_binary(k)
        for k in kinds
    ):
        return left if left == right else pa.large_binary()
    if all(pa.types.is_integer(k) or pa.types.is_decimal(k) for k in kinds):
        return _common_number_type(left, right)
    if all(pa.types.is_floating(k) for k in kinds):
        return pa.float64()
    if all(is_wall_clock(k) for k in kinds):
        return left if left == right else pa.timestamp(_finest_unit(left, right))
    if all(is_moment(k) for k in kinds):
        return pa.timestamp(_finest_unit(left, right), "UTC")
    if all(pa.types.is_time(k) for k in kinds):
        return pa.time64("ns" if "ns" in (left.unit, right.unit) else "us")
    return left if left == right and not pa.types.is_nested(left) else None


def cast_exactly(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values cast to a type; NULL where the type cannot hold the value, which then equals no
    value that it can hold."""
    if pa.types.is_floating(values.type):
        return pc.add(values.cast(kind), pa.scalar(0.0, kind))  # −0 and 0 are one number
    if values.type == kind:
        return values
    if pa.types.is_integer(values.type) and pa.types.is_decimal(kind):
        return values.cast(pa.decimal128(20, 0)).cast(kind)
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:
        converted = values.cast(kind, safe=False)
        return pc.if_else(
            pc.equal(converted.cast(values.type, safe=False), values),
            converted,
            pa.scalar(None, kind),
        )


def is_wall_clock(kind: pa.DataType) -> bool:
    """Whether a type is a date or a timestamp without a time zone."""
    return bool(pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None))


def is_moment(kind: pa.DataType) -> bool:
    """Whether a type is a timestamp with a time zone."""
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


def _common_number_type(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    if all(pa.types.is_integer(k) and not pa.types.is_uint64(k) for k in (left, right)):
        return pa.int64()
    if left == right:
        return left
    scales = [k.scale for k in (left, right) if pa.types.is_decimal(k)]
    return pa.decimal128(20, 0) if not scales else pa.decimal256(76, max(scales))


def _finest_unit(left: pa.DataType, right: pa.DataType) -> str:
    return max(
        (k.unit for k in (left, right) if pa.types.is_timestamp(k)),
        key=_TIME_UNITS.index,
        default="s",
    )
