"""All indexes of a workspace: built after their tables, loaded from files, repaired, and cached
together with the vectors.

An index is derived data. When one is unusable, search reads the vectors themselves until it is
built again; no failure here is an error of a search.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from jammi_lab.core.caches import ObjectCache
from jammi_lab.core.errors import JammiError
from jammi_lab.core.records import OnProgress, Progress, TableRecord
from jammi_lab.core.settings import Settings
from jammi_lab.core.thread_pool import JobQueue
from jammi_lab.features.vectors.index import files as index_files
from jammi_lab.features.vectors.index.files import IndexManifest, IndexState
from jammi_lab.features.vectors.index.shape import BuildParameters
from jammi_lab.storage.files import Stat, StoragePath, stat_of
from jammi_lab.store.sidecars import MANIFEST_SUFFIX, SidecarBuilder, SidecarRequest, sidecar_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jammi_lab.features.vectors.index.hnsw import AnnIndex
    from jammi_lab.features.vectors.matrix import Matrix
    from jammi_lab.store.result_files import ResultFiles


CACHE = ObjectCache(2_000_000_000)
"""The cache of all workspaces in this process."""
DEFAULT_PRECISION = "bf16"
_LARGE_TABLE_ROWS = 200_000
"""Tables with more rows get twice the build expansion. Up to half as many rows, measurements showed
no better recall with it."""

_MAX_REMOVED_RATIO = 0.2
"""An index is rebuilt instead of extended when more than this share of it was removed since it was
built."""
_MAX_NEW_RATIO = 0.5
"""An index is rebuilt instead of extended when more than this share of the rows is new: inserting
that many takes half the time of a build, and extending has a cost of its own."""


class _BuildStopped(Exception):
    """The workspace is being closed."""


class VectorIndexes(SidecarBuilder):
    """Provides the vectors and the index of each table, and builds indexes."""

    def __init__(
        self,
        tables: "ResultFiles",
        settings: Settings,
        *,
        read_only: bool,
        earlier_versions: Callable[[TableRecord], Iterable[TableRecord]],
        is_still_ready: Callable[[TableRecord], bool],
    ) -> None:
        """`earlier_versions`: the earlier ready versions of a table's recipe, newest first;
        `is_still_ready`: whether a table is still ready."""
        self._tables, self._settings, self._read_only = tables, settings, read_only
        self._earlier_versions = earlier_versions
        self._is_still_ready = is_still_ready
        self._lock = threading.Lock()
        self._thread_locks: dict[str, threading.RLock] = {}
        self._progress: dict[str, int] = {}
        """Rows done, by table, of running and queued builds."""
        self._unusable_manifests: dict[str, Stat | None] = {}
        """By table: the stat of an index manifest whose index is unusable."""
        self._failed_tables: set[str] = set()
        """Tables whose index could not be built; searches do not try again."""
        self._cache_keys: set[str] = set()
        self._queue = JobQueue("jammi-index")
        self._stop_event = threading.Event()

    # -- for searches

    def matrix(self, record: TableRecord) -> "Matrix":
        """The vectors of a table. Raises TableDamaged."""
        path = self._tables.require_intact(record)
        key = _matrix_key(record, path)
        self._cache_keys.add(key)
        return CACHE.load(key, lambda: self._open_matrix(record, path))

    def index(self, record: TableRecord, *, build: bool = False) -> "AnnIndex | None":
        """The index of a table; None when there is no usable one. `build`: build it first if
        needed. Raises KeyboardInterrupt."""
        if not record.row_count:
            return None
        ann = CACHE.load(self._cache_key(record), lambda: self._load(record))
        if ann is None and build and self.ensure_index(record, None):
            ann = CACHE.load(self._cache_key(record), lambda: self._load(record))
        return ann

    def build_in_background(self, record: TableRecord, precision: str | None = None) -> None:
        """Start building the index of a table in the background, unless that has started.
        `precision`: None keeps what it has."""
        with self._lock:
            if (
                self._read_only
                or not record.row_count
                or self._stop_event.is_set()
                or record.table_name in {*self._progress, *self._failed_tables}
            ):
                return
            self._progress[record.table_name] = 0
            self._queue.put(lambda: self._build_queued(record, precision))

    def close(self) -> None:
        """Stop builds and release the memory of this workspace."""
        self._stop_event.set()
        self._queue.wait()
        CACHE.evict(self._cache_keys)

    # -- for the store

    def build(
        self, record: TableRecord, request: SidecarRequest, on_progress: OnProgress | None = None
    ) -> None:
        """Build the index of a table that just became ready. Raises KeyboardInterrupt."""
        if self._read_only:
            return
        with contextlib.suppress(JammiError, OSError):
            precision = request.precision or self._precision(record)
            state = self.state(record)
            if state.status == "ready" and state.precision == precision:
                return
            if request.in_background:
                self.build_in_background(record, precision)
            else:
                self.ensure_index(record, on_progress, precision)

    def find_defect(self, record: TableRecord, *, deep: bool) -> str | None:
        """What is wrong with the index of a table, as one word; None when it is usable. `deep`:
        verify its bytes, too. Raises OSError, TableDamaged."""
        if not record.row_count:
            return None
        status = self.state(record).status
        if status == "ready" and deep:
            parquet = self._tables.parquet(record)
            manifest = index_files.read_manifest(parquet)
            status = (
                "ready"
                if manifest is not None and index_files.load_index(parquet, manifest) is not None
                else "damaged"
            )
        return None if status == "ready" else status

    def restore(self, record: TableRecord, *, wait: bool) -> bool:
        """Repair a missing or unusable index. Returns whether it is usable now. Without `wait`,
        the index of a large table is built in the background instead."""
        if self.find_defect(record, deep=wait) is None:
            return False
        if not wait and (record.row_count or 0) > self._settings["vectors.exact_max_rows"]:
            self.build_in_background(record)
            return False
        CACHE.evict([self._cache_key(record)])
        return self.ensure_index(record, None)

    def describe(self, record: TableRecord) -> str | None:
        """The state of the index for status reports: precision or problem, and the share of rows in
        it; None for an empty table."""
        if not record.row_count:
            return None
        try:
            return str(self.state(record))
        except (JammiError, OSError):
            return "unknown"

    def on_removal(self, record: TableRecord) -> None:
        """Release everything of a table that is about to be removed."""
        CACHE.evict([self._cache_key(record), _matrix_key(record, self._tables.parquet(record))])

    def state(self, record: TableRecord) -> IndexState:
        """The state of a table's index, without reading its bytes. Raises OSError, TableDamaged."""
        rows = record.row_count or 0
        if (indexed := self._progress.get(record.table_name)) is not None:
            return IndexState("building", None, indexed, rows)
        parquet = self._tables.parquet(record)
        manifest = index_files.read_manifest(parquet)
        if manifest is None:
            status = index_files.missing_reason(parquet)
        elif not self._matches(record, manifest):
            status = "outdated"
        else:
            status = "ready" if index_files.is_complete(parquet, manifest) else "damaged"
        indexed_rows = rows if status == "ready" else 0
        return IndexState(
            status, manifest.shape.parameters.precision if manifest else None, indexed_rows, rows
        )

    # -- building

    def _build_queued(self, record: TableRecord, precision: str | None) -> None:
        try:
            self.ensure_index(record, None, precision)
        finally:
            self._progress.pop(record.table_name, None)

    def ensure_index(
        self, record: TableRecord, on_progress: OnProgress | None, precision: str | None = None
    ) -> bool:
        """Build the index of a table unless it is there, with that precision where one is named.
        Returns whether the table has its index now. Two kernels may build the same index. An
        interrupt leaves the previous one."""
        if self._read_only or not record.row_count:
            return False
        with self._lock:
            thread_lock = self._thread_locks.setdefault(record.table_name, threading.RLock())
        with thread_lock:
            is_queued = record.table_name in self._progress
            try:
                self._progress.setdefault(record.table_name, 0)
                present = self._load(record)
                if present is not None and precision in (None, present.shape.parameters.precision):
                    return True
                return self._build(record, precision or self._precision(record), on_progress)
            except (JammiError, OSError, MemoryError, RuntimeError, _BuildStopped):
                self._failed_tables.add(record.table_name)
                # a full disk, a table dropped meanwhile, a workspace being closed: searches work
                # without an index
                return False
            finally:
                if not is_queued:
                    self._progress.pop(record.table_name, None)

    def _build(self, record: TableRecord, precision: str, on_progress: OnProgress | None) -> bool:
        from jammi_lab.features.vectors.index.hnsw import build_index, extend_index, open_index

        self._tables.require_intact(record)
        parquet = self._tables.parquet(record)
        cached = cast("Matrix | None", CACHE.get(_matrix_key(record, parquet)))
        matrix = cached if cached is not None else self._open_matrix(record, parquet)
        total = len(matrix)

        def advance(done: int) -> None:
            self._progress[record.table_name] = done
            if self._stop_event.is_set():
                raise _BuildStopped
            if on_progress:
                on_progress(
                    Progress(stage=f"index {record.recipe}", done=done, total=total, unit="vectors")
                )

        parameters = self._parameters(total, precision)
        oversample = self._settings["vectors.oversample"]
        previous = self._extendable_index(record, matrix, parameters)
        if previous is None:
            ann = build_index(matrix, parameters, oversample, advance)
        else:
            ann = extend_index(previous[0], matrix, previous[1], oversample, advance)
            del previous
        del matrix, cached
        self._tables.require_intact(record)  # the file must not have changed during the build
        _, body = index_files.write_index(parquet, record.digest or "", ann)
        if not self._is_still_ready(record):
            index_files.remove_index_files(parquet)
            return False
        opened = open_index(body, ann.shape)
        if opened is not None:
            self._cache(record, opened)
        return opened is not None

    def _open_matrix(self, record: TableRecord, path: StoragePath) -> "Matrix":
        """The vectors of a table; those of a large one stay in their file until all of them are
        needed. Raises TableDamaged."""
        from jammi_lab.features.vectors.matrix import Matrix

        if (
            isinstance(path, Path)
            and (record.row_count or 0) > self._settings["vectors.exact_max_rows"]
        ):
            return Matrix.from_file_lazily(path)
        return Matrix.from_parquet(path)

    def _extendable_index(
        self, record: TableRecord, matrix: "Matrix", parameters: BuildParameters
    ) -> "tuple[AnnIndex, NDArray[np.int64]] | None":
        """The previous version's index, with the current row of each of its rows; None when there
        is none or building a new index is less work."""
        previous = next(iter(self._earlier_versions(record)), None)
        if previous is None or previous.dimensions != record.dimensions or not previous.row_count:
            return None
        parquet = self._tables.parquet(previous)
        manifest = index_files.read_manifest(parquet)
        if (
            manifest is None
            or manifest.table != previous.digest
            or manifest.shape.parameters != parameters
        ):
            return None
        old = self._open_matrix(previous, self._tables.require_intact(previous))
        current_rows = old.match_rows(matrix)
        unchanged_count = int((current_rows >= 0).sum())
        if manifest.shape.removed + len(old) - unchanged_count > _MAX_REMOVED_RATIO * len(
            matrix
        ) or len(matrix) - unchanged_count > _MAX_NEW_RATIO * len(matrix):
            return None
        cached = cast("AnnIndex | None", CACHE.get(self._cache_key(previous)))
        # evict it: two copies would be in memory, and the old version is hardly searched any more
        CACHE.evict([self._cache_key(previous)])
        ann = index_files.load_index(parquet, manifest) if cached is None else cached.reopen()
        return None if ann is None else (ann, current_rows)

    def _parameters(self, rows: int, precision: str) -> BuildParameters:
        expansion_factor = 2 if rows > _LARGE_TABLE_ROWS else 1
        connectivity = self._settings["vectors.connectivity"]
        expansion = self._settings["vectors.build_expansion"]
        return BuildParameters(
            precision,
            max(2, connectivity),
            max(1, expansion) * expansion_factor,
        )

    def _precision(self, record: TableRecord) -> str:
        """The precision of the index that a table has, else of that of the version before."""
        for each in [record, *self._earlier_versions(record)][:2]:
            manifest = index_files.read_manifest(self._tables.parquet(each))
            if manifest is not None:
                return manifest.shape.parameters.precision
        return DEFAULT_PRECISION

    # -- loading

    def _load(self, record: TableRecord) -> "AnnIndex | None":
        """Load the index from its files; None when they are missing or unusable."""
        try:
            parquet = self._tables.parquet(record)
            stat = stat_of(sidecar_path(parquet, MANIFEST_SUFFIX))
            if (
                record.table_name in self._unusable_manifests
                and self._unusable_manifests[record.table_name] == stat
            ):
                return None
            manifest = index_files.read_manifest(parquet) if stat is not None else None
            ann = (
                index_files.load_index(parquet, manifest)
                if manifest is not None and self._matches(record, manifest)
                else None
            )
        except (JammiError, OSError, MemoryError, RuntimeError, ValueError):
            return None
        if ann is None:
            self._unusable_manifests[record.table_name] = stat
            return None
        self._cache(record, ann)
        return ann

    def _cache(self, record: TableRecord, ann: "AnnIndex") -> None:
        self._unusable_manifests.pop(record.table_name, None)
        self._failed_tables.discard(record.table_name)
        key = self._cache_key(record)
        CACHE.put(key, ann)
        self._cache_keys.add(key)

    def _matches(self, record: TableRecord, manifest: IndexManifest) -> bool:
        """Whether an index is of exactly these vectors, all of them, by a compatible release of
        usearch."""
        same_table = (manifest.table, manifest.shape.dimensions, manifest.shape.count) == (
            record.digest,
            record.dimensions,
            record.row_count,
        )
        compatible = manifest.usearch_version == index_files.usearch_version()
        return same_table and compatible

    @staticmethod
    def _cache_key(record: TableRecord) -> str:
        return f"index:{record.digest or record.table_name}"


def _matrix_key(record: TableRecord, path: StoragePath) -> str:
    """The cache key of a table's vectors. It includes the path: a matrix that reads its vectors
    from one file is of no use for an equal file elsewhere once that file is gone."""
    return f"vectors:{record.digest or record.table_name}:{os.fspath(path)}"
