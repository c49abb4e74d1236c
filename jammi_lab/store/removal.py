"""The one way out: tombstone → bytes → row."""

import contextlib
from collections.abc import Callable, Iterable, Sequence

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.errors import JammiError, TableNotFound
from jammi_lab.storage.files import fault_point
from jammi_lab.store import readers
from jammi_lab.store.failures import explained, removal_error
from jammi_lab.store.results import Results, clear
from jammi_lab.values.records import TableRecord, TableStatus, VersionRecord


def no_longer(version: VersionRecord) -> TableNotFound:
    """The error of a version that is not there any more under the name that it had when it was fetched."""
    return TableNotFound(f"{version.recipe!r} has no version {version.version} any more.", hint="ws.tables() lists what there is.")


class Removal:
    """Removes versions and tables for one writer, which recovery completes when this one dies in between."""

    def __init__(self, catalog: Catalog, results: Results, writer_id: str) -> None:
        self._catalog, self._results, self._writer_id = catalog, results, writer_id
        self._waiting: dict[str, TableRecord] = {}  # tombstoned tables whose bytes are still there

    def version(self, version: VersionRecord) -> bool:
        """Whether the version was there; the table's bytes go with the last version that refers to it.

        TenantForbidden; TableNotFound when its recipe has another name by now; ResourceExhausted, WorkspaceReadOnly when the files do not go, which
        recovery then removes."""
        return bool(self.versions(lambda: self._found(version)))

    def _found(self, version: VersionRecord) -> list[VersionRecord]:
        """The version, while it is there under its name, which another recipe may have taken after a rename."""
        self._catalog.scope.check_owner(version.tenant, f"The recipe {version.recipe!r}")
        there = self._catalog.tables.version(version.recipe, version.version)
        if there is not None and there[0].table_name == version.table_name:
            return [version]
        if any((v.version, v.created_at) == (version.version, version.created_at) for v in self._catalog.tables.referring(version.table_name)):
            raise no_longer(version)
        return []

    def versions(self, chosen: Callable[[], Iterable[VersionRecord]]) -> list[tuple[str, bool]]:
        """Remove the versions that are chosen inside the transaction, for everybody at once or not at all: the physical table of each, and whether it
        goes too. Raises as `version`."""
        with self._catalog.transaction():
            dropped = [each for v in chosen() if (each := self._tombstone(v)) is not None]
        self._bury(dropped)
        return dropped

    def recipe(self, name: str) -> None:
        """Remove a recipe with all its versions: for everybody at once, or not at all. What is being built for it fails, so that neither its writer
        publishes it nor, when that dies, recovery. Raises as `version`."""
        with self._catalog.transaction():
            found = self._catalog.tables.versions(name)
            self._catalog.recipes.remove(name)
            for _, record in found:
                if record.status is TableStatus.BUILDING:
                    self._catalog.publish.failed(record.table_name, record.writer_id, "its recipe was dropped while it was built")
            dropped = [each for v, _ in found if (each := self._tombstone(v)) is not None]
        self._bury(dropped)

    def _tombstone(self, version: VersionRecord) -> tuple[str, bool] | None:
        self._catalog.scope.check_owner(version.tenant, f"The recipe {version.recipe!r}")  # a name may mean another's version here
        return self._catalog.publish.drop_version(version.recipe, version.version, self._writer_id)

    def _bury(self, dropped: Sequence[tuple[str, bool]]) -> None:
        for table_name, last in dropped:
            if last and (record := self._catalog.tables.get(table_name)) is not None:
                self._waiting[table_name] = record
        if self._waiting:
            fault_point("removal:tombstone")
            self.finish()

    def finish(self) -> None:
        """Remove the bytes of tombstoned tables, and their rows, but for those that a statement of this process still reads. What does not go now is
        tried again by the next removal, by `settle`, and in the end by recovery. Raises as `version`, when all were tried."""
        wrong: list[BaseException] = []
        with self._catalog.everyone():
            for name, record in list(self._waiting.items()):
                path = self._results.owned(record)
                if (path is not None and readers.held(path)) or self._waiting.pop(name, None) is None:
                    continue
                try:
                    self.bury(record)
                except JammiError as error:
                    self._waiting[name] = record
                    wrong.append(error)
                except BaseException:
                    self._waiting[name] = record
                    raise
        if wrong:
            raise wrong[0]

    def settle(self) -> None:
        """Like `finish`, when something else is being done: what does not go now is recovery's."""
        with contextlib.suppress(JammiError):
            self.finish()

    def bury(self, record: TableRecord) -> None:
        """Remove the bytes of a tombstoned table, then its row. Doing it again changes nothing. Raises as `version`."""
        if (path := self._results.owned(record)) is not None:
            with explained(record.table_name, removal_error):
                self._results.sidecars.gone(record)
                clear(path)
        fault_point("removal:bytes-gone")
        self._catalog.publish.forget(record.table_name)
        fault_point("removal:forgotten")
