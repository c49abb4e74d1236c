"""Removal of result tables, the only way out: tombstone, then bytes, then row."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.errors import JammiError, TableNotFound
from jammi_lab.core.records import TableRecord, TableStatus, VersionRecord
from jammi_lab.storage.files import fault_point
from jammi_lab.storage.space_reserve import SpaceReserve
from jammi_lab.store import read_leases
from jammi_lab.store.result_files import ResultFiles, remove_table_files
from jammi_lab.store.storage_errors import removal_error, translate_storage_errors


def missing_version_error(version: VersionRecord | TableRecord) -> TableNotFound:
    """The error for a version that no longer exists under the name that it was fetched by."""
    return TableNotFound(
        f"Version {version.version} of {version.recipe!r} no longer exists.",
        hint=f"ws.table({version.recipe!r}) is its newest version, ws.tables() lists all tables.",
    )


class Removal:
    """Removes versions and tables for one writer. Recovery completes what a crash interrupts."""

    def __init__(
        self, catalog: Catalog, results: ResultFiles, writer_id: str, reserve: SpaceReserve
    ) -> None:
        self._catalog, self._results, self._writer_id = catalog, results, writer_id
        self._reserve = reserve
        self._pending: dict[str, TableRecord] = {}
        """Tombstoned tables whose bytes still exist."""

    def remove_version(self, version: VersionRecord) -> bool:
        """Remove a version, and return whether it existed. The bytes are removed with the last
        version that refers to them.

        Raises TenantForbidden; TableNotFound when its recipe was renamed; ResourceExhausted or
        WorkspaceReadOnly when the files cannot be removed, which recovery then does.
        """
        return bool(self.remove_versions(lambda: self._current_version(version)))

    def _current_version(self, version: VersionRecord) -> list[VersionRecord]:
        """The version in a list if it still exists under its name, which another recipe may have
        taken after a rename."""
        self._catalog.scope.check_owner(version.tenant, f"The recipe {version.recipe!r}")
        existing = self._catalog.result_tables.version(version.recipe, version.version)
        if existing is not None and existing[0].table_name == version.table_name:
            return [version]
        if any(
            (v.version, v.created_at) == (version.version, version.created_at)
            for v in self._catalog.result_tables.versions_of_table(version.table_name)
        ):
            raise missing_version_error(version)
        return []

    def remove_versions(
        self, select: Callable[[], Iterable[VersionRecord]]
    ) -> list[tuple[str, bool]]:
        """Remove the versions that `select` selects inside the transaction, atomically. Returns the
        physical table of each, and whether it is removed, too. Raises as `remove_version`."""

        def tombstone() -> list[tuple[str, bool]]:
            with self._catalog.transaction():
                return [table for v in select() if (table := self._tombstone(v)) is not None]

        dropped = self._reserve.run(tombstone)
        self._remove_unreferenced(dropped)
        return dropped

    def remove_recipe(self, name: str) -> None:
        """Remove a recipe with all its versions, atomically. A running build of it fails, so that
        neither its writer nor, after a crash, recovery publishes it. Raises as `remove_version`."""
        self._remove_unreferenced(self._reserve.run(lambda: self._tombstone_recipe(name)))

    def _tombstone_recipe(self, name: str) -> list[tuple[str, bool]]:
        with self._catalog.transaction():
            versions = self._catalog.result_tables.versions(name)
            self._catalog.recipes.remove(name)
            for _, record in versions:
                if record.status is TableStatus.BUILDING:
                    self._catalog.table_status.mark_failed(
                        record.table_name,
                        record.writer_id,
                        "its recipe was dropped while it was built",
                    )
            return [table for v, _ in versions if (table := self._tombstone(v)) is not None]

    def _tombstone(self, version: VersionRecord) -> tuple[str, bool] | None:
        # In this scope, the name may refer to a version of another owner.
        self._catalog.scope.check_owner(version.tenant, f"The recipe {version.recipe!r}")
        return self._catalog.table_status.drop_version(
            version.recipe, version.version, self._writer_id
        )

    def _remove_unreferenced(self, dropped: Sequence[tuple[str, bool]]) -> None:
        for table_name, is_last in dropped:
            if is_last and (record := self._catalog.result_tables.get(table_name)) is not None:
                self._pending[table_name] = record
        if self._pending:
            fault_point("removal:tombstone")
            self.remove_pending()
            self._reserve.fill()  # the space is there now, if it was not before

    def remove_pending(self) -> None:
        """Remove the bytes and rows of tombstoned tables, except those that a statement of this
        process still reads. Failed ones are tried again by the next removal, by
        `try_remove_pending`, and in the end by recovery. Raises as `remove_version`, after all
        were tried."""
        if not self._pending:
            return
        errors: list[BaseException] = []
        with self._catalog.all_tenants():
            for name, record in list(self._pending.items()):
                path = self._results.removable_file(record)
                # `pop` claims the table, because several threads may run this at once.
                if (path is not None and read_leases.is_leased(path)) or self._pending.pop(
                    name, None
                ) is None:
                    continue
                try:
                    self._reserve.run(functools.partial(self.remove_table, record))
                except JammiError as error:
                    self._pending[name] = record
                    errors.append(error)
                except BaseException:
                    self._pending[name] = record
                    raise
        if errors:
            raise errors[0]

    def try_remove_pending(self) -> None:
        """Like `remove_pending`, as part of another operation: errors are ignored, since
        recovery removes the rest."""
        with contextlib.suppress(JammiError):
            self.remove_pending()

    def remove_table(self, record: TableRecord) -> None:
        """Remove the bytes of a tombstoned table, then its row. Idempotent. Raises as
        `remove_version`."""
        if (path := self._results.removable_file(record)) is not None:
            with translate_storage_errors(record.table_name, removal_error):
                self._results.sidecar(record).on_removal(record)
                remove_table_files(path)
        fault_point("removal:bytes-gone")
        # The row goes last: until then recovery finds the tombstone and removes what is left.
        self._catalog.table_status.remove(record.table_name)
        fault_point("removal:forgotten")
