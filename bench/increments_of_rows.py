"""Measures of increments over tables: processor time of an aggregate after 1,000 rows were inserted
into a mutable table, or a row map got 1,000 keys, against a full computation."""

import gc
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

import jammi_lab as jl
from bench.harness import Line, measure_pair

_MUTABLE_ROWS, _MAP_ROWS, _NEW_ROWS, _INSERT_ROWS = 1_000_000, 200_000, 1_000, 50_000
_ROWS = (
    "SELECT $first + i AS id, 'town ' || hash($first + i) % 500 AS town, "
    "(hash($first + i, 1) % 100000 / 100)::DECIMAL(10, 2) AS amount FROM range($rows) AS t(i)"
)
_PLAIN = "SELECT town, count(*) AS n, sum(amount) AS total, min(amount) AS least FROM {} GROUP BY 1"
_JOINED = (
    "SELECT region, upper(regexp_replace(town, '[0-9]+', '')) AS kind, count(*) AS n, "
    "sum(amount) AS total FROM {} JOIN towns USING (town) GROUP BY ALL"
)


def increments_of_rows(folder: Path, repeats: int) -> Iterator[Line]:
    """New rows of a table are computed without the others."""
    with jl.open(folder / "lab") as ws:
        towns = [f"town {number}" for number in range(500)]
        regions = [f"region {number % 20}" for number in range(500)]
        pq.write_table(pa.table({"town": towns, "region": regions}), folder / "towns.parquet")
        ws.sources.add("towns", str(folder / "towns.parquet"))
        for what, name, grow in (
            (f"a mutable table of {_MUTABLE_ROWS:,} rows", "mutable.sales", _mutable_table(ws)),
            (f"a row map of {_MAP_ROWS:,} rows", "jammi.amounts", _row_map(ws, folder)),
        ):
            for words, statement in (("GROUP BY", _PLAIN), ("JOIN and GROUP BY", _JOINED)):
                totals = name.replace(".", "_") + str(len(words))
                compute = partial(ws.materialize, totals, statement.format(name))
                compute()
                yield measure_pair(
                    f"increment: {words} over {what} and {_NEW_ROWS:,} more, processor time "
                    "against a full run",
                    partial(_time_after, ws, grow, compute, "auto"),
                    partial(_time_after, ws, grow, compute, "never"),
                    repeats=repeats,
                    limit=None,
                )


def _mutable_table(ws: jl.Workspace) -> Callable[[], object]:
    """Fill a mutable table, and return a function that inserts more rows."""
    table = ws.mutable.create("sales", _rows(0, 0).schema, primary_key=["id"])
    for first in range(0, _MUTABLE_ROWS, _INSERT_ROWS):
        table.insert(_rows(first, _INSERT_ROWS))

    def grow() -> None:
        table.insert(_rows(len(table.read()), _NEW_ROWS))

    return grow


def _row_map(ws: jl.Workspace, folder: Path) -> Callable[[], object]:
    """Compute a row map, and return a function that computes it with more keys."""
    file, count = folder / "sales.parquet", _MAP_ROWS
    pq.write_table(_rows(0, count), file)
    ws.sources.add("sales", str(file))

    def compute() -> None:
        ws.map("amounts", _take, "sales", key="id", inputs=["town", "amount"], batch=4096)

    def grow() -> None:
        nonlocal count
        count += _NEW_ROWS
        pq.write_table(_rows(0, count), file)
        compute()

    compute()
    return grow


def _take(rows: pa.Table) -> pa.Table:
    return rows


def _rows(first: int, count: int) -> pa.Table:
    with duckdb.connect() as connection:
        return connection.execute(_ROWS, {"first": first, "rows": count}).to_arrow_table()


def _time_after(
    ws: jl.Workspace,
    grow: Callable[[], object],
    compute: Callable[[], jl.ResultTable],
    mode: str,
) -> float:
    grow()
    ws.settings.set("recompute.incremental", mode)
    gc.collect()
    began = time.process_time()
    table = compute()
    took = time.process_time() - began
    assert table.manifest is not None, "a ready table has a manifest"
    assert (table.manifest.increment is None) == (mode == "never"), "the other way to compute"
    return took


CASES = {"increments-of-rows": increments_of_rows}
