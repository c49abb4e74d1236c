"""All lexical tables of a workspace: their index files, made after the tables and again when they
are lost or damaged, and the loaded indexes.

An index file is derived data. While there is no usable one, the index is made from the table in
memory; no failure here is an error of a search.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from jammi_lab.core.caches import ObjectCache
from jammi_lab.core.errors import JammiError, TableDamaged
from jammi_lab.core.records import Progress, TableRecord
from jammi_lab.features.words import files
from jammi_lab.storage.files import (
    Stat,
    StoragePath,
    exists,
    open_for_reading,
    remove_file,
    stat_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.features.vectors.matrix import KeyedRows
    from jammi_lab.features.words.word_index import WordIndex
    from jammi_lab.store.result_files import ResultFiles

_CACHE = ObjectCache(1_000_000_000)
"""The indexes of all workspaces in this process."""
_QUICK_BUILD_ROWS = 100_000
"""Tables with at most so many rows are indexed within about a second."""


@dataclass(frozen=True)
class WordTable:
    """A lexical table, ready to search."""

    keys: "KeyedRows"
    index: "WordIndex"
    stat: Stat | None
    """The stat of the mapped index file; None for an index in memory."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self.keys.keys.nbytes) + self.index.nbytes


class WordTables:
    """Provides the index of each lexical table, and keeps its file."""

    def __init__(
        self,
        tables: "ResultFiles",
        *,
        read_only: bool,
        is_still_ready: Callable[[TableRecord], bool],
    ) -> None:
        self._tables, self._read_only, self._is_still_ready = tables, read_only, is_still_ready
        self._lock = threading.Lock()
        self._cache_keys: set[str] = set()

    def table(self, record: TableRecord) -> WordTable:
        """The keys and the index of a table. TableDamaged."""
        path = self._tables.require_intact(record)
        key = _cache_key(record, path)
        if (cached := self._find_cached(record, path)) is not None:
            return cached
        _CACHE.evict([key])
        self._cache_keys.add(key)
        return _CACHE.get(key, lambda: self._open(record, path))

    def close(self) -> None:
        """Release the memory of this workspace."""
        _CACHE.evict(self._cache_keys)

    # -- for the store

    def build(
        self,
        record: TableRecord,
        request: object,  # noqa: ARG002  of the protocol
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Make the index file of a table that just became ready. Raises KeyboardInterrupt."""
        if self._read_only:
            return
        with contextlib.suppress(JammiError, OSError, MemoryError):
            if self.find_defect(record, deep=False) is not None:
                if on_progress:
                    stage = f"index {record.recipe}"
                    on_progress(Progress(stage=stage, done=0, total=record.row_count, unit="texts"))
                self.table(record)

    def find_defect(self, record: TableRecord, *, deep: bool) -> str | None:
        """What is wrong with the index file of a table, as one word; None when it is usable.
        `deep`: verify its bytes, too. Raises OSError, TableDamaged."""
        parquet = self._tables.parquet(record)
        if (read := files.read_header(parquet)) is None:
            if files.read_header(parquet, of_any_user=True) is not None:
                return "outdated"
            return "damaged" if exists(files.words_path(parquet)) else "missing"
        if not _matches(record, read[0]):
            return "outdated"
        if not files.is_complete(parquet, *read):
            return "damaged"
        return "damaged" if deep and files.load_words(parquet, *read) is None else None

    def restore(self, record: TableRecord, *, wait: bool) -> bool:
        """Make a missing or unusable index file again. Returns whether it is usable now. Without
        `wait`, that of a large table is left to the next search."""
        if self.find_defect(record, deep=wait) is None:
            return False
        if self._read_only or (not wait and (record.row_count or 0) > _QUICK_BUILD_ROWS):
            return False
        _CACHE.evict([_cache_key(record, self._tables.parquet(record))])
        with contextlib.suppress(JammiError, OSError, MemoryError):
            return self.table(record).stat is not None
        return False

    def describe(self, record: TableRecord) -> str:
        """The state of the index file for status reports."""
        try:
            return self.find_defect(record, deep=False) or "words"
        except (JammiError, OSError):
            return "unknown"

    def on_removal(self, record: TableRecord) -> None:
        """Release everything of a table that is about to be removed."""
        _CACHE.evict([_cache_key(record, self._tables.parquet(record))])

    # -- loading

    def _open(self, record: TableRecord, path: StoragePath) -> WordTable:
        """Load the index from its file, else make it from the table and write the file."""
        with self._lock:
            loaded = self._load(record, path)
            if loaded is not None:
                return loaded
            keys, index = _make(path)
            if not self._read_only:
                with contextlib.suppress(OSError):
                    files.write_words(path, record.digest or "", index)
                    if not self._is_still_ready(record):
                        remove_file(files.words_path(path))
            return self._load(record, path) or WordTable(keys, index, None)

    def _find_cached(self, record: TableRecord, path: StoragePath) -> WordTable | None:
        cached = cast("WordTable | None", _CACHE.find(_cache_key(record, path)))
        if cached is None or cached.stat is None:
            return cached
        # A mapped file that was cut off must not be read any more.
        return cached if cached.stat == _stat(files.words_path(path)) else None

    def _load(self, record: TableRecord, path: StoragePath) -> WordTable | None:
        try:
            stat, read = _stat(files.words_path(path)), files.read_header(path)
            if stat is None or read is None or not _matches(record, read[0]):
                return None
            index = files.load_words(path, *read)
        except (OSError, MemoryError, ValueError):
            return None
        if index is None:
            return None
        return WordTable(_keys_of(_read_columns(path, ["key"])), index, stat)


def _cache_key(record: TableRecord, path: StoragePath) -> str:
    return f"words:{record.digest}:{path}"


def _matches(record: TableRecord, header: files.WordsHeader) -> bool:
    """Whether an index file is of exactly this table."""
    return (header.table, header.rows) == (record.digest, record.row_count)


def _stat(path: StoragePath) -> Stat | None:
    try:
        return stat_of(path)
    except OSError:
        return None


def _keys_of(rows: "pa.Table") -> "KeyedRows":
    from jammi_lab.features.vectors.matrix import KeyedRows
    from jammi_lab.storage.vector_arrays import to_keys

    return KeyedRows(to_keys(rows["key"]))


def _make(path: StoragePath) -> "tuple[KeyedRows, WordIndex]":
    """The keys of a table, and its index, made from the rows. Raises TableDamaged."""
    from jammi_lab.features.words.word_index import WordIndex

    rows = _read_columns(path, ("key", "terms"))
    if "terms" not in rows.column_names:
        raise _unreadable_error(path)
    return _keys_of(rows), WordIndex.from_documents([rows["terms"].combine_chunks()])


def _read_columns(path: StoragePath, names: Sequence[str]) -> "pa.Table":
    """Those of some columns that a table has, the key among them. Raises TableDamaged."""
    import pyarrow as pa

    from jammi_lab.storage.parquet import open_parquet

    try:
        with open_for_reading(path) as raw, open_parquet(raw) as file:
            present = [name for name in file.schema_arrow.names if name in names]
            rows = file.read(present, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable_error(path) from error
    if "key" not in present:
        raise _unreadable_error(path)
    return rows


def _unreadable_error(path: StoragePath) -> TableDamaged:
    return TableDamaged(
        f"The file {path.name} cannot be read as a lexical table.",
        table=path.name.removesuffix(".parquet"),
    )
