"""Mutable tables: keyed rows that are inserted, updated and deleted, with a version that counts commits."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.mutable_commits import Change, Present
from jammi_lab.catalog.mutable_rows import Key
from jammi_lab.catalog.mutables import Trimmed
from jammi_lab.config import Settings
from jammi_lab.errors import DuplicateKey, InvalidArgument, NameInvalid, NameTooLong, SchemaMismatch, TableNotFound
from jammi_lab.live.rows import Layout, layout
from jammi_lab.live.schemas import SchemaLike, rows_of, schema_of
from jammi_lab.live.snapshots import Snapshot, Snapshots
from jammi_lab.names import fold, near
from jammi_lab.values.mutables import Committed, MutableRecord

MUTABLE = "mutable"
"""What stands before the name of a mutable table in SQL."""
CHANGE, VERSION = "_change", "_version"
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_LONGEST = 63
_SHOWN_KEYS = 5


class Tables:
    """The mutable tables of one workspace, in the bound tenant's scope. What changes one is committed, whole, when the call returns."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog, self._settings = catalog, settings
        self._snapshots = Snapshots(catalog.mutables, lambda: int(settings["mutable.memory_bytes"]))
        self.on_session: Callable[[MutableRecord], None] | None = None
        """Asked about every table of an ephemeral session that is named; it raises when there is no access any more."""
        self.on_drop: Callable[[MutableRecord], None] | None = None
        """Told of every table that somebody dropped; it removes what was kept of its values."""

    # -- which there are -----------------------------------------------------------------------------------------------------------

    def find(self, name: str) -> MutableRecord | None:
        """The table of that name, own before shared."""
        record = self._catalog.mutables.get(name)
        if record is not None:
            self.admit(record)
        return record

    def admit(self, record: MutableRecord) -> None:
        """SessionClosed for a table of an ephemeral session that is over or past its deadline."""
        if record.session is not None and self.on_session is not None:
            self.on_session(record)

    def require(self, name: str) -> MutableRecord:
        """The table of that name. TableNotFound, with near names."""
        record = self.find(name) if isinstance(name, str) else None
        if record is None:
            known = [each.name for each in self.list()]
            raise TableNotFound(
                f"There is no mutable table {name!r}.",
                near=near(str(name), known),
                hint="" if known else "ws.mutable.create(name, schema, primary_key=[…]) makes one.",
            )
        return record

    def list(self) -> list[MutableRecord]:
        """All that belong to no session, by name."""
        return self._catalog.mutables.list()

    def create(self, name: str, schema: SchemaLike, primary_key: Sequence[str], *, session: str | None = None) -> MutableRecord:
        """A new, empty table of the bound tenant. A table of a session is called what its session says.

        Raises NameInvalid, NameTooLong, SchemaMismatch, InvalidArgument, DuplicateTable, WorkspaceReadOnly.
        """
        if session is None:
            check_mutable_name(name)
        made = schema_of(schema, reserved=(CHANGE, VERSION))
        key = _checked_key(name, made, primary_key)
        shape = Layout(made, key, name)
        mine = MutableRecord(0, name, made.serialize().to_pybytes(), key, self._catalog.scope.tenant, session=session, numbered=shape.numbered)
        return self._catalog.mutables.create(mine)

    def drop(self, record: MutableRecord) -> int:
        """Remove a table; how many rows it had. TenantForbidden, WorkspaceReadOnly."""
        rows = self._catalog.mutables.drop(record)
        self._snapshots.forget(record.table_id)
        return rows

    def forgotten(self, record: MutableRecord) -> None:
        """See that no value of a table that was dropped is left beside what was derived from it. As `Catalog.purge`."""
        self._catalog.purge()
        if self.on_drop is not None:
            self.on_drop(record)

    # -- rows ----------------------------------------------------------------------------------------------------------------------

    def snapshot(self, record: MutableRecord) -> Snapshot:
        """The rows as they are now, with the version that they are. TableNotFound when the table is gone."""
        return self._snapshots.newest(record)

    def read(self, record: MutableRecord) -> pa.Table:
        """The rows as they are now, in the order of their keys."""
        return self.snapshot(self.now(record)).rows

    def now(self, record: MutableRecord) -> MutableRecord:
        """The same table as it is now. TableNotFound when it is gone, or another one has its name."""
        there = self.find(record.name)
        if there is None or there.table_id != record.table_id:
            raise TableNotFound(f"The mutable table {record.name!r} is not there any more.", hint="ws.mutable.list() shows what there is.")
        return there

    def insert(self, record: MutableRecord, rows: Any) -> Committed:
        """Add rows, all or none. DuplicateKey for a key that is there or comes twice; SchemaMismatch; InvalidArgument."""
        return self.put(record, rows_of_table(record, rows), anew=True)

    def upsert(self, record: MutableRecord, rows: Any) -> Committed:
        """Add rows, and put those whose key is there in the place of the old ones, all or none. DuplicateKey for a key that comes twice."""
        return self.put(record, rows_of_table(record, rows), anew=False)

    def put(self, record: MutableRecord, rows: pa.Table, *, anew: bool, rests_on: Mapping[int, int] | None = None) -> Committed:
        """Commit rows of the table's own schema. DuplicateKey; internal: Moved."""
        shape = shape_of(record)
        keys = _keys(record, _without_null_keys(record, rows))
        put = dict(zip(keys, shape.bodies(rows), strict=True))
        if len(put) < len(keys):
            seen: set[Key] = set()
            twice = dict.fromkeys(at for at, key in enumerate(keys) if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise _duplicate(record, shape, shape.bodies(rows.take(list(twice))), "come twice")
        try:
            return self._commit(record, Change(put=put, anew=anew, rests_on=rests_on or {}))
        except Present as error:
            raise _duplicate(record, shape, error.bodies, "are there already") from None

    def remove(self, record: MutableRecord, rows: pa.Table, rests_on: Mapping[int, int]) -> Committed:
        """Commit that rows are gone. Internal: Moved."""
        return self._commit(record, Change(remove=_keys(record, rows), rests_on=rests_on))

    def _commit(self, record: MutableRecord, change: Change) -> Committed:
        return self._catalog.mutables.commit(record, change, self._settings["mutable.versions_kept"])

    def changes(self, record: MutableRecord, since: int) -> pa.Table:
        """The net effect of all commits after a version, one row for each key: the table's columns (of a deleted row only the key), `_change` and
        `_version`, that of the last commit that touched it. InvalidArgument for a version that is still to come or whose changes are not kept."""
        if isinstance(since, bool) or not isinstance(since, int) or since < 0:
            raise InvalidArgument(f"A version is a whole number from 0, not {since!r}.")
        now = self.now(record)
        try:
            history = self._catalog.mutables.history(record.table_id, since)
        except ValueError:
            raise InvalidArgument(f"The mutable table {record.name!r} has version {now.version}; {since} is still to come.") from None
        except Trimmed:
            raise InvalidArgument(
                f"What changed in {record.name!r} is known since version {now.first_kept}; {since} is further back.",
                hint="Read the whole table, and go on from its version. The setting mutable.versions_kept says how many versions are kept.",
            ) from None
        shape, found = shape_of(record), list[tuple[int, Any, str, bytes]]()
        for key, was in history.before.items():
            body = history.now[key]
            if body == was:
                continue
            word = "insert" if was is None else "delete" if body is None else "update"
            kept = body if body is not None else shape.key_only(was or b"")
            found.append((history.touched[key], key, word, kept))
        found.sort()
        loose = Layout(pa.schema([f.with_nullable(True) for f in shape.schema]), record.key)
        table = loose.table([body for *_, body in found])
        return table.append_column(CHANGE, pa.array([word for *_, word, _ in found], pa.string())).append_column(
            VERSION, pa.array([version for version, *_ in found], pa.int64())
        )


def check_mutable_name(name: str) -> str:
    """The name as given, when a mutable table may be called so. NameInvalid, NameTooLong."""
    if isinstance(name, str) and len(name) > _LONGEST:
        raise NameTooLong(name, _LONGEST)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise NameInvalid(
            f"A mutable table cannot be called {name!r}: its name is 1 to {_LONGEST} of a–z, 0–9 and _, not beginning with _.", name=str(name)
        )
    return name


def shape_of(record: MutableRecord) -> Layout:
    """How the rows of a table are written, with its schema."""
    return layout(record.schema, tuple(record.key))


def _keys(record: MutableRecord, rows: pa.Table) -> Sequence[Key]:
    return shape_of(record).numbers(rows) if record.numbered else shape_of(record).keys(rows)


def rows_of_table(record: MutableRecord, rows: Any) -> pa.Table:
    """Rows as people give them, in the schema of the table. SchemaMismatch with the table's name; InvalidArgument."""
    try:
        return rows_of(rows, shape_of(record).schema, f"The mutable table {record.name!r}")
    except SchemaMismatch as error:
        error.table = record.name
        raise


def _checked_key(name: str, schema: pa.Schema, primary_key: Sequence[str]) -> list[str]:
    wanted = [primary_key] if isinstance(primary_key, str) else list(primary_key) if isinstance(primary_key, Iterable) else []
    if not wanted:
        raise InvalidArgument("A mutable table needs a key: the columns that identify a row.", hint=f"primary_key=[{schema.names[0]!r}]")
    by_fold = {fold(column): column for column in schema.names}
    for column in wanted:
        if not isinstance(column, str) or fold(column) not in by_fold:
            error = SchemaMismatch(
                f"The key of {name!r} names {column!r}, which is none of its columns.",
                table=name,
                column=str(column),
                expected=", ".join(schema.names),
            )
            error.near = tuple(near(str(column), schema.names))
            raise error
    key = [by_fold[fold(column)] for column in wanted]
    if len(set(key)) < len(key):
        raise InvalidArgument(f"The key of {name!r} names a column twice.", hint="Name each once.")
    return key


def _without_null_keys(record: MutableRecord, rows: pa.Table) -> pa.Table:
    for column in record.key:
        if rows[column].null_count:
            raise SchemaMismatch(
                f"Column {column!r} is in the key of the mutable table {record.name!r}, and a key has no NULL.",
                table=record.name,
                column=column,
                expected=str(rows.schema.field(column).type),
                actual="NULL",
            )
    return rows


def _duplicate(record: MutableRecord, shape: Layout, bodies: Sequence[bytes], what: str) -> DuplicateKey:
    keys = [shape.values(body) for body in bodies]
    named = ", ".join(repr(key) for key in keys[:_SHOWN_KEYS]) + (f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else "")
    return DuplicateKey(
        f"Rows with these keys {what} in the mutable table {record.name!r}: {named}; nothing was changed."
        if what == "are there already"
        else f"Rows with these keys {what}: {named}; nothing was changed in the mutable table {record.name!r}.",
        keys=keys,
        hint="" if what == "come twice" else "upsert puts rows in the place of those that are there.",
    )
