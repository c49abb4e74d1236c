"""What is dropped leaves no row in the catalog."""

import contextlib
import sqlite3
from pathlib import Path

import jammi_lab as jl
from jammi_lab.inputs import observation_cache
from tests.inside import services_of


def rows_about(folder: Path, text: str) -> dict[str, int]:
    """The number of rows that contain a text, by table."""
    with contextlib.closing(sqlite3.connect(folder / "catalog.sqlite3")) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        found = {
            t: sum(text in str(row) for row in db.execute(f'SELECT * FROM "{t}"')) for t in tables
        }
    return {table: number for table, number in found.items() if number}


def test_a_dropped_table_leaves_no_row(tmp_path):
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


def test_a_dropped_table_leaves_no_lineage_of_columns(ws, tmp_path):
    ws.materialize("t", "SELECT 1 AS a")
    child = ws.materialize("child", "SELECT a FROM jammi.t").table_name
    ws.lineage("child", columns=True)
    assert "observations" in rows_about(tmp_path / "lab", child)
    ws.drop("child")
    assert rows_about(tmp_path / "lab", child) == {}


def test_a_removed_source_leaves_no_row(ws, tmp_path):
    (tmp_path / "p.csv").write_text("a\n1\n")
    ws.sources.add("passing", tmp_path / "p.csv")
    ws.materialize("t", "SELECT a FROM passing")
    ws.status()
    ws.drop("t")
    assert rows_about(tmp_path / "lab", "passing")
    ws.sources.remove("passing")
    assert rows_about(tmp_path / "lab", "passing") == {}


def test_states_that_inputs_had_do_not_add_up_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(observation_cache, "MAX_ENTRIES", 12)
    data = tmp_path / "p.csv"
    data.write_text("a\n0\n")
    counts = []
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("p", data)
        ws.materialize("t", "SELECT a FROM p")
        for number in range(1, 15):
            data.write_text(f"a\n{number}\n")
            ws.recompute()
            ws.table("t", version=number).drop()
            assert ws.staleness("t") == jl.Fresh()
            counts.append(len(services_of(ws).catalog.observations.load()))
        assert [row.name for row in ws.status() if row.verdict == jl.Fresh()] == ["t"]
    assert max(counts) <= 16  # of some fifty
