"""Children that may be killed, what they promised, and what must hold after a crash and a
recovery."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh, Match
from jammi_lab.storage.digests import sha256_file
from tests.conftest import PACKAGE_ROOTS, ROOT
from tests.inside import record_of, services_of
from tests.sizes import sized
from tests.store.lab import everything, files, files_of, statuses


def asked(few: int, soak: int, every: int = sys.maxsize) -> int:
    """How many crashes to look at: a few, more in a soak, or what JAMMI_CRASHES says, a number or
    `all`."""
    said = os.environ.get("JAMMI_CRASHES")
    return sized(few, soak) if not said else every if said == "all" else int(said)


@dataclass
class Promises:
    """What children said before they died."""

    ready: dict[str, str] = field(default_factory=dict)
    """Physical name by recipe: made, and no drop of it begun since."""
    gone: set[str] = field(default_factory=set)
    """Recipes dropped, and not begun to be made again since."""

    def hear(self, said: str) -> "Promises":
        """Take in the lines that a child wrote."""
        for line in said.splitlines():
            match line.split():
                case ["ACK", "materialize", name, table]:
                    self.ready[name] = table
                    self.gone.discard(name)
                case ["ACK", "drop", name]:
                    self.ready.pop(name, None)
                    self.gone.add(name)
                case ["TRY", "drop" | "expire", name]:  # expired is also what is not the newest
                    self.ready.pop(name, None)
                case ["TRY", "materialize", name]:
                    self.gone.discard(name)
                case _:
                    pass
        return self


class Server:
    """A process that forks children (`tests.crash.child`), one after the other."""

    def __init__(self, folder: Path) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PACKAGE_ROOTS))}
        self._out, self._process = (
            folder / "said",
            subprocess.Popen(
                [sys.executable, "-c", "from tests.crash.child import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=env,
                cwd=ROOT,
            ),
        )
        self._running = False
        assert self._line() == "SERVING"

    def start(self, *argv: object) -> int:
        """Begin a child, and give its process id."""
        self._out.unlink(missing_ok=True)
        self._process.stdin.write("\t".join(map(str, (self._out, *argv))) + "\n")
        self._process.stdin.flush()
        self._running = True
        return int(self._line())

    def end(self) -> tuple[int, str]:
        """Wait until the child has ended: its exit code (negative: the signal) and what it said."""
        code = os.waitstatus_to_exitcode(int(self._line()))
        self._running = False
        return code, self.said()

    def drain(self) -> None:
        """Wait for the child, if nobody has."""
        if self._running:
            self.end()

    def said(self) -> str:
        """What the child has said so far, in whole lines."""
        text = self._out.read_text() if self._out.exists() else ""
        return text[: text.rfind("\n") + 1]

    def await_lines(self, count: int) -> None:
        """Wait until the child has said so many lines."""
        until = time.monotonic() + 120
        while self.said().count("\n") < count:
            assert time.monotonic() < until, self.said()
            time.sleep(0.005)

    def run(self, *argv: object) -> tuple[int, str]:
        """A child from its start to its end."""
        self.start(*argv)
        return self.end()

    def close(self) -> None:
        """End the server and the child that still runs."""
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _line(self) -> str:
        return self._process.stdout.readline().rstrip("\n")


def run_uncut(server: Server, what: str, folder: Path) -> list[str]:
    """The fault points that a run passes, which recomputes something."""
    code, said = server.run(what, folder, "-", 0)
    assert code == 0 and "ACK computed" in said, said
    return said.split("POINTS ")[1].split()


def copy_workspace(base: Path, folder: Path) -> Path:
    """A copy of a workspace, which may use what lies beside it."""
    shutil.copytree(base, folder)
    jl.trust(folder)
    return folder


def killed_copies(
    server: Server, what: str, base: Path, cuts: Iterable[tuple[str, int]]
) -> Iterator[tuple[str, Path]]:
    """For each fault point and the number of times it is passed: a copy of a workspace, beside it,
    in which the run was killed there. It is removed afterwards."""
    for number, (point, nth) in enumerate(cuts):
        folder = copy_workspace(base, base.with_name(str(number)))
        code, said = server.run(what, folder, point, nth)
        # Files that are old enough by now are observed in fewer commits.
        if code != 0 or said.split("POINTS ")[1].split().count(point) >= nth:
            assert code == -signal.SIGKILL, (point, nth, code, said)
            yield f"{point} {nth}", folder
        shutil.rmtree(folder)


def check_newest(ws: Any, name: str, *, is_new: bool) -> None:
    """The newest version of a table is whole, and it is fresh only when it is the new one."""
    assert ws.verify(name) == Match()
    verdict = ws.staleness(name)
    assert isinstance(verdict, Fresh) == is_new, verdict


def check_calls(folder: Path, expected: set[str]) -> None:
    """Every expected call of the row map was made, and at most the one in flight twice."""
    calls = Counter((folder / "calls").read_text().splitlines())
    assert {*calls} == expected
    assert calls.total() <= len(expected) + 1, calls


def rows_by_sql(ws: Any, table: Any) -> int:
    """How many rows a table has, as a person reads it."""
    return int(table.read().arrow().num_rows)


def hold_true(
    folder: Path, promised: Promises, rows: Callable[[Any, Any], int | None] = rows_by_sql
) -> Any:
    """Open the workspace, which recovers it, and check all that was promised; gives the first
    recovery's report.

    `rows`: how a table's rows are counted; starting the engine for it is most of what one check
    costs.
    """
    with jl.open(folder) as ws:
        report = ws.recovery
        after = everything(folder)
        assert not ws.recover(), "a second recovery still finds something to do"
        assert everything(folder) == after, "a second recovery changes something"
        assert not report.errors and not report.missing and not report.quarantined, report
        assert set(statuses(folder).values()) <= {"ready", "failed", "rejected"}, statuses(folder)
        tables, rejected = ws.tables(), ws.tables(status="rejected")
        assert {t.table_name for t in tables} == {
            name for name, status in statuses(folder).items() if status == "ready"
        }
        assert [path.stem for path in (folder / "writers").iterdir()] == [
            services_of(ws).writer_id
        ], "a lock file that nobody will ask for"
        kept = {str(record_of(t).path).removeprefix("results/") for t in rejected}
        assert files(folder) == sorted({f for t in tables for f in files_of(t)} | kept), (
            "files without a table, or a table without files"
        )
        for table in rejected:
            assert sha256_file(table.path) == record_of(table).digest
            assert table.name not in ws or ws.table(table.name).table_name != table.table_name
        for table in tables:
            assert table.verify() == Match(), table
            assert rows(ws, table) == table.row_count
        for name, physical in promised.ready.items():
            assert physical in {t.table_name for t in tables}, (
                f"{name} was acknowledged and is lost"
            )
        for name in promised.gone:
            assert name not in ws, f"{name} was dropped and is back"
    return report
