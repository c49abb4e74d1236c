"""Looks that a panel takes by itself, every so many seconds, until it is closed or the workspace is."""

import contextvars
import threading
from collections.abc import Callable


class Watch:
    """At most one thread that calls `look` at an interval; a look that returns False ends it."""

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._stop = threading.Event()

    def every(self, interval: float) -> None:
        """From now on at this interval; 0 ends it."""
        self._stop.set()
        if interval > 0:
            self._stop = stop = threading.Event()
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self._loop, max(interval, 0.2), stop), name="jammi-panel-watch", daemon=True).start()

    def _loop(self, interval: float, stop: threading.Event) -> None:
        while not stop.wait(interval):
            if not self._look():
                return
