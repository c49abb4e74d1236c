"""Where result tables lie, and whether their bytes are the published ones."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jammi_lab.clock import Clock
from jammi_lab.engine.typed import sql_type
from jammi_lab.errors import InvalidArgument, TableDamaged
from jammi_lab.names import literal
from jammi_lab.sources.mounted import Mounted
from jammi_lab.storage.digests import KeptMemo, MemoEntry, sha256_file
from jammi_lab.storage.files import Place, Stat, inside, object_stat, plain_stat, remove, settled
from jammi_lab.storage.remote import UNREACHABLE, RemotePath
from jammi_lab.store import manifests
from jammi_lab.store.failures import storage_error
from jammi_lab.store.manifests import manifest_path
from jammi_lab.store.sidecars import Sidecars
from jammi_lab.values.anchors import AnchorKind, Snapshot
from jammi_lab.values.manifest import Column, Manifest
from jammi_lab.values.records import TableKind, TableRecord
from jammi_lab.values.verdicts import Damaged
from jammi_lab.vectors.index_files import SUFFIXES, beside

SHARED_FOLDER = "_global"

CHECKPOINT_SECONDS = 7 * 86_400
"""So long is kept what an interrupted embedding has left."""


class Results:
    """The results folder of a workspace: paths of tables, and the check of their bytes against what was published.

    InvalidArgument when that folder is a link: a path that leads through one leaves the workspace, wherever it comes from."""

    def __init__(self, root: Place, memo: KeptMemo, clock: Clock, racy_seconds: float) -> None:
        if isinstance(root, Path) and (root / "results").is_symlink():
            raise InvalidArgument(
                f"The folder {root / 'results'} is a link; a workspace keeps its tables in its own folder.",
                hint="Move the whole workspace to where there is room: its own path may be a link. Or mount a disk there.",
            )
        self.root, self.memo, self.clock, self.racy_seconds = root, memo, clock, racy_seconds
        self.filesystem = Mounted(self._opened) if isinstance(root, RemotePath) else None
        """What DuckDB reads result tables through, when they lie in a store."""
        self._folders: dict[str, Place] = {}
        self._listed: dict[RemotePath, Mapping[str, Any]] | None = None
        self.sidecars = Sidecars()
        """What else belongs to a ready table."""

    def listing(self) -> "Results":
        """The same for one look: a store is asked for one listing, not for each table."""
        if not isinstance(self.root, RemotePath):
            return self
        look = copy.copy(self)
        look._listed = {}
        return look

    def body(self, record: TableRecord) -> str:
        """The SELECT that reads a table's file; in a store by way of `filesystem`."""
        path = self.parquet(record)
        return body_of(
            self.filesystem.address(path.key, record.bytes or 0) if self.filesystem and isinstance(path, RemotePath) else path, record.dimensions
        )

    def stat(self, path: Place) -> Stat | None:
        """The stat of a plain file, None when there is none; within a look by the look's listing. OSError."""
        if self._listed is None or not isinstance(path, RemotePath) or not isinstance(self.root, RemotePath):
            return plain_stat(path)
        if not self._listed:
            results = self.root / "results"
            self._listed = {results: {}} | {results / name: said for name, said in results.listed().items()}
        said = self._listed.get(path)
        return object_stat(said) if said else None

    def _opened(self, key: str) -> BinaryIO:
        return RemotePath(self.root.fs, self.root.scheme, key).open() if isinstance(self.root, RemotePath) else open(key, "rb")

    def relative(self, table_name: str, tenant: str | None) -> str:
        """The path of a table's Parquet file, relative to the workspace."""
        return f"results/{tenant or SHARED_FOLDER}/{table_name}.parquet"

    def parquet(self, record: TableRecord) -> Place:
        """The Parquet file of a table, checked to lie inside the workspace. TableDamaged when the row leads out of it."""
        return self.place(record.path)

    def owned(self, record: TableRecord) -> Place | None:
        """The same for who removes it: None when the row leads out of the workspace, where nothing is a table's to be removed."""
        try:
            return self.parquet(record)
        except TableDamaged:
            return None

    def place(self, location: str) -> Place:
        """The file that a stored location means. Raises as `parquet`."""
        folder, slash, name = location.rpartition("/")
        if not slash or name in ("", ".", "..") or "\0" in name:
            return inside(self.root, location)
        path = self.folder(folder) / name
        return inside(self.root, location) if isinstance(path, Path) and os.path.islink(path) else path

    def folder(self, location: str) -> Place:
        """The folder that a stored location means. Raises as `parquet`."""
        if location not in self._folders:  # resolving every link on the way, for every table of a look, would cost more than all its stats
            self._folders[location] = inside(self.root, location)
        return self._folders[location]

    def damage(self, record: TableRecord) -> Damaged | None:
        """What is wrong with the bytes; None when they are the published ones. Hashes only when the stat has moved since the last check."""
        try:
            path = self.parquet(record)
        except TableDamaged:  # a link stands in its place, or the row leads elsewhere: whatever is there is not the table
            return Damaged(found=None)
        stat = self.stat(path)
        if stat is None:
            return Damaged(found=None)
        key = memo_key(record)
        known = self.memo.get(key)
        if known is None or known.stat != stat or not settled(stat, known.observed_at_ns, self.racy_seconds):
            observed_at = self.clock.now_ns()
            try:
                found = sha256_file(path)
            except (FileNotFoundError, IsADirectoryError):
                return Damaged(found=None)
            known = MemoEntry(stat=stat, observed_at_ns=observed_at, payload={"digest": found})
            self.memo.put(key, known)
        found = str(known.payload["digest"])
        return None if found == record.digest or record.digest is None else Damaged(found=found)

    def readable(self, record: TableRecord) -> None:
        """Nothing, unless the manifest file was replaced by one of a later release: ManifestUnsupported. Read only when its stat has moved;
        one that is lost or differs in other ways changes no verdict, the catalog's copy stands for it."""
        path = manifests.manifest_path(self.parquet(record))
        stat = self.stat(path)
        known = self.memo.get(key := f"manifest:{record.table_name}")
        if stat is None or (known is not None and known.stat == stat and settled(stat, known.observed_at_ns, self.racy_seconds)):
            return
        observed_at = self.clock.now_ns()
        body = manifests.read(self.parquet(record))
        if body is not None and manifests.digest(body) != record.manifest_digest:
            manifests.parse(body)
        self.memo.put(key, MemoEntry(stat=stat, observed_at_ns=observed_at, payload={}))

    def intact(self, record: TableRecord) -> bool:
        """Whether the bytes are there, can be read, and are the published ones, with columns that can be."""
        try:
            return self.damage(record) is None and untyped(record) is None
        except (TableDamaged, OSError):
            return False

    def require(self, record: TableRecord) -> Place:
        """The Parquet file, fit to be read. TableDamaged when its bytes are gone, cannot be read or are not the published ones, or when a column is
        said to be what is no type."""
        if (column := untyped(record)) is not None:
            raise TableDamaged(
                f"Column {column.name!r} of {record.recipe!r} version {record.version} is said to be {column.type[:100]!r}, which is no SQL type.",
                table=record.table_name,
                hint="Materialize it again: the catalog says of this version what nothing here wrote.",
            )
        try:
            found = self.damage(record)
        except OSError as error:
            if error.errno == UNREACHABLE:
                raise storage_error(error, record.table_name) from error
            what = f"cannot be read ({error.strerror})"
        else:
            if found is None:
                return self.parquet(record)
            what = "is gone" if found.found is None else "is not the one that was published"
        raise TableDamaged(
            f"The Parquet file of {record.recipe!r} version {record.version} {what}.",
            table=record.table_name,
            hint=f"{_AGAIN.get(record.kind, _AGAIN_HERE).format(record.recipe)}; ws.verify({record.recipe!r}) says more.",
        )


_AGAIN_HERE = "ws.recompute({0!r}) makes its newest version again"
_AGAIN = {
    TableKind.EXTERNAL: "Its rows came from outside: hand them in again by ws.register({0!r}, frame, …)",
    TableKind.IMPORTED: "Its vectors came from outside: hand them in again by ws.import_embeddings({0!r}, data, …)",
}
"""What brings the rows of a damaged table back."""


def untyped(record: TableRecord | Manifest) -> Column | None:
    """A column whose type is none, if there is one. A type goes into statements, and a results folder may come from anywhere."""
    return next((column for column in record.columns if sql_type(column.type) != column.type), None)


def clear(parquet: Place) -> None:
    """Remove all that lies there of a table: what its writer left under names of its own, an index, the manifest, the Parquet file. OSError."""
    index = [beside(parquet, suffix) for suffix in reversed(SUFFIXES)]
    clear_temporary(parquet, manifest_path(parquet), *index)
    for each in (*index, manifest_path(parquet), parquet):
        remove(each)


def clear_temporary(*paths: Place) -> None:
    """Remove what a dead writer of files in one folder left under names of its own; in a store there is no such thing. OSError."""
    if isinstance(paths[0], RemotePath):
        return
    stems = [path.name[:200] for path in paths]
    try:
        with os.scandir(paths[0].parent) as entries:
            left = [Path(e.path) for e in entries if e.name.startswith(".") and e.name.endswith(".tmp") and e.name[1:].rsplit(".", 2)[0] in stems]
    except (FileNotFoundError, NotADirectoryError):
        return
    for each in left:
        remove(each)


def body_of(path: Place | str, dimensions: int | None) -> str:
    """The SELECT that reads a result table's file. DuckDB gives fixed-size vectors back as lists, so their width is said again."""
    vector = f" REPLACE (vector::FLOAT[{dimensions}] AS vector)" if dimensions is not None else ""
    return f"SELECT *{vector} FROM read_parquet({literal(str(path))}, hive_partitioning = false)"


def memo_key(record: TableRecord) -> str:
    """Under which the observation memo knows the table's file."""
    return f"result:{record.table_name}"


def snapshot_of(record: TableRecord, version: int | None = None) -> Snapshot:
    """The state of a result table, by column, as it was published; `version` is the one it was reached by, when it is not its first."""
    return Snapshot(
        columns={c.name: c.type for c in record.columns},
        whole=record.digest or "",
        method="digest of the columns read",
        kind=AnchorKind.RESULT_DIGEST,
        by_column={c.name: c.digest for c in record.columns},
        row_count=record.row_count,
        version=record.version if version is None else version,
    )
