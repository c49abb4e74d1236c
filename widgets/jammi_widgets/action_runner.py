"""Background execution of panel actions: one thread per action, with progress messages and
cancellation. The kernel stays responsive meanwhile."""

import threading
import time
from collections.abc import Callable
from typing import Any

from jammi_lab.core.errors import JammiError
from jammi_lab.core.records import Progress
from jammi_lab.core.thread_pool import JobQueue

MIN_PROGRESS_INTERVAL_SECONDS = 0.1
"""Minimum interval between two progress messages."""
HEARTBEAT_SECONDS = 2.0
"""Heartbeat interval. The page receives progress messages at this rate even when nothing has
advanced; if they stop, it treats the kernel as dead."""

SendMessage = Callable[[dict[str, Any]], None]
ProgressCallback = Callable[[Progress], None]


def error_lines(error: Exception) -> list[str]:
    """An error as the page shows it."""
    if isinstance(error, JammiError):
        return error.rendered_lines()
    return [f"{type(error).__name__}: {error}"]


class ActionRunner:
    """Runs at most one action at a time. Each action ends with exactly one message (done, failed or
    stopped), and no message about it follows."""

    def __init__(self, send: SendMessage) -> None:
        self._send = send
        self._queue = JobQueue("jammi-panel-action")
        self._stop = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether an action is running."""
        return self._queue.busy

    def start(self, action: str, run: Callable[[ProgressCallback], dict[str, Any]]) -> bool:
        """Start `run` in a thread. It receives a progress callback and returns the body of the
        final message. Returns False if an action is already running."""
        if self.busy:
            return False
        self._stop = stop = threading.Event()
        self._queue.put(lambda: self._run_action(action, run, stop))
        return True

    def cancel(self) -> None:
        """Request a stop; it takes effect at the next step, batch or percent."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the action has ended, at most `seconds`."""
        self._queue.wait(seconds)

    def _run_action(
        self, action: str, run: Callable[[ProgressCallback], dict[str, Any]], stop: threading.Event
    ) -> None:
        reporter = _ActionReporter(action, self._send)

        def report(progress: Progress) -> None:
            if stop.is_set():
                raise KeyboardInterrupt
            reporter.report_progress(progress)

        with reporter:
            try:
                reporter.send_final({"kind": "done", "body": run(report)})
            except KeyboardInterrupt:
                reporter.send_final({"kind": "stopped"})
            except Exception as error:
                reporter.send_final({"kind": "failed", "lines": error_lines(error)})
                if not isinstance(error, JammiError):
                    raise


class _ActionReporter:
    """Sends the messages of one action. Thread-safe, because parallel steps report progress from
    their own threads."""

    def __init__(self, action: str, send: SendMessage) -> None:
        self._action, self._send = action, send
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._last_progress: dict[str, Any] | None = None
        self._last_sent = 0.0
        self._heartbeat_thread = threading.Thread(
            target=self._send_heartbeats, name=f"jammi-panel-{action}-beat", daemon=True
        )

    def __enter__(self) -> "_ActionReporter":
        self._heartbeat_thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._heartbeat_thread.join()

    def report_progress(self, progress: Progress) -> None:
        """Record progress and send it, unless a message was sent less than the minimum interval
        ago."""
        with self._lock:
            self._last_progress = {
                "stage": progress.stage,
                "done": progress.done,
                "total": progress.total,
                "unit": progress.unit,
            }
            if time.monotonic() - self._last_sent >= MIN_PROGRESS_INTERVAL_SECONDS:
                self._send_progress()

    def send_final(self, message: dict[str, Any]) -> None:
        """Send the final message."""
        with self._lock:
            self._finished.set()
        self._send({"action": self._action, **message})

    def _send_heartbeats(self) -> None:
        while not self._finished.wait(HEARTBEAT_SECONDS):
            with self._lock:
                if (
                    self._last_progress is not None
                    and time.monotonic() - self._last_sent >= HEARTBEAT_SECONDS / 2
                ):
                    self._send_progress()

    def _send_progress(self) -> None:
        if not self._finished.is_set():
            self._last_sent = time.monotonic()
            self._send({"kind": "progress", "action": self._action, "body": self._last_progress})
