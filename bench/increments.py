"""Measures of increments: processor time of an aggregate after its folder gained files, against a
full computation."""

import gc
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import duckdb

import jammi_lab as jl
from bench.harness import Line, measure_pair

_FILES, _FEW_FILES, _FILE_ROWS, _SMALL_FILE_ROWS = 20, 4, 500_000, 1_000
ROWS = (
    "SELECT 'town ' || hash(i, $seed) % 500 AS town, hash(i + 1, $seed) % 7 AS kind, "
    "(hash(i + 2, $seed) % 100000 / 100)::DECIMAL(10, 2) AS amount, "
    "(hash(i + 3, $seed) % 9)::INTEGER AS pieces, "
    "DATE '2020-01-01' + (hash(i + 4, $seed) % 900)::INTEGER AS day FROM range($rows) AS t(i)"
)
"""So many rows of sales, by a seed."""
_PLAIN = (
    "SELECT town, kind, count(*) AS n, sum(amount) AS total, min(amount) AS least, "
    "max(day) AS latest FROM {} WHERE pieces > 1 GROUP BY town, kind"
)
_JOINED = (
    "SELECT region, kind, date_trunc('month', day) AS month, count(*) AS n, "
    "sum(amount * pieces) AS total, min(amount) AS least, max(day) AS latest "
    "FROM {} JOIN towns USING (town) WHERE pieces > 1 GROUP BY ALL"
)


def increments(folder: Path, repeats: int) -> Iterator[Line]:
    """One file more is computed in the time of one file, and nothing is lost when half are new."""
    with jl.open(folder / "lab") as ws, duckdb.connect() as connection:
        towns = folder / "towns.parquet"
        connection.execute(
            f"COPY (SELECT 'town ' || i AS town, 'region ' || i % 20 AS region FROM range(500) "
            f"AS t(i)) TO '{towns}' (FORMAT parquet)"
        )
        ws.sources.add("towns", str(towns))
        plain = _Sales(ws, folder, "plain", _PLAIN, _FILES)
        yield plain.added_line("GROUP BY, one file more over 20 × 500,000 rows", 1, repeats, None)
        plain.seconds_before, plain.seconds_after = 0.0, plain.seconds_before
        yield plain.added_line("the same, of a file that is not new", 1, repeats, None)
        joined = _Sales(ws, folder, "joined", _JOINED, _FILES)
        yield joined.added_line("JOIN and GROUP BY, one file more", 1, repeats, 0.10)
        joined.rows = _SMALL_FILE_ROWS
        yield joined.added_line("JOIN and GROUP BY, one file of 1,000 rows more", 1, repeats, 0.05)
        doubled = _Sales(ws, folder, "doubled", _JOINED, _FEW_FILES)
        other = _Sales(ws, folder, "other", _JOINED, _FEW_FILES)
        yield doubled.added_line("JOIN and GROUP BY, twice the files", None, 1, 1.1, other)


class _Sales:
    """A folder of Parquet files that grows, and an aggregate over it."""

    def __init__(
        self, ws: jl.Workspace, folder: Path, name: str, statement: str, files: int
    ) -> None:
        self._ws, self.rows = ws, _FILE_ROWS
        self.seconds_before, self.seconds_after = float(ws.settings["look.racy_seconds"]) + 0.1, 0.0
        """The time to wait before a file is added, and after that. Each look reads the files of
        the last two seconds again: without a wait those that the measure itself wrote before."""
        self.folder, self._count = folder / name, 0
        self.folder.mkdir()
        self._add(files)
        ws.sources.add(name, str(self.folder))
        self._compute = partial(ws.materialize, f"{name}_totals", statement.format(name))
        ws.settings.set("recompute.incremental", "auto")
        self._compute()

    def added_line(
        self,
        what: str,
        files: int | None,
        repeats: int,
        limit: float | None,
        other: "_Sales | None" = None,
    ) -> Line:
        """The processor time of an increment after files were added (None: as many as there are),
        against that of a full computation after as many were added, here or to an equal folder."""
        full = other or self
        return measure_pair(
            f"increment: {what}, processor time against a full run",
            lambda: self._compute_added(files or self._count, "auto"),
            lambda: full._compute_added(files or full._count, "never"),
            repeats=repeats,
            limit=limit,
        )

    def _compute_added(self, files: int, mode: str) -> float:
        self._ws.settings.set("recompute.incremental", mode)
        time.sleep(self.seconds_before)
        self._add(files)
        time.sleep(self.seconds_after)
        gc.collect()
        began = time.process_time()
        table = self._compute()
        took = time.process_time() - began
        assert table.manifest is not None, "a ready table has a manifest"
        assert (table.manifest.increment is None) == (mode == "never"), "the other way to compute"
        return took

    def _add(self, files: int) -> None:
        with duckdb.connect() as connection:
            for seed in range(self._count, self._count + files):
                connection.execute(
                    f"COPY ({ROWS}) TO '{self.folder / f'{seed:06}.parquet'}' (FORMAT parquet)",
                    {"seed": seed, "rows": self.rows},
                )
        self._count += files


CASES = {"increments": increments}
