"""Registered sources, without credentials."""

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.checks import remove_checks_of_recipe
from jammi_lab.catalog.database import CompiledStatement, Database
from jammi_lab.catalog.row_mapping import SOURCE
from jammi_lab.catalog.schema import sources
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import SourceExists
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import SourceRecord

_fold: sa.BindParameter[str] = sa.bindparam("fold")
_GET = CompiledStatement(
    scope.select(*SOURCE.columns, tables=sources)
    .where(sources.c.name_fold == _fold)
    .order_by(scope.own_first(sources))
    .limit(1)
)
_GET_OF_OWNER = scope.select_owned_by(*SOURCE.columns, tables=sources).where(
    sources.c.name_fold == _fold
)
_LIST = scope.select(*SOURCE.columns, tables=sources).order_by(
    sources.c.name_fold, scope.own_first(sources)
)
_DELETE = scope.delete_owned_by(sources).where(sources.c.name_fold == _fold)


class SourceRepository:
    """The sources of the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, active_scope, clock

    def put(self, record: SourceRecord, replace: bool = False) -> SourceRecord:
        """Register a source and return the stored record. Raises SourceExists when its name is
        taken and `replace` is false, TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The source {record.name!r}")
        key = {"owner": record.tenant or "", "fold": fold(record.name)}
        new_record = msgspec.structs.replace(
            record, created_at=record.created_at or rfc3339(self._clock.now_ns())
        )
        with self._database.write() as tx:
            row = tx.execute(_GET_OF_OWNER, key).first()
            if row is not None and not replace:
                raise SourceExists(
                    f"The source {SOURCE.decode(row).name!r} already exists.",
                    hint="Pass replace=True (in a cell --replace) to replace it.",
                )
            tx.execute(_DELETE, key)
            tx.execute(sa.insert(sources), SOURCE.encode(new_record))
        return new_record

    def get(self, name: str) -> SourceRecord | None:
        """The source of that name, own before shared."""
        key = self._scope.parameters(fold=fold(name))

        def read() -> SourceRecord | None:
            rows = self._database.fetch(_GET, key)
            return SOURCE.decode(rows[0]) if rows else None

        return self._database.cached(("source", *key.items()), read)

    def list(self) -> list[SourceRecord]:
        """Every source, by name, without shared ones that own ones hide."""
        with self._database.read() as tx:
            records = [
                SOURCE.decode(row) for row in tx.execute(_LIST, self._scope.parameters()).all()
            ]
        if self._scope.is_unrestricted:
            return records
        own = {fold(s.name) for s in records if s.tenant is not None}
        return [s for s in records if s.tenant is not None or fold(s.name) not in own]

    def remove(self, name: str) -> bool:
        """Delete a source; return whether it existed. Raises TenantForbidden for a shared one under
        a tenant."""
        with self._database.write() as tx:
            record = self.get(name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The source {record.name!r}")
            tx.execute(_DELETE, {"owner": record.tenant or "", "fold": fold(name)})
            remove_checks_of_recipe(tx, record.tenant, name, "source")
        return True
