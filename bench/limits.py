"""What grows with a size, once at the size that the page on limits names and once at a quarter of
it: processor seconds, their exponent (1: twice as much, twice the time), and the peak of memory of
a process that does nothing else."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

import jammi_lab as jl
from bench import fixtures
from bench.harness import Line

ROOT = Path(__file__).resolve().parent.parent
_QUARTER = 4
_ROWS_PER_FILE = 1_000
Work = Callable[[], object]


def _rows(ws: jl.Workspace, folder: Path, count: int) -> Work:
    ws.sources.add("rows", str(fixtures.parquet_of_rows(folder / "rows.parquet", count)))
    return lambda: ws.materialize("copy", "SELECT id, grp, x * 2 AS y, label FROM rows")


def _files(ws: jl.Workspace, folder: Path, count: int) -> Work:
    (folder / "files").mkdir()
    with duckdb.connect() as connection:
        for number in range(count):
            first = number * _ROWS_PER_FILE
            connection.execute(
                f"COPY (SELECT i AS id, i % 7 AS grp FROM range({first}, {first + _ROWS_PER_FILE}) "
                f"AS t(i)) TO '{folder}/files/{number:06}.parquet' (FORMAT parquet)"
            )

    def work() -> None:
        ws.sources.add("files", str(folder / "files"))
        ws.materialize("groups", "SELECT grp, count(*) AS n FROM files GROUP BY grp")
        ws.status()

    return work


def _versions(ws: jl.Workspace, folder: Path, count: int) -> Work:  # noqa: ARG001  # as the others
    def work() -> None:
        for number in range(count):
            ws.materialize("t", f"SELECT {number} AS n")
        ws.status()

    return work


def _mutable_rows(ws: jl.Workspace, folder: Path, count: int) -> Work:  # noqa: ARG001
    table = ws.mutable.create(
        "notes", {"id": "int64", "note": "string", "score": "float64"}, primary_key=["id"]
    )

    def work() -> None:
        ws.sql(
            f"INSERT INTO mutable.notes SELECT i, 'note ' || i, i * 0.5 FROM range({count}) AS t(i)"
        )
        ws.sql("UPDATE mutable.notes SET score = 0 WHERE id = 7")
        assert len(table) == count, "every row is there"

    return work


def _streamed_rows(ws: jl.Workspace, folder: Path, count: int) -> Work:
    ws.sources.add("rows", str(fixtures.parquet_of_rows(folder / "rows.parquet", count)))

    def work() -> None:
        rows = sum(batch.num_rows for batch in ws.sql("SELECT id, x, label FROM rows").batches())
        assert rows == count, "every row came"

    return work


def _tables(ws: jl.Workspace, folder: Path, count: int) -> Work:  # noqa: ARG001
    place = fixtures.workspace_of_copies(folder / "copies", count)

    def work() -> None:
        with jl.open(place) as of_copies:
            assert len(of_copies.status()) == count, "every table has a verdict"

    return work


LIMITS: dict[str, tuple[int, Callable[[jl.Workspace, Path, int], Work]]] = {
    "rows of a table, written": (10_000_000, _rows),
    "files of a source, read, and their status": (2_000, _files),
    "versions of a table, made, and its status": (5_000, _versions),
    "rows of a mutable table, inserted, and one changed": (1_000_000, _mutable_rows),
    "rows of a statement, streamed": (50_000_000, _streamed_rows),
    "tables, opened, and their first status": (20_000, _tables),
}


def limits(folder: Path, repeats: int) -> Iterator[Line]:  # noqa: ARG001  # each is tried once
    """One line a limit: processor seconds at the size and at a quarter, the exponent as ratio."""
    for what, (count, _) in LIMITS.items():
        (small, _, _), (large, wall, peak) = (
            _measured(what, folder / f"{what} {size}", size) for size in (count // _QUARTER, count)
        )
        yield Line(
            f"{count:,} {what}: {wall:.1f} s, peak of {peak / 1e9:.2f} GB; exponent",
            large,
            small,
            math.log(large / small, _QUARTER),
            None,
        )


def _measured(what: str, folder: Path, size: int) -> list[float]:
    """Processor seconds, seconds and the peak of memory of one of them, in a process of its own."""
    folder.mkdir()
    path = os.pathsep.join(str(ROOT / part) for part in ("", "kernel_ext", "widgets"))
    done = subprocess.run(
        [sys.executable, "-m", "bench.limits", what, str(folder), str(size)],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return [float(number) for number in done.stdout.split()]


def main() -> None:
    """Measure one, as the other process."""
    what, folder, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with jl.open(folder / "lab") as ws:
        work = LIMITS[what][1](ws, folder, size)
        # the peak so far is that of the preparation
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        began, processor = time.perf_counter(), time.process_time()
        work()
        print(time.process_time() - processor, time.perf_counter() - began)
    [line] = [
        line
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith("VmHWM")
    ]
    print(int(line.split()[1]) * 1024)


CASES = {"limits": limits}
"""Minutes long: run where it is named."""

if __name__ == "__main__":
    main()
