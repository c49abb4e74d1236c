"""What sensing costs: verdicts beside their observations, closures, column digests, the status of
many tables."""

import gc
import itertools
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

import jammi_lab as jl
from bench import fixtures
from bench.harness import Line, cpu_timer, measure_pair, wall_timer
from jammi_lab.catalog import Catalog
from jammi_lab.catalog.lineage import Direction
from jammi_lab.core.anchors import Anchor, AnchorKind, Input, result_input
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.verdicts import Verdict
from jammi_lab.freshness.table_verdict import Evidence, evaluate_table
from jammi_lab.storage.digests import digest_parquet
from jammi_lab.storage.parquet import ParquetSink

Judged = list[tuple[str, Evidence, list[int]]]
_WALKS = 10
"""The number of chains walked in one measurement."""


def within_seconds(what: str, work: Callable[[], object], seconds: float, *, repeats: int) -> Line:
    """A line of processor time relative to a maximum number of seconds."""

    def run() -> float:
        gc.collect()
        began = time.process_time()
        work()
        return time.process_time() - began

    return measure_pair(f"{what} (processor)", run, lambda: seconds, repeats=repeats, limit=1.0)


def verdicts(_: Path, repeats: int) -> Iterator[Line]:
    """Recorded × observed → verdict, over graphs of a hundred tables with up to three inputs each,
    of which one in a thousand moved."""
    for tables in (1_000, 10_000, 100_000):
        facts = _facts(tables)
        yield within_seconds(
            f"verdicts of {tables:,} tables against 50 ms for 10,000",
            partial(_judge, facts),
            0.05 * tables / 10_000,
            repeats=repeats,
        )


def _facts(tables: int) -> Judged:
    chance, made = random.Random(0), []
    for number in range(tables):
        first = number - number % 100
        above = sorted(chance.sample(range(first, number), min(number - first, 3)))
        anchors = [
            _anchor(result_input(f"t{p}", columns=("a", "b")), AnchorKind.RESULT_DIGEST)
            for p in above
        ]
        anchors = anchors or [
            _anchor(Input("source", "papers", columns=("a",)), AnchorKind.SOURCE_VERSION)
        ]
        now = {
            a.input.identity: a
            if chance.random() > 0.001
            else Anchor(a.input, a.kind, "moved", a.method, a.types)
            for a in anchors
        }
        made.append(
            (
                f"t{number}",
                Evidence("d" * 64, "d" * 64, tuple(anchors), now, None, "2026-01-01T00:00:00Z"),
                above,
            )
        )
    return made


def _anchor(input: Input, kind: AnchorKind) -> Anchor:
    return Anchor(
        input,
        kind,
        input.name.ljust(64, "0"),
        "digest of the columns read",
        ("BIGINT",) * len(input.columns),
        row_count=5,
        version=1,
    )


def _judge(facts: Judged) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for _, each, above in facts:
        verdicts.append(evaluate_table(each, [(facts[p][0], verdicts[p]) for p in above]))
    return verdicts


def closures(folder: Path, repeats: int) -> Iterator[Line]:
    """Everything above and below a table, a thousand tables, among more and more edges of others.

    Ten different walks at a time: the collection of garbage before each measurement goes over all
    objects of this process, and a walk right after it spends a third of its time on getting the
    processor's caches back.
    """
    for edges in (10_000, 100_000, 1_000_000):
        place = _chains(folder / f"edges{edges}", edges)
        begins = range(0, edges, edges // _WALKS)
        with Catalog(
            place / "catalog.sqlite3", scope=TenantScope(), clock=SystemClock()
        ) as catalog:
            begun: dict[Direction, list[str]] = {
                "up": [f"t{at + 999}" for at in begins],
                "down": [f"t{at}" for at in begins],
            }
            for way, starts in begun.items():
                work = partial(_walk, catalog, starts, way)
                said = (
                    f"{_WALKS} closures of 1,000 tables {way}, among {edges:,} edges, against "
                    f"{_WALKS} × 5 ms"
                )
                yield within_seconds(said, work, _WALKS * 0.005, repeats=repeats)


def _walk(catalog: Catalog, starts: Sequence[str], way: Direction) -> None:
    for start in starts:
        assert len(catalog.lineage.closure(start, way)) >= 999


def _chains(folder: Path, edges: int) -> Path:
    """A workspace whose catalog holds chains of a thousand tables, one edge each; without files."""
    jl.open(folder).close()
    with sqlite3.connect(folder / "catalog.sqlite3") as db:
        numbers = range(edges)
        db.executemany(
            "INSERT INTO versions(recipe, recipe_fold, version, table_name, created_at, "
            "pinned, newest) VALUES (?, ?, 1, ?, '', 0, 1)",
            ((f"t{i}", f"t{i}", f"p{i}") for i in numbers),
        )
        db.executemany(
            "INSERT INTO result_tables(table_name, table_fold, kind, status, writer_id, "
            "recipe, version, path, key_columns, created_at, columns,"
            " anchors, order_sensitive, flight) VALUES (?, ?, 'sql', 'ready', '', ?, 1, '', "
            "'[]', '', '[]', '[]', 0, 0)",
            ((f"p{i}", f"p{i}", f"t{i}") for i in numbers),
        )
        db.executemany(
            "INSERT INTO lineage(input, derived, kind, input_kind, input_table, "
            "input_physical, node_fold, node_tenant)"
            " VALUES (?, ?, ?, ?, '', 0, ?, '')",
            (_edge(i) for i in numbers),
        )
    db.close()
    return folder


def _edge(number: int) -> tuple[str, str, str, str, str]:
    if number % 1_000 == 0:
        return "papers", f"p{number}", "source_version", "source", "papers"
    return f"t{number - 1}", f"p{number}", "result_digest", "result", f"t{number - 1}"


def digests(folder: Path, repeats: int) -> Iterator[Line]:
    """What the digests of the whole and of all column chunks add to writing a file, as the store
    does both."""
    every = pq.read_table(fixtures.parquet_of_rows(folder / "rows.parquet", 10_000_000))
    for count, limit in (
        (100_000, None),
        (1_000_000, 1.5),
        (10_000_000, 1.5),
    ):  # of a small file the parts that do not grow are most
        rows = every.slice(0, count)
        both, write = (
            wall_timer(
                partial(_write, rows, folder / f"written{digested}.parquet", digested=digested)
            )
            for digested in (True, False)
        )
        yield measure_pair(
            f"write {count:,} rows with a digest per column chunk, against writing them",
            both,
            write,
            repeats=repeats,
            limit=limit,
        )


def _write(rows: pa.Table, target: Path, *, digested: bool) -> None:
    sink = ParquetSink(target, rows.schema)
    sink.write(rows)
    sink.close()
    if digested:
        digest_parquet(target)


def board(folder: Path, repeats: int) -> Iterator[Line]:
    """The status of many tables over files that did not change, as a kernel that has looked before
    sees it."""
    for tables in (100, 1_000, 10_000, 100_000):
        make = fixtures.workspace_of_files if tables <= 1_000 else fixtures.workspace_of_copies
        with jl.open(make(folder / f"of{tables}", tables)) as ws:
            assert {type(row.verdict) for row in ws.status()} == {jl.Fresh}
            what = f"status of {tables:,} tables, warm, against 0.5 s for 1,000"
            often = repeats if tables < 100_000 else 1
            yield within_seconds(what, ws.status, 0.5 * tables / 1_000, repeats=often)


def one_name(folder: Path, repeats: int) -> Iterator[Line]:
    """What is asked about one table at the end of a chain of ten, among more and more others."""
    for tables in (1_000, 20_000):
        place = fixtures.workspace_of_copies(folder / f"of{tables}", tables)
        with jl.open(place) as ws:
            for at in range(10):
                above = f"chain{at - 1}" if at else "t0"
                ws.materialize(f"chain{at}", f"SELECT a, b + {at} AS b FROM jammi.{above}")
            few, freshness = tables == 1_000, ws._services.freshness
            asked: dict[str, tuple[Callable[[], object], float]] = {
                "direct dependents": (lambda: ws.derives_from("t0"), 0.0011 if few else 0.003),
                "lineage of depth 1": (
                    lambda: ws.lineage("chain9", depth=1),
                    0.0011 if few else 0.003,
                ),
                "verdict": (lambda: ws.staleness("chain9"), 0.003),
                "badge": (partial(freshness.current_verdicts, ["chain9"]), 0.003),
                "plan": (lambda: ws.plan("chain9"), 0.005),
                # the statement is asked over the rows of all tables
                "row of jammi_catalog.status": (partial(_status_row, ws, "chain9"), tables / 2e4),
            }
            for what, (ask, seconds) in asked.items():
                said = f"{what} of one table among {tables:,}, ten times, against 10 × {seconds} s"
                ten_times = partial(_repeat, ask, 10)
                yield within_seconds(said, ten_times, 10 * seconds, repeats=repeats)
            yield from _small_statement(ws, tables, repeats)
            seconds = 0.02 + 0.024 * tables / 1_000  # some of it is not about tables
            _repeat(ws.status, 2)  # the first one keeps what it observed
            again = f"status again of {tables:,} tables, against {seconds:.2g} s"
            yield within_seconds(again, ws.status, seconds, repeats=repeats)


def _status_row(ws: jl.Workspace, name: str) -> None:
    asked = f"SELECT verdict FROM jammi_catalog.status WHERE name = '{name}'"
    assert ws.sql(asked).fetchall() == [("fresh",)]


def _small_statement(ws: jl.Workspace, tables: int, repeats: int) -> Iterator[Line]:
    """`count(*)` of a small table against DuckDB alone, and against 10 ms."""
    path = ws._services.results.parquet(ws.table("chain9")._record)
    with duckdb.connect(config={"threads": "2"}) as con:
        ours = partial(_repeat, lambda: ws.sql("SELECT count(*) FROM jammi.chain9").fetchall(), 100)
        bare = f"SELECT count(*) FROM read_parquet('{path}')"
        other = partial(_repeat, lambda: con.execute(bare).fetchall(), 100)
        what = f"count(*) of a small table among {tables:,}, a hundred times, against"
        yield within_seconds(f"{what} 100 × 10 ms", ours, 100 * 0.010, repeats=repeats)
        yield measure_pair(
            f"{what} DuckDB alone (processor)",
            cpu_timer(ours),
            cpu_timer(other),
            repeats=repeats,
            limit=None,
        )
        texts = itertools.count()

        def ask_anew() -> None:
            ws.sql(f"SELECT count(*) FROM jammi.chain9 -- {next(texts)}").fetchall()

        yield within_seconds(
            f"count(*) in a new text each time among {tables:,}, ten times, against 10 × 10 ms",
            partial(_repeat, ask_anew, 10),
            10 * 0.010,
            repeats=repeats,
        )


def _repeat(ask: Callable[[], object], times: int) -> None:
    for _ in range(times):
        ask()


CASES: dict[str, Callable[[Path, int], Iterator[Line]]] = {
    "verdicts": verdicts,
    "closures": closures,
    "digests": digests,
    "board": board,
    "one name": one_name,
}
