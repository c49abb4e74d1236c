"""Reads a sheet of a workbook into an Arrow file, in the child process of
`databases/reader_process.py`: numbers of rows and columns in a damaged or hostile file can make the
library allocate any amount of memory or abort, which must not end the kernel.

A blank cell and an error cell are "" in the library.
"""

import contextlib
import datetime as dt
import difflib
import functools
import posixpath
import re
import resource
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.ipc
import python_calamine as calamine

from jammi_lab.core.identifiers import unique_names
from jammi_lab.sources.files.workbook_columns import (
    CellColumn,
    RefusedWorkbook,
    cell_address,
    cell_text,
)

MAX_ROWS = 1 << 20
"""The rows of a sheet in a spreadsheet program."""
_MAX_MEMORY_BYTES = 4 << 30
"""Address space for reading one workbook: a cell takes some 130 bytes."""
_RANGE = re.compile(r"([A-Z]{1,3})(\d*):([A-Z]{1,3})(\d*)")
_XLSX_SUFFIXES = (".xlsx", ".xlsm")
_FORMULA_WITHOUT_VALUE = re.compile(
    rb'<c r="(\w+)"(?![^>]* t="str")[^>]*><f\b[^>]*(?:/>|>[^<]*</f>)\s*(?:<v\s*/>|<v></v>)?\s*</c>'
)
"""A formula that no program has computed. One whose value is the empty text is of the type str."""
_NEGATIVE_NUMBER = re.compile(
    rb'<c (?>r|[^>]*? r)="([A-Z]+)(\d+)"[^>]*>(?:<f\b[^>]*(?:/>|>[^<]*</f>))?\s*<v>(-[^<]+)</v>'
)
_Row = list[Any]


class _Area(NamedTuple):
    """Rows of cells with the place of the first one, counted from 0."""

    rows: list[_Row]
    top: int
    left: int

    def address(self, column: int, first_row: int, row: int) -> str:
        """The address of a cell, such as B3; its row is counted from `first_row`."""
        return cell_address(self.left + column, self.top + first_row + row)


def read_workbook(request: dict[str, Any]) -> dict[str, Any]:
    """Write the rows of a sheet of the file `path` to the Arrow file `to`; the answer holds the
    notes, or why it was refused. `name` is the file's name in messages, `options` are those of the
    source."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    is_lower = 0 <= soft < _MAX_MEMORY_BYTES  # above a limit of the kernel none can be set
    resource.setrlimit(resource.RLIMIT_AS, (soft if is_lower else _MAX_MEMORY_BYTES, hard))
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
    notes = []
    if len(sheets) > 1 and "sheet" not in options:
        others = ", ".join(sheets[1:])
        notes.append(f"sheet {sheet_name}: the first of {len(sheets)}; the others are {others}")
    sheet = _call(
        workbook.get_sheet_by_name,
        sheet_name,
        problem=f"{name}: the sheet {sheet_name} is damaged.",
    )
    if sheet.end is not None and sheet.end[0] >= MAX_ROWS:
        raise RefusedWorkbook(
            f"{name} has a row numbered {sheet.end[0] + 1:,}; a sheet has at most {MAX_ROWS:,} "
            "rows.",
            "Open it in a spreadsheet program and save it again.",
        )
    area = _area_of(sheet, options)
    if not area.rows:
        raise RefusedWorkbook(
            f"{name}: the sheet {sheet_name} is empty.",
            "Add a header line and rows, or name another sheet with the option sheet.",
            [other for other in sheets if other != sheet_name],
        )
    if name.lower().endswith(_XLSX_SUFFIXES):
        _restore_negative_times(area, path, sheet_name)
    table, column_notes = _typed_columns(area, options, f"{name}, sheet {sheet_name}")
    notes += column_notes
    if name.lower().endswith(_XLSX_SUFFIXES):
        notes += _formula_notes(path, sheet_name, table)
    return table, notes


def _formula_notes(path: str, sheet: str, table: pa.Table) -> list[str]:
    """What is said of formulas without a stored value, as programs write them that compute
    nothing: the library takes their cells for blank ones."""
    if not any(column.null_count for column in table.columns):
        return []
    content = _sheet_content(path, sheet)
    # a look for the bytes takes a tenth of the time
    cells: list[bytes] = _FORMULA_WITHOUT_VALUE.findall(content) if b"<f" in content else []
    if not cells:
        return []
    where = f"cell {cells[0].decode()}, of {len(cells):,}"
    return [f"{where}: NULL, because its formula has no stored value; save it in a spreadsheet"]


def _restore_negative_times(area: _Area, path: str, sheet: str) -> None:
    """Put durations in the place of times below 0, as the 1904 system has them. The library counts
    them from midnight: 23:30 for -0:30."""
    if not any(isinstance(value, dt.time) for row in area.rows for value in row):
        return
    for letters, number, days in _NEGATIVE_NUMBER.findall(_sheet_content(path, sheet)):
        row, column = int(number) - 1 - area.top, _column_number(letters.decode()) - area.left
        if not (0 <= row < len(area.rows) and 0 <= column < len(area.rows[row])):
            continue
        if isinstance(area.rows[row][column], dt.time):
            area.rows[row][column] = dt.timedelta(days=float(days))


def _sheet_content(path: str, sheet: str) -> bytes:
    """The XML of a sheet; nothing where it is not found, though calamine reads it."""
    with contextlib.suppress(KeyError, ElementTree.ParseError), zipfile.ZipFile(path) as archive:
        book, relations = (  # the memory of this process is limited
            ElementTree.fromstring(archive.read(f"xl/{part}"))  # noqa: S314
            for part in ("workbook.xml", "_rels/workbook.xml.rels")
        )
        targets = {each.get("Id"): each.get("Target", "") for each in relations}
        for element in book.iter():
            for key, identifier in element.items():
                if "}id" in key and element.get("name") == sheet:
                    return archive.read(posixpath.join("/xl", targets[identifier])[1:])
    return b""


def _typed_columns(area: _Area, options: dict[str, Any], place: str) -> tuple[pa.Table, list[str]]:
    """The rows as columns of one type each, and the notes. `place` names the sheet in messages; the
    metadata tell where the cells are."""
    heading, columns, notes = area.rows[0], [], list[str]()
    width, blank = len(heading), heading.count("")
    first_row = int(options.get("header", True))
    names = _column_names(heading if first_row else [""] * width)
    texts = _text_columns(names, options, place)
    if first_row and blank * 2 >= width:
        skipped = area.top + 1
        notes.append(
            f"{blank} of {width} headings are blank: where row {skipped} is a title, set "
            f'options={{"skip": {skipped}}}'
        )
    cells = list(zip(*area.rows[first_row:], strict=True)) or [()] * width
    for position, column_name in enumerate(names):
        values = [None if value == "" else value for value in cells[position]]
        column = CellColumn(
            column_name, values, functools.partial(area.address, position, first_row)
        )
        if column_name in texts:
            columns.append(column.texts())
            continue
        array, note = column.decided()
        columns.append(array)
        notes += [note] if note else []
    metadata = {"place": place, "column": str(area.left), "row": str(area.top + first_row)}
    return pa.table(columns, names, metadata=metadata), notes


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
    rows: list[_Row] = sheet.to_python()
    top, left = sheet.start
    if "range" in options:
        area = _cut_range(_Area(rows, top, left), options["range"])
        rows, top, left = area.rows, area.top, area.left
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


def _is_blank(cells: Sequence[Any]) -> bool:
    return all(value == "" for value in cells)


def _column_number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _column_names(heading: _Row) -> list[str]:
    """The names of the columns. A blank one is named by its place; a repeated one gets a number."""
    return unique_names(
        f"column{position}" if value == "" else cell_text(value)
        for position, value in enumerate(heading)
    )


def _text_columns(names: list[str], options: dict[str, Any], place: str) -> set[str]:
    """The columns that are read as texts, because the options name a type for them."""
    if options.get("all_varchar"):
        return set(names)
    folded, typed = {name.lower(): name for name in names}, options.get("types", {})
    for wanted in typed:
        if wanted.lower() not in folded:
            raise RefusedWorkbook(
                f"{place} has no column {wanted!r}.",
                f"Columns are {', '.join(names)}.",
                difflib.get_close_matches(wanted, names),
            )
    return {folded[wanted.lower()] for wanted in typed}
