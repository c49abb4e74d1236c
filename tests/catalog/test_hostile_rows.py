"""Rows of a catalog that somebody else wrote: values of types that no release stores."""

import contextlib
import sqlite3
import threading

import pytest

import jammi_lab as jl
from jammi_lab.cli import main


@pytest.fixture
def lab(tmp_path):
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 42 AS n")
    return tmp_path / "lab"


@pytest.mark.parametrize("column", ["dimensions", "row_count", "bytes", "seconds", "created_at"])
@pytest.mark.parametrize("value", ["x", b"\xff"])
def test_a_value_of_another_type_is_damage(lab, column, value):
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db:
        db.execute(f"UPDATE result_tables SET {column} = ?", [value])
        db.commit()
    if column == "created_at" and value == "x":
        pytest.skip("a text is what it holds")
    damaged = pytest.raises(jl.errors.TableDamaged, match="The catalog is damaged")
    with damaged, jl.open(lab) as ws:
        ws.tables()
        ws.table("t")


@pytest.mark.parametrize("path", ["x" * 5000, f"results/_global/{'a' * 300}.parquet"])
def test_a_path_that_is_too_long_for_a_file_is_damage(tmp_path, path):
    with jl.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 1 AS id, 'a fox' AS body")
        ws.embed("v", "jammi.t", key="id", text="body", model="hashing")
        ws.lexical("w", "jammi.t", key="id", text="body")
    with contextlib.closing(sqlite3.connect(tmp_path / "lab/catalog.sqlite3")) as db:
        db.execute("UPDATE result_tables SET path = ?", [path])
        db.commit()
    with jl.open(tmp_path / "lab") as ws:
        for name in ("v", "w"):
            with pytest.raises(jl.errors.TableDamaged):
                ws.search(name, "fox", k=1).arrow()


def test_a_count_of_commits_that_is_no_number_is_a_loss(lab):
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db:
        db.execute("UPDATE meta SET value = 'x' WHERE key = 'commits'")
        db.commit()
    (lab / "catalog.sqlite3-commits").write_bytes(b"00000000000000000003")
    with jl.open(lab) as ws:
        assert ws.recovery.damaged_log


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"


@pytest.mark.parametrize(
    "statements",
    [
        f"ALTER TABLE recipes RENAME TO r; CREATE VIEW recipes AS {ENDLESS} r.* FROM r, n",
        f"CREATE TRIGGER w AFTER INSERT ON writers BEGIN {ENDLESS} i FROM n; END",
        "DROP TABLE models; CREATE VIRTUAL TABLE models USING fts5(x)",
    ],
    ids=["view", "trigger", "virtual table"],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_catalog_that_runs_code_in_place_of_reading_rows_is_refused(lab, statements, read_only):
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db:
        db.executescript(statements)
    with pytest.raises(jl.errors.WorkspaceNotFound, match="a database of another program"):
        jl.open(lab, read_only=read_only)
    jl.rebuild(lab)
    with jl.open(lab) as ws:
        assert ws.sql("FROM jammi.t").fetchall() == [(42,)]


def test_an_open_that_fails_leaves_no_thread_and_no_lock(lab):
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db:
        db.execute("UPDATE recipes SET descriptor = 'nothing'")
        db.commit()
    own = {thread.name for thread in threading.enumerate()}
    with pytest.raises(jl.errors.TableDamaged, match="a row contains invalid data"):
        jl.open(lab.rename(lab.with_name("a stranger's")))
    assert {thread.name for thread in threading.enumerate()} <= own


def test_a_definition_that_is_nested_too_deeply_is_damage(lab):
    deep = '{"a":' * 20_000 + "1" + "}" * 20_000
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db:
        db.execute("UPDATE recipes SET descriptor = ?", [deep])
        db.commit()
    with pytest.raises(jl.errors.TableDamaged, match="a row contains invalid data"):
        jl.open(lab.rename(lab.with_name("a stranger's")))


@pytest.mark.parametrize(
    ("table", "column"),
    [("recipes", "descriptor"), ("result_tables", "anchors"), ("result_tables", "columns")],
)
@pytest.mark.parametrize("value", ["[" * 100_000 + "]" * 100_000, "{"], ids=["deep", "cut"])
def test_a_catalog_with_such_a_row_is_rebuilt_without_force(lab, capsys, table, column, value):
    """In a trusted folder, which is opened without a look at recipes."""
    with contextlib.closing(sqlite3.connect(lab / "catalog.sqlite3")) as db:
        db.execute(f"UPDATE {table} SET {column} = ?", [value])
        db.commit()
    assert main(["rebuild", str(lab)]) == 0, capsys.readouterr()
    with jl.open(lab) as ws:
        assert ws.sql("FROM jammi.t").fetchall() == [(42,)]
