"""What the state of a million rows costs, kind by kind, against reading them all: when it moved, and when it stands still."""

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
from bench.harness import Line, pair, timed, unmeasured
from jammi_lab.names import literal

ROWS = 1_000_000
_SHEET_ROWS = 100_000
"""A workbook of a million rows takes minutes to write."""
_S3 = """
import logging, sys
logging.disable(logging.CRITICAL)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Kept:
    """A million rows, kept somewhere."""

    location: str
    table: str = ""
    """The table inside."""
    rows: int = ROWS
    limit: float | None = None
    """Of what its state costs when it moved, against reading all rows."""
    still: float | None = 0.5
    """Of what its state costs when nothing moved."""
    forced: bool = True
    """Whether `anchor="content"` has its state told anew each time."""
    options: dict[str, Any] = field(default_factory=dict)
    kind: str | None = None


Made = contextlib.AbstractContextManager[Kept]


def measured(folder: Path, repeats: int) -> Iterator[Line]:
    """The lines of every kind that is no server with SQL."""
    file = fixtures.parquet_of_rows(folder / "rows.parquet", ROWS)
    for name, make in _KINDS.items():
        here = folder / name.replace(" ", "_")
        here.mkdir()
        try:
            with make(file, here) as kept, jl.open(here / "lab", settings={"look.racy_seconds": 0, "look.timeout_seconds": 600}) as ws:
                yield from _lines(ws, name, kept, repeats)
        except (ImportError, duckdb.Error) as error:
            yield unmeasured(f"anchor of 1 M rows in {name}", f"cannot be made here ({type(error).__name__})")


def _lines(ws: jl.Workspace, name: str, kept: Kept, repeats: int) -> Iterator[Line]:
    what = f"anchor of {'1 M' if kept.rows == ROWS else f'{kept.rows:,}'} rows in {name}"
    address = f"auto.{kept.table}" if kept.table else "auto"
    auto = ws.sources.add("auto", kept.location, kind=kept.kind, options=kept.options)
    reading = timed(lambda: ws.sql(f"SELECT * FROM {address}").arrow())
    if kept.forced:
        always = ws.sources.add("always", kept.location, kind=kept.kind, options=kept.options, anchor="content")
        yield pair(f"{what}, told anew, against reading them", timed(partial(_anchor, always, kept)), reading, repeats=repeats, limit=kept.limit)
    yield pair(f"{what}, unchanged, against reading them", timed(partial(_anchor, auto, kept)), reading, repeats=repeats, limit=kept.still)


def _anchor(source: Any, kept: Kept) -> None:
    seen = source.anchor(kept.table or None)
    if not seen.pinned:
        raise AssertionError(f"the state of {kept.location} is not told: {seen.note}")


# -- the kinds -----------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _parquet(file: Path, _: Path) -> Iterator[Kept]:
    yield Kept(str(file), limit=1.0)


@contextlib.contextmanager
def _csv(_: Path, here: Path) -> Iterator[Kept]:
    yield Kept(str(fixtures.csv_of_rows(here / "rows.csv", ROWS)), limit=1.0)


@contextlib.contextmanager
def _sqlite(file: Path, here: Path) -> Iterator[Kept]:
    import sqlite3

    path = here / "rows.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE t(id INTEGER, grp INTEGER, x REAL, label TEXT)")
        for batch in pq.ParquetFile(file).iter_batches(100_000):
            db.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", zip(*(column.to_pylist() for column in batch.columns), strict=True))
    yield Kept(f"sqlite:///{path}", "t")


@contextlib.contextmanager
def _duckdb(file: Path, here: Path) -> Iterator[Kept]:
    path = here / "rows.duckdb"
    with duckdb.connect(path) as con:
        con.execute(f"CREATE TABLE t AS FROM {literal(str(file))}")
    yield Kept(f"duckdb:///{path}", "t")


@contextlib.contextmanager
def _delta(file: Path, here: Path) -> Iterator[Kept]:
    from deltalake import write_deltalake

    write_deltalake(here / "rows", pq.read_table(file))
    yield Kept(str(here / "rows"), forced=False)


@contextlib.contextmanager
def _iceberg(file: Path, here: Path) -> Iterator[Kept]:
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("bench", uri=f"sqlite:///{here}/catalog.db", warehouse=f"file://{here}/warehouse")
    catalog.create_namespace("shop")
    rows = pq.read_table(file)
    table = catalog.create_table("shop.rows", schema=rows.schema)
    table.append(rows)
    catalog.close()
    yield Kept(table.location().removeprefix("file://"), forced=False)


@contextlib.contextmanager
def _xlsx(file: Path, here: Path) -> Iterator[Kept]:
    openpyxl: Any = importlib.import_module("openpyxl")  # it ships no types

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("rows")
    rows = pq.read_table(file).slice(0, _SHEET_ROWS)
    sheet.append(rows.column_names)
    for row in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        sheet.append(row)
    book.save(here / "rows.xlsx")
    yield Kept(str(here / "rows.xlsx"), rows=_SHEET_ROWS, limit=1.0)


@contextlib.contextmanager
def _s3(file: Path, _: Path) -> Iterator[Kept]:
    botocore: Any = importlib.import_module("botocore.session")

    with subprocess.Popen([sys.executable, "-c", _S3], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            address = server.stdout.readline().strip() if server.stdout is not None else ""
            if not address:
                raise ImportError("moto does not start")
            said = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench-secret", "endpoint_url": address, "region_name": "us-east-1"}
            client = botocore.Session().create_client("s3", **said)
            client.create_bucket(Bucket="bench")
            client.put_object(Bucket="bench", Key="rows.parquet", Body=file.read_bytes())
            options = {"key": "bench", "secret": "bench-secret", "endpoint_url": address}
            yield Kept("s3://bench/rows.parquet", options=options)
        finally:
            server.kill()


@contextlib.contextmanager
def _http(file: Path, _: Path) -> Iterator[Kept]:
    class Tagged(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(file.parent))

        def end_headers(self) -> None:
            self.send_header("ETag", f'"{os.stat(file).st_mtime_ns}"')
            super().end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tagged) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Kept(f"http://127.0.0.1:{server.server_address[1]}/{file.name}")
        finally:
            server.shutdown()


_KINDS: dict[str, Callable[[Path, Path], Made]] = {
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
