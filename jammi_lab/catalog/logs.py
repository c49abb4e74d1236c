"""Logs of Arrow batches: topics and mutable tables, with their records and entries.

The transaction that appends an entry assigns its position, and writes are serialised: positions
have no gaps, and after an entry is visible no entry before it appears. Nothing here interprets the
batches.

Each log has a database table of its own because dropping it frees, and so overwrites, all of its
pages; in a shared table, deleted values could remain in pages that other logs still use. It has no
tenant column: it is reached only through a record that was found in scope.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import Connection, Statement, driver_errors
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.row_mapping import RowMapping
from jammi_lab.catalog.schema import Table, TableColumn, logs
from jammi_lab.catalog.tenant_scope import TenantPredicate, tenant_parameters
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    TableDamaged,
    TableNotFound,
    TopicNotFound,
    invalid_row_error,
)
from jammi_lab.core.identifiers import fold
from jammi_lab.core.input_kinds import input_kind
from jammi_lab.core.value import Value

MAX_ENTRY_BYTES = 256 << 20
"""Maximum bytes of one entry."""
MAX_NUMBER = 2**53
"""Above every position, and every number of seconds, of a log."""


class LogRecord(Value, frozen=True, kw_only=True):
    """A log of Arrow batches: a topic, or a mutable table, whose rows are its log folded by key."""

    log_id: int = 0
    """Never reused: a log created again under the same name has another one."""
    kind: str
    """Topic or mutable table."""
    name: str
    schema: bytes
    """The Arrow schema of its rows, as an IPC message."""
    key: list[str] = []
    """The primary key columns of a mutable table."""
    tenant: str | None = None
    """The owning tenant; None when shared."""
    first: int = 0
    """The position of the oldest entry; of a mutable table, the oldest version from which the
    changes are known."""
    next: int = 0
    """The position of the next entry; of a mutable table, its version."""
    row_count: int = 0
    """The number of rows: of a mutable table, or in all events of a topic."""
    session: str | None = None
    """The ephemeral session that owns it."""
    created_at: str = ""
    """When it was created, RFC 3339."""
    commit_id: str = ""
    """Distinguishes the newest entry from any other at that position, such as one that was written
    before the catalog was restored from a backup. Empty before the first."""

    def __post_init__(self) -> None:
        """Raises TableDamaged for positions that no log has."""
        if not 0 <= self.first <= self.next < MAX_NUMBER:
            raise invalid_row_error()

    @property
    def is_table(self) -> bool:
        """Whether it is a mutable table, which alone has a key."""
        return bool(self.key)

    @property
    def version(self) -> int:
        """The number of commits to a mutable table."""
        return self.next

    @property
    def oldest(self) -> int:
        """The position of the oldest stored entry. A mutable table that does not begin at 0 has the
        rows of version `first` in the entry before that."""
        return max(self.first - 1, 0) if self.is_table else self.first

    @property
    def label(self) -> str:
        """The log at the beginning of a sentence."""
        return f"The {input_kind(self.kind).word} {self.name!r}"


_LOG = RowMapping(
    logs,
    LogRecord,
    renamed={
        "arrow_schema": "schema",
        "key_columns": "key",
        "first_position": "first",
        "next_position": "next",
        "session_id": "session",
    },
    derived={"name_fold": lambda record: fold(record.name)},
)
_SELECT = f"SELECT {_LOG.columns} FROM logs WHERE"
_NAMED = "logs.kind = :log_kind AND logs.name_fold = :fold"
_OWN_ID = f"{scope.owned_by('logs')} AND logs.log_id = :id"
_GET = Statement(
    f"{_SELECT} {scope.visible('logs')} AND {_NAMED} ORDER BY {scope.own_first('logs')} LIMIT 1"
)
_OF_OWNER = Statement(f"{_SELECT} {scope.owned_by('logs')} AND {_NAMED}")
_BY_ID = Statement(f"{_SELECT} {scope.visible('logs')} AND logs.log_id = :id")
_LIST = Statement(
    f"{_SELECT} {scope.visible('logs')} AND logs.kind = :log_kind "
    "AND coalesce(logs.session_id, '') = coalesce(:session, '') "
    f"ORDER BY logs.name_fold, {scope.own_first('logs')}"
)
_INSERT = Statement(logs.insert)
_ADVANCE = Statement(
    logs.update("first_position", "next_position", "row_count", "commit_id") + f" WHERE {_OWN_ID}"
)
_DELETE = Statement(f"DELETE FROM logs WHERE {_OWN_ID}")
# The tables of entries: {} is the name of one.
_CREATE_ENTRIES = (
    "CREATE TABLE {} (position INTEGER NOT NULL PRIMARY KEY, produced_at TEXT NOT NULL, "
    "row_count INTEGER NOT NULL, commit_id TEXT NOT NULL, digest TEXT NOT NULL, body BLOB NOT NULL)"
)
_COLUMNS = ("position", "produced_at", "row_count", "commit_id", "digest", "body")
_COLUMN_TYPES = [int, str, int, str, str, bytes]
_INSERT_ENTRY = (
    f"INSERT INTO {{}} ({', '.join(_COLUMNS)}) VALUES "
    "(:position, :produced_at, :row_count, :commit_id, :digest, :body)"
)
_RANGE = "position >= :start AND position < :stop ORDER BY position"
_ENTRIES = f"SELECT {', '.join(_COLUMNS)} FROM {{}} WHERE {_RANGE}"
_SIZES = f"SELECT position, length(body) FROM {{}} WHERE {_RANGE} LIMIT :number"
_ROWS_BEFORE = "SELECT coalesce(sum(row_count), 0) FROM {} WHERE position < :position"
_DELETE_BEFORE = "DELETE FROM {} WHERE position < :position"
_REPLACE = (
    "UPDATE {} SET row_count = :row_count, digest = :digest, body = :body "
    "WHERE position = :position"
)


class Entry(Value, frozen=True):
    """One entry as it is stored."""

    position: int
    produced_at: str
    row_count: int
    """The rows of an event; of a commit, those that were put: the rest of its batch is the keys of
    rows that were removed."""
    commit_id: str
    digest: str
    """The SHA-256 of all others."""
    body: bytes
    """One Arrow record batch."""

    def seal(self) -> Entry:
        """The entry with its digest."""
        head = f"{self.position} {self.produced_at} {self.row_count} {self.commit_id} ".encode()
        digest = hashlib.sha256(head + self.body).hexdigest()
        return self.with_values(digest=digest)


class NewEntry(Value, frozen=True):
    """What is to be appended."""

    body: bytes
    """One Arrow record batch."""
    row_count: int
    """See `Entry`."""
    rows_after: int
    """The row count of the log afterwards."""


class LogRepository:
    """The logs of one kind in the bound scope."""

    def __init__(
        self, database: Database, active_scope: TenantPredicate, clock: Clock, kind: str
    ) -> None:
        self._database, self._scope, self._clock, self._kind = database, active_scope, clock, kind

    # -- records

    def create(
        self,
        name: str,
        schema: bytes,
        *,
        key: Sequence[str] = (),
        session: str | None = None,
    ) -> tuple[LogRecord, bool]:
        """The log of the bound owner of that name, and whether it was created by this call. Raises
        WorkspaceReadOnly."""
        tenant = self._scope.tenant
        record = LogRecord(
            log_id=int(self._clock.token(16), 16) >> 1,
            kind=self._kind,
            name=name,
            schema=schema,
            key=list(key),
            tenant=tenant,
            session=session,
            created_at=rfc3339(self._clock.now_ns()),
        )
        wanted = scope.name_key(tenant, name) | {"log_kind": self._kind}
        with self._database.write() as tx:
            for row in _OF_OWNER.fetch(tx, wanted):
                return _LOG.decode(row), False
            create = _CREATE_ENTRIES.format(entries_table(record.log_id))
            tx.execute(self._database.dialect.ddl(create))
            _INSERT.execute(tx, _LOG.encode(record))
        return record, True

    def get(self, name: str) -> LogRecord | None:
        """The log of that name, own before shared."""
        parameters = self._scope.parameters(log_kind=self._kind, fold=fold(name))
        return _LOG.first(self._database.fetch(_GET, parameters))

    def list(self, session: str | None = None) -> list[LogRecord]:
        """The logs of a session, or all that belong to none, by name, without shared ones that own
        ones hide."""
        parameters = self._scope.parameters(log_kind=self._kind, session=session)
        rows = self._database.fetch(_LIST, parameters)
        return self._scope.without_hidden(map(_LOG.decode, rows))

    def refresh(self, record: LogRecord) -> LogRecord:
        """The current record, whoever is bound. Raises TopicNotFound or TableNotFound when the log
        was dropped."""
        return self._by_id(record, tenant_parameters(record.tenant, id=record.log_id))

    def current(self, record: LogRecord) -> LogRecord:
        """The current record, if the bound tenant sees it. Raises as `refresh`."""
        return self._by_id(record, self._scope.parameters(id=record.log_id))

    def _by_id(self, record: LogRecord, parameters: dict[str, Any]) -> LogRecord:
        rows = self._database.fetch(_BY_ID, parameters)
        if not rows:
            raise _dropped_error(record)
        return _LOG.decode(rows[0])

    def drop(self, record: LogRecord) -> int:
        """Drop a log with its entries; return how many rows it had, 0 when it no longer existed.
        Raises TenantForbidden."""
        self._scope.check_owner(record.tenant, record.label)
        with self._database.write() as tx:
            rows = _BY_ID.fetch(tx, tenant_parameters(record.tenant, id=record.log_id))
            tx.execute(f"DROP TABLE IF EXISTS {entries_table(record.log_id)}")
            _DELETE.execute(tx, _key(record))
        return _LOG.decode(rows[0]).row_count if rows else 0

    # -- entries

    def append(
        self, record: LogRecord, make: Callable[[LogRecord, str], NewEntry | None]
    ) -> LogRecord | None:
        """Append what `make` returns for the current record and the id of the commit, in one
        transaction; return the record afterwards, or None where it returned None. Durable when the
        call returns, unless the caller has begun a transaction.

        Raises what `make` raises; TopicNotFound or TableNotFound; TenantForbidden.
        """
        after: LogRecord | None = None
        try:
            with self._database.write() as tx:
                current = self.current(record)
                self._scope.check_owner(current.tenant, current.label)
                commit_id = self._clock.token(16)
                if (new := make(current, commit_id)) is None:
                    return None
                after = current.with_values(
                    next=current.next + 1,
                    row_count=new.rows_after,
                    commit_id=commit_id,
                )
                now = rfc3339(self._clock.now_ns())
                entry = Entry(current.next, now, new.row_count, commit_id, "", new.body)
                self._run(tx, _INSERT_ENTRY, record, **msgspec.structs.asdict(entry.seal()))
                self._advance(tx, after)
        except Exception:
            # the connection to a server may be lost after the commit, before its answer
            if after is None or not self._was_committed(after):
                raise
        return after

    def _was_committed(self, after: LogRecord) -> bool:
        with contextlib.suppress(JammiError, *driver_errors()):
            entries = self.entries(after, after.next - 1, after.next)
            return [entry.commit_id for entry in entries] == [after.commit_id]
        return False

    def entries(self, record: LogRecord, start: int, stop: int) -> Sequence[Entry]:
        """The entries from `start` up to, but not including, `stop`, in order. Raises TableDamaged
        for one that does not match its digest; TopicNotFound or TableNotFound."""
        with self.reading(record) as tx:
            rows = self._fetch(tx, _ENTRIES, record, start=start, stop=stop)
        entries = [Entry(*row) for row in rows]
        for row, entry in zip(rows, entries, strict=True):
            if [*map(type, row)] != _COLUMN_TYPES or entry.seal().digest != entry.digest:
                raise TableDamaged(
                    f"{record.label} is damaged: entry {entry.position} does not match its digest.",
                    table=record.name,
                    hint="A backup of the catalog may contain it.",
                )
        return entries

    def check(self, record: LogRecord) -> None:
        """Read all entries. Raises TableDamaged for one that is missing or not as it was written;
        TopicNotFound or TableNotFound."""
        with self.reading(record):
            current = self.refresh(record)
            entries = self.entries(current, current.oldest, current.next)
        if [entry.position for entry in entries] != list(range(current.oldest, current.next)):
            raise TableDamaged(
                f"{record.label} is damaged: it has {len(entries)} of "
                f"{current.next - current.oldest} entries.",
                table=record.name,
                hint="A backup of the catalog may contain the others.",
            )

    def damaged_names(self) -> Sequence[str]:
        """The names of those that the bound tenant sees and that `check` finds damaged."""
        names = []
        for record in self.list():
            try:
                self.check(record)
            except TableDamaged:
                names.append(record.name)
            except (TableNotFound, TopicNotFound):  # dropped meanwhile
                continue
        return names

    def sizes(
        self, record: LogRecord, start: int, stop: int, max_entries: int
    ) -> Sequence[tuple[int, int]]:
        """Position and bytes of at most `max_entries` entries from `start`, before `stop`. Raises
        TopicNotFound."""
        with self.reading(record) as tx:
            return self._fetch(tx, _SIZES, record, start=start, stop=stop, number=max_entries)

    def trim(self, record: LogRecord, first: int) -> None:
        """Delete the entries before a position."""
        if first <= record.first:
            return
        with self._database.write() as tx:
            current = self.refresh(record)
            if first <= current.first:
                return
            [(removed,)] = self._fetch(tx, _ROWS_BEFORE, record, position=first)
            self._run(tx, _DELETE_BEFORE, record, position=first)
            left = current.row_count - int(removed)
            self._advance(tx, current.with_values(first=first, row_count=left))

    def compact(self, record: LogRecord, first: int, body: bytes, row_count: int) -> None:
        """Replace the entries before a position by the rows that a table had there. Inside the
        caller's transaction."""
        with self._database.write() as tx:
            [last] = self.entries(record, first - 1, first)
            base = last.with_values(body=body, row_count=row_count).seal()
            self._run(tx, _DELETE_BEFORE, record, position=base.position)
            self._run(tx, _REPLACE, record, **msgspec.structs.asdict(base))
            self._advance(tx, record.with_values(first=first))

    def _advance(self, tx: Connection, record: LogRecord) -> None:
        moved = {
            "first_position": record.first,
            "next_position": record.next,
            "row_count": record.row_count,
            "commit_id": record.commit_id,
        }
        _ADVANCE.execute(tx, _key(record) | moved)

    @contextlib.contextmanager
    def reading(self, record: LogRecord) -> Iterator[Connection]:
        """A read transaction on one log. Raises TopicNotFound or TableNotFound when it is dropped
        meanwhile: a server drops a table even while somebody reads an older state."""
        try:
            with self._database.read() as tx:
                yield tx
        except TableDamaged:
            with contextlib.suppress(*driver_errors()):
                self.refresh(record)
            raise

    @staticmethod
    def _fetch(tx: Connection, text: str, record: LogRecord, **values: Any) -> Sequence[Any]:
        return tx.fetch(text.format(entries_table(record.log_id)), values)

    @staticmethod
    def _run(tx: Connection, text: str, record: LogRecord, **values: Any) -> None:
        tx.execute(text.format(entries_table(record.log_id)), values)


def check_entry_size(size: int) -> None:
    """Raise InvalidArgument for a new entry of more bytes than a log takes."""
    if size > MAX_ENTRY_BYTES:
        raise InvalidArgument(
            f"One call writes at most {MAX_ENTRY_BYTES >> 20} MiB; nothing was written.",
            hint="Pass the rows in parts.",
        )


def entries_table(log_id: int) -> str:
    """The name of the table that holds the entries of a log."""
    return f"log_{log_id % 2**63:x}"  # nobody assigns a negative id, and it is no name


def entries_columns(log_id: int) -> Table:
    """That table, for a backup."""
    columns = {name: TableColumn(name, name, {object}) for name in _COLUMNS}
    return Table(entries_table(log_id), columns)


def create_entries_statement(log_id: int) -> str:
    """The statement that creates that table, in SQLite's dialect."""
    return _CREATE_ENTRIES.format(entries_table(log_id))


def _dropped_error(record: LogRecord) -> JammiError:
    error = TableNotFound if record.is_table else TopicNotFound
    return error(
        f"{record.label} no longer exists.",
        hint=f"ws.{input_kind(record.kind).schema}.list() lists those that do.",
    )


def _key(record: LogRecord) -> dict[str, Any]:
    return scope.owner_key(record.tenant, id=record.log_id)
