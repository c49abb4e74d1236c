"""Check: catalog and files compared both ways, and what can be repaired without computing anything."""

import functools
from collections.abc import Callable, Iterator, Mapping

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.clock import Clock
from jammi_lab.errors import JammiError, ManifestUnsupported, TableDamaged
from jammi_lab.storage.below import Found, files_below
from jammi_lab.storage.digests import MemoEntry, sha256_file
from jammi_lab.storage.files import Place, fault_point, is_there, plain_stat, remove
from jammi_lab.store import manifests
from jammi_lab.store.failures import reason_of, told_of
from jammi_lab.store.recovery import Recovery
from jammi_lab.store.reports import CheckReport
from jammi_lab.store.results import CHECKPOINT_SECONDS, Results, memo_key
from jammi_lab.store.seen import seen_by_tenant
from jammi_lab.values.records import Progress, TableRecord, TableStatus
from jammi_lab.vectors.index_files import SUFFIXES

QUARANTINE_SECONDS = 30 * 86_400
_FILES = (".parquet", manifests.SUFFIX, *SUFFIXES)


class Check:
    """One comparison of a whole workspace, over all tenants."""

    def __init__(self, catalog: Catalog, results: Results, recovery: Recovery, clock: Clock) -> None:
        self._catalog, self._results, self._recovery, self._clock = catalog, results, recovery, clock
        self._found: dict[str, list[str]] = {}

    def run(self, *, repair: bool, deep: bool, grace: float, on_progress: Callable[[Progress], None] | None = None) -> CheckReport:
        """Compare; `deep` reads all bytes again. With `repair` lost manifests come back from the catalog's copy, dead writers' rows are settled, and
        orphans older than `grace` seconds that no living writer owns, old quarantine and old checkpoints go; but no whole table with its manifest,
        which a catalog that is lost or another one's would make an orphan of. Without it nothing is changed.
        The report tells a bound tenant of its own and the shared tables."""
        self._found = {field: [] for field, value in CheckReport().to_dict().items() if isinstance(value, list)}
        with self._catalog.everyone():
            if deep:
                self._read_catalog()
            if repair:
                self._settle()
            here = {path: found for folder in ("results", "quarantine", "checkpoints") for path, found in self._below(folder)}
            ready = self._catalog.tables.with_status(TableStatus.READY)
            for done, record in enumerate(ready, 1):
                self._guarded(record, repair=repair, deep=deep)
                if on_progress is not None:
                    on_progress(Progress(stage="check", done=done, total=len(ready), unit="tables"))
            orphans = self._orphans([path for path in here if path.startswith("results/")])
            aside = [path for path in here if path.startswith("quarantine/")]
            if repair:
                orphans -= self._reclaim(here, sorted(orphans - self._attested(orphans)), grace)
                aside = sorted(set(aside) - self._reclaim(here, aside, QUARANTINE_SECONDS))
                self._reclaim(here, [path for path in here if path.startswith("checkpoints/")], CHECKPOINT_SECONDS)
        self._found["orphans"], self._found["quarantined"] = sorted(orphans), aside
        seen = seen_by_tenant(self._catalog)
        told = {field: [entry for entry in entries if seen(entry)] for field, entries in self._found.items()}
        reclaimed, quarantined = (sum(here[path].size for path in told[field]) for field in ("reclaimed", "quarantined"))
        return CheckReport(**told, bytes_reclaimed=reclaimed, bytes_quarantined=quarantined)

    def _below(self, folder: str) -> Iterator[tuple[str, Found]]:
        def unread(path: str, error: OSError) -> None:
            self._found["errors"].append(told_of(f"{path}/", error))

        return files_below(self._results.root, folder, unread)

    def _read_catalog(self) -> None:
        try:
            self._catalog.require_sound()
        except TableDamaged as error:
            self._found["errors"].append(f"catalog: {error.message} {error.hint}")

    def _settle(self) -> None:
        report = self._recovery.run(ready_too=True)
        self._found["repaired"] += [*report.healed, *report.promoted]
        self._found["failed"] += [*report.failed, *report.quarantined]
        self._found["errors"] += report.errors

    def _guarded(self, record: TableRecord, *, repair: bool, deep: bool) -> None:
        try:
            self._compare(record, repair=repair, deep=deep)
        except (JammiError, OSError) as error:
            self._found["errors"].append(told_of(record.table_name, error))

    def _compare(self, record: TableRecord, *, repair: bool, deep: bool) -> None:
        """A ready table: its bytes, its manifest, and the catalog's copy of that."""
        path = self._results.parquet(record)
        if (lacking := self._results.sidecars.lacking(record, deep=deep)) is not None:
            self._found["indexes"].append(f"{record.table_name}: {lacking}")
        if deep:
            self._digest_again(record, path)
        damage = self._results.damage(record)
        if damage is not None and damage.found is None:
            if self._is_ready(record):
                self._found["missing"].append(record.table_name)
            return
        body = manifests.read(path)
        copy = self._catalog.tables.manifest(record.table_name)
        if damage is not None or self._is_another(record, body):
            self._found["damaged"].append(record.table_name)
        elif record.definition_hash is not None and not self._says(body) and self._is_ready(record):
            self._found["missing"].append(record.path.removesuffix(".parquet") + manifests.SUFFIX)
        elif body is not None and record.manifest_digest == manifests.digest(body) and copy != body:
            if repair and self._catalog.publish.heal(record.table_name, body):
                self._found["repaired"].append(record.table_name)
            elif not repair:
                self._found["damaged"].append(record.table_name)

    def _digest_again(self, record: TableRecord, path: Place) -> None:
        """Read the bytes whatever their stat says, and let later looks know."""
        stat, at = plain_stat(path), self._clock.now_ns()
        if stat is not None:
            self._results.memo.put(memo_key(record), MemoEntry(stat=stat, observed_at_ns=at, payload={"digest": sha256_file(path)}))

    @staticmethod
    def _says(body: bytes | None) -> bool:
        """Whether the bytes are a manifest, of this release or a later one."""
        try:
            return manifests.parse(body) is not None
        except ManifestUnsupported:
            return True

    def _is_another(self, record: TableRecord, body: bytes | None) -> bool:
        """Whether there is a manifest, and not the published one."""
        return body is not None and record.manifest_digest is not None and manifests.digest(body) != record.manifest_digest and self._says(body)

    def _is_ready(self, record: TableRecord) -> bool:
        now = self._catalog.tables.get(record.table_name)
        return now is not None and now.status is TableStatus.READY

    def _orphans(self, files: list[str]) -> set[str]:
        """The files that no row accounts for. The files were listed first: whoever makes one has written its row before."""
        claimed, unsettled = set(), set()
        made: dict[str, str] = {}
        alive = functools.cache(self._catalog.writers.is_alive)
        for status in TableStatus:
            for record in self._catalog.tables.with_status(status):
                stem = record.path.removesuffix(".parquet")
                if status is TableStatus.READY:
                    claimed |= {stem + suffix for suffix in _FILES}
                    made[stem] = record.writer_id
                elif status is not TableStatus.FAILED or alive(record.writer_id):  # it is still to be settled, by its writer or by recovery
                    unsettled.add(stem)
        alone = {path for path in files if path not in claimed and _stem(path) not in unsettled}
        alone -= {path for path in alone if _unfinished(path) and (maker := made.get(_stem(path))) is not None and alive(maker)}
        return {path for path in alone if is_there(self._results.root / path)}  # what got its name or was dropped since is no orphan

    def _attested(self, orphans: set[str]) -> set[str]:
        """The files of whole tables that the catalog has never heard of, which is told: it lost them, or is another workspace's."""
        kept: set[str] = set()
        for path in sorted(orphans):
            parquet = _stem(path) + ".parquet"
            name = parquet.rpartition("/")[2].removesuffix(".parquet")
            if not path.endswith(manifests.SUFFIX) or parquet not in orphans or self._catalog.tables.get(name) is not None:
                continue
            body = manifests.read(self._results.root / parquet)
            if body is not None and self._says(body):
                kept |= {each for each in orphans if _stem(each) == _stem(path)}
                self._found["errors"].append(
                    f"{parquet}: a whole table that this catalog does not know, and so it was kept; jl.rebuild makes a catalog of what lies here"
                )
        return kept

    def _reclaim(self, here: Mapping[str, Found], paths: list[str], seconds: float) -> set[str]:
        """Remove what has lain there for so long, and give that. What was put aside is as old as the note beside it, not as the bytes."""
        gone = set()
        now = self._clock.now_ns()
        for path in paths:
            note = here.get(_stem(path) + ".why.json", here[path])
            if now - max(here[path].since_ns, note.since_ns) < seconds * 1e9:
                continue
            fault_point("check:reclaim")
            try:
                there = remove(self._results.root / path)
            except OSError as error:
                self._found["errors"].append(f"{path}: it cannot be removed: {reason_of(error)}. See who may write to the workspace's folder.")
                continue
            gone.add(path)
            if there:  # else another kernel was first
                self._found["reclaimed"].append(path)
        return gone


def _unfinished(path: str) -> bool:
    """Whether a file has not got its name yet: of a ready table it is part of an index that is being written."""
    name = path.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")


def _stem(path: str) -> str:
    """The path of a table, without ending, that a file of it or of its making belongs to."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.removeprefix('.').split('.')[0]}"
