"""Single flight: of all calls that want the same definition in the same tenant one builds and the
others wait, across threads and processes."""

import contextlib
import contextvars
import math
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.writers import Writers
from jammi_lab.core.clock import Clock, parse_rfc3339
from jammi_lab.core.errors import DependencyCycle
from jammi_lab.core.interrupts import attempts
from jammi_lab.core.records import OnProgress, Progress, TableRecord, TableStatus
from jammi_lab.core.thread_pool import join_thread, start_daemon
from jammi_lab.core.value import Value
from jammi_lab.engine.duckdb_errors import stopped_error

# Heartbeats come from a thread of their own, so that a long sort that yields no rows is not
# mistaken for a dead process, while a stopped process does go silent. Builds of less than a second
# send nothing.

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
        self._writers, self.clock = writers, clock
        self._guard, self.stop_event = threading.Lock(), threading.Event()
        self._stopping = False
        self._builds: dict[str, _RunningBuild] = {}
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def track_build(self, table_name: str, on_progress: OnProgress | None) -> Iterator[OnProgress]:
        """Run a block in which a table is built. Yields a progress callback that records and
        forwards; it raises SessionClosed after `stop`."""
        build = _RunningBuild(self.clock.monotonic(), on_progress)
        with self._guard:
            if self._thread is None:
                self._thread = start_daemon(self._run, "jammi-heartbeat")
            self._builds[table_name] = build

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
        self.stop_event.set()
        if (thread := self._thread) is not None:
            join_thread(thread, 5)  # do not hang on a server that does not respond

    def _run(self) -> None:
        """The thread: runs while anything is being built and up to a second longer, so that short
        builds in a row share one thread."""
        while not self.stop_event.wait(_HEARTBEAT_SECONDS):
            now = self.clock.monotonic()
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


POLL_SECONDS = 0.05
HEARTBEAT_POLL_SECONDS = 1.0
"""Interval between two reads of another kernel's heartbeat."""
_TIMESTAMP_SETTLE_SECONDS = 2.5
"""Servers report modification times in whole seconds. After this many seconds a later write is sure
to get another time."""
STALE_HEARTBEAT_SECONDS = 60.0
"""A build without a heartbeat for this long is no longer waited for."""
MIN_SILENCE_SECONDS = 3.0
"""A running kernel sends a heartbeat well within this time. An old heartbeat alone is not enough
evidence of death, because a clock may have been set."""


class _ActiveBuild(NamedTuple):
    """One build that the call in this context is running."""

    handle_id: int
    """The id of the `SingleFlight` that runs it."""
    catalog: Hashable
    """The identity of its catalog, which other handles may have open, too."""
    definition: str


_active_builds: contextvars.ContextVar[frozenset[_ActiveBuild]] = contextvars.ContextVar(
    "building", default=frozenset()
)
"""The builds that the current call runs, in whichever of its threads."""


class SingleFlight:
    """Waits for builds of other calls, and knows the builds of the current call in all of its
    threads."""

    def __init__(
        self,
        catalog: Catalog,
        clock: Clock,
        wait_seconds: Callable[[], float],
        clean_up_dead: Callable[[], object],
    ) -> None:
        self._catalog = catalog
        self.clock = clock
        self.wait_seconds = wait_seconds
        self._clean_up_dead = clean_up_dead
        self.heartbeat = Heartbeat(catalog.writers, clock)

    @contextlib.contextmanager
    def lead(
        self, build_record: TableRecord, on_progress: Callable[[Progress], None] | None
    ) -> Iterator[Callable[[Progress], None]]:
        """Run a block as the builder of a table. Yields a progress callback that forwards to
        `on_progress` and to the calls that wait."""
        token = _active_builds.set(
            _active_builds.get()
            | {_ActiveBuild(id(self), self._catalog.identity, build_record.definition_hash or "")}
        )
        try:
            with self.heartbeat.track_build(
                build_record.table_name, on_progress
            ) as report_progress:
                yield report_progress
        finally:
            _active_builds.reset(token)

    def active_definitions(self) -> set[str]:
        """The definitions that the current call is building through this handle."""
        return {build.definition for build in _active_builds.get() if build.handle_id == id(self)}

    def wait(
        self,
        build_record: TableRecord,
        deadline: float,
        on_progress: Callable[[Progress], None] | None,
    ) -> bool:
        """Wait for another call's build.

        Returns True when it is over. Returns False when the caller should build the table itself:
        at the deadline, after a minute without a heartbeat, or when the writer is dead
        and its row cannot be cleaned up. A build whose writer has died is cleaned up at once.

        Raises DependencyCycle when the current call is itself building that definition (through any
        handle of the catalog), and KeyboardInterrupt.
        """
        if any(
            (build.catalog, build.definition)
            == (self._catalog.identity, build_record.definition_hash)
            for build in _active_builds.get()
        ):
            raise DependencyCycle(
                f"{build_record.recipe!r} depends on itself: the call that builds it also waits "
                "for it.",
                path=[build_record.recipe, build_record.recipe],
            )
        remaining_seconds = deadline - self.clock.monotonic()
        if remaining_seconds <= 0:
            return False
        subscriber = HeartbeatSubscriber(self.heartbeat, self.clock, build_record)
        stage = self._waiting_stage(build_record)
        for _ in attempts(remaining_seconds, pause=POLL_SECONDS, monotonic=self.clock.monotonic):
            row = self._catalog.result_tables.get(build_record.table_name)
            if row is None or row.status is not TableStatus.BUILDING:
                return True
            if not self._catalog.writers.is_alive(build_record.writer_id):
                self._clean_up_dead()
                remaining_row = self._catalog.result_tables.get(build_record.table_name)
                # a row that cannot be cleaned up is not worth waiting for
                return remaining_row is None or remaining_row.status is not TableStatus.BUILDING
            beat = subscriber.latest()
            if subscriber.is_silent():
                return False
            if on_progress:
                progress = (
                    beat.progress
                    if beat and beat.progress
                    else Progress(stage="", done=0, total=None, unit="rows")
                )
                on_progress(
                    Progress(
                        stage=stage, done=progress.done, total=progress.total, unit=progress.unit
                    )
                )
        return False

    def wait_for_distinct_timestamps(self) -> None:
        """Wait until recent writes are old enough to be told apart. A server that reports whole
        seconds cannot tell whether a file just written was written twice, so every recent write
        counts as a change. Raises KeyboardInterrupt."""
        for _ in attempts(_TIMESTAMP_SETTLE_SECONDS, monotonic=self.clock.monotonic):
            pass

    def _waiting_stage(self, build_record: TableRecord) -> str:
        """The progress stage: which process builds the table, and since when."""
        writer = self._catalog.writers.get(build_record.writer_id)
        builder = f"process {writer.pid} on {writer.host}" if writer else "another kernel"
        return (
            f"waiting for {builder} to build {build_record.recipe} (since "
            f"{build_record.created_at[11:19]} UTC)"
        )


class HeartbeatSubscriber:
    """Reads the heartbeat of one build in another kernel, at most once per
    `HEARTBEAT_POLL_SECONDS` seconds."""

    def __init__(self, heartbeat: Heartbeat, clock: Clock, build_record: TableRecord) -> None:
        self.heartbeat, self.clock, self._build_record = heartbeat, clock, build_record
        self._last_read: float | None = None
        self._last_heartbeat: HeartbeatMessage | None = None
        self._last_change = clock.monotonic()

    def latest(self) -> HeartbeatMessage | None:
        """The latest heartbeat; None before the first one."""
        now = self.clock.monotonic()
        if self._last_read is None or now - self._last_read >= HEARTBEAT_POLL_SECONDS:
            heartbeat = self.heartbeat.read(
                self._build_record.writer_id, self._build_record.table_name
            )
            if self._last_read is not None and (heartbeat and heartbeat.said) != (
                self._last_heartbeat and self._last_heartbeat.said
            ):
                self._last_change = now
            self._last_heartbeat, self._last_read = heartbeat, now
        return self._last_heartbeat

    def is_silent(self) -> bool:
        """Whether the last heartbeat is a minute old, by its own timestamp or as observed from
        here."""
        silence = self.clock.monotonic() - self._last_change
        return silence >= STALE_HEARTBEAT_SECONDS or (
            silence >= min(MIN_SILENCE_SECONDS, STALE_HEARTBEAT_SECONDS)
            and self._heartbeat_age() >= STALE_HEARTBEAT_SECONDS
        )

    def _heartbeat_age(self) -> float:
        """Seconds since the other kernel's last heartbeat, or since the build started when there is
        none. Nobody waits long for one whose heartbeat may not be read, nor then its table."""
        if self._last_heartbeat is not None and self._last_heartbeat.age == math.inf:
            return math.inf
        build_age = (
            self.clock.now_ns() / 1e9 - parse_rfc3339(self._build_record.created_at).timestamp()
        )
        return (
            build_age if self._last_heartbeat is None else min(build_age, self._last_heartbeat.age)
        )
