"""Waiting for a worker so that ^C is never lost: the caller's thread only ever waits on an Event, and passes an interrupt on."""

import _imp
import contextlib
import contextvars
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from jammi_lab.errors import brief
from jammi_lab.storage.beside import begin

T = TypeVar("T")
STEP = 0.05
PATIENCE = 2.0


class Begun(Generic[T]):
    """Work that runs in another thread, in a copy of the context of whoever began it. `interrupt`, `stuck` and `tick` are for who waits."""

    def __init__(
        self,
        work: Callable[[], T],
        interrupt: Callable[[], None],
        *,
        stuck: Callable[[], None] | None = None,
        tick: Callable[[], None] | None = None,
    ) -> None:
        self._interrupt, self._stuck, self._tick = interrupt, stuck, tick
        self._done = threading.Event()
        self._box: list[tuple[T | None, BaseException | None]] = []
        context = contextvars.copy_context()

        def run() -> None:
            try:
                self._box.append((context.run(work), None))
            except BaseException as error:  # noqa: BLE001 — whatever it is, it is the caller's, and is raised there
                self._box.append((None, error))
            finally:
                let_go_of_imports()
                self._done.set()

        begin(run, "jammi-engine")

    def result(self) -> T:
        """What the work returns, once; its errors are raised here.

        `tick` is called about twenty times a second meanwhile. When the wait is interrupted, `interrupt` is called until the work ends, at most
        for two seconds; after that `stuck` is called, the thread is left behind, and the interrupt is raised all the same.
        """
        await_event(self._done, self._interrupt, stuck=self._stuck, tick=self._tick)
        value, error = self._box.pop()
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def drop(self) -> None:
        """Nobody will ask for its result: it is stopped and not waited for."""
        if not self._done.is_set():
            self._interrupt()
            go_on_stopping(self._done, self._interrupt)
            if self._stuck is not None:
                self._stuck()


def waited(
    work: Callable[[], T], interrupt: Callable[[], None], *, stuck: Callable[[], None] | None = None, tick: Callable[[], None] | None = None
) -> T:
    """What `work` returns, in another thread, as `Begun.result` says."""
    return Begun(work, interrupt, stuck=stuck, tick=tick).result()


def let_go_of_imports() -> None:
    """Release the interpreter's import lock if this thread still has it. For the end of work that called DuckDB: an import in there that fails
    (pandas, on a disk that fails) can keep it, and with a dead holder no other thread would ever import anything again (measured with 1.5.5)."""
    while _imp.lock_held():
        try:
            _imp.release_lock()
        except RuntimeError:  # another thread's, which is importing
            return


def await_event(
    done: threading.Event, interrupt: Callable[[], None], *, stuck: Callable[[], None] | None = None, tick: Callable[[], None] | None = None
) -> None:
    """Return when `done` is set.

    What arrives while waiting (KeyboardInterrupt, SystemExit, an error of `tick`) stops the work first, as `waited` says."""
    try:
        _until(done, tick)
    except BaseException as stop:
        if not settle(done, interrupt):
            go_on_stopping(done, interrupt)
            if stuck is not None:
                stuck()
        if isinstance(stop, KeyboardInterrupt):
            brief(stop)
        raise


def _until(done: threading.Event, tick: Callable[[], None] | None) -> None:
    """Not a loop inside `try`: CPython 3.13 takes an interrupt between two turns past the handlers (python/cpython#130279)."""
    while not done.wait(STEP):
        if tick is not None:
            tick()


def go_on_stopping(done: threading.Event, interrupt: Callable[[], None]) -> None:
    """Interrupt work that nobody waits for any more until it ends: before its next query has begun there is nothing that would stop, and that query
    may take for ever; a thread that is inside of DuckDB when the process ends takes it down (SIGABRT)."""

    def keep_on() -> None:
        while not done.wait(STEP):
            interrupt()

    with contextlib.suppress(RuntimeError):  # there may be no more threads
        begin(keep_on, "jammi-engine-stop")


def settle(done: threading.Event, interrupt: Callable[[], None]) -> bool:
    """Whether the work ended within our patience, being interrupted again and again: one interrupt may fall between two of its queries."""
    until = time.monotonic() + PATIENCE
    while not done.is_set() and time.monotonic() < until:
        interrupt()
        done.wait(STEP / 2)
    return done.is_set()
