"""`Catalog`: one object with all repositories, which share one database and one tenant scope."""

import contextlib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Self

from jammi_lab.catalog.aliases import AliasRepository
from jammi_lab.catalog.backup import backup
from jammi_lab.catalog.checks import CheckRepository
from jammi_lab.catalog.connection import Dialect
from jammi_lab.catalog.database import Database, Transaction, create_tables
from jammi_lab.catalog.lineage import LineageRepository
from jammi_lab.catalog.logs import LogRepository
from jammi_lab.catalog.models import ModelRepository
from jammi_lab.catalog.observations import MetadataRepository, ObservationRepository
from jammi_lab.catalog.postgres import Postgres
from jammi_lab.catalog.recipes import HoldRepository, RecipeRepository
from jammi_lab.catalog.result_tables import ResultTableRepository
from jammi_lab.catalog.sessions import SessionRepository
from jammi_lab.catalog.sources import SourceRepository
from jammi_lab.catalog.sqlite import Sqlite, damaged_error
from jammi_lab.catalog.table_status import TableStatusRepository
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.catalog.writer_locks import FileLocks, Locks, ServerLocks
from jammi_lab.catalog.writers import Writers
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import JammiError
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.storage.files import make_folder

PURGE_SECONDS = 0.2
"""How long a purge waits for readers of an older snapshot."""


class Catalog:
    """The catalog of a workspace: an SQLite file with the writers' locks in `writers/` next to it,
    or a PostgreSQL schema given by URL.

    Opening raises WorkspaceNotFound, WorkspaceReadOnly, CatalogTooNew, TableDamaged,
    InvalidArgument (network filesystem, invalid URL), and for a server SourceUnavailable and
    ExtensionMissing.
    """

    def __init__(
        self,
        location: Path | str,
        *,
        scope: TenantScope,
        clock: Clock,
        read_only: bool = False,
        create: bool = True,
    ) -> None:
        self.read_only = read_only
        self.scope = TenantPredicate(scope)
        self._clock = clock
        locks: Locks
        dialect: Dialect
        if isinstance(location, Path):
            if create and not read_only:
                make_folder(location.parent.resolve())
            dialect = Sqlite(location, read_only=read_only, create=create)
            locks = FileLocks(location.parent / "writers")
        else:
            server = Postgres(location, read_only=read_only, create=create)
            dialect, locks = server, ServerLocks(server)
        self.database = Database(dialect, read_only=read_only)
        try:
            create_tables(self.database, rfc3339(clock.now_ns()))
        except BaseException:
            self.database.close()
            raise
        self.result_tables = ResultTableRepository(self.database, self.scope)
        self.table_status = TableStatusRepository(
            self.database, self.scope, self.result_tables, clock
        )
        self.recipes = RecipeRepository(self.database, self.scope, clock)
        self.aliases = AliasRepository(self.database, self.scope)
        self.holds = HoldRepository(self.database, self.scope, clock)
        self.checks = CheckRepository(self.database, self.scope, clock)
        self.sources = SourceRepository(self.database, self.scope, clock)
        self.models = ModelRepository(self.database, self.scope, clock)
        self.mutable_tables = LogRepository(self.database, self.scope, clock, "mutable")
        self.lineage = LineageRepository(self.database, self.scope)
        self.topics = LogRepository(self.database, self.scope, clock, "topic")
        self.inputs: dict[str, SourceRepository | LogRepository] = {
            "source": self.sources,
            "mutable": self.mutable_tables,
            "topic": self.topics,
        }
        """What is registered, by kind of input. Recipes are not."""
        self.sessions = SessionRepository(self.database, self.scope)
        self.observations = ObservationRepository(self.database)
        self.metadata = MetadataRepository(self.database)
        self.writers = Writers(self.database, locks, clock)

    def find_input(self, name: str) -> tuple[str, str] | None:
        """The kind and the exact name of the input that is registered under a name."""
        for kind, records in self.inputs.items():
            if (record := records.get(name)) is not None:
                return kind, record.name
        return None

    @property
    def label(self) -> str:
        """The display name: a path, or a URL without credentials."""
        return self.database.label

    @property
    def identity(self) -> Hashable:
        """Equal for every handle of this catalog, whatever path each was opened by."""
        return self.database.dialect.identity

    @contextlib.contextmanager
    def all_tenants(self) -> Iterator[None]:
        """See and change the rows of all tenants for one block, in this context only. For recovery,
        check and rebuild."""
        with self.scope.all_tenants():
            yield

    def transaction(self) -> Transaction:
        """One atomic transaction around several changes, durable when the block ends."""
        return self.database.write()

    def snapshot(self) -> Transaction:
        """Several reads of one state."""
        return self.database.read()

    def backup(self, target: Path) -> None:
        """Write a consistent copy of the whole catalog to one SQLite file.

        Raises InvalidArgument, ResourceExhausted; TenantForbidden while a tenant is bound, because
        the copy holds the rows of all tenants.
        """
        self.scope.check_unbound("A backup of the catalog")
        backup(self.database, target, rfc3339(self._clock.now_ns()))

    def check_integrity(self) -> None:
        """Read every page of a catalog file and raise TableDamaged if one is damaged. A server
        checks its own files."""
        if self.database.dialect.file is not None:
            with self.database.read() as tx:
                if tx.fetch("PRAGMA quick_check(1)") != [("ok",)]:
                    raise damaged_error(self.label)

    def damaged_logs(self) -> list[str]:
        """The mutable tables and topics that do not have all entries as they were written, as SQL
        names them."""
        tables = [f"mutable.{name}" for name in self.mutable_tables.damaged_names()]
        return tables + [f"topics.{name}" for name in self.topics.damaged_names()]

    def purge(self) -> None:
        """Remove the values of dropped tables from the database's log, unless somebody still reads
        an older snapshot."""
        with contextlib.suppress(JammiError):
            self.database.purge(PURGE_SECONDS)

    def close(self) -> None:
        """Close every connection and release the writers' locks, without retiring the writers.
        Idempotent."""
        self.writers.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
