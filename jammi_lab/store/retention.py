"""Retention of versions: expire old ones, pin some, and make an old one the newest again."""

import contextlib
from collections.abc import Callable, Iterator

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.result_tables import Version
from jammi_lab.core.anchors import Anchor, Input
from jammi_lab.core.checks import Audit
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import CheckFailed, JammiError
from jammi_lab.core.identifiers import check_count, fold
from jammi_lab.core.records import READABLE_STATUSES, TableRecord, TableStatus, VersionRecord
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.store.removal import Removal, missing_version_error
from jammi_lab.store.result_files import ResultFiles, result_snapshot

REJECTED_SECONDS = 7 * 86_400
"""How long the bytes of a rejected version are kept."""


class VersionRetention:
    """Adds and removes versions in the bound tenant's scope."""

    def __init__(
        self, catalog: Catalog, scope: TenantScope, results: ResultFiles, removal: Removal
    ) -> None:
        self._catalog, self._scope, self._results, self._removal = catalog, scope, results, removal

    def expire(self, recipe: str, keep: int) -> list[str]:
        """Remove the rejected versions of a recipe, and its ready ones except the `keep` newest,
        pinned ones, and those that the newest ready version of any recipe is anchored on. Returns
        the removed physical names, newest first. Raises InvalidArgument, TenantForbidden;
        ResourceExhausted."""
        keep = check_count(
            "keep", keep, 1, hint=f"ws.drop({recipe!r}) removes a recipe with all its versions."
        )
        if (record := self._catalog.recipes.get(recipe)) is not None:
            self._catalog.scope.check_owner(record.tenant, f"The recipe {record.name!r}")
        dropped = self._removal.remove_versions(lambda: list(self._expired_versions(recipe, keep)))
        return [table_name for table_name, is_removed in dropped if is_removed]

    def remove_source(self, source: str, *, with_tables: bool) -> list[str]:
        """Remove a source, and with `with_tables` the bound tenant's own ready tables that read it
        directly, atomically. Returns the removed physical names, newest first. Raises
        SourceNotFound, TenantForbidden; ResourceExhausted."""
        if not with_tables:
            self._catalog.sources.remove(source)
            return []

        def select_versions() -> list[VersionRecord]:
            self._catalog.sources.remove(source)
            candidates = self._catalog.result_tables.list(source=source)
            return [
                v
                for v, r in candidates
                if v.tenant == self._scope.current
                and any(_is_source(a.input, source) for a in r.anchors)
            ]

        return [
            table_name
            for table_name, is_removed in self._removal.remove_versions(select_versions)
            if is_removed
        ]

    def _expired_versions(self, recipe: str, keep: int) -> Iterator[VersionRecord]:
        readable = []
        for v, r in self._catalog.result_tables.versions(recipe):
            if r.status in READABLE_STATUSES:
                readable.append((v, r))
        # A tenant's recipe may have the name of a shared one: only the versions of one owner count.
        owned = [(v, r) for v, r in readable if v.tenant == readable[0][0].tenant]
        yield from (v for v, r in owned if r.status is TableStatus.REJECTED)
        versions = [(v, r) for v, r in owned if r.status is TableStatus.READY]
        needed = self._needed_anchors()
        for version, record in versions[keep:]:
            if not version.pinned and not any(
                self._is_anchored_on(anchor, version, record) for anchor in needed
            ):
                yield version

    def expire_rejected(self, clock: Clock) -> None:
        """Remove the rejected versions of all tenants that are older than a week. Errors are
        ignored: the next recovery tries again."""
        oldest = rfc3339(clock.now_ns() - REJECTED_SECONDS * 10**9)
        tables = self._catalog.result_tables
        with contextlib.suppress(JammiError), self._catalog.all_tenants():
            expired = [
                version
                for record in tables.with_status(TableStatus.REJECTED)
                if (record.completed_at or "") < oldest
                for version in tables.versions_of_table(record.table_name)
            ]
            if expired:
                self._removal.remove_versions(lambda: expired)

    def _needed_anchors(self) -> list[Anchor]:
        """The result-table anchors of the newest ready version of every recipe, over all
        tenants."""
        with self._scope.use(None), self._catalog.all_tenants():
            current = self._catalog.result_tables.current()
        return [a for _, record in current for a in record.anchors if a.input.kind_class.is_result]

    def _is_anchored_on(self, anchor: Anchor, version: VersionRecord, record: TableRecord) -> bool:
        """Whether an anchor refers to this version, by physical name or by the recipe's name at
        that time."""
        if fold(anchor.input.name) == fold(record.table_name):
            return True
        if anchor.version != version.version:
            return False
        # Another existing recipe of that name is the more likely input; below, the digest decides.
        if (
            fold(anchor.input.name) != fold(version.recipe)
            and self._catalog.recipes.get(anchor.input.name) is not None
        ):
            return False
        return (
            result_snapshot(record, version.version)
            .anchor(anchor.input, anchor.columns)
            .same_state(anchor)
        )

    def pin(self, version: VersionRecord, note: str | None) -> None:
        """Protect a version from `expire`, with a note. Raises TableNotFound, TenantForbidden."""
        self._require_current(version)
        self._catalog.table_status.pin(version.recipe, version.version, note)

    def unpin(self, version: VersionRecord) -> None:
        """Let `expire` remove a version again. Raises TableNotFound, TenantForbidden."""
        self._require_current(version)
        self._catalog.table_status.unpin(version.recipe, version.version)

    def restore(self, version: VersionRecord, audit: Callable[[TableRecord], Audit]) -> Version:
        """A new, newest version that refers to the bytes of an old one; the old one itself when it
        is the newest. Holds the recipe. `audit` runs the checks of the recipe on the old one.

        Raises TableNotFound, TenantForbidden; TableDamaged when the bytes differ from those
        published; CheckFailed when a blocking check does not pass.
        """
        record = self._require_current(version)
        newest = self._catalog.result_tables.newest_of_owner(version.tenant, version.recipe)
        if newest is None or newest[1].table_name != record.table_name:
            audited = audit(record.with_values(recipe=version.recipe, version=0))
            if audited.failure is not None:
                raise audited.failure
            self._catalog.checks.add_results(audited.results)
        with self._catalog.transaction():
            record = self._require_current(version)
            self._results.require_intact(record)
            restored = self._catalog.table_status.reuse(version.recipe, record.table_name)
            if self._catalog.recipes.get(version.recipe) is not None:
                note = f"version {version.version} was restored"
                self._catalog.holds.put(version.tenant, version.recipe, note)
            return restored, record

    def previous_version(self, version: VersionRecord) -> Version | None:
        """The previous ready version, or None."""
        versions = self._catalog.result_tables.versions(version.recipe)
        return next(
            (
                candidate
                for candidate in versions
                if candidate[0].version < version.version
                and candidate[1].status is TableStatus.READY
            ),
            None,
        )

    def _require_current(self, version: VersionRecord) -> TableRecord:
        """The table of a version fetched earlier. Raises TableNotFound when it no longer exists,
        CheckFailed when it was rejected, TenantForbidden when the context does not own it."""
        self._catalog.scope.check_owner(version.tenant, f"The recipe {version.recipe!r}")
        existing = self._catalog.result_tables.version(version.recipe, version.version)
        if (
            existing is None
            or existing[0].table_name != version.table_name
            or existing[1].status not in READABLE_STATUSES
        ):
            raise missing_version_error(version)
        if existing[1].status is TableStatus.REJECTED:
            raise CheckFailed(
                existing[1].error
                or f"Version {version.version} of {version.recipe!r} was rejected.",
                table=version.recipe,
                hint="It was rejected. Change the check or the rows, and compute it again.",
            )
        return existing[1]


def _is_source(input_: Input, name: str) -> bool:
    """Whether an input is the source of that name, not a recipe with the same name."""
    return input_.kind_class.is_external and fold(input_.name) == fold(name)
