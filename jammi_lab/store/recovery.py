"""One walk over the rows and files of a workspace, over all tenants. Opening settles what dead
writers left, and looks for lost files; recovery also inspects every ready table; fsck compares
catalog and files in both directions. Running one twice changes nothing more."""

import contextlib
import functools
import json
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.checks import Severity
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import JammiError, LostOwnership, TableDamaged
from jammi_lab.core.manifest import is_sealed
from jammi_lab.core.records import OnProgress, TableRecord, TableStatus, report_each
from jammi_lab.storage.digests import CacheEntry, sha256_file
from jammi_lab.storage.files import (
    ListedFile,
    StoragePath,
    exists,
    fault_point,
    leftovers,
    list_files,
    make_folder,
    move_file,
    regular_stat,
    remove_file,
    sync_folder,
    write_atomic,
)
from jammi_lab.storage.object_store import RemotePath
from jammi_lab.storage.parquet import read_footer
from jammi_lab.store import manifests
from jammi_lab.store.completed_records import is_of, record_of_manifest
from jammi_lab.store.reports import FsckReport, RecoveryReport, visible_to_tenant
from jammi_lab.store.result_files import (
    CHECKPOINT_SECONDS,
    ResultFiles,
    cache_key,
    remove_table_files,
    remove_temporary_files,
)
from jammi_lab.store.sidecars import SIDECAR_SUFFIXES
from jammi_lab.store.storage_errors import reason_of, report_line, translate_storage_errors
from jammi_lab.store.table_paths import is_temporary, stem_of, temporary_files
from jammi_lab.store.workspace_identity import CATALOG_FILE

_QUARANTINE_SECONDS = 30 * 86_400
_TABLE_SUFFIXES = (".parquet", manifests.SUFFIX, *SIDECAR_SUFFIXES)
_FOLDER_TIMES_KEY = "results-stamps"
_MAX_ATTEMPTS = 5
WRITER_EXITED = "its writer exited before it was complete"
_UNATTESTED = "the manifest is missing, and the catalog's copy does not match these bytes"

_LOST_COMMITS = (
    "The catalog lacks commits of a kernel that died, because its write-ahead log is damaged, cut "
    "or missing: tables, sources, rows or events are lost. Restore catalog.sqlite3 and "
    "catalog.sqlite3-wal from one backup, or run again what is missing."
)


class Recovery:
    """Settles the rows of a workspace and inspects its files, over all tenants. A row that cannot
    be settled or compared is reported and does not stop the others."""

    def __init__(self, catalog: Catalog, results: ResultFiles, clock: Clock) -> None:
        self._catalog, self._results, self._clock = catalog, results, clock
        self._findings: defaultdict[str, list[str]] = defaultdict(list)
        self._recipes: dict[str, str] = {}
        self._synced: dict[Path, OSError | None] = {}
        self._leftovers: Mapping[str, list[str]] = {}
        """Temporary files by the stem of their table, listed when its writer was dead."""
        self._is_first_run = True  # until the first run, this kernel builds nothing
        self._lock = threading.Lock()  # several threads may detect the same dead writer

    def run(self, *, ready_too: bool, on_progress: OnProgress | None = None) -> RecoveryReport:
        """Settle building and deleting rows of dead writers. Then, if one died or `ready_too` is
        set, inspect the ready rows and report on each."""
        with self._walk():
            is_first_run, self._is_first_run = self._is_first_run, False
            any_died = self._settle_dead_writers()
            log_is_damaged = is_first_run and self._catalog.database.dialect.log_is_damaged
            if log_is_damaged:
                self._findings["damaged_log"].append(_LOST_COMMITS)
            if any_died or log_is_damaged or ready_too or self.have_folders_changed():
                files, rows = self._list_files("results"), self._rows()
                self._findings["unknown"] = [
                    stem.rpartition("/")[2] for stem in self._complete_tables(files, rows)
                ]
                if any_died:
                    self._remove_temporary_files(files, rows, is_first_run=is_first_run)
                ready = [r for r in rows.values() if r.status is TableStatus.READY]
                for record in report_each(ready, "recover", "tables", on_progress):
                    both = {record.path, manifests.manifest_location(record.path)}
                    if ready_too or not both <= files.keys():
                        self._settle_or_report(record, self._inspect)
                    self._settle_or_report(record, self._inspect_sidecars, in_full=ready_too)
            reported = {name for names in self._findings.values() for name in names}
            return RecoveryReport(
                **{field: self._findings[field] for field in RecoveryReport.list_fields()},
                recipes={
                    name: recipe for name, recipe in self._recipes.items() if name in reported
                },
            )

    def fsck(
        self, *, repair: bool, deep: bool, grace: float, on_progress: OnProgress | None = None
    ) -> FsckReport:
        """Compare catalog and files. `deep` reads all bytes again.

        `repair` restores lost manifests from the catalog's copy, settles rows of dead writers, and
        removes orphans older than `grace` seconds without a live writer, old quarantined files and
        old checkpoints. It never removes a complete table with its manifest, which a lost or
        foreign catalog would make an orphan of. Without `repair` nothing is changed.

        For a bound tenant the report contains its own and the shared tables.
        """
        with self._walk():
            if deep:
                self._check_catalog_integrity()
            any_died = repair and self._settle_dead_writers()
            files, rows = self._list_files("results"), self._rows()
            if any_died:
                self._remove_temporary_files(files, rows, is_first_run=False)
            complete = (TableStatus.READY, TableStatus.REJECTED)
            kept = [record for record in rows.values() if record.status in complete]
            for record in report_each(kept, "fsck", "tables", on_progress):
                how = {"repair": repair, "deep": deep}
                self._settle_or_report(record, self._inspect, **how)
                if record.status is TableStatus.READY:  # a rejected one gets no index
                    self._settle_or_report(record, self._inspect_sidecars, **how)
            files |= self._list_files("quarantine") | self._list_files("checkpoints")
            files |= self._leftovers_of_rebuild()
            self._find_unused_files(files, rows, grace if repair else None)
            found = self._findings
            found["repaired"] = [*found["healed"], *found["promoted"]]
            found["failed"] += found["quarantined"]
            found["quarantined"] = found["aside"]
        is_visible = visible_to_tenant(self._catalog)
        visible = {
            field: [finding for finding in found[field] if is_visible(finding)]
            for field in FsckReport.list_fields()
        }
        if deep:
            visible["damaged"] += self._catalog.damaged_logs()
        reclaimed, quarantined = (
            sum(files[path].size for path in visible[field])
            for field in ("reclaimed", "quarantined")
        )
        return FsckReport(**visible, bytes_reclaimed=reclaimed, bytes_quarantined=quarantined)

    @contextlib.contextmanager
    def _walk(self) -> Iterator[None]:
        """One walk at a time, without findings yet. Over all tenants, because a file of another
        tenant must not look like an orphan."""
        with self._lock, self._catalog.all_tenants():
            self._findings = defaultdict(list)
            self._recipes, self._synced = {}, {}
            yield

    def _settle_dead_writers(self) -> bool:
        """Settle the rows of the writers that died, and return whether there were any."""
        settled_writers: set[str] = set()
        for _ in range(2):
            for writer_id in self._catalog.writers.dead_writers():
                self._settle_writer(writer_id)
                settled_writers.add(writer_id)
            if self._report_live_builds() <= settled_writers:
                break  # otherwise a writer died after its lock was tried
        with contextlib.suppress(OSError):
            self._catalog.writers.remove_leftover_locks()
        return bool(settled_writers)

    def _list_files(self, folder: str) -> dict[str, ListedFile]:
        """The files below a folder of the workspace by path. What cannot be listed is reported."""

        def report_unreadable(path: str, error: OSError) -> None:
            self._report(f"{path}/", error)

        return dict(list_files(self._results.root, folder, report_unreadable))

    def _rows(self) -> dict[str, TableRecord]:
        """All rows by the stem of their files. Files must be listed before: a writer creates its
        row first."""
        return {
            record.path.removesuffix(".parquet"): record
            for status in TableStatus
            for record in self._catalog.result_tables.with_status(status)
        }

    def _complete_tables(self, files: Iterable[str], rows: Mapping[str, TableRecord]) -> list[str]:
        """The stems of complete tables without a row, sorted: the catalog lost them, or belongs to
        another workspace."""
        complete = []
        for path in sorted(files):
            stem = stem_of(path)
            if path == f"{stem}.parquet" and stem not in rows:
                # Another kernel may have dropped it since: the manifest goes first. One that
                # cannot be read may be whole.
                with contextlib.suppress(OSError):
                    if not manifests.is_manifest(manifests.read(self._results.root / path)):
                        continue
                complete.append(stem)
        return complete

    def record_folder_times(self) -> None:
        """Record the modification times of the results folders, so that the next open knows whether
        anything changed."""
        times = None
        # An obstacle is reported by the next open, which inspects the folders then.
        with contextlib.suppress(JammiError):
            times = self._folder_times()
        recorded = json.dumps(times, sort_keys=True)
        if self._catalog.metadata.get(_FOLDER_TIMES_KEY) != recorded:
            self._catalog.metadata.set(_FOLDER_TIMES_KEY, recorded)

    def _settle_writer(self, writer_id: str) -> None:
        """Settle the rows of one dead writer, whose lock is held meanwhile."""
        tables = self._catalog.result_tables
        building = tables.with_status(TableStatus.BUILDING, writer_id)
        deleting = tables.with_status(TableStatus.DELETING, writer_id)
        # it may have died between failing a row and removing the files
        failed = tables.with_status(TableStatus.FAILED, writer_id)
        if building or deleting or failed:
            self._leftovers = temporary_files(self._list_files("results"))
        self._promote(building)
        for record in deleting:
            self._settle_or_report(record, self._reap)
        for record in failed:
            self._settle_or_report(record, self._remove_files)

    def _promote(self, records: Sequence[TableRecord]) -> None:
        """Settle the builds of a dead writer. Those that can be ready become so in one transaction,
        after all bytes were checked."""
        completed: list[tuple[TableRecord, bytes]] = []
        # This writer may have renamed files after an earlier sync; only failures are remembered.
        self._synced = {
            folder: error for folder, error in self._synced.items() if error is not None
        }

        def settle(record: TableRecord) -> None:
            publication = self._settle_building(record)
            if publication is not None:
                completed.append(publication)

        for record in records:
            self._settle_or_report(record, settle)
        durable = [
            publication for publication in completed if self._make_names_durable(publication[0])
        ]
        if durable:
            with self._catalog.transaction():
                for record, body in durable:
                    with contextlib.suppress(LostOwnership):  # another kernel settled it
                        self._catalog.table_status.publish(record, body)
                        self._findings["promoted"].append(record.table_name)

    def _has_newer_check(self, sealed: TableRecord, tenant: str | None, recipe: str) -> bool:
        """Whether a blocking check was added or changed since a table was sealed, which therefore
        was not run on it. Only what was checked may become the newest version."""
        return any(
            check.severity is Severity.BLOCK and check.updated_at >= (sealed.completed_at or "")
            for check in self._catalog.checks.of_recipe(tenant, recipe)
        )

    def _make_names_durable(self, record: TableRecord) -> bool:
        """Make the names of a table's files durable, as its bytes are, since its writer may have
        died before. Returns whether it succeeded. A folder whose sync failed is not synced again,
        because the kernel may call it clean."""
        folder = self._results.parquet(record).parent
        if not isinstance(folder, Path):
            return True
        if folder not in self._synced:
            self._synced[folder] = None
            try:
                sync_folder(folder)
            except OSError as error:
                self._synced[folder] = error
        if (failure := self._synced[folder]) is not None:
            self._report(record.table_name, failure)
        return failure is None

    def _remove_files(self, record: TableRecord) -> None:
        """Remove the files of a table of a dead writer, with the unfinished ones. Raises
        JammiError, OSError."""
        path = self._results.parquet(record)
        left = self._leftovers.get(record.path.removesuffix(".parquet"), ())
        remove_table_files(path, [self._results.root / each for each in left])

    def _remove_temporary_files(
        self, files: Iterable[str], rows: Mapping[str, TableRecord], *, is_first_run: bool
    ) -> None:
        """Remove temporary files that nobody is writing: those without a row, which a power failure
        may have taken, since a writer creates its row first; and all when there is no other kernel.
        They were listed before: a writer that started since has none among them."""
        nobody_writes = is_first_run and not self._catalog.writers.suspects()
        for stem, paths in temporary_files(files).items():
            if nobody_writes or stem not in rows:
                for path in paths:
                    with contextlib.suppress(OSError):  # harmless; the next recovery tries again
                        remove_file(self._results.root / path)

    def _reap(self, record: TableRecord) -> None:
        """Remove the bytes of a tombstoned table, then its row."""
        self._remove_files(record)
        fault_point("removal:bytes-gone")
        self._catalog.table_status.remove(record.table_name)
        self._findings["reaped"].append(record.table_name)

    def _report(self, subject: str, error: JammiError | OSError) -> None:
        self._findings["errors"].append(report_line(subject, error))

    def _settle_or_report(
        self, record: TableRecord, settle: Callable[..., None], **how: bool
    ) -> None:
        self._recipes[record.table_name] = record.recipe
        for attempts_left in reversed(range(_MAX_ATTEMPTS)):
            try:
                settle(record, **how)
                return
            except (JammiError, OSError) as error:
                ready = record.status is TableStatus.READY
                if ready and not self._has_same_status(record):
                    return
                # A file that vanishes from a ready table means that another kernel repairs the same
                # table right now: try again.
                if not (ready and attempts_left and isinstance(error, FileNotFoundError)):
                    self._report(record.table_name, error)
                    return

    def _report_live_builds(self) -> set[str]:
        """Report the rows that live writers are building or removing. Returns the dead writers that
        still have such rows."""
        is_alive = functools.cache(self._catalog.writers.is_alive)
        unfinished = [
            record
            for status in (TableStatus.BUILDING, TableStatus.DELETING)
            for record in self._catalog.result_tables.with_status(status)
        ]
        spared = [record for record in unfinished if is_alive(record.writer_id)]
        self._findings["spared"] = [r.table_name for r in spared]
        self._recipes |= {r.table_name: r.recipe for r in spared}
        return {record.writer_id for record in unfinished if not is_alive(record.writer_id)}

    def _settle_building(self, record: TableRecord) -> tuple[TableRecord, bytes] | None:
        """A dead writer's build in its published form with its manifest, if that attests complete
        bytes, no later version is ready and no check was added. Otherwise it is failed and
        removed."""
        path = self._results.parquet(record)
        stat, body = regular_stat(path), manifests.read(path) or b""
        attested = None
        if (manifest := manifests.parse(body)) is not None:
            size = stat.size if stat else None
            attested = record_of_manifest(manifest, body, record.path, record.writer_id, size)
        if attested is None or not is_of(attested, record):
            self._fail(record, WRITER_EXITED)
        elif stat is None:
            self._fail(record, "its writer exited, and its file is missing")
        elif read_footer(path) is None:
            self._fail(record, "its writer exited, and its file is incomplete")
        elif sha256_file(path) != attested.digest:
            self._quarantine(
                record, path, "the file is complete, but its digest is not the one in the manifest"
            )
        elif not is_sealed(body):
            self._quarantine(record, path, "the file is complete, but its manifest was edited")
        elif (obstacle := self._obstacle(attested)) is not None:
            self._fail(record, obstacle)
        else:
            return attested.with_values(created_at=record.created_at), body
        return None

    def _obstacle(self, completed: TableRecord) -> str | None:
        """Why a complete build cannot become the newest version of its recipe, which may have
        another name now."""
        for version in self._catalog.result_tables.versions_of_table(completed.table_name):
            newest = self._catalog.result_tables.newest_of_owner(version.tenant, version.recipe)
            if newest is not None and newest[0].version > completed.version:
                return "a later version was already ready"
            if self._has_newer_check(completed, version.tenant, version.recipe):
                return "its writer exited, and a check has been added since"
        return None

    def _fail(self, record: TableRecord, reason: str) -> None:
        """Fail a build of a dead writer, and remove its files."""
        # If another kernel settled the row, the files are not ours to remove.
        if self._catalog.table_status.mark_failed(record.table_name, record.writer_id, reason):
            self._findings["failed"].append(record.table_name)
            self._remove_files(record)

    def _inspect(self, record: TableRecord, *, repair: bool = True, deep: bool = False) -> None:
        """Compare a complete table with its bytes, its manifest, and the catalog's copy of the
        manifest; a rejected one, which has none, with its bytes. `repair` restores a lost manifest
        or copy from the other when the bytes match; bytes that nothing attests are quarantined."""
        path, name = self._results.parquet(record), record.table_name
        if deep:
            self._rehash(record, path)
        damage = self._results.find_damage(record)
        if regular_stat(path) is None:  # asked last: the table may have been dropped meanwhile
            if repair and regular_stat(self._quarantine_folder / path.name) is not None:
                # A recovery died between moving the bytes and failing the row.
                self._quarantine(record, path, _UNATTESTED)
            elif self._has_same_status(record):
                self._findings["missing"].append(name)
            return
        if record.status is TableStatus.REJECTED:
            self._findings["damaged"] += [name] * (damage is not None)
            return
        body, published = manifests.read(path), None
        if body is not None and manifests.digest(body) == record.manifest_digest:
            published = body
        is_other = published is None and manifests.is_manifest(body)
        is_lost = record.definition_hash is not None and published is None and not is_other
        if is_lost and repair:
            self._restore_manifest(record, path)
        elif damage is not None or (is_other and record.manifest_digest is not None):
            self._findings["damaged"].append(name)
        elif is_lost and self._has_same_status(record):
            self._findings["missing"].append(manifests.manifest_location(record.path))
        elif published and self._catalog.result_tables.manifest(name) != published:
            if not repair:
                self._findings["damaged"].append(name)
            elif self._catalog.table_status.replace_manifest(name, published):
                self._findings["healed"].append(name)

    def _restore_manifest(self, record: TableRecord, path: StoragePath) -> None:
        """Restore a lost manifest from the catalog's copy when the bytes match it; otherwise
        quarantine the table."""
        copy = self._catalog.result_tables.manifest(record.table_name)
        manifest, digest = manifests.parse(copy), None
        with contextlib.suppress(FileNotFoundError):
            digest = sha256_file(path)
        if not self._has_same_status(record):
            return
        if copy is None or manifest is None or digest != manifest.artifact.digest:
            self._quarantine(record, path, _UNATTESTED)
            return
        manifests.write(path, copy)
        # Temporary files of a recovery that died here. Only now that ours is in place: two
        # concurrent recoveries would otherwise remove each other's.
        remove_temporary_files(manifests.manifest_path(path))
        if self._has_same_status(record):
            self._findings["healed"].append(record.table_name)
        else:
            # The table was dropped meanwhile, before there was a manifest to remove.
            remove_file(manifests.manifest_path(path))

    def _inspect_sidecars(
        self, record: TableRecord, *, repair: bool = True, in_full: bool = True, deep: bool = False
    ) -> None:
        """Rebuild what is derived from a ready table, and report what is wrong with it. Unless
        `in_full`, as when a workspace is opened, slow builds are only started."""
        sidecar, healed = self._results.sidecar(record), self._findings["healed"]
        if repair and sidecar.restore(record, wait=in_full) and record.table_name not in healed:
            healed.append(record.table_name)
        defect = sidecar.find_defect(record, deep=deep) if in_full else None
        if defect is not None and self._has_same_status(record):
            self._findings["indexes"].append(f"{record.table_name}: {defect}")

    def _rehash(self, record: TableRecord, path: StoragePath) -> None:
        """Hash the file whatever its stat says, and cache the digest for later checks."""
        stat, observed_at = regular_stat(path), self._clock.now_ns()
        if stat is not None:
            with contextlib.suppress(FileNotFoundError):
                entry = CacheEntry(stat, observed_at, {"digest": sha256_file(path)})
                self._results.cache.put(cache_key(record), entry)

    def _has_same_status(self, record: TableRecord) -> bool:
        """Whether the row has the status that it had at the beginning: a live writer may be
        dropping the table."""
        current = self._catalog.result_tables.get(record.table_name)
        return current is not None and current.status is record.status

    @property
    def _quarantine_folder(self) -> StoragePath:
        return self._results.root / "quarantine"

    def _quarantine(self, record: TableRecord, path: StoragePath, reason: str) -> None:
        """Move the files to quarantine with a note of the reason, then fail the row. Repeating it
        after a crash ends the same."""
        folder = self._quarantine_folder
        make_folder(folder, inside=self._results.root)
        note = {
            "table": record.table_name,
            "recipe": record.recipe,
            "tenant": record.tenant,
            "why": reason,
            "at": rfc3339(self._clock.now_ns()),
        }
        note_path = folder / f"{record.table_name}.why.json"
        write_atomic(note_path, json.dumps(note, indent=1).encode())
        remove_temporary_files(note_path)
        for file in (path, manifests.manifest_path(path)):
            with contextlib.suppress(FileNotFoundError):
                move_file(file, folder)
        fault_point("recovery:aside")
        if record.status is TableStatus.READY:
            self._catalog.table_status.mark_damaged(record.table_name, reason)
        else:
            self._catalog.table_status.mark_failed(record.table_name, record.writer_id, reason)
        self._findings["quarantined"].append(record.table_name)

    def _leftovers_of_rebuild(self) -> dict[str, ListedFile]:
        """The new catalogs of rebuilds that were killed, or that run now."""
        root = self._results.root
        if not isinstance(root, Path):
            return {}
        try:
            stats = {path.name: regular_stat(path) for path in leftovers(root / CATALOG_FILE)}
        except OSError as error:
            self._report(os.fspath(root), error)
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

    def have_folders_changed(self) -> bool:
        """Whether a results folder was written to since the times of all were last recorded."""
        recorded = self._catalog.metadata.get(_FOLDER_TIMES_KEY)
        try:
            return recorded is not None and json.loads(recorded) != self._folder_times()
        except (ValueError, RecursionError):  # an unreadable record: assume a change
            return True

    def _folder_times(self) -> dict[str, int]:
        """The modification time of each results folder; empty in an object store, which has no
        folders. Raises WorkspaceReadOnly, ResourceExhausted."""
        root = self._results.root / "results"
        if isinstance(root, RemotePath):
            return {}
        with (
            translate_storage_errors(os.fspath(self._results.root)),
            contextlib.suppress(FileNotFoundError),
            os.scandir(root) as entries,
        ):
            return {
                e.name: e.stat(follow_symlinks=False).st_mtime_ns
                for e in entries
                if e.is_dir(follow_symlinks=False)
            }
        return {}

    # -- what no row needs
    # ----------------------------------------------------------------------------------------------

    def _find_unused_files(
        self,
        files: Mapping[str, ListedFile],
        rows: Mapping[str, TableRecord],
        grace: float | None,
    ) -> None:
        """Report orphans and quarantined files, after removing those that are old enough; None
        removes nothing."""
        quarantined = {path for path in files if path.startswith("quarantine/")}
        checkpoints = {path for path in files if path.startswith("checkpoints/")}
        orphans = self._orphans(files.keys() - quarantined - checkpoints, rows)
        if grace is not None:
            complete = self._complete_tables(orphans, rows)
            self._findings["errors"] += [
                f"{stem}.parquet: a complete table that this catalog does not contain was kept; "
                "jl.rebuild builds a catalog from the files in this folder"
                for stem in complete
            ]
            incomplete = {path for path in orphans if stem_of(path) not in complete}
            orphans -= self._reclaim(files, incomplete, grace)
            quarantined -= self._reclaim(files, quarantined, _QUARANTINE_SECONDS)
            self._reclaim(files, checkpoints, CHECKPOINT_SECONDS)
        self._findings["orphans"] = sorted(orphans)
        self._findings["aside"] = sorted(quarantined)

    def _orphans(self, files: Iterable[str], rows: Mapping[str, TableRecord]) -> set[str]:
        """The files that do not belong to a row."""
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

    def _reclaim(
        self, files: Mapping[str, ListedFile], paths: Iterable[str], seconds: float
    ) -> set[str]:
        """Remove the files older than `seconds`, and return them. The age of a quarantined file is
        that of the note beside it, not of its bytes."""
        removed = set()
        now_ns = self._clock.now_ns()
        for path in sorted(paths):
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
