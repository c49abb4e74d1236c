"""Files of result tables: their paths, and whether their bytes are those published."""

import contextlib
import copy
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from jammi_lab.catalog.observations import MANIFEST_KIND, RESULT_KIND
from jammi_lab.core.anchors import AnchorKind, Snapshot, result_input
from jammi_lab.core.clock import Clock
from jammi_lab.core.errors import ManifestUnsupported, TableDamaged
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.core.manifest import Manifest, ManifestColumn
from jammi_lab.core.records import TableRecord
from jammi_lab.core.verdicts import Damaged
from jammi_lab.engine.sql.syntax_tree import sql_type
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.locations import escape
from jammi_lab.sources.scratch_duckdb import describe
from jammi_lab.storage.digests import (
    CacheEntry,
    PersistentDigestCache,
    is_current,
    observation_key,
    sha256_file,
)
from jammi_lab.storage.files import (
    Stat,
    StoragePath,
    has_stat,
    is_settled,
    object_stat,
    regular_stat,
    remove_file,
    resolve_inside,
)
from jammi_lab.storage.object_store import UNREACHABLE_ERRNO, RemotePath
from jammi_lab.storage.parquet import read_footer
from jammi_lab.store import manifests
from jammi_lab.store.manifests import manifest_path
from jammi_lab.store.sidecars import SIDECAR_SUFFIXES, SidecarBuilder, sidecar_path
from jammi_lab.store.storage_errors import storage_error

if TYPE_CHECKING:
    from jammi_lab.sources.files.fsspec_mount import MountedFilesystem

SHARED_FOLDER = "_global"

CHECKPOINT_SECONDS = 7 * 86_400
"""How long the checkpoints of an interrupted embedding are kept."""


_NO_SIDECAR = SidecarBuilder()


class _CheckedFile(NamedTuple):
    """A file of a table whose stat proves its bytes."""

    key: str
    entry: CacheEntry
    """What the observation cache holds of it."""
    path: str


class ResultFiles:
    """The results folder of a workspace."""

    def __init__(
        self, root: StoragePath, cache: PersistentDigestCache, clock: Clock, racy_seconds: float
    ) -> None:
        self.root, self.cache, self.clock, self.racy_seconds = root, cache, clock, racy_seconds
        self.filesystem = _mount() if isinstance(root, RemotePath) else None
        """The filesystem through which DuckDB reads result tables in an object store."""
        self._folders: dict[str, StoragePath] = {}
        self._intact: dict[str, tuple[TableRecord, list[_CheckedFile]]] = {}
        self._right_footers = set[str]()
        self._listing: dict[RemotePath, Mapping[str, Any]] | None = None
        self.vector_indexes = SidecarBuilder()
        """Set to what builds the indexes of tables with vectors."""

    def sidecar(self, record: TableRecord) -> SidecarBuilder:
        """What builds and restores the files derived from a ready table."""
        return self.vector_indexes if record.recipe_class.has_vectors else _NO_SIDECAR

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
            self.filesystem.address(path.key, record.bytes or 0, path.open)
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
        digest = None
        # A link took its place, or the row's path is outside: that file is not the table.
        with contextlib.suppress(TableDamaged, FileNotFoundError, IsADirectoryError):
            digest = self._digest(cache_key(record), self.parquet(record))
        if digest is None:
            return Damaged(found=None)
        return None if digest == record.digest or record.digest is None else Damaged(found=digest)

    def _digest(self, key: str, path: StoragePath) -> str | None:
        """The digest of a table's file, from the cache when the stat proves it; None when there is
        no file. Raises OSError, and FileNotFoundError as `open_for_reading`."""
        # Before the read, so that a change during it makes the cached digest invalid.
        observed_at, stat = self.clock.now_ns(), self.stat(path)
        if stat is None:
            return None
        entry = self.cache.get(key)
        if entry is None or not is_current(entry, stat, self.racy_seconds):
            entry = CacheEntry(stat, observed_at, {"digest": sha256_file(path)})
            self.cache.put(key, entry)
        return str(entry.payload["digest"])

    def are_known_intact(self, record: TableRecord) -> bool:
        """Whether the files of a table have the stats with which the observation cache proves their
        bytes: all that a status asks of nearly every table, for a small part of the work of
        `find_damage` and `find_manifest_damage`. False where those have to look."""
        known, files = self._intact.get(record.table_name, (None, None))
        if known is not record:
            files = self._checked_files(record)
        try:
            if files is not None and all(
                self.cache.get(file.key) is file.entry
                and has_stat(os.lstat(file.path), file.entry.stat)
                for file in files
            ):
                self._intact[record.table_name] = record, files
                return True
        except (OSError, ValueError):  # ValueError: a path with a null byte, in an altered row
            pass
        self._intact.pop(record.table_name, None)
        return False

    def _checked_files(self, record: TableRecord) -> list[_CheckedFile] | None:
        """The files of a table that the observation cache knows to be intact; None where it says
        anything else, and where an equal stat would not prove it."""
        folder, _, name = record.path.rpartition("/")
        if not isinstance(self.root, Path) or folder not in self._folders or not name:
            return None
        path = f"{self._folders[folder]}/{name}"
        files = []
        for key, digest, file in (
            (cache_key(record), record.digest, path),
            (_manifest_key(record), record.manifest_digest, manifests.manifest_location(path)),
        ):
            entry = self.cache.get(key)
            if (
                entry is None
                or digest not in (None, entry.payload.get("digest"))
                or not is_settled(entry.stat, entry.observed_at_ns, self.racy_seconds)
            ):
                return None
            files.append(_CheckedFile(key, entry, file))
        return files

    def find_manifest_damage(self, record: TableRecord) -> Damaged | None:
        """Whether the manifest file was edited. It is read only when its stat has changed. A lost
        manifest is no damage, because the catalog has a copy. Raises ManifestUnsupported for the
        manifest of a later release."""
        path, digest = manifest_path(self.parquet(record)), None
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            digest = self._digest(_manifest_key(record), path)
        if digest is None or digest == record.manifest_digest:
            return None
        body = manifests.read_file(path)
        if not manifests.is_manifest(body):
            return None
        manifests.parse(body)  # raises for one of a later release
        return None if record.manifest_digest is None else Damaged(found=digest, what="manifest")

    def is_intact(self, record: TableRecord) -> bool:
        """Whether the bytes exist, are readable and are those published, the manifest was not
        edited, and the columns are those of the row, of valid types."""
        try:
            return (
                self.find_damage(record) is None
                and self.find_manifest_damage(record) is None
                and self._has_right_footer(record)
            )
        except (TableDamaged, ManifestUnsupported, OSError, duckdb.Error):
            return False

    def _has_right_footer(self, record: TableRecord) -> bool:
        """Whether a local file has the columns and types of the row, looked at once for each table.
        Arrow reads its footer first, because DuckDB ends the process, or never ends, for one that
        nests columns very deeply, which Arrow refuses. Raises OSError, duckdb.Error."""
        path = self.parquet(record)
        if isinstance(path, RemotePath) or record.table_name in self._right_footers:
            return invalid_column(record) is None
        if read_footer(path) is None:
            return False
        types = describe(Relation(result_input(record.recipe), ReadPlan(self.select_sql(record))))
        if [*types.items()] != [(column.name, column.type) for column in record.columns]:
            return False
        self._right_footers.add(record.table_name)
        return True

    def require_intact(self, record: TableRecord) -> StoragePath:
        """The Parquet file, if it can be read. Raises TableDamaged when its bytes are missing,
        unreadable or not those published, or when the columns are not those of the row. Its cause
        may be that no memory or descriptor is left."""
        permission = ""
        cause: Exception | None = None
        try:
            damage = self.find_damage(record)
            if damage is None and self._has_right_footer(record):
                return self.parquet(record)
        except duckdb.Error as error:
            problem, cause = _NO_FOOTER, error
        except OSError as error:
            if error.errno == UNREACHABLE_ERRNO:
                raise storage_error(error, record.recipe) from error
            problem, cause = f"cannot be read ({error.strerror})", error
            if isinstance(error, PermissionError):
                permission = "Its owner can let the group read it (chmod g+r); "
        else:
            problem = "differs from the published one"
            if damage is None:
                problem = _NO_FOOTER
            elif damage.found is None:
                problem = "is missing"
        raise TableDamaged(
            f"The Parquet file of {record.recipe!r} version {record.version} {problem}.",
            table=record.table_name,
            hint=permission
            + (record.recipe_class.resupply_hint or _RECOMPUTE_HINT).format(record.recipe)
            + f"; ws.verify({record.recipe!r}) shows details.",
        ) from cause


_NO_FOOTER = "has other columns or no footer that Arrow reads"


def _mount() -> "MountedFilesystem":
    # here, because fsspec takes 20 ms of each start of a kernel
    from jammi_lab.sources.files.fsspec_mount import MountedFilesystem

    return MountedFilesystem()


_RECOMPUTE_HINT = "ws.recompute({0!r}) rebuilds its newest version"


def invalid_column(record: TableRecord | Manifest) -> ManifestColumn | None:
    """The first column whose type is invalid, if any. Types are inserted into statements, and a
    results folder may come from anywhere."""
    return next((column for column in record.columns if sql_type(column.type) != column.type), None)


def remove_table_files(
    parquet: StoragePath, temporary: Iterable[StoragePath] | None = None
) -> None:
    """Remove all files of a table: temporary files of its writer, the index, the manifest, the
    Parquet file. `temporary`: the former, if somebody has listed them. Raises OSError."""
    index = [sidecar_path(parquet, suffix) for suffix in reversed(SIDECAR_SUFFIXES)]
    if temporary is None:
        remove_temporary_files(parquet, manifest_path(parquet), *index)
    for file in (*(temporary or ()), *index, manifest_path(parquet), parquet):
        remove_file(file)


def remove_temporary_files(*paths: StoragePath) -> None:
    """Remove temporary files that a dead writer left of these files, which share one folder. Object
    stores have none. Raises OSError."""
    if isinstance(paths[0], RemotePath):
        return
    stems = [path.name[:200] for path in paths]
    try:
        with os.scandir(paths[0].parent) as entries:
            leftovers = []
            for e in entries:
                if (
                    e.name.startswith(".")
                    and e.name.endswith(".tmp")
                    and e.name[1:].rsplit(".", 2)[0] in stems
                ):
                    leftovers.append(Path(e.path))
    except (FileNotFoundError, NotADirectoryError):
        return
    for file in leftovers:
        remove_file(file)


def select_file_sql(path: StoragePath | str, dimensions: int | None) -> str:
    """The SELECT that reads a result table's file. DuckDB returns fixed-size vectors as lists, so
    their dimension is stated again."""
    vector = f" REPLACE (vector::FLOAT[{dimensions}] AS vector)" if dimensions is not None else ""
    return (
        f"SELECT *{vector} FROM read_parquet({sql_literal(escape(str(path)))}, "
        "hive_partitioning = false)"
    )


def cache_key(record: TableRecord) -> str:
    """The cache key of a table's file."""
    return observation_key(RESULT_KIND, record.table_name)


def _manifest_key(record: TableRecord) -> str:
    return observation_key(MANIFEST_KIND, record.table_name)


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
