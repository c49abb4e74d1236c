"""Random tables that openpyxl and pandas write come back as they were written."""

import datetime as dt
import io
import math

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_lab.sources.files import workbook_reader
from jammi_lab.sources.files.workbook_columns import RefusedWorkbook
from tests.sizes import sized, soak

EPOCH = dt.datetime(1904, 1, 2)
TEXTS = st.one_of(
    st.sampled_from(["NA", "nan", "None", "007", "1.0", "TRUE", "2024-01-02", "x y", " x ", "1e5"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=8).filter(
        # openpyxl marks no text of blanks alone as one to be kept
        lambda text: text[0] != "=" and "_x" not in text and not text.isspace()
    ),
)
SECONDS = st.integers(0, 10**9)
KINDS = {
    "int": st.integers(-(2**53) + 1, 2**53 - 1),
    "float": st.floats(-1e300, 1e300).map(
        lambda x: float(f"{x:.16g}")  # openpyxl writes 16 digits
    ),
    "text": TEXTS,
    "bool": st.booleans(),
    "date": SECONDS.map(lambda n: (EPOCH + dt.timedelta(seconds=n)).date()),
    "datetime": SECONDS.map(lambda n: EPOCH + dt.timedelta(seconds=n)),
    "time": st.integers(0, 86_399).map(
        lambda n: (dt.datetime.min + dt.timedelta(seconds=n)).time()
    ),
    "duration": st.integers(-(10**7), 10**7).map(lambda n: dt.timedelta(seconds=n)),
}
OF_PANDAS = ("int", "float", "text", "bool", "date", "datetime")


@st.composite
def tables(draw, kinds=tuple(KINDS)):
    """Columns by name: most of one kind, with blanks, some of several kinds."""
    height, columns = draw(st.integers(1, 7)), {}
    for number in range(draw(st.integers(1, 4))):
        chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2))
        cell = st.one_of(*(KINDS[kind] for kind in chosen), st.none())
        name = draw(st.sampled_from(["a", "Name", "b c", "2023", "ä"])) + "abcd"[number]
        columns[name] = draw(st.lists(cell, min_size=height, max_size=height))
    return columns


def shown(value):
    """A cell in a column of several kinds."""
    match value:
        case None:
            return None
        case bool():
            return str(value).upper()
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case dt.datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")
        case dt.timedelta():
            seconds = abs(int(value.total_seconds()))
            sign = "-" if value < dt.timedelta() else ""
            return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return str(value)


def expected(values):
    """What a column comes back as."""
    days = [
        value.date() if isinstance(value, dt.datetime) and value.time() == dt.time() else value
        for value in values
    ]
    kinds = {float if type(value) is int else type(value) for value in days} - {type(None)}
    if len(kinds) <= 1:
        return days
    if kinds == {dt.date, dt.datetime}:
        return [
            dt.datetime.combine(value, dt.time()) if type(value) is dt.date else value
            for value in days
        ]
    return [shown(float(value) if type(value) is int else value) for value in days]


def read_back(tmp_path, content):
    path = tmp_path / "b.xlsx"
    path.write_bytes(content)
    rows, _ = workbook_reader._read(str(path), path.name, {})
    return rows


def check(tmp_path, columns, content):
    wanted = {name: expected(values) for name, values in columns.items()}
    height = max(
        (row + 1 for values in wanted.values() for row, x in enumerate(values) if x is not None),
        default=0,
    )
    try:
        rows = read_back(tmp_path, content)
    except RefusedWorkbook as error:
        pytest.fail(f"refused: {error}")
    assert rows.column_names == list(wanted)
    for name, values in wanted.items():
        column = rows[name]
        assert len(column) == height
        for value, written in zip(column.to_pylist(), values[:height], strict=True):
            assert value == written or (
                pa.types.is_floating(column.type) and math.isclose(value, written, rel_tol=0)
            )
            assert isinstance(value, bool) == isinstance(written, bool)


@soak
@settings(max_examples=sized(15, 500), deadline=None)
@given(columns=tables())
def test_what_openpyxl_writes_comes_back(tmp_path_factory, columns):
    book, sink = openpyxl.Workbook(), io.BytesIO()
    book.active.append(list(columns))
    for row in zip(*columns.values(), strict=True):
        book.active.append(list(row))
    book.save(sink)
    check(tmp_path_factory.mktemp("b"), columns, sink.getvalue())


@soak
@settings(max_examples=sized(10, 200), deadline=None)
@given(columns=tables(OF_PANDAS))
def test_what_pandas_writes_comes_back(tmp_path_factory, columns):
    sink = io.BytesIO()
    pd.DataFrame(columns, dtype=object).to_excel(sink, index=False)
    check(tmp_path_factory.mktemp("b"), columns, sink.getvalue())
