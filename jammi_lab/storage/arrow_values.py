"""Conversion of Python values to Arrow arrays, and of Arrow arrays to other types, that never
changes a value.

`pa.array` of pyarrow 26 silently converts 3.5 to an integer, a timestamp to its date or to a
coarser unit, 1e300 to an infinite float32, and a time with a time zone to one without. A "safe"
cast of Arrow turns 5 into true, a timestamp into its date, drops a time zone or fields of a struct.
"""

import datetime
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from jammi_lab.core.dataframes import nested_types
from jammi_lab.storage.arrow_digests import arrow_digests
from jammi_lab.storage.parquet import decoded_column, foreign_types

_EXACT_PYTHON_TYPES: Mapping[Any, frozenset[type]] = {
    pa.types.is_integer: frozenset({int}),
    pa.types.is_boolean: frozenset({bool}),
    pa.types.is_float64: frozenset({float, int}),
    pa.types.is_string: frozenset({str}),
    pa.types.is_large_string: frozenset({str}),
    pa.types.is_binary: frozenset({bytes}),
    pa.types.is_large_binary: frozenset({bytes}),
    pa.types.is_date32: frozenset({datetime.date}),
}
"""Types that Arrow converts exactly or rejects, with the matching Python types; no check is needed.
"""
_NANOSECOND_TYPES = ("timestamp[ns", "time64[ns", "duration[ns")
"""Types that Python cannot represent without pandas. Arrow has no finer ones."""


_UNITS = ("s", "ms", "us", "ns")
_MANTISSA_BITS = {64: 53, 32: 24, 16: 11}
_MAX_DECIMAL_DIGITS = 38


def intact_schema(schema: pa.Schema) -> pa.Schema:
    """A schema that was read, whose names and time zones are text. Raises ArrowInvalid."""
    with foreign_types():
        for kind in nested_types(pa.struct(schema)):
            getattr(kind, "tz", None)
            for number in range(kind.num_fields):
                kind.field(number).name  # noqa: B018  it is decoded here
    return schema


def intact_rows(rows: pa.Table) -> pa.Table:
    """Rows that were read from a file or a catalog, whose content Arrow does not check: a place
    beyond the end of a buffer ends the process that reads it. Raises ArrowInvalid.

    The range of a number is no place, and DuckDB has wider ones: 39 digits, and the time 24:00."""
    intact_schema(rows.schema)
    rows.validate()
    for chunk in itertools.chain.from_iterable(column.chunks for column in rows.columns):
        chunk.view(_with_parts(chunk.type, _without_range)).validate(full=True)
    return rows


def read_rows(open_rows: Callable[[Any], Any], content: Any) -> pa.Table:
    """The rows of a file or a stream, which a function of Arrow opens. Raises as
    `intact_rows`, and OSError."""
    with foreign_types():
        rows = open_rows(content).read_all()
    return intact_rows(rows)


def has_periods(field: pa.Field) -> bool:
    """Whether the integers of a column are periods of pandas, whose type Arrow knows only when
    pandas is loaded."""
    return "pandas.period" in f"{field.type} {field.metadata}"


def _without_range(kind: pa.DataType) -> pa.DataType:
    """A type of the same bytes without values that are none."""
    if pa.types.is_decimal(kind):
        return pa.binary(kind.byte_width)
    if pa.types.is_date64(kind) or pa.types.is_time(kind):
        return {32: pa.int32(), 64: pa.int64()}[kind.bit_width]
    return kind


def cast_losslessly(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The values in another type of the same kind, in which each is the same value: a number, a
    time, a text or bytes, or nested values of these.

    Raises ArrowInvalid, which names the first value that is none of that type and its row.
    """
    if column.type == kind:
        return column
    if pa.types.is_null(column.type):
        return column.cast(kind)
    column = decoded_column(column)
    if not _are_of_one_kind(column.type, kind):
        raise pa.ArrowInvalid(f"{column.type} is not {kind}")
    converted = _cast_column(column, kind)
    if converted is None:
        row = _first_lossy_row(column, kind)
        raise pa.ArrowInvalid(
            f"{_format_value(column[row])} in row {row + 1:,} is not a valid {kind}"
        )
    return converted


def _cast_column(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """The column in another type; None if a value would change."""
    try:
        narrow = column
        if pa.types.is_integer(column.type) and pa.types.is_decimal(kind):
            narrow = column.cast(pa.decimal128(20, 0))  # Arrow looks at the type's digits alone
        converted = narrow.cast(kind)
        back = converted.cast(column.type)
        column.validate(full=True)
    except (pa.ArrowException, ValueError):
        return None
    digests = [arrow_digests(pa.table([each], ["x"])) for each in (column, back)]
    return converted if digests[0] == digests[1] else None


def _first_lossy_row(column: pa.ChunkedArray, kind: pa.DataType) -> int:
    start, end = 0, len(column)
    while end - start > 1:
        middle = (start + end) // 2
        if _cast_column(column[start:middle], kind) is None:
            end = middle
        else:
            start = middle
    return start


def _format_value(value: pa.Scalar) -> str:
    try:
        return repr(value.as_py())[:60]
    except (ValueError, OverflowError):  # Python has no such value
        return f"the {value.type}"


def _are_of_one_kind(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether a value of one type may be a value of the other. Texts are never numbers, numbers
    never truth values, and moments never times of a wall clock."""
    if pa.types.is_null(source) or source == target:
        return True
    if pa.types.is_struct(source) and pa.types.is_struct(target):
        fields = {field.name: field.type for field in target}
        return [field.name for field in source] == list(fields) and all(
            _are_of_one_kind(field.type, fields[field.name]) for field in source
        )
    if pa.types.is_map(source) and pa.types.is_map(target):
        return _are_of_one_kind(source.key_type, target.key_type) and _are_of_one_kind(
            source.item_type, target.item_type
        )
    if _is_list(source) and _is_list(target):
        return _are_of_one_kind(source.value_type, target.value_type)
    if pa.types.is_decimal(source) and pa.types.is_floating(target):
        return False  # 1.1 is no binary fraction
    if pa.types.is_floating(source) and pa.types.is_decimal(target):
        return False
    kind = _kind_of(source)
    return kind is not None and kind == _kind_of(target)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _kind_of(kind: pa.DataType) -> str | None:
    if pa.types.is_timestamp(kind):
        return "moment" if kind.tz else "timestamp"
    return next((name for is_kind, name in _KINDS.items() if is_kind(kind)), None)


_KINDS: Mapping[Any, str] = {
    pa.types.is_integer: "number",
    pa.types.is_floating: "number",
    pa.types.is_decimal: "number",
    pa.types.is_string: "text",
    pa.types.is_large_string: "text",
    pa.types.is_string_view: "text",
    pa.types.is_binary: "bytes",
    pa.types.is_large_binary: "bytes",
    pa.types.is_binary_view: "bytes",
    pa.types.is_fixed_size_binary: "bytes",
    pa.types.is_date: "date",
    pa.types.is_time: "time",
    pa.types.is_duration: "duration",
}


def with_sql_precision(kind: pa.DataType, *, times: bool = False) -> pa.DataType:
    """The type with the units that SQL has for it, at every depth: durations, moments and, if asked
    for, times of day in microseconds, dates in days, float32 for half floats."""

    def of_part(kind: pa.DataType) -> pa.DataType:
        if times and pa.types.is_time64(kind):
            return pa.time64("us")
        if pa.types.is_duration(kind):
            return pa.duration("us")
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            return pa.timestamp("us", kind.tz)
        if pa.types.is_date64(kind):
            return pa.date32()
        if pa.types.is_float16(kind):
            return pa.float32()
        return kind

    return _with_parts(kind, of_part)


def _with_parts(kind: pa.DataType, of_part: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type with others for what nested values are made of, at every depth."""
    parts = [kind.field(i) for i in range(kind.num_fields)]
    parts = [part.with_type(_with_parts(part.type, of_part)) for part in parts]
    if pa.types.is_list(kind):
        return pa.list_(*parts)
    if pa.types.is_large_list(kind):
        return pa.large_list(*parts)
    if pa.types.is_list_view(kind):
        return pa.list_view(*parts)
    if pa.types.is_large_list_view(kind):
        return pa.large_list_view(*parts)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(*parts, kind.list_size)
    if pa.types.is_map(kind):
        [entry] = parts
        return pa.map_(entry.type.field(0), entry.type.field(1))
    if pa.types.is_struct(kind):
        return pa.struct(parts)
    return of_part(kind)


def common_type(
    left: pa.DataType, right: pa.DataType, *, merges_fields: bool = False
) -> pa.DataType | None:
    """The type that holds every value of both types; None if there is none. With `merges_fields` a
    struct has the fields of both."""
    if left == right or pa.types.is_null(right) or widens(right, left):
        return left
    if pa.types.is_null(left) or widens(left, right):
        return right
    if pa.types.is_integer(left) and pa.types.is_integer(right):
        width = 2 * max(left.bit_width, right.bit_width)
        return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(width)
    if pa.types.is_decimal(left) and pa.types.is_decimal(right):
        scale = max(left.scale, right.scale)
        digits = scale + max(left.precision - left.scale, right.precision - right.scale)
        return pa.decimal128(digits, scale) if digits <= _MAX_DECIMAL_DIGITS else None
    if pa.types.is_struct(left) and pa.types.is_struct(right):
        return _common_struct(left, right, merges_fields=merges_fields)
    if _is_list(left) and _is_list(right):
        item = common_type(left.value_type, right.value_type, merges_fields=merges_fields)
        return None if item is None else pa.list_(item)
    return None


def _common_struct(
    left: pa.StructType, right: pa.StructType, *, merges_fields: bool
) -> pa.DataType | None:
    fields = {field.name: field.type for field in left}
    if not merges_fields and fields.keys() != {field.name for field in right}:
        return None
    for field in right:
        known = fields.get(field.name, pa.null())
        both = common_type(known, field.type, merges_fields=merges_fields)
        if both is None:
            return None
        fields[field.name] = both
    return pa.struct(list(fields.items()))


def widens(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether every value of the first type is also a value of the second."""
    kinds = pa.types
    fits = False
    if kinds.is_integer(source) and kinds.is_integer(target):
        signs = kinds.is_signed_integer(source), kinds.is_signed_integer(target)
        fits = signs[0] <= signs[1] and source.bit_width < target.bit_width
    elif kinds.is_integer(source) and kinds.is_floating(target):
        fits = source.bit_width <= _MANTISSA_BITS[target.bit_width]
    elif kinds.is_floating(source) and kinds.is_floating(target):
        fits = source.bit_width < target.bit_width
    elif kinds.is_decimal(source) and kinds.is_decimal(target):
        fits = (
            source.scale <= target.scale
            and source.precision - source.scale <= target.precision - target.scale
        )
    elif (kinds.is_timestamp(source) and kinds.is_timestamp(target) and source.tz == target.tz) or (
        kinds.is_time(source) and kinds.is_time(target)
    ):
        fits = _UNITS.index(source.unit) < _UNITS.index(target.unit)
    return fits


def to_arrow_array(values: Sequence[Any], arrow_type: pa.DataType | None = None) -> pa.Array:
    """An array of the values, of the given type or of their common type.

    Raises what `pa.array` raises, and ArrowInvalid when a value would change: a fraction converted
    to an integer, a timestamp with a time of day to a date, more digits than the unit has, a time
    zone dropped, a number outside the range of float32.
    """
    array = pa.array(values, arrow_type)
    exact_types = next(
        (types for is_kind, types in _EXACT_PYTHON_TYPES.items() if is_kind(array.type)), None
    )
    if str(array.type).startswith(_NANOSECOND_TYPES):
        return array
    if exact_types is None or not {type(value) for value in values} <= exact_types | {type(None)}:
        check_preserved(values, array)
    return array


def check_preserved(values: Sequence[Any], array: pa.Array) -> None:
    """Raise ArrowInvalid when an array of Python values has one that changed."""
    for value, converted in zip(values, array.to_pylist(), strict=True):
        if not _is_preserved(value, converted):
            raise pa.ArrowInvalid(f"{value!r} is not a valid {array.type}")


def _is_preserved(value: Any, converted: Any) -> bool:
    """Whether the conversion preserved the value. Rounding to float32 does, and so does reading a
    timestamp without time zone as UTC."""
    match converted:
        case None:
            return True  # a NaT, or one of the values that mean NULL to pandas
        case bytes():
            return not isinstance(value, str)
        case float():
            return math.isfinite(converted) or not _is_finite(value)
        case datetime.datetime():
            return not isinstance(value, datetime.datetime) or _is_same_moment(value, converted)
        case datetime.date():
            return value == converted or (
                isinstance(value, datetime.datetime)
                and value == datetime.datetime.combine(converted, datetime.time())
            )
        case int() | Decimal() | datetime.time() | datetime.timedelta():
            return not isinstance(
                value, int | float | Decimal | datetime.time | datetime.timedelta
            ) or bool(value == converted)
        case list() if isinstance(value, Mapping):
            return _are_all_preserved(
                (part for pair in value.items() for part in pair),
                (part for pair in converted for part in pair),
            )
        case list() if isinstance(value, Iterable):
            return _are_all_preserved(value, converted)
        case tuple() if isinstance(value, tuple):
            return _are_all_preserved(value, converted)
        case dict() if isinstance(value, Mapping):
            return all(_is_preserved(value.get(name), item) for name, item in converted.items())
    return True


def _are_all_preserved(values: Iterable[Any], converted: Iterable[Any]) -> bool:
    return all(
        _is_preserved(value, result) for value, result in zip(values, converted, strict=True)
    )


def _is_same_moment(value: datetime.datetime, converted: datetime.datetime) -> bool:
    if value.tzinfo is None and converted.tzinfo is not None:
        return value == converted.astimezone(datetime.UTC).replace(tzinfo=None)
    return value == converted


def _is_finite(value: Any) -> bool:
    return not isinstance(value, int | float | Decimal) or math.isfinite(value)
