"""What a list of sources tells, without asking any of them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.sources.files.connector import FileConnector
from tests.sources.kinds import write_duckdb


@pytest.fixture
def path(tmp_path):
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "p.parquet")
    return tmp_path / "p.parquet"


def test_a_list_asks_and_reads_nothing(ws, path, monkeypatch):
    ws.sources.add("p", path)
    ws.materialize("t", "FROM p")

    def refuse(*_, **__):
        raise AssertionError("a source was asked")

    for verb in ("tables", "relation", "observe", "check"):
        monkeypatch.setattr(FileConnector, verb, refuse)
    assert "p.parquet" in repr(ws.sources)
    assert [source.name for source in ws.sources.list()] == ["p"]


def listed(ws):
    """The cell of the table of sources that names the tables inside; None when nobody knows
    them."""
    heads, _, line, _ = repr(ws.sources).splitlines()
    start, end = heads.find("tables"), heads.find("anchor")
    return line[start:end].strip() if start >= 0 else None


@pytest.fixture
def file(tmp_path):
    write_duckdb(tmp_path / "d.duckdb", "CREATE TABLE one AS SELECT 1 AS x")
    return tmp_path / "d.duckdb"


def test_the_tables_inside_are_those_of_the_last_listing(ws, tmp_path, file):
    shown = repr(ws.sources.add("d", file))
    assert "tables    one" in shown and "columns   x integer" in shown and listed(ws) == "one"
    with jl.open(tmp_path / "lab", read_only=True) as other:
        assert listed(other) == "one", "also when this kernel is killed"
    write_duckdb(file, "CREATE TABLE two AS SELECT 2 AS x")
    ws.materialize("t", "FROM d.two")
    assert listed(ws) == "one"
    assert ws.sources["d"].tables() == ["one", "two"] and listed(ws) == "one, two"
    assert "tables    one, two" in repr(ws.sources["d"])


def test_of_many_tables_a_few_are_named_and_the_others_counted(ws, tmp_path):
    path = tmp_path / "d.duckdb"
    write_duckdb(path, *(f"CREATE TABLE t{n:04} (x INTEGER)" for n in range(1017)))
    for shown in (repr(ws.sources.add("d", path)), listed(ws)):
        assert "t0000, t0001, t0002, t0003, t0004 and 1,012 more" in shown


def test_a_source_that_was_added_unopened_has_its_tables_listed_after_a_look(ws, file):
    ws.sources.add("d", file, check=False)
    assert listed(ws) is None
    ws.materialize("t", "FROM d.one")
    ws.staleness("t")
    assert listed(ws) == "one"


def test_a_database_is_listed_with_its_tables_as_from_can_name_them(ws, path, tmp_path):
    write_duckdb(
        tmp_path / "shop.duckdb",
        "CREATE TABLE products(id INT)",
        "CREATE SCHEMA more",
        'CREATE TABLE more."the visits"(id INT)',
    )
    ws.sources.add("my shop", tmp_path / "shop.duckdb")
    ws.sources.add("p", path)
    listed = [
        name
        for (name,) in ws.sql("SHOW TABLES").fetchall()
        if not name.startswith("jammi_catalog.")
    ]
    assert listed == ['"my shop".more."the visits"', '"my shop".products', "my shop", "p"]
    for name in listed[:2]:
        ws.sql(f"FROM {name}").arrow()
    with pytest.raises(jl.TableNotFound) as missed:
        ws.sql("FROM products")
    assert missed.value.near == ('"my shop".products',)
