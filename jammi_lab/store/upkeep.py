"""Upkeep of versions: which of them may go, which are kept on purpose, and an old one made the newest again."""

from collections.abc import Iterator

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.tables import Version
from jammi_lab.errors import InvalidArgument
from jammi_lab.names import fold
from jammi_lab.store.removal import Removal, no_longer
from jammi_lab.store.results import Results, snapshot_of
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Anchor, Input, InputKind
from jammi_lab.values.records import TableRecord, TableStatus, VersionRecord


class Upkeep:
    """Changes what versions there are, in the bound tenant's scope."""

    def __init__(self, catalog: Catalog, scope: TenantScope, results: Results, removal: Removal) -> None:
        self._catalog, self._scope, self._results, self._removal = catalog, scope, results, removal

    def expire(self, recipe: str, keep: int) -> list[str]:
        """Remove the ready versions of a recipe but the `keep` newest, pinned ones and those that the newest ready version of some recipe is anchored
        on. The physical names that are gone, newest first. InvalidArgument, TenantForbidden; ResourceExhausted."""
        if not isinstance(keep, int) or isinstance(keep, bool) or keep < 1:
            raise InvalidArgument(
                f"keep is a whole number from 1, not {keep!r}.", hint=f"ws.drop({recipe!r}) removes a recipe with all its versions."
            )
        if (record := self._catalog.recipes.get(recipe)) is not None:
            self._catalog.scope.check_owner(record.tenant, f"The recipe {record.name!r}")
        dropped = self._removal.versions(lambda: list(self._spent(recipe, keep)))
        return [table_name for table_name, gone in dropped if gone]

    def forget(self, source: str, *, tables: bool) -> list[str]:
        """Remove a source, and with `tables` the ready tables of the bound tenant itself that read it directly: all at once or nothing. The physical
        names of those that are gone, newest first. SourceNotFound, TenantForbidden; ResourceExhausted."""
        if not tables:
            self._catalog.sources.remove(source)
            return []

        def chosen() -> list[VersionRecord]:
            self._catalog.sources.remove(source)
            made = self._catalog.tables.list(source=source)
            return [v for v, r in made if v.tenant == self._scope.current and any(_is_source(a.input, source) for a in r.anchors)]

        return [table_name for table_name, gone in self._removal.versions(chosen) if gone]

    def _spent(self, recipe: str, keep: int) -> Iterator[VersionRecord]:
        ready = [(v, r) for v, r in self._catalog.tables.versions(recipe) if r.status is TableStatus.READY]
        own = [(v, r) for v, r in ready if v.tenant == ready[0][0].tenant]
        needed = self._recorded()
        for version, record in own[keep:]:
            if not version.pinned and not any(self._rests_on(anchor, version, record) for anchor in needed):
                yield version

    def _recorded(self) -> list[Anchor]:
        """What the newest ready version of every recipe, of all tenants, is anchored on."""
        with self._scope.use(None), self._catalog.everyone():
            current = self._catalog.tables.current()
        return [a for _, record in current for a in record.anchors if a.input.kind is InputKind.RESULT]

    def _rests_on(self, anchor: Anchor, version: VersionRecord, record: TableRecord) -> bool:
        """Whether an anchor was taken from this very version, by its physical name or by its recipe's, which may have been another then."""
        if fold(anchor.input.name) == fold(record.table_name):
            return True
        if anchor.version != version.version:
            return False
        if fold(anchor.input.name) != fold(version.recipe) and self._catalog.recipes.get(anchor.input.name) is not None:
            return False
        return snapshot_of(record, version.version).anchor(anchor.input, anchor.columns).same_state(anchor)

    def pin(self, version: VersionRecord, note: str | None) -> None:
        """Keep a version from `expire`, with a note why. TableNotFound, TenantForbidden."""
        self._still(version)
        self._catalog.publish.pin(version.recipe, version.version, note)

    def unpin(self, version: VersionRecord) -> None:
        """Let `expire` have a version. TableNotFound, TenantForbidden."""
        self._still(version)
        self._catalog.publish.unpin(version.recipe, version.version)

    def restore(self, version: VersionRecord) -> Version:
        """A new version, the newest, that refers to the bytes of an old one; the old one itself when it is the newest.

        TableNotFound, TenantForbidden; TableDamaged when the bytes are not the published ones any more.
        """
        with self._catalog.transaction():
            record = self._still(version)
            self._results.require(record)
            return self._catalog.publish.reuse(version.recipe, record.table_name), record

    def before(self, version: VersionRecord) -> Version | None:
        """The ready version before a version, or None."""
        versions = self._catalog.tables.versions(version.recipe)
        return next((each for each in versions if each[0].version < version.version and each[1].status is TableStatus.READY), None)

    def _still(self, version: VersionRecord) -> TableRecord:
        """The table of a version that was fetched some time ago. TableNotFound when it is gone, TenantForbidden when it is not this context's own."""
        self._catalog.scope.check_owner(version.tenant, f"The recipe {version.recipe!r}")
        found = self._catalog.tables.version(version.recipe, version.version)
        if found is None or found[0].table_name != version.table_name or found[1].status is not TableStatus.READY:
            raise no_longer(version)
        return found[1]


def _is_source(given: Input, name: str) -> bool:
    """Whether an input is the source of that name, and not a recipe that is called so too."""
    return given.kind in (InputKind.SOURCE, InputKind.FRAME) and fold(given.name) == fold(name)
