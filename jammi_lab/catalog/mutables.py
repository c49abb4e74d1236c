"""Mutable tables: their records, their rows as they are now, and what happened since a version.

A commit is one transaction: the rows, the next version, and for each key that it touched the row as it was before. From these follows the net effect
since any kept version, whatever lies between.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.direct import Direct
from jammi_lab.catalog.mutable_commits import Change, Commits
from jammi_lab.catalog.mutable_rows import Bodies, Body, Key, Keys, physical
from jammi_lab.catalog.schema import mutables
from jammi_lab.catalog.scope import Scope
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import DuplicateTable, TableDamaged, TableNotFound
from jammi_lab.names import fold
from jammi_lab.values.mutables import Committed, MutableRecord

_id: sa.BindParameter[int] = sa.bindparam("of_table", type_=sa.BigInteger)
_COLUMNS = tuple(mutables.c)
_BY_NAME = Direct(
    scope.select(*_COLUMNS, seen=mutables).where(mutables.c.name == sa.bindparam("wanted")).order_by(scope.own_first(mutables)).limit(1)
)
_BY_ID = Direct(scope.select(*_COLUMNS, seen=mutables).where(mutables.c.table_id == _id))
_TAKEN = Direct(scope.select_of(mutables.c.table_id, seen=mutables).where(mutables.c.name == sa.bindparam("wanted")))
_LIST = Direct(scope.select(*_COLUMNS, seen=mutables).where(mutables.c.session_id.is_(None)).order_by(mutables.c.name, scope.own_first(mutables)))
_OF_SESSION = Direct(scope.select(*_COLUMNS, seen=mutables).where(mutables.c.session_id == sa.bindparam("session")).order_by(mutables.c.name))
_MAKE = Direct(sa.insert(mutables))
_FORGET = Direct(scope.delete_of(mutables).where(mutables.c.table_id == _id))


class Trimmed(Exception):
    """The changes since that version are not kept any more, or are more than were asked for. Internal."""


@dataclass(frozen=True)
class History:
    """What happened since a version."""

    record: MutableRecord
    """The table as it is now."""
    before: Mapping[Key, Body]
    """The rows of all keys that were touched, as they were at that version."""
    now: Mapping[Key, Body]
    """The same rows as they are now."""
    touched: Mapping[Key, int]
    """The version of the last commit that touched each."""


class Mutables:
    """The mutable tables of the bound scope."""

    def __init__(self, database: Database, bound: Scope, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, bound, clock
        self._commits = Commits(database, bound)

    # -- records ---------------------------------------------------------------------------------------------------------------------

    def create(self, record: MutableRecord) -> MutableRecord:
        """The table as it now is, empty. DuplicateTable when its owner has one of the name; TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The mutable table {record.name!r}")
        made = msgspec.structs.replace(
            record, table_id=int(self._clock.token(16), 16) >> 1, created_at=rfc3339(self._clock.now_ns()), version=0, first_kept=0, row_count=0
        )
        with self._database.write() as tx:
            if _TAKEN.rows(tx, {"owner": record.tenant or "", "wanted": record.name}):
                raise DuplicateTable(
                    f"There is a mutable table {record.name!r} already.", hint=f"ws.mutable.drop({record.name!r}) removes it with its rows."
                )
            for statement in physical(made.table_id, made.numbered).make:
                tx.exec_driver_sql(self._database.dialect.ddl(statement))
            _MAKE.change(tx, _row(made))
        return made

    def get(self, name: str) -> MutableRecord | None:
        """The table of that name, own before shared."""
        with self._database.read() as tx:
            found = _BY_NAME.rows(tx, self._scope.params(wanted=fold(name)))
        return _record(found[0]) if found else None

    def list(self, session: str | None = None) -> list[MutableRecord]:
        """The tables of a session, or all that are of none, by name; a shared one that an own one hides is left out."""
        asked = _LIST if session is None else _OF_SESSION
        with self._database.read() as tx:
            found = [_record(row) for row in asked.rows(tx, self._scope.params(**({} if session is None else {"session": session})))]
        if self._scope.lifted:
            return found
        own = {r.name for r in found if r.tenant is not None}
        return [r for r in found if r.tenant is not None or r.name not in own]

    def drop(self, record: MutableRecord) -> int:
        """Remove a table with its rows and changes; how many rows there were, 0 when it is gone already. TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The mutable table {record.name!r}")
        with self._database.write() as tx:
            now = _BY_ID.rows(tx, self._scope.params(of_table=record.table_id))
            for statement in physical(record.table_id, record.numbered).drop:
                tx.exec_driver_sql(statement)
            _FORGET.change(tx, {"of_table": record.table_id, "owner": record.tenant or ""})
        return _record(now[0]).row_count if now else 0

    # -- rows ------------------------------------------------------------------------------------------------------------------------

    def rows(self, table_id: int) -> tuple[MutableRecord, Keys, Bodies]:
        """The table as it is now, with the keys of its rows, ascending, and their bodies. TableNotFound when it is gone."""
        with self._reading(table_id) as tx:
            record = self._there(_BY_ID.rows(tx, self._scope.params(of_table=table_id)))
            keys, bodies = physical(table_id, record.numbered).all(tx)
        return record, keys, bodies

    def history(self, table_id: int, since: int, most: int | None = None) -> History:
        """What happened since a version, to at most so many rows. Trimmed; TableNotFound; ValueError for one that is still to come."""
        with self._reading(table_id) as tx:
            record = self._there(_BY_ID.rows(tx, self._scope.params(of_table=table_id)))
            if since > record.version:
                raise ValueError(since)
            if since < record.first_kept:
                raise Trimmed
            own = physical(table_id, record.numbered)
            before: dict[Key, Body] = {}
            touched: dict[Key, int] = {}
            for version, changed in own.since(tx, since):
                for key, was in changed:
                    before.setdefault(key, was)
                    touched[key] = version
                if most is not None and len(touched) > most:
                    raise Trimmed
            there = own.bodies(tx, list(before))
        return History(record, before, {key: there.get(key) for key in before}, touched)

    def commit(self, record: MutableRecord, change: Change, keep: int) -> Committed:
        """As `Commits.commit`."""
        return self._commits.commit(record, change, keep)

    @contextlib.contextmanager
    def _reading(self, table_id: int) -> Iterator[sa.Connection]:
        """A read transaction about one table. TableNotFound when it is dropped meanwhile: on a server its rows go under whoever reads them."""
        try:
            with self._database.read() as tx:
                yield tx
        except TableDamaged:
            with contextlib.suppress(sa.exc.SQLAlchemyError), self._database.read() as tx:
                self._there(_BY_ID.rows(tx, self._scope.params(of_table=table_id)))
            raise

    @staticmethod
    def _there(found: Sequence[Any]) -> MutableRecord:
        if not found:
            raise TableNotFound("The mutable table is not there any more.", hint="ws.mutable.list() shows what there is.")
        return _record(found[0])


def _row(record: MutableRecord) -> dict[str, Any]:
    return {
        "table_id": record.table_id,
        "tenant_id": record.tenant,
        "name": record.name,
        "arrow_schema": record.schema,
        "key_columns": msgspec.json.encode(record.key).decode(),
        "version": record.version,
        "first_kept": record.first_kept,
        "row_count": record.row_count,
        "session_id": record.session,
        "created_at": record.created_at,
        "numbered": int(record.numbered),
    }


def _record(row: Any) -> MutableRecord:
    table_id, tenant, name, schema, key, version, first_kept, row_count, session, created_at, numbered = row
    return MutableRecord(
        table_id, name, schema, msgspec.json.decode(key, type=list[str]), tenant, version, first_kept, row_count, session, created_at, bool(numbered)
    )
