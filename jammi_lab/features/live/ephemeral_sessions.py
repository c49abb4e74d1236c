"""The lifetime of ephemeral sessions in one workspace: open, use, end exactly once, and clean up
after a kernel that died.

A session is worthless after a power failure, which its kernel does not survive, so nothing of it is
synced. Commits reach the disk in order: where rows of a session are on disk, so is the session, and
the next kernel that opens the workspace ends it.

The end of a session is one transaction: the claim on its row, the drop of its tables, the audit
event. Among a caller of close, the scanner, a collected handle and the next kernel, exactly one
ends it. Its row stays until nothing of it is left: neither a table that could not be dropped, nor a
value in the catalog's log.
"""

import contextlib
import datetime
import enum
import json
import math
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.logs import LogRecord
from jammi_lab.catalog.sessions import ENDED, OPEN, SessionRecord
from jammi_lab.core.clock import Clock, rfc3339, to_seconds
from jammi_lab.core.errors import JammiError, NoTenantBinding, PartialDeletionFailure, TableNotFound
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.core.thread_pool import join_thread, start_daemon
from jammi_lab.features.live.mutable_tables import MutableTableService
from jammi_lab.features.live.open_session import TIMED_OUT, OpenSession, closed_error
from jammi_lab.features.live.topics import Topics
from jammi_lab.inputs.row_input import SchemaLike

# --------------------------------------------------------------------------------------------------
# Deadlines of ephemeral sessions, and clocks that jump.

GRACE_NS = 60 * 10**9
"""How long a session lives on after the machine slept past its deadline."""
_MIN_JUMP_SECONDS = 2.0
"""Difference between wall clock and monotonic clock that counts as a jump; the monotonic clock
stands still while the machine sleeps."""
_LAST_NS = int(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC).timestamp()) * 10**9
"""Later moments cannot be written as a date and mean never."""


def deadline_after(start_ns: int, duration: Any, name: str) -> int | None:
    """The moment that many seconds later; None beyond the calendar. Raises InvalidArgument unless
    `duration` is a number above 0."""
    seconds = to_seconds(duration, name, positive=True)
    if math.isinf(seconds) or start_ns + seconds * 1e9 >= _LAST_NS:
        return None
    return start_ns + round(seconds * 1e9)


class ClockJumpDetector:
    """Detects that the machine slept or that the wall clock was set, by comparing it with a clock
    that stands still during sleep."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall, self._steady = clock.now_ns(), clock.monotonic()

    def jump_seconds(self) -> float:
        """Seconds by which the wall clock has jumped since the last call: positive after sleep or
        when it was set forward, negative when it was set back, else 0."""
        wall, steady = self._clock.now_ns(), self._clock.monotonic()
        jump = (wall - self._wall) / 1e9 - (steady - self._steady)
        self._wall, self._steady = wall, steady
        return jump if abs(jump) > _MIN_JUMP_SECONDS else 0.0


def format_deadline(moment_ns: int | None) -> str | None:
    """A moment as the catalog stores it; None is never."""
    return None if moment_ns is None else rfc3339(moment_ns)


# --------------------------------------------------------------------------------------------------
# The audit topic of ephemeral sessions: one event when a session opens, and one when it ends.

AUDIT_TOPIC = "jammi.audit.session_lifecycle.v1"
MAX_AUDIT_EVENTS = 10_000
"""Events that the audit topic of a tenant keeps, the newest ones: two of each session."""


class LifecycleEvent(enum.StrEnum):
    """What happened to a session. Every `opened` is followed by exactly one of the others."""

    OPENED = "opened"
    CLOSED = "closed"
    TIMED_OUT = "timed_out"
    PARTIAL = "partial_deletion_failure"
    ABANDONED = "abandoned"


def publish_event(
    topics: Topics,
    clock: Clock,
    session: SessionRecord,
    event: LifecycleEvent,
    *,
    table_count: int = 0,
    row_count: int = 0,
    surviving: Sequence[str] = (),
) -> None:
    """Publish one event on the audit topic of the session's tenant, for whoever has to prove the
    deletion of data. With `surviving` tables it is a partial deletion, and `event` is what was
    attempted. Topic, record and fields are those of jammi-db's session lifecycle events."""
    record: dict[str, Any] = {
        "session_id": session.session_id,
        "tenant_id": session.tenant,
        "event": str(LifecycleEvent.PARTIAL if surviving else event),
        "occurred_at": rfc3339(clock.now_ns()),
        "ephemeral_table_count": table_count,
        "deleted_row_count": row_count,
    }
    if surviving:
        record["details"] = {"surviving_tables": list(surviving), "attempted_event": str(event)}
    topics._publish_record(AUDIT_TOPIC, json.dumps(record), MAX_AUDIT_EVENTS)


# --------------------------------------------------------------------------------------------------
# The sessions of a workspace.

TICK_SECONDS = 0.25
"""Interval of the scanner; a deadline is enforced within a second."""
WATCH_SECONDS = 5.0
"""Interval at which a kernel looks for sessions of other kernels that died."""
PURGE_SECONDS = 5.0


class EphemeralSessions:
    """The ephemeral sessions of a workspace."""

    def __init__(
        self,
        catalog: Catalog,
        scope: TenantScope,
        tables: MutableTableService,
        topics: Topics,
        clock: Clock,
        writer_id: str,
    ) -> None:
        self._catalog = catalog
        self._scope = scope
        self.tables = tables
        self._topics = topics
        self.clock = clock
        self._writer = writer_id
        self._open_sessions: dict[str, OpenSession] = {}
        self._lock = threading.RLock()
        self._wakeup = threading.Condition(self._lock)
        self._scanner: threading.Thread | None = None
        self._stopping = self._is_watching = self._is_closed = False
        self._collected_ids: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._clock_jumps = ClockJumpDetector(clock)
        self._log_lock = threading.Lock()
        self._is_unclean = False
        """Whether values of ended sessions may still be in the catalog's log."""
        tables.check_session = self.check_open

    def open(self, timeout: object) -> OpenSession:
        """Open a session of the bound tenant. Raises NoTenantBinding, InvalidArgument."""
        tenant = self._scope.current
        # before this session exists, so that it gets no grace for an earlier sleep
        self._adjust_deadlines()
        created = self.clock.now_ns()
        deadline = deadline_after(created, timeout, "A timeout")
        if tenant is None:
            raise NoTenantBinding(
                "An ephemeral session requires a bound tenant.",
                hint='Bind one first: with ws.tenant("name"): … or ws.bind_tenant("name").',
            )
        record = SessionRecord(
            session_id=self.clock.token(32),
            tenant=tenant,
            writer_id=self._writer,
            created_at=rfc3339(created),
            deadline=format_deadline(deadline),
        )
        with self._catalog.database.write_without_fsync():
            self._catalog.sessions.open(record)
            publish_event(self._topics, self.clock, record, LifecycleEvent.OPENED)
        session = OpenSession(
            record, None if deadline is None else (deadline - created) / 1e9, deadline
        )
        with self._wakeup:
            self._open_sessions[record.session_id] = session
            self._start_scanner()
            self._wakeup.notify_all()  # it may wait for the longer interval of a watch
        return session

    def list_open(self) -> list[tuple[SessionRecord, list[str]]]:
        """The open sessions of the bound tenant, of any kernel, with the physical names of their
        tables."""
        records = [record for record in self._catalog.sessions.list() if record.state == OPEN]
        return [
            (
                record,
                [
                    table.name
                    for table in self._catalog.mutable_tables.list(session=record.session_id)
                ],
            )
            for record in records
        ]

    # -- use

    @contextlib.contextmanager
    def use(self, session: OpenSession) -> Iterator[None]:
        """A block in the scope of the session's tenant; its deadline waits until the block ends.
        Raises SessionClosed when the session has ended."""
        self._adjust_deadlines()
        with self._lock:
            self._require_open(session)
            session.running += 1
        try:
            with self._scope.use(session.record.tenant):
                yield
        except TableNotFound:
            if self._is_open(session):
                raise
            # another thread ended the session after this block began
            raise closed_error(session.ended or "it was closed") from None
        finally:
            with self._lock:
                session.running -= 1

    def create_table(
        self, session: OpenSession, physical: str, schema: SchemaLike, key: Sequence[str]
    ) -> None:
        """Create a table of an open session. Raises SessionClosed, and as creating a table does."""
        with self._catalog.database.write_without_fsync():
            if not self._is_open(session):
                raise closed_error(session.ended or "it was closed")
            self.tables.create(physical, schema, key, session=session.record.session_id)

    def _is_open(self, session: OpenSession) -> bool:
        record = self._catalog.sessions.get(session.record.session_id, session.record.tenant)
        return record is not None and record.state == OPEN

    def insert(self, table: LogRecord, rows: object) -> int:
        """Insert rows; return how many. Raises as inserting into a mutable table does."""
        with self._catalog.database.write_without_fsync():
            return self.tables.insert(table, rows).inserted

    def find_table(self, physical: str) -> LogRecord | None:
        """The record of a session's table, in the bound tenant's scope."""
        record = self._catalog.mutable_tables.get(physical)
        return record if record is not None and record.session is not None else None

    def is_expired(self, session: OpenSession) -> bool:
        """Whether the deadline has passed, or has ended the session."""
        self._adjust_deadlines()
        return session.ended == TIMED_OUT or self._deadline_passed(session)

    def extend(self, session: OpenSession, seconds: object) -> None:
        """Move the deadline. Raises SessionClosed, InvalidArgument."""
        with self.use(session):  # keeps the scanner from ending it meanwhile
            deadline_ns = (
                None
                if session.deadline_ns is None
                else deadline_after(session.deadline_ns, seconds, "What a deadline is moved by")
            )
            if not self._catalog.sessions.set_deadline(
                session.record, format_deadline(deadline_ns)
            ):
                raise closed_error("it was closed")
            session.deadline_ns = deadline_ns

    def check_open(self, table: LogRecord) -> None:
        """Raise SessionClosed when the session of a table, of any kernel, has ended or its deadline
        has passed."""
        self._adjust_deadlines()
        with self._lock:
            if (session := self._open_sessions.get(table.session or "")) is not None:
                return self._require_open(session)
        record = self._catalog.sessions.get(table.session or "", table.tenant or "")
        if (
            record is None
            or record.state != OPEN
            or (record.deadline is not None and record.deadline <= rfc3339(self.clock.now_ns()))
        ):
            raise closed_error(TIMED_OUT)
        return None

    def _require_open(self, session: OpenSession) -> None:
        if session.ended:
            raise closed_error(session.ended)
        if self._deadline_passed(session):
            raise closed_error(TIMED_OUT)

    def _deadline_passed(self, session: OpenSession) -> bool:
        return session.deadline_ns is not None and self.clock.now_ns() >= session.deadline_ns

    def _adjust_deadlines(self) -> None:
        """Adjust deadlines to clock jumps: after the machine slept none falls within the next
        minute, and a clock that was set back extends none."""
        with self._lock:
            if not (jump := self._clock_jumps.jump_seconds()):
                return
            earliest_ns = self.clock.now_ns() + GRACE_NS if jump > 0 else 0
            moved = list[tuple[OpenSession, int]]()
            for session in self._open_sessions.values():
                if not session.ended and session.deadline_ns is not None:
                    deadline_ns = max(session.deadline_ns + min(0, round(jump * 1e9)), earliest_ns)
                    moved += [(session, deadline_ns)] if deadline_ns != session.deadline_ns else []
                    session.deadline_ns = deadline_ns
        for session, deadline_ns in moved:
            with contextlib.suppress(JammiError):  # this kernel uses the new deadline anyway
                self._catalog.sessions.set_deadline(session.record, format_deadline(deadline_ns))

    # -- the end

    def close(self, session: OpenSession) -> bool:
        """End a session unless it has ended. Return whether the catalog's log is free of its
        values; if somebody reads an older snapshot, False, and the log is emptied later. Raises
        PartialDeletionFailure with the tables that could not be dropped."""
        if not session.ended:
            self._end(session.record, LifecycleEvent.CLOSED, session)
        return self._clean_up(PURGE_SECONDS)

    def close_later(self, session_id: str) -> None:
        """Request the end of a session whose handle was collected. Safe to call from a
        finalizer."""
        self._collected_ids.put(session_id)

    def scan(self) -> None:
        """End sessions past their deadline without running statements, and those whose handles were
        collected."""
        self._adjust_deadlines()
        with self._lock:
            expired = [
                session
                for session in self._open_sessions.values()
                if self._deadline_passed(session) and not session.running
            ]
            collected = [
                session for session in self._collected_sessions() if session not in expired
            ]
        for session in expired:
            # an error must not keep the others open; this one is retried unless it is claimed
            with contextlib.suppress(Exception):
                self._end(session.record, LifecycleEvent.TIMED_OUT, session)
        for session in collected:
            try:
                self._end(session.record, LifecycleEvent.CLOSED, session)
            except Exception:  # noqa: BLE001  as above, and retried
                self.close_later(session.record.session_id)
        self._clean_up(0.1)

    def sweep(self, *, overdue_only: bool = False) -> list[str]:
        """End the sessions of kernels that died, over all tenants, and clean up after those that
        have ended; with `overdue_only` those whose deadlines have passed. Return the ids of the
        sessions that were ended."""
        now, ended = rfc3339(self.clock.now_ns()), []
        with self._catalog.all_tenants():
            records = self._catalog.sessions.list()
        if overdue_only:
            records = [each for each in records if each.deadline and each.deadline <= now]
        dead_writers = self._dead_writers(records)
        for record in records:
            if record.writer_id in dead_writers and record.state == OPEN:
                ended.append(record.session_id)
                with contextlib.suppress(JammiError):
                    self._end(record, LifecycleEvent.ABANDONED, None)
        self._is_unclean |= any(record.state == ENDED for record in records)
        self._clean_up(PURGE_SECONDS)
        return ended

    def watch(self) -> None:
        """Start ending the overdue sessions of kernels that died, until `close_all`."""
        with self._wakeup:
            self._is_watching = True
            self._start_scanner()

    def stop_watching(self) -> None:
        """Watch no more. Safe to call from a finalizer."""
        with self._wakeup:
            self._is_watching = False
            self._wakeup.notify_all()

    def _dead_writers(self, records: Iterable[SessionRecord]) -> set[str]:
        """The other writers of sessions that died."""
        return {
            writer_id
            for writer_id in {record.writer_id for record in records} - {self._writer}
            if not self._catalog.writers.is_alive(writer_id)
        }

    def close_all(self) -> None:
        """End every session of this kernel, and the scanner."""
        with self._wakeup:
            self._stopping = True
            scanner, sessions = self._scanner, list(self._open_sessions.values())
            self._wakeup.notify_all()
        if scanner is not None and scanner is not threading.current_thread():
            join_thread(scanner)
        for session in sessions:
            with contextlib.suppress(Exception):  # the next open ends what remains
                self._end(session.record, LifecycleEvent.CLOSED, session)
        self._clean_up(PURGE_SECONDS)
        self._is_closed = True

    def _end(
        self, record: SessionRecord, event: LifecycleEvent, session: OpenSession | None
    ) -> None:
        """Claim the session, drop its tables and publish the event, in one transaction, unless
        somebody else claimed it first. Raises PartialDeletionFailure."""
        total, surviving = 0, list[str]()
        with self._scope.use(record.tenant):
            with self._catalog.database.write_without_fsync():
                if self._catalog.sessions.claim(record):
                    total, rows, surviving = self._drop_all(record)
                    publish_event(
                        self._topics,
                        self.clock,
                        record,
                        event,
                        table_count=total,
                        row_count=rows,
                        surviving=surviving,
                    )
                    self._is_unclean = True
            if session is not None:
                with self._lock:
                    session.ended = session.ended or (
                        TIMED_OUT if event is LifecycleEvent.TIMED_OUT else "it was closed"
                    )
                    self._open_sessions.pop(record.session_id, None)
        if surviving:
            self._clean_up(PURGE_SECONDS)
            raise PartialDeletionFailure(
                f"The session has ended, but {len(surviving)} of its {total} tables could not "
                f"be dropped: {', '.join(surviving)}.",
                session_id=record.session_id,
                failed=len(surviving),
                total=total,
                tables=surviving,
            )

    def _drop_all(self, record: SessionRecord) -> tuple[int, int, list[str]]:
        """Drop the tables of a session; return how many there were, how many rows were deleted, and
        the names of those that remain."""
        rows, surviving = 0, []
        tables = self._catalog.mutable_tables.list(session=record.session_id)
        for table in tables:
            try:
                with self._catalog.database.savepoint():
                    rows += self.tables.drop(table)
            except Exception:  # noqa: BLE001  one failure must not keep the other tables
                surviving.append(table.name)
        return len(tables), rows, surviving

    def _clean_up(self, timeout: float) -> bool:
        """Drop what is left of ended sessions of this kernel and of dead ones, empty the catalog's
        log of their values, and forget them. False while another kernel reads an older snapshot:
        then the scanner does it later."""
        # serialised: two at once would each find the log busy
        with self._log_lock:
            if not self._is_unclean or self._is_closed:
                return not self._is_unclean
            with contextlib.suppress(JammiError):
                dropped = self._drop_rest()
                if self._catalog.database.purge(timeout):
                    self._is_unclean = False
                    with self._catalog.database.write_without_fsync():
                        self._catalog.sessions.remove(dropped)
        if self._is_unclean:
            with self._wakeup:
                self._start_scanner()  # an idle scanner may have stopped
                self._wakeup.notify_all()
        return not self._is_unclean

    def _drop_rest(self) -> list[SessionRecord]:
        """Drop the remaining tables of ended sessions; return the sessions that had none left."""
        with self._catalog.all_tenants():
            ended = [each for each in self._catalog.sessions.list() if each.state == ENDED]
        own = self._dead_writers(ended) | {self._writer}
        dropped = []
        for record in [each for each in ended if each.writer_id in own]:
            with self._scope.use(record.tenant):
                left = self._catalog.mutable_tables.list(session=record.session_id)
                if not left:
                    dropped.append(record)
                    continue
                with self._catalog.database.write_without_fsync():
                    self._drop_all(record)
        return dropped

    # -- the scanner

    def _collected_sessions(self) -> list[OpenSession]:
        """The sessions of this kernel whose handles were collected."""
        sessions = []
        while True:
            try:
                sessions.append(self._open_sessions.get(self._collected_ids.get_nowait()))
            except queue.Empty:
                return [session for session in sessions if session is not None]

    def _start_scanner(self) -> None:
        if self._scanner is None and not self._stopping:
            self._scanner = start_daemon(self._scan_forever, "jammi-sessions")

    def _scan_forever(self) -> None:
        watched_at = self.clock.monotonic()
        while True:
            with self._wakeup:
                is_busy = bool(self._open_sessions or self._is_unclean)
                if not self._stopping and (is_busy or self._is_watching):
                    self._wakeup.wait(TICK_SECONDS if is_busy else WATCH_SECONDS)
                if self._stopping or not (is_busy or self._is_watching):
                    self._scanner = None
                    return
            # the scanner must survive any error, or no deadline would be enforced
            if is_busy:
                with contextlib.suppress(Exception):
                    self.scan()
            if self.clock.monotonic() - watched_at >= WATCH_SECONDS:
                with contextlib.suppress(Exception):
                    self.sweep(overdue_only=True)
                watched_at = self.clock.monotonic()
