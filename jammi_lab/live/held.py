"""Mutable tables as people hold them: `ws.mutable` and what it gives."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from jammi_lab import forms
from jammi_lab.catalog.scope import Scope
from jammi_lab.engine.session import Engine
from jammi_lab.errors import InvalidArgument, JammiError, ParameterMissing, SessionClosed
from jammi_lab.live.committing import Committing, delete_text, update_text
from jammi_lab.live.mutable import MUTABLE, Tables, shape_of
from jammi_lab.live.schemas import SchemaLike
from jammi_lab.markup import Form, Shown, count, plain
from jammi_lab.values.mutables import MutableRecord


class MutableTable(Shown):
    """One mutable table; `ws.mutable["name"]`. Every change is one commit: durable and whole when the call returns."""

    def __init__(self, tables: Tables, engine: Engine, scope: Scope, committing: Committing, record: MutableRecord) -> None:
        self._tables, self._engine, self._scope, self._committing, self._record = tables, engine, scope, committing, record

    @property
    def name(self) -> str:
        """Its name; `mutable.<name>` in SQL."""
        return self._record.name

    @property
    def schema(self) -> pa.Schema:
        """Its columns with their Arrow types."""
        return shape_of(self._record).schema

    @property
    def primary_key(self) -> list[str]:
        """The columns that identify a row."""
        return list(self._record.key)

    @property
    def tenant(self) -> str | None:
        """Whose it is; None is shared."""
        return self._record.tenant

    @property
    def version(self) -> int:
        """How many changes were committed. TableNotFound when it is gone."""
        return self._tables.now(self._record).version

    def __len__(self) -> int:
        """The number of rows now."""
        return self._tables.now(self._record).row_count

    def __bool__(self) -> bool:
        return True

    def insert(self, rows: Any) -> int:
        """Add rows (a RecordBatch, a Table, a frame or a list of dicts); how many. All or none: DuplicateKey names keys that are there or come twice.

        Raises DuplicateKey, SchemaMismatch, InvalidArgument, TableNotFound, TenantForbidden, WorkspaceReadOnly.
        """
        self._tables.admit(self._record)
        return self._tables.insert(self._record, rows).matched

    def upsert(self, rows: Any) -> int:
        """Add rows, and put those whose key is there in the place of the old ones; how many rows were given. All or none. Raises as `insert`."""
        self._tables.admit(self._record)
        return self._tables.upsert(self._record, rows).matched

    def update(self, set: Mapping[str, Any], where: str) -> int:
        """Give columns new values in every row for which a condition in SQL holds; how many rows.

        Raises SqlError, StatementNotAllowed (a column of the key), SchemaMismatch, TenantForbidden, WorkspaceReadOnly, VersionConflict.
        """
        text, params = update_text(self._record, set, where)
        return self._change(text, params, where)

    def delete(self, where: str) -> int:
        """Remove every row for which a condition in SQL holds; how many. SqlError, TenantForbidden, WorkspaceReadOnly, VersionConflict."""
        return self._change(delete_text(self._record, where), {}, where)

    def _change(self, text: str, params: Mapping[str, Any], where: str) -> int:
        self._tables.now(self._record)
        try:
            [prepared] = self._engine.prepare(text, params, tenant=self._scope.tenant, changing=True)
        except JammiError as error:
            raise _in_condition(error, text, where) from error.__cause__
        return self._committing.apply(prepared).rows

    def read(self) -> pa.Table:
        """All rows as they are now, in the order of their keys. TableNotFound when it is gone."""
        return self._tables.read(self._record)

    def changes(self, since: int = 0) -> pa.Table:
        """What happened after a version, as one row for each key that differs: the columns, `_change` (insert, update, delete) and `_version`.

        A deleted row has its key and NULL; `since=0` is the empty table. InvalidArgument for a version that is still to come or too far back.
        """
        return self._tables.changes(self._record, since)

    def _form(self) -> Form:
        now = self._tables.now(self._record)
        rows = [(f.name, str(f.type), "key" if f.name in now.key else "" if f.nullable else "no NULL") for f in self.schema]
        caption = f"{MUTABLE}.{now.name}, version {now.version}"
        return forms.listing(["column", "type", ""], rows, aligned="lll", caption=caption, note=count(now.row_count, "row"))


class MutableTables(Shown):
    """`ws.mutable`: the mutable tables that the bound tenant sees."""

    def __init__(self, tables: Tables, engine: Engine, scope: Scope, committing: Committing) -> None:
        self._tables, self._engine, self._scope, self._committing = tables, engine, scope, committing

    def create(self, name: str, schema: SchemaLike, *, primary_key: Sequence[str]) -> MutableTable:
        """A new, empty table of the bound tenant; `schema` is a pyarrow Schema or a dict of column → type name.

        Raises NameInvalid (a name is 1 to 63 of a–z, 0–9 and _, not beginning with _), SchemaMismatch, InvalidArgument, DuplicateTable,
        WorkspaceReadOnly.
        """
        return self._held(self._tables.create(name, schema, primary_key))

    def __getitem__(self, name: str) -> MutableTable:
        """The table of that name. TableNotFound, with near names."""
        return self._held(self._tables.require(name))

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self._tables.find(name) is not None
        except SessionClosed:  # the table of a session whose deadline is past
            return False

    def __iter__(self) -> Iterator[MutableTable]:
        return iter(self.list())

    def __len__(self) -> int:
        return len(self._tables.list())

    def __bool__(self) -> bool:
        return True

    def list(self) -> list[MutableTable]:
        """All of them, by name."""
        return [self._held(record) for record in self._tables.list()]

    def drop(self, name: str, *, if_exists: bool = False) -> None:
        """Remove a table with its rows and changes. Their values are then in no file of the catalog, unless somebody reads an older state of it:
        until that is over they may be in its log. Derived tables stay. TableNotFound unless `if_exists`; TenantForbidden for a shared one under a
        tenant; WorkspaceReadOnly."""
        if if_exists and name not in self:
            return
        record = self._tables.require(name)
        if record.session is not None:
            raise InvalidArgument(f"{record.name} belongs to an ephemeral session and goes with it.", hint="Close the session.")
        self._tables.drop(record)
        self._tables.forgotten(record)

    def _held(self, record: MutableRecord) -> MutableTable:
        return MutableTable(self._tables, self._engine, self._scope, self._committing, record)

    def _form(self) -> Form:
        rows = [(r.name, r.version, r.row_count, ", ".join(r.key), r.tenant) for r in self._tables.list()]
        if not rows:
            return plain("No mutable tables yet: ws.mutable.create(name, schema, primary_key=[…]) makes one.")
        return forms.listing(["name", "version", "rows", "key", "tenant"], rows, aligned="lrrll", note=count(len(rows), "mutable table"))


def _in_condition(error: JammiError, text: str, where: str) -> JammiError:
    """The same error, marked in the condition, which is all of the statement that somebody wrote."""
    begins = len(text) - len(where) - len("\n)")
    at = error.position if error.statement == text and error.position is not None else -1
    if isinstance(error, ParameterMissing):
        error.hint = "Write the value itself, or bind it: ws.sql('UPDATE mutable.labels SET … WHERE id = $id', id=…)."
    return error.at(where, at - begins if at >= begins else None)
