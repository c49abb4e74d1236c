"""What earlier looks saw: file stats and digests, kept in the catalog so that an unchanged file is not read again after a restart."""

import contextlib
import threading

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.errors import ResourceExhausted, VersionConflict, WorkspaceReadOnly
from jammi_lab.storage.digests import MemoEntry

ROWS = "rows:"
"""How keys begin under which rows are kept that cannot be read again: what another kernel kept is asked for, when a kernel that opened before does
not know of it."""


class ObservationMemo:
    """A memo of observations. Reads come from memory (loaded once), writes go to the catalog in one transaction by `flush`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._entries: dict[str, MemoEntry] | None = None
        self._unsaved: dict[str, MemoEntry] = {}

    def get(self, key: str) -> MemoEntry | None:
        """What was seen under the key; None when nothing was."""
        with self._lock:
            entry = self._loaded().get(key)
            if entry is None and key.startswith(ROWS):
                entry = self._catalog.memo.get(key)
                if entry is not None:
                    self._loaded()[key] = entry
            return entry

    def put(self, key: str, entry: MemoEntry) -> None:
        """Remember; other kernels learn of it after the next `flush`."""
        with self._lock:
            self._loaded()[key] = self._unsaved[key] = entry

    def flush(self) -> None:
        """Store what is new. A read-only workspace keeps it in memory only, and so does one whose catalog cannot be written just now."""
        if not self._catalog.read_only:
            with contextlib.suppress(ResourceExhausted, VersionConflict, WorkspaceReadOnly):
                self.save()

    def save(self) -> None:
        """Store what is new, in the transaction that runs if one does. Raises as that does."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, {}
        try:
            self._catalog.memo.put_many(unsaved)
        except BaseException:
            with self._lock:
                self._unsaved = unsaved | self._unsaved
            raise

    def _loaded(self) -> dict[str, MemoEntry]:
        if self._entries is None:
            self._entries = self._catalog.memo.load()
        return self._entries
