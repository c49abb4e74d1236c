"""The cost of observing a source of a million rows, by kind, relative to reading all rows: after a
change, and unchanged."""

import contextlib
import http.server
import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

import jammi_lab as jl
from bench import fixtures
from bench.harness import Line, measure_pair, unmeasured_line, wall_timer
from jammi_lab.core.identifiers import sql_literal

ROWS = 1_000_000
_SHEET_ROWS = 100_000
"""A workbook of a million rows takes minutes to write."""
_S3 = Path(__file__).parents[1] / "notebooks/data/s3_server.py"


@dataclass(frozen=True)
class RowSource:
    """A source of a million rows."""

    location: str
    table: str = ""
    """The table in the source; empty for a file."""
    rows: int = ROWS
    limit: float | None = None
    """Maximum cost of observing a changed source, relative to reading all rows."""
    unchanged_limit: float | None = 0.5
    """Maximum cost of observing an unchanged source, relative to reading all rows."""
    recomputes_anchor: bool = True
    """Whether `anchor="content"` recomputes the anchor each time."""
    options: dict[str, Any] = field(default_factory=dict)
    kind: str | None = None


RowSourceContext = contextlib.AbstractContextManager[RowSource]


def measure_kinds(folder: Path, repeats: int) -> Iterator[Line]:
    """Measure every kind of source except database servers."""
    file = fixtures.parquet_of_rows(folder / "rows.parquet", ROWS)
    for name, make in _KINDS.items():
        here = folder / name.replace(" ", "_")
        here.mkdir()
        try:
            with (
                make(file, here) as row_source,
                jl.open(
                    here / "lab", settings={"look.racy_seconds": 0, "look.timeout_seconds": 600}
                ) as ws,
            ):
                yield from _anchor_lines(ws, name, row_source, repeats)
        except (ImportError, duckdb.Error) as error:
            yield unmeasured_line(
                f"anchor of 1 M rows in {name}", f"cannot be made here ({type(error).__name__})"
            )


def _anchor_lines(
    ws: jl.Workspace, name: str, row_source: RowSource, repeats: int
) -> Iterator[Line]:
    what = (
        f"anchor of {'1 M' if row_source.rows == ROWS else f'{row_source.rows:,}'} rows in {name}"
    )
    address = f"auto.{row_source.table}" if row_source.table else "auto"
    auto = ws.sources.add(
        "auto", row_source.location, kind=row_source.kind, options=row_source.options
    )
    read_all = wall_timer(lambda: ws.sql(f"SELECT * FROM {address}").arrow())
    if row_source.recomputes_anchor:
        always = ws.sources.add(
            "always",
            row_source.location,
            kind=row_source.kind,
            options=row_source.options,
            anchor="content",
        )
        yield measure_pair(
            f"{what}, told anew, against reading them",
            wall_timer(partial(_anchor, always, row_source)),
            read_all,
            repeats=repeats,
            limit=row_source.limit,
        )
    yield measure_pair(
        f"{what}, unchanged, against reading them",
        wall_timer(partial(_anchor, auto, row_source)),
        read_all,
        repeats=repeats,
        limit=row_source.unchanged_limit,
    )


def _anchor(source: Any, row_source: RowSource) -> None:
    anchor = source.anchor(row_source.table or None)
    if not anchor.pinned:
        raise AssertionError(f"the state of {row_source.location} is not told: {anchor.note}")


# -- the kinds
# --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _parquet(file: Path, _: Path) -> Iterator[RowSource]:
    yield RowSource(str(file), limit=1.0)


@contextlib.contextmanager
def _csv(_: Path, here: Path) -> Iterator[RowSource]:
    yield RowSource(str(fixtures.csv_of_rows(here / "rows.csv", ROWS)), limit=1.0)


@contextlib.contextmanager
def _sqlite(file: Path, here: Path) -> Iterator[RowSource]:
    import sqlite3

    path = here / "rows.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE t(id INTEGER, grp INTEGER, x REAL, label TEXT)")
        for batch in pq.ParquetFile(file).iter_batches(100_000):
            db.executemany(
                "INSERT INTO t VALUES (?, ?, ?, ?)",
                zip(*(column.to_pylist() for column in batch.columns), strict=True),
            )
    yield RowSource(f"sqlite:///{path}", "t")


@contextlib.contextmanager
def _duckdb(file: Path, here: Path) -> Iterator[RowSource]:
    path = here / "rows.duckdb"
    with duckdb.connect(path) as con:
        con.execute(f"CREATE TABLE t AS FROM {sql_literal(str(file))}")
    yield RowSource(f"duckdb:///{path}", "t")


@contextlib.contextmanager
def _delta(file: Path, here: Path) -> Iterator[RowSource]:
    from deltalake import write_deltalake

    write_deltalake(here / "rows", pq.read_table(file))
    yield RowSource(str(here / "rows"), recomputes_anchor=False)


@contextlib.contextmanager
def _iceberg(file: Path, here: Path) -> Iterator[RowSource]:
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog(
        "bench", uri=f"sqlite:///{here}/catalog.db", warehouse=f"file://{here}/warehouse"
    )
    catalog.create_namespace("shop")
    rows = pq.read_table(file)
    table = catalog.create_table("shop.rows", schema=rows.schema)
    table.append(rows)
    catalog.close()
    yield RowSource(table.location().removeprefix("file://"), recomputes_anchor=False)


@contextlib.contextmanager
def _xlsx(file: Path, here: Path) -> Iterator[RowSource]:
    openpyxl: Any = importlib.import_module("openpyxl")  # it has no type stubs

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("rows")
    rows = pq.read_table(file).slice(0, _SHEET_ROWS)
    sheet.append(rows.column_names)
    for row in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        sheet.append(row)
    book.save(here / "rows.xlsx")
    yield RowSource(str(here / "rows.xlsx"), rows=_SHEET_ROWS, limit=1.0)


@contextlib.contextmanager
def _s3(file: Path, _: Path) -> Iterator[RowSource]:
    botocore: Any = importlib.import_module("botocore.session")

    with subprocess.Popen(
        [sys.executable, str(_S3)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            address = server.stdout.readline().strip() if server.stdout is not None else ""
            if not address:
                raise ImportError("moto does not start")
            said = {
                "aws_access_key_id": "bench",
                "aws_secret_access_key": "bench-secret",
                "endpoint_url": address,
                "region_name": "us-east-1",
            }
            client = botocore.Session().create_client("s3", **said)
            client.create_bucket(Bucket="bench")
            client.put_object(Bucket="bench", Key="rows.parquet", Body=file.read_bytes())
            options = {"key": "bench", "secret": "bench-secret", "endpoint_url": address}
            yield RowSource("s3://bench/rows.parquet", options=options)
        finally:
            server.kill()


@contextlib.contextmanager
def _http(file: Path, _: Path) -> Iterator[RowSource]:
    class ETagHandler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(file.parent))

        def end_headers(self) -> None:
            self.send_header("ETag", f'"{os.stat(file).st_mtime_ns}"')
            super().end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), ETagHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield RowSource(f"http://127.0.0.1:{server.server_address[1]}/{file.name}")
        finally:
            server.shutdown()


_KINDS: dict[str, Callable[[Path, Path], RowSourceContext]] = {
    "a Parquet file": _parquet,
    "a CSV file": _csv,
    "an SQLite file": _sqlite,
    "a DuckDB file": _duckdb,
    "a Delta table": _delta,
    "an Iceberg table": _iceberg,
    "a workbook": _xlsx,
    "Parquet on S3": _s3,
    "Parquet behind http": _http,
}
