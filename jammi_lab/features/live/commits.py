"""Group commit for mutable tables: every commit is durable when the call returns and has a version
of its own; concurrent ones share a transaction.

A commit waits for the disk. While one thread does, others queue up; the next leader commits the
whole queue, after a short wait for threads that are about to join: those just served mostly return
at once, and a shared transaction takes hardly longer than a single one. Each change is checked
against the result of those before it, before anything of it is written, so that a rejected change
does not affect the others.

New rows are inserted without looking for existing ones first; the database reports a conflict, and
the transaction is then repeated with a lookup. Conflicts are rare.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import CompiledStatement, Database
from jammi_lab.catalog.schema import mutables
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.errors import JammiError, TableNotFound, TenantForbidden
from jammi_lab.core.records import Committed, MutableRecord
from jammi_lab.features.checks.check_rows import BLOCKING_STAMP
from jammi_lab.features.live.mutable_storage import Body, Key, physical_tables

MAX_CHANGES = 64
"""Changes per transaction."""
BATCH_ROWS = 1024
"""Rows after which a transaction takes no further change: the fixed cost is small by then, and
meanwhile others can prepare theirs."""
_MAX_UNTRIMMED_VERSIONS = 16
"""Versions by which the history may exceed its limit before it is trimmed."""
POLL_SECONDS = 0.1
"""Interval at which a waiting thread checks for itself: the one that should wake it may have been
interrupted."""
_LARGE_CHANGE_ROWS = 500
"""A change of that many rows does not wait for others: what they prepare meanwhile is worth more
than one write less."""
MAX_GATHER_SECONDS = 0.01
"""The longest wait for others."""
_MAX_GATHER_FACTOR = 4
"""The wait for others is at most this multiple of the last transaction's duration: threads just
served need about that long to return."""
_STATE_COLUMNS = (
    mutables.c.tenant_id,
    mutables.c.version,
    mutables.c.first_kept,
    mutables.c.row_count,
    BLOCKING_STAMP.label("checks"),
)
_table_is = mutables.c.table_id == sa.bindparam("of_table", type_=sa.BigInteger)
_GET_STATE = CompiledStatement(scope.select(*_STATE_COLUMNS, tables=mutables).where(_table_is))
_GET_VERSION = CompiledStatement(scope.select(mutables.c.version, tables=mutables).where(_table_is))
_ADVANCE = CompiledStatement(scope.update_owned_by(mutables).where(_table_is))


class VersionMoved(Exception):
    """A table on which the change depends has another version than the one that was read; nothing
    was changed. Internal."""


class UncheckedRows(Exception):
    """The table has blocking checks that the change was not subjected to; nothing was changed.
    Internal."""


class ExistingRow(Exception):
    """Keys that had to be new exist already; nothing was changed. Internal."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        super().__init__("present")
        self.bodies = list(bodies)


@dataclass(frozen=True)
class Change:
    """A change of the rows with some keys."""

    put: Mapping[Key, bytes] = field(default_factory=dict)
    """The rows to insert or replace: key to body."""
    remove: Sequence[Key] = ()
    """The keys of the rows to delete."""
    must_be_new: bool = False
    """Whether every key of `put` must be new."""
    read_versions: Mapping[int, int] = field(default_factory=dict)
    """The table versions from which the change was computed; it is valid only while they are the
    newest."""
    checks: str = ""
    """The blocking checks that the rows after the change pass (`BLOCKING_STAMP`)."""


@dataclass(eq=False, slots=True)
class _Request:
    """One change that waits for its commit."""

    record: MutableRecord
    change: Change
    keep: int
    params: Mapping[str, Any]
    """The parameters of the tenant predicate in the requesting context."""
    forbidden: JammiError | None
    outcome: Committed | Exception | None = None
    done: bool = False
    wakeup: threading.Lock = field(default_factory=threading.Lock)
    """Acquired by the waiting thread; released when its change is done or its turn has come."""
    next_request: "_Request | None" = None
    """The next request of the same transaction, which this one wakes."""
    rows: int = field(init=False)
    """How many rows it touches."""

    def __post_init__(self) -> None:
        self.rows = len(self.change.put) + len(self.change.remove)

    def wake(self) -> None:
        """Wake the waiting thread."""
        try:  # noqa: SIM105  a context manager would take longer than the release
            self.wakeup.release()
        except RuntimeError:  # released already
            pass


class _UncheckedConflict(Exception):
    """A row inserted without a lookup exists already. Internal."""


class _Batch:
    """A table within one transaction: its state before, and after the changes so far."""

    def __init__(self, request: _Request, row: Sequence[Any]) -> None:
        self.tenant, self.version, self.first_kept, self.rows, self.checks = row
        self.storage = physical_tables(request.record.table_id, request.record.numbered)
        self.keep = request.keep
        self.checked_params = [request.params]
        self.unread = True
        self.rows_before: dict[Key, bytes] = {}
        self.rows_after: dict[Key, Body] = {}
        self.log: dict[int, list[tuple[Key, Body]]] = {}

    def read_rows(self, tx: sa.Connection, changes: Sequence[Change]) -> None:
        """Read the rows that these changes touch."""
        self.unread = False
        keys = dict.fromkeys(key for change in changes for key in (*change.put, *change.remove))
        self.rows_before = self.storage.bodies(tx, list(keys), checked=False)
        self.rows_after = dict(self.rows_before)

    def apply(self, change: Change) -> Committed:
        """Apply one change. Raises ExistingRow."""
        current, put = self.rows_after, change.put
        existing = (
            {key for key in put if current.get(key) is not None}
            if current and not current.keys().isdisjoint(put)
            else ()
        )
        if change.must_be_new and existing:
            raise ExistingRow(
                [body for key in put if key in existing and (body := current[key]) is not None]
            )
        new = [key for key in put if key not in existing] if existing else list(put)
        replaced = (
            [key for key in put if key in existing and current[key] != put[key]] if existing else []
        )
        removed = [key for key in change.remove if current.get(key) is not None]
        if new or replaced or removed:
            self.version += 1
            self.rows += len(new) - len(removed)
            self.log[self.version] = [
                *zip(new, itertools.repeat(None)),
                *((key, current[key]) for key in (*replaced, *removed)),
            ]
            if current:
                current.update(put)
            else:
                self.rows_after = current = dict(put)
            current.update(dict.fromkeys(removed))
        return Committed(
            self.version, len(new), len(replaced), len(removed), len(put) + len(removed)
        )

    def is_committed(self, tx: sa.Connection) -> bool:
        """Whether the result is in the database: the commits with their versions, and the rows."""
        logged = dict(self.storage.since(tx, self.version - len(self.log)))
        rows = self.storage.bodies(tx, list(self.rows_after))
        return all(logged.get(version) == touched for version, touched in self.log.items()) and all(
            rows.get(k) == b for k, b in self.rows_after.items()
        )

    def flush(self, tx: sa.Connection, table_id: int, commit_id: str) -> None:
        """Write the result. Raises _UncheckedConflict."""
        if not self.log:
            return
        if self.unread:
            if not self.storage.insert_new(tx, self.rows_after):
                raise _UncheckedConflict
        else:
            put = {
                key: body
                for key, body in self.rows_after.items()
                if body is not None and self.rows_before.get(key) != body
            }
            self.storage.write(
                tx, put, [key for key in self.rows_before if self.rows_after[key] is None]
            )
        self.storage.log(tx, self.log)
        oldest = self.version - max(self.keep, 1)
        if oldest > self.first_kept and (
            oldest - self.first_kept >= _MAX_UNTRIMMED_VERSIONS
            or self.keep <= _MAX_UNTRIMMED_VERSIONS
        ):
            self.storage.trim(tx, oldest)
            self.first_kept = oldest
        advanced = {
            "version": self.version,
            "first_kept": self.first_kept,
            "row_count": self.rows,
            "commit_id": commit_id,
        }
        _ADVANCE.execute(tx, {"of_table": table_id, "owner": self.tenant or "", **advanced})


def _split_batch(
    leader: _Request, waiting: list[_Request]
) -> tuple[list[_Request], list[_Request]]:
    """The requests that share this one's transaction, and those that remain."""
    group, rows, rest = [leader], leader.rows, [each for each in waiting if each is not leader]
    while rest[len(group) - 1 :] and len(group) < MAX_CHANGES and rows < BATCH_ROWS:
        group.append(rest[len(group) - 1])
        rows += group[-1].rows
    return group, rest[len(group) - 1 :]


class GroupCommit:
    """Makes changes of mutable tables durable."""

    def __init__(
        self, database: Database, active_scope: TenantPredicate, new_commit_id: Callable[[], str]
    ) -> None:
        self._database, self._scope = database, active_scope
        self._new_commit_id = new_commit_id
        self.leader_lock = threading.Lock()
        self._guard = threading.Lock()
        self._enough_waiting = threading.Event()
        self.waiting: list[_Request] = []
        self.expected_requests = 1
        """Recent demand: requests of the last transaction and those that arrived meanwhile."""
        self.last_duration = 0.0
        """Duration of the last transaction in seconds."""

    def commit(self, record: MutableRecord, change: Change, kept_versions: int) -> Committed:
        """Commit a change durably as the next version; a change without effect takes no version.
        `keep`: how many versions of history remain readable. Inside a transaction it becomes part
        of that.

        Raises ExistingRow; VersionMoved; UncheckedRows; TableNotFound; TenantForbidden.
        """
        request = _Request(
            record, change, kept_versions, self._scope.parameters(), self._tenant_error(record)
        )
        # part of the caller's transaction, which cannot be rolled back partly, so with a lookup
        if self._database.writing:
            self._transact([request], {}, read_first=True)
        else:
            self._wait_and_commit(request)
        if isinstance(request.outcome, Exception):
            raise request.outcome
        assert request.outcome is not None, "a request is done when its turn is over"
        return request.outcome

    def _tenant_error(self, record: MutableRecord) -> JammiError | None:
        try:
            self._scope.check_owner(record.tenant, f"The mutable table {record.name!r}")
        except TenantForbidden as error:
            return error
        return None

    def _wait_and_commit(self, request: _Request) -> None:
        """Wait for the turn, and commit whatever else waits with it."""
        request.wakeup.acquire()
        with self._guard:
            self.waiting.append(request)
            if self._has_enough():
                self._enough_waiting.set()
        try:
            self._wait_until_done(request)
        finally:
            if request.next_request is not None:
                request.next_request.wake()
            if not request.done:
                with self._guard:
                    if request in self.waiting:  # interrupted: nobody waits for it any more
                        self.waiting.remove(request)

    def _wait_until_done(self, request: _Request) -> None:
        """Wait until a request is done, leading a transaction if nobody else does.

        A function of its own: CPython 3.13 lets an interrupt between two iterations of a loop
        inside `try` escape its handlers (python/cpython#130279).
        """
        while not request.done:
            # sleep instead of queueing on the lock, which finished threads would delay
            if self.leader_lock.locked():
                request.wakeup.acquire(timeout=POLL_SECONDS)
            if not request.done:
                with self.leader_lock:
                    if not request.done:
                        self._lead(request)
                self._wake_next()

    def _wake_next(self) -> None:
        with self._guard:
            for request in self.waiting[:1]:
                request.wake()

    def _gather(self) -> None:
        """Wait briefly for the threads that committed recently. A thread that comes alone, or
        waited in vain, does not wait the next time."""
        with self._guard:
            if self._has_enough():
                return
            self._enough_waiting.clear()
        self._enough_waiting.wait(min(_MAX_GATHER_FACTOR * self.last_duration, MAX_GATHER_SECONDS))

    def _has_enough(self) -> bool:
        rows = [each.rows for each in self.waiting]
        return (
            len(rows) >= self.expected_requests
            or max(rows, default=0) >= _LARGE_CHANGE_ROWS
            or sum(rows) >= BATCH_ROWS
        )

    def _take_batch(self, leader: _Request) -> list[_Request]:
        """The requests of the next transaction: this one and those that wait, first come first
        served."""
        with self._guard:
            group, self.waiting = _split_batch(leader, self.waiting)
        return group

    def _lead(self, leader: _Request) -> None:
        self._gather()
        started_at = time.monotonic()
        group = self._take_batch(leader)
        states: dict[int, _Batch] = {}
        try:
            self._commit_batch(group, states)
            self.last_duration = time.monotonic() - started_at
            self.expected_requests = len(group) + len(self.waiting)
            self._finish(group)
        except BaseException as error:
            if committed := self._was_committed(states):
                self._finish(group)
            else:
                with self._guard:
                    self.waiting = [each for each in group if each is not leader] + self.waiting
            if not isinstance(error, Exception) or (len(group) == 1 and not committed):
                raise
            if not committed:
                # another request of the group may have failed; try this one alone
                self._commit_batch([leader], {})
                self._finish([leader])

    def _was_committed(self, states: Mapping[int, _Batch]) -> bool:
        """Whether a transaction that raised was committed all the same: an interrupt may come after
        the commit, or the server connection be lost."""
        with contextlib.suppress(JammiError), self._database.read() as tx:
            return any(state.log for state in states.values()) and all(
                state.is_committed(tx) for state in states.values()
            )
        return False

    def _commit_batch(self, group: Sequence[_Request], states: dict[int, _Batch]) -> None:
        """Commit all of them in one transaction; `states` receives the state of each table."""
        with self._database.shared_connection():
            with contextlib.suppress(_UncheckedConflict):
                return self._transact(group, states, read_first=False)
            return self._transact(group, states, read_first=True)

    def _transact(
        self, group: Sequence[_Request], states: dict[int, _Batch], *, read_first: bool
    ) -> None:
        states.clear()
        with self._database.write() as tx:
            for request in group:
                request.outcome = self._apply_request(tx, request, group, states, read_first)
            for table_id, state in states.items():
                state.flush(tx, table_id, self._new_commit_id())

    @staticmethod
    def _finish(group: Sequence[_Request]) -> None:
        """Mark all requests as done. Only the first thread is awake; each wakes the next, because
        all at once they would only contend for the interpreter lock."""
        for request, next_request in zip(group, [*group[1:], None], strict=True):
            request.next_request = next_request
            request.done = True

    @staticmethod
    def _apply_request(
        tx: sa.Connection,
        request: _Request,
        group: Sequence[_Request],
        states: dict[int, _Batch],
        read_first: bool,
    ) -> Committed | Exception:
        table_id = request.record.table_id
        state = states.get(table_id)
        if state is None or request.params not in state.checked_params:
            rows = _GET_STATE.fetch(tx, {**request.params, "of_table": table_id})
            if not rows:
                return TableNotFound(
                    f"The mutable table {request.record.name!r} no longer exists.",
                    hint="ws.mutable.list() lists the mutable tables.",
                )
            if request.forbidden is not None:
                return request.forbidden
            if state is None:
                state = states[table_id] = _Batch(request, rows[0])
                same_table = [each.change for each in group if each.record.table_id == table_id]
                if read_first or any(
                    change.remove or not change.must_be_new for change in same_table
                ):
                    state.read_rows(tx, same_table)
            state.checked_params.append(request.params)
        if request.forbidden is not None:
            return request.forbidden
        if state.checks != request.change.checks:
            return UncheckedRows()
        for table, version in request.change.read_versions.items():
            other_batch = states.get(table)
            newest = (
                [(other_batch.version,)]
                if other_batch is not None
                else _GET_VERSION.fetch(tx, {**request.params, "of_table": table})
            )
            if not newest or newest[0][0] != version:
                return VersionMoved()
        try:
            return state.apply(request.change)
        except ExistingRow as error:
            return error
