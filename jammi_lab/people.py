"""Values of Arrow columns as people look at them: also those that Python has no object for."""

import datetime as dt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_A_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_EPOCH = 719_468
"""Days from the first of March of the year 0 to the first of January 1970."""


_MUCH = 1_000_000
"""Bytes of nested values of which only the beginning is made into Python's objects."""
_BEGINNING = 100


class Begun(list[Any]):
    """The beginning of a long list; `whole` is how many it has."""

    def __init__(self, beginning: list[Any], whole: int) -> None:
        super().__init__(beginning)
        self.whole = whole


def for_people(column: "pa.ChunkedArray", decimals: int | None = None) -> list[Any]:
    """The values of a column; float32 in as many digits as tell them apart, where Python would show those of a double, or in so many after the
    point; dates before the year 1 and beyond 9999 as text."""
    import pyarrow as pa

    if decimals is not None:
        return [None if value is None else f"{value:.{decimals}f}" for value in column.to_pylist()]
    if pa.types.is_nested(column.type) and column.nbytes > _MUCH:
        return [_value(scalar) for chunk in column.chunks for scalar in chunk]
    try:
        values: list[Any] = (column.cast(pa.string()) if pa.types.is_float32(column.type) else column).to_pylist(maps_as_pydicts="lossy")
    except (OverflowError, ValueError, TypeError):  # far dates, nanoseconds without pandas, keys of maps that Python does not hash
        values = [_value(scalar) for chunk in column.chunks for scalar in chunk]
    return values


def _value(scalar: "pa.Scalar") -> Any:
    """One value, whatever of it Python can hold; the rest as text."""
    import pyarrow as pa

    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_map(kind):
        return {_key(key): _value(value) for key, value in zip(scalar.values.field(0), scalar.values.field(1), strict=True)}
    if pa.types.is_struct(kind):
        return {name: _value(scalar[name]) for name in (kind.field(i).name for i in range(kind.num_fields))}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return Begun([_value(each) for each in scalar.values.slice(0, _BEGINNING)], len(scalar.values))
    if pa.types.is_date32(kind):
        return _day(scalar.value)
    if pa.types.is_timestamp(kind):
        return _moment(scalar.value, kind.unit, zoned=kind.tz is not None)
    if pa.types.is_time64(kind):
        return _moment(scalar.value, kind.unit, zoned=False).split(" ")[1]
    return scalar.as_py()


def _key(scalar: "pa.Scalar") -> Any:
    """A key of a map, as something that Python hashes."""
    from jammi_lab.markup import as_text

    value = _value(scalar)
    return as_text(value) if isinstance(value, dict | list) else value


def _day(days: int) -> Any:
    """A date from the days since 1970: Python's own where it has one, else the text that the engine writes."""
    if abs(days) >= 2**31 - 1:
        return "infinity" if days > 0 else "-infinity"
    shifted = days + _EPOCH
    era, of_era = divmod(shifted, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    day = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * day + 2) // 153
    day, year = day - (153 * month + 2) // 5 + 1, year + era * 400 + (month >= 10)
    month = month + 3 if month < 10 else month - 9
    if 1 <= year <= 9999:
        return dt.date(year, month, day)
    return f"{year:04}-{month:02}-{day:02}" if year > 0 else f"{1 - year:04}-{month:02}-{day:02} (BC)"


def _moment(value: int, unit: str, *, zoned: bool) -> Any:
    """A timestamp from what has passed since 1970."""
    if abs(value) >= 2**63 - 1:
        return "infinity" if value > 0 else "-infinity"
    days, rest = divmod(value, _A_DAY[unit])
    per_second = _A_DAY[unit] // 86_400
    seconds, part = divmod(rest, per_second)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    part_text = f".{part:0{len(str(per_second)) - 1}}".rstrip("0") if part else ""
    return f"{_day(days)} {clock}{part_text}{'+00:00' if zoned else ''}"
