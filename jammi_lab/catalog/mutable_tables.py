"""Mutable tables: their records, current rows and history.

A commit is one transaction: the rows, the next version, and for each touched key the row before it.
The net effect since any version within the history follows from these, whatever happened in
between.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.checks import remove_checks_of_recipe
from jammi_lab.catalog.database import CompiledStatement, Database
from jammi_lab.catalog.mutable_commits import Change, Commits
from jammi_lab.catalog.mutable_storage import Bodies, Body, Key, Keys, physical_tables
from jammi_lab.catalog.row_mapping import RowMapping
from jammi_lab.catalog.schema import mutables
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.anchors import InputKind
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import DuplicateTable, TableDamaged, TableNotFound
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import Committed, MutableRecord

_id: sa.BindParameter[int] = sa.bindparam("of_table", type_=sa.BigInteger)
_TABLE = RowMapping(
    mutables,
    MutableRecord,
    renamed={"arrow_schema": "schema", "key_columns": "key", "session_id": "session"},
)
_BY_NAME = CompiledStatement(
    scope.select(*_TABLE.columns, tables=mutables)
    .where(mutables.c.name == sa.bindparam("wanted"))
    .order_by(scope.own_first(mutables))
    .limit(1)
)
_BY_ID = CompiledStatement(
    scope.select(*_TABLE.columns, tables=mutables).where(mutables.c.table_id == _id)
)
_EXISTS = CompiledStatement(
    scope.select_owned_by(mutables.c.table_id, tables=mutables).where(
        mutables.c.name == sa.bindparam("wanted")
    )
)
_LIST = CompiledStatement(
    scope.select(*_TABLE.columns, tables=mutables)
    .where(mutables.c.session_id.is_(None))
    .order_by(mutables.c.name, scope.own_first(mutables))
)
_OF_SESSION = CompiledStatement(
    scope.select(*_TABLE.columns, tables=mutables)
    .where(mutables.c.session_id == sa.bindparam("session"))
    .order_by(mutables.c.name)
)
_INSERT = CompiledStatement(sa.insert(mutables))
_DELETE = CompiledStatement(scope.delete_owned_by(mutables).where(mutables.c.table_id == _id))


class HistoryTrimmed(Exception):
    """The history does not reach back to that version, or has more changes than were asked for.
    Internal."""


@dataclass(frozen=True)
class History:
    """The changes since a version."""

    record: MutableRecord
    """The current record of the table."""
    before: Mapping[Key, Body]
    """The rows of all touched keys at that version."""
    now: Mapping[Key, Body]
    """The same rows now."""
    touched: Mapping[Key, int]
    """The version of the last commit that touched each key."""


class MutableTableRepository:
    """The mutable tables of the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, active_scope, clock
        self.commits = Commits(database, active_scope, lambda: clock.token(16))

    # -- records

    def create(self, record: MutableRecord) -> MutableRecord:
        """Create an empty table and return its record. Raises DuplicateTable when its owner has one
        of that name; TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The mutable table {record.name!r}")
        created = msgspec.structs.replace(
            record,
            table_id=int(self._clock.token(16), 16) >> 1,
            created_at=rfc3339(self._clock.now_ns()),
            version=0,
            commit_id="",
            first_kept=0,
            row_count=0,
        )
        with self._database.write() as tx:
            if _EXISTS.fetch(tx, {"owner": record.tenant or "", "wanted": record.name}):
                raise DuplicateTable(
                    f"The mutable table {record.name!r} already exists.",
                    hint=f"ws.mutable.drop({record.name!r}) removes it and its rows.",
                )
            for statement in physical_tables(created.table_id, created.numbered).create_statements:
                tx.exec_driver_sql(self._database.dialect.ddl(statement))
            _INSERT.execute(tx, _TABLE.encode(created))
        return created

    def get(self, name: str) -> MutableRecord | None:
        """The table of that name, own before shared."""
        rows = self._database.fetch(_BY_NAME, self._scope.parameters(wanted=fold(name)))
        return _TABLE.decode(rows[0]) if rows else None

    def list(self, session: str | None = None) -> list[MutableRecord]:
        """The tables of a session, or all that belong to none, by name, without shared ones that
        own ones hide."""
        query = _LIST if session is None else _OF_SESSION
        with self._database.read() as tx:
            records = [
                _TABLE.decode(row)
                for row in query.fetch(
                    tx, self._scope.parameters(**({} if session is None else {"session": session}))
                )
            ]
        if self._scope.is_unrestricted:
            return records
        own = {r.name for r in records if r.tenant is not None}
        return [r for r in records if r.tenant is not None or r.name not in own]

    def drop(self, record: MutableRecord) -> int:
        """Drop a table with its rows and history; return how many rows it had, 0 when it no longer
        existed. Raises TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The mutable table {record.name!r}")
        with self._database.write() as tx:
            rows = _BY_ID.fetch(tx, self._scope.parameters(of_table=record.table_id))
            for statement in physical_tables(record.table_id, record.numbered).drop_statements:
                tx.exec_driver_sql(statement)
            _DELETE.execute(tx, {"of_table": record.table_id, "owner": record.tenant or ""})
            if record.session is None:
                remove_checks_of_recipe(tx, record.tenant, record.name, InputKind.MUTABLE)
        return _TABLE.decode(rows[0]).row_count if rows else 0

    # -- rows

    def rows(self, table_id: int) -> tuple[MutableRecord, Keys, Bodies]:
        """The current record of a table, the keys of its rows, ascending, and their bodies. Raises
        TableNotFound; TableDamaged for rows that do not match their checksums, or are missing."""
        with self._read_table(table_id) as tx:
            record = self._require_record(
                _BY_ID.fetch(tx, self._scope.parameters(of_table=table_id))
            )
            keys, bodies = physical_tables(table_id, record.numbered).all_rows(tx)
        if len(keys) != record.row_count:
            raise TableDamaged(
                f"The catalog is damaged: the mutable table {record.name!r} has {len(keys)} of "
                f"{record.row_count} rows.",
                table=record.name,
                hint="A backup of the catalog may contain the others.",
            )
        return record, keys, bodies

    def history(self, table_id: int, since: int, max_rows: int | None = None) -> History:
        """The changes since a version, for at most `max_rows` rows. Raises HistoryTrimmed;
        TableNotFound; ValueError for a future version."""
        with self._read_table(table_id) as tx:
            record = self._require_record(
                _BY_ID.fetch(tx, self._scope.parameters(of_table=table_id))
            )
            if since > record.version:
                raise ValueError(since)
            if since < record.first_kept:
                raise HistoryTrimmed
            storage = physical_tables(table_id, record.numbered)
            before: dict[Key, Body] = {}
            touched: dict[Key, int] = {}
            for version, changed in storage.since(tx, since):
                for key, row_before in changed:
                    before.setdefault(key, row_before)
                    touched[key] = version
                if max_rows is not None and len(touched) > max_rows:
                    raise HistoryTrimmed
            current = storage.bodies(tx, list(before))
        return History(record, before, {key: current.get(key) for key in before}, touched)

    def commit(self, record: MutableRecord, change: Change, kept_versions: int) -> Committed:
        """See `Commits.commit`."""
        return self.commits.commit(record, change, kept_versions)

    @contextlib.contextmanager
    def _read_table(self, table_id: int) -> Iterator[sa.Connection]:
        """A read transaction on one table. Raises TableNotFound when it is dropped meanwhile: a
        server drops the rows even while somebody reads them."""
        try:
            with self._database.read() as tx:
                yield tx
        except TableDamaged:
            with contextlib.suppress(sa.exc.SQLAlchemyError), self._database.read() as tx:
                self._require_record(_BY_ID.fetch(tx, self._scope.parameters(of_table=table_id)))
            raise

    @staticmethod
    def _require_record(rows: Sequence[Any]) -> MutableRecord:
        if not rows:
            raise TableNotFound(
                "The mutable table no longer exists.",
                hint="ws.mutable.list() lists the mutable tables.",
            )
        return _TABLE.decode(rows[0])
