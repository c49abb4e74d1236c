"""All lexical tables of a workspace. The index of each is derived data: the first search of a
process makes it from the table, in memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jammi_lab.core.caches import ObjectCache
from jammi_lab.core.errors import TableDamaged
from jammi_lab.core.records import TableRecord
from jammi_lab.storage.files import StoragePath, open_for_reading

if TYPE_CHECKING:
    from jammi_lab.features.vectors.matrix import KeyedRows
    from jammi_lab.features.words.word_index import WordIndex
    from jammi_lab.store.result_files import ResultFiles

_CACHE = ObjectCache(1_000_000_000)
"""The indexes of all workspaces in this process."""


@dataclass(frozen=True)
class WordTable:
    """A lexical table, ready to search."""

    keys: "KeyedRows"
    index: "WordIndex"

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self.keys.keys.nbytes) + self.index.nbytes


class WordTables:
    """Provides the index of each lexical table."""

    def __init__(self, tables: "ResultFiles") -> None:
        self._tables = tables
        self._cache_keys: set[str] = set()

    def table(self, record: TableRecord) -> WordTable:
        """The keys and the index of a table. TableDamaged."""
        path = self._tables.require_intact(record)
        key = f"words:{record.digest}:{path}"
        self._cache_keys.add(key)
        return _CACHE.load(key, lambda: _make(path))

    def close(self) -> None:
        """Release the memory of this workspace."""
        _CACHE.evict(self._cache_keys)


def _make(path: StoragePath) -> WordTable:
    """The keys of a table, and its index, made from the rows. Raises TableDamaged."""
    import pyarrow as pa

    from jammi_lab.features.vectors.matrix import KeyedRows
    from jammi_lab.features.words.word_index import WordIndex
    from jammi_lab.storage.parquet import open_parquet
    from jammi_lab.storage.vector_arrays import to_keys

    try:
        with open_for_reading(path) as raw, open_parquet(raw) as file:
            rows = file.read(["key", "terms"], use_threads=False)
        terms = rows["terms"].cast(pa.large_string()).combine_chunks()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise TableDamaged(
            f"The file {path.name} cannot be read as a lexical table.",
            table=path.name.removesuffix(".parquet"),
        ) from error
    return WordTable(KeyedRows(to_keys(rows["key"])), WordIndex.from_documents(terms))
