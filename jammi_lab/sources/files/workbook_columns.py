"""Columns of the cells of a workbook: the type that all cells of a column give, or texts.

The cells are values of python-calamine: numbers (int or float), text, booleans, dates, dates with
time, times of day and durations; a blank one is None.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pyarrow as pa

MAX_EXACT_INTEGER = 2**53
"""From here on a workbook, which keeps numbers as DOUBLE, does not distinguish all integers."""
_ISO_DURATION = re.compile(r"(-?)PT(\d+)H(\d+)M(\d+(?:\.\d+)?)S")
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
        return self.texts(), f"{self.name}: VARCHAR, because {' and '.join(examples)}"

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

    def texts(self) -> pa.Array:
        """The values as they are shown."""
        return pa.array(
            [None if value is None else cell_text(value) for value in self.values], pa.string()
        )


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
        sign, hours, minutes, seconds = match.groups()
        length = dt.timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
        return -length if sign else length
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


def cell_address(column: int, row: int) -> str:
    """The address of a cell, such as B3, by its place, counted from 0."""
    letters = ""
    while column >= 0:
        letters = chr(ord("A") + column % 26) + letters
        column = column // 26 - 1
    return f"{letters}{row + 1}"
