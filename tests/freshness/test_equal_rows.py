"""The second opinion on files and result tables: the same rows in another order, or written
otherwise, leave a table fresh, and it says why."""

import contextlib
import json
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.inputs import row_comparison as equal_rows
from tests.freshness.lab import Lab, said
from tests.sizes import product

ROWS = {"id": [1, 2, 3, 4], "a": [0.5, 0.0, 7.5, 1.5], "t": ["x", "y", "x", None]}
OTHER = {
    "a value": {"a": [0.5, 0.0, 7.5, 2.5]},
    "shuffled against each other": {"a": [0.5, 7.5, 0.0, 1.5]},
    "sign of a zero": {"a": [0.5, -0.0, 7.5, 1.5]},
    "a row more": {
        "id": [1, 2, 3, 4, 4],
        "a": [0.5, 0.0, 7.5, 1.5, 1.5],
        "t": [*"xyx", None, None],
    },
    "a row less": {name: values[:3] for name, values in ROWS.items()},
    "a row twice": {"id": [1, 2, 3, 3], "a": [0.5, 0.0, 7.5, 7.5], "t": [*"xyxx"]},
    "a null": {"a": [0.5, 0.0, 7.5, None]},
    "another type": {"id": pa.array([1, 2, 3, 4], pa.int32())},
}


def parquet(rows: pa.Table, path: Path) -> None:
    how = {"compression": "zstd", "row_group_size": 1, "use_dictionary": False}
    pq.write_table(rows, path, **(how if path.exists() else {}))


def tsv(rows: pa.Table, path: Path) -> None:
    pa.csv.write_csv(rows, path, pa.csv.WriteOptions(delimiter="\t"))


def ndjson(rows: pa.Table, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows.to_pylist()))


def database(connect: Any, rows: pa.Table, path: Path) -> None:
    with contextlib.closing(connect(str(path))) as db:
        db.execute("CREATE TABLE IF NOT EXISTS t (id integer, a double precision, t text)")
        db.execute("DELETE FROM t")
        db.executemany(
            "INSERT INTO t VALUES (?, ?, ?)", [[*row.values()] for row in rows.to_pylist()]
        )
        db.commit()


FILES: dict[str, Callable[[pa.Table, Path], Any]] = {
    "parquet": parquet,
    "arrow": pa.feather.write_feather,
    "csv": pa.csv.write_csv,
    "tsv": tsv,
    "json": lambda rows, path: path.write_text(json.dumps(rows.to_pylist())),
    "ndjson": ndjson,
    "sqlite": partial(database, sqlite3.connect),
    "duckdb": partial(database, duckdb.connect),
}
FRAMES: dict[str, Callable[[pa.Table], Any]] = {
    "Arrow frame": lambda rows: rows,
    "Polars frame": pl.from_arrow,
    "pandas frame": lambda rows: rows.to_pandas(),
}
TEXTS = ("csv", "tsv", "json", "ndjson")
READ_FROM = {"sqlite": "rows.t", "duckdb": "rows.t", "table": "jammi.parent"}
NOT_COMPARED = ("arrow", "sqlite", "duckdb", "Arrow frame", "Polars frame", "pandas frame")
SUMMED = "SELECT a, count(*) AS n, max(id) AS m FROM {} GROUP BY a"
every_kind = pytest.mark.parametrize(
    "kind",
    [*(kind for kind in FILES if kind not in NOT_COMPARED), "file by its path", "table"],
)


def put(lab: Lab, kind: str, columns: dict[str, Any]) -> None:
    """The input `rows` with these columns."""
    rows = pa.table(columns)
    if kind in FRAMES:
        lab.sources.add("rows", FRAMES[kind](rows), replace="rows" in lab.sources)
        return
    form = kind if kind in FILES else "parquet"
    path = lab.path(f"rows.{form}")
    FILES[form](rows, path)
    if "rows" not in lab.sources:
        lab.sources.add("rows", path)
    if kind == "table":
        lab.materialize("parent", "FROM rows", cache="bypass")


def make(lab: Lab, kind: str, statement: str = SUMMED) -> Any:
    """The table `child` of the input."""
    put(lab, kind, ROWS)
    by_path = f"'{lab.path('rows.parquet')}'"
    name = by_path if kind == "file by its path" else READ_FROM.get(kind, "rows")
    return lab.materialize("child", statement.format(name))


def backwards(**columns: Any) -> dict[str, Any]:
    return {name: values[::-1] for name, values in ROWS.items()} | columns


def is_advanced(lab: Lab) -> bool:
    return [reason.split()[0] for reason in said(lab.staleness("child"))] == ["advanced"]


@every_kind
def test_rows_in_another_order_leave_a_table_fresh_on_every_surface_and_are_read_once(
    lab, kind, monkeypatch
):
    before = make(lab, kind)
    put(lab, kind, backwards())
    verdict = lab.staleness("child")
    assert verdict == jl.Fresh() and str(verdict).endswith(" has other bytes and equal rows")
    assert lab.staleness(before) == lab.status()["child"].verdict == jl.Fresh()
    listed = lab.sql("SELECT verdict FROM jammi_catalog.status WHERE name = 'child'")
    assert listed.fetchall() == [("fresh",)]
    assert not lab.plan() and lab.recompute("child").executed == []
    assert "equal rows" in str(lab.why("child"))
    lab.reopen()
    monkeypatch.setattr(equal_rows, "digest_select", lambda _: pytest.fail("read again"))
    assert lab.staleness("child") == jl.Fresh()


@product
@every_kind
@pytest.mark.parametrize("rows", OTHER)
def test_other_rows_make_it_stale(lab, kind, rows):
    if rows == "another type" and kind in TEXTS:
        pytest.skip("it holds no other value")
    make(lab, kind)
    put(lab, kind, {**ROWS, **OTHER[rows]})
    assert is_advanced(lab)
    assert is_advanced(lab)  # and not by what the first look remembers


@every_kind
def test_only_the_columns_that_are_read_count_except_in_a_text(lab, kind):
    make(lab, kind)
    put(lab, kind, backwards(t=[*"qrst"]))
    assert (lab.staleness("child") == jl.Fresh()) is (kind not in TEXTS)


@every_kind
@pytest.mark.parametrize(
    "depending",
    ["first(id)", "stddev(a)", "sum(DISTINCT a)", "sum(sum(a)) OVER ()", "corr(a, id) + sum(a)"],
)
def test_a_statement_that_depends_on_the_order_never_rests_on_it(lab, kind, depending):
    made = make(lab, kind, f"SELECT t, {depending} AS d FROM {{}} GROUP BY t")
    assert made.manifest.order_sensitive
    put(lab, kind, backwards())
    assert is_advanced(lab)


def test_a_ground_of_order_travels_on_from_the_table_whose_values_rest_on_it(lab):
    make(lab, "parquet", "SELECT id FROM {}")
    lab.materialize("unmoved", "SELECT id FROM jammi.child")
    lab.materialize("taken", "SELECT first(id) AS id FROM jammi.child")
    lab.materialize("reads", "SELECT id + 1 AS id FROM jammi.taken")
    put(lab, "parquet", backwards())
    status = lab.status()
    why = "rows has other bytes and equal rows, by way of "
    assert status["unmoved"].grounds == []
    assert status["taken"].grounds == [f"{why}child"]
    assert status["reads"].grounds == [f"{why}taken ← child"]


@pytest.mark.parametrize("kind", ["parquet", "table"])
def test_a_board_reads_no_more_than_it_may_and_learns_from_a_deep_look(tmp_path, kind, monkeypatch):
    lab = Lab(tmp_path, **{"look.scan_rows": 3})
    with monkeypatch.context() as patched:
        patched.setattr(equal_rows, "digest_select", lambda _: pytest.fail("read"))
        make(lab, kind)
        put(lab, kind, backwards())
        assert lab.status()["child"].verdict != jl.Fresh()
    if kind == "table":
        assert lab.staleness("child") == lab.status()["child"].verdict == jl.Fresh()
    lab.close()


@pytest.mark.parametrize("kind", NOT_COMPARED)
def test_what_is_digested_by_its_values_is_stale_when_its_rows_are_in_another_order(lab, kind):
    make(lab, kind)
    put(lab, kind, ROWS)
    assert lab.staleness("child") == jl.Fresh()
    put(lab, kind, backwards())
    assert is_advanced(lab)
