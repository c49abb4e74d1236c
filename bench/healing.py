"""Measures of a shared workspace: recovery, publishing, and equal questions at once."""

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

import jammi_lab as jl
from bench import fixtures, rival
from bench.harness import Line, Timed, pair, timed, unmeasured
from jammi_lab.values.records import TableRecord, TableStatus

ROOT = Path(__file__).resolve().parent.parent
_ASK = """
import sys, threading
from pathlib import Path
import jammi_lab as jl

folder, statement, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
with jl.open(folder) as ws:
    made = []
    ws.materialize("warm", "SELECT sum(sqrt(i)) AS s FROM range(10) t(i)", cache="bypass").read().arrow()
    ready = threading.Barrier(threads + 1)

    def ask():
        ready.wait()
        made.append(ws.materialize("asked", statement).outcome)

    asking = [threading.Thread(target=ask) for _ in range(threads)]
    for each in asking:
        each.start()
    print("READY", flush=True)
    sys.stdin.readline()
    ready.wait()
    for each in asking:
        each.join()
    print(" ".join(made), flush=True)
"""

SLOWER = 0.0028
"""Seconds that a durable commit takes on a disk that waits for its platter or its network."""
_SLOWLY = """
import sys
from pathlib import Path

from bench import healing

for line in healing.published(Path(sys.argv[1]), int(sys.argv[2])):
    print(line.ours, line.other, line.ratio)
"""


def recovering(folder: Path, repeats: int) -> Iterator[Line]:
    """A thousand tables whose writer died, settled while the workspace is opened: made ready when all of them was there but the last step, failed and
    removed when their bytes are torn."""
    tables = 1_000
    for how, limit in (("whole", 1 / 20), ("torn", 1 / 20)):
        what = f"open after {tables:,} builds crashed, {how}, against jammi-ai"
        if (python := rival.interpreter()) is None:
            yield unmeasured(what, f"not installed ({rival.VARIABLE})")
            continue
        ours, other = _recovered(folder / how, tables, how), rival.recovering(python, folder / how, tables, how)
        yield pair(what, ours, other, repeats=repeats, limit=limit)


def _recovered(folder: Path, tables: int, how: str) -> Timed:
    turns = iter(range(1_000_000))

    def once() -> float:
        crashed = fixtures.workspace_of_crashes(folder / f"ours{next(turns)}", tables, whole=how == "whole")
        os.sync()  # thousands of new files are the fixture's, and would be written by the first commit
        began = time.perf_counter()
        with jl.open(crashed) as ws:
            took = time.perf_counter() - began
            assert len(ws.recovery.promoted if how == "whole" else ws.recovery.failed) == tables, ws.recovery
        shutil.rmtree(crashed)
        return took

    return once


def publishing(folder: Path, repeats: int) -> Iterator[Line]:
    """What it takes until a small table is ready, durably, against what any store must do for it: a file that is written, synced and renamed into a
    synced folder, and one durable commit of SQLite. On the disk that is here, and where each sync takes longer: there are disks that sync in 0.1 ms,
    and those for which a commit takes 3 ms."""
    here = published(folder, repeats)
    yield from here
    slowly = [f"{line.what} where each sync takes {SLOWER * 1e3:g} ms longer" for line in here]
    if (strace := shutil.which("strace")) is None:
        yield from (unmeasured(what, "strace is not there") for what in slowly)
        return
    delayed = [f"--inject=fsync,fdatasync:delay_exit={SLOWER * 1e6:.0f}", "--trace=fsync,fdatasync", "--seccomp-bpf"]
    child = [strace, "-f", "-o", os.devnull, *delayed, sys.executable, "-c", _SLOWLY, str(folder / "slowly"), str(repeats)]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        yield from (unmeasured(what, f"strace may not trace ({done.stderr.strip()[-200:]})") for what in slowly)
        return
    for line, what, figures in zip(here, slowly, done.stdout.splitlines(), strict=True):
        ours, other, ratio = map(float, figures.split())
        yield Line(what, ours, other, ratio, line.limit)


def published(folder: Path, repeats: int) -> list[Line]:
    """Ten small tables on the disk as it is: what `publish` takes of each, which is all that waits for the disk, and then with what comes before it,
    the row of the build and the file's writing."""
    folder.mkdir(exist_ok=True)
    bare = Bare(folder / "bare")
    with jl.open(folder / "lab") as ws:
        kitchen, job = ws._rooms.kitchen, ws._rooms.producers.sql.job("SELECT 1 AS x", {})
        order = TableRecord(
            table_name="",
            kind=job.kind,
            status=TableStatus.BUILDING,
            recipe="small",
            version=0,
            definition_hash=job.definition,
            flight=False,
        )
        batch = pa.record_batch({"x": pa.array([1], pa.int32())})

        def one() -> float:
            with kitchen.funnel.begun(order, "small") as begun, kitchen.funnel.build(begun, batch.schema) as building:
                building.write(batch)
                building.seal()
                sealed = time.perf_counter()
                building.publish({"x": "INTEGER"}, job.descriptor.to_dict(), dict(job.environment), [])
                return time.perf_counter() - sealed

        def ours() -> float:
            gc.collect()
            return sum(one() for _ in range(10))

        def whole() -> None:
            for _ in range(10):
                one()

        def plain() -> None:
            for _ in range(10):
                bare.publish(b"x" * 500)

        against, turns = "of one row, against a file and a commit each", 4 * repeats
        lines = [
            pair(f"publish 10 sealed tables {against}", ours, timed(plain), repeats=turns, limit=2.0),
            pair(f"begin, write and publish 10 tables {against}", timed(whole), timed(plain), repeats=turns, limit=2.0),
        ]
    bare.close()
    return lines


class Bare:
    """The least that makes a file and a row durable."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        folder.mkdir()
        self._db = sqlite3.connect(folder / "catalog.sqlite3", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE t(name TEXT PRIMARY KEY, status TEXT)")

    def publish(self, body: bytes) -> None:
        """One file and one row."""
        self._count += 1
        temp, path = self._folder / ".temp", self._folder / f"{self._count}.parquet"
        with temp.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
        descriptor = os.open(self._folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("INSERT INTO t VALUES (?, 'ready')", [path.name])
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()


def asking(folder: Path, repeats: int) -> Iterator[Line]:
    """Eight equal questions at once, four in each of two processes whose engines are open, against one: how many are computed, and the time until all
    are answered."""
    computed, turns = [], iter(range(1_000_000))
    question = "SELECT sum(sqrt(i)) AS s, {} AS turn FROM range(100_000_000) t(i)"
    with jl.open(folder / "alone") as ws, jl.open(folder / "shared") as shared:

        def begun() -> int:
            return len({t.table_name for t in shared.tables(status=None) if t.name == "asked"})

        def eight() -> float:
            before = begun()
            took, outcomes = _asked(folder / "shared", question.format(next(turns)))
            assert len(outcomes) == 8, outcomes
            computed.append(max(outcomes.count("computed"), begun() - before))
            return took

        one = timed(lambda: ws.materialize("asked", question.format(next(turns))))
        yield pair("8 equal questions from two processes, against one", eight, one, repeats=repeats, limit=1.5)
    yield Line("8 equal questions from two processes: computations, against one", max(computed), 1.0, max(computed), 1.0)


def _asked(folder: Path, statement: str) -> tuple[float, list[str]]:
    """Four threads in each of two processes ask; the seconds until all have their answer, and what each was told."""
    path = os.pathsep.join(str(ROOT / part) for part in ("", "kernel_ext", "widgets"))
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", _ASK, str(folder), statement, "4"]
    children = [subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for each in children:
        assert each.stdout is not None
        assert each.stdout.readline() == "READY\n"
    began = time.perf_counter()
    for each in children:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    outcomes = [word for each in children if each.stdout is not None for word in each.stdout.readline().split()]
    took = time.perf_counter() - began
    for each in children:
        each.communicate()
    return took, outcomes
