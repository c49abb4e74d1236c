"""Handles of mutable tables: `ws.mutable` and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.logs import LogRecord
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.errors import InvalidArgument, ParameterMissing, SessionClosed
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import NamedCollection, Rendered, ReprMixin, count_noun, plain_text
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.row_conditions import positions_in
from jammi_lab.features.live.dml_commits import DmlCommitter, delete_statement, update_statement
from jammi_lab.features.live.fold import stored_schema
from jammi_lab.features.live.mutable_tables import MUTABLE, MutableTableService
from jammi_lab.inputs.row_input import SchemaLike


@dataclass(frozen=True, slots=True)
class MutableAccess:
    """What the handles of mutable tables use."""

    tables: MutableTableService
    engine: Engine
    scope: TenantPredicate
    committer: DmlCommitter
    wrap: Callable[[LogRecord, pa.Table], Any]
    """Wraps rows in memory, which were computed from a version of a table, in a Result."""


class MutableTable(ReprMixin):
    """One mutable table; `ws.mutable["name"]`. Every change is one atomic commit, durable when the
    call returns."""

    def __init__(self, access: MutableAccess, record: LogRecord) -> None:
        self._access, self._tables, self._record = access, access.tables, record

    @property
    def name(self) -> str:
        """Its name; `mutable.<name>` in SQL."""
        return self._record.name

    @property
    def schema(self) -> pa.Schema:
        """Its columns with their Arrow types."""
        return stored_schema(self._record)

    @property
    def primary_key(self) -> list[str]:
        """The columns that identify a row."""
        return list(self._record.key)

    @property
    def tenant(self) -> str | None:
        """The tenant that owns it; None is shared."""
        return self._record.tenant

    @property
    def version(self) -> int:
        """The number of committed changes. Raises TableNotFound when the table was dropped."""
        return self._tables.current(self._record).version

    def __len__(self) -> int:
        """The number of rows now."""
        return self._tables.current(self._record).row_count

    def __bool__(self) -> bool:
        return True

    def insert(self, rows: Any) -> int:
        """Insert rows (a RecordBatch, a Table, a frame or a list of dicts), all or none; return how
        many. DuplicateKey lists keys that exist already or occur twice.

        Raises DuplicateKey, SchemaMismatch, InvalidArgument, TableNotFound, TenantForbidden,
        WorkspaceReadOnly.
        """
        self._tables.check_access(self._record)
        return self._tables.insert(self._record, rows).matched

    def upsert(self, rows: Any) -> int:
        """Insert rows and replace those whose key exists, all or none; return how many rows were
        passed. Raises as `insert`."""
        self._tables.check_access(self._record)
        return self._tables.upsert(self._record, rows).matched

    def update(self, set: Mapping[str, Any], where: str) -> int:
        """Set columns to new values in every row that satisfies an SQL condition; return how many
        rows.

        Raises SqlError, StatementNotAllowed (a column of the key), SchemaMismatch, TenantForbidden,
        WorkspaceReadOnly, VersionConflict.
        """
        text, params = update_statement(self._record, set, where)
        return self._change(text, params, where)

    def delete(self, where: str) -> int:
        """Delete every row that satisfies an SQL condition; return how many. Raises SqlError,
        TenantForbidden, WorkspaceReadOnly, VersionConflict."""
        return self._change(delete_statement(self._record, where), {}, where)

    def _change(self, text: str, params: Mapping[str, Any], where: str) -> int:
        self._tables.current(self._record)
        try:
            with positions_in(where, len(text) - len(where) - len("\n)")):
                [prepared] = self._access.engine.prepare(
                    text, params, tenant=self._access.scope.tenant, allow_dml=True
                )
        except ParameterMissing as error:
            error.hint = (
                "Write a literal value, or bind it: ws.sql('UPDATE mutable.labels SET … WHERE "
                "id = $id', id=…)."
            )
            raise
        return self._access.committer.apply(prepared).rows

    def read(self) -> Any:
        """All current rows, ordered by key, as a Result. Raises TableNotFound when the table was
        dropped."""
        snapshot = self._tables.snapshot(self._tables.current(self._record))
        return self._access.wrap(snapshot.record, snapshot.rows)

    def changes(self, since: int = 0) -> Any:
        """The net changes since a version as a Result, one row for each key that differs: the
        columns, `_change` (insert, update, delete) and `_version`.

        A deleted row has its key, and NULL in the other columns; `since=0` is the empty table.
        Raises InvalidArgument for a future version or one outside the history.
        """
        return self._access.wrap(*self._tables.changes(self._record, since))

    def _rendered(self) -> Rendered:
        record = self._tables.current(self._record)
        rows = [
            (
                f.name,
                str(f.type),
                "key" if f.name in record.key else "" if f.nullable else "no NULL",
            )
            for f in self.schema
        ]
        caption = f"{MUTABLE}.{record.name}, version {record.version}"
        return listing_table(
            ["column", "type", ""],
            rows,
            aligned="lll",
            caption=caption,
            note=count_noun(record.row_count, "row"),
        )


class MutableTables(NamedCollection[MutableTable], ReprMixin):
    """`ws.mutable`: the mutable tables that the bound tenant sees."""

    def __init__(self, access: MutableAccess) -> None:
        self._access, self._records = access, access.tables

    def create(self, name: str, schema: SchemaLike, *, primary_key: Sequence[str]) -> MutableTable:
        """Create an empty table of the bound tenant; `schema` is a pyarrow Schema or a dict of
        column → type name.

        Raises NameInvalid (a name is 1 to 63 of a–z, 0–9 and _, not beginning with _),
        SchemaMismatch, InvalidArgument, DuplicateTable, WorkspaceReadOnly.
        """
        return self._handle(self._records.create(name, schema, primary_key))

    def __getitem__(self, name: str) -> MutableTable:
        """The table of that name. Raises TableNotFound with near names."""
        return self._handle(self._records.require(name))

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self._records.find(name) is not None
        except SessionClosed:  # the table of a session whose deadline has passed
            return False

    def __bool__(self) -> bool:
        return True

    def list(self) -> list[MutableTable]:
        """All mutable tables, by name."""
        return [self._handle(record) for record in self._records.list()]

    def drop(self, name: str, *, if_exists: bool = False) -> None:
        """Drop a table with its rows and history. Derived tables stay.

        The values are then in no file of the catalog, except that its log may contain them until
        readers of an older snapshot finish. Raises TableNotFound unless `if_exists`;
        TenantForbidden for a shared table under a tenant; WorkspaceReadOnly.
        """
        if if_exists and name not in self:
            return
        record = self._records.require(name)
        if record.session is not None:
            raise InvalidArgument(
                f"{record.name} belongs to an ephemeral session and is dropped with it.",
                hint="Close the session.",
            )
        self._records.drop(record)
        self._records.purge_values(record)

    def _handle(self, record: LogRecord) -> MutableTable:
        return MutableTable(self._access, record)

    def _rendered(self) -> Rendered:
        rows = [
            (r.name, r.version, r.row_count, ", ".join(r.key), r.tenant)
            for r in self._records.list()
        ]
        if not rows:
            return plain_text(
                "No mutable tables yet; ws.mutable.create(name, schema, primary_key=[…]) "
                "creates one."
            )
        return listing_table(
            ["name", "version", "rows", "key", "tenant"],
            rows,
            aligned="lrrll",
            note=count_noun(len(rows), "mutable table"),
        )
