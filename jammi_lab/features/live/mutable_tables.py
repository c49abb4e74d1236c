"""Mutable tables: keyed rows that can be inserted, updated and deleted, with one version per
commit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.logs import MAX_ENTRY_BYTES, LogRecord, NewEntry
from jammi_lab.core.errors import (
    DuplicateTable,
    InvalidArgument,
    JammiError,
    NameInvalid,
    NameTooLong,
    SchemaMismatch,
    TableNotFound,
)
from jammi_lab.core.identifiers import check_count, near_names
from jammi_lab.core.records import Committed
from jammi_lab.core.settings import Settings
from jammi_lab.features.live.fold import Fold, FoldCache, MutableSnapshot, body_of, stored_schema
from jammi_lab.features.live.table_changes import (
    CHANGE_COLUMN,
    VERSION_COLUMN,
    Change,
    VersionMoved,
    check_repeated_keys,
    effect_of,
    net_changes,
)
from jammi_lab.features.live.table_columns import check_columns
from jammi_lab.inputs.row_input import SchemaLike, schema_of, to_arrow_rows

MUTABLE = "mutable"
"""The schema of mutable tables in SQL."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_MAX_NAME_LENGTH = 63


class MutableTableService:
    """The mutable tables of one workspace in the bound tenant's scope. Every change is one atomic
    commit, durable when the call returns."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog, self._settings = catalog, settings
        self._logs = catalog.mutable_tables
        self._folds = FoldCache(self._logs, lambda: int(settings["mutable.memory_bytes"]))
        self.check_session: Callable[[LogRecord], None] | None = None
        """Asked about every table of an ephemeral session that is named; it raises when there is no
        access any more."""
        self.on_drop: Callable[[LogRecord], None] | None = None
        """Told of every table that somebody dropped; it removes what was kept of its values."""

    # -- which there are

    def find(self, name: str) -> LogRecord | None:
        """The table of that name, own before shared."""
        record = self._logs.get(name)
        if record is not None:
            self.check_access(record)
        return record

    def check_access(self, record: LogRecord) -> None:
        """Raise SessionClosed for a table of an ephemeral session that has ended or whose deadline
        has passed."""
        if record.session is not None and self.check_session is not None:
            self.check_session(record)

    def require(self, name: str) -> LogRecord:
        """The table of that name. Raises TableNotFound with near names."""
        record = self.find(name) if isinstance(name, str) else None
        if record is None:
            known = [each.name for each in self.list()]
            raise TableNotFound(
                f"There is no mutable table {name!r}.",
                near=near_names(str(name), known),
                hint=""
                if known
                else "ws.mutable.create(name, schema, primary_key=[…]) creates one.",
            )
        return record

    def list(self) -> list[LogRecord]:
        """All tables that belong to no session, by name."""
        return self._logs.list()

    def create(
        self,
        name: str,
        schema: SchemaLike,
        primary_key: Sequence[str],
        *,
        session: str | None = None,
    ) -> LogRecord:
        """Create an empty table of the bound tenant. The name of a session's table is not checked
        here.

        Raises NameInvalid, NameTooLong, SchemaMismatch, InvalidArgument, DuplicateTable,
        WorkspaceReadOnly.
        """
        if session is None:
            check_mutable_name(name)
        arrow_schema = schema_of(schema, reserved=(CHANGE_COLUMN, VERSION_COLUMN))
        key = check_columns(name, arrow_schema, primary_key)
        stored = arrow_schema.serialize().to_pybytes()
        record, is_new = self._logs.create(name, stored, key=key, session=session)
        if not is_new:
            raise DuplicateTable(
                f"The mutable table {name!r} already exists.",
                hint=f"ws.mutable.drop({name!r}) removes it and its rows.",
            )
        return record

    def drop(self, record: LogRecord) -> int:
        """Drop a table; return how many rows it had. Raises TenantForbidden, WorkspaceReadOnly."""
        rows = self._logs.drop(record)
        self._folds.evict(record)
        return rows

    def purge_values(self, record: LogRecord) -> None:
        """Remove the values of a dropped table from the log and from what was derived from it. See
        `Catalog.purge`."""
        self._catalog.purge()
        if self.on_drop is not None:
            self.on_drop(record)

    # -- rows

    def snapshot(self, record: LogRecord) -> MutableSnapshot:
        """The current rows and their version. Raises TableNotFound when the table was dropped."""
        return self._folds.newest(record)

    def current(self, record: LogRecord) -> LogRecord:
        """The current record of the same table. Raises TableNotFound when it was dropped, even if
        another table has its name."""
        self.check_access(record)
        return self._logs.current(record)

    def verify_rows(self, record: LogRecord) -> None:
        """Read all entries from the catalog. Raises TableDamaged, TableNotFound."""
        self._logs.check(record)

    def insert(self, record: LogRecord, rows: Any) -> Committed:
        """Insert rows, all or none. Raises DuplicateKey for a key that exists already or occurs
        twice; SchemaMismatch; InvalidArgument."""
        return self.commit(record, Change("insert", convert_rows(record, rows)))

    def upsert(self, record: LogRecord, rows: Any) -> Committed:
        """Insert rows and replace those whose key exists, all or none. Raises DuplicateKey for a
        key that occurs twice."""
        return self.commit(record, Change("upsert", convert_rows(record, rows)))

    def commit(self, record: LogRecord, change: Change) -> Committed:
        """Commit a change of rows of the table's own schema; one without effect takes no version.
        Raises DuplicateKey; internal: VersionMoved."""
        _check_null_keys(record, change.rows)
        check_repeated_keys(record, change.rows)
        committed = Committed(0)

        def make(current: LogRecord, commit_id: str) -> NewEntry | None:
            nonlocal committed
            for read in change.read:
                if self._logs.current(read).commit_id != read.commit_id:
                    raise VersionMoved
            with self._folds.use(current) as table:
                effect = effect_of(change, table, current)
                committed = effect.committed
                if committed.version == current.version:
                    return None
                # if the transaction fails, the fold has a commit that is not in the log: see `use`
                table.apply(effect.entry(current.version, commit_id))
            rows_after = current.row_count + committed.inserted - committed.deleted
            return NewEntry(effect.body, effect.put.num_rows, rows_after)

        after = self._logs.append(record, make)
        if after is not None:
            with contextlib.suppress(JammiError):  # the change is committed
                self._compact(after)
        return committed

    def _compact(self, record: LogRecord) -> None:
        """Replace what need not be kept of a log by the rows at that version. It is done when the
        log is twice as long as it has to be: it reads all of it."""
        kept_versions = max(self._settings["mutable.versions_kept"], 1)
        first = record.next - kept_versions
        if first - record.first <= kept_versions:
            return
        with self._catalog.transaction():
            current = self._logs.refresh(record)
            rows = self._folds.load(current, first).rows()
            if current.first == record.first and rows.nbytes <= MAX_ENTRY_BYTES:
                self._logs.compact(current, first, body_of(rows), rows.num_rows)

    def changes(self, record: LogRecord, since: int) -> tuple[LogRecord, pa.Table]:
        """The table as it is now, and the net effect of all commits after a version, one row for
        each key: the table's columns (of a deleted row only the key), `_change`, and `_version`,
        the last commit that touched it. Raises InvalidArgument for a future version or one outside
        the history."""
        since = check_count("A version", since)
        with self._logs.reading(record):
            current = self.current(record)
            if since > current.version:
                raise InvalidArgument(
                    f"The mutable table {record.name!r} has version {current.version}; version "
                    f"{since} does not exist yet."
                )
            if since < current.first:
                raise InvalidArgument(
                    f"The history of {record.name!r} begins at version {current.first}; version "
                    f"{since} is older.",
                    hint="Read the whole table and continue from its version. The setting "
                    "mutable.versions_kept is the length of the history.",
                )
            entries = self._logs.entries(current, since, current.next)
            before = self._folds.load(current, since) if entries else Fold(current)
        return current, net_changes(before, entries)


def check_mutable_name(name: str) -> str:
    """Return the name if it is valid for a mutable table. Raises NameInvalid, NameTooLong."""
    if isinstance(name, str) and len(name) > _MAX_NAME_LENGTH:
        raise NameTooLong(name, _MAX_NAME_LENGTH)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise NameInvalid(
            f"Invalid name for a mutable table: {name!r}. A name is 1 to {_MAX_NAME_LENGTH} of "
            "a–z, 0–9 and _, not beginning with _.",
            name=str(name),
        )
    return name


def convert_rows(record: LogRecord, rows: Any) -> pa.Table:
    """Convert rows to the schema of the table. Raises SchemaMismatch with the table's name;
    InvalidArgument."""
    try:
        return to_arrow_rows(rows, stored_schema(record), record.label)
    except SchemaMismatch as error:
        error.table = record.name
        raise


def _check_null_keys(record: LogRecord, rows: pa.Table) -> None:
    for column in record.key:
        if rows[column].null_count:
            raise SchemaMismatch(
                f"Column {column!r} is in the primary key of the mutable table "
                f"{record.name!r} and must not be NULL.",
                table=record.name,
                column=column,
                expected=str(rows.schema.field(column).type),
                actual="NULL",
            )
