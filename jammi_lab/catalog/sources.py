"""Registered sources, without their credentials."""

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.rows import SOURCE, source_record, source_row
from jammi_lab.catalog.schema import sources
from jammi_lab.catalog.scope import Scope
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import SourceExists
from jammi_lab.names import fold
from jammi_lab.values.records import SourceRecord

_fold: sa.BindParameter[str] = sa.bindparam("fold")
_GET = scope.select(*SOURCE, seen=sources).where(sources.c.name_fold == _fold).order_by(scope.own_first(sources)).limit(1)
_GET_OF = scope.select_of(*SOURCE, seen=sources).where(sources.c.name_fold == _fold)
_LIST = scope.select(*SOURCE, seen=sources).order_by(sources.c.name_fold, scope.own_first(sources))
_DELETE = scope.delete_of(sources).where(sources.c.name_fold == _fold)


class Sources:
    """The sources of the bound scope."""

    def __init__(self, database: Database, bound: Scope, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, bound, clock

    def put(self, record: SourceRecord, replace: bool = False) -> SourceRecord:
        """The source as it is now registered. SourceExists when one of its name is there and is not to be replaced, TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The source {record.name!r}")
        key = {"owner": record.tenant or "", "fold": fold(record.name)}
        kept = msgspec.structs.replace(record, created_at=record.created_at or rfc3339(self._clock.now_ns()))
        with self._database.write() as tx:
            row = tx.execute(_GET_OF, key).first()
            if row is not None and not replace:
                raise SourceExists(
                    f"There is a source {source_record(row).name!r} already.",
                    hint="Pass replace=True (in a cell --replace) to put this one in its place.",
                )
            tx.execute(_DELETE, key)
            tx.execute(sa.insert(sources), source_row(kept))
        return kept

    def get(self, name: str) -> SourceRecord | None:
        """The source of that name, own before shared."""
        named = self._scope.params(fold=fold(name))

        def read() -> SourceRecord | None:
            with self._database.read() as tx:
                row = tx.execute(_GET, named).first()
            return None if row is None else source_record(row)

        return self._database.kept(("source", *named.items()), read)

    def list(self) -> list[SourceRecord]:
        """Every source, by name; a shared one that an own one hides is left out."""
        with self._database.read() as tx:
            found = [source_record(row) for row in tx.execute(_LIST, self._scope.params()).all()]
        if self._scope.lifted:
            return found
        own = {fold(s.name) for s in found if s.tenant is not None}
        return [s for s in found if s.tenant is not None or fold(s.name) not in own]

    def remove(self, name: str) -> bool:
        """Whether the source was there and is gone. TenantForbidden for a shared one under a tenant."""
        with self._database.write() as tx:
            record = self.get(name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The source {record.name!r}")
            tx.execute(_DELETE, {"owner": record.tenant or "", "fold": fold(name)})
        return True
