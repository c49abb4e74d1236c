"""The indexes of a workspace: made after their tables, found again, healed, and resident beside the vectors that they are of.

An index is derived: whatever is wrong with one, search reads the vectors themselves until it is made anew, and no failure here is an error of search.
"""

import contextlib
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from jammi_lab.config import Settings
from jammi_lab.errors import JammiError
from jammi_lab.storage.files import Place, Stat, stat_of
from jammi_lab.values.records import Progress, TableKind, TableRecord
from jammi_lab.vectors import index_files
from jammi_lab.vectors.cache import Cache
from jammi_lab.vectors.index_files import MANIFEST, IndexManifest, beside
from jammi_lab.vectors.index_state import IndexState, Notes, Precisions, Tables, Wished
from jammi_lab.vectors.index_turns import Turns, alone

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jammi_lab.vectors.ann import Ann, Parameters
    from jammi_lab.vectors.matrix import Matrix

SEARCHABLE = frozenset({TableKind.EMBEDDING, TableKind.IMPORTED, TableKind.GRAPH_PROPAGATION, TableKind.CONTEXT_SET})
"""Kinds of tables that have vectors, and so an index."""
_RESIDENT = Cache(2_000_000_000)
"""What all workspaces of this process hold in memory."""
_MANY_ROWS = 200_000
"""Above this a graph is built twice as carefully; up to half as many rows that was measured to find nothing more."""
_STALE = 0.2
"""An index is made anew rather than taken over when more of it than this has been taken out since it was."""
_NEW = 0.5
"""And when more rows than this share of them would have to be put in: as many take half of the time, and taking over takes some."""
OnProgress = Callable[[Progress], None] | None


class _Stopped(Exception):
    """The workspace is being closed."""


class _Elsewhere(Exception):
    """Another kernel is at it, and is not waited for."""


class _Held(NamedTuple):
    """A table whose vectors were loaded, from bytes that were found to be the published ones."""

    of: tuple[str, str | None]
    """Where its record says that they are, and their digest."""
    path: Place
    stat: Stat
    """How the file was then."""
    key: str
    """Under which the vectors are resident, unless they had to make room."""


class Indexes:
    """Gives the vectors and the index of a table, and makes the index."""

    def __init__(
        self,
        tables: Tables,
        notes: Notes,
        settings: Settings,
        *,
        read_only: bool,
        earlier: Callable[[TableRecord], Iterable[TableRecord]],
        still: Callable[[TableRecord], bool],
        turns: Turns,
    ) -> None:
        """`earlier`: the ready versions of a table's recipe before it, newest first; `still`: whether a table is ready still; `turns`: of kernels."""
        self._tables, self._settings, self._read_only = tables, settings, read_only
        self._precisions = Precisions(notes, earlier)
        self._earlier, self._still, self._turns = earlier, still, turns
        self._lock = threading.Lock()
        self._making: dict[str, threading.RLock] = {}
        self._done: dict[str, int] = {}
        """Of the indexes that are being made: how many rows are in."""
        self._loaded: dict[str, _Held] = {}
        """By table, those whose vectors were loaded."""
        self._refused: dict[str, Stat | None] = {}
        """How the index manifest of a table was when the index was last found to be no good."""
        self._failed: set[str] = set()
        """Tables whose index could not be made: it is not tried again and again by every search."""
        self._flat: set[str] = set()
        """Indexes whose vectors would be read one after the other: no search that may choose is helped by them."""
        self._kept: set[str] = set()
        self._queue: deque[tuple[contextvars.Context, TableRecord]] = deque()
        self._worker: threading.Thread | None = None
        self._stop = threading.Event()

    # -- what searches ask ---------------------------------------------------------------------------------------------------------

    def matrix(self, record: TableRecord) -> "Matrix":
        """The vectors of a table. TableDamaged."""
        held = self._loaded.get(record.table_name)
        unmoved = held is not None and held.of == (record.path, record.digest) and held.stat == stat_of(held.path)
        if held is not None and unmoved and (resident := _RESIDENT.find(held.key)) is not None:
            return cast("Matrix", resident)
        path = self._tables.parquet(record)
        key, stat = _matrix_key(record, path), stat_of(path)  # before the look at the bytes: what moves meanwhile is looked at again
        self._tables.require(record)
        matrix = _RESIDENT.get(key, lambda: self._opened(record, path))
        self._kept.add(key)
        if stat is not None:
            self._loaded[record.table_name] = _Held((record.path, record.digest), path, stat, key)
        return matrix

    def index(self, record: TableRecord, *, build: bool = False, only_graphs: bool = False) -> "Ann | None":
        """The index of a table; None when there is none that is sound, or can be. With `build` it is made first then; with `only_graphs` one whose
        vectors would be read one after the other is not loaded. KeyboardInterrupt."""
        if not record.row_count or (only_graphs and self._key(record) in self._flat):
            return None
        found = _RESIDENT.get_if_there(self._key(record), lambda: self._load(record, only_graphs=only_graphs))
        if found is None and build:
            self._make(record, None)
            found = cast("Ann | None", _RESIDENT.find(self._key(record))) or self._load(record)
        return found

    def soon(self, record: TableRecord) -> None:
        """Begin to make the index of a table, unless that has begun."""
        with self._lock:
            if self._read_only or not record.row_count or self._stop.is_set() or record.table_name in {*self._done, *self._failed}:
                return
            if self._key(record) in self._flat:
                return
            self._done[record.table_name] = 0
            self._queue.append((contextvars.copy_context(), record))
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, name="jammi-index", daemon=True)
                self._worker.start()

    def close(self) -> None:
        """Stop what is being made, and let go of what is in memory."""
        self._stop.set()
        worker = self._worker
        if worker is not None and worker.is_alive():
            worker.join()
        _RESIDENT.drop(self._kept)

    # -- what the store asks -------------------------------------------------------------------------------------------------------

    def follow(self, record: TableRecord, wish: Wished, on_progress: OnProgress = None) -> None:
        """Make the index of a table that is ready now, unless it has it. KeyboardInterrupt."""
        if record.kind not in SEARCHABLE or self._read_only:
            return
        with contextlib.suppress(JammiError, OSError):
            if self._precisions.wish(record, wish.precision):
                _RESIDENT.drop([self._key(record)])
                self._refused.pop(record.table_name, None)
                self._flat.discard(self._key(record))
            if self.lacking(record, deep=False) is None:
                return
            if wish.later:
                self.soon(record)
            else:
                self._make(record, on_progress)

    def lacking(self, record: TableRecord, *, deep: bool) -> str | None:
        """What is wrong with the index of a table, in a word; None when nothing is. OSError, TableDamaged."""
        word = self.state(record).word if record.kind in SEARCHABLE and record.row_count else "ready"
        if word == "ready" and deep and record.row_count and record.kind in SEARCHABLE:
            parquet = self._tables.parquet(record)
            manifest = index_files.read(parquet)
            word = "ready" if manifest is not None and index_files.load(parquet, manifest) is not None else "damaged"
        return None if word == "ready" else word

    def restored(self, record: TableRecord, *, at_once: bool) -> bool:
        """Whether an index that was lacking is there again; unless `at_once`, that of a table that is searched through one is only begun."""
        if self.lacking(record, deep=at_once) is None:
            return False
        if not at_once and (record.row_count or 0) > self._settings["vectors.exact_max_rows"]:
            self.soon(record)
            return False
        _RESIDENT.drop([self._key(record)])
        return self._make(record, None, wait=at_once)

    def told(self, record: TableRecord) -> str | None:
        """What a board says of the index: its precision or what is wrong, and the share of the rows in it; None for a table without vectors."""
        if record.kind not in SEARCHABLE or not record.row_count:
            return None
        try:
            return str(self.state(record))
        except (JammiError, OSError):
            return "unknown"

    def gone(self, record: TableRecord) -> None:
        """Forget a table that is about to be removed."""
        if record.kind in SEARCHABLE:
            _RESIDENT.drop([self._key(record), _matrix_key(record, self._tables.parquet(record))])
            self._precisions.forget(record)

    def state(self, record: TableRecord) -> IndexState:
        """How the index of a table is, without reading its bytes. OSError, TableDamaged."""
        rows = record.row_count or 0
        if (done := self._done.get(record.table_name)) is not None:
            return IndexState("building", None, done, rows)
        parquet = self._tables.parquet(record)
        manifest = index_files.read(parquet)
        if manifest is None:
            word = index_files.why_not(parquet)
        elif not self._fits(record, manifest):
            word = "outdated"
        else:
            word = "ready" if index_files.complete(parquet, manifest) else "damaged"
        covered = rows if word == "ready" else 0
        return IndexState(word, manifest.precision if manifest else None, covered, rows)

    # -- making --------------------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._worker = None
                    return
                context, record = self._queue.popleft()
            try:
                context.run(self._make, record, None)
            finally:
                self._done.pop(record.table_name, None)

    def _make(self, record: TableRecord, on_progress: OnProgress, *, wait: bool = True) -> bool:
        """Whether a table has its index now, made here unless another thread or kernel has; unless `wait`, False while another kernel is at it.
        KeyboardInterrupt, between two steps, leaves what was there."""
        if self._read_only or not record.row_count:
            return False
        with self._lock:
            turn = self._making.setdefault(record.table_name, threading.RLock())
        with turn:
            queued = record.table_name in self._done
            try:
                self._done.setdefault(record.table_name, 0)
                return self._load(record) is not None or self._alone(record, on_progress, wait=wait)
            except _Elsewhere:
                return False
            except (JammiError, OSError, MemoryError, RuntimeError, _Stopped):
                self._failed.add(record.table_name)
                return False  # a full disk, a table that was dropped meanwhile, a workspace that is closed: search does without
            finally:
                if not queued:
                    self._done.pop(record.table_name, None)

    def _alone(self, record: TableRecord, on_progress: OnProgress, *, wait: bool) -> bool:
        """Make it when no other kernel does, else wait for what that makes."""

        def waiting(done: int) -> None:
            self._done[record.table_name] = done
            if self._stop.is_set():
                raise _Stopped
            if not wait:
                raise _Elsewhere
            if on_progress:
                on_progress(Progress(stage=f"waiting for the index of {record.recipe}", done=done, total=record.row_count, unit="vectors"))

        with alone(self._turns, record.table_name, self._settings["flight.wait_seconds"], waiting) as tell:
            return self._load(record) is not None or self._made(record, on_progress, tell)

    def _made(self, record: TableRecord, on_progress: OnProgress, tell: Callable[[int], None]) -> bool:
        from jammi_lab.vectors.ann import appended, build, restored

        self._tables.require(record)
        parquet = self._tables.parquet(record)
        resident = cast("Matrix | None", _RESIDENT.find(_matrix_key(record, parquet)))
        matrix = resident if resident is not None else self._opened(record, parquet)
        total = len(matrix)

        def advance(done: int) -> None:
            self._done[record.table_name] = done
            tell(done)
            if self._stop.is_set():
                raise _Stopped
            if on_progress:
                on_progress(Progress(stage=f"index {record.recipe}", done=done, total=total, unit="vectors"))

        parameters, oversample = self._parameters(record), self._oversample
        over = self._taken_over(record, matrix, parameters)
        if over is None:
            ann = build(matrix.rows, parameters, oversample, advance)
        else:
            ann = appended(over[0], matrix.rows, over[1], oversample, advance)
            del over
        del matrix, resident
        self._tables.require(record)  # the bytes that were read meanwhile were the published ones
        _, body = index_files.write(parquet, record.digest or "", ann)
        if not self._still(record):
            index_files.clear(parquet)
            return False
        ready = restored(body, ann.shape, ann.numbers)
        if ready is not None:
            self._keep(record, ready)
        return ready is not None

    def _opened(self, record: TableRecord, path: Place) -> "Matrix":
        """The vectors of a table: those of a large one stay in their file until all of them are asked for. TableDamaged."""
        from jammi_lab.vectors.matrix import Matrix

        if isinstance(path, Path) and (record.row_count or 0) > self._settings["vectors.exact_max_rows"]:
            return Matrix.in_file(path)
        return Matrix.from_parquet(path)

    def _taken_over(self, record: TableRecord, matrix: "Matrix", parameters: "Parameters") -> "tuple[Ann, NDArray[np.int64]] | None":
        """The index of the version before, and where its rows are now, when there is one and that is less work than making one anew."""
        before = next(iter(self._earlier(record)), None)
        if before is None or before.dimensions != record.dimensions or not before.row_count:
            return None
        parquet = self._tables.parquet(before)
        manifest = index_files.read(parquet)
        if manifest is None or manifest.table != before.digest or index_files.shape_of(manifest).parameters != parameters:
            return None
        old = self._opened(before, self._tables.require(before))
        kept = old.places_in(matrix)
        stay = int((kept >= 0).sum())
        if manifest.removed + len(old) - stay > _STALE * len(matrix) or len(matrix) - stay > _NEW * len(matrix):
            return None
        resident = cast("Ann | None", _RESIDENT.find(self._key(before)))
        _RESIDENT.drop([self._key(before)])  # it would be there twice, and is hardly searched any more
        found = index_files.load(parquet, manifest) if resident is None else resident.again()
        return None if found is None else (found, kept)

    def _parameters(self, record: TableRecord) -> "Parameters":
        from jammi_lab.vectors.ann import Parameters

        careful = 2 if (record.row_count or 0) > _MANY_ROWS else 1
        connectivity, expansion = self._settings["vectors.connectivity"], self._settings["vectors.build_expansion"]
        return Parameters(self._precisions.of(record), max(2, connectivity), max(1, expansion) * careful)

    @property
    def _oversample(self) -> int:
        return max(1, int(self._settings["vectors.oversample"]))

    # -- finding -------------------------------------------------------------------------------------------------------------------

    def _load(self, record: TableRecord, *, only_graphs: bool = False) -> "Ann | None":
        """The index from its files, when they are sound."""
        try:
            parquet = self._tables.parquet(record)
            stat = stat_of(beside(parquet, MANIFEST))
            if record.table_name in self._refused and self._refused[record.table_name] == stat:
                return None
            manifest = index_files.read(parquet) if stat is not None else None
            if only_graphs and manifest is not None and manifest.search_expansion == 0 and self._fits(record, manifest):
                self._flat.add(self._key(record))
                return None
            found = index_files.load(parquet, manifest) if manifest is not None and self._fits(record, manifest) else None
        except (JammiError, OSError, MemoryError, RuntimeError, ValueError):
            return None
        if found is None:
            self._refused[record.table_name] = stat
            return None
        self._keep(record, found)
        return found

    def _keep(self, record: TableRecord, ann: "Ann") -> None:
        self._refused.pop(record.table_name, None)
        self._failed.discard(record.table_name)
        key = self._key(record)
        _RESIDENT.put(key, ann)
        self._kept.add(key)

    def _fits(self, record: TableRecord, manifest: IndexManifest) -> bool:
        """Whether an index is of these very vectors, all of them, as precise as it is to be, and of a usearch that lays it out as ours does."""
        same = (manifest.table, manifest.dimensions, manifest.count) == (record.digest, record.dimensions, record.row_count)
        ours = manifest.usearch_version == index_files.version()
        return same and ours and manifest.precision == (self._precisions.of(record))

    @staticmethod
    def _key(record: TableRecord) -> str:
        return f"index:{record.digest or record.table_name}"


def _matrix_key(record: TableRecord, path: Place) -> str:
    """Vectors that stay in their file are those of one file, whose bytes may be gone while equal ones lie elsewhere."""
    return f"vectors:{record.digest or record.table_name}:{os.fspath(path)}"
