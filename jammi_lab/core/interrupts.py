"""Deferred interrupts: Ctrl-C waits until a critical section has ended.

An interrupt between BEGIN and COMMIT, or inside a call of the database driver, could leave the
write lock with a connection that nobody knows to be in a transaction. It is therefore deferred
while such a section runs, which takes milliseconds, and raised between two statements or at the
end. Imports of libraries are protected in the same way.

The interrupt is a signal, which only the main thread receives.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` wraps
import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, Self

POLL_SECONDS = 0.05
"""The usual pause between two attempts."""
time_limit: ContextVar[Callable[[], None]] = ContextVar("time_limit", default=lambda: None)
"""Called while the context waits for work of the engine, parsing and binding included, or of a
reader process; what it raises ends the work."""
_Handler = Callable[[int, FrameType | None], Any]
# The public `signal.signal` looks each handler up in an enumeration. A function is not a member,
# which costs a raised and caught exception per call; the C functions skip that.
_set_handler, _get_handler = _signal.signal, _signal.getsignal


class DeferInterrupts:
    """Context manager that defers KeyboardInterrupt."""

    _running: "DeferInterrupts | None" = None

    def __init__(self) -> None:
        self._handler: _Handler | None = None
        self._pending: tuple[int, FrameType | None] | None = None
        self.owner = threading.get_ident()

    def __enter__(self) -> Self:
        # a nested block leaves the delivery to the outer one
        if self.owner == threading.main_thread().ident and DeferInterrupts._running is None:
            handler = _get_handler(signal.SIGINT)
            if callable(handler):
                # A signal that arrived earlier is raised here, before anything has started.
                _set_handler(signal.SIGINT, self._record_signal)
                self._handler, DeferInterrupts._running = handler, self
        return self

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            DeferInterrupts._running = None
            _set_handler(signal.SIGINT, self._handler)
            self._raise_pending()

    @staticmethod
    def checkpoint() -> None:
        """Raise a pending interrupt here, where an ordinary rollback follows."""
        running = DeferInterrupts._running
        if running is not None and running.owner == threading.get_ident():
            running._raise_pending()

    def discard(self) -> None:
        """End the block from outside and discard the pending interrupt, because its thread no
        longer exists."""
        DeferInterrupts._running = None
        _set_handler(signal.SIGINT, self._handler)

    def _record_signal(self, number: int, frame: FrameType | None) -> None:
        self._pending = number, frame

    def _raise_pending(self) -> None:
        if self._pending is None:  # first, so that none that comes now is overwritten
            return
        pending, self._pending = self._pending, None
        if self._handler is not None:
            self._handler(*pending)


def redeliver_lost_interrupts() -> None:
    """From now on, deliver an interrupt again that is raised in a callback of the garbage collector
    or of a weak reference, where Python prints what is raised and goes on."""
    previous_hook = sys.unraisablehook
    if previous_hook.__module__ == __name__:
        return

    def redeliver(unraisable: "sys.UnraisableHookArgs") -> None:
        is_main_thread = threading.get_ident() == threading.main_thread().ident
        if is_main_thread and unraisable.exc_type is KeyboardInterrupt:
            # not a `threading.Thread`: the callback may have come while a lock of it was held
            _thread.start_new_thread(_interrupt_main_thread, (POLL_SECONDS,))
        else:
            previous_hook(unraisable)

    sys.unraisablehook = redeliver


def _interrupt_main_thread(delay: float) -> None:
    time.sleep(delay)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


class Signal:
    """An event whose waiter may be interrupted. The one of `threading` then releases a lock that it
    does not hold, and the thread that sets it fails with a RuntimeError."""

    def __init__(self) -> None:
        self._is_set = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Wake who waits now and later."""
        self._is_set = True
        with contextlib.suppress(RuntimeError):  # it was open already
            self._gate.release()

    def wait(self, seconds: float = -1) -> bool:
        """Wait until it is set, at most that many seconds; -1: without a limit. Returns whether it
        is."""
        if not self._is_set and self._gate.acquire(timeout=seconds):
            self.set()  # for the next one who waits
        return self._is_set


@contextlib.contextmanager
def raise_interrupts() -> Iterator[None]:
    """A block that waits, in which an interrupt raises KeyboardInterrupt in the main thread.

    For a cell with a top-level `await` ipykernel installs a handler that asks the event loop to
    cancel the cell, and the loop waits for the end of the block; Python's own handler replaces it.
    """
    handler: Any = None
    if threading.get_ident() == threading.main_thread().ident:
        handler = _get_handler(signal.SIGINT)
    if not str(getattr(handler, "__module__", None)).startswith("ipykernel."):
        yield
        return
    _set_handler(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        _set_handler(signal.SIGINT, handler)


def attempts(
    seconds: float,
    *,
    pause: float = POLL_SECONDS,
    max_pause: float | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Yield once, then repeatedly for that many seconds, with pauses in which an interrupt is
    delivered. With `max_pause` the pauses grow."""
    deadline = monotonic() + seconds
    yield
    while monotonic() < deadline:
        DeferInterrupts.checkpoint()
        with raise_interrupts():
            time.sleep(pause)
        if max_pause is not None:
            pause = min(pause * 1.5, max_pause)
        yield


def _after_fork() -> None:
    """Reset in a forked child, where only the forking thread exists: the block of another thread
    never ends, and would defer interrupts for ever."""
    if (running := DeferInterrupts._running) is not None and running.owner != threading.get_ident():
        running.discard()


os.register_at_fork(after_in_child=_after_fork)
