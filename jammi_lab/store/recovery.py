"""Recovery: settle what dead writers left, and look after ready tables whose files moved without us. Running it twice changes nothing."""

import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import JammiError
from jammi_lab.storage.digests import sha256_file
from jammi_lab.storage.files import fault_point, make_folder, remove, stat_of, sync_folder, write_atomic
from jammi_lab.storage.parquet import footer_rows
from jammi_lab.store import manifests
from jammi_lab.store.removal import Removal
from jammi_lab.store.results import Results, clear, clear_temporary
from jammi_lab.values.anchors import AnchorKind
from jammi_lab.values.manifest import Manifest
from jammi_lab.values.records import RecoveryReport, TableRecord, TableStatus

_STAMPS = "results-stamps"
_UNVOUCHED = "the manifest is lost, and the catalog's copy does not vouch for these bytes"


class Recovery:
    """Settles the rows of a workspace, over all tenants. What cannot be settled for one row is reported and stops nothing else."""

    def __init__(self, catalog: Catalog, results: Results, clock: Clock) -> None:
        self._catalog, self._results, self._clock = catalog, results, clock
        self._found: dict[str, list[str]] = {}
        self._lock = threading.Lock()  # several threads of a kernel may find the same writer dead

    def run(self, *, ready_too: bool) -> RecoveryReport:
        """Settle building and deleting rows of dead writers, then, when one died or `ready_too`, sweep the ready rows."""
        with self._lock, self._catalog.everyone():
            self._found = {field: [] for field in RecoveryReport.__struct_fields__}
            died = False
            for writer_id in self._catalog.writers.dead_writers():
                self._settle_writer(writer_id)
                died = True
            self._spare()
            if died or ready_too or self._folders_moved():
                for record in self._catalog.tables.with_status(TableStatus.READY):
                    self._guarded(record, self._sweep)
            return RecoveryReport(**self._found)

    def stamp(self) -> None:
        """Note how the results folders are left, so that the next open knows whether anything moved."""
        self._catalog.meta.set(_STAMPS, json.dumps(self._stamps(), sort_keys=True))

    def _settle_writer(self, writer_id: str) -> None:
        """Settle the rows of one dead writer, whose lock is held meanwhile."""
        for status, settle in (
            (TableStatus.BUILDING, self._settle_building),
            (TableStatus.DELETING, self._reap),
            (TableStatus.FAILED, self._clear),  # it may have died between failing a row and removing the files
        ):
            for record in self._catalog.tables.with_status(status, writer_id):
                self._guarded(record, settle)

    def _guarded(self, record: TableRecord, settle: Callable[[TableRecord], None]) -> None:
        try:
            settle(record)
        except (JammiError, OSError) as error:
            if record.status is not TableStatus.READY or self._is_still(record):
                self._found["errors"].append(f"{record.table_name}: {error.message if isinstance(error, JammiError) else error}")

    def _spare(self) -> None:
        """Name the rows that a living writer is building or removing."""
        for status in (TableStatus.BUILDING, TableStatus.DELETING):
            self._found["spared"] += [r.table_name for r in self._catalog.tables.with_status(status)]

    def _settle_building(self, record: TableRecord) -> None:
        """A dead writer's unfinished table: ready when a manifest vouches for whole bytes and no later version is, else failed and gone."""
        path = self._results.parquet(record)
        manifest = manifests.parse(body := manifests.read(path))
        if manifest is None or body is None or (manifest.table_name, manifest.definition_hash) != (record.table_name, record.definition_hash):
            return self._fail(record, "its writer died before it was finished")
        if stat_of(path) is None:
            return self._fail(record, "its writer died, and its bytes are gone")
        rows = footer_rows(path)
        if rows is None:
            return self._fail(record, "its writer died, and its bytes are torn")
        if sha256_file(path) != manifest.artifact.digest:
            return self._quarantine(record, path, "the bytes are whole, but not the ones that the manifest attests")
        if self._superseded(record):
            return self._fail(record, "a version begun later was ready already")
        self._catalog.publish.ready(_from_manifest(record, manifest, body, path, rows), body, _edges(manifest))
        self._found["promoted"].append(record.table_name)
        return None

    def _superseded(self, record: TableRecord) -> bool:
        newest = self._catalog.tables.newest_of(record.tenant, record.recipe)
        return newest is not None and newest[0].version > record.version

    def _fail(self, record: TableRecord, why: str) -> None:
        if self._catalog.publish.failed(record.table_name, record.writer_id, why):  # else it is settled, and the files are not ours to remove
            self._found["failed"].append(record.table_name)
            self._clear(record)

    def _clear(self, record: TableRecord) -> None:
        clear(self._results.parquet(record))

    def _reap(self, record: TableRecord) -> None:
        Removal(self._catalog, self._results, record.writer_id).bury(record)
        self._found["reaped"].append(record.table_name)

    def _sweep(self, record: TableRecord) -> None:
        """A ready table: say so when its bytes are gone; heal a lost manifest from the catalog's copy when the bytes match it, else quarantine."""
        path = self._results.parquet(record)
        if stat_of(path) is None:
            if stat_of(self._aside / path.name) is not None:  # a recovery died between putting the bytes aside and failing the row
                self._quarantine(record, path, _UNVOUCHED)
            elif self._is_still(record):
                self._found["missing"].append(record.table_name)
            return
        body = manifests.read(path)
        attested = body is not None and manifests.digest(body) == record.manifest_digest
        if record.definition_hash is None or attested or manifests.parse(body) is not None:
            return
        copy = self._catalog.tables.manifest(record.table_name)
        manifest = manifests.parse(copy)
        found = sha256_file(path)
        if not self._is_still(record):
            return
        if copy is None or manifest is None or found != manifest.artifact.digest:
            self._quarantine(record, path, _UNVOUCHED)
            return
        clear_temporary(manifests.manifest_path(path))  # of a recovery that died here
        manifests.write(path, copy)
        if self._is_still(record):
            self._found["healed"].append(record.table_name)
        else:
            remove(manifests.manifest_path(path))  # it was dropped meanwhile, before there was a manifest to remove

    def _is_still(self, record: TableRecord) -> bool:
        """Whether the row has the status that it had when the sweep began: a living writer may be dropping it."""
        now = self._catalog.tables.get(record.table_name)
        return now is not None and now.status is record.status

    @property
    def _aside(self) -> Path:
        return self._results.root / "quarantine"

    def _quarantine(self, record: TableRecord, path: Path, why: str) -> None:
        """Put the files aside with a note why, then fail the row. Doing it again after dying in the middle ends the same."""
        folder = self._aside
        make_folder(folder)
        note = {"table": record.table_name, "recipe": record.recipe, "tenant": record.tenant, "why": why, "at": rfc3339(self._clock.now_ns())}
        told = folder / f"{record.table_name}.why.json"
        clear_temporary(told)
        write_atomic(told, json.dumps(note, indent=1).encode())
        for each in (path, manifests.manifest_path(path)):
            with contextlib.suppress(FileNotFoundError):
                os.replace(each, folder / each.name)
        sync_folder(folder)
        sync_folder(path.parent)
        fault_point("recovery:aside")
        if record.status is TableStatus.READY:
            self._catalog.publish.condemn(record.table_name, why)
        else:
            self._catalog.publish.failed(record.table_name, record.writer_id, why)
        self._found["quarantined"].append(record.table_name)

    def _folders_moved(self) -> bool:
        known = self._catalog.meta.get(_STAMPS)
        return known is not None and json.loads(known) != self._stamps()

    def _stamps(self) -> dict[str, int]:
        """When each results folder last gained or lost a name."""
        root = self._results.root / "results"
        try:
            with os.scandir(root) as entries:
                return {e.name: e.stat(follow_symlinks=False).st_mtime_ns for e in entries if e.is_dir(follow_symlinks=False)}
        except FileNotFoundError:
            return {}


def _from_manifest(record: TableRecord, manifest: Manifest, body: bytes, path: Path, rows: int) -> TableRecord:
    stat = stat_of(path)
    return msgspec.structs.replace(
        record,
        row_count=rows,
        bytes=stat.size if stat else None,
        columns=manifest.columns,
        anchors=manifest.anchors,
        digest=manifest.artifact.digest,
        manifest_digest=manifests.digest(body),
        derived_from=manifest.derived_from,
        completed_at=manifest.produced_at,
        seconds=manifest.seconds,
        order_sensitive=manifest.order_sensitive,
    )


def _edges(manifest: Manifest) -> list[tuple[tuple[str, str, str], AnchorKind]]:
    return [(a.input.identity, a.kind) for a in manifest.anchors]
