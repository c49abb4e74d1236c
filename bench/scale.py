"""Measures of work past one machine: SQL over many files by the workers of a Dask cluster, against
this kernel."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

import jammi_lab as jl
from bench.harness import Line, measure_pair, unmeasured_line, wall_timer
from bench.increments import ROWS

_FILES, _FILE_ROWS = 200, 100_000
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


def _write_files(folder: Path) -> None:
    folder.mkdir()
    with duckdb.connect() as connection:
        for seed in range(_FILES):
            connection.execute(
                f"COPY ({ROWS}) TO '{folder / f'{seed:06}.parquet'}' (FORMAT parquet)",
                {"seed": seed, "rows": _FILE_ROWS},
            )


CASES = {"scale": scale}
