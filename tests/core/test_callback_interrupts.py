"""An interrupt in a callback of the garbage collector, where what is raised is printed and lost."""

import signal
import time
import weakref

import pytest

from jammi_lab.core.interrupts import CallbackInterrupts, DeferInterrupts
from jammi_lab.engine.stream import Stream, StreamWorker


class Collected:
    """An object whose end calls a callback."""


def test_an_interrupt_is_raised_after_the_callback_which_ends_its_work():
    ended = []

    def end() -> None:
        with CallbackInterrupts():
            signal.raise_signal(signal.SIGINT)
            ended.append(True)

    thing = Collected()
    weakref.finalize(thing, end)
    with pytest.raises(KeyboardInterrupt):
        del thing
        assert ended == [True]
        time.sleep(30)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_in_a_callback_within_a_critical_section_is_raised_at_its_end():
    def end() -> None:
        with CallbackInterrupts():
            signal.raise_signal(signal.SIGINT)

    thing = Collected()
    weakref.finalize(thing, end)
    committed = []
    with pytest.raises(KeyboardInterrupt), DeferInterrupts():
        del thing
        committed.append(True)
    assert committed == [True]


def test_rows_that_nobody_reads_on_are_stopped_and_the_interrupt_is_raised(monkeypatch):
    stopped = []

    def stop(worker: StreamWorker) -> bool:
        signal.raise_signal(signal.SIGINT)
        stopped.append(worker)
        return True

    monkeypatch.setattr(StreamWorker, "stop", stop)
    worker = StreamWorker.__new__(StreamWorker)
    rows = Stream(worker, lambda error: AssertionError(error), lambda: None)
    with pytest.raises(KeyboardInterrupt):
        del rows
        assert stopped == [worker]
        time.sleep(30)
