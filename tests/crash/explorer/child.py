"""What the recorded child runs.

`TRY` and `ACK` lines are as in `tests.crash.child`. A call that fails says `ERR <call> <name>
<class> <message>` and the run goes on. A mutant is a wrong order of things, patched in here and
nowhere else: the explorer has to find what it breaks.
"""

import contextlib
import ctypes
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import jammi_lab as jl
from jammi_lab.catalog import sqlite as dialects
from jammi_lab.catalog.table_status import TableStatusRepository
from jammi_lab.core.checks import Audit
from jammi_lab.core.errors import JammiError
from jammi_lab.features.checks.runner import CheckRunner
from jammi_lab.steps import increment
from jammi_lab.storage import files
from jammi_lab.storage import files as syncing
from jammi_lab.storage.digests import digest_parquet
from jammi_lab.store import manifests
from jammi_lab.store.publish import TableWriter
from tests.crash.child import say

_PR_SET_PTRACER, _ANYBODY = (
    0x59616D61,
    2**64 - 1,
)  # where only parents may trace, say that others may too

NUMBERS = (20, 25)
"""The rows of the row map, in the first life and in the second."""
INSERTS = [
    pa.table({"id": range(first, first + 20), "x": range(first, first + 20)})
    for first in (0, 20, 40)
]
"""The inserts into the mutable table, the last of them in the second life."""
_AGGREGATE = "SELECT {0} % 3 AS g, count(*) AS n, sum({0}) AS s, avg({0}) AS a FROM {1} GROUP BY g"
AGGREGATES = {
    "of_inserts": ("changing", _AGGREGATE.format("x", "mutable.changing")),
    "of_squares": ("squares", _AGGREGATE.format("square", "jammi.squares")),
}
"""The table that each aggregate reads, and its statement."""


def traced(folder: Path, scenario: str, mutants: list[str]) -> None:
    """A scenario, once somebody has attached to this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANYBODY), 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    for mutant in mutants:
        (MUTANTS | CHECK_MUTANTS)[mutant](folder)
    for life in SCENARIOS[scenario]:
        with told("open", "workspace"), jl.open(folder) as ws:
            life(ws)


def first(ws: jl.Workspace) -> None:
    """Two tables made, the second dropped."""
    make(ws, "one", "SELECT i, i * i AS s FROM range(1000) t(i)", as_="one@1")
    make(ws, "two", "SELECT count(*) AS n FROM range(10)")
    with told("drop", "two"):
        ws.drop("two")
        say("ACK drop two")


def second(ws: jl.Workspace) -> None:
    """The first table made again, otherwise, and a third that is overtaken: its second version is
    ready, and a fourth, before its first."""

    def overtaking() -> None:
        make(ws, "three", "SELECT 33 AS n", as_="three@2")
        make(ws, "four", "SELECT 4 AS n")

    make(ws, "one", "SELECT i, i + 1 AS s FROM range(500) t(i)", as_="one@2")
    make(ws, "three", "SELECT 3 AS n", as_="three@1", meanwhile=overtaking)


def indexed(ws: jl.Workspace) -> None:
    """Two tables of vectors with their indexes, the second dropped."""
    points(ws, "points", changed=0, as_="points@1")
    points(ws, "others", changed=7)
    with told("drop", "others"):
        ws.drop("others")
        say("ACK drop others")


def indexed_again(ws: jl.Workspace) -> None:
    """The first table with some other vectors, whose index takes over that of the version before,
    and then with another index in its place."""
    points(ws, "points", changed=4, as_="points@2")
    points(ws, "points", changed=4, as_="points@2", precision="f16")


def checked(ws: jl.Workspace) -> None:
    """A table with a blocking check: a version that passes, one that does not, and one that does
    again."""
    make(ws, "guarded", "SELECT i AS n FROM range(10) t(i)", as_="guarded@1")
    with told("check", "guarded"):  # without its check the table is not made again
        ws.define("guarded", "SELECT i AS n FROM range(10) t(i)")
        ws.checks.add("no_negative", jl.checks.between("n", 0), on="guarded")
        say("ACK check guarded")
        make(ws, "guarded", "SELECT i - 1 AS n FROM range(500) t(i)")
        make(ws, "guarded", "SELECT i + 1 AS n FROM range(20) t(i)", as_="guarded@3")


def checked_again(ws: jl.Workspace) -> None:
    """Another version that does not pass, over what the first life left, and a table that never
    passed."""
    if "no_negative" in [check.name for check in ws.checks.list()]:
        make(ws, "guarded", "SELECT i - 2 AS n FROM range(7) t(i)")
    with told("check", "refused"):
        ws.define("refused", "SELECT -1 AS n")
        ws.checks.add("never", "SELECT * FROM jammi.refused WHERE n < 0", on="refused")
        say("ACK check refused")
        make(ws, "refused", "SELECT -1 AS n")


def grown(ws: jl.Workspace) -> None:
    """An aggregate over a folder of files, and the words of texts."""
    inputs = inputs_of(Path(ws.path))
    inputs.mkdir()
    take_small_increments()
    write_day(inputs, 1)
    write_day(inputs, 2)
    write_texts(inputs, "first")
    with told("add", "days"):
        ws.sources.add("days", inputs / "days")
        ws.sources.add("texts", inputs / "texts.parquet")
        say("ACK add days")
    total(ws, as_="totals@1")
    words(ws, as_="words@1")


def grown_again(ws: jl.Workspace) -> None:
    """One file more, which is an increment, and some other texts, whose index takes over the
    postings of the version before."""
    take_small_increments()
    inputs = inputs_of(Path(ws.path))
    write_day(inputs, 3)
    write_texts(inputs, "second")
    total(ws, as_="totals@2")
    words(ws, as_="words@2")


def changing(ws: jl.Workspace) -> None:
    """A mutable table and a row map, and an aggregate over each."""
    take_small_increments()
    inputs = inputs_of(Path(ws.path))
    write_numbers(inputs, NUMBERS[0])
    with told("add", "numbers"):
        ws.sources.add("numbers", inputs / "numbers.parquet")
        ws.mutable.create("changing", INSERTS[0].schema, primary_key="id")
        say("ACK add numbers")
    insert(ws, 0)
    insert(ws, 1)
    aggregates(ws, 1)


def changing_again(ws: jl.Workspace) -> None:
    """Some rows more in each, which are increments."""
    take_small_increments()
    write_numbers(inputs_of(Path(ws.path)), NUMBERS[1])
    insert(ws, 2)
    aggregates(ws, 2)


SCENARIOS: dict[str, tuple[Callable[[jl.Workspace], None], ...]] = {
    "growth": (grown, grown_again),
    "tables": (first, second),
    "indexes": (indexed, indexed_again),
    "checks": (checked, checked_again),
    "changes": (changing, changing_again),
}


def make(
    ws: Any,
    name: str,
    sql: str,
    *,
    as_: str | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """A table, promised under a name of its own: an older version stays promised beside a newer
    one. `meanwhile` is done while it is made."""
    still = [meanwhile]
    with told("materialize", as_ or name):
        try:
            made = ws.materialize(name, sql, progress=lambda _: still.pop()() if still else None)
        except jl.CheckFailed:
            say("ACK reject", name)
        else:
            say("ACK materialize", as_ or name, made.table_name)


def points(
    ws: Any, name: str, *, changed: int, as_: str | None = None, precision: Any = "bf16"
) -> None:
    """A table of vectors of which so many are others than the rest of the draw, promised as `make`
    does."""
    vectors = np.random.default_rng(5).standard_normal((100, 8)).astype(np.float32)
    vectors[:changed] *= -1
    rows = pa.table(
        {
            "id": np.arange(len(vectors)),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 8),
        }
    )
    with told("materialize", as_ or name):
        say(
            "ACK materialize",
            as_ or name,
            ws.import_embeddings(name, rows, precision=precision).table_name,
        )


def inputs_of(workspace: Path) -> Path:
    """The folder of the sources, which is no part of what is recorded."""
    return workspace.parent.parent / "inputs"


def write_day(inputs: Path, number: int) -> None:
    """A file of 20 rows in 3 groups."""
    (inputs / "days").mkdir(parents=True, exist_ok=True)
    rows = {"g": [f"g{i % 3}" for i in range(20)], "x": [i * number for i in range(20)]}
    pq.write_table(pa.table(rows), inputs / "days" / f"{number}.parquet")


def write_texts(inputs: Path, last: str) -> None:
    """Texts of which every tenth has another last word."""
    texts = [f"w{i % 7} w{i % 11} {last if i % 10 == 0 else 'same'}" for i in range(60)]
    pq.write_table(pa.table({"id": range(60), "text": texts}), inputs / "texts.parquet")


def take_small_increments() -> None:
    """Compute by increments, however small the inputs are."""
    increment.MIN_INPUT_ROWS, increment.MAX_SHARE = 0, 1e9


def write_numbers(inputs: Path, count: int) -> None:
    """The rows that the row map is made over."""
    inputs.mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": range(count), "n": range(count)}), inputs / "numbers.parquet")


def squared(n: int) -> dict[str, int]:
    """The function of the row map."""
    return {"square": n * n}


def insert(ws: Any, number: int) -> None:
    """Rows of the mutable table, if it could be created."""
    if "changing" in ws.mutable:
        with told("insert", f"changing@{number}"):
            ws.mutable["changing"].insert(INSERTS[number])
            say("ACK insert", f"changing@{number}")


def aggregates(ws: Any, version: int) -> None:
    """The row map and both aggregates over the rows that are there, if they could be added."""
    if "numbers" in ws.sources:
        with told("materialize", f"squares@{version}"):
            made = ws.map("squares", squared, "numbers", key="id", inputs=["n"], version="1")
            say("ACK materialize", f"squares@{version}", made.table_name)
    for name, (table, statement) in AGGREGATES.items():
        if table in ws or table in ws.mutable:
            make(ws, name, statement, as_=f"{name}@{version}")


def total(ws: Any, *, as_: str) -> None:
    """The aggregate over the files that are there, if the folder could be added."""
    if "days" not in ws.sources:
        return
    statement = "SELECT g, count(*) AS n, sum(x) AS s, avg(x) AS a FROM days GROUP BY g"
    make(ws, "totals", statement, as_=as_)


def words(ws: Any, *, as_: str) -> None:
    """The words of the texts that are there, if they could be added."""
    if "texts" not in ws.sources:
        return
    with told("materialize", as_):
        made = ws.lexical("words", "texts", key="id", text="text", analyzer="simple")
        say("ACK materialize", as_, made.table_name)


@contextlib.contextmanager
def told(call: str, name: str) -> Iterator[None]:
    """A call whose typed failure is told."""
    say("TRY", call, name)
    try:
        yield
    except JammiError as error:
        say("ERR", call, name, type(error).__name__, error.message.replace("\n", " "))


def no_names(_: Path) -> None:
    """Folders are never synced."""
    _replace_everywhere("sync_folder", lambda _: None)


def no_bytes(_: Path) -> None:
    """Finished files are never synced."""
    _replace_everywhere("sync_file", lambda _: None)


def normal(_: Path) -> None:
    """The catalog does not sync what it commits."""
    dialects._PRAGMAS = ("synchronous=NORMAL", *dialects._PRAGMAS[1:])
    dialects.Sqlite.set_durability = lambda *_, **__: None  # type: ignore[method-assign]


def unbegun(_: Path) -> None:
    """Nobody waits until the row of a table is durable before its files take their names."""
    dialects.Sqlite.open_unsynced_log = lambda _: None  # type: ignore[method-assign, assignment, return-value]


def early(folder: Path) -> None:
    """A row turns ready before its bytes have their name."""
    ready, pass_on, unnamed = TableStatusRepository.publish, files.fault_point, []

    def flipped(self: TableStatusRepository, record: Any, *rest: Any) -> Any:
        path = folder / record.path
        unnamed.append(files.AtomicFile(path))
        os.replace(path, unnamed[-1].temp)
        return ready(self, record, *rest)

    def passed(point: str) -> None:
        if point == "publish:ready":  # the transaction is over
            unnamed.pop().commit()
        pass_on(point)

    TableStatusRepository.publish = flipped  # type: ignore[method-assign]
    _replace_everywhere("fault_point", passed)


def in_place(_: Path) -> None:
    """Files are written under their own names from the start, as `open(path, "wb")` does."""

    def begin(self: files.AtomicFile, path: Path) -> None:
        self.path = self.temp = path

    files.AtomicFile.__init__ = begin  # type: ignore[method-assign, assignment]
    files._rename_when_durable = lambda those, first=None: None


def unwaited(_: Path) -> None:
    """Nobody waits for what is synced beside."""
    for name in ("sync_file", "sync_folder"):
        _replace_everywhere(name, _late(getattr(files, name)))
    syncing.BackgroundFsync.wait = lambda _: None  # type: ignore[method-assign]


def _late(sync: Callable[[Any], None]) -> Callable[[Any], None]:
    def later(what: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.05)
        sync(what)

    return later


def unchecked(_: Path) -> None:
    """The publisher runs the checks, and publishes whatever they find."""
    audit = CheckRunner.audit

    def forgiving(self: CheckRunner, *table: Any) -> Audit:
        return dataclasses.replace(audit(self, *table), failure=None)

    CheckRunner.audit = forgiving  # type: ignore[method-assign]


def manifested(_: Path) -> None:
    """A rejected version has a manifest until its row says so."""
    reject = TableWriter._reject

    def begun(self: TableWriter, record: Any, *rest: Any) -> Any:
        leaves = digest_parquet(self._file.temp).leaves
        body = self._publisher.build_manifest(record, leaves, {}, {}, {}).encode_sealed()
        path = manifests.manifest_path(self.path)
        path.write_bytes(body)
        files.sync_file(path)
        try:
            return reject(self, record, *rest)
        finally:
            path.unlink()

    TableWriter._reject = begun  # type: ignore[method-assign, assignment]


CHECK_MUTANTS: dict[str, Callable[[Path], None]] = {
    each.__name__: each for each in (unchecked, manifested)
}
MUTANTS: dict[str, Callable[[Path], None]] = {
    each.__name__: each for each in (no_names, no_bytes, normal, unbegun, unwaited, early, in_place)
}


def _replace_everywhere(name: str, other: Callable[[Any], None]) -> None:
    old = getattr(files, name)
    for module in list(sys.modules.values()):
        if module.__name__.startswith("jammi_lab") and getattr(module, name, None) is old:
            setattr(module, name, other)
