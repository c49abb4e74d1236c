"""Reads sheets whose columns have cells of one kind each, by fastexcel: in a third of the time of a
pass over the cells. For any other sheet it returns None, and the cells decide.

What fastexcel does not tell apart is left to the cells: texts such as `NA`, which it reads as NULL
in a column of numbers, error cells, times of day, and headings that are no plain text.
"""

import datetime as dt
import re

import fastexcel
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.sources.files.workbook_columns import MAX_EXACT_INTEGER

MAX_ROWS = 1 << 20
"""The rows of a sheet in a spreadsheet program."""
_PLAIN_HEADING = re.compile(r"(?!.*_\d+$)[^\W\d].*", re.S)
"""Neither a number nor a date, nor a name that fastexcel made unique."""
_FIRST_DATE, _LAST_DATE = dt.datetime(1904, 1, 2), dt.datetime(9999, 12, 31)  # noqa: DTZ001  of a cell
"""Before, in the 1904 system, a time of day without a date looks the same."""


def read_uniform(path: str, sheet: str) -> pa.Table | None:
    """The rows of a sheet of an xlsx file, or None."""
    try:
        loaded = fastexcel.read_excel(path).load_sheet(
            sheet, schema_sample_rows=None, dtype_coercion="strict"
        )
        rows, errors = loaded.to_arrow_with_errors()
        headings = {info.column_name_from for info in loaded.available_columns()}
    except MemoryError:
        raise
    except BaseException:  # noqa: BLE001  a panic is no Exception; the cells name what is wrong
        return None
    names = rows.schema.names
    if (
        errors is not None
        or not 0 < rows.num_rows < MAX_ROWS
        or headings != {"looked_up"}
        or len({name.lower() for name in names}) < len(names)
        or not all(map(_PLAIN_HEADING.fullmatch, names))
    ):
        return None
    columns: list[pa.Array] = []
    for cells in rows.columns:
        column = _column(cells)
        if column is None:
            return None
        columns.append(column)
    if not any(column[-1].is_valid for column in columns):
        return None
    return pa.table(columns, names=names)


def _column(column: pa.Array) -> pa.Array | None:
    if pa.types.is_string(column.type):
        return pc.if_else(pc.equal(column, ""), None, column)
    if pa.types.is_float64(column.type):
        return _numbers(column)
    if pa.types.is_timestamp(column.type):
        return _times(column)
    if pa.types.is_duration(column.type):
        return column.cast(pa.duration("us"))
    return column if pa.types.is_boolean(column.type) else None


def _numbers(column: pa.Array) -> pa.Array | None:
    if pc.any(pc.is_nan(column)).as_py():  # the text NaN
        return None
    if not pc.all(pc.equal(column, pc.floor(column))).as_py():
        return column
    largest = pc.max(pc.abs(column)).as_py()
    return column.cast(pa.int64()) if largest < MAX_EXACT_INTEGER else None


def _times(column: pa.Array) -> pa.Array | None:
    if pc.min(column).as_py() < _FIRST_DATE or pc.max(column).as_py() > _LAST_DATE:
        return None
    days = column.cast(pa.date32(), safe=False)
    is_midnight = pc.all(pc.equal(days.cast(column.type), column)).as_py()
    return days if is_midnight else column.cast(pa.timestamp("us"))
