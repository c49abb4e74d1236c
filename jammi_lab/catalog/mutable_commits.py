"""Commits to mutable tables: durable when the call returns, each with a version of its own, and those that come at once in one transaction.

A commit waits for the disk. While one thread does, others queue up; whoever is next takes the whole queue with it, and before that lets those come
who are about to: threads that have just been served mostly come again, and a transaction for all of them takes hardly longer than one for the first.
Each change is judged on what those before it left, before anything of it is written, so that one that is refused takes nothing from the others.

Rows that are to be new are written without looking for them first: the database finds the one that is there already, and all is made again with a
look. Most never are.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.direct import Direct
from jammi_lab.catalog.mutable_rows import Body, Key, physical
from jammi_lab.catalog.schema import mutables
from jammi_lab.catalog.scope import Scope
from jammi_lab.errors import JammiError, TableNotFound, TenantForbidden
from jammi_lab.values.mutables import Committed, MutableRecord

MOST = 64
"""Changes that one transaction takes."""
_ROWS = 1024
"""Rows after which it takes no further change: the rest of a transaction is little beside them, and meanwhile others can prepare theirs."""
_TRIM_EVERY = 16
_PATIENCE = 0.1
"""Seconds after which one that waits sees for itself: whoever was to wake it may have been interrupted."""
_FEW = 500
"""Rows of one change that are enough to begin with: what others prepare beside so large a write is worth more than a write less."""
_GATHER = 0.01
"""Seconds that are waited for others at most."""
_TIMES = 4
"""And never longer than so many times what the last transaction took: threads that were just served need about as long as that to come again."""
_STATE = (mutables.c.tenant_id, mutables.c.version, mutables.c.first_kept, mutables.c.row_count)
_this = mutables.c.table_id == sa.bindparam("of_table", type_=sa.BigInteger)
_NOW = Direct(scope.select(*_STATE, seen=mutables).where(_this))
_VERSION = Direct(scope.select(mutables.c.version, seen=mutables).where(_this))
_ADVANCE = Direct(scope.update_of(mutables).where(_this))


class Moved(Exception):
    """A table that the change rests on has another version than the one that was read; nothing was changed. Internal."""


class Present(Exception):
    """Keys that were to be new are there already; nothing was changed. Internal."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        super().__init__("present")
        self.bodies = list(bodies)


@dataclass(frozen=True)
class Change:
    """What is to become of the rows with some keys."""

    put: Mapping[Key, bytes] = field(default_factory=dict)
    """The bodies of rows that are to be there."""
    remove: Sequence[Key] = ()
    """The keys of rows that are to be gone."""
    anew: bool = False
    """Whether none of `put` may be there already."""
    rests_on: Mapping[int, int] = field(default_factory=dict)
    """Versions, by table, on which it was computed; it holds only while they are the newest."""


@dataclass(eq=False, slots=True)
class _Asked:
    """One change that waits for its commit."""

    record: MutableRecord
    change: Change
    keep: int
    params: Mapping[str, Any]
    """The tenant predicate as it was where it was asked for."""
    forbidden: JammiError | None
    outcome: Committed | Exception | None = None
    done: bool = False
    bell: threading.Lock = field(default_factory=threading.Lock)
    """Taken by the one that waits, and released when it is done or its turn has come."""
    following: "_Asked | None" = None
    """One of the same transaction, whom this one wakes."""
    rows: int = field(init=False)
    """How many it is about."""

    def __post_init__(self) -> None:
        self.rows = len(self.change.put) + len(self.change.remove)

    def ring(self) -> None:
        """Wake the one that waits."""
        try:  # noqa: SIM105  a context manager takes longer than what it is for
            self.bell.release()
        except RuntimeError:  # it rings already
            pass


class _Met(Exception):
    """A row that was to be new, and was not looked for, is there. Internal."""


class _State:
    """A table within one transaction: as it was, and as it is after the changes so far."""

    def __init__(self, asked: _Asked, row: Sequence[Any]) -> None:
        self.tenant, self.version, self.first_kept, self.rows = row
        self.kept, self.keep, self.seen_by = physical(asked.record.table_id, asked.record.numbered), asked.keep, [asked.params]
        self.unseen = True
        self.was: dict[Key, bytes] = {}
        self.now: dict[Key, Body] = {}
        self.log: dict[int, list[tuple[Key, Body]]] = {}

    def look(self, tx: sa.Connection, changes: Sequence[Change]) -> None:
        """See what the rows are that these changes are about."""
        self.unseen = False
        self.was = self.kept.bodies(tx, list(dict.fromkeys(key for change in changes for key in (*change.put, *change.remove))))
        self.now = dict(self.was)

    def take(self, change: Change) -> Committed:
        """Make one change. Present."""
        now, put = self.now, change.put
        there = {key for key in put if now.get(key) is not None} if now and not now.keys().isdisjoint(put) else ()
        if change.anew and there:
            raise Present([body for key in put if key in there and (body := now[key]) is not None])
        new = [key for key in put if key not in there] if there else list(put)
        other = [key for key in put if key in there and now[key] != put[key]] if there else []
        gone = [key for key in change.remove if now.get(key) is not None]
        if new or other or gone:
            self.version += 1
            self.rows += len(new) - len(gone)
            self.log[self.version] = [*zip(new, itertools.repeat(None)), *((key, now[key]) for key in (*other, *gone))]
            if now:
                now.update(put)
            else:
                self.now = now = dict(put)
            now.update(dict.fromkeys(gone))
        return Committed(self.version, len(new), len(other), len(gone), len(put) + len(gone))

    def there(self, tx: sa.Connection) -> bool:
        """Whether what came of it is in the database: the commits with their versions, and the rows."""
        logged = dict(self.kept.since(tx, self.version - len(self.log)))
        rows = self.kept.bodies(tx, list(self.now))
        return all(logged.get(version) == touched for version, touched in self.log.items()) and all(rows.get(k) == b for k, b in self.now.items())

    def flush(self, tx: sa.Connection, table_id: int) -> None:
        """Write what came of it. _Met."""
        if not self.log:
            return
        if self.unseen:
            if not self.kept.add(tx, self.now):
                raise _Met
        else:
            put = {key: body for key, body in self.now.items() if body is not None and self.was.get(key) != body}
            self.kept.write(tx, put, [key for key in self.was if self.now[key] is None])
        self.kept.log(tx, self.log)
        oldest = self.version - max(self.keep, 1)
        if oldest > self.first_kept and (oldest - self.first_kept >= _TRIM_EVERY or self.keep <= _TRIM_EVERY):
            self.kept.trim(tx, oldest)
            self.first_kept = oldest
        advanced = {"version": self.version, "first_kept": self.first_kept, "row_count": self.rows}
        _ADVANCE.change(tx, {"of_table": table_id, "owner": self.tenant or "", **advanced})


def _first_of(own: _Asked, waiting: list[_Asked]) -> tuple[list[_Asked], list[_Asked]]:
    """Who is served with this one, and who is left."""
    group, rows, rest = [own], own.rows, [each for each in waiting if each is not own]
    while rest[len(group) - 1 :] and len(group) < MOST and rows < _ROWS:
        group.append(rest[len(group) - 1])
        rows += group[-1].rows
    return group, rest[len(group) - 1 :]


class Commits:
    """Makes changes of mutable tables durable."""

    def __init__(self, database: Database, bound: Scope) -> None:
        self._database, self._scope = database, bound
        self._turn, self._guard, self._gathered = threading.Lock(), threading.Lock(), threading.Event()
        self._waiting: list[_Asked] = []
        self._expected = 1
        """How many asked lately: those of the last transaction, and those that came meanwhile."""
        self._took = 0.0
        """Seconds that the last transaction took."""

    def commit(self, record: MutableRecord, change: Change, keep: int) -> Committed:
        """Make a change durable as the next version; a change after which nothing differs takes none. `keep`: how many versions back the changes
        stay known. Inside of a transaction it is part of that. Present; Moved; TableNotFound; TenantForbidden."""
        asked = _Asked(record, change, keep, self._scope.params(), self._forbidden(record))
        if self._database.writing:  # what is part of a transaction cannot be taken back alone
            self._transact([asked], {}, look=True)
        else:
            self._in_turn(asked)
        if isinstance(asked.outcome, Exception):
            raise asked.outcome
        assert asked.outcome is not None, "a change is done when its turn is over"
        return asked.outcome

    def _forbidden(self, record: MutableRecord) -> JammiError | None:
        try:
            self._scope.check_owner(record.tenant, f"The mutable table {record.name!r}")
        except TenantForbidden as error:
            return error
        return None

    def _in_turn(self, asked: _Asked) -> None:
        """Wait for the turn, and take along whoever waits, too."""
        asked.bell.acquire()
        with self._guard:
            self._waiting.append(asked)
            if self._enough():
                self._gathered.set()
        try:
            self._until_done(asked)
        finally:
            if asked.following is not None:
                asked.following.ring()
            if not asked.done:
                with self._guard:
                    if asked in self._waiting:  # an interrupt: nobody commits what nobody waits for
                        self._waiting.remove(asked)

    def _until_done(self, asked: _Asked) -> None:
        """Not a loop inside `try`: CPython 3.13 takes an interrupt between two turns past the handlers (python/cpython#130279)."""
        while not asked.done:
            if self._turn.locked():  # those that are done do not queue up before those that are not
                asked.bell.acquire(timeout=_PATIENCE)
            if not asked.done:
                with self._turn:
                    if not asked.done:
                        self._lead(asked)
                self._ring_next()

    def _ring_next(self) -> None:
        with self._guard:
            for each in self._waiting[:1]:
                each.ring()

    def _gather(self) -> None:
        """Let those come who asked lately. Who comes alone, or in vain, is not kept waiting again."""
        with self._guard:
            if self._enough():
                return
            self._gathered.clear()
        self._gathered.wait(min(_TIMES * self._took, _GATHER))

    def _enough(self) -> bool:
        rows = [each.rows for each in self._waiting]
        return len(rows) >= self._expected or max(rows, default=0) >= _FEW or sum(rows) >= _ROWS

    def _taken(self, own: _Asked) -> list[_Asked]:
        """What the next transaction is for: this one and those that wait, first come first served."""
        with self._guard:
            group, self._waiting = _first_of(own, self._waiting)
        return group

    def _lead(self, own: _Asked) -> None:
        self._gather()
        began = time.monotonic()
        group = self._taken(own)
        states: dict[int, _State] = {}
        try:
            self._together(group, states)
            self._took, self._expected = time.monotonic() - began, len(group) + len(self._waiting)
            self._finish(group)
        except BaseException as error:
            if happened := self._happened(states):
                self._finish(group)
            else:
                with self._guard:
                    self._waiting = [each for each in group if each is not own] + self._waiting
            if not isinstance(error, Exception) or (len(group) == 1 and not happened):
                raise
            if not happened:
                self._together([own], {})  # what failed may have been another's
                self._finish([own])

    def _happened(self, states: Mapping[int, _State]) -> bool:
        """Whether a transaction that failed is committed all the same: an interrupt may come behind the commit, and a server be lost."""
        with contextlib.suppress(JammiError), self._database.read() as tx:
            return any(state.log for state in states.values()) and all(state.there(tx) for state in states.values())
        return False

    def _together(self, group: Sequence[_Asked], states: dict[int, _State]) -> None:
        """One transaction for all of them; `states` is what it made of each table."""
        with self._database.in_common():
            with contextlib.suppress(_Met):
                return self._transact(group, states, look=False)
            return self._transact(group, states, look=True)

    def _transact(self, group: Sequence[_Asked], states: dict[int, _State], *, look: bool) -> None:
        states.clear()
        with self._database.write() as tx:
            for asked in group:
                asked.outcome = self._one(tx, asked, group, states, look)
            for table_id, state in states.items():
                state.flush(tx, table_id)

    @staticmethod
    def _finish(group: Sequence[_Asked]) -> None:
        """Tell all of them, the first of whom is awake. Each wakes the next: awake all at once, they would only wait for the interpreter."""
        for asked, following in zip(group, [*group[1:], None], strict=True):
            asked.following = following
            asked.done = True

    @staticmethod
    def _one(tx: sa.Connection, asked: _Asked, group: Sequence[_Asked], states: dict[int, _State], look: bool) -> Committed | Exception:
        table_id = asked.record.table_id
        state = states.get(table_id)
        if state is None or asked.params not in state.seen_by:
            found = _NOW.rows(tx, {**asked.params, "of_table": table_id})
            if not found:
                return TableNotFound(f"The mutable table {asked.record.name!r} is not there any more.", hint="ws.mutable.list() shows what there is.")
            if asked.forbidden is not None:
                return asked.forbidden
            if state is None:
                state = states[table_id] = _State(asked, found[0])
                same = [each.change for each in group if each.record.table_id == table_id]
                if look or any(change.remove or not change.anew for change in same):
                    state.look(tx, same)
            state.seen_by.append(asked.params)
        if asked.forbidden is not None:
            return asked.forbidden
        for table, version in asked.change.rests_on.items():
            there = states.get(table)
            newest = [(there.version,)] if there is not None else _VERSION.rows(tx, {**asked.params, "of_table": table})
            if not newest or newest[0][0] != version:
                return Moved()
        try:
            return state.take(asked.change)
        except Present as error:
            return error
