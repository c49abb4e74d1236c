"""An interrupt in a callback of the garbage collector, where what is raised is printed and lost."""

import signal
import sys
import time
import weakref

import pytest

from jammi_lab.core.interrupts import DeferInterrupts, redeliver_lost_interrupts
from jammi_lab.engine.stream import Stream, StreamWorker


class Collected:
    """An object whose end calls a callback."""


@pytest.fixture(autouse=True)
def _redelivered(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    redeliver_lost_interrupts()


def test_an_interrupt_anywhere_in_a_callback_is_raised_after_it():
    thing = Collected()
    weakref.finalize(thing, signal.raise_signal, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        del thing
        time.sleep(30)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_error_of_a_callback_is_printed_as_ever(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    redeliver_lost_interrupts()
    redeliver_lost_interrupts()
    thing = Collected()
    weakref.ref(thing, seen := lambda _: 1 / 0)
    reference = weakref.ref(thing, seen)
    del thing
    assert [each.exc_type for each in printed] == [ZeroDivisionError] and reference() is None


def test_an_interrupt_in_a_callback_within_a_critical_section_is_raised_at_its_end():
    thing = Collected()
    weakref.finalize(thing, signal.raise_signal, signal.SIGINT)
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
