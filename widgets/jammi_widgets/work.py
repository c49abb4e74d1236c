"""Work that a click began: in a thread of its own, so that the page stays answered, with progress and a way to stop."""

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

from jammi_lab.errors import JammiError
from jammi_lab.values.records import Progress

BETWEEN_SECONDS = 0.1
"""The least time between two messages about progress."""

Tell = Callable[[dict[str, Any]], None]
Report = Callable[[Progress], None]


class Work:
    """At most one piece of work at a time; each ends with exactly one message: done, refused or stopped."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether something runs."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, what: str, run: Callable[[Report], dict[str, Any]]) -> bool:
        """Start `run`, which gets a callable for progress and returns the body of the last message; False when something runs already."""
        with self._lock:
            if self.busy:
                return False
            self._stop = threading.Event()
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._whole, what, run, self._stop), name=f"jammi-panel-{what}", daemon=True)
            self._thread.start()
            return True

    def cancel(self) -> None:
        """Ask it to stop at the next step, batch or percent."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> None:
        """Until it has ended."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _whole(self, what: str, run: Callable[[Report], dict[str, Any]], stop: threading.Event) -> None:
        said = 0.0

        def report(progress: Progress) -> None:
            nonlocal said
            if stop.is_set():
                raise KeyboardInterrupt
            if time.monotonic() - said >= BETWEEN_SECONDS:
                said = time.monotonic()
                body = {"stage": progress.stage, "done": progress.done, "total": progress.total, "unit": progress.unit}
                self._tell({"kind": "progress", "action": what, "body": body})

        try:
            self._tell({"kind": "done", "action": what, "body": run(report)})
        except KeyboardInterrupt:
            self._tell({"kind": "stopped", "action": what})
        except JammiError as problem:
            self._tell({"kind": "failed", "action": what, "lines": list(problem.rendered())})
        except Exception as problem:
            self._tell({"kind": "failed", "action": what, "lines": [f"{type(problem).__name__}: {problem}"]})
            raise
