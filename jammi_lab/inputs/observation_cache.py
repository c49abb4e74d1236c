"""The observation cache: file stats and digests of earlier passes. It is persisted in the catalog,
so that an unchanged file is not read again after a restart."""

import contextlib
import threading

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.errors import ResourceExhausted, VersionConflict, WorkspaceReadOnly
from jammi_lab.storage.digests import CacheEntry, observation_key

ROWS_KIND = "rows"
"""The kind of row digests. The earlier rows of a rewritten source cannot be read again, so a key
that is missing in memory is also looked up in the catalog, where another kernel may have stored
it."""


class ObservationCache:
    """A cache of observations. Reads come from memory, loaded once; `flush` writes new entries to
    the catalog in one transaction."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._entries: dict[str, CacheEntry] | None = None
        self._unsaved: dict[str, CacheEntry] = {}

    def get(self, key: str) -> CacheEntry | None:
        """The entry of a key, or None."""
        with self._lock:
            entry = self._load_entries().get(key)
            if entry is None and key.startswith(observation_key(ROWS_KIND, "")):
                entry = self._catalog.observations.get(key)
                if entry is not None:
                    self._load_entries()[key] = entry
            return entry

    def put(self, key: str, entry: CacheEntry) -> None:
        """Store an entry; other kernels see it after the next `flush`."""
        with self._lock:
            self._load_entries()[key] = self._unsaved[key] = entry

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
        try:
            self._catalog.observations.put_many(unsaved)
        except BaseException:
            with self._lock:
                self._unsaved = unsaved | self._unsaved
            raise

    def _load_entries(self) -> dict[str, CacheEntry]:
        if self._entries is None:
            self._entries = self._catalog.observations.load()
        return self._entries
