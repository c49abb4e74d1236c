"""Cancellable work: it runs in a worker thread while the caller waits on an Event.

A ^C inside a DuckDB call would be lost or become a DuckDB error. The caller's thread therefore
never enters DuckDB; it waits, and forwards an interrupt to the worker."""

import _imp
import contextlib
import contextvars
import time
from collections.abc import Callable
from typing import TypeVar

from jammi_lab.core.errors import shorten_interrupt
from jammi_lab.core.interrupts import (
    POLL_SECONDS,
    DeferInterrupts,
    Signal,
    raise_interrupts,
    time_limit,
)
from jammi_lab.core.thread_pool import submit

T = TypeVar("T")
STOP_TIMEOUT_SECONDS = 2.0
_abandoned: list[Signal] = []
"""Set when work ends that did not end in time after it was interrupted."""


def run_cancellable(
    work: Callable[[], T],
    interrupt: Callable[[], None],
    *,
    on_stuck: Callable[[], None] | None = None,
    tick: Callable[[], None] | None = None,
) -> T:
    """Run `work` in another thread, in a copy of the caller's context, and return its result.

    `tick` is called about twenty times a second during the wait. When the wait is interrupted,
    `interrupt` is called repeatedly until the work ends, for at most two seconds. After that
    `on_stuck` is called and the thread is abandoned. The interrupt is raised in both cases.
    """
    finished, context = Signal(), contextvars.copy_context()
    outcome: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((context.run(work), None))
        except BaseException as error:  # noqa: BLE001  every error is raised in the caller's thread
            outcome.append((None, error))
        finally:
            release_import_lock()
            finished.set()

    submit(run, "jammi-engine")
    wait(finished, interrupt, on_stuck=on_stuck, tick=tick)
    value, error = outcome.pop()
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def release_import_lock() -> None:
    """Release the interpreter's import lock if this thread still holds it. Called when work that
    used DuckDB ends: an import inside DuckDB that fails (pandas, on a failing disk) can leave the
    lock held. Once the thread has ended, no other thread could import anything (seen with DuckDB
    1.5.5)."""
    while _imp.lock_held():
        try:
            _imp.release_lock()
        except RuntimeError:  # another thread holds it and is importing
            return


def wait(
    finished: Signal,
    interrupt: Callable[[], None],
    *,
    on_stuck: Callable[[], None] | None = None,
    tick: Callable[[], None] | None = None,
) -> None:
    """Wait until `finished` is set.

    An exception during the wait (KeyboardInterrupt, SystemExit, an error of `tick`) stops the work
    before it is raised, as `run_cancellable` describes."""
    try:
        with raise_interrupts():
            _poll(finished, tick)
    except BaseException as error:
        if not stop(finished, interrupt):
            keep_interrupting(finished, interrupt)
            if on_stuck is not None:
                on_stuck()
        if isinstance(error, KeyboardInterrupt):
            shorten_interrupt(error)
        raise


def _poll(finished: Signal, tick: Callable[[], None] | None) -> None:
    """The waiting loop. It is not written inside the caller's `try`: in CPython 3.13 an interrupt
    between two iterations escapes the handlers (python/cpython#130279)."""
    while not finished.wait(POLL_SECONDS):
        DeferInterrupts.checkpoint()
        time_limit.get()()
        if tick is not None:
            tick()


def abandoned_work() -> int:
    """How many pieces of work go on in this process although they were interrupted."""
    _abandoned[:] = [finished for finished in _abandoned if not finished.is_set()]
    return len(_abandoned)


def keep_interrupting(finished: Signal, interrupt: Callable[[], None]) -> None:
    """Interrupt abandoned work repeatedly, in the background, until it ends. One interrupt is not
    enough: between two queries it has no effect, and the next query may never end. A thread that is
    inside DuckDB when the process exits aborts the process (SIGABRT)."""
    _abandoned.append(finished)

    def interrupt_until_finished() -> None:
        while not finished.wait(POLL_SECONDS):
            interrupt()

    with contextlib.suppress(RuntimeError):  # at interpreter exit no thread can be started
        submit(interrupt_until_finished, "jammi-engine-stop")


def stop(finished: Signal, interrupt: Callable[[], None]) -> bool:
    """Interrupt the work until it ends or the stop timeout passes; returns whether it ended. The
    interrupt is repeated because one may fall between two queries."""
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while not finished.is_set() and time.monotonic() < deadline:
        interrupt()
        finished.wait(POLL_SECONDS / 2)
    return finished.is_set()
