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
from typing import TYPE_CHECKING, NamedTuple, cast

from jammi_lab.core.caches import ObjectCache
from jammi_lab.core.errors import JammiError
from jammi_lab.core.records import OnProgress, Progress, TableRecord
from jammi_lab.core.settings import Settings
from jammi_lab.core.thread_pool import JobQueue
from jammi_lab.features.vectors.index import files as index_files
from jammi_lab.features.vectors.index.build_lock import exclusive_build
from jammi_lab.features.vectors.index.files import IndexManifest, IndexState
from jammi_lab.features.vectors.index.shape import BuildParameters
from jammi_lab.storage.files import Stat, StoragePath, stat_of
from jammi_lab.store.sidecars import MANIFEST_SUFFIX, SidecarBuilder, SidecarRequest, sidecar_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jammi_lab.catalog.observations import MetadataRepository
    from jammi_lab.catalog.writers import Writers
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


class _BuiltElsewhere(Exception):
    """Another kernel builds the index, and the caller does not wait."""


class _LoadedVectors(NamedTuple):
    """A table whose vectors were loaded from verified bytes."""

    content: tuple[str, str | None]
    """Path and digest in its record."""
    path: StoragePath
    stat: Stat
    """The file's stat at that time."""
    cache_key: str
    """The cache key of the vectors (which may have been evicted)."""


class VectorIndexes(SidecarBuilder):
    """Provides the vectors and the index of each table, and builds indexes."""

    def __init__(
        self,
        tables: "ResultFiles",
        notes: "MetadataRepository",
        settings: Settings,
        *,
        read_only: bool,
        earlier_versions: Callable[[TableRecord], Iterable[TableRecord]],
        is_still_ready: Callable[[TableRecord], bool],
        build_locks: "Writers",
    ) -> None:
        """`notes`: where the precision of each index is recorded, beside the tables, since it is
        part of no definition; `earlier_versions`: the earlier ready versions of a table's recipe,
        newest first; `is_still_ready`: whether a table is still ready; `build_locks`: locks between
        kernels."""
        self._tables, self._settings, self._read_only = tables, settings, read_only
        self._notes, self._earlier_versions = notes, earlier_versions
        self._is_still_ready = is_still_ready
        self._build_locks = build_locks
        self._lock = threading.Lock()
        self._thread_locks: dict[str, threading.RLock] = {}
        self._progress: dict[str, int] = {}
        """Rows done, by table, of running and queued builds."""
        self._loaded_vectors: dict[str, _LoadedVectors] = {}
        """Loaded vectors by table."""
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
        loaded = self._loaded_vectors.get(record.table_name)
        is_unchanged = (
            loaded is not None
            and loaded.content == (record.path, record.digest)
            and loaded.stat == stat_of(loaded.path)
        )
        if (
            loaded is not None
            and is_unchanged
            and (cached := CACHE.get(loaded.cache_key)) is not None
        ):
            return cast("Matrix", cached)
        path = self._tables.parquet(record)
        # stat before verifying, so that a later change of the file is noticed
        key, stat = _matrix_key(record, path), stat_of(path)
        self._tables.require_intact(record)
        matrix = CACHE.load(key, lambda: self._open_matrix(record, path))
        self._cache_keys.add(key)
        if stat is not None:
            self._loaded_vectors[record.table_name] = _LoadedVectors(
                (record.path, record.digest), path, stat, key
            )
        return matrix

    def index(self, record: TableRecord, *, build: bool = False) -> "AnnIndex | None":
        """The index of a table; None when there is no usable one. `build`: build it first if
        needed. Raises KeyboardInterrupt."""
        if not record.row_count:
            return None
        ann = CACHE.load(self._cache_key(record), lambda: self._load(record))
        if ann is None and build:
            self.ensure_index(record, None)
            ann = cast("AnnIndex | None", CACHE.get(self._cache_key(record))) or self._load(record)
        return ann

    def build_in_background(self, record: TableRecord) -> None:
        """Start building the index of a table in the background, unless that has started."""
        with self._lock:
            if (
                self._read_only
                or not record.row_count
                or self._stop_event.is_set()
                or record.table_name in {*self._progress, *self._failed_tables}
            ):
                return
            self._progress[record.table_name] = 0
            self._queue.put(lambda: self._build_queued(record))

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
            self._set_precision(record, request.precision)
            if self.find_defect(record, deep=False) is None:
                return
            if request.in_background:
                self.build_in_background(record)
            else:
                self.ensure_index(record, on_progress)

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
        return self.ensure_index(record, None, wait=wait)

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
        if self._notes.get(_note_key(record)) is not None:
            self._notes.set(_note_key(record), None)

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

    def _build_queued(self, record: TableRecord) -> None:
        try:
            self.ensure_index(record, None)
        finally:
            self._progress.pop(record.table_name, None)

    def ensure_index(
        self, record: TableRecord, on_progress: OnProgress | None, *, wait: bool = True
    ) -> bool:
        """Build the index of a table unless another thread or kernel does. Returns whether the
        table has its index now.

        Without `wait`, returns False while another kernel builds it. An interrupt leaves the
        previous index."""
        if self._read_only or not record.row_count:
            return False
        with self._lock:
            thread_lock = self._thread_locks.setdefault(record.table_name, threading.RLock())
        with thread_lock:
            is_queued = record.table_name in self._progress
            try:
                self._progress.setdefault(record.table_name, 0)
                return self._load(record) is not None or self._build_exclusively(
                    record, on_progress, wait=wait
                )
            except _BuiltElsewhere:
                return False
            except (JammiError, OSError, MemoryError, RuntimeError, _BuildStopped):
                self._failed_tables.add(record.table_name)
                # a full disk, a table dropped meanwhile, a workspace being closed: searches work
                # without an index
                return False
            finally:
                if not is_queued:
                    self._progress.pop(record.table_name, None)

    def _build_exclusively(
        self, record: TableRecord, on_progress: OnProgress | None, *, wait: bool
    ) -> bool:
        """Build it while holding the lock; or, if another kernel was building, load its result."""

        def report_waiting(done: int) -> None:
            self._progress[record.table_name] = done
            if self._stop_event.is_set():
                raise _BuildStopped
            if not wait:
                raise _BuiltElsewhere
            if on_progress:
                on_progress(
                    Progress(
                        stage=f"waiting for the index of {record.recipe}",
                        done=done,
                        total=record.row_count,
                        unit="vectors",
                    )
                )

        with exclusive_build(
            self._build_locks,
            record.table_name,
            self._settings["flight.wait_seconds"],
            report_waiting,
        ) as report_done:
            return self._load(record) is not None or self._build(record, on_progress, report_done)

    def _build(
        self,
        record: TableRecord,
        on_progress: OnProgress | None,
        report_done: Callable[[int], None],
    ) -> bool:
        from jammi_lab.features.vectors.index.hnsw import build_index, extend_index, open_index

        self._tables.require_intact(record)
        parquet = self._tables.parquet(record)
        cached = cast("Matrix | None", CACHE.get(_matrix_key(record, parquet)))
        matrix = cached if cached is not None else self._open_matrix(record, parquet)
        total = len(matrix)

        def advance(done: int) -> None:
            self._progress[record.table_name] = done
            report_done(done)
            if self._stop_event.is_set():
                raise _BuildStopped
            if on_progress:
                on_progress(
                    Progress(stage=f"index {record.recipe}", done=done, total=total, unit="vectors")
                )

        parameters, oversample = self._parameters(record), self._settings["vectors.oversample"]
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

    def _parameters(self, record: TableRecord) -> BuildParameters:
        expansion_factor = 2 if (record.row_count or 0) > _LARGE_TABLE_ROWS else 1
        connectivity = self._settings["vectors.connectivity"]
        expansion = self._settings["vectors.build_expansion"]
        return BuildParameters(
            self._precision_of(record),
            max(2, connectivity),
            max(1, expansion) * expansion_factor,
        )

    def _precision_of(self, record: TableRecord) -> str:
        """The configured precision of a table's index; the default is not recorded."""
        return self._notes.get(_note_key(record)) or DEFAULT_PRECISION

    def _set_precision(self, record: TableRecord, precision: str | None) -> None:
        """Record the precision; None keeps the recorded one, or takes that of the previous
        version."""
        recorded = self._notes.get(_note_key(record))
        if precision is None and recorded is None:
            for previous in self._earlier_versions(record):
                precision = self._precision_of(previous)
                break
        precision = precision or recorded or DEFAULT_PRECISION
        if precision != (recorded or DEFAULT_PRECISION):
            note = None if precision == DEFAULT_PRECISION else precision
            self._notes.set(_note_key(record), note)
            CACHE.evict([self._cache_key(record)])
            self._unusable_manifests.pop(record.table_name, None)

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
        """Whether an index is of exactly these vectors, all of them, with the configured precision
        and a compatible release of usearch."""
        same_table = (manifest.table, manifest.shape.dimensions, manifest.shape.count) == (
            record.digest,
            record.dimensions,
            record.row_count,
        )
        compatible = manifest.usearch_version == index_files.usearch_version()
        precision = manifest.shape.parameters.precision
        return same_table and compatible and precision == self._precision_of(record)

    @staticmethod
    def _cache_key(record: TableRecord) -> str:
        return f"index:{record.digest or record.table_name}"


def _note_key(record: TableRecord) -> str:
    return f"index-precision:{record.table_name}"


def _matrix_key(record: TableRecord, path: StoragePath) -> str:
    """The cache key of a table's vectors. It includes the path: a matrix that reads its vectors
    from one file is of no use for an equal file elsewhere once that file is gone."""
    return f"vectors:{record.digest or record.table_name}:{os.fspath(path)}"
