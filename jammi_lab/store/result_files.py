"""Files of result tables: their paths, and whether their bytes are those published."""

import copy
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from jammi_lab.catalog.observations import RESULT_KIND
from jammi_lab.core.anchors import AnchorKind, Snapshot
from jammi_lab.core.clock import Clock
from jammi_lab.core.errors import ManifestUnsupported, TableDamaged, too_many_open_files
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.core.manifest import Manifest, ManifestColumn
from jammi_lab.core.records import TableRecord
from jammi_lab.core.verdicts import Damaged
from jammi_lab.engine.sql.types import sql_type
from jammi_lab.storage.digests import (
    SMALL_FILE_BYTES,
    CacheEntry,
    PersistentDigestCache,
    observation_key,
    sha256_file,
)
from jammi_lab.storage.files import (
    Stat,
    StoragePath,
    has_stat,
    is_settled,
    object_stat,
    read_regular,
    regular_stat,
    remove_file,
    resolve_inside,
    to_stat,
)
from jammi_lab.storage.object_store import UNREACHABLE_ERRNO, RemotePath
from jammi_lab.store import manifests
from jammi_lab.store.manifests import manifest_path
from jammi_lab.store.sidecars import SIDECAR_SUFFIXES, Sidecars, sidecar_path
from jammi_lab.store.storage_errors import storage_error

if TYPE_CHECKING:
    from jammi_lab.sources.files.fsspec_mount import MountedFilesystem

SHARED_FOLDER = "_global"

CHECKPOINT_SECONDS = 7 * 86_400
"""How long the checkpoints of an interrupted embedding are kept."""


class _IntactFiles(NamedTuple):
    """The files of an intact table."""

    record: TableRecord
    key: str
    entry: CacheEntry
    """What the observation cache holds of both files."""
    paths: tuple[str, str]
    """Those of the Parquet file and of the manifest."""
    manifest: Stat


class _ManifestCheck(NamedTuple):
    """What was found of a manifest file. It is kept in the cache entry of its table."""

    stat: Stat
    observed_at_ns: int
    edited: str | None
    """Its digest when it was edited."""

    @classmethod
    def of_entry(cls, entry: CacheEntry) -> "_ManifestCheck | None":
        """What a table's cache entry says about its manifest; None where it says nothing."""
        noted = entry.payload.get("manifest")
        if type(noted) is not list or len(noted) != 7 or {*map(type, noted[:6])} != {int}:
            return None
        return cls(Stat(*noted[:5]), noted[5], noted[6])

    def add_to(self, entry: CacheEntry) -> CacheEntry:
        """The cache entry of a table, with this."""
        stat = msgspec.structs.astuple(self.stat)
        found = [*stat, self.observed_at_ns, self.edited]
        return CacheEntry(entry.stat, entry.observed_at_ns, {**entry.payload, "manifest": found})

    def is_current(self, stat: Stat, racy_seconds: float) -> bool:
        """Whether a file with this stat is the one that was checked."""
        return self.stat == stat and is_settled(stat, self.observed_at_ns, racy_seconds)


class ResultFiles:
    """The results folder of a workspace."""

    def __init__(
        self, root: StoragePath, cache: PersistentDigestCache, clock: Clock, racy_seconds: float
    ) -> None:
        self.root, self.cache, self.clock, self.racy_seconds = root, cache, clock, racy_seconds
        self.filesystem = _mount(root) if isinstance(root, RemotePath) else None
        """The filesystem through which DuckDB reads result tables in an object store."""
        self._folders: dict[str, StoragePath] = {}
        self._intact: dict[str, _IntactFiles] = {}
        self._listing: dict[RemotePath, Mapping[str, Any]] | None = None
        self.sidecars = Sidecars()
        """The files derived from ready tables."""

    def for_one_pass(self) -> "ResultFiles":
        """A copy for one observation pass: an object store is listed once, not queried for each
        table."""
        if not isinstance(self.root, RemotePath):
            return self
        copied = copy.copy(self)
        copied._listing = {}
        return copied

    def select_sql(self, record: TableRecord) -> str:
        """The SELECT that reads a table's file; in an object store through `filesystem`."""
        path = self.parquet(record)
        return select_file_sql(
            self.filesystem.address(path.key, record.bytes or 0)
            if self.filesystem and isinstance(path, RemotePath)
            else path,
            record.dimensions,
        )

    def stat(self, path: StoragePath) -> Stat | None:
        """The stat of a regular file, or None; within an observation pass from its listing. Raises
        OSError."""
        if (
            self._listing is None
            or not isinstance(path, RemotePath)
            or not isinstance(self.root, RemotePath)
        ):
            return regular_stat(path)
        if not self._listing:
            results = self.root / "results"
            self._listing = {results: {}} | {
                results / name: info for name, info in results.list_objects().items()
            }
        info = self._listing.get(path)
        return object_stat(info) if info else None

    def relative_path(self, table_name: str, tenant: str | None) -> str:
        """The path of a table's Parquet file, relative to the workspace."""
        return f"results/{tenant or SHARED_FOLDER}/{table_name}.parquet"

    def parquet(self, record: TableRecord) -> StoragePath:
        """The Parquet file of a table. Raises TableDamaged when the row's path is outside the
        workspace."""
        return self.resolve(record.path)

    def removable_file(self, record: TableRecord) -> StoragePath | None:
        """The Parquet file to remove; None when the row's path is outside the workspace, where
        nothing may be removed."""
        try:
            return self.parquet(record)
        except TableDamaged:
            return None

    def resolve(self, location: str) -> StoragePath:
        """The file at a stored location. Raises as `parquet`."""
        folder, slash, name = location.rpartition("/")
        if not slash or name in ("", ".", "..") or "\0" in name:
            return resolve_inside(self.root, location)
        path = self.resolve_folder(folder) / name
        return (
            resolve_inside(self.root, location)
            if isinstance(path, Path) and os.path.islink(path)
            else path
        )

    def _local_path(self, location: str) -> str | None:
        """The path at a stored location in a local workspace, whose last component may be a link.
        None for what only `resolve` can decide. Raises as `parquet`."""
        folder, slash, name = location.rpartition("/")
        if not isinstance(self.root, Path) or not slash or name in ("", ".", "..") or "\0" in name:
            return None
        return f"{self.resolve_folder(folder)}/{name}"

    def _find_file(
        self, location: str, resolve: Callable[[], StoragePath]
    ) -> tuple[Stat, str | StoragePath] | None:
        """The stat of the regular file at a stored location, and where it can be read; None when
        there is none. One system call for a local file that is not a link. Raises what `resolve`
        raises, and OSError."""
        if (local := self._local_path(location)) is not None:
            try:
                result = os.lstat(local)
            except (FileNotFoundError, NotADirectoryError):
                return None
            if S_ISREG(result.st_mode):
                return to_stat(result), local
        path = resolve()
        stat = self.stat(path)
        return None if stat is None else (stat, path)

    def _read_small(self, location: str) -> tuple[Stat, bytes] | None:
        """Stat and bytes of a small local file that is not a link, which is opened once. None for
        any other, and when there is none. Raises as `parquet`, and OSError."""
        local = self._local_path(location)
        read = local and read_regular(local, SMALL_FILE_BYTES, follow_links=False)
        return (to_stat(read[0]), read[1]) if read and read[1] is not None else None

    def resolve_folder(self, location: str) -> StoragePath:
        """The folder at a stored location. Raises as `parquet`."""
        # Cached: resolving every link on the path, for every table of a pass, would cost more than
        # all stats together.
        if location not in self._folders:
            self._folders[location] = resolve_inside(self.root, location)
        return self._folders[location]

    def find_damage(self, record: TableRecord) -> Damaged | None:
        """What is wrong with the bytes; None when they are those published. They are hashed only
        when the stat has changed since the last check."""
        key = cache_key(record)
        cached = self.cache.get(key)
        # Before the read, so that a change during it makes the cached digest invalid.
        observed_at = self.clock.now_ns()
        digest = None
        try:
            if cached is None and (read := self._read_small(record.path)) is not None:
                stat, digest = read[0], hashlib.sha256(read[1]).hexdigest()
            elif (found := self._find_file(record.path, lambda: self.parquet(record))) is None:
                return Damaged(found=None)
            else:
                stat, path = found
                if (
                    cached is None
                    or cached.stat != stat
                    or not is_settled(stat, cached.observed_at_ns, self.racy_seconds)
                ):
                    digest = sha256_file(path)
        except (TableDamaged, FileNotFoundError, IsADirectoryError):
            # A link took its place, or the row's path is outside: that file is not the table.
            return Damaged(found=None)
        if cached is None or digest is not None:
            payload = {**(cached.payload if cached else {}), "digest": digest}
            cached = CacheEntry(stat=stat, observed_at_ns=observed_at, payload=payload)
            self.cache.put(key, cached)
        digest = str(cached.payload["digest"])
        return None if digest == record.digest or record.digest is None else Damaged(found=digest)

    def are_known_intact(self, record: TableRecord) -> bool:
        """Whether the files of a table have the stats with which the observation cache proves their
        bytes: all that a status asks of nearly every table, for a small part of the work of
        `find_damage` and `find_manifest_damage`. False where those have to look."""
        known = self._intact.get(record.table_name)
        if known is None or known.record is not record:
            known = self._intact_files(record)
            if known is None:
                return False
            self._intact[record.table_name] = known
        parquet, manifest = known.paths
        try:
            if (
                self.cache.get(known.key) is known.entry
                and has_stat(os.lstat(parquet), known.entry.stat)
                and has_stat(os.lstat(manifest), known.manifest)
            ):
                return True
        except (OSError, ValueError):  # ValueError: a path with a null byte, in an altered row
            pass
        del self._intact[record.table_name]
        return False

    def _intact_files(self, record: TableRecord) -> _IntactFiles | None:
        """The files of a table that the observation cache knows to be intact; None where it says
        anything else, and where an equal stat would not prove it."""
        folder, _, name = record.path.rpartition("/")
        if not isinstance(self.root, Path) or folder not in self._folders or not name:
            return None
        key = cache_key(record)
        entry = self.cache.get(key)
        if (
            entry is None
            or record.digest not in (None, entry.payload.get("digest"))
            or not is_settled(entry.stat, entry.observed_at_ns, self.racy_seconds)
            or (manifest := _ManifestCheck.of_entry(entry)) is None
            or manifest.edited is not None
            or not is_settled(manifest.stat, manifest.observed_at_ns, self.racy_seconds)
        ):
            return None
        path = f"{self._folders[folder]}/{name}"
        return _IntactFiles(
            record, key, entry, (path, manifests.manifest_location(path)), manifest.stat
        )

    def find_manifest_damage(self, record: TableRecord) -> Damaged | None:
        """Whether the manifest file was edited. It is read only when its stat has changed. A lost
        manifest is no damage, because the catalog has a copy. Raises ManifestUnsupported for the
        manifest of a later release."""
        location = manifests.manifest_location(record.path)
        entry = self.cache.get(key := cache_key(record))
        known = None if entry is None else _ManifestCheck.of_entry(entry)
        observed_at, body = self.clock.now_ns(), None
        if known is None and (read := self._read_small(location)) is not None:
            stat, body = read
        else:
            found = self._find_file(location, lambda: manifests.manifest_path(self.parquet(record)))
            if found is None:
                return None
            stat, path = found
            if known is None or not known.is_current(stat, self.racy_seconds):
                known, body = None, manifests.read_file(path)
        if known is None:
            known = _ManifestCheck(stat, observed_at, _edited_digest(record, body))
            if entry is not None:
                self.cache.replace(key, entry, known.add_to(entry))
        return None if known.edited is None else Damaged(found=known.edited, what="manifest")

    def is_intact(self, record: TableRecord) -> bool:
        """Whether the bytes exist, are readable and are those published, the manifest was not
        edited, and all column types are valid."""
        try:
            return (
                self.find_damage(record) is None
                and self.find_manifest_damage(record) is None
                and invalid_column(record) is None
            )
        except (TableDamaged, ManifestUnsupported, OSError):
            return False

    def require_intact(self, record: TableRecord) -> StoragePath:
        """The Parquet file, if it can be read. Raises TableDamaged when its bytes are missing,
        unreadable or not those published, or when a column type is invalid."""
        if (column := invalid_column(record)) is not None:
            raise TableDamaged(
                f"Column {column.name!r} of {record.recipe!r} version {record.version} has the "
                f"type {column.type[:100]!r}, which is not an SQL type.",
                table=record.table_name,
                hint="Materialize it again; the catalog entry of this version was altered.",
            )
        try:
            damage = self.find_damage(record)
        except OSError as error:
            if error.errno == UNREACHABLE_ERRNO:
                raise storage_error(error, record.recipe) from error
            if exhausted := too_many_open_files(error, f"The file of {record.recipe!r}"):
                raise exhausted from error
            problem = f"cannot be read ({error.strerror})"
        else:
            if damage is None:
                return self.parquet(record)
            problem = "is missing" if damage.found is None else "differs from the published one"
        raise TableDamaged(
            f"The Parquet file of {record.recipe!r} version {record.version} {problem}.",
            table=record.table_name,
            hint=f"{(record.recipe_class.resupply_hint or _RECOMPUTE_HINT).format(record.recipe)}; "
            f"ws.verify({record.recipe!r}) shows details.",
        )


def _mount(root: RemotePath) -> "MountedFilesystem":
    # here, because fsspec takes 20 ms of each start of a kernel
    from jammi_lab.sources.files.fsspec_mount import MountedFilesystem

    return MountedFilesystem(lambda key: RemotePath(root.fs, root.scheme, key).open())


_RECOMPUTE_HINT = "ws.recompute({0!r}) rebuilds its newest version"


def invalid_column(record: TableRecord | Manifest) -> ManifestColumn | None:
    """The first column whose type is invalid, if any. Types are inserted into statements, and a
    results folder may come from anywhere."""
    return next((column for column in record.columns if sql_type(column.type) != column.type), None)


def remove_table_files(parquet: StoragePath) -> None:
    """Remove all files of a table: temporary files of its writer, the index, the manifest, the
    Parquet file. Raises OSError."""
    index = [sidecar_path(parquet, suffix) for suffix in reversed(SIDECAR_SUFFIXES)]
    remove_temporary_files(parquet, manifest_path(parquet), *index)
    for file in (*index, manifest_path(parquet), parquet):
        remove_file(file)


def remove_temporary_files(*paths: StoragePath) -> None:
    """Remove temporary files that a dead writer left of these files, which share one folder. Object
    stores have none. Raises OSError."""
    if isinstance(paths[0], RemotePath):
        return
    stems = [path.name[:200] for path in paths]
    try:
        with os.scandir(paths[0].parent) as entries:
            leftovers = [
                Path(e.path)
                for e in entries
                if e.name.startswith(".")
                and e.name.endswith(".tmp")
                and e.name[1:].rsplit(".", 2)[0] in stems
            ]
    except (FileNotFoundError, NotADirectoryError):
        return
    for file in leftovers:
        remove_file(file)


def select_file_sql(path: StoragePath | str, dimensions: int | None) -> str:
    """The SELECT that reads a result table's file. DuckDB returns fixed-size vectors as lists, so
    their dimension is stated again."""
    vector = f" REPLACE (vector::FLOAT[{dimensions}] AS vector)" if dimensions is not None else ""
    return (
        f"SELECT *{vector} FROM read_parquet({sql_literal(str(path))}, hive_partitioning = false)"
    )


def cache_key(record: TableRecord) -> str:
    """The cache key of a table's file."""
    return observation_key(RESULT_KIND, record.table_name)


def _edited_digest(record: TableRecord, body: bytes | None) -> str | None:
    """The digest of a manifest that differs from the published one; None for that one, and for what
    is not a manifest. Raises ManifestUnsupported."""
    digest = None if body is None else manifests.digest(body)
    if digest == record.manifest_digest or not manifests.is_manifest(body):
        return None
    manifests.parse(body)  # raises for one of a later release
    return None if record.manifest_digest is None else digest


def result_snapshot(record: TableRecord, version: int | None = None) -> Snapshot:
    """The published state of a result table, by column. `version` is the one that it was read as,
    if not its first; a table that is about to be another version has none yet."""
    read_as = record.version if version is None else version
    return Snapshot(
        columns={c.name: c.type for c in record.columns},
        whole=record.digest or "",
        method="digest of the columns read",
        kind=AnchorKind.RESULT_DIGEST,
        by_column={c.name: c.digest for c in record.columns},
        row_count=record.row_count,
        version=read_as or None,
    )
