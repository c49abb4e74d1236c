"""An interrupt and the catalog: one that falls between BEGIN and COMMIT, or into a call of the driver, could leave the write lock with a connection
that nobody knows to be in a transaction. So it is held back while one runs, which takes milliseconds, and comes between two statements or at the end.
In the main thread it is a signal; in others it is what `raise_in` raises there. Libraries that are being loaded are kept from it, too.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` wraps
import ctypes
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

_Handler = Callable[[int, FrameType | None], Any]
# `signal` looks each handler up among the members of an enumeration: a function is none, and is found to be none by an exception.
_handle, _handler_of = _signal.signal, _signal.getsignal
_guard = threading.Lock()
_inside: dict[int, bool] = {}
"""The threads beside the main one that are in such a block, by identity, and whether an interrupt waits there."""


class HeldBack:
    """A block in which an interrupt waits."""

    _running: "HeldBack | None" = None

    def __init__(self) -> None:
        self._handler: _Handler | None = None
        self._came: tuple[int, FrameType | None] | None = None
        self._thread: int | None = None
        self.owner = threading.get_ident()

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            self._enter_beside()
        elif HeldBack._running is None:
            handler = _handler_of(signal.SIGINT)
            if callable(handler):
                _handle(signal.SIGINT, self._note)  # one that came before is raised here, and nothing has begun
                self._handler, HeldBack._running = handler, self
        return self

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            HeldBack._running = None
            _handle(signal.SIGINT, self._handler)
            self._deliver()
        elif self._thread is not None:
            with _guard:
                came = _inside.pop(self._thread, False)
            if came:
                raise KeyboardInterrupt

    def _enter_beside(self) -> None:
        thread = threading.get_ident()
        if thread in _inside:
            return
        self._thread = thread
        try:
            with _guard:
                _inside[thread] = False
            _pass()  # what was raised before comes here, and nothing has begun
        except BaseException:
            with _guard:
                _inside.pop(thread, None)
            raise

    @staticmethod
    def between_statements() -> None:
        """Where an interrupt that waits may come: what follows is an ordinary rollback."""
        if _inside.get(threading.get_ident()):
            _inside[threading.get_ident()] = False
            raise KeyboardInterrupt
        if (running := HeldBack._running) is not None and threading.current_thread() is threading.main_thread():
            running._deliver()

    def forget(self) -> None:
        """End it from outside, with what waits: the thread that is in it is gone."""
        HeldBack._running = None
        _handle(signal.SIGINT, self._handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = number, frame

    def _deliver(self) -> None:
        came, self._came = self._came, None
        if came is not None and self._handler is not None:
            self._handler(*came)


def raise_in(identity: int, what: type[BaseException]) -> None:
    """Have a thread raise an exception at its next bytecode, instead of one that it has not raised yet; KeyboardInterrupt outside of `HeldBack`."""
    with _guard:
        if what is KeyboardInterrupt and identity in _inside:
            _inside[identity] = True
        else:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(identity), ctypes.py_object(what))


def _pass() -> None:
    """Nothing; whoever calls a function looks for what was raised in its thread."""


def _after_fork() -> None:
    """In the child there is only the thread that forked: the blocks of others do not end, and would keep its interrupts and its lock for ever."""
    global _guard
    _guard = threading.Lock()
    mine = threading.get_ident()
    for thread in [each for each in _inside if each != mine]:
        del _inside[thread]
    if (running := HeldBack._running) is not None and running.owner != mine:
        running.forget()


os.register_at_fork(after_in_child=_after_fork)
