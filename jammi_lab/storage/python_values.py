"""Python values as an Arrow array, and none of them as another value.

`pa.array` of pyarrow 26 takes 3.5 for a whole number, a moment for its date or for a coarser moment, 1e300 for an infinite float32, and an hour in
one zone for an hour in none: without a word.
"""

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

_EXACT: Mapping[Any, frozenset[type]] = {
    pa.types.is_integer: frozenset({int}),
    pa.types.is_boolean: frozenset({bool}),
    pa.types.is_float64: frozenset({float, int}),
    pa.types.is_string: frozenset({str}),
    pa.types.is_large_string: frozenset({str}),
    pa.types.is_binary: frozenset({bytes}),
    pa.types.is_large_binary: frozenset({bytes}),
    pa.types.is_date32: frozenset({datetime.date}),
}
"""What Arrow converts exactly, or refuses: there is nothing to be compared."""
_FINEST = ("timestamp[ns", "time64[ns", "duration[ns")
"""What Python has no value for without pandas, and Arrow nothing finer."""


def array_of(values: Sequence[Any], kind: pa.DataType | None = None) -> pa.Array:
    """An array of the values, of the type that is given or that they have in common.

    Raises what `pa.array` raises; ArrowInvalid when a value would come out as another one: a fraction as a whole number, a moment with its time of
    day as a date, with more digits than the unit has or with a zone in a type without one, a number beyond a float32.
    """
    array = pa.array(values, kind)
    exact = next((types for is_kind, types in _EXACT.items() if is_kind(array.type)), None)
    if str(array.type).startswith(_FINEST):
        return array
    if exact is None or not {type(value) for value in values} <= exact | {type(None)}:
        for value, kept in zip(values, array.to_pylist(), strict=True):
            if not _same(value, kept):
                raise pa.ArrowInvalid(f"{value!r} is no {array.type}")
    return array


def _same(value: Any, kept: Any) -> bool:
    """Whether a value became what it is; rounding to a float32 counts as that, and a moment without a zone as one in UTC."""
    match kept:
        case None:
            return True  # a NaT, or one of the values that mean NULL to pandas
        case float():
            return math.isfinite(kept) or not _is_finite(value)
        case datetime.datetime():
            return not isinstance(value, datetime.datetime) or _same_moment(value, kept)
        case datetime.date():
            return value == kept or (isinstance(value, datetime.datetime) and value == datetime.datetime.combine(kept, datetime.time()))
        case int() | Decimal() | datetime.time() | datetime.timedelta():
            return not isinstance(value, int | float | Decimal | datetime.time | datetime.timedelta) or bool(value == kept)
        case list() if isinstance(value, Mapping):
            return _all_same((part for pair in value.items() for part in pair), (part for pair in kept for part in pair))
        case list() if isinstance(value, Iterable):
            return _all_same(value, kept)
        case tuple() if isinstance(value, tuple):
            return _all_same(value, kept)
        case dict() if isinstance(value, Mapping):
            return all(_same(value.get(name), each) for name, each in kept.items())
    return True


def _all_same(values: Iterable[Any], kept: Iterable[Any]) -> bool:
    return all(_same(value, each) for value, each in zip(values, kept, strict=True))


def _same_moment(value: datetime.datetime, kept: datetime.datetime) -> bool:
    if value.tzinfo is None and kept.tzinfo is not None:
        return value == kept.astimezone(datetime.UTC).replace(tzinfo=None)
    return value == kept


def _is_finite(value: Any) -> bool:
    return not isinstance(value, int | float | Decimal) or math.isfinite(value)
