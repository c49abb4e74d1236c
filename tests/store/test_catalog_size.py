"""What is dropped leaves no row in the catalog."""

import contextlib
import sqlite3
from pathlib import Path

import jammi_lab as jl


def rows_about(folder: Path, text: str) -> dict[str, int]:
    """The number of rows that contain a text, by table."""
    with contextlib.closing(sqlite3.connect(folder / "catalog.sqlite3")) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        found = {
            t: sum(text in str(row) for row in db.execute(f'SELECT * FROM "{t}"')) for t in tables
        }
    return {table: number for table, number in found.items() if number}


def test_a_dropped_table_leaves_no_row(tmp_path: Path) -> None:
    with jl.open(tmp_path / "lab") as ws:
        names = ("kept", "dropped", "version")
        tables = [ws.materialize(name, f"SELECT '{name}' AS a") for name in names]
        ws.status(deep=True)
        kept, dropped, version = (t.table_name for t in tables)
        before = rows_about(tmp_path / "lab", dropped)
        assert before["observations"] == 2
        ws.drop("dropped")
        tables[2].drop()
        assert rows_about(tmp_path / "lab", dropped) == {}
        assert rows_about(tmp_path / "lab", version) == {}
        assert rows_about(tmp_path / "lab", kept) == before
    with jl.open(tmp_path / "lab") as ws:
        assert [row.name for row in ws.status() if isinstance(row.verdict, jl.Fresh)] == ["kept"]
