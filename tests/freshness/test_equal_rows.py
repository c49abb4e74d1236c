"""The same rows leave a table fresh; in another order they make it stale, except those of a lakehouse
table, which are compared."""

import contextlib
import json
import random
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
from deltalake import DeltaTable, write_deltalake

import jammi_lab as jl
from tests.cases import lines
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
    pq.write_table(rows, path)


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
SUMMED = "SELECT a, count(*) AS n, max(id) AS m FROM {} GROUP BY a"
every_kind = pytest.mark.parametrize("kind", [*FILES, *FRAMES, "file by its path", "table"])
by_column = pytest.mark.parametrize("kind", ["parquet", "arrow", "file by its path", "table"])


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
def test_the_same_rows_leave_a_table_fresh_and_in_another_order_they_do_not(lab, kind):
    make(lab, kind)
    put(lab, kind, ROWS)
    assert lab.staleness("child") == jl.Fresh()
    put(lab, kind, backwards())
    assert is_advanced(lab)
    assert lab.recompute("child").executed == ["child"]
    assert lab.staleness("child") == jl.Fresh()


def test_a_table_computed_again_over_rows_in_another_order_stops_the_run_below_it(lab):
    make(lab, "csv")
    lab.materialize("below", "SELECT max(n) AS n FROM jammi.child")
    put(lab, "csv", backwards())
    report = lab.plan().apply()
    assert {s.name: s.outcome for s in report.steps} == {"child": "computed", "below": "cut_off"}


@product
@every_kind
@pytest.mark.parametrize("rows", OTHER)
def test_other_rows_make_it_stale(lab, kind, rows):
    if rows == "another type" and kind in (*TEXTS, "sqlite", "duckdb"):
        pytest.skip("it holds no other value")
    if rows == "sign of a zero" and kind == "sqlite":
        pytest.skip("SQLite stores -0.0 as 0")
    make(lab, kind)
    put(lab, kind, {**ROWS, **OTHER[rows]})
    assert is_advanced(lab)
    assert is_advanced(lab)  # and not by what the first look remembers


@by_column
def test_only_the_columns_that_are_read_count(lab, kind):
    make(lab, kind)
    put(lab, kind, ROWS | {"t": [*"qrst"]})
    assert lab.staleness("child") == jl.Fresh()


@by_column
@pytest.mark.parametrize("columns", [("t", "id", "a"), ("new", "id", "a", "t"), ("id", "a")])
def test_columns_that_come_go_or_change_places_leave_fresh_what_does_not_read_them(
    lab, kind, columns
):
    make(lab, kind)
    put(lab, kind, {name: {**ROWS, "new": [7, 8, 9, 10]}[name] for name in columns})
    assert lab.staleness("child") == jl.Fresh()


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("statement", lines("statements/by_position.sql"))
def test_columns_that_changed_places_count_for_what_goes_by_position(lab, statement, kind):
    path, table = lab.path(f"r.{kind}"), pa.table({"a": [3, 1, 2, 5], "b": [1, 2, 9, 0]})
    FILES[kind](table, path)
    lab.sources.add("r", path)
    lab.materialize("t", statement)
    FILES[kind](table.select(["b", "a"]), path)
    assert lab.staleness("t") != jl.Fresh()


@pytest.mark.parametrize(
    "depending",
    ["first(id)", "stddev(a)", "sum(DISTINCT a)", "sum(sum(a)) OVER ()", "corr(a, id) + sum(a)"],
)
def test_a_statement_that_depends_on_the_order_never_rests_on_it(lab, depending):
    folder = str(lab.path("rows"))
    write_deltalake(folder, pa.table(ROWS))
    lab.sources.add("rows", folder)
    made = lab.materialize("child", f"SELECT t, {depending} AS d FROM rows GROUP BY t")
    lab.materialize("summed", SUMMED.format("rows"))
    assert made.manifest.order_sensitive
    write_deltalake(folder, pa.table(backwards()), mode="overwrite")
    assert is_advanced(lab) and lab.staleness("summed") == jl.Fresh()


def test_a_ground_of_order_travels_on_from_the_table_whose_values_rest_on_it(lab):
    folder, rows = str(lab.path("rows")), pa.table({"id": [1, 2, 3]})
    for part in (rows.slice(0, 1), rows.slice(1)):
        write_deltalake(folder, part, mode="append")
    lab.sources.add("rows", folder)
    lab.materialize("child", "SELECT id FROM rows")
    lab.materialize("unmoved", "SELECT id FROM jammi.child")
    lab.materialize("taken", "SELECT first(id) AS id FROM jammi.child")
    lab.materialize("reads", "SELECT id + 1 AS id FROM jammi.taken")
    DeltaTable(folder).optimize.compact()
    status = lab.status()
    why = "rows has other bytes and equal rows, by way of "
    assert str(status["child"].verdict) == "fresh, rows has other bytes and equal rows"
    assert status["unmoved"].grounds == []
    assert status["taken"].grounds == [f"{why}child"]
    assert status["reads"].grounds == [f"{why}taken ← child"]


def test_random_files_are_fresh_exactly_when_they_hold_the_same_rows(lab):
    draw, seen = random.Random(11), set()

    def rows() -> list[tuple[int | None, str | None]]:
        return [
            (draw.choice([0, 1, None]), draw.choice(["p", "q", None]))
            for _ in range(draw.randrange(1, 4))
        ]

    first = rows()
    for turn in range(40):
        then = first if turn == 0 or draw.random() < 0.3 else rows()
        columns = {
            "a": pa.array([a for a, _ in then], pa.int64()),
            "t": pa.array([t for _, t in then], pa.string()),
        }
        lab.parquet("bag", **columns)
        if turn == 0:
            lab.materialize("counted", "SELECT a, t, count(*) AS n FROM bag GROUP BY ALL")
        assert (lab.staleness("counted") == jl.Fresh()) is (first == then), (first, then)
        seen.add(first == then)
    assert seen == {True, False}
