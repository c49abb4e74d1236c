"""Text files whose rows are read again are read from a copy, which has the same rows."""

import json
import os
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.sources.files import row_copies
from jammi_lab.sources.temporary_copies import MAX_COPIES_BYTES, TemporaryCopy, load_copy
from jammi_lab.storage import spill_folders
from tests.verdicts import is_fresh, is_stale

LINES = 60_000
"""Enough for a file that is copied."""


def write(path, start=0):
    lines = (
        f"{n},{n * 0.25},name {n % 7},2024-01-{n % 28 + 1:02}" for n in range(start, start + LINES)
    )
    path.write_text("\n".join(["id,x,name,day", *lines]))
    os.utime(path, (1_700_000_000, 1_700_000_000))


@pytest.fixture
def at_once(monkeypatch):
    """A file is copied however young it is."""
    monkeypatch.setattr(row_copies, "CLOCK_SECONDS", -1.0)


def copies():
    return {*spill_folders.new_instance_path().parent.glob("*/rows.parquet")}


def made(ws, *statements):
    """The copies that these statements make."""
    before = copies()
    for statement in statements:
        ws.sql(statement).fetchall()
    return [*(copies() - before)]


def test_the_second_statement_over_a_state_makes_a_copy_and_a_change_another(ws, tmp_path, at_once):
    path = tmp_path / "x.csv"
    write(path)
    ws.sources.add("x", path)
    assert made(ws, "SELECT sum(id) FROM x") == []
    [copy] = made(ws, "SELECT sum(id) FROM x", "FROM x LIMIT 1", "SELECT max(day) FROM x")
    ws.materialize("t", "SELECT sum(id) AS n FROM x")
    assert is_fresh(ws)
    write(path, 1)
    assert is_stale(ws)
    assert ws.sql("SELECT sum(id) FROM x").fetchall() == [(sum(range(1, LINES + 1)),)]
    assert [copy] != made(ws, "FROM x LIMIT 1") != []


def test_a_file_that_may_still_change_unseen_is_not_copied(ws, tmp_path, monkeypatch):
    write(tmp_path / "x.csv")
    ws.sources.add("x", tmp_path / "x.csv")
    monkeypatch.setattr(row_copies, "CLOCK_SECONDS", 3600.0)
    assert made(ws, *["SELECT sum(id) FROM x"] * 3) == []


def test_a_file_that_changes_while_it_is_copied_is_read_itself(ws, tmp_path, at_once, monkeypatch):
    path = tmp_path / "x.csv"
    write(path)
    ws.sources.add("x", path)
    ws.sql("SELECT sum(id) FROM x").fetchall()
    copy_rows = row_copies.scratch_duckdb.write_parquet

    def change(relation, target):
        copy_rows(relation, target)
        write(path, 1)

    monkeypatch.setattr(row_copies.scratch_duckdb, "write_parquet", change)
    before = copies()
    assert ws.sql("SELECT min(id) FROM x").fetchall() == [(1,)]
    assert copies() == before


def test_a_copy_that_was_cleaned_away_is_made_again(ws, tmp_path, at_once):
    write(tmp_path / "x.csv")
    ws.sources.add("x", tmp_path / "x.csv")
    [copy] = made(ws, *["SELECT sum(id) FROM x"] * 2)
    copy.unlink()
    assert ws.sql("SELECT count(*) FROM x").fetchall() == [(LINES,)]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("DOUBLE", ["1.5", "-0.0", "inf", "-inf", "nan", ""]),
        ("TIMESTAMP", ["2024-01-01 00:00:00.000001", ""]),
        ("DATE", ["0001-01-01", "9999-12-31", ""]),
        ("TIMESTAMP WITH TIME ZONE", ["2024-03-31 02:30:00+02", "1900-01-01 00:00:00Z", ""]),
        ("DECIMAL(38,10)", ["9999999999999999999999999999.9999999999", "-0.0000000001", ""]),
        ("HUGEINT", ["170141183460469231731687303715884105727", "-1", ""]),
        ("INTERVAL", ["1 day 00:00:00.000001", ""]),
        ("VARCHAR", ['""', "é\t", '"a\nb"', "NaN", ""]),
        ("TIME", ["23:59:59.999999", "00:00:00.000001", ""]),
    ],
)
def test_every_value_is_the_one_in_the_file(ws, tmp_path, at_once, monkeypatch, column, values):
    monkeypatch.setattr(row_copies, "MIN_COPIED_BYTES", 0)
    path = tmp_path / "x.csv"
    path.write_text("n,v\n" + "".join(f"{n},{value}\n" for n, value in enumerate(values)))
    ws.sources.add("x", path, options={"types": {"v": column}})
    statement = "SELECT n, v::VARCHAR, v IS NULL, v > (SELECT min(v) FROM x) FROM x"
    first, *others = (ws.sql(statement).fetchall() for _ in range(3))
    assert first == others[0] == others[1] and len(first) == len(values)


def test_a_folder_that_readers_take_for_a_column_holds_no_copies(tmp_path, monkeypatch):
    folder = tmp_path / "year=2024" / "1"
    monkeypatch.setattr(spill_folders, "new_instance_path", lambda: folder)
    with pytest.raises(SourceUnavailable, match="year=2024 for a column"):
        TemporaryCopy("rows.parquet", Path.touch)


def test_nested_values_of_json_are_read_from_the_file(ws, tmp_path, at_once, monkeypatch):
    monkeypatch.setattr(row_copies, "MIN_COPIED_BYTES", 0)
    rows = [{"id": 1, "place": {"x": [1, 2]}}, {"id": 2, "place": {"x": []}}]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    ws.sources.add("x", tmp_path / "x.json")
    assert made(ws, *["FROM x"] * 3) == []
    assert ws.sql("SELECT place.x FROM x").fetchall() == [([1, 2],), ([],)]


def test_a_statement_keeps_the_copy_that_it_reads(ws, tmp_path, at_once):
    path = tmp_path / "x.csv"
    write(path)
    ws.sources.add("x", path)
    [copy] = made(ws, *["SELECT sum(id) FROM x"] * 2)
    batches = ws.sql("SELECT * FROM x").batches()
    first = next(batches)
    load_copy("all", lambda: SimpleNamespace(nbytes=MAX_COPIES_BYTES, path=path))  # evicts others
    assert copy.exists()
    assert first.num_rows + sum(batch.num_rows for batch in batches) == LINES
    del batches, first
    assert not copy.exists()


def test_rows_keep_their_order_and_types(ws, tmp_path, at_once):
    write(tmp_path / "x.csv")
    ws.sources.add("x", tmp_path / "x.csv")
    for _ in range(3):
        rows = ws.sql("FROM x").fetchall()
        assert rows[7] == (7, 1.75, "name 0", date(2024, 1, 8)) and len(rows) == LINES
        assert [row[0] for row in rows] == [*range(LINES)]
    assert isinstance(rows[0][3], date) and not isinstance(rows[0][3], datetime)
