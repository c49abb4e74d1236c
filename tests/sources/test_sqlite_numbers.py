"""Columns of SQLite without a declared type, such as a view computes: their values decide."""

from datetime import date, datetime

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.sources.databases import reader_process
from tests.sources.kinds import write_sqlite
from tests.verdicts import is_fresh, is_stale

SCRIPT = """CREATE TABLE e(cat TEXT, x INT, r REAL, raw);
INSERT INTO e VALUES ('a', 9, 0.1, 9), ('b', 10, 0.2, 10), ('c', 100, 0.3, 100);
CREATE VIEW v AS SELECT cat, sum(x) AS total, sum(r) + 0.1 + 0.2 AS far, x * 0.5 AS half,
    cat || '!' AS t, NULL AS empty, CASE WHEN x > 9 THEN 'big' ELSE x END AS mixed,
    CASE WHEN x > 9 THEN 9007199254740993 ELSE 0.5 END AS wide, x'ff' AS b
    FROM e GROUP BY cat;
CREATE TABLE g(a INT, b INT GENERATED ALWAYS AS (a * 2), d DATE, s AS (a || 'x') STORED, w);
INSERT INTO g(a, d, w) VALUES (9, '2024-01-02', 0.1), (100, '2023-01-02', 1);
"""


@pytest.fixture
def ws(tmp_path):
    write_sqlite(tmp_path / "x.db", *SCRIPT.split(";\n"))
    with jl.open(tmp_path / "lab") as workspace:
        workspace.sources.add("s", f"sqlite:///{tmp_path / 'x.db'}")
        yield workspace


def types(ws, table):
    return {c.name: c.type for c in ws.sources["s"].columns(table)}


def test_numbers_of_a_view_are_numbers(ws):
    assert types(ws, "v") == {
        "cat": "VARCHAR", "total": "BIGINT", "far": "DOUBLE", "half": "DOUBLE", "t": "VARCHAR",
        "empty": "VARCHAR", "mixed": "VARCHAR", "wide": "VARCHAR", "b": "BLOB",
    }  # fmt: skip
    assert ws.sql("SELECT cat FROM s.v ORDER BY total DESC").fetchall() == [("c",), ("b",), ("a",)]
    assert ws.sql("SELECT max(total), min(half) FROM s.v WHERE total > 9").fetchall() == [
        (100, 5.0)
    ]


def test_floating_point_numbers_keep_all_digits(ws):
    """SQLite writes 15 in a text."""
    [(far,)] = ws.sql("SELECT far FROM s.v WHERE cat = 'a'").fetchall()
    assert repr(far) == "0.4" or far == 0.1 + 0.1 + 0.2


def test_a_column_without_a_type_in_a_table(ws):
    assert types(ws, "e")["raw"] == "BIGINT"
    assert ws.sql("SELECT max(raw) FROM s.e").fetchall() == [(100,)]


def test_computed_columns_of_a_table_are_read(ws):
    assert types(ws, "g") == {
        "a": "BIGINT", "b": "BIGINT", "d": "DATE", "s": "VARCHAR", "w": "DOUBLE",
    }  # fmt: skip
    assert ws.sql("SELECT a, b, s, w FROM s.g ORDER BY d DESC").fetchall() == [
        (9, 18, "9x", 0.1),
        (100, 200, "100x", 1.0),
    ]


def test_values_of_several_kinds_are_told(ws):
    assert ws.sources["s"].notes == [
        "v.mixed: text, because it has integer and text",
        "v.wide: text, because it has integer and real",
    ]
    rows = ws.sql("SELECT mixed, wide FROM s.v ORDER BY cat").fetchall()
    assert rows == [("9", "0.5"), ("big", "9007199254740993"), ("big", "9007199254740993")]


def test_a_table_of_a_view_follows_its_values(ws, tmp_path):
    ws.materialize("m", "SELECT max(total) AS top FROM s.v")
    assert is_fresh(ws, "m")
    more = ("INSERT INTO e VALUES ('d', 'x', 1, 1)", "UPDATE e SET x = 2.5 WHERE cat = 'c'")
    write_sqlite(tmp_path / "x.db", *more)
    assert is_stale(ws, "m")
    ws.recompute()
    assert ws.sql("SELECT top FROM jammi.m").fetchall() == [(10.0,)]


@pytest.mark.parametrize(
    ("declared", "value", "read_as"),
    [
        ("decimal(20,0)", "9007199254740993", None),
        ("numeric", "9007199254740992", 9007199254740992.0),
        ("date", "'2024-01-02 10:00:00'", None),
        ("date", "'2024-01-02 00:00:00'", date(2024, 1, 2)),
        ("date", "1598313600", date(2020, 8, 25)),
        ("date", "1598313601", None),
        ("date", "2460311.5", None),
        ("datetime", "'2024-01-02 10:00:00+02:00'", None),
        ("datetime", "'2024-01-02T10:00:00Z'", datetime(2024, 1, 2, 10)),
        ("datetime", "'2024-01-02 10:00:00+00:00'", datetime(2024, 1, 2, 10)),
        ("timestamp", "'2024-01-02 10:00:00.1234567'", None),
        ("timestamp", "'2024-01-02 10:00:00.123456'", datetime(2024, 1, 2, 10, 0, 0, 123456)),
        ("timestamp", "1704164645000", None),
        ("timestamp", "2460311.25", None),
        ("timestamp", "1598313600.5", datetime(2020, 8, 25, 0, 0, 0, 500000)),
    ],
)
def test_a_declared_type_reads_what_is_stored_or_names_the_value(
    ws, tmp_path, declared, value, read_as
):
    """Milliseconds, days of the Julian calendar, offsets: what other programs write."""
    write_sqlite(
        tmp_path / "d.db",
        f"CREATE TABLE t(k INT, c {declared})",
        f"INSERT INTO t VALUES (1, {value})",
        "CREATE VIEW w AS SELECT c FROM t",
    )
    ws.sources.add("d", tmp_path / "d.db")
    if read_as is None:
        for table in ("t", "w"):
            with pytest.raises(SourceUnavailable, match=r"d\.db: column 'c' of \w is declared as"):
                ws.sql(f"SELECT c FROM d.{table}").fetchall()
        ws.sources.add("d", tmp_path / "d.db", options={"text": True}, replace=True)
        assert ws.sql("SELECT c FROM d.t").fetchall() == [(value.strip("'"),)]
    else:
        assert ws.sql("SELECT c FROM d.t").fetchall() == [(read_as,)]


@pytest.mark.parametrize("value", [2.5, "2.5"])
def test_a_value_that_is_written_after_the_type_was_decided_is_not_rounded(
    ws, tmp_path, monkeypatch, value
):
    ask = reader_process.request
    decided = []

    def write_after_the_decision(request, *rest):
        answer = ask(request, *rest)
        if request["do"] == "query" and not decided:
            decided.append(answer)
            write_sqlite(tmp_path / "x.db", f"UPDATE e SET raw = {value!r} WHERE cat = 'a'")
        return answer

    monkeypatch.setattr(reader_process, "request", write_after_the_decision)
    with pytest.raises(SourceUnavailable, match="the values of e changed their type"):
        ws.sql("SELECT raw FROM s.e").fetchall()
    rows = ws.sql("SELECT raw FROM s.e WHERE cat = 'a'").fetchall()
    assert rows == [(value,)]
