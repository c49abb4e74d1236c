"""Heartbeats of running builds: once a second a kernel reports the progress of every build that has
run for at least a second.

A thread of its own sends them, so a long sort that yields no rows is not mistaken for a dead
process, while a stopped process does go silent. Shorter builds send nothing.
"""

import contextlib
import threading
from collections.abc import Iterator

import msgspec

from jammi_lab.catalog.open_handles import Writers
from jammi_lab.core.clock import Clock
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.core.thread_pool import start_thread
from jammi_lab.core.value import Value
from jammi_lab.engine.duckdb_errors import stopped_error

_HEARTBEAT_SECONDS = 1.0


class HeartbeatMessage(Value, frozen=True):
    """The latest heartbeat of a build."""

    age: float
    """Seconds since it was sent."""
    said: str
    """The raw message; it differs from second to second."""
    progress: Progress | None = None
    """The progress of this build; None when the message has none."""


class _RunningBuild:
    def __init__(self, started_at: float, on_progress: OnProgress | None) -> None:
        self.started_at, self._on_progress = started_at, on_progress
        self.progress: Progress | None = None

    def report(self, progress: Progress) -> None:
        """Record the progress and forward it."""
        self.progress = progress
        if self._on_progress is not None:
            self._on_progress(progress)


class _BuildsMessage(Value, frozen=True):
    at: float
    builds: dict[str, Progress | None]


class Heartbeat:
    """Sends the heartbeats of one workspace handle, and reads those of others."""

    def __init__(self, writers: Writers, clock: Clock) -> None:
        self._writers, self._clock = writers, clock
        self._guard, self._stop_event = threading.Lock(), threading.Event()
        self._stopping = False
        self._builds: dict[str, _RunningBuild] = {}
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def track_build(self, table_name: str, on_progress: OnProgress | None) -> Iterator[OnProgress]:
        """Run a block in which a table is built. Yields a progress callback that records and
        forwards; it raises SessionClosed after `stop`."""
        build = _RunningBuild(self._clock.monotonic(), on_progress)
        with self._guard:
            self._builds[table_name] = build
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jammi-pulse", daemon=True)
                start_thread(self._thread)

        def report_progress(progress: Progress) -> None:
            if self._stopping:
                raise stopped_error()
            build.report(progress)

        try:
            yield report_progress
        finally:
            with self._guard:
                del self._builds[table_name]

    def read(self, writer_id: str, table_name: str) -> HeartbeatMessage | None:
        """The latest heartbeat of a build; None when its kernel has sent none."""
        message = self._writers.read_note(writer_id)
        if message is None:
            return None
        age, text = message
        try:
            progress = msgspec.json.decode(text, type=_BuildsMessage).builds.get(table_name)
        except msgspec.DecodeError:
            progress = None  # truncated, or of a later release
        return HeartbeatMessage(age, text, progress)

    def stop(self) -> None:
        """Make every build raise SessionClosed at its next progress report."""
        self._stopping = True

    def close(self) -> None:
        """Stop the thread. Call it when no build runs any more."""
        self._stop_event.set()
        if (thread := self._thread) is not None:
            thread.join(5)  # do not hang on a server that does not respond

    def _run(self) -> None:
        """The thread: runs while anything is being built and up to a second longer, so that short
        builds in a row share one thread."""
        while not self._stop_event.wait(_HEARTBEAT_SECONDS):
            now = self._clock.monotonic()
            with self._guard:
                if not self._builds:
                    self._thread = None
                    return
                progress_by_table = {
                    name: build.progress
                    for name, build in self._builds.items()
                    if now - build.started_at >= _HEARTBEAT_SECONDS
                }
            if progress_by_table:
                self._writers.write_note(
                    msgspec.json.encode(_BuildsMessage(now, progress_by_table)).decode()
                )
