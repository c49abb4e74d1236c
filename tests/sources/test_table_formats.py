"""Databases in files, lakehouse tables and workbooks beside each other: one statement reads them
all, and each one decides for itself."""

import contextlib
import sqlite3

import openpyxl
import pyarrow as pa
import pytest
from deltalake import write_deltalake

import jammi_lab
from jammi_lab.core.errors import InvalidArgument, SourceUnavailable
from jammi_lab.core.verdicts import Fresh, Stale
from jammi_lab.sources.files.formats import check_options
from jammi_lab.sources.registry import infer_kind
from tests.sources.test_duckdb import write as write_duckdb

PEOPLE = pa.table({"id": pa.array([1, 2], pa.int64()), "name": ["a", "b"]})


@pytest.fixture
def places(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "crm.db")) as connection, connection:
        connection.execute("CREATE TABLE ages(id INTEGER, age INTEGER)")
        connection.execute("INSERT INTO ages VALUES (1, 30), (2, 40)")
    write_duckdb(
        tmp_path / "shop.duckdb",
        "CREATE TABLE sums(id BIGINT, total DOUBLE)",
        "INSERT INTO sums VALUES (1, 1.5), (2, 2.5)",
    )
    write_deltalake(tmp_path / "events", PEOPLE)
    book = openpyxl.Workbook()
    for row in [("id", "team"), (1, "red"), (2, "blue")]:
        book.active.append(row)
    book.save(tmp_path / "teams.xlsx")
    (tmp_path / "flags.csv").write_text("id,flag\n1,true\n2,false\n")
    return {
        "crm": f"sqlite:///{tmp_path}/crm.db",
        "shop": tmp_path / "shop.duckdb",
        "people": tmp_path / "events",
        "teams": tmp_path / "teams.xlsx",
        "flags": tmp_path / "flags.csv",
    }


def test_one_statement_reads_every_kind_and_each_one_decides_for_itself(places, tmp_path):
    select = "SELECT id, name, age, total, team, flag FROM people JOIN crm.ages USING (id) JOIN shop.sums USING (id) JOIN teams USING (id) JOIN flags USING (id)"
    with jammi_lab.open(tmp_path / "ws") as ws:
        for name, location in places.items():
            ws.sources.add(name, location)
        assert [source.kind for source in ws.sources.list()] == [
            "sqlite",
            "csv",
            "delta",
            "duckdb",
            "xlsx",
        ]
        ws.materialize("all", select)
        assert ws.sql("FROM jammi.all ORDER BY id").fetchall() == [
            (1, "a", 30, 1.5, "red", True),
            (2, "b", 40, 2.5, "blue", False),
        ]
        assert isinstance(ws.staleness("all"), Fresh)
        write_deltalake(
            places["people"],
            pa.table({"id": pa.array([3], pa.int64()), "name": ["c"]}),
            mode="append",
        )
        with contextlib.closing(sqlite3.connect(tmp_path / "crm.db")) as connection, connection:
            connection.execute("UPDATE ages SET age = 31 WHERE id = 1")
        verdict = ws.staleness("all")
        assert isinstance(verdict, Stale) and [str(reason.input) for reason in verdict.reasons] == [
            "crm.ages",
            "people",
        ]
        ws.recompute("all")
        ws.close()
    with jammi_lab.open(tmp_path / "ws") as again:
        assert isinstance(again.staleness("all"), Fresh)
        assert again.sql("SELECT age FROM jammi.all WHERE id = 1").fetchall() == [(31,)]


def test_one_source_that_cannot_be_read_leaves_the_others(places, tmp_path):
    with jammi_lab.open(tmp_path / "ws") as ws:
        for name, location in places.items():
            ws.sources.add(name, location)
        (tmp_path / "crm.db").write_bytes(b"no database any more")
        places["teams"].write_bytes(b"no workbook any more")
        for broken in ("crm.ages", "teams"):
            with pytest.raises(SourceUnavailable, match="is not a complete"):
                ws.sql(f"FROM {broken}")
        assert ws.sql(
            "SELECT count(*) FROM people JOIN shop.sums USING (id) JOIN flags USING (id)"
        ).fetchall() == [(2,)]


@pytest.mark.parametrize("kind", ["sqlte", "deltalake", "excel"])
def test_an_unknown_kind_is_refused_and_the_known_ones_are_listed(tmp_path, kind):
    with pytest.raises(InvalidArgument, match=f"Unknown kind of source: '{kind}'") as caught:
        infer_kind(tmp_path / "x", kind)
    assert "sqlite" in caught.value.hint and "iceberg" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "options", "known"),
    [
        ("sqlite", {"txt": True}, "text"),
        ("delta", {"verson": 1}, "version"),
        ("iceberg", {"tabel": "a.b"}, "catalog, table"),
        ("xlsx", {"head": 1}, "sheet, range, skip, header, types"),
    ],
)
def test_an_unknown_option_is_refused_and_the_known_ones_are_listed(kind, options, known):
    with pytest.raises(InvalidArgument) as caught:
        check_options(kind, options)
    assert known in str(caught.value)


def test_a_missing_file_of_a_known_ending_is_told_so(tmp_path):
    with jammi_lab.open(tmp_path / "ws") as ws:
        for name in ("x.db", "x.duckdb", "x.xlsx"):
            with pytest.raises(SourceUnavailable, match="There is no file"):
                ws.sources.add("s", tmp_path / name)
        assert list(ws.sources) == []
