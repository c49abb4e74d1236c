"""Excel workbooks as sources, written by openpyxl."""

import importlib.util
import zipfile

import openpyxl
import pytest

from jammi_lab.core.errors import ExtensionMissing, InvalidArgument, SourceUnavailable
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.files.excel import ExcelConnector
from tests.verdicts import is_stale

ROWS = [(1, "a"), (2, "b"), (3, "c")]


def write(path, rows=ROWS, head=("id", "name"), **sheets):
    book = openpyxl.Workbook()
    for name, held in {"people": [head, *rows], **sheets}.items():
        sheet = book.create_sheet(name)
        for row in held:
            sheet.append(row)
    del book["Sheet"]
    book.save(path)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.xlsx"
    write(path)
    return path


def source(path, name="s", **how):
    return ExcelConnector(SourceRecord(name=name, kind="xlsx", location=str(path), **how))


class TestSheets:
    def test_a_sheet_is_chosen_by_its_name(self, ws, file):
        write(file, prices=[("id", "price"), (1, 10.5)])
        ws.sources.add("people", file)
        ws.sources.add("prices", file, options={"sheet": "prices"})
        assert ws.sql("SELECT name, price FROM people JOIN prices USING (id)").fetchall() == [
            ("a", 10.5)
        ]
        with pytest.raises(SourceUnavailable, match="has no sheet 'price'") as caught:
            ws.sources.add("other", file, options={"sheet": "price"})
        assert caught.value.near and "other" not in ws.sources

    def test_only_the_columns_that_are_read_of_this_sheet_count(self, ws, file):
        write(file, others=[("id", "name"), (7, "g")])
        ws.sources.add("people", file, options={"sheet": "people"})
        ws.sources.add("others", file, options={"sheet": "others"})
        ws.materialize("t", "SELECT id FROM people")
        ws.materialize("other", "SELECT id FROM others")
        write(file, ROWS[::-1], ("id", "first"), others=[("id", "name"), (8, "g")])
        assert str(ws.staleness("t")) == "fresh, people has other bytes and equal rows"
        assert is_stale(ws, "other")
        for rows in ([("1", "a"), *ROWS[1:]], [(4, "a"), *ROWS[1:]], ROWS[1:], [(7, "g")]):
            write(file, rows, others=[("id", "name"), *ROWS])
            assert is_stale(ws)

    def test_without_a_header_columns_are_called_by_their_place(self, ws, file):
        ws.sources.add("s", file, options={"header": False})
        assert ws.sql("FROM s LIMIT 2").fetchall() == [("id", "name"), ("1", "a")]
        with pytest.raises(InvalidArgument, match="Expected `bool`"):
            ws.sources.add("other", file, options={"header": "no"})


class TestFailures:
    def test_a_broken_sheet_is_typed_and_leaves_the_others(self, ws, file, tmp_path):
        write(file, prices=[("id", "price"), (1, 10.5)])
        with zipfile.ZipFile(file) as whole, zipfile.ZipFile(tmp_path / "torn.xlsx", "w") as torn:
            for name in whole.namelist():
                part = whole.read(name)
                torn.writestr(name, part[: len(part) // 2] if name.endswith("sheet1.xml") else part)
        with pytest.raises(SourceUnavailable, match=r"torn\.xlsx: the sheet people is damaged"):
            ws.sources.add("s", tmp_path / "torn.xlsx")
        ws.sources.add("prices", tmp_path / "torn.xlsx", options={"sheet": "prices"})
        assert ws.sql("FROM prices").fetchall() == [(1, 10.5)]

    def test_without_the_package_the_extra_is_named(self, file, monkeypatch):
        write(file, [(1, "in no other test")])
        monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
        with pytest.raises(ExtensionMissing) as caught:
            source(file).check()
        assert "jammi-lab[excel]" in caught.value.hint
