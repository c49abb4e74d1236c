"""Measures of a shared workspace: recovery, publishing, and equal statements run concurrently."""

import gc
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import jammi_lab as jl
from bench import fixtures, rival
from bench.harness import Line, Timer, measure_pair, unmeasured_line, wall_timer
from jammi_lab.core.records import TableRecord, TableStatus

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
"""The time of a durable commit on a disk with slow syncs, in seconds."""
_SLOWLY = """
import sys
from pathlib import Path

from bench import healing

for line in healing.published(Path(sys.argv[1]), int(sys.argv[2])):
    print(line.ours, line.other, line.ratio)
"""


def recovering(folder: Path, repeats: int) -> Iterator[Line]:
    """A thousand tables whose writer died, settled while the workspace is opened: made ready when
    all of them was there but the last step, failed and removed when their bytes are torn."""
    tables = 1_000
    for how, limit in (("whole", 1 / 20), ("torn", 1 / 20)):
        what = f"open after {tables:,} builds crashed, {how}, against jammi-ai"
        if (python := rival.interpreter()) is None:
            yield unmeasured_line(what, f"not installed ({rival.VARIABLE})")
            continue
        ours = _recovery_timer(folder / how, tables, how)
        other = rival.recovering(python, folder / how, tables, how)
        yield measure_pair(what, ours, other, repeats=repeats, limit=limit)


def _recovery_timer(folder: Path, tables: int, how: str) -> Timer:
    turns = iter(range(1_000_000))

    def run() -> float:
        crashed = fixtures.workspace_of_crashes(
            folder / f"ours{next(turns)}", tables, whole=how == "whole"
        )
        # flush the fixture's thousands of files now, or the first commit would write them
        os.sync()
        began = time.perf_counter()
        with jl.open(crashed) as ws:
            took = time.perf_counter() - began
            assert len(ws.recovery.promoted if how == "whole" else ws.recovery.failed) == tables, (
                ws.recovery
            )
        shutil.rmtree(crashed)
        return took

    return run


def publishing(folder: Path, repeats: int) -> Iterator[Line]:
    """The time to publish a small table durably, relative to the minimum for any store: a file that
    is written, synced and renamed into a synced folder, and one durable SQLite commit. Measured on
    the local disk and with delayed syncs: disks sync in 0.1 to 3 ms."""
    here = published(folder, repeats)
    yield from here
    slowly = [f"{line.what} where each sync takes {SLOWER * 1e3:g} ms longer" for line in here]
    if (strace := shutil.which("strace")) is None:
        yield from (unmeasured_line(what, "strace is not there") for what in slowly)
        return
    delayed = [
        f"--inject=fsync,fdatasync:delay_exit={SLOWER * 1e6:.0f}",
        "--trace=fsync,fdatasync",
        "--seccomp-bpf",
    ]
    child = [
        strace,
        "-f",
        "-o",
        os.devnull,
        *delayed,
        sys.executable,
        "-c",
        _SLOWLY,
        str(folder / "slowly"),
        str(repeats),
    ]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        yield from (
            unmeasured_line(what, f"strace may not trace ({done.stderr.strip()[-200:]})")
            for what in slowly
        )
        return
    for line, what, figures in zip(here, slowly, done.stdout.splitlines(), strict=True):
        ours, other, ratio = map(float, figures.split())
        yield Line(what, ours, other, ratio, line.limit)


def published(folder: Path, repeats: int) -> list[Line]:
    """Publish ten small tables on the local disk: first `publish` alone, the only step that waits
    for the disk; then the whole build, with the catalog row and the file's writing, against what it
    makes durable: a row, two files, and the row again.

    The whole build against one file and one row has no limit: it is more than that, and on a disk
    that syncs in 0.1 ms its processor time is most of it."""
    folder.mkdir(exist_ok=True)
    bare, parts = DurableFileStore(folder / "bare"), DurableTableStore(folder / "parts")
    with jl.open(folder / "lab") as ws:
        kitchen = ws._services.build_context
        job = jl.Sql("SELECT 1 AS x").bind(ws._services.recorded_recipes.bind_context())
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

        def publish_one() -> float:
            with (
                kitchen.publisher.build_row(order, "small") as begun,
                kitchen.publisher.open_writer(begun, batch.schema) as building,
            ):
                building.write(batch)
                building.seal()
                sealed = time.perf_counter()
                building.publish(
                    {"x": "INTEGER"}, job.descriptor.to_dict(), dict(job.environment), []
                )
                return time.perf_counter() - sealed

        def publish_seconds() -> float:
            gc.collect()
            return sum(publish_one() for _ in range(10))

        def build_and_publish() -> None:
            for _ in range(10):
                publish_one()

        def publish_bare() -> None:
            for _ in range(10):
                bare.publish(b"x" * 500)

        def publish_parts() -> None:
            for _ in range(10):
                parts.publish_table(batch)

        against, turns = "of one row, against a file and a commit each", 4 * repeats
        lines = [
            measure_pair(
                f"publish 10 sealed tables {against}",
                publish_seconds,
                wall_timer(publish_bare),
                repeats=turns,
                limit=2.0,
            ),
            measure_pair(
                f"begin, write and publish 10 tables {against}",
                wall_timer(build_and_publish),
                wall_timer(publish_bare),
                repeats=turns,
                limit=None,
            ),
            measure_pair(
                "begin, write and publish 10 tables of one row, against their files, rows and syncs",
                wall_timer(build_and_publish),
                wall_timer(publish_parts),
                repeats=turns,
                limit=2.0,
            ),
        ]
    bare.close()
    parts.close()
    return lines


class DurableFileStore:
    """The minimal store that makes a file and a row durable."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        folder.mkdir()
        self._db = sqlite3.connect(folder / "catalog.sqlite3", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE t(name TEXT PRIMARY KEY, status TEXT)")

    def publish(self, body: bytes) -> None:
        """Write one file and one row durably."""
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
        """Close the database."""
        self._db.close()


class DurableTableStore(DurableFileStore):
    """The minimal store that makes a Parquet file, a record of its digest and a row durable, with
    a row that is there before."""

    def publish_table(self, batch: pa.RecordBatch) -> None:
        """Write one table durably."""
        self._count += 1
        path = self._folder / f"{self._count}.parquet"
        record = path.with_suffix(".json")
        self._commit("INSERT INTO t VALUES (?, 'building')", [path.name])
        temps = [path.with_suffix(".tmp"), record.with_suffix(".tmp2")]
        pq.write_table(pa.Table.from_batches([batch]), temps[0], compression="zstd")
        digest = hashlib.sha256(temps[0].read_bytes()).hexdigest()
        temps[1].write_text(json.dumps({"digest": digest, "rows": 1, "text": "x" * 1_200}))
        for temp in temps:
            with temp.open("rb") as file:
                os.fsync(file.fileno())
        temps[0].replace(path)
        temps[1].replace(record)
        descriptor = os.open(self._folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        self._commit("UPDATE t SET status = 'ready' WHERE name = ?", [path.name])

    def _commit(self, statement: str, values: list[str]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(statement, values)
        self._db.execute("COMMIT")


def asking(folder: Path, repeats: int) -> Iterator[Line]:
    """Eight equal questions at once, four in each of two processes whose engines are open, against
    one: how many are computed, and the time until all are answered."""
    computed, turns = [], iter(range(1_000_000))
    question = "SELECT sum(sqrt(i)) AS s, {} AS turn FROM range(100_000_000) t(i)"
    with jl.open(folder / "alone") as ws, jl.open(folder / "shared") as shared:

        def count_builds() -> int:
            return len({t.table_name for t in shared.tables(status=None) if t.name == "asked"})

        def ask_eight() -> float:
            before = count_builds()
            took, outcomes = _ask_from_two_processes(
                folder / "shared", question.format(next(turns))
            )
            assert len(outcomes) == 8, outcomes
            computed.append(max(outcomes.count("computed"), count_builds() - before))
            return took

        one = wall_timer(lambda: ws.materialize("asked", question.format(next(turns))))
        yield measure_pair(
            "8 equal questions from two processes, against one",
            ask_eight,
            one,
            repeats=repeats,
            limit=1.5,
        )
    yield Line(
        "8 equal questions from two processes: computations, against one",
        max(computed),
        1.0,
        max(computed),
        1.0,
    )


def _ask_from_two_processes(folder: Path, statement: str) -> tuple[float, list[str]]:
    """Run a statement in four threads of each of two processes. Returns the seconds until all have
    their result, and the outcomes."""
    path = os.pathsep.join(str(ROOT / part) for part in ("", "kernel_ext", "widgets"))
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", _ASK, str(folder), statement, "4"]
    children = [
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for each in children:
        assert each.stdout is not None
        assert each.stdout.readline() == "READY\n"
    began = time.perf_counter()
    for each in children:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    outcomes = [
        word
        for each in children
        if each.stdout is not None
        for word in each.stdout.readline().split()
    ]
    took = time.perf_counter() - began
    for each in children:
        each.communicate()
    return took, outcomes
