"""Reads a sheet of a workbook into an Arrow file, in the child process of `reader_process.py`:
numbers of rows and columns in a damaged or hostile file can make the library allocate any amount of
memory or abort, which must not end the kernel. Loaded by path; it imports nothing of this package.

The cell types are those of the library: a cell is blank ("", also for an error cell), a number
(int or float), text, a boolean, a date, a date with time, a time of day or a duration.
"""

import datetime as dt
import difflib
import functools
import re
import resource
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.ipc
import python_calamine as calamine

_MAX_MEMORY_BYTES = 4 << 30
"""Address space for reading one workbook; a sheet of 1,000,000 rows × 20 takes a third of it."""
_MAX_ROWS = 1 << 20
"""The rows of a sheet in a spreadsheet program."""
_MAX_EXACT_INTEGER = 2**53
"""From here on a workbook, which keeps numbers as DOUBLE, does not distinguish all integers."""
_RANGE = re.compile(r"([A-Z]{1,3})(\d*):([A-Z]{1,3})(\d*)")
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
_Row = Sequence[Any]


class RefusedWorkbook(Exception):
    """The workbook cannot be read as asked: message, hint, and near names."""

    def __init__(self, message: str, hint: str = "", near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.hint, self.near = hint, list(near)


class _Area(NamedTuple):
    """Rows of cells with the place of the first one, counted from 0."""

    rows: Sequence[_Row]
    top: int
    left: int

    def address(self, column: int, first_row: int, row: int) -> str:
        """The address of a cell, such as B3; its row is counted from `first_row`."""
        return f"{_column_letters(self.left + column)}{self.top + first_row + row + 1}"


def read_workbook(request: dict[str, Any]) -> dict[str, Any]:
    """Write the rows of a sheet of the file `path` to the Arrow file `to`; the answer holds the
    notes, or why it was refused. `name` is the file's name in messages, `options` are those of the
    source."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, hard))
    try:
        table, notes = _read(request["path"], request["name"], request["options"])
        with pa.OSFile(request["to"], "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    except RefusedWorkbook as refusal:
        return {"refused": [str(refusal), refusal.hint, refusal.near]}
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return {"notes": notes}


def _read(path: str, name: str, options: dict[str, Any]) -> tuple[pa.Table, list[str]]:
    workbook = _call(calamine.load_workbook, path, problem=f"{name} is not a complete workbook.")
    sheets = [
        sheet.name
        for sheet in workbook.sheets_metadata
        if sheet.typ == calamine.SheetTypeEnum.WorkSheet
    ]
    sheet_name = options.get("sheet", sheets[0] if sheets else "")
    if sheet_name not in sheets:
        raise RefusedWorkbook(
            f"{name} has no sheet {sheet_name!r}.",
            f'Its sheets are {", ".join(sheets)}: set options={{"sheet": …}}.',
            difflib.get_close_matches(sheet_name, sheets),
        )
    sheet = _call(
        workbook.get_sheet_by_name,
        sheet_name,
        problem=f"{name}: the sheet {sheet_name} is damaged.",
    )
    if sheet.end is not None and sheet.end[0] >= _MAX_ROWS:
        raise RefusedWorkbook(
            f"{name} has a row numbered {sheet.end[0] + 1:,}; a sheet has at most {_MAX_ROWS:,} "
            "rows.",
            "Open it in a spreadsheet program and save it again.",
        )
    area = _area_of(sheet, options)
    if not area.rows:
        raise RefusedWorkbook(
            f"{name}: the sheet is empty.", "Add a header line and rows, or use another sheet."
        )
    table, notes = _typed_columns(area, options, f"{name}, sheet {sheet_name}")
    if len(sheets) > 1 and "sheet" not in options:
        others = ", ".join(sheets[1:])
        notes.append(f"sheet {sheet_name}: the first of {len(sheets)}; the others are {others}")
    return table, notes


def _typed_columns(area: _Area, options: dict[str, Any], place: str) -> tuple[pa.Table, list[str]]:
    """The rows as columns of one type each, and the notes. `place` names the sheet in messages."""
    has_header = options.get("header", True)
    width = len(area.rows[0])
    names = _column_names(area.rows[0] if has_header else [""] * width)
    first_row = 1 if has_header else 0
    types = _wanted_types(names, options, place)
    columns, notes = [], []
    cells = list(zip(*area.rows[first_row:], strict=True)) or [()] * width
    for position, column_name in enumerate(names):
        values = [None if value == "" else value for value in cells[position]]
        address = functools.partial(area.address, position, first_row)
        column = _Column(column_name, values, address)
        wanted = types.get(column_name)
        if wanted is not None:
            columns.append(column.converted(wanted, place))
            continue
        array, note = column.decided()
        columns.append(array)
        notes += [note] if note else []
    return pa.table(columns, names=names), notes


def _call(function: Callable[..., Any], *arguments: Any, problem: str) -> Any:
    """The result of a function of the library, whose panics are no `Exception`."""
    try:
        return function(*arguments)
    except calamine.PasswordError:
        raise RefusedWorkbook(
            problem.replace("a complete workbook", "readable: it is encrypted"),
            "Save it without a password.",
        ) from None
    except MemoryError:
        raise
    except BaseException as error:
        raise RefusedWorkbook(
            problem, "Open it in a spreadsheet program and save it again."
        ) from error


def _area_of(sheet: calamine.CalamineSheet, options: dict[str, Any]) -> _Area:
    """The cells to read: those of the option `range`, else all from the first row with a value
    below `skip` rows; without blank rows at the end."""
    if sheet.start is None:
        return _Area([], 0, 0)
    rows: list[_Row] = list(sheet.to_python())
    top, left = sheet.start
    if "range" in options:
        area = _cut_range(_Area(rows, top, left), options["range"])
        rows, top, left = list(area.rows), area.top, area.left
    else:
        skipped = max(options.get("skip", 0) - top, 0)
        while skipped < len(rows) and _is_blank(rows[skipped]):
            skipped += 1
        rows, top = rows[skipped:], top + skipped
    while rows and _is_blank(rows[-1]):
        rows.pop()
    if rows and "range" not in options:
        used = [at for at, cells in enumerate(zip(*rows, strict=True)) if not _is_blank(cells)]
        if used[-1] - used[0] + 1 < len(rows[0]):
            rows = [row[used[0] : used[-1] + 1] for row in rows]
            left += used[0]
    return _Area(rows, top, left)


def _cut_range(area: _Area, text: str) -> _Area:
    match = _RANGE.fullmatch(text.upper().replace("$", ""))
    if match is None:
        raise RefusedWorkbook(f"The range {text!r} is not one of cells.", 'For example "B3:F20".')
    first_column, first_row, last_column, last_row = match.groups()
    left, right = _column_number(first_column), _column_number(last_column)
    top = int(first_row or 1) - 1
    bottom = int(last_row) if last_row else area.top + len(area.rows)
    width = right - left + 1
    rows: list[_Row] = []
    for number in range(top, min(bottom, area.top + len(area.rows))):
        row = area.rows[number - area.top] if number >= area.top else []
        cells = [*[""] * (area.left - left), *row[max(left - area.left, 0) :]][:width]
        rows.append([*cells, *[""] * (width - len(cells))])
    return _Area(rows, top, left)


def _is_blank(cells: _Row) -> bool:
    return all(value == "" for value in cells)


def _column_number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _column_letters(number: int) -> str:
    letters = ""
    while number >= 0:
        letters = chr(ord("A") + number % 26) + letters
        number = number // 26 - 1
    return letters


def _column_names(heading: _Row) -> list[str]:
    """The names of the columns. A blank one is named by its place; a repeated one gets a number."""
    names: list[str] = []
    taken: set[str] = set()
    for position, value in enumerate(heading):
        plain_name = f"column{position}" if value == "" else _text(value)
        name, suffix = plain_name, 0
        while name.lower() in taken:
            suffix += 1
            name = f"{plain_name}_{suffix}"
        taken.add(name.lower())
        names.append(name)
    return names


def _wanted_types(names: list[str], options: dict[str, Any], place: str) -> dict[str, str]:
    """The types that the options ask for, by column."""
    if options.get("all_varchar"):
        return dict.fromkeys(names, "VARCHAR")
    types = {}
    for wanted, kind in options.get("types", {}).items():
        name = next((name for name in names if name.lower() == wanted.lower()), None)
        if name is None:
            raise RefusedWorkbook(
                f"{place} has no column {wanted!r}.",
                f"Columns are {', '.join(names)}.",
                difflib.get_close_matches(wanted, names),
            )
        types[name] = kind.upper()
    return types


class _Column(NamedTuple):
    """The cells of a column, None where blank."""

    name: str
    values: list[Any]
    address: Callable[[int], str]
    """The address of the cell of a row."""

    def decided(self) -> tuple[pa.Array, str | None]:
        """The values in the type that their kinds give, and the note about it."""
        kinds = _kinds(self.values)
        if kinds <= {dt.time, dt.timedelta, str} and len(kinds) > 1:  # of an .ods file
            kinds = _kinds(map(_duration, self.values))
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
            if value is not None and abs(value) >= _MAX_EXACT_INTEGER:
                return numbers, (
                    f"{self.name}: DOUBLE, because {self.address(row)} has more digits than a "
                    "workbook keeps"
                )
        return numbers.cast(pa.int64()), None

    def _texts(self) -> pa.Array:
        return pa.array(
            [None if value is None else _text(value) for value in self.values], pa.string()
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
                    f"{place}, cell {self.address(row)}: {_text(value)[:60]!r} is not a {kind}.",
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


def _text(value: Any) -> str:
    """A cell as it is shown, but dates and times in ISO 8601 and numbers with all their digits."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_EXACT_INTEGER:
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
