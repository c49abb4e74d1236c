"""Recovery: settle what dead writers left, and look after ready tables whose files moved without us. Running it twice changes nothing."""

import contextlib
import functools
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.publish import Edges
from jammi_lab.catalog.tables import Unsettled
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import JammiError
from jammi_lab.names import fold
from jammi_lab.storage.digests import Seen, seen, sha256_file
from jammi_lab.storage.files import Place, fault_point, make_folder, move, plain_stat, remove, write_atomic
from jammi_lab.storage.remote import RemotePath
from jammi_lab.storage.syncing import sync_folder
from jammi_lab.store import manifests
from jammi_lab.store.attested import Footers, check_manifest
from jammi_lab.store.failures import explained, told_of
from jammi_lab.store.lying import Filed, Lying
from jammi_lab.store.results import Results, clear, clear_temporary
from jammi_lab.values.anchors import AnchorKind
from jammi_lab.values.manifest import Manifest, is_sealed
from jammi_lab.values.records import Progress, RecoveryReport, TableRecord, TableStatus

_STAMPS = "results-stamps"
_TRIES = 5
_UNVOUCHED = "the manifest is lost, and the catalog's copy does not vouch for these bytes"


class Recovery:
    """Settles the rows of a workspace, over all tenants. What cannot be settled for one row is reported and stops nothing else."""

    def __init__(self, catalog: Catalog, results: Results, clock: Clock) -> None:
        self._catalog, self._results, self._clock = catalog, results, clock
        self._found: dict[str, list[str]] = {}
        self._recipes: dict[str, str] = {}
        self._synced: dict[Path, OSError | None] = {}
        self._opening = True  # until the first run: nothing is being made by this kernel
        self._lock = threading.Lock()  # several threads of a kernel may find the same writer dead

    def run(self, *, ready_too: bool, on_progress: Callable[[Progress], None] | None = None) -> RecoveryReport:
        """Settle building and deleting rows of dead writers, then, when one died or `ready_too`, sweep the ready rows and tell of each."""
        with self._lock, self._catalog.everyone():
            self._found, self._recipes = {field: [] for field, value in RecoveryReport().to_dict().items() if isinstance(value, list)}, {}
            settled: set[str] = set()
            opening, self._opening = self._opening, False
            for _ in range(2):
                for writer_id in self._catalog.writers.dead_writers():
                    self._settle_writer(writer_id)
                    settled.add(writer_id)
                if self._spare() <= settled:
                    break  # else one died since its lock was tried
            died = bool(settled)
            with contextlib.suppress(OSError):
                self._catalog.writers.forget_left()
            if died:
                self._clear_unbegun()
            if died or ready_too or self._folders_moved():
                lying = Lying(self._results)
                sweep = self._to_sweep(lying, everything=ready_too)
                for done, record in enumerate(sweep, 1):
                    if ready_too or not self._whole(record, lying):
                        self._guarded(record, self._sweep)
                    self._guarded(record, functools.partial(self._restore, at_once=ready_too))
                    if on_progress is not None:
                        on_progress(Progress(stage="recover", done=done, total=len(sweep), unit="tables"))
                if died and opening and not self._catalog.writers.suspects():  # asked after the listing: whoever came since is not in that
                    with contextlib.suppress(OSError):
                        lying.clear_unfinished()
            named = {name for names in self._found.values() for name in names}
            return RecoveryReport(**self._found, recipes={name: recipe for name, recipe in self._recipes.items() if name in named})

    def stamp(self) -> None:
        """Note how the results folders are left, so that the next open knows whether anything moved; where an index is missing, so that it looks."""
        stamps: dict[str, int] = {}
        if not self._results.sidecars.left_lacking():
            with contextlib.suppress(JammiError):  # what is in the way is told when the workspace is opened, which looks then
                stamps = self._stamps()
        self._catalog.meta.set(_STAMPS, json.dumps(stamps, sort_keys=True))

    def _settle_writer(self, writer_id: str) -> None:
        """Settle the rows of one dead writer, whose lock is held meanwhile."""
        lying = Lying(self._results)
        failed = self._of(writer_id, TableStatus.FAILED)  # it may have died between failing a row and removing the files
        if self._fail_unattested(writer_id, lying):
            self._promote(self._catalog.tables.with_status(TableStatus.BUILDING, writer_id), self._catalog.tables.built_for(writer_id))
        self._reap(self._of(writer_id, TableStatus.DELETING), lying)
        self._clear(failed, lying)

    def _of(self, writer_id: str, status: TableStatus) -> Sequence[Unsettled]:
        found = self._catalog.tables.unsettled(status, writer_id)
        self._recipes |= {each.table_name: each.recipe for each in found}
        return found

    def _fail_unattested(self, writer_id: str, lying: Lying) -> bool:
        """Fail what a dead writer was building and has no manifest, all at once, and remove the files; whether anything has one."""
        begun: list[Unsettled] = []
        attested: list[Unsettled] = []
        for each in self._of(writer_id, TableStatus.BUILDING):
            try:
                (attested if lying.manifest(each) else begun).append(each)
            except (JammiError, OSError):
                attested.append(each)  # what is wrong is told when it is settled by itself
        if begun:
            failed = self._catalog.publish.failed_all(writer_id, "its writer died before it was finished", [each.table_name for each in attested])
            gone = [each for each in begun if each.table_name in failed]  # else it is settled, and the files are not ours to remove
            self._found["failed"] += [each.table_name for each in gone]
            self._clear(gone, lying)
        return bool(attested)

    def _promote(self, attested: Sequence[TableRecord], recipes: Mapping[str, tuple[str | None, str]]) -> None:
        """Settle what a dead writer was building and has a manifest: what can be ready turns so all at once, after all bytes were looked at.
        `recipes`: by physical name what the recipe is called now; the row has the name that it had."""
        finished: list[tuple[TableRecord, bytes, Edges]] = []
        newest, nameless = self._catalog.tables.newest_numbers() if attested else {}, (None, "")
        self._synced = {}

        def settle(record: TableRecord) -> None:
            if (found := self._settle_building(record, newest.get(recipes.get(record.table_name, nameless), 0), footers)) is not None:
                finished.append(found)

        with Footers() as footers:
            for record in attested:
                self._guarded(record, settle)
        named = [each for each in finished if self._named(each[0])]
        promoted = self._catalog.publish.ready_all(named)
        self._found["promoted"] += [record.table_name for record, _, _ in named if record.table_name in promoted]

    def _named(self, record: TableRecord) -> bool:
        """Whether the names of a table's files are durable, as its bytes are that have one: its writer may have died before it saw to that. A folder
        whose sync failed is not synced again: the kernel may call it clean."""
        folder = self._results.parquet(record).parent
        if not isinstance(folder, Path):
            return True
        if folder not in self._synced:
            self._synced[folder] = None
            try:
                sync_folder(folder)
            except OSError as error:
                self._synced[folder] = error
        if (wrong := self._synced[folder]) is not None:
            self._report(record.table_name, wrong)
        return wrong is None

    def _clear(self, tables: Sequence[Unsettled], lying: Lying) -> set[str]:
        """Remove the files of tables; the names of those for which that was not done, which is reported."""
        wrong = lying.clear(tables)
        for name, error in wrong.items():
            self._report(name, error)
        return set(wrong)

    def _clear_unbegun(self) -> None:
        """Remove unfinished files that no row accounts for. Whoever writes one has entered its row before, for all to see, but that may not be on the
        disk yet: a power failure can leave the file alone. The files are listed before the catalog is asked."""
        with contextlib.suppress(OSError):  # nobody was promised anything; the next recovery tries again
            for table_name, path in Lying(self._results).unbegun():
                if self._catalog.tables.get(table_name) is None:
                    remove(path)

    def _reap(self, tables: Sequence[Unsettled], lying: Lying) -> None:
        """Remove the bytes of tombstoned tables, then their rows."""
        stuck = self._clear(tables, lying)
        gone = [each.table_name for each in tables if each.table_name not in stuck]
        if gone:
            fault_point("removal:bytes-gone")
            with self._catalog.transaction():
                for name in gone:
                    self._catalog.publish.forget(name)
            self._found["reaped"] += gone

    def _report(self, table_name: str, error: JammiError | OSError) -> None:
        self._found["errors"].append(told_of(table_name, error))

    def _guarded(self, record: TableRecord, settle: Callable[[TableRecord], None]) -> None:
        self._recipes[record.table_name] = record.recipe
        for left in reversed(range(_TRIES)):
            try:
                settle(record)
                return
            except (JammiError, OSError) as error:
                ready = record.status is TableStatus.READY
                if ready and not self._is_still(record):
                    return
                if not (ready and left and isinstance(error, FileNotFoundError)):  # else another kernel mends the same table just now
                    self._report(record.table_name, error)
                    return

    def _spare(self) -> set[str]:
        """Name the rows that a living writer is building or removing, and return the dead ones that still have some; why, the errors say."""
        alive = functools.cache(self._catalog.writers.is_alive)
        begun = [record for status in (TableStatus.BUILDING, TableStatus.DELETING) for record in self._catalog.tables.with_status(status)]
        spared = [record for record in begun if alive(record.writer_id)]
        self._found["spared"] = [r.table_name for r in spared]
        self._recipes |= {r.table_name: r.recipe for r in spared}
        return {record.writer_id for record in begun if not alive(record.writer_id)}

    def _settle_building(self, record: TableRecord, newest: int, footers: Footers) -> tuple[TableRecord, bytes, Edges] | None:
        """A dead writer's unfinished table as it is to be published, when a manifest vouches for whole bytes and no later version than it is ready;
        else it is failed and gone. `newest`: the newest ready version of its recipe."""
        path = self._results.parquet(record)
        manifest = manifests.parse(body := manifests.read(path))
        if manifest is None or body is None or not _is_of(manifest, record):
            self._fail(record, "its writer died before it was finished")
        elif (there := seen(path)) is None:
            self._fail(record, "its writer died, and its bytes are gone")
        elif there.digest != manifest.artifact.digest:
            if there.footer() is None:
                self._fail(record, "its writer died, and its bytes are torn")
            else:
                self._quarantine(record, path, "the bytes are whole, but not the ones that the manifest attests")
        elif newest > record.version:
            self._fail(record, "a version begun later was ready already")
        else:
            try:
                rows = manifest.row_count if is_sealed(body) else _checked(manifest, there, footers)
                return _from_manifest(record, manifest, body, rows, there.size), body, _edges(manifest)
            except (ValueError, msgspec.MsgspecError) as error:
                wrong = error.message if isinstance(error, JammiError) else str(error)
                self._fail(record, f"its writer died, and of its manifest, which was altered, this cannot be: {wrong}")
        return None

    def _fail(self, record: TableRecord, why: str) -> None:
        if self._catalog.publish.failed(record.table_name, record.writer_id, why):  # else it is settled, and the files are not ours to remove
            self._found["failed"].append(record.table_name)
            clear(self._results.parquet(record))

    def _sweep(self, record: TableRecord) -> None:
        """A ready table: say so when its bytes are gone; heal a lost manifest from the catalog's copy when the bytes match it, else quarantine."""
        path = self._results.parquet(record)
        if plain_stat(path) is None:
            if plain_stat(self._aside / path.name) is not None:  # a recovery died between putting the bytes aside and failing the row
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
        manifests.write(path, copy)
        clear_temporary(manifests.manifest_path(path))  # of a recovery that died here; when ours is there, else two would take each other's away
        if self._is_still(record):
            self._found["healed"].append(record.table_name)
        else:
            remove(manifests.manifest_path(path))  # it was dropped meanwhile, before there was a manifest to remove

    def _restore(self, record: TableRecord, *, at_once: bool) -> None:
        """Give a ready table back what is derived from it; when a workspace is opened, nobody waits for what takes long."""
        if self._results.sidecars.restored(record, at_once=at_once) and record.table_name not in self._found["healed"]:
            self._found["healed"].append(record.table_name)

    def _to_sweep(self, lying: Lying, *, everything: bool) -> Sequence[TableRecord]:
        """The ready tables that are looked at one by one: all, or those of which a file is not there and those that have more than two."""
        if everything:
            return self._catalog.tables.with_status(TableStatus.READY)
        names = {each.table_name for each in self._catalog.tables.ready_in_short() if not (each.plain and self._whole(each, lying))}
        return [record for record in self._catalog.tables.with_status(TableStatus.READY) if record.table_name in names] if names else ()

    @staticmethod
    def _whole(table: Filed, lying: Lying) -> bool:
        """Whether both files of a ready table are there; in a store each table is asked after."""
        try:
            return lying.whole(table)
        except (JammiError, OSError):
            return False

    def _is_still(self, record: TableRecord) -> bool:
        """Whether the row has the status that it had when the sweep began: a living writer may be dropping it."""
        now = self._catalog.tables.get(record.table_name)
        return now is not None and now.status is record.status

    @property
    def _aside(self) -> Place:
        return self._results.root / "quarantine"

    def _quarantine(self, record: TableRecord, path: Place, why: str) -> None:
        """Put the files aside with a note why, then fail the row. Doing it again after dying in the middle ends the same."""
        folder = self._aside
        make_folder(folder)
        note = {"table": record.table_name, "recipe": record.recipe, "tenant": record.tenant, "why": why, "at": rfc3339(self._clock.now_ns())}
        told = folder / f"{record.table_name}.why.json"
        write_atomic(told, json.dumps(note, indent=1).encode())
        clear_temporary(told)
        for each in (path, manifests.manifest_path(path)):
            with contextlib.suppress(FileNotFoundError):
                move(each, folder)
        fault_point("recovery:aside")
        if record.status is TableStatus.READY:
            self._catalog.publish.condemn(record.table_name, why)
        else:
            self._catalog.publish.failed(record.table_name, record.writer_id, why)
        self._found["quarantined"].append(record.table_name)

    def _folders_moved(self) -> bool:
        known = self._catalog.meta.get(_STAMPS)
        try:
            return known is not None and json.loads(known) != self._stamps()
        except (ValueError, RecursionError):  # a note that says nothing: they may have moved
            return True

    def _stamps(self) -> dict[str, int]:
        """When each results folder last gained or lost a name; a store has no folders. WorkspaceReadOnly, ResourceExhausted."""
        root = self._results.root / "results"
        if isinstance(root, RemotePath):
            return {}
        with explained(os.fspath(self._results.root)), contextlib.suppress(FileNotFoundError), os.scandir(root) as entries:
            return {e.name: e.stat(follow_symlinks=False).st_mtime_ns for e in entries if e.is_dir(follow_symlinks=False)}
        return {}


def _is_of(manifest: Manifest, record: TableRecord) -> bool:
    """Whether a manifest says of itself what the catalog says of the table; a rename moves versions, not the name a table was first made for."""
    told = (manifest.table_name, manifest.definition_hash, manifest.tenant, fold(manifest.recipe), manifest.kind, manifest.version)
    return told == (record.table_name, record.definition_hash, record.tenant, fold(record.recipe), record.kind.value, record.version)


def _checked(manifest: Manifest, there: Seen, footers: Footers) -> int:
    """The rows of a table whose manifest was altered and says nothing that cannot be taken over. ValueError, NameInvalid, msgspec.ValidationError."""
    check_manifest(manifest)
    if (footer := there.footer()) is None:
        raise ValueError("its file is no Parquet")
    return footers.check(manifest, there.path, footer)


def _from_manifest(record: TableRecord, manifest: Manifest, body: bytes, rows: int, size: int) -> TableRecord:
    return msgspec.structs.replace(
        record,
        row_count=rows,
        bytes=size,
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
