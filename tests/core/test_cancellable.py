"""A helper thread that ends takes nothing with it that others need."""

import _imp
import functools
import importlib
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from jammi_lab.core.cancellable import run_cancellable, wait
from jammi_lab.core.interrupts import Signal


def fail_in_an_import() -> None:
    _imp.acquire_lock()  # as an import that fails inside DuckDB can leave it
    raise OSError(5, "Input/output error")


def test_a_worker_that_ends_with_the_import_lock_lets_it_go():
    with pytest.raises(OSError, match="Input/output"):
        run_cancellable(fail_in_an_import, lambda: None)
    assert not _imp.lock_held()
    importlib.import_module("wave")  # with a dead holder this would wait for ever


def test_a_statement_whose_worker_ends_with_the_import_lock_lets_it_go(ws, monkeypatch):
    from jammi_lab.engine.stream import StreamWorker

    pump = StreamWorker._read_batches

    def locking(self: StreamWorker) -> None:
        _imp.acquire_lock()
        pump(self)

    ws.materialize("one", "SELECT 1 AS x")
    monkeypatch.setattr(StreamWorker, "_read_batches", locking)
    assert ws.sql("SELECT x FROM jammi.one").fetchall() == [(1,)]
    assert not _imp.lock_held()


def test_the_import_lock_of_a_thread_that_is_importing_is_left_alone():
    has, go = threading.Event(), threading.Event()

    def importing() -> None:
        _imp.acquire_lock()
        has.set()
        go.wait(20)
        _imp.release_lock()

    other = threading.Thread(target=importing)
    other.start()
    has.wait(20)
    assert run_cancellable(lambda: 7, lambda: None) == 7
    assert _imp.lock_held()
    go.set()
    other.join()


def test_an_interrupt_between_two_looks_stops_the_work():
    """CPython 3.13 takes one that comes on the way back of a loop past a `try` around it."""

    class Looked(Signal):
        looks = 0

        def wait(self, _: float = 0) -> bool:
            self.looks += 1
            return self.is_set()

    def interrupt(done: Looked) -> None:
        while not done.looks:
            time.sleep(0.005)
        signal.raise_signal(signal.SIGINT)

    for _ in range(10):
        done = Looked()
        knock = threading.Thread(target=interrupt, args=(done,))
        knock.start()
        with pytest.raises(KeyboardInterrupt):
            wait(done, done.set)
        knock.join()
        assert done.is_set()


def at_instruction(number: int, act: Callable[[], object]) -> bool:
    """Call with an interrupt before the instruction of this number; whether it came."""
    left = number

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        left -= event == "opcode"
        if left < 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return left < 0
    finally:
        sys.settrace(None)
    return False


def test_an_interrupted_wait_breaks_nothing_for_the_thread_that_ends_it():
    """The waiter of an event of `threading` then releases a lock twice."""
    number = 0
    while at_instruction(number, functools.partial((signal := Signal()).wait, 0.001)):
        signal.set()
        assert signal.wait(0)
        number += 1
    assert number
