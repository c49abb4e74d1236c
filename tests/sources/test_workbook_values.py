"""What a sheet of a workbook reads as, in situations that people report of other readers. The
workbooks are written by openpyxl and pandas, hostile ones as XML; every value is by hand."""

import datetime as dt
import importlib.util
import zipfile

import openpyxl
import pytest
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from jammi_lab.core.errors import ExtensionMissing, SourceUnavailable
from tests.cases import cases, plain
from tests.sources.kinds import workbook
from tests.sources.workbook_formats import WRITERS
from tests.verdicts import is_stale


@pytest.fixture
def read(ws, tmp_path):
    """Reads the rows, written from A1 on, and returns them with their types by column."""

    def read_rows(*rows, change=None, options=None, epoch=None):
        book = openpyxl.Workbook()
        if epoch is not None:
            book.epoch = epoch
        for row in rows:
            book.active.append(list(row))
        if change is not None:
            change(book.active)
        book.save(tmp_path / "b.xlsx")
        source = ws.sources.add("s", tmp_path / "b.xlsx", options=options, replace=True)
        types = {column.name: column.type for column in source.columns()}
        return ws.sql("FROM s").fetchall(), types

    return read_rows


DAY, NOON = dt.date(2024, 5, 6), dt.datetime(2024, 5, 6, 12, 30)


@pytest.mark.parametrize(
    ("cells", "values", "kind"),
    [
        *cases("sources/workbook_columns", "cells", "values", "kind"),
        ([DAY, dt.date(1999, 12, 31)], [DAY, dt.date(1999, 12, 31)], "DATE"),
        ([DAY, NOON], [dt.datetime(2024, 5, 6), NOON], "TIMESTAMP"),
        ([dt.time(6, 15), dt.time(23, 59, 59)], [dt.time(6, 15), dt.time(23, 59, 59)], "TIME"),
        (
            [dt.timedelta(hours=30, minutes=15), dt.timedelta(seconds=90)],
            [dt.timedelta(days=1, hours=6, minutes=15), dt.timedelta(seconds=90)],
            "INTERVAL",
        ),
        ([dt.timedelta(hours=-3)], [dt.timedelta(hours=-3)], "INTERVAL"),
        ([DAY, "soon"], ["2024-05-06", "soon"], "VARCHAR"),
        ([NOON, 7], ["2024-05-06 12:30:00", "7"], "VARCHAR"),
        ([dt.timedelta(hours=30), "x"], ["30:00:00", "x"], "VARCHAR"),
    ],
)
def test_a_column_has_the_type_of_all_its_cells(read, cells, values, kind):
    rows, types = read(["v", "n"], *([cell, 0] for cell in cells))
    assert ([row[0] for row in rows], types["v"]) == (values, kind)


@pytest.mark.parametrize(
    ("shown", "numbers", "values", "kind"),
    [
        ("h:mm", [-0.5 / 24, 0.25], ["-0:30:00", "06:00:00"], "VARCHAR"),
        ("h:mm", [-0.5 / 24], [dt.timedelta(minutes=-30)], "INTERVAL"),
        ("yyyy-mm-dd", [-1402, 45000], ["-33648:00:00", "2023-03-15"], "VARCHAR"),
        ("yyyy-mm-dd", [20240131, 45000], ["20240131", "2023-03-15"], "VARCHAR"),
    ],
)
def test_a_number_that_is_no_time_or_date_is_not_read_as_one(read, shown, numbers, values, kind):
    """Of flexitime, in the 1904 system, and of a date that was typed as a number."""

    def format_cells(sheet):
        for row in range(2, 2 + len(numbers)):
            sheet.cell(row, 1).number_format = shown

    rows, types = read(["v", "n"], *([each, "x"] for each in numbers), change=format_cells)
    assert ([row[0] for row in rows], types["v"]) == (values, kind)


@pytest.mark.parametrize("blanks", [0, 1, 3])
def test_blank_and_error_cells_have_no_say(read, blanks):
    """duckdb-excel#69: the first cells of a column are blank."""
    rows, types = read(
        ["a", "b", "c"], *([None, None, "#DIV/0!"] for _ in range(blanks)), [True, "x", 5]
    )
    assert rows == [(None, None, None)] * blanks + [(True, "x", 5)]
    assert types == {"a": "BOOLEAN", "b": "VARCHAR", "c": "BIGINT"}


def test_one_row_more_does_not_turn_the_others(ws, tmp_path, read):
    """polars#23728: numbers for a thousand rows, then text."""
    rows, types = read(["id"], *([number] for number in range(1500)), ["1500a"])
    assert (types, rows[7], rows[-1]) == ({"id": "VARCHAR"}, ("7",), ("1500a",))
    assert ws.sources["s"].notes == ["id: VARCHAR, because A2 is a number and A1502 is text"]


def test_integers_that_a_workbook_does_not_keep_are_doubles(ws, read):
    """OfficeCLI#415: identifiers of more than 15 digits change their value."""
    rows, types = read(["id"], [2**53 - 1], [2**53])
    assert (rows, types) == ([(2.0**53 - 1,), (2.0**53,)], {"id": "DOUBLE"})
    assert ws.sources["s"].notes == ["id: DOUBLE, because A3 has more digits than a workbook keeps"]
    assert read(["id"], [2**53 - 1])[0] == [(9007199254740991,)]


def test_dates_of_the_1904_system(read):
    rows, types = read(["d", "h"], [DAY, dt.timedelta(hours=30)], epoch=CALENDAR_MAC_1904)
    assert rows == [(DAY, dt.timedelta(hours=30))]
    assert types == {"d": "DATE", "h": "INTERVAL"}


def test_the_first_days_of_1900(read):
    days = [dt.date(1900, 1, 1), dt.date(1900, 2, 28), dt.date(1900, 3, 1)]
    assert read(["d"], *([day] for day in days))[0] == [(day,) for day in days]


def test_blank_and_doubled_headings(read):
    rows, types = read(["a", None, "A", 2023, DAY, "a"], [1, 2, 3, 4, 5, 6])
    assert list(types) == ["a", "column1", "A_1", "2023", "2024-05-06", "a_2"]
    assert rows == [(1, 2, 3, 4, 5, 6)]


def test_formatted_blank_rows_and_columns_are_left_out(read):
    def change(sheet):
        for row in range(1, 30):
            for column in range(1, 9):
                sheet.cell(row, column).number_format = "0.00"

    rows, types = read(["a", "b"], [1, 2], [None, None], [3, 4], change=change)
    assert (rows, list(types)) == ([(1, 2), (None, None), (3, 4)], ["a", "b"])


@pytest.mark.parametrize("rows", [(["=1+1", ""], [None, "x"]), (["=1+1"], [2.5], ["=A3*2"])])
def test_a_formula_without_a_value_is_null_and_said(ws, read, rows):
    """openpyxl writes formulas without their values."""
    found, _ = read(["a", "b"][: len(rows[0])], *rows)
    assert found[0][0] is None
    [note] = ws.sources["s"].notes
    assert note.startswith(f"cell A2, of {len(rows) - 1}: NULL, because its formula has no")


def shifted(sheet):
    sheet["A1"], sheet["C5"], sheet["D5"] = "Report", "id", "n"
    sheet["C6"], sheet["D6"], sheet["C7"], sheet["D7"], sheet["C9"] = 1, "x", 2, "y", "total"


@pytest.mark.parametrize(
    ("options", "names", "rows"),
    cases("sources/workbook_parts", "options", "names", "rows"),
)
def test_a_part_of_a_sheet_is_chosen(read, options, names, rows):
    """duckdb-excel#49: a title above the table; blank cells of the range stay blank."""
    read_rows, types = read(change=shifted, options=options)
    assert list(types) == names
    assert rows is None or plain(read_rows) == rows


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("INTEGER", 2.5),
        ("TINYINT", 128),
        ("UBIGINT", -1),
        ("DECIMAL(4,1)", 1.25),
        ("DATE", NOON),
        ("DATE", "6.5.2024"),
        ("BOOLEAN", 2),
        ("DOUBLE", "1,5"),
        ("TIME", dt.timedelta(hours=30)),
        ("BIGINT", True),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_named(read, kind, cell):
    with pytest.raises(SourceUnavailable, match=r"b\.xlsx, sheet Sheet, cell B3: .* is not a"):
        read(["a", "v"], [1, None], [1, cell], options={"types": {"v": kind}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"range": "C5"}, "The range 'C5' is not one of cells"),
        ({"types": {"idd": "BIGINT"}}, "has no column 'idd'"),
        ({"types": {"id": "UUID"}}, "cell A2: column .* contains '1', which is not a UUID"),
        ({"sheet": "Shet"}, "has no sheet 'Shet'"),
        ({"skip": 9}, "the sheet Sheet is empty"),
    ],
)
def test_what_cannot_be_read_as_asked_is_refused(read, options, message):
    with pytest.raises(SourceUnavailable, match=message):
        read(["id"], [1], options=options)


def test_the_sheets_that_are_not_read_are_noted(ws, tmp_path):
    book = openpyxl.Workbook()
    book.create_chartsheet("figure", 0)
    book["Sheet"].append(["id"])
    book.create_sheet("prices")
    book.save(tmp_path / "b.xlsx")
    source = ws.sources.add("s", tmp_path / "b.xlsx")
    assert source.notes == ["sheet Sheet: the first of 2; the others are prices"]
    assert ws.sources.add("t", tmp_path / "b.xlsx", options={"sheet": "Sheet"}).notes == []


def test_a_sheet_is_chosen_by_its_name(ws, tmp_path):
    people = [("id", "name"), (1, "a"), (2, "b")]
    workbook(tmp_path / "b.xlsx", people=people, prices=[("id", "price"), (1, 10.5)])
    ws.sources.add("people", tmp_path / "b.xlsx")
    ws.sources.add("prices", tmp_path / "b.xlsx", options={"sheet": "prices"})
    joined = "SELECT name, price FROM people JOIN prices USING (id)"
    assert ws.sql(joined).fetchall() == [("a", 10.5)]
    with pytest.raises(SourceUnavailable, match="has no sheet 'price'") as caught:
        ws.sources.add("other", tmp_path / "b.xlsx", options={"sheet": "price"})
    assert caught.value.near and "other" not in ws.sources


def test_a_workbook_counts_as_a_whole(ws, tmp_path):
    file, ids = tmp_path / "b.xlsx", [(1, "a"), (2, "b"), (3, "c")]
    workbook(file, people=[("id", "name"), *ids], others=[("id",), (7,)])
    ws.sources.add("people", file, options={"sheet": "people"})
    ws.sources.add("others", file, options={"sheet": "others"})
    ws.materialize("t", "SELECT id FROM people")
    ws.materialize("other", "SELECT id FROM others")
    workbook(file, people=[("id", "name"), *ids], others=[("id",), (8,)])
    assert is_stale(ws) and is_stale(ws, "other")
    for rows in ([("1", "a"), *ids[1:]], [(4, "a"), *ids[1:]], ids[1:], [*ids, (None, "d")]):
        workbook(file, people=[("id", "name"), *rows], others=[("id",), *ids])
        assert is_stale(ws)


def test_a_broken_sheet_is_typed_and_leaves_the_others(ws, tmp_path):
    workbook(tmp_path / "b.xlsx", people=[("id",), (1,)], prices=[("id", "price"), (1, 10.5)])
    with zipfile.ZipFile(tmp_path / "b.xlsx") as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as torn:
        for name, part in parts.items():
            torn.writestr(name, part[: len(part) // 2] if name.endswith("sheet1.xml") else part)
    with pytest.raises(SourceUnavailable, match=r"b\.xlsx: the sheet people is damaged"):
        ws.sources.add("s", tmp_path / "b.xlsx")
    ws.sources.add("prices", tmp_path / "b.xlsx", options={"sheet": "prices"})
    assert ws.sql("FROM prices").fetchall() == [(1, 10.5)]


def test_without_the_package_the_extra_is_named(read, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(ExtensionMissing) as caught:
        read(["in no other test"])
    assert "jammi-lab[excel]" in caught.value.hint


def test_several_workbooks_are_not_one_source(ws, tmp_path):
    for name in "ab":
        openpyxl.Workbook().save(tmp_path / f"{name}.xlsx")
    with pytest.raises(SourceUnavailable, match="matches 2 workbooks; a source reads one"):
        ws.sources.add("s", tmp_path / "*.xlsx", kind="xlsx")


FAR = 1500


@pytest.mark.parametrize(
    ("rows", "options", "values"),
    [
        *cases("sources/workbook_reported", "rows", "options", "values"),
        pytest.param(
            [["a", "b"], *([1, None] for _ in range(FAR)), [1, "Hello"]],
            None,
            [(1, None)] * FAR + [(1, "Hello")],
            id="polars#15748: the only text of a column is far below",
        ),
        pytest.param(
            [["a", "b"], [None, dt.date(2024, 12, 31)]],
            None,
            [(None, dt.date(2024, 12, 31))],
            id="duckdb-excel#38: the first of two date columns is blank",
        ),
    ],
)
def test_situations_that_people_report(read, rows, options, values):
    assert plain(read(*rows, options=options)[0]) == plain(values)


def test_a_wrong_dimension_of_the_sheet_is_no_limit(ws, tmp_path):
    """pandas#39001: the file says that only A1 is used."""
    cells = '<row r="2"><c r="A2"><v>5</v></c></row><row r="3"><c r="A3"><v>6</v></c></row>'
    ws.sources.add("s", sheet_of(tmp_path, cells, **{'ref="A1"': 'ref="A1:A1"'}))
    assert ws.sql("FROM s").fetchall() == [(5,), (6,)]


def sheet_of(tmp_path, cells, **parts):
    """A workbook whose sheet has this XML in its sheetData."""
    book = openpyxl.Workbook()
    book.active.append(["a"])
    book.save(tmp_path / "plain.xlsx")
    path = tmp_path / "x.xlsx"
    with zipfile.ZipFile(tmp_path / "plain.xlsx") as plain, zipfile.ZipFile(path, "w") as out:
        for name in plain.namelist():
            body = plain.read(name)
            if name.endswith("sheet1.xml"):
                body = body.replace(b"</sheetData>", cells.encode() + b"</sheetData>")
            for old, new in parts.items():
                body = body.replace(old.encode(), new.encode())
            out.writestr(name, body, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    "cells",
    [
        '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',
        '<row r="9"><c r="ZZZZZZ9"><v>1</v></c></row>',
        '<row r="9"><c r="A4294967295"><v>1</v></c></row>',
        '<row r="2"><c r="A2" t="s"><v>999999999</v></c></row>',
        '<row r="2"><c r="A2"',
    ],
)
def test_a_hostile_sheet_does_not_end_the_kernel(ws, tmp_path, cells):
    with pytest.raises(SourceUnavailable, match=r"x\.xlsx"):
        ws.sources.add("s", sheet_of(tmp_path, cells))


def test_a_sheet_that_unpacks_to_more_than_memory_is_refused(ws, tmp_path):
    """A zip of 30 kB that holds 30 MB is read; the limit of the reader process holds for more."""
    cells = '<row r="2"><c r="A2" t="inlineStr"><is><t>' + "x" * 30_000_000 + "</t></is></c></row>"
    path = sheet_of(tmp_path, cells)
    assert path.stat().st_size < 100_000
    ws.sources.add("s", path)
    assert ws.sql("SELECT length(a) FROM s").fetchall() == [(30_000_000,)]


def test_times_of_an_open_document_sheet(ws, tmp_path):
    short, long = dt.timedelta(hours=6, minutes=15), dt.timedelta(hours=30, minutes=15)
    WRITERS["ods"](tmp_path / "b.ods", [["d", "n"], [short, 2], [long, 3], [-short, 4]])
    ws.sources.add("s", tmp_path / "b.ods")
    assert ws.sql("FROM s").fetchall() == [(short, 2), (long, 3), (-short, 4)]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_has_the_values_and_types_of_its_cells(ws, tmp_path, kind):
    """Of .xlsb only the ending is ours: python-calamine reads it as it reads these."""
    rows = [
        ["id", "code", "price", "day", "ok", "2024", "mixed"],
        [1, "01", 2.5, dt.date(2024, 2, 29), True, 2.0**53, 1],
        [2, "Köln", 0.1, dt.date(1999, 12, 31), False, None, "x"],
        [3, None, -1.0, None, None, 7, None],
    ]
    WRITERS[kind](tmp_path / f"b.{kind}", rows)
    source = ws.sources.add("s", tmp_path / f"b.{kind}")
    assert {column.name: column.type for column in source.columns()} == {
        "id": "BIGINT", "code": "VARCHAR", "price": "DOUBLE", "day": "DATE", "ok": "BOOLEAN",
        "2024": "DOUBLE", "mixed": "VARCHAR",
    }  # fmt: skip
    assert ws.sql("FROM s").fetchall() == [
        (1, "01", 2.5, dt.date(2024, 2, 29), True, 2.0**53, "1"),
        (2, "Köln", 0.1, dt.date(1999, 12, 31), False, None, "x"),
        (3, None, -1.0, None, None, 7.0, None),
    ]
    assert [note.split(",")[0] for note in source.notes] == ["2024: DOUBLE", "mixed: VARCHAR"]
    with pytest.raises(
        SourceUnavailable, match=r"cell C3: column .* contains '0\.1', which is not a BIGINT"
    ):
        ws.sources.add("t", tmp_path / f"b.{kind}", options={"types": {"price": "BIGINT"}})


@pytest.mark.parametrize("kind", WRITERS)
def test_a_truncated_workbook_of_any_format_is_refused(ws, tmp_path, kind):
    path = tmp_path / f"b.{kind}"
    WRITERS[kind](path, [["a"], *[[number] for number in range(500)]])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceUnavailable, match=f"b.{kind}"):
        ws.sources.add("s", path)
