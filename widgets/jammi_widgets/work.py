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
BEAT_SECONDS = 2.0
"""How often a page is told that work goes on, also when there is no progress: when it hears no more of it, the kernel is gone."""

Tell = Callable[[dict[str, Any]], None]
Report = Callable[[Progress], None]


class Work:
    """At most one piece of work at a time; each ends with exactly one message: done, refused or stopped, and none about it comes later."""

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
        said = _Said(what, self._tell)

        def report(progress: Progress) -> None:
            if stop.is_set():
                raise KeyboardInterrupt
            said.progress(progress)

        with said:
            try:
                said.end({"kind": "done", "body": run(report)})
            except KeyboardInterrupt:
                said.end({"kind": "stopped"})
            except JammiError as problem:
                said.end({"kind": "failed", "lines": list(problem.rendered())})
            except Exception as problem:
                said.end({"kind": "failed", "lines": [f"{type(problem).__name__}: {problem}"]})
                raise


class _Said:
    """What a page is told of one piece of work. Steps that run side by side report from threads of their own."""

    def __init__(self, what: str, tell: Tell) -> None:
        self._what, self._tell = what, tell
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._last: dict[str, Any] | None = None
        self._at = 0.0
        self._beating = threading.Thread(target=self._beat, name=f"jammi-panel-{what}-beat", daemon=True)

    def __enter__(self) -> "_Said":
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._beating.join()

    def progress(self, progress: Progress) -> None:
        """Tell how it goes, unless something was told just now."""
        with self._lock:
            self._last = {"stage": progress.stage, "done": progress.done, "total": progress.total, "unit": progress.unit}
            if time.monotonic() - self._at >= BETWEEN_SECONDS:
                self._again()

    def end(self, message: dict[str, Any]) -> None:
        """The last word."""
        with self._lock:
            self._ended.set()
        self._tell({"action": self._what, **message})

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with self._lock:
                if self._last is not None and time.monotonic() - self._at >= BEAT_SECONDS / 2:
                    self._again()

    def _again(self) -> None:
        if not self._ended.is_set():
            self._at = time.monotonic()
            self._tell({"kind": "progress", "action": self._what, "body": self._last})
