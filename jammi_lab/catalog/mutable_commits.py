"""Commits to mutable tables: one transaction each, durable when the call returns.

New rows are inserted without looking for existing ones first; the database reports a conflict, and
the transaction is then repeated with a lookup. Conflicts are rare.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.checks import BLOCKING_STAMP
from jammi_lab.catalog.database import CompiledStatement, Database
from jammi_lab.catalog.mutable_storage import Body, Key, physical_tables
from jammi_lab.catalog.schema import mutables
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.errors import JammiError, TableNotFound
from jammi_lab.core.records import Committed, MutableRecord

_MAX_UNTRIMMED_VERSIONS = 16
"""Versions by which the history may exceed its limit before it is trimmed."""
_table_is = mutables.c.table_id == sa.bindparam("of_table", type_=sa.BigInteger)
_GET_STATE = CompiledStatement(
    scope.select(
        mutables.c.tenant_id,
        mutables.c.version,
        mutables.c.first_kept,
        mutables.c.row_count,
        BLOCKING_STAMP.label("checks"),
        tables=mutables,
    ).where(_table_is)
)
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


class _UncheckedConflict(Exception):
    """A row inserted without a lookup exists already. Internal."""


class Commits:
    """Makes changes of mutable tables durable."""

    def __init__(
        self, database: Database, active_scope: TenantPredicate, new_commit_id: Callable[[], str]
    ) -> None:
        self._database, self._scope = database, active_scope
        self._new_commit_id = new_commit_id
        self._turn = threading.Lock()  # SQLite's own waiting for a lock sleeps too long

    def commit(self, record: MutableRecord, change: Change, kept_versions: int) -> Committed:
        """Commit a change durably as the next version; a change without effect takes no version.
        `kept_versions`: how many versions of history remain readable. Inside a transaction it
        becomes part of that.

        Raises ExistingRow; VersionMoved; UncheckedRows; TableNotFound; TenantForbidden.
        """
        transaction = _Transaction(record, change, kept_versions)
        if self._database.writing:
            # part of the caller's transaction, which cannot be rolled back partly: with a lookup
            return self._run(transaction, read_first=True)
        with self._turn:
            if change.must_be_new and not change.remove:
                with contextlib.suppress(_UncheckedConflict):
                    return self._run(transaction, read_first=False)
            return self._run(transaction, read_first=True)

    def _run(self, transaction: "_Transaction", *, read_first: bool) -> Committed:
        try:
            with self._database.write() as tx:
                self._check(tx, transaction)
                return transaction.apply(tx, self._new_commit_id(), read_first=read_first)
        except (_UncheckedConflict, ExistingRow, VersionMoved, UncheckedRows):
            raise
        except Exception:
            # the connection to a server may be lost after the commit, before its answer
            if self._was_committed(transaction):
                return transaction.outcome
            raise

    def _check(self, tx: sa.Connection, transaction: "_Transaction") -> None:
        """Read the state of the table, and raise where the change may not be applied to it."""
        record, change = transaction.record, transaction.change
        parameters = self._scope.parameters(of_table=record.table_id)
        if not (rows := _GET_STATE.fetch(tx, parameters)):
            raise TableNotFound(
                f"The mutable table {record.name!r} no longer exists.",
                hint="ws.mutable.list() lists the mutable tables.",
            )
        self._scope.check_owner(record.tenant, f"The mutable table {record.name!r}")
        transaction.tenant, transaction.version, *counts, checks = rows[0]
        transaction.first_kept, transaction.row_count = counts
        if checks != change.checks:
            raise UncheckedRows
        for table, version in change.read_versions.items():
            newest = _GET_VERSION.fetch(tx, self._scope.parameters(of_table=table))
            if not newest or newest[0][0] != version:
                raise VersionMoved

    def _was_committed(self, transaction: "_Transaction") -> bool:
        if not transaction.log:
            return False
        with contextlib.suppress(JammiError), self._database.read() as tx:
            logged = dict(transaction.storage.since(tx, transaction.outcome.version - 1))
            return logged.get(transaction.outcome.version) == transaction.log
        return False


class _Transaction:
    """The commit of one change. `tenant`, `version`, `first_kept` and `row_count` are those of the
    table before it."""

    tenant: str | None
    version: int
    first_kept: int
    row_count: int
    outcome: Committed

    def __init__(self, record: MutableRecord, change: Change, kept_versions: int) -> None:
        self.record, self.change, self._kept_versions = record, change, kept_versions
        self.storage = physical_tables(record.table_id, record.numbered)
        self.log: list[tuple[Key, Body]] = []
        """Each touched key with the row before."""

    def apply(self, tx: sa.Connection, commit_id: str, *, read_first: bool) -> Committed:
        """Write the change, the next version and the history. `read_first=False`: all its rows are
        new. Raises ExistingRow; _UncheckedConflict where they are not."""
        put, remove = self.change.put, self.change.remove
        before = self.storage.bodies(tx, [*put, *remove], checked=False) if read_first else {}
        existing = [key for key in put if key in before]
        if self.change.must_be_new and existing:
            raise ExistingRow([before[key] for key in existing])
        new = [key for key in put if key not in before] if before else list(put)
        replaced = [key for key in existing if before[key] != put[key]]
        removed = [key for key in remove if key in before]
        self.log = [
            *zip(new, itertools.repeat(None)),
            *((key, before[key]) for key in (*replaced, *removed)),
        ]
        is_change = bool(self.log)
        self.outcome = Committed(
            self.version + is_change, len(new), len(replaced), len(removed), len(put) + len(removed)
        )
        if not is_change:
            return self.outcome
        if read_first:
            self.storage.write(tx, {key: put[key] for key in (*new, *replaced)}, removed)
        elif not self.storage.insert_new(tx, put):
            raise _UncheckedConflict
        self.storage.log(tx, {self.outcome.version: self.log})
        advanced = {
            "version": self.outcome.version,
            "first_kept": self._trim(tx),
            "row_count": self.row_count + len(new) - len(removed),
            "commit_id": commit_id,
        }
        owner = {"of_table": self.record.table_id, "owner": self.tenant or ""}
        _ADVANCE.execute(tx, {**owner, **advanced})
        return self.outcome

    def _trim(self, tx: sa.Connection) -> int:
        """Delete the history that need not be kept; return the version to which it reaches back."""
        oldest = self.outcome.version - max(self._kept_versions, 1)
        excess = oldest - self.first_kept
        is_seldom = self._kept_versions > _MAX_UNTRIMMED_VERSIONS  # a trim costs a search
        if excess <= 0 or (is_seldom and excess < _MAX_UNTRIMMED_VERSIONS):
            return self.first_kept
        self.storage.trim(tx, oldest)
        return oldest
