"""Measures of work past one machine: SQL over many files by the workers of a Dask cluster, against
this kernel; and how often a catalog on a server is asked."""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

import jammi_lab as jl
from bench import fixtures
from bench.harness import Line, measure_pair, unmeasured_line, wall_timer
from bench.increments import ROWS
from bench.sources import database
from jammi_lab.catalog.connection import Statement

_FILES, _FILE_ROWS = 200, 100_000
_TABLES, _SOURCES, _STATEMENTS = 10_000, 50, 12
_TOTALS = (
    "SELECT town, kind, count(*) AS n, sum(amount * pieces) AS total, min(amount) AS least, "
    "max(day) AS latest FROM sales WHERE pieces > 1 GROUP BY town, kind"
)


def scale(folder: Path, repeats: int) -> Iterator[Line]:
    """One worker costs little more than this kernel; both have all processors."""
    what = f"SQL over {_FILES} files of {_FILE_ROWS:,} rows"
    dask: Any
    try:
        import distributed as dask
    except ImportError:
        yield unmeasured_line(what, "the package distributed is not installed")
        return
    _write_files(folder / "sales")
    threads = os.cpu_count() or 1
    with jl.open(folder / "lab") as ws:
        ws.sources.add("sales", str(folder / "sales"))
        compute = partial(ws.materialize, "totals", _TOTALS, cache="bypass")
        expected = compute().manifest
        assert expected is not None, "a ready table has a manifest"
        for workers, limit in ((1, 1.3), (2, None)):
            with (
                dask.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=-(-threads // workers),
                    dashboard_address=None,
                    memory_limit=None,
                ) as cluster,
                dask.Client(cluster, set_as_default=False) as client,
            ):
                on_workers = partial(compute, executor=client)
                found = on_workers().manifest
                assert found is not None, "a ready table has a manifest"
                assert found.parts is not None, "workers computed it"
                assert found.artifact == expected.artifact, "the bytes are those of this kernel"
                yield measure_pair(
                    f"{what}: {workers} worker{'s' * (workers > 1)} against this kernel",
                    wall_timer(on_workers),
                    wall_timer(compute),
                    repeats=repeats,
                    limit=limit,
                )


def far_catalog(folder: Path, repeats: int) -> Iterator[Line]:  # noqa: ARG001  # it is counted
    """A status asks a catalog on a server about as often as there are kinds of things in it."""
    what = f"status of {_TABLES:,} tables over {_SOURCES} sources, its catalog on a server"
    with contextlib.ExitStack() as stack:
        try:
            url, _ = stack.enter_context(database("postgresql"))
        except duckdb.Error:
            yield unmeasured_line(what, "there is no PostgreSQL server")
            return
        place = fixtures.workspace_of_copies(folder / "lab", _TABLES, _TABLES // _SOURCES, url)
        ws = stack.enter_context(jl.open(place, catalog=url))
        for turn in ("first", "second"):
            asked = asked_of_catalog(lambda: len(ws.status()))
            yield Line(
                f"{what}: {turn} one, statements (not seconds) against {_STATEMENTS}",
                asked,
                _STATEMENTS,
                asked / _STATEMENTS,
                1.0,
            )


def asked_of_catalog(work: Callable[[], object]) -> int:
    """How many statements a call sends to the catalog."""
    asked, fetch = [], Statement.fetch

    def counted(self: Statement, *given: Any) -> list[Any]:
        asked.append(self.text)
        return fetch(self, *given)

    Statement.fetch = counted  # type: ignore[assignment,method-assign]
    try:
        work()
    finally:
        Statement.fetch = fetch  # type: ignore[method-assign]
    return len(asked)


def _write_files(folder: Path) -> None:
    folder.mkdir()
    with duckdb.connect() as connection:
        for seed in range(_FILES):
            connection.execute(
                f"COPY ({ROWS}) TO '{folder / f'{seed:06}.parquet'}' (FORMAT parquet)",
                {"seed": seed, "rows": _FILE_ROWS},
            )


CASES = {"scale": scale, "far_catalog": far_catalog}
