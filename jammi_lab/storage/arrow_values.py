"""Conversion of Python values to Arrow arrays that never changes a value.

`pa.array` of pyarrow 26 silently converts 3.5 to an integer, a timestamp to its date or to a
coarser unit, 1e300 to an infinite float32, and a time with a time zone to one without.
"""

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

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
        for value, converted in zip(values, array.to_pylist(), strict=True):
            if not _is_preserved(value, converted):
                raise pa.ArrowInvalid(f"{value!r} is not a valid {array.type}")
    return array


def _is_preserved(value: Any, converted: Any) -> bool:
    """Whether the conversion preserved the value. Rounding to float32 does, and so does reading a
    timestamp without time zone as UTC."""
    match converted:
        case None:
            return True  # a NaT, or one of the values that mean NULL to pandas
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
