"""Ephemeral sessions of one workspace: opened, held, ended once, and swept when the kernel that held them died.

A session is worth nothing after a power failure, which its kernel does not outlive. So only its end waits for the disk. Commits reach that in their
order: where there are rows of a session, there is the session, and who opens the workspace next ends it.

All that ends a session is one transaction: the claim on its row, the drop of each of its tables, the event. So whoever closes it, the scanner, a
forgotten handle or the next kernel, one of them does it, wholly, and tells it.
"""

import contextlib
import datetime
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.sessions import ENDED, OPEN, PARTIAL, SessionRecord
from jammi_lab.clock import Clock, from_rfc3339, rfc3339
from jammi_lab.errors import JammiError, NoTenantBinding, PartialDeletionFailure, SessionClosed, TableNotFound
from jammi_lab.live.deadlines import GRACE_NS, Waking, after
from jammi_lab.live.lifecycle import Lifecycle, tell
from jammi_lab.live.mutable import Tables
from jammi_lab.live.schemas import SchemaLike
from jammi_lab.live.topics import Topics
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.mutables import MutableRecord

TICK_SECONDS = 0.25
"""How often the scanner looks: a deadline is kept within a second."""
_PURGE_SECONDS = 5.0


@dataclass(eq=False)
class Held:
    """A session that this kernel opened."""

    record: SessionRecord
    timeout: float | None
    """Seconds from opening to the deadline that it was opened with."""
    deadline_ns: int | None
    running: int = 0
    """How many statements of it run."""
    ended: str = ""
    """Why it is over, as a clause; empty while it is open."""
    tables: dict[str, str] = field(default_factory=dict)
    """Logical → physical names, in the order in which they were made."""

    @property
    def deadline(self) -> datetime.datetime | None:
        """When it ends by itself."""
        return None if self.deadline_ns is None else from_rfc3339(rfc3339(self.deadline_ns))


class Sessions:
    """The ephemeral sessions of a workspace."""

    def __init__(self, catalog: Catalog, scope: TenantScope, tables: Tables, topics: Topics, clock: Clock, writer_id: str) -> None:
        self._catalog, self._scope, self.tables, self._topics, self.clock, self._writer = catalog, scope, tables, topics, clock, writer_id
        self._held: dict[str, Held] = {}
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._scanner: threading.Thread | None = None
        self._stopping = False
        self._forgotten: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._waking = Waking(clock)
        self._emptying = threading.Lock()
        self._owed: list[SessionRecord] = []
        """Sessions that ended, whose values may still be in the catalog's log."""
        self._gone: list[SessionRecord] = []
        """Sessions of which nothing is left but their row."""
        tables.on_session = self.refuse_past

    def open(self, timeout: object) -> Held:
        """A new session of the bound tenant. NoTenantBinding; InvalidArgument."""
        tenant = self._scope.current
        self._grace()  # for those that were open while the machine slept, and not for this one
        created = self.clock.now_ns()
        deadline = after(created, timeout, "A timeout")
        if tenant is None:
            raise NoTenantBinding(
                "An ephemeral session belongs to a tenant, and none is bound.",
                hint='Bind one first: with ws.tenant("name"): … or ws.bind_tenant("name").',
            )
        record = SessionRecord(
            session_id=self.clock.token(32),
            tenant=tenant,
            writer_id=self._writer,
            created_at=rfc3339(created),
            deadline=_said(deadline),
        )
        with self._catalog.database.hasty():
            self._forget_gone()
            self._catalog.sessions.open(record)
            tell(self._topics, self.clock, record, Lifecycle.OPENED)
        held = Held(record, None if deadline is None else (deadline - created) / 1e9, deadline)
        with self._wake:
            self._held[record.session_id] = held
            self._scan_on()
        return held

    def listed(self) -> list[tuple[SessionRecord, list[str]]]:
        """The open sessions of the bound tenant, whichever kernel holds them, with the physical names of their tables."""
        found = [record for record in self._catalog.sessions.list() if record.state == OPEN]
        return [(each, [table.name for table in self._catalog.mutables.list(session=each.session_id)]) for each in found]

    # -- use -----------------------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def using(self, held: Held) -> Iterator[None]:
        """A block in the scope of the session's tenant, in which its deadline waits. SessionClosed when it is over."""
        self._grace()
        with self._lock:
            self._require(held)
            held.running += 1
        try:
            with self._scope.use(held.record.tenant):
                yield
        except TableNotFound:
            if self._open_still(held):
                raise
            raise _over(held.ended or "it was closed") from None  # in another thread, after this block began
        finally:
            with self._lock:
                held.running -= 1

    def create_table(self, held: Held, physical: str, schema: SchemaLike, key: Sequence[str]) -> None:
        """Make a table of a session, if that is open. SessionClosed, and as making a table raises."""
        with self._catalog.database.hasty():
            if not self._open_still(held):
                raise _over(held.ended or "it was closed")
            self.tables.create(physical, schema, key, session=held.record.session_id)

    def _open_still(self, held: Held) -> bool:
        now = self._catalog.sessions.get(held.record.session_id, held.record.tenant)
        return now is not None and now.state == OPEN

    def insert(self, table: MutableRecord, rows: object) -> int:
        """How many rows were inserted. As inserting raises."""
        with self._catalog.database.hasty():
            return self.tables.insert(table, rows).inserted

    def record(self, physical: str) -> MutableRecord | None:
        """The table of a session of the bound tenant."""
        found = self._catalog.mutables.get(physical)
        return found if found is not None and found.session is not None else None

    def expired(self, held: Held) -> bool:
        """Whether the deadline is past, or it was ended by it."""
        self._grace()
        return held.ended == _TIMED_OUT or self._past(held)

    def extend(self, held: Held, seconds: object) -> None:
        """Move the deadline. SessionClosed; InvalidArgument."""
        with self.using(held):  # the scanner waits meanwhile
            later = None if held.deadline_ns is None else after(held.deadline_ns, seconds, "What a deadline is moved by")
            if not self._catalog.sessions.move(held.record, _said(later)):
                raise _over("it is over")
            held.deadline_ns = later

    def refuse_past(self, table: MutableRecord) -> None:
        """SessionClosed when the session of a table, of whichever kernel, is over or past its deadline."""
        self._grace()
        with self._lock:
            if (held := self._held.get(table.session or "")) is not None:
                return self._require(held)
        record = self._catalog.sessions.get(table.session or "", table.tenant or "")
        if record is None or record.state != OPEN or (record.deadline is not None and record.deadline <= rfc3339(self.clock.now_ns())):
            raise _over(_TIMED_OUT)
        return None

    def _require(self, held: Held) -> None:
        if held.ended:
            raise _over(held.ended)
        if self._past(held):
            raise _over(_TIMED_OUT)

    def _past(self, held: Held) -> bool:
        return held.deadline_ns is not None and self.clock.now_ns() >= held.deadline_ns

    def _grace(self) -> None:
        """After the machine slept, no deadline falls within the next minute; a clock that was set back makes no session last longer."""
        with self._lock:
            if not (leapt := self._waking.leapt()):
                return
            soonest = self.clock.now_ns() + GRACE_NS if leapt > 0 else 0
            moved = list[tuple[Held, int]]()
            for held in self._held.values():
                if not held.ended and held.deadline_ns is not None:
                    due = max(held.deadline_ns + min(0, round(leapt * 1e9)), soonest)
                    moved += [(held, due)] if due != held.deadline_ns else []
                    held.deadline_ns = due
        for held, due in moved:
            with contextlib.suppress(JammiError):  # for this kernel it holds all the same
                self._catalog.sessions.move(held.record, _said(due))

    # -- the end -------------------------------------------------------------------------------------------------------------------

    def close(self, held: Held) -> bool:
        """End a session, if it is not over already. Whether no value of it is in the catalog's log either; False while somebody reads an older state
        of the catalog, and then that is seen to later. PartialDeletionFailure names the tables that would not go."""
        emptied = None if held.ended else self._finish(held.record, Lifecycle.CLOSED, held)
        if emptied is None:  # somebody else ended it, and may be at the log still; a workspace that was closed has seen to it
            return not self._owed if self._stopping else self._emptied(_PURGE_SECONDS)
        return emptied

    def forget(self, session_id: str) -> None:
        """End a session whose handle was let go of, soon. Callable from wherever the interpreter collects."""
        self._forgotten.put(session_id)

    def scan(self) -> None:
        """End what is past its deadline and has no statement running, and what was forgotten."""
        self._grace()
        with self._lock:
            late = [held for held in self._held.values() if self._past(held) and not held.running]
            forgotten = [held for held in self._left() if held not in late]
        for held in late:
            with contextlib.suppress(Exception):  # whatever it is, the others are ended, and this one is tried again, unless it was told
                self._finish(held.record, Lifecycle.TIMED_OUT, held)
        for held in forgotten:
            try:
                self._finish(held.record, Lifecycle.CLOSED, held)
            except Exception:  # noqa: BLE001  as above
                self.forget(held.record.session_id)
        self._purge(None, 0.1)

    def sweep(self) -> list[str]:
        """End the sessions of kernels that died, over all tenants, and try again what could not be dropped; the ids of those that were ended."""
        ended = []
        with self._catalog.everyone():
            found = self._catalog.sessions.list()
            dead = {w for w in {r.writer_id for r in found} - {self._writer} if not self._catalog.writers.is_alive(w)}
        for record in found:
            with contextlib.suppress(JammiError):
                if record.state == PARTIAL:
                    self._again(record)
                elif record.state == ENDED and record.writer_id in dead:
                    self._purge(record, _PURGE_SECONDS)
                elif record.state == OPEN and record.writer_id in dead:
                    try:
                        self._finish(record, Lifecycle.ABANDONED, None)
                    finally:
                        ended.append(record.session_id)
        self._settle()
        return ended

    def shut(self) -> None:
        """End every session that is held here, and the scanner."""
        with self._wake:
            self._stopping = True
            scanner, held = self._scanner, list(self._held.values())
            self._wake.notify_all()
        if scanner is not None and scanner is not threading.current_thread():
            scanner.join()
        for each in held:
            with contextlib.suppress(Exception):  # the next open sweeps what could not be ended
                self._finish(each.record, Lifecycle.CLOSED, each)
        self._purge(None, _PURGE_SECONDS)
        self._settle()

    def _finish(self, record: SessionRecord, event: Lifecycle, held: Held | None) -> bool | None:
        """Claim the session, drop its tables and tell it, all at once. Whether the catalog's log is emptied of it, too; None when somebody was first.
        PartialDeletionFailure."""
        total, surviving, emptied = 0, list[str](), None
        with self._scope.use(record.tenant):
            with self._catalog.database.hasty():
                if claimed := self._catalog.sessions.claim(record):
                    total, rows, surviving = self._drop_all(record)
                    tell(self._topics, self.clock, record, event, tables=total, rows=rows, surviving=surviving)
                    if surviving:
                        self._catalog.sessions.keep(record)
            if held is not None:
                with self._lock:
                    held.ended = held.ended or (_TIMED_OUT if event is Lifecycle.TIMED_OUT else "it was closed")
                    self._held.pop(record.session_id, None)
        if claimed:
            emptied = self._purge(None if surviving else record, _PURGE_SECONDS)
        if surviving:
            raise PartialDeletionFailure(
                f"The session ended, and {len(surviving)} of its {total} tables could not be dropped: {', '.join(surviving)}.",
                session_id=record.session_id,
                failed=len(surviving),
                total=total,
                tables=surviving,
            )
        return emptied

    def _drop_all(self, record: SessionRecord) -> tuple[int, int, list[str]]:
        """How many tables there were, how many rows were deleted, and the names of the tables that are left."""
        rows, surviving = 0, []
        found = self._catalog.mutables.list(session=record.session_id)
        for table in found:
            try:
                with self._catalog.database.attempt():
                    rows += self.tables.drop(table)
            except Exception:  # noqa: BLE001  whatever keeps one table from going, the others go
                surviving.append(table.name)
        return len(found), rows, surviving

    def _again(self, record: SessionRecord) -> None:
        """Drop what is left of a session that is over; its end was told."""
        with self._scope.use(record.tenant), self._catalog.transaction():
            _, _, surviving = self._drop_all(record)
        self._purge(None if surviving else record, _PURGE_SECONDS)

    def _purge(self, record: SessionRecord | None, patience: float) -> bool:
        """See that no value of this session, and of others that ended, is in the catalog's log; False while another kernel reads an older state: then
        it is done later."""
        with self._lock:
            self._owed += [] if record is None else [record]
            owed = list(self._owed)
        if not owed:
            return True
        emptied = self._emptied(patience)
        if emptied:
            with self._lock:
                self._owed = [each for each in self._owed if each not in owed]
                self._gone += owed
        elif record is not None:
            with self._wake:
                self._scan_on()  # it may have found nothing to do, and ended
            with (
                contextlib.suppress(JammiError),
                self._catalog.transaction(),
            ):  # the end of the session did not wait for the disk; this does, for both
                self._catalog.sessions.keep_ended(record)
        return emptied

    def _emptied(self, patience: float) -> bool:
        """Whether the catalog's log holds nothing of what was deleted."""
        with contextlib.suppress(JammiError), self._emptying:  # two at once would each find the log busy
            return self._catalog.database.purge(patience)
        return False

    def _settle(self) -> None:
        """Remove the rows of sessions of which nothing else is left. (Otherwise that waits for a commit that is made anyway.)"""
        if self._gone:
            with contextlib.suppress(JammiError):
                self._forget_gone()

    def _forget_gone(self) -> None:
        with self._lock:
            gone, self._gone = self._gone, []
        self._catalog.sessions.forget(gone)

    # -- the scanner ---------------------------------------------------------------------------------------------------------------

    def _left(self) -> list[Held]:
        """The held sessions whose handles were let go of."""
        found = []
        while True:
            try:
                found.append(self._held.get(self._forgotten.get_nowait()))
            except queue.Empty:
                return [held for held in found if held is not None]

    def _scan_on(self) -> None:
        if self._scanner is None and not self._stopping:
            self._scanner = threading.Thread(target=self._scan_forever, name="jammi-sessions", daemon=True)
            self._scanner.start()

    def _scan_forever(self) -> None:
        while True:
            with self._wake:
                if self._stopping or not (self._held or self._owed):
                    self._scanner = None
                    return
                self._wake.wait(TICK_SECONDS)
                if self._stopping:
                    self._scanner = None
                    return
            with contextlib.suppress(Exception):  # without a scanner no deadline would be kept any more
                self.scan()


_TIMED_OUT = "its deadline is past"


def _said(moment_ns: int | None) -> str | None:
    return None if moment_ns is None else rfc3339(moment_ns)


def _over(why: str) -> SessionClosed:
    return SessionClosed(f"The session is over: {why}.", hint="Open another one: ws.ephemeral().")
