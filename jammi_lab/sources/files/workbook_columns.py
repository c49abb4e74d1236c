"""Columns of the cells of a workbook: the type that all cells of a column give, or one that the
source's options ask for.

The cells are values of python-calamine: numbers (int or float), text, booleans, dates, dates with
time, times of day and durations; a blank one is None.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa

MAX_EXACT_INTEGER = 2**53
"""From here on a workbook, which keeps numbers as DOUBLE, does not distinguish all integers."""
_ISO_DURATION = re.compile(r"PT(\d+)H(\d+)M(\d+(?:\.\d+)?)S")
_DECIMAL_TYPE = re.compile(r"(?:DECIMAL|NUMERIC) ?\( ?(\d+) ?(?:, ?(\d+) ?)?\)")
_TEXT_TYPES = ("VARCHAR", "TEXT", "STRING", "CHAR")
_KIND_NAMES = {
    float: "a number",
    str: "text",
    bool: "a boolean",
    dt.date: "a date",
    dt.datetime: "a date with time",
    dt.time: "a time",
    dt.timedelta: "a duration",
}


class RefusedWorkbook(Exception):
    """The workbook cannot be read as asked: message, hint, and near names."""

    def __init__(self, message: str, hint: str = "", near: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.hint, self.near = hint, list(near)


class CellColumn(NamedTuple):
    """The cells of a column, None where blank."""

    name: str
    values: list[Any]
    address: Callable[[int], str]
    """The address of the cell of a row."""

    def decided(self) -> tuple[pa.Array, str | None]:
        """The values in the type that their kinds give, and the note about it."""
        kinds = _kinds(self.values)
        if str in kinds and _kinds(map(_duration, self.values)) == {dt.timedelta}:  # of .ods
            kinds = {dt.timedelta}
        match kinds:
            case _ if not kinds or kinds == {str}:
                return pa.array(self.values, pa.string()), None
            case _ if kinds == {float}:
                return self._numbers()
            case _ if kinds == {bool}:
                return pa.array(self.values, pa.bool_()), None
            case _ if kinds == {dt.date}:
                return pa.array(self.values, pa.date32()), None
            case _ if kinds <= {dt.date, dt.datetime}:
                times = [None if value is None else _at_midnight(value) for value in self.values]
                return pa.array(times, pa.timestamp("us")), None
            case _ if kinds == {dt.time}:
                return pa.array(self.values, pa.time64("us")), None
            case _ if kinds == {dt.timedelta}:
                return pa.array(map(_duration, self.values), pa.duration("us")), None
        examples = []
        for kind in sorted(kinds, key=str)[:2]:
            row = next(row for row, value in enumerate(self.values) if _kinds([value]) == {kind})
            examples.append(f"{self.address(row)} is {_KIND_NAMES[kind]}")
        return self._texts(), f"{self.name}: VARCHAR, because {' and '.join(examples)}"

    def _numbers(self) -> tuple[pa.Array, str | None]:
        numbers = pa.array(self.values, pa.float64())
        if not all(value is None or float(value).is_integer() for value in self.values):
            return numbers, None
        for row, value in enumerate(self.values):
            if value is not None and abs(value) >= MAX_EXACT_INTEGER:
                return numbers, (
                    f"{self.name}: DOUBLE, because {self.address(row)} has more digits than a "
                    "workbook keeps"
                )
        return numbers.cast(pa.int64()), None

    def _texts(self) -> pa.Array:
        return pa.array(
            [None if value is None else cell_text(value) for value in self.values], pa.string()
        )

    def converted(self, kind: str, place: str) -> pa.Array:
        """The values in a type of the option `types`; none is rounded, cut or turned."""
        if kind in _TEXT_TYPES:
            return self._texts()
        arrow_type, convert = _converter(kind)
        results = []
        for row, value in enumerate(self.values):
            try:
                result = None if value is None else convert(value)
                results.append(pa.scalar(result, arrow_type))
            except (ArithmeticError, TypeError, ValueError):
                raise RefusedWorkbook(
                    f"{place}, cell {self.address(row)}: {cell_text(value)[:60]!r} is not a "
                    f"{kind}.",
                    f'Correct the cell, or set options={{"types": {{"{self.name}": "VARCHAR"}}}}.',
                ) from None
        return pa.array(results, arrow_type)


def _kinds(values: Iterable[Any]) -> set[type]:
    """The types of the values that are not None; float for every number."""
    kinds = set(map(type, values)) - {type(None)}
    return {float if kind is int else kind for kind in kinds}


def _duration(value: Any) -> Any:
    """A time of day or the ISO text of an .ods file as a duration; other values as they are."""
    if isinstance(value, dt.time):
        return dt.timedelta(
            hours=value.hour,
            minutes=value.minute,
            seconds=value.second,
            microseconds=value.microsecond,
        )
    if isinstance(value, str) and (match := _ISO_DURATION.fullmatch(value)):
        return dt.timedelta(hours=int(match[1]), minutes=int(match[2]), seconds=float(match[3]))
    return value


def _at_midnight(value: dt.date) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return value
    return dt.datetime.combine(value, dt.time())


def cell_text(value: Any) -> str:
    """A cell as it is shown, but dates and times in ISO 8601 and numbers with all their digits."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT_INTEGER:
        return str(int(value))
    if isinstance(value, dt.datetime):
        return value.isoformat(" ")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        seconds = abs(value).total_seconds()
        sign = "-" if value < dt.timedelta() else ""
        hours, minutes = divmod(int(seconds // 60), 60)
        return f"{sign}{hours}:{minutes:02}:{seconds % 60:02g}"
    return str(value)


def _converter(kind: str) -> tuple[pa.DataType, Callable[[Any], Any]]:
    """The Arrow type of an SQL type, and the strict conversion of a cell to it."""
    if kind in _INTEGERS:
        return _INTEGERS[kind], _to_integer
    if kind in ("DOUBLE", "FLOAT", "REAL"):
        return pa.float64(), _to_double
    if match := _DECIMAL_TYPE.fullmatch(kind):
        scale = int(match[2] or 0)
        return pa.decimal128(int(match[1]), scale), lambda value: _to_decimal(value, scale)
    if kind in ("BOOLEAN", "BOOL"):
        return pa.bool_(), _to_boolean
    if kind == "DATE":
        return pa.date32(), lambda value: _to_time(value, dt.date)
    if kind in ("TIMESTAMP", "DATETIME"):
        return pa.timestamp("us"), lambda value: _at_midnight(_to_time(value, dt.datetime))
    if kind == "TIME":
        return pa.time64("us"), lambda value: _to_time(value, dt.time)
    if kind == "INTERVAL":
        return pa.duration("us"), _to_duration
    raise RefusedWorkbook(
        f"A column of a workbook cannot be read as {kind}.",
        "Read it as VARCHAR and cast it in the statement.",
    )


_INTEGERS = {
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INT": pa.int32(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
}


def _reject_other(value: Any, *kinds: type) -> None:
    """Raise TypeError unless the type of a value is one of these."""
    if type(value) not in kinds:
        raise TypeError(value)


def _to_integer(value: Any) -> int:
    _reject_other(value, float, int, str)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _to_double(value: Any) -> float:
    _reject_other(value, float, int, str)
    return float(value)


def _to_decimal(value: Any, scale: int) -> Decimal:
    _reject_other(value, float, int, str)
    number = Decimal(str(value))
    rounded = round(number, scale)
    if rounded != number:
        raise ValueError(value)
    return rounded


def _to_boolean(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    _reject_other(value, bool)
    return bool(value)


def _to_time(value: Any, kind: type[dt.date] | type[dt.time]) -> Any:
    if isinstance(value, str):
        return kind.fromisoformat(value)
    _reject_other(value, kind, *([dt.date] if kind is dt.datetime else []))
    return value


def _to_duration(value: Any) -> dt.timedelta:
    duration: dt.timedelta = _duration(value)
    _reject_other(duration, dt.timedelta)
    return duration
