"""Consistency check: compare catalog and files in both directions, and repair what needs no
computation."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.clock import Clock
from jammi_lab.core.errors import JammiError, TableDamaged
from jammi_lab.core.records import Progress, TableRecord, TableStatus
from jammi_lab.storage.digests import CacheEntry, sha256_file
from jammi_lab.storage.files import (
    ListedFile,
    StoragePath,
    exists,
    fault_point,
    leftovers,
    list_files,
    regular_stat,
    remove_file,
)
from jammi_lab.store import manifests
from jammi_lab.store.folder_listing import is_temporary, stem_of
from jammi_lab.store.rebuild import CATALOG_FILE
from jammi_lab.store.recovery import Recovery
from jammi_lab.store.reports import FsckReport, visible_to_tenant
from jammi_lab.store.result_files import CHECKPOINT_SECONDS, ResultFiles, cache_key
from jammi_lab.store.sidecars import SIDECAR_SUFFIXES
from jammi_lab.store.storage_errors import reason_of, report_line

QUARANTINE_SECONDS = 30 * 86_400
_TABLE_SUFFIXES = (".parquet", manifests.SUFFIX, *SIDECAR_SUFFIXES)


class Fsck:
    """One comparison of a whole workspace, over all tenants."""

    def __init__(
        self, catalog: Catalog, results: ResultFiles, recovery: Recovery, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._results = results
        self._recovery = recovery
        self._clock = clock
        self._findings: dict[str, list[str]] = {}

    def run(
        self,
        *,
        repair: bool,
        deep: bool,
        grace: float,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> FsckReport:
        """Compare catalog and files. `deep` reads all bytes again.

        `repair` restores lost manifests from the catalog's copy, settles rows of dead writers, and
        removes orphans older than `grace` seconds without a live writer, old quarantined files and
        old checkpoints. It never removes a complete table with its manifest, which a lost or
        foreign catalog would make an orphan of. Without `repair` nothing is changed.

        For a bound tenant the report contains its own and the shared tables.
        """
        self._findings = {
            field: [] for field, value in FsckReport().to_dict().items() if isinstance(value, list)
        }
        # Over all tenants, because a file of another tenant must not look like an orphan.
        with self._catalog.all_tenants():
            if deep:
                self._check_catalog_integrity()
            if repair:
                self._recover()
            files = {
                path: file
                for folder in ("results", "quarantine", "checkpoints")
                for path, file in self._list_files(folder)
            }
            files |= self._leftovers_of_rebuild()
            with_status = self._catalog.result_tables.with_status
            kept = [*with_status(TableStatus.READY), *with_status(TableStatus.REJECTED)]
            for done_count, record in enumerate(kept, 1):
                self._compare_or_report(record, repair=repair, deep=deep)
                if on_progress is not None:
                    on_progress(
                        Progress(stage="fsck", done=done_count, total=len(kept), unit="tables")
                    )
            self._find_unused_files(files, grace if repair else None)
        report = self._visible_report(files)
        return (
            report
            if not deep
            else report.with_values(damaged=[*report.damaged, *self._catalog.damaged_logs()])
        )

    def _find_unused_files(self, files: Mapping[str, ListedFile], grace: float | None) -> None:
        """Report orphans and quarantined files, after removing those that are old enough; None
        removes nothing."""
        orphans = self._orphans(
            [path for path in files if not path.startswith(("quarantine/", "checkpoints/"))]
        )
        quarantined = {path for path in files if path.startswith("quarantine/")}
        if grace is not None:
            incomplete = sorted(orphans - self._complete_tables(orphans))
            orphans -= self._reclaim(files, incomplete, grace)
            quarantined -= self._reclaim(files, sorted(quarantined), QUARANTINE_SECONDS)
            checkpoints = [path for path in files if path.startswith("checkpoints/")]
            self._reclaim(files, checkpoints, CHECKPOINT_SECONDS)
        self._findings["orphans"] = sorted(orphans)
        self._findings["quarantined"] = sorted(quarantined)

    def _visible_report(self, files: Mapping[str, ListedFile]) -> FsckReport:
        """The findings about files that the bound tenant may see."""
        is_visible = visible_to_tenant(self._catalog)
        visible_findings = {
            field: [finding for finding in entries if is_visible(finding)]
            for field, entries in self._findings.items()
        }
        reclaimed, quarantined = (
            sum(files[path].size for path in visible_findings[field])
            for field in ("reclaimed", "quarantined")
        )
        return FsckReport(
            **visible_findings, bytes_reclaimed=reclaimed, bytes_quarantined=quarantined
        )

    def _list_files(self, folder: str) -> Iterator[tuple[str, ListedFile]]:
        def report_unreadable(path: str, error: OSError) -> None:
            self._findings["errors"].append(report_line(f"{path}/", error))

        return list_files(self._results.root, folder, report_unreadable)

    def _leftovers_of_rebuild(self) -> dict[str, ListedFile]:
        """The new catalogs of rebuilds that were killed, or that run now."""
        root = self._results.root
        if not isinstance(root, Path):
            return {}
        try:
            stats = {path.name: regular_stat(path) for path in leftovers(root / CATALOG_FILE)}
        except OSError as error:
            self._findings["errors"].append(report_line(os.fspath(root), error))
            return {}
        return {
            name: ListedFile(stat.size, stat.mtime_ns)
            for name, stat in stats.items()
            if stat is not None
        }

    def _check_catalog_integrity(self) -> None:
        try:
            self._catalog.check_integrity()
        except TableDamaged as error:
            self._findings["errors"].append(f"catalog: {error.message} {error.hint}")

    def _recover(self) -> None:
        report = self._recovery.run(ready_too=True)
        self._findings["repaired"] += [*report.healed, *report.promoted]
        self._findings["failed"] += [*report.failed, *report.quarantined]
        self._findings["errors"] += report.errors

    def _compare_or_report(self, record: TableRecord, *, repair: bool, deep: bool) -> None:
        try:
            self._compare(record, repair=repair, deep=deep)
        except (JammiError, OSError) as error:
            self._findings["errors"].append(report_line(record.table_name, error))

    def _compare(self, record: TableRecord, *, repair: bool, deep: bool) -> None:
        """Compare a ready table with its bytes, its manifest, and the catalog's copy of the
        manifest; a rejected one, which has none, with its bytes."""
        path = self._results.parquet(record)
        if record.status is TableStatus.READY:  # a rejected one gets no index
            defect = self._results.sidecar(record).find_defect(record, deep=deep)
            self._findings["indexes"] += [f"{record.table_name}: {defect}"] if defect else []
        if deep:
            self._rehash(record, path)
        damage = self._results.find_damage(record)
        if damage is not None and damage.found is None:
            if self._has_same_status(record):
                self._findings["missing"].append(record.table_name)
            return
        if record.status is TableStatus.REJECTED:
            self._findings["damaged"] += [record.table_name] * (damage is not None)
            return
        body = manifests.read(path)
        copy = self._catalog.result_tables.manifest(record.table_name)
        if damage is not None or self._is_other_manifest(record, body):
            self._findings["damaged"].append(record.table_name)
        elif (
            record.definition_hash is not None
            and not manifests.is_manifest(body)
            and self._has_same_status(record)
        ):
            self._findings["missing"].append(
                record.path.removesuffix(".parquet") + manifests.SUFFIX
            )
        elif body is not None and record.manifest_digest == manifests.digest(body) and copy != body:
            if repair and self._catalog.table_status.replace_manifest(record.table_name, body):
                self._findings["repaired"].append(record.table_name)
            elif not repair:
                self._findings["damaged"].append(record.table_name)

    def _rehash(self, record: TableRecord, path: StoragePath) -> None:
        """Hash the file whatever its stat says, and cache the digest for later checks."""
        stat, observed_at = regular_stat(path), self._clock.now_ns()
        if stat is not None:
            with contextlib.suppress(FileNotFoundError):
                entry = CacheEntry(stat, observed_at, {"digest": sha256_file(path)})
                self._results.cache.put(cache_key(record), entry)

    def _is_other_manifest(self, record: TableRecord, body: bytes | None) -> bool:
        """Whether there is a manifest that is not the published one."""
        return (
            body is not None
            and record.manifest_digest is not None
            and manifests.digest(body) != record.manifest_digest
            and manifests.is_manifest(body)
        )

    def _has_same_status(self, record: TableRecord) -> bool:
        current = self._catalog.result_tables.get(record.table_name)
        return current is not None and current.status is record.status

    def _orphans(self, files: list[str]) -> set[str]:
        """The files without a catalog row. The files must be listed before: a writer creates its
        row first."""
        rows = {
            record.path.removesuffix(".parquet"): record
            for status in TableStatus
            for record in self._catalog.result_tables.with_status(status)
        }
        is_alive = functools.cache(self._catalog.writers.is_alive)

        def belongs(path: str) -> bool:
            stem = stem_of(path)
            record = rows.get(stem)
            if record is None:
                return False
            if record.status in (TableStatus.BUILDING, TableStatus.DELETING):
                return True  # still to be settled, by its writer or by recovery
            if record.status is TableStatus.FAILED or is_temporary(path):
                return is_alive(record.writer_id)  # which removes it, or writes an index
            # a rejected table has no manifest
            suffixes = _TABLE_SUFFIXES if record.status is TableStatus.READY else (".parquet",)
            return path.removeprefix(stem) in suffixes

        # A file that was renamed or dropped since the listing is not an orphan.
        return {path for path in files if not belongs(path) and exists(self._results.root / path)}

    def _complete_tables(self, orphans: set[str]) -> set[str]:
        """The files of complete tables that are not in the catalog, which are reported: the catalog
        lost them, or belongs to another workspace."""
        complete: set[str] = set()
        for path in sorted(orphans):
            parquet = stem_of(path) + ".parquet"
            name = parquet.rpartition("/")[2].removesuffix(".parquet")
            if (
                not path.endswith(manifests.SUFFIX)
                or parquet not in orphans
                or self._catalog.result_tables.get(name) is not None
            ):
                continue
            body = manifests.read(self._results.root / parquet)
            if body is not None and manifests.is_manifest(body):
                complete |= {orphan for orphan in orphans if stem_of(orphan) == stem_of(path)}
                self._findings["errors"].append(
                    f"{parquet}: a complete table that this catalog does not contain was kept; "
                    "jl.rebuild builds a catalog from the files in this folder"
                )
        return complete

    def _reclaim(
        self, files: Mapping[str, ListedFile], paths: list[str], seconds: float
    ) -> set[str]:
        """Remove the files older than `seconds`, and return them. The age of a quarantined file is
        that of the note beside it, not of its bytes."""
        removed = set()
        now_ns = self._clock.now_ns()
        for path in paths:
            # Moving a file to quarantine keeps its own time.
            note = files.get(stem_of(path) + ".why.json", files[path])
            if now_ns - max(files[path].modified_ns, note.modified_ns) < seconds * 1e9:
                continue
            fault_point("check:reclaim")
            try:
                existed = remove_file(self._results.root / path)
            except OSError as error:
                self._findings["errors"].append(
                    f"{path}: it cannot be removed: {reason_of(error)}. Check the write "
                    "permission on the workspace's folder."
                )
                continue
            removed.add(path)
            if existed:  # else another kernel removed it first
                self._findings["reclaimed"].append(path)
        return removed
