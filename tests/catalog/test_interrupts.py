"""An interrupt that is raised in a thread, as in the lanes of a plan, leaves no transaction open:
no other kernel would get the lock."""

import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from types import FrameType
from typing import Any

import pytest

from jammi_lab.catalog.connection import Connection, Dialect
from jammi_lab.core.interrupts import DeferInterrupts, attempts, interrupt_thread
from jammi_lab.core.parallel_tasks import Task, TaskPool
from tests.catalog.conftest import Lab, sqlite_only
from tests.waiting import until

pytestmark = pytest.mark.own_catalog


@pytest.fixture(autouse=True)
def lost_interrupts_stay_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt that a test raises where Python loses it does not come after the test, though
    another test has opened a workspace in this process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)


def threaded(work: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
    """A running thread, and what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


@sqlite_only
def test_it_comes_between_two_statements(lab):
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with lab.catalog.transaction():
            lab.catalog.metadata.set("n", "1")
            inside.set()
            go_on.wait(60)
            with lab.catalog.database.write() as tx:
                tx.execute("SELECT 1")

    thread, raised = threaded(work)
    assert inside.wait(60)
    interrupt_thread(thread.ident or 0)
    go_on.set()
    thread.join()
    assert [type(each) for each in raised] == [KeyboardInterrupt]
    assert lab.catalog.metadata.get("n") is None


def test_one_that_comes_while_a_read_ends_is_told_as_what_it_is(lab, monkeypatch):
    dialect = type(lab.catalog.database.dialect)
    reset = dialect.reset

    def interrupted(self: Dialect, connection: Connection) -> None:
        if connection.raw.in_transaction if self.file else connection.raw.info.transaction_status:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)
        reset(self, connection)

    monkeypatch.setattr(dialect, "reset", interrupted)
    with pytest.raises(KeyboardInterrupt), lab.catalog.database.read():
        pass
    lab.catalog.metadata.set("n", "1")
    assert lab.catalog.metadata.get("n") == "1"


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
        with lab.catalog.database.read() as tx:
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
    database = lab.catalog.database
    count = lambda: lab.catalog.metadata.get("n")  # noqa: E731
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
                    lab.catalog.metadata.set("m", "1")
                assert database.cached("n", count) == count() == str(moment)
                lab.catalog.metadata.set("m", "2")
                assert database.cached("n", count) == count() == str(moment)
        finally:
            signal.signal(signal.SIGINT, usual)
    assert moment > 100 and all(errors)


def test_a_thread_is_interrupted_where_it_waits_outside_of_a_transaction(lab):
    begun = threading.Event()

    def work() -> None:
        with lab.catalog.transaction():
            lab.catalog.metadata.set("n", "1")
        begun.set()
        for _ in attempts(60):
            pass

    thread, raised = threaded(work)
    assert begun.wait(60)
    interrupt_thread(thread.ident or 0)
    thread.join(60)
    assert [type(each) for each in raised] == [KeyboardInterrupt]


@sqlite_only
def test_a_thread_that_is_interrupted_while_it_reads_keeps_no_snapshot(lab):
    for _ in range(100):
        reading = threading.Event()

        def work(reading: threading.Event = reading) -> None:
            while True:
                with lab.catalog.database.read() as tx:
                    tx.fetch("SELECT count(*) FROM meta")
                reading.set()

        thread, raised = threaded(work)
        assert reading.wait(60)
        interrupt_thread(thread.ident or 0)
        thread.join(60)
        assert [type(each) for each in raised] == [KeyboardInterrupt]
        [handle] = [each for each in lab.catalog.database.handles if each.thread is thread]
        assert not handle.connection.raw.in_transaction


@sqlite_only
def test_lanes_that_commit_and_are_interrupted_at_any_moment_keep_no_lock(lab):
    chance = random.Random(1)
    running = threading.Event()

    def work(_: object) -> None:
        while True:
            with lab.catalog.transaction():
                lab.catalog.metadata.set("n", "1")
            running.set()

    def fail(_: object) -> None:
        assert running.wait(60)
        time.sleep(chance.uniform(0, 0.01))
        raise ZeroDivisionError

    for _ in range(20):
        running.clear()
        with pytest.raises(ZeroDivisionError):
            TaskPool([Task(work), Task(work), Task(fail)], 3, None).run()
        assert until(lambda: not any(t.name == "jammi-step" for t in threading.enumerate()))
        with closing(sqlite3.connect(lab.path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")


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
