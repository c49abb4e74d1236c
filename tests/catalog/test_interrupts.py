"""An interrupt leaves no transaction open: no other kernel would get the lock."""

import os
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from types import FrameType
from typing import Any

import pytest

from jammi_lab.catalog.connection import Connection, Dialect
from jammi_lab.core.interrupts import DeferInterrupts
from tests.catalog.conftest import Lab, sqlite_only

pytestmark = pytest.mark.own_catalog


@pytest.fixture(autouse=True)
def lost_interrupts_stay_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt that a test raises where Python loses it does not come after the test, though
    another test has opened a workspace in this process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)


def test_one_that_comes_while_a_read_ends_is_told_as_what_it_is(lab, monkeypatch):
    dialect = type(lab.database.dialect)
    reset = dialect.reset

    calls = list[Connection]()

    def interrupted(self: Dialect, connection: Connection) -> None:
        calls.append(connection)
        if len(calls) == 2:  # the first call is before the read
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)
        reset(self, connection)

    monkeypatch.setattr(dialect, "reset", interrupted)
    with pytest.raises(KeyboardInterrupt), lab.database.read():
        pass
    lab.metadata.set("n", "1")
    assert lab.metadata.get("n") == "1"


def _read_interrupted_at(lab: Lab, moment: int) -> tuple[bool, BaseException | None]:
    """Read in the main thread, with a signal at a bytecode of what begins and ends the read;
    whether there are so many, and what was raised."""
    watched = ("catalog/database.py", "contextlib.py", "test_interrupts.py", "core/interrupts.py")
    left = moment

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(watched):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return trace

    def read() -> None:
        with lab.database.read() as tx:
            tx.fetch("SELECT 1")

    sys.settrace(trace)
    try:
        read()
    except KeyboardInterrupt as error:
        return True, error
    finally:
        sys.settrace(None)
    return left <= 0, None


@sqlite_only
@pytest.mark.skipif(sys.gettrace() is not None, reason="needs the trace function")
def test_wherever_a_read_of_the_main_thread_is_interrupted_it_keeps_no_snapshot(lab):
    """The frames of the error, which the shell keeps, keep the block alive."""
    database = lab.database
    count = lambda: lab.metadata.get("n")  # noqa: E731
    usual = signal.getsignal(signal.SIGINT)
    moment, errors = 0, list[BaseException | None]()
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as other:
        other.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('n', '0')")
        try:
            while True:
                is_reached, error = _read_interrupted_at(lab, moment := moment + 1)
                if not is_reached:
                    break
                errors.append(error)
                other.execute("UPDATE meta SET value = ? WHERE key = 'n'", (str(moment),))
                if moment % 2:
                    lab.metadata.set("m", "1")
                assert database.cached("n", count) == count() == str(moment)
                lab.metadata.set("m", "2")
                assert database.cached("n", count) == count() == str(moment)
        finally:
            signal.signal(signal.SIGINT, usual)
    assert moment > 100 and all(errors)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_that_another_thread_forks_off_meanwhile_hears_its_interrupts():
    ended = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            try:
                with DeferInterrupts():
                    pass
                signal.raise_signal(signal.SIGINT)
                os._exit(1)
            except KeyboardInterrupt:
                os._exit(0)
            finally:
                os._exit(2)
        ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with DeferInterrupts():
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
    assert ended == [0]
