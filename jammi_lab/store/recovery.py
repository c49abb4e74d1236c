"""Recovery: settle what dead writers left, and inspect ready tables whose files changed without us.
Running it twice changes nothing more."""

import contextlib
import functools
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.checks import Severity
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import JammiError, LostOwnership
from jammi_lab.core.manifest import is_sealed
from jammi_lab.core.records import Progress, TableRecord, TableStatus
from jammi_lab.core.recovery_report import RecoveryReport
from jammi_lab.storage.digests import sha256_file
from jammi_lab.storage.files import (
    StoragePath,
    exists,
    fault_point,
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
from jammi_lab.store.folder_listing import FolderListing
from jammi_lab.store.result_files import ResultFiles, remove_table_files, remove_temporary_files
from jammi_lab.store.storage_errors import report_line, translate_storage_errors

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
    """Settles the rows of a workspace, over all tenants. A row that cannot be settled is reported
    and does not stop the others."""

    def __init__(self, catalog: Catalog, results: ResultFiles, clock: Clock) -> None:
        self._catalog, self._results, self._clock = catalog, results, clock
        self._findings: dict[str, list[str]] = {}
        self._recipes: dict[str, str] = {}
        self._synced: dict[Path, OSError | None] = {}
        self._leftovers: Mapping[str, Sequence[str]] = {}
        """Temporary files by the stem of their table, listed when its writer was dead."""
        self._is_first_run = True  # until the first run, this kernel builds nothing
        self._lock = threading.Lock()  # several threads may detect the same dead writer

    def run(
        self, *, ready_too: bool, on_progress: Callable[[Progress], None] | None = None
    ) -> RecoveryReport:
        """Settle building and deleting rows of dead writers. Then, if one died or `ready_too` is
        set, inspect the ready rows and report on each."""
        with self._lock, self._catalog.all_tenants():
            self._findings = {
                field: []
                for field, value in RecoveryReport().to_dict().items()
                if isinstance(value, list)
            }
            self._recipes = {}
            self._synced = {}
            settled_writers: set[str] = set()
            is_first_run, self._is_first_run = self._is_first_run, False
            for _ in range(2):
                for writer_id in self._catalog.writers.dead_writers():
                    self._settle_writer(writer_id)
                    settled_writers.add(writer_id)
                if self._report_live_builds() <= settled_writers:
                    break  # otherwise a writer died after its lock was tried
            any_died = bool(settled_writers)
            log_is_damaged = self._report_lost_commits(is_first_run=is_first_run)
            if any_died or log_is_damaged or ready_too or self.have_folders_changed():
                listing = FolderListing(self._results.root)
                ready = self._catalog.result_tables.with_status(TableStatus.READY)
                self._report_unknown_tables(listing, ready)
                if any_died:
                    self._remove_temporary_files(listing, is_first_run=is_first_run)
                for done_count, record in enumerate(ready, 1):
                    self._inspect_or_report(record, listing, ready_too=ready_too)
                    if on_progress is not None:
                        on_progress(
                            Progress(
                                stage="recover", done=done_count, total=len(ready), unit="tables"
                            )
                        )
            reported = {name for names in self._findings.values() for name in names}
            return RecoveryReport(
                **self._findings,
                recipes={
                    name: recipe for name, recipe in self._recipes.items() if name in reported
                },
            )

    def _inspect_or_report(
        self, record: TableRecord, listing: FolderListing, *, ready_too: bool
    ) -> None:
        """Inspect a ready table if that is wanted or a file of it is missing, and restore what is
        derived from it."""
        if ready_too or not listing.has_both_files(record.path):
            self._settle_or_report(record, self._inspect)
        self._settle_or_report(record, functools.partial(self._restore_sidecars, wait=ready_too))

    def _report_lost_commits(self, *, is_first_run: bool) -> bool:
        """Remove leftover locks; report and return whether the catalog has lost commits."""
        log_is_damaged = is_first_run and self._catalog.database.dialect.log_is_damaged
        with contextlib.suppress(OSError):
            self._catalog.writers.remove_leftover_locks()
        if log_is_damaged:
            self._findings["damaged_log"].append(_LOST_COMMITS)
        return log_is_damaged

    def _report_unknown_tables(self, listing: FolderListing, ready: Sequence[TableRecord]) -> None:
        """Report complete tables without a row. They were listed before the rows were read: a
        writer creates its row first."""
        known = {record.path for record in ready}
        for path in listing.sealed_tables():
            name = PurePosixPath(path).stem
            if path in known or self._catalog.result_tables.get(name) is not None:
                continue
            # another kernel may have dropped it since the listing: the manifest goes first
            with contextlib.suppress(OSError):
                if exists(self._results.root / manifests.manifest_location(path)):
                    self._findings["unknown"].append(name)

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
            self._leftovers = FolderListing(self._results.root).temporary
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

    def _remove_temporary_files(self, listing: FolderListing, *, is_first_run: bool) -> None:
        """Remove temporary files that nobody is writing: those without a row, which a power failure
        may have taken, since a writer creates its row first; and all when there is no other kernel.
        They were listed before: a writer that started since has none among them."""
        nobody_writes = is_first_run and not self._catalog.writers.suspects()
        for stem, paths in listing.temporary.items():
            name = stem.rpartition("/")[2]
            if nobody_writes or self._catalog.result_tables.get(name) is None:
                for path in paths:
                    with contextlib.suppress(OSError):  # harmless; the next recovery tries again
                        remove_file(self._results.root / path)

    def _reap(self, record: TableRecord) -> None:
        """Remove the bytes of a tombstoned table, then its row."""
        self._remove_files(record)
        fault_point("removal:bytes-gone")
        self._catalog.table_status.remove(record.table_name)
        self._findings["reaped"].append(record.table_name)

    def _report(self, table_name: str, error: JammiError | OSError) -> None:
        self._findings["errors"].append(report_line(table_name, error))

    def _settle_or_report(self, record: TableRecord, settle: Callable[[TableRecord], None]) -> None:
        self._recipes[record.table_name] = record.recipe
        for attempts_left in reversed(range(_MAX_ATTEMPTS)):
            try:
                settle(record)
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

    def _inspect(self, record: TableRecord) -> None:
        """Inspect a ready table. Missing bytes are reported. A lost manifest is restored from the
        catalog's copy when the bytes match it; otherwise the table is quarantined."""
        path = self._results.parquet(record)
        if regular_stat(path) is None:
            if regular_stat(self._quarantine_folder / path.name) is not None:
                # A recovery died between moving the bytes and failing the row.
                self._quarantine(record, path, _UNATTESTED)
            elif self._has_same_status(record):
                self._findings["missing"].append(record.table_name)
            return
        body = manifests.read(path)
        is_attested = body is not None and manifests.digest(body) == record.manifest_digest
        if record.definition_hash is None or is_attested or manifests.is_manifest(body):
            return
        copy = self._catalog.result_tables.manifest(record.table_name)
        manifest = manifests.parse(copy)
        digest = None
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

    def _restore_sidecars(self, record: TableRecord, *, wait: bool) -> None:
        """Rebuild what is derived from a ready table. When a workspace is opened, slow builds are
        only started."""
        if (
            self._results.sidecar(record).restore(record, wait=wait)
            and record.table_name not in self._findings["healed"]
        ):
            self._findings["healed"].append(record.table_name)

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
