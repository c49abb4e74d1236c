"""What verdicts, handles and lineages say where they left something out or raised."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import TableDamaged
from tests.store.lab import flip


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "a.csv").write_text("id\n1\n2\n")
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("a", tmp_path / "a.csv")
        yield ws


def test_an_undecidable_verdict_begins_with_what_is_decided(ws):
    ws.materialize("t", "SELECT id, random() AS r FROM a")
    ws.define("t", "SELECT id + 1 AS id, random() AS r FROM a")
    verdict = ws.staleness("t")
    assert isinstance(verdict, jl.Undecidable) and verdict.known_stale
    assert str(verdict).startswith("undecidable: definition changed; random()")


def test_the_path_of_a_damaged_table_is_known(ws):
    table = ws.materialize("t", "SELECT id FROM a")
    path = table.path
    flip(path)
    assert ws.table("t").path == path
    with pytest.raises(TableDamaged):
        ws.table("t").read()
    path.unlink()
    assert ws.table("t").path == path
    ws.drop("t")
    with pytest.raises(jl.errors.TableNotFound):
        table.path  # noqa: B018


def test_a_lineage_of_everything_has_tables_without_inputs_or_readers(ws):
    ws.materialize("one", "SELECT 1 AS x")
    ws.define("later", "SELECT 2 AS x")
    ws.materialize("t", "SELECT id FROM a")
    nodes = [(node.kind, node.name, node.version) for node in ws.lineage().nodes]
    assert nodes == [
        ("source", "a", None),
        ("sql", "t", 1),
        ("sql", "later", None),
        ("sql", "one", 1),
    ]
    shown = [node.name for node in jl.widgets.LineageGraph(ws)._snapshot.nodes]
    assert sorted(shown) == ["a", "later", "one", "t"]


def test_a_value_that_is_shown_as_a_panel_has_its_selection(ws):
    ws.materialize("docs", "SELECT range AS id, 'text ' || range AS text FROM range(4)", key="id")
    ws.embed("v", "jammi.docs", key="id", text="text", model="hashing")
    shown = ws.vector_map("v")
    assert shown.selection == []
    shown._widget = jl.widgets.EmbeddingMap(ws, shown)
    shown.selection = ["2"]
    assert shown.selection == shown._widget.selection == ["2"]


def test_a_pivot_of_a_table_of_a_database_shows_the_columns_that_its_rows_give(ws, tmp_path):
    with duckdb.connect(tmp_path / "d.duckdb") as db:
        db.execute("CREATE TABLE t AS SELECT i AS id, i % 2 AS g FROM range(4) r(i)")
    ws.sources.add("d", str(tmp_path / "d.duckdb"))
    lines = str(ws.sql("PIVOT d.main.t ON g USING count(*)")).splitlines()
    assert [line.split() for line in lines[:2]] == [["id", "0", "1"], ["bigint"] * 3]
