"""Mutable tables: keyed rows that can be inserted, updated and deleted, with one version per
commit."""

import dataclasses
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.checks import blocking_stamp
from jammi_lab.catalog.mutable_commits import Change, ExistingRow, UncheckedRows, VersionMoved
from jammi_lab.catalog.mutable_storage import Key
from jammi_lab.catalog.mutable_tables import History, HistoryTrimmed
from jammi_lab.core.anchors import InputKind
from jammi_lab.core.checks import CheckRecord, Severity
from jammi_lab.core.errors import (
    CheckFailed,
    DuplicateKey,
    InvalidArgument,
    NameInvalid,
    NameTooLong,
    SchemaMismatch,
    TableNotFound,
    VersionConflict,
)
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.records import Committed, MutableRecord
from jammi_lab.core.settings import Settings
from jammi_lab.features.live.row_codec import Layout, cached_layout
from jammi_lab.features.live.snapshots import MutableSnapshot, SnapshotCache, apply_history
from jammi_lab.inputs.row_input import SchemaLike, schema_of, to_arrow_rows

MUTABLE = "mutable"
"""The schema of mutable tables in SQL."""
CHANGE_COLUMN, VERSION_COLUMN = "_change", "_version"
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_MAX_NAME_LENGTH = 63
_MAX_SHOWN_KEYS = 5
MAX_COMMIT_ATTEMPTS = 50
"""Attempts at a commit before VersionConflict is raised."""

CheckRows = Callable[[Sequence[CheckRecord], pa.Table], CheckFailed | None]


class MutableTableService:
    """The mutable tables of one workspace in the bound tenant's scope. Every change is one atomic
    commit, durable when the call returns."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog, self._settings = catalog, settings
        self._snapshots = SnapshotCache(
            catalog.mutable_tables, lambda: int(settings["mutable.memory_bytes"])
        )
        self.check_session: Callable[[MutableRecord], None] | None = None
        """Asked about every table of an ephemeral session that is named; it raises when there is no
        access any more."""
        self.on_drop: Callable[[MutableRecord], None] | None = None
        """Told of every table that somebody dropped; it removes what was kept of its values."""
        self.check_rows: CheckRows | None = None
        """Applies checks to the rows that a table is about to have; returns the error of one that
        does not pass."""
        self._check_lock = threading.Lock()

    # -- which there are

    def find(self, name: str) -> MutableRecord | None:
        """The table of that name, own before shared."""
        record = self._catalog.mutable_tables.get(name)
        if record is not None:
            self.check_access(record)
        return record

    def check_access(self, record: MutableRecord) -> None:
        """Raise SessionClosed for a table of an ephemeral session that has ended or whose deadline
        has passed."""
        if record.session is not None and self.check_session is not None:
            self.check_session(record)

    def require(self, name: str) -> MutableRecord:
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

    def list(self) -> list[MutableRecord]:
        """All tables that belong to no session, by name."""
        return self._catalog.mutable_tables.list()

    def create(
        self,
        name: str,
        schema: SchemaLike,
        primary_key: Sequence[str],
        *,
        session: str | None = None,
    ) -> MutableRecord:
        """Create an empty table of the bound tenant. The name of a session's table is not checked
        here.

        Raises NameInvalid, NameTooLong, SchemaMismatch, InvalidArgument, DuplicateTable,
        WorkspaceReadOnly.
        """
        if session is None:
            check_mutable_name(name)
        arrow_schema = schema_of(schema, reserved=(CHANGE_COLUMN, VERSION_COLUMN))
        key = _check_primary_key(name, arrow_schema, primary_key)
        shape = Layout(arrow_schema, key, name)
        record = MutableRecord(
            0,
            name,
            arrow_schema.serialize().to_pybytes(),
            key,
            self._catalog.scope.tenant,
            session=session,
            numbered=shape.numbered,
        )
        return self._catalog.mutable_tables.create(record)

    def drop(self, record: MutableRecord) -> int:
        """Drop a table; return how many rows it had. Raises TenantForbidden, WorkspaceReadOnly."""
        rows = self._catalog.mutable_tables.drop(record)
        self._snapshots.evict(record.table_id)
        return rows

    def purge_values(self, record: MutableRecord) -> None:
        """Remove the values of a dropped table from the log and from what was derived from it. See
        `Catalog.purge`."""
        self._catalog.purge()
        if self.on_drop is not None:
            self.on_drop(record)

    # -- rows

    def snapshot(self, record: MutableRecord) -> MutableSnapshot:
        """The current rows and their version. Raises TableNotFound when the table was dropped."""
        return self._snapshots.newest(record)

    def current(self, record: MutableRecord) -> MutableRecord:
        """The current record of the same table. Raises TableNotFound when it was dropped, even if
        another table has its name."""
        current_record = self.find(record.name)
        if current_record is None or current_record.table_id != record.table_id:
            raise TableNotFound(
                f"The mutable table {record.name!r} no longer exists.",
                hint="ws.mutable.list() lists the mutable tables.",
            )
        return current_record

    def verify_rows(self, record: MutableRecord) -> None:
        """Read all rows from the catalog. Raises TableDamaged, TableNotFound."""
        _, _, bodies = self._catalog.mutable_tables.rows(record.table_id)
        layout_of(record).table(bodies)

    def insert(self, record: MutableRecord, rows: Any) -> Committed:
        """Insert rows, all or none. Raises DuplicateKey for a key that exists already or occurs
        twice; SchemaMismatch; InvalidArgument."""
        return self.put(record, convert_rows(record, rows), must_be_new=True)

    def upsert(self, record: MutableRecord, rows: Any) -> Committed:
        """Insert rows and replace those whose key exists, all or none. Raises DuplicateKey for a
        key that occurs twice."""
        return self.put(record, convert_rows(record, rows), must_be_new=False)

    def put(
        self,
        record: MutableRecord,
        rows: pa.Table,
        *,
        must_be_new: bool,
        read_versions: Mapping[int, int] | None = None,
    ) -> Committed:
        """Commit rows of the table's own schema. Raises DuplicateKey; internal: VersionMoved."""
        shape = layout_of(record)
        keys = _keys_of(record, _check_null_keys(record, rows))
        put = dict(zip(keys, shape.bodies(rows), strict=True))
        if len(put) < len(keys):
            first_positions: dict[Key, int] = {}
            for position, key in enumerate(keys):
                first_positions.setdefault(key, position)
            unique = set(first_positions.values())
            repeated_positions = [n for n in range(len(keys)) if n not in unique]
            repeated = shape.bodies(rows.take(repeated_positions))
            raise _duplicate_error(record, shape, repeated, repeated=True)
        try:
            return self._commit(
                record, Change(put=put, must_be_new=must_be_new, read_versions=read_versions or {})
            )
        except ExistingRow as error:
            raise _duplicate_error(record, shape, error.bodies, repeated=False) from None

    def remove(
        self, record: MutableRecord, rows: pa.Table, read_versions: Mapping[int, int]
    ) -> Committed:
        """Commit the deletion of rows. Internal: raises VersionMoved."""
        return self._commit(
            record, Change(remove=_keys_of(record, rows), read_versions=read_versions)
        )

    def _commit(self, record: MutableRecord, change: Change) -> Committed:
        kept_versions = self._settings["mutable.versions_kept"]
        try:
            return self._catalog.mutable_tables.commit(record, change, kept_versions)
        except UncheckedRows:
            return self._commit_checked(record, change, kept_versions)

    def _commit_checked(
        self, record: MutableRecord, change: Change, kept_versions: int
    ) -> Committed:
        """Commit a change whose rows pass the blocking checks. CheckFailed, VersionConflict."""
        for _ in range(MAX_COMMIT_ATTEMPTS):
            with self._check_lock:  # only other kernels can make an attempt fail
                try:
                    return self._catalog.mutable_tables.commit(
                        record, self._checked_change(record, change), kept_versions
                    )
                except UncheckedRows:
                    continue
                except VersionMoved:
                    if change.read_versions:
                        raise
        raise VersionConflict(
            f"Other writers committed first {MAX_COMMIT_ATTEMPTS} times in a row; nothing was "
            f"changed in {record.name!r}.",
            hint="Run it again when they have finished.",
        )

    def _checked_change(self, record: MutableRecord, change: Change) -> Change:
        """The change, valid only for the checks that there are and for the version whose rows it
        changes. CheckFailed."""
        checks = [
            check
            for check in self._catalog.checks.of_recipe(
                record.tenant, record.name, InputKind.MUTABLE
            )
            if check.severity is Severity.BLOCK
        ]
        before = self.snapshot(self.current(record))
        version = before.record.version
        if change.read_versions.get(record.table_id, version) != version:
            raise VersionMoved
        rows_after = {**change.put, **dict.fromkeys(change.remove)}
        after = apply_history(before, History(before.record, {}, rows_after, {}))
        assert self.check_rows is not None, "set when the workspace was opened"
        if (failure := self.check_rows(checks, after.rows)) is not None:
            raise failure
        return dataclasses.replace(
            change,
            checks=blocking_stamp(checks),
            read_versions={**change.read_versions, record.table_id: version},
        )

    def changes(self, record: MutableRecord, since: int) -> tuple[MutableRecord, pa.Table]:
        """The table as it is now, and the net effect of all commits after a version, one row for
        each key: the table's columns (of a deleted row only the key), `_change`, and `_version`,
        the last commit that touched it. Raises InvalidArgument for a future version or one outside
        the history."""
        if isinstance(since, bool) or not isinstance(since, int) or since < 0:
            raise InvalidArgument(f"A version must be an integer of at least 0, got {since!r}.")
        current = self.current(record)
        try:
            history = self._catalog.mutable_tables.history(record.table_id, since)
        except ValueError:
            raise InvalidArgument(
                f"The mutable table {record.name!r} has version {current.version}; version "
                f"{since} does not exist yet."
            ) from None
        except HistoryTrimmed:
            raise InvalidArgument(
                f"The history of {record.name!r} begins at version {current.first_kept}; version "
                f"{since} is older.",
                hint="Read the whole table and continue from its version. The setting "
                "mutable.versions_kept is the length of the history.",
            ) from None
        shape, changes = layout_of(record), list[tuple[int, Any, str, bytes]]()
        for key, body_before in history.before.items():
            body = history.now[key]
            if body == body_before:
                continue
            change = "insert" if body_before is None else "delete" if body is None else "update"
            row_body = body if body is not None else shape.null_non_key(body_before or b"")
            changes.append((history.touched[key], key, change, row_body))
        changes.sort()
        nullable_layout = Layout(
            pa.schema([f.with_nullable(True) for f in shape.schema]), record.key
        )
        table = nullable_layout.table([body for *_, body in changes])
        table = table.append_column(
            CHANGE_COLUMN, pa.array([change for *_, change, _ in changes], pa.string())
        ).append_column(VERSION_COLUMN, pa.array([version for version, *_ in changes], pa.int64()))
        return history.record, table


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


def layout_of(record: MutableRecord) -> Layout:
    """The row layout of a table, with its schema."""
    return cached_layout(record.schema, tuple(record.key))


def _keys_of(record: MutableRecord, rows: pa.Table) -> Sequence[Key]:
    return layout_of(record).integer_keys(rows) if record.numbered else layout_of(record).keys(rows)


def convert_rows(record: MutableRecord, rows: Any) -> pa.Table:
    """Convert rows to the schema of the table. Raises SchemaMismatch with the table's name;
    InvalidArgument."""
    try:
        return to_arrow_rows(rows, layout_of(record).schema, f"The mutable table {record.name!r}")
    except SchemaMismatch as error:
        error.table = record.name
        raise


def _check_primary_key(name: str, schema: pa.Schema, primary_key: Sequence[str]) -> list[str]:
    columns = (
        [primary_key]
        if isinstance(primary_key, str)
        else list(primary_key)
        if isinstance(primary_key, Iterable)
        else []
    )
    if not columns:
        raise InvalidArgument(
            "A mutable table needs a primary key: the columns that identify a row.",
            hint=f"primary_key=[{schema.names[0]!r}]",
        )
    by_fold = {fold(column): column for column in schema.names}
    for column in columns:
        if not isinstance(column, str) or fold(column) not in by_fold:
            error = SchemaMismatch(
                f"The primary key of {name!r} names {column!r}, which is not one of its columns.",
                table=name,
                column=str(column),
                expected=", ".join(schema.names),
            )
            error.near = tuple(near_names(str(column), schema.names))
            raise error
    key = [by_fold[fold(column)] for column in columns]
    if len(set(key)) < len(key):
        raise InvalidArgument(
            f"The primary key of {name!r} names a column twice.", hint="Name each column once."
        )
    return key


def _check_null_keys(record: MutableRecord, rows: pa.Table) -> pa.Table:
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
    return rows


def _duplicate_error(
    record: MutableRecord, shape: Layout, bodies: Sequence[bytes], *, repeated: bool
) -> DuplicateKey:
    keys = [shape.key_values(body) for body in bodies]
    key_list = ", ".join(repr(key) for key in keys[:_MAX_SHOWN_KEYS]) + (
        f" and {len(keys) - _MAX_SHOWN_KEYS} more" if len(keys) > _MAX_SHOWN_KEYS else ""
    )
    where = "in the rows passed for" if repeated else "in"
    return DuplicateKey(
        f"These keys {'occur twice' if repeated else 'exist already'} {where} the mutable table "
        f"{record.name!r}: {key_list}; nothing was changed.",
        keys=keys,
        hint="" if repeated else "upsert replaces the rows that exist.",
    )
