"""What repositories over the rows of the bound scope have in common."""

from jammi_lab.catalog.database import Database
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.clock import Clock


class ScopedRepository:
    """Rows of the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate) -> None:
        self._database, self._scope = database, active_scope


class DatedRepository(ScopedRepository):
    """The same of rows that say when they were stored."""

    def __init__(self, database: Database, active_scope: TenantPredicate, clock: Clock) -> None:
        super().__init__(database, active_scope)
        self._clock = clock
