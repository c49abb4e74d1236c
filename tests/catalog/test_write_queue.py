"""Who writes next: two kernels, or threads of one, that both write to a catalog in a file take
turns."""

import contextlib
import errno
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jammi_lab.catalog import Catalog
from jammi_lab.catalog import sqlite as dialects
from jammi_lab.catalog import write_queue as turns
from jammi_lab.core.errors import VersionConflict
from tests.catalog.conftest import Lab, sqlite_only
from tests.waiting import until

pytestmark = sqlite_only


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of whoever waits for its turn or for the file."""
    paused: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (paused.append(seconds), sleep(seconds)))
    return paused


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """A block in which another kernel has the turn and does nothing with it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def has_turn(folder: Path) -> bool:
    with contextlib.suppress(BlockingIOError), held(folder):
        return False
    return True


def write(catalog: Catalog, value: str = "1") -> None:
    with catalog.transaction():
        catalog.metadata.set("n", value)


@pytest.mark.parametrize("kernels", [1, 2])
def test_who_commits_again_and_again_lets_those_in_who_wait(
    lab: Lab, open_catalog: Callable, monkeypatch: pytest.MonkeyPatch, kernels: int
) -> None:
    monkeypatch.setattr(turns, "QUEUE_TIMEOUT_SECONDS", 60.0)
    other: Catalog = lab.catalog if kernels == 1 else open_catalog()
    order: list[str] = []

    def wait() -> None:
        with other.transaction():
            order.append("the other")

    waiting = threading.Thread(target=wait)
    for turn in range(3):
        with lab.catalog.transaction():
            order.append("this")
            if turn == 0:
                waiting.start()
                assert until(lambda: has_turn(lab.path.parent))
    waiting.join()
    assert order == ["this", "the other", "this", "this"]


def test_a_kernel_that_was_stopped_while_it_had_the_turn_is_waited_for_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr(turns, "QUEUE_TIMEOUT_SECONDS", 0.05)
    with held(lab.path.parent):
        write(lab.catalog, "1")
        assert waits
        waits.clear()
        write(lab.catalog, "2")
        assert not waits and lab.catalog.metadata.get("n") == "2"
    write(lab.catalog, "3")
    assert not waits
    with held(lab.path.parent):  # it went on, and so it is waited for again
        write(lab.catalog, "4")
        assert waits


def test_a_turn_is_passed_on_as_soon_as_it_was_used(lab: Lab) -> None:
    with lab.catalog.transaction():
        assert not has_turn(lab.path.parent)
    assert not has_turn(lab.path.parent)


@pytest.mark.parametrize("for_what", ["its turn", "the file"])
def test_an_interrupt_ends_the_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, waits: list[float], for_what: str
) -> None:
    monkeypatch.setattr(turns, "QUEUE_TIMEOUT_SECONDS", 20.0)
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 20.0)
    with contextlib.ExitStack() as other:
        if for_what == "its turn":
            other.enter_context(held(lab.path.parent))
        else:
            raw = other.enter_context(
                contextlib.closing(sqlite3.connect(lab.path, isolation_level=None))
            )
            raw.execute("BEGIN IMMEDIATE")
        stop = threading.Thread(
            target=lambda: (until(lambda: waits), os.kill(os.getpid(), signal.SIGINT))
        )
        stop.start()
        with pytest.raises(KeyboardInterrupt):
            write(lab.catalog)
        stop.join()
        assert lab.catalog.metadata.get("n") is None
    assert not has_turn(lab.path.parent)
    write(lab.catalog)
    assert lab.catalog.metadata.get("n") == "1"


HOLD = """
import os, signal, sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_stopped_process_that_holds_the_catalog_is_named(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 0.05)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lab.path)]) as holder:
        try:
            os.waitpid(holder.pid, os.WUNTRACED)
            with pytest.raises(
                VersionConflict, match=f": process {holder.pid} on .+, which is stopped;"
            ):
                write(lab.catalog)
        finally:
            holder.kill()
    write(lab.catalog)


def test_who_has_the_turn_waits_for_another_tool_and_gives_up_in_the_end(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 0.05)
    with contextlib.closing(sqlite3.connect(lab.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(VersionConflict, match="locked"):
            write(lab.catalog)
        assert not has_turn(lab.path.parent)
        other.execute("ROLLBACK")
    write(lab.catalog)


def test_readers_wait_as_long_as_they_did_before_a_write(lab: Lab) -> None:
    write(lab.catalog)
    with lab.catalog.database.read() as tx:
        assert tx.fetch("PRAGMA busy_timeout")[0][0] == dialects.LOCK_SECONDS * 1000


def test_a_folder_that_cannot_be_locked_is_written_to_without_turns(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(turns.fcntl, "flock", flock)
    write(lab.catalog)
    monkeypatch.undo()
    assert lab.catalog.metadata.get("n") == "1"


def test_a_closed_catalog_has_let_go_of_its_folder(tmp_path: Path, open_catalog: Callable) -> None:
    def opened() -> list[str]:
        return [link for link in _links() if link == str(tmp_path)]

    catalog = open_catalog()
    write(catalog)
    assert opened()
    catalog.close()
    assert not opened()


def _links() -> Iterator[str]:
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # another thread's
            yield os.readlink(f"/proc/self/fd/{each}")
