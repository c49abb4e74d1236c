"""An interrupt and the catalog: one that falls between BEGIN and COMMIT, or into a call of the driver, could leave the write lock with a connection
that nobody knows to be in a transaction. So it is held back while one runs, which takes milliseconds, and comes between two statements or at the end.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` wraps
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

_Handler = Callable[[int, FrameType | None], Any]
# `signal` looks each handler up among the members of an enumeration: a function is none, and is found to be none by an exception.
_handle, _handler_of = _signal.signal, _signal.getsignal


class HeldBack:
    """A block of the main thread in which an interrupt waits. Other threads get none."""

    _running: "HeldBack | None" = None

    def __init__(self) -> None:
        self._handler: _Handler | None = None
        self._came: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and HeldBack._running is None:
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

    @staticmethod
    def between_statements() -> None:
        """Where an interrupt that waits may come: what follows is an ordinary rollback."""
        if (running := HeldBack._running) is not None and threading.current_thread() is threading.main_thread():
            running._deliver()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = number, frame

    def _deliver(self) -> None:
        came, self._came = self._came, None
        if came is not None and self._handler is not None:
            self._handler(*came)
