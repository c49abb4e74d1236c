"""Commits to mutable tables: durable when the call returns, each with a version of its own, and those that come at once in one transaction.

A commit waits for the disk. While one thread does, others queue up; whoever is next takes the whole queue with it. Each change is judged on what
those before it left, before anything of it is written, so that one that is refused takes nothing from the others.
"""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.mutable_rows import Body, physical
from jammi_lab.catalog.schema import mutables
from jammi_lab.catalog.scope import Scope
from jammi_lab.errors import JammiError, TableNotFound, TenantForbidden
from jammi_lab.values.mutables import Committed, MutableRecord

MOST = 64
"""Changes that one transaction takes."""
_TRIM_EVERY = 16
_STATE = (mutables.c.tenant_id, mutables.c.version, mutables.c.first_kept, mutables.c.row_count)
_NOW = scope.select(*_STATE, seen=mutables).where(mutables.c.table_id == sa.bindparam("of_table", type_=sa.BigInteger))
_VERSION = scope.select(mutables.c.version, seen=mutables).where(mutables.c.table_id == sa.bindparam("of_table", type_=sa.BigInteger))
_ADVANCE = scope.update_of(mutables).where(mutables.c.table_id == sa.bindparam("of_table", type_=sa.BigInteger))


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

    put: Mapping[bytes, bytes] = field(default_factory=dict)
    """The bodies of rows that are to be there."""
    remove: Collection[bytes] = ()
    """The keys of rows that are to be gone."""
    anew: bool = False
    """Whether none of `put` may be there already."""
    rests_on: Mapping[int, int] = field(default_factory=dict)
    """Versions, by table, on which it was computed; it holds only while they are the newest."""


@dataclass(eq=False)
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


class _State:
    """A table within one transaction: as it was, and as it is after the changes so far."""

    def __init__(self, tx: sa.Connection, asked: _Asked, keys: Sequence[bytes]) -> None:
        self.tenant, self.version, self.first_kept, self.rows = tx.execute(_NOW, {**asked.params, "of_table": asked.record.table_id}).one()
        self.kept, self.keep = physical(asked.record.table_id), asked.keep
        self.was: dict[bytes, bytes] = self.kept.bodies(tx, keys)
        self.now: dict[bytes, Body] = dict(self.was)
        self.log: dict[int, list[tuple[bytes, Body]]] = {}

    def take(self, change: Change) -> Committed:
        """Make one change. Present."""
        now = self.now
        if change.anew and (there := [body for key in change.put if (body := now.get(key)) is not None]):
            raise Present(there)
        new = [key for key in change.put if now.get(key) is None]
        other = [key for key, body in change.put.items() if (was := now.get(key)) is not None and was != body]
        gone = [key for key in change.remove if now.get(key) is not None]
        if touched := [(key, now.get(key)) for key in (*new, *other, *gone)]:
            self.version += 1
            self.rows += len(new) - len(gone)
            self.log[self.version] = touched
            now.update(change.put)
            now.update(dict.fromkeys(gone))
        return Committed(self.version, len(new), len(other), len(gone), len(change.put) + len(gone))

    def flush(self, tx: sa.Connection, table_id: int) -> None:
        """Write what came of it."""
        if not self.log:
            return
        put = {key: body for key, body in self.now.items() if body is not None and self.was.get(key) != body}
        self.kept.write(tx, put, [key for key in self.was if self.now[key] is None])
        self.kept.log(tx, self.log)
        oldest = self.version - max(self.keep, 1)
        if oldest > self.first_kept and (oldest - self.first_kept >= _TRIM_EVERY or self.keep <= _TRIM_EVERY):
            self.kept.trim(tx, oldest)
            self.first_kept = oldest
        advanced = {"version": self.version, "first_kept": self.first_kept, "row_count": self.rows}
        tx.execute(_ADVANCE, {"of_table": table_id, "owner": self.tenant or "", **advanced})


class Commits:
    """Makes changes of mutable tables durable."""

    def __init__(self, database: Database, bound: Scope) -> None:
        self._database, self._scope = database, bound
        self._turn, self._guard = threading.Lock(), threading.Lock()
        self._waiting: list[_Asked] = []

    def commit(self, record: MutableRecord, change: Change, keep: int) -> Committed:
        """Make a change durable as the next version; a change after which nothing differs takes none. `keep`: how many versions back the changes
        stay known. Inside of a transaction it is part of that. Present; Moved; TableNotFound; TenantForbidden."""
        asked = _Asked(record, change, keep, self._scope.params(), self._forbidden(record))
        if self._database.writing:
            self._together([asked])
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
        with self._guard:
            self._waiting.append(asked)
        try:
            while not asked.done:
                with self._turn:
                    if not asked.done:
                        self._lead(asked)
        finally:
            with self._guard:
                if asked in self._waiting:  # an interrupt: nobody commits what nobody waits for
                    self._waiting.remove(asked)

    def _lead(self, own: _Asked) -> None:
        with self._guard:
            group = [own, *(each for each in self._waiting if each is not own)][:MOST]
            self._waiting = [each for each in self._waiting if each not in group]
        try:
            self._together(group)
        except BaseException as error:
            with self._guard:
                self._waiting = [each for each in group if each is not own] + self._waiting
            if len(group) == 1 or not isinstance(error, Exception):
                raise
            self._together([own])  # what failed may have been another's

    def _together(self, group: Sequence[_Asked]) -> None:
        """One transaction for all of them."""
        with self._database.write() as tx:
            states: dict[int, _State] = {}
            for asked in group:
                asked.outcome = self._one(tx, asked, group, states)
            for table_id, state in states.items():
                state.flush(tx, table_id)
        for asked in group:
            asked.done = True

    @staticmethod
    def _one(tx: sa.Connection, asked: _Asked, group: Sequence[_Asked], states: dict[int, _State]) -> Committed | Exception:
        table_id = asked.record.table_id
        if tx.execute(_VERSION, {**asked.params, "of_table": table_id}).first() is None:
            return TableNotFound(f"The mutable table {asked.record.name!r} is not there any more.", hint="ws.mutable.list() shows what there is.")
        if asked.forbidden is not None:
            return asked.forbidden
        if table_id not in states:
            same = [each.change for each in group if each.record.table_id == table_id]
            states[table_id] = _State(tx, asked, list(dict.fromkeys(key for change in same for key in (*change.put, *change.remove))))
        for table, version in asked.change.rests_on.items():
            there = states.get(table)
            newest = there.version if there is not None else tx.execute(_VERSION, {**asked.params, "of_table": table}).scalar()
            if newest != version:
                return Moved()
        try:
            return states[table_id].take(asked.change)
        except Present as error:
            return error
