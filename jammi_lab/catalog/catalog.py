"""The catalog as the rooms above hold it: one object whose parts share one database and one scope."""

import contextlib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Self

from jammi_lab.catalog.backup import backup
from jammi_lab.catalog.database import Database, Transaction
from jammi_lab.catalog.dialects import Dialect, Sqlite, damaged
from jammi_lab.catalog.file_locks import FileLocks
from jammi_lab.catalog.lineage import Lineage
from jammi_lab.catalog.locks import Locks, ServerLocks
from jammi_lab.catalog.memo import Memo, Meta
from jammi_lab.catalog.migrations import migrate
from jammi_lab.catalog.models import Models
from jammi_lab.catalog.mutables import Mutables
from jammi_lab.catalog.postgres import Postgres
from jammi_lab.catalog.publish import Publish
from jammi_lab.catalog.recipes import Recipes
from jammi_lab.catalog.scope import Scope
from jammi_lab.catalog.sessions import Sessions
from jammi_lab.catalog.sources import Sources
from jammi_lab.catalog.tables import Tables
from jammi_lab.catalog.topics import Topics
from jammi_lab.catalog.writers import Writers
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import JammiError
from jammi_lab.storage.files import make_folder
from jammi_lab.tenancy import TenantScope

_PURGE_SECONDS = 0.2
"""How long those who read an older state are waited for."""


class Catalog:
    """What a workspace knows, in an SQLite file, with the writers' locks beside it in `writers/`, or in PostgreSQL by its URL.

    Raises WorkspaceNotFound, WorkspaceReadOnly, CatalogTooNew, TableDamaged, InvalidArgument (network filesystem, no such URL) when it is opened, and
    for a server SourceUnavailable, ExtensionMissing.
    """

    def __init__(self, place: Path | str, *, scope: TenantScope, clock: Clock, read_only: bool = False, create: bool = True) -> None:
        self.read_only = read_only
        self.scope = Scope(scope)
        self._clock = clock
        kept: Locks
        dialect: Dialect
        if isinstance(place, Path):
            if create and not read_only:
                make_folder(place.parent)
            dialect, kept = Sqlite(place, read_only=read_only, create=create), FileLocks(place.parent / "writers")
        else:
            server = Postgres(place, read_only=read_only, create=create)
            dialect, kept = server, ServerLocks(server)
        self.database = Database(dialect, read_only=read_only)
        try:
            migrate(self.database, rfc3339(clock.now_ns()))
        except BaseException:
            self.database.close()
            raise
        self.tables = Tables(self.database, self.scope)
        self.publish = Publish(self.database, self.scope, self.tables, clock)
        self.recipes = Recipes(self.database, self.scope, clock)
        self.sources = Sources(self.database, self.scope, clock)
        self.models = Models(self.database, self.scope, clock)
        self.mutables = Mutables(self.database, self.scope, clock)
        self.lineage = Lineage(self.database, self.scope)
        self.topics = Topics(self.database, self.scope, clock)
        self.sessions = Sessions(self.database, self.scope)
        self.memo = Memo(self.database)
        self.meta = Meta(self.database)
        self.writers = Writers(self.database, kept, clock)

    @property
    def label(self) -> str:
        """What people call it: a path, or a URL without credentials."""
        return self.database.label

    @property
    def identity(self) -> Hashable:
        """The same for every handle of this catalog, by whatever path each was opened."""
        return self.database.dialect.identity

    @contextlib.contextmanager
    def everyone(self) -> Iterator[None]:
        """See and change the rows of all tenants for one block, in this context only: for recovery, check and rebuild."""
        with self.scope.everyone():
            yield

    def transaction(self) -> Transaction:
        """One transaction around several changes: all of them or none, durable when the block ends."""
        return self.database.write()

    def backup(self, target: Path) -> None:
        """A copy of the whole catalog, as it is at one moment, in one SQLite file. InvalidArgument, ResourceExhausted; TenantForbidden while a
        tenant is bound, as the copy holds what is every tenant's."""
        self.scope.check_whole("A copy of the catalog")
        backup(self.database, target, rfc3339(self._clock.now_ns()))

    def require_sound(self) -> None:
        """Nothing, unless pages of a file are damaged, also those that nothing has asked for yet: TableDamaged. Reads all of it; a server sees to its
        own."""
        if self.database.dialect.file is not None:
            with self.database.read() as tx:
                if tx.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
                    raise damaged(self.label)

    def purge(self) -> None:
        """See that no value of what was dropped is left in the database's log, unless somebody reads an older state just now."""
        with contextlib.suppress(JammiError):
            self.database.purge(_PURGE_SECONDS)

    def close(self) -> None:
        """Close every connection. Writers' locks that are still held are let go without retiring the writer. Closing twice is fine."""
        self.writers.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
