"""Excel workbooks as sources, written by openpyxl."""

import importlib.util
import os
import zipfile

import openpyxl
import pytest

import jammi_lab
from jammi_lab.core.errors import ExtensionMissing, InvalidArgument, SourceUnavailable
from jammi_lab.core.records import SourceRecord
from jammi_lab.core.verdicts import Fresh, Stale
from jammi_lab.sources.files.excel import ExcelConnector
from tests.contracts.connector import Case, ConnectorSuite
from tests.contracts.journey import Journey, JourneySuite

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


class TestExcelConnector(ConnectorSuite):
    @pytest.fixture
    def case(self, file):
        kept = file.read_bytes()
        return Case(
            source(file),
            edit=lambda: write(file, [(1, "a"), (2, "x"), (3, "c")]),
            restore=lambda: file.write_bytes(kept),
            grow=lambda: write(file, [*ROWS, (4, "d")]),
            touch=lambda: os.utime(file),
            vanish=file.unlink,
            by_column=False,
        )


class TestExcelJourney(JourneySuite):
    @pytest.fixture
    def journey(self, tmp_path):
        path, head = tmp_path / "crm.xlsx", ("id", "name", "note")

        def book(names="abc", notes="xxx", head=head, **more):
            write(
                path,
                [
                    (i, *row, *more.values())
                    for i, row in enumerate(zip(names, notes, strict=True), 1)
                ],
                [*head, *more],
            )

        book()
        return Journey(
            location=str(path),
            kind="xlsx",
            method="digest of the bytes",
            by_column=False,
            edit=lambda: book("azc"),
            edit_note=lambda: book(notes="xyx"),
            grow=lambda: book("abcd", "xxxx"),
            widen=lambda: book(extra="e"),
            idle={"touch": lambda: os.utime(path)},
            vanish=path.unlink,
        )


@pytest.fixture
def ws(tmp_path):
    with jammi_lab.open(tmp_path / "ws") as opened:
        yield opened


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

    def test_another_sheet_is_part_of_the_same_bytes(self, ws, file):
        ws.sources.add("people", file)
        ws.materialize("t", "FROM people")
        write(file, prices=[("id", "price"), (1, 10.5)])
        assert isinstance(ws.staleness("t"), Stale)

    def test_without_a_header_columns_are_called_by_their_place(self, ws, file):
        ws.sources.add("s", file, options={"header": False})
        assert ws.sql("FROM s LIMIT 2").fetchall() == [("id", "name"), ("1", "a")]
        with pytest.raises(InvalidArgument, match="of type bool"):
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

    @pytest.mark.parametrize("cut", [0, 7, 2000])
    def test_what_is_no_workbook_any_more_is_told_so_and_has_moved(self, ws, file, cut):
        ws.sources.add("s", file)
        ws.materialize("t", "FROM s")
        whole = file.read_bytes()
        file.write_bytes(whole[:cut])
        with pytest.raises(SourceUnavailable, match=r"x\.xlsx is not a complete workbook"):
            ws.sources.add("other", file)
        assert "s changed and cannot be read: x.xlsx is not a complete workbook" in str(
            ws.staleness("t")
        )
        file.write_bytes(whole)
        assert isinstance(ws.staleness("t"), Fresh)

    def test_an_empty_sheet_is_told_so(self, ws, file):
        write(file, nothing=[])
        with pytest.raises(SourceUnavailable, match="the sheet is empty"):
            ws.sources.add("s", file, options={"sheet": "nothing"})

    def test_without_the_package_the_extra_is_named(self, file, monkeypatch):
        write(file, [(1, "in no other test")])
        monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
        with pytest.raises(ExtensionMissing) as caught:
            source(file).check()
        assert "jammi-lab[excel]" in caught.value.hint

    def test_same_size_and_restored_time_do_not_fool_it(self, ws, file):
        with zipfile.ZipFile(file) as book:
            parts = {info.filename: book.read(info) for info in book.infolist()}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as book:
            for name, part in parts.items():
                book.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), part)
        ws.sources.add("s", file)
        ws.materialize("t", "FROM s")
        stat, whole = file.stat(), file.read_bytes()
        parts = {name: part.replace(b"<v>2</v>", b"<v>7</v>") for name, part in parts.items()}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as book:
            for name, part in parts.items():
                book.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), part)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert file.stat().st_size == stat.st_size and file.read_bytes() != whole
        assert isinstance(ws.staleness("t"), Stale)
