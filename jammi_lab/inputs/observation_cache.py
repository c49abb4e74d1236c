"""The observation cache: file stats and digests of earlier passes. It is persisted in the catalog,
so that an unchanged file is not read again after a restart."""

import contextlib
import threading
from collections.abc import Sequence

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.errors import ResourceExhausted, VersionConflict, WorkspaceReadOnly
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key

_TABLES_KIND = "tables"
MAX_ENTRIES, MAX_ENTRIES_PER_TABLE = 20_000, 10
"""How many entries are kept, whichever is more: each state of an input leaves some, and files that
come and go."""


class ObservationCache:
    """A cache of observations. Reads come from memory, loaded once; `flush` writes new entries to
    the catalog in one transaction.

    An entry decides how a source is read, also with SQL. In a folder that is not trusted what the
    catalog has is not used.
    """

    def __init__(self, catalog: Catalog, outside: OutsideAccess | None = None) -> None:
        self._catalog, self._outside = catalog, outside or OutsideAccess(None)
        self._lock = threading.Lock()
        self._entries: dict[str, CacheEntry] | None = None
        self._unsaved: dict[str, CacheEntry] = {}
        self._max_entries = MAX_ENTRIES
        self.unfinished_looks = set[tuple[str | None, tuple[str, str, str]]]()
        """The inputs, each as a tenant sees it, whose look goes on although its pass gave it up: it
        cannot be ended, and another one would add a thread each time."""

    def get(self, key: str) -> CacheEntry | None:
        """The entry of a key, or None."""
        # Without the lock, which costs several times the look-up: a status asks for every file.
        if self._entries is not None and (known := self._entries.get(key)) is not None:
            return known
        with self._lock:
            return self._load_entries().get(key)

    def put(self, key: str, entry: CacheEntry) -> None:
        """Store an entry; other kernels see it after the next `flush`."""
        with self._lock:
            self._load_entries()[key] = self._unsaved[key] = entry

    def discard(self, keys: Sequence[str]) -> None:
        """Remove entries, also from the catalog. Raises the catalog's errors."""
        with self._lock:
            for key in keys:
                self._load_entries().pop(key, None)
                self._unsaved.pop(key, None)
        self._catalog.observations.remove(keys)

    def flush(self) -> None:
        """Write new entries to the catalog. In a read-only workspace, or when the catalog cannot be
        written now, they stay in memory."""
        if not self._catalog.read_only:
            with contextlib.suppress(ResourceExhausted, VersionConflict, WorkspaceReadOnly):
                self.save()

    def save(self) -> None:
        """Write new entries to the catalog, in the current transaction if there is one. Raises the
        catalog's errors."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, {}
            surplus = self._drop_oldest() if unsaved else []
        try:
            self._catalog.observations.put_many(unsaved)
            if surplus:
                self._catalog.observations.remove(surplus)
        except BaseException:
            with self._lock:
                # entries that were put during the write are newer
                self._unsaved = unsaved | self._unsaved
            raise

    def _drop_oldest(self) -> list[str]:
        """Drop the oldest entries when there are too many; return their keys."""
        entries = self._entries or {}
        if len(entries) <= self._max_entries:
            return []
        tables = len(self._catalog.result_tables.names())
        self._max_entries = max(MAX_ENTRIES, MAX_ENTRIES_PER_TABLE * tables)
        surplus = max(0, len(entries) - self._max_entries * 3 // 4)
        by_age = sorted(entries, key=lambda key: entries[key].observed_at_ns)
        for key in by_age[:surplus]:
            del entries[key]
        return by_age[:surplus]

    def _load_entries(self) -> dict[str, CacheEntry]:
        if self._entries is None:
            is_used = self._outside.trusts_folder
            self._entries = self._catalog.observations.load() if is_used else {}
        return self._entries


MAX_LISTED_TABLES = 200


class KnownTables:
    """The tables last listed in each source of one workspace, so that sources can be listed without
    querying any of them."""

    def __init__(self, cache: ObservationCache) -> None:
        self._cache = cache

    def forget(self, record: SourceRecord) -> None:
        """Remove what is known of a source that was removed."""
        self._cache.discard([_cache_key(record)])

    def record_tables(self, record: SourceRecord, tables: Sequence[str], now_ns: int) -> None:
        """Store the tables of a source. An empty list is stored only to replace an earlier one."""
        if tables or self.tables(record) is not None:
            names = list(tables[:MAX_LISTED_TABLES])
            payload = {"of": _source_address(record), "tables": names, "number": len(tables)}
            self._cache.put(_cache_key(record), CacheEntry(NO_STAT, now_ns, payload))

    def tables(self, record: SourceRecord) -> tuple[list[str], int] | None:
        """The names of the first tables of a source and their total number, as last listed; None
        when they were never listed."""
        entry = self._cache.get(_cache_key(record))
        if entry is None or entry.payload.get("of") != _source_address(record):
            return None
        return list(entry.payload["tables"]), int(entry.payload["number"])


def _cache_key(record: SourceRecord) -> str:
    return observation_key(_TABLES_KIND, record.tenant or "", fold(record.name))


def _source_address(record: SourceRecord) -> list[str]:
    # Stored with each entry: what was seen of another source under the same name is not shown.
    return [record.kind, record.location]
