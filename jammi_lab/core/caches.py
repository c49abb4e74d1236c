"""Caches in memory, bounded by the number of entries or by their bytes. Thread-safe."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, Protocol, TypeVar, cast

from jammi_lab.core.errors import InvalidArgument

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Values by key, of which the least recently used go first. Values are never None."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value of a key, or None."""
        with self._lock:
            if (value := self._entries.get(key)) is not None:
                self._entries.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        """Store a value, replacing an earlier one."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)


class SizedObject(Protocol):
    """An object with a known size."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        ...


T = TypeVar("T", bound=SizedObject)


class ObjectCache:
    """At most `max_bytes` of matrices and indexes. Keys contain content digests, so entries never
    become stale.

    Evicted objects live on as long as a caller uses them. An object larger than `max_bytes` is
    returned but not cached.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise InvalidArgument(f"max_bytes must be at least 0, got {max_bytes}.")
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, SizedObject] = OrderedDict()
        self._loading_locks: dict[str, threading.Lock] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        with self._lock:
            return sum(entry.nbytes for entry in self._entries.values())

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._entries

    def get(self, key: str, load: Callable[[], T]) -> T:
        """The object of a key; calls `load` if it is not cached. Concurrent calls load it once.
        Raises what `load` raises."""
        return cast(T, self.get_optional(key, load))

    def get_optional(self, key: str, load: Callable[[], T | None]) -> T | None:
        """As `get`, for a `load` that may return None, which is not cached."""
        with self._lock:
            if (cached := self._lookup(key)) is not None:
                return cast(T, cached)
            loading_lock = self._loading_locks.setdefault(key, threading.Lock())
        with loading_lock:
            with self._lock:
                if (cached := self._lookup(key)) is not None:
                    return cast(T, cached)
            try:
                loaded = load()
                if loaded is not None:
                    self.store(key, loaded)
            finally:
                with self._lock:
                    if self._loading_locks.get(key) is loading_lock:
                        del self._loading_locks[key]
            return loaded

    def find(self, key: str) -> SizedObject | None:
        """The object of a key if it is cached; else None."""
        with self._lock:
            return self._lookup(key)

    def store(self, key: str, value: SizedObject) -> None:
        """Store an object under a key; evicts the least recently used ones to make room."""
        if value.nbytes > self._max_bytes:
            return
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            total = sum(entry.nbytes for entry in self._entries.values())
            while total > self._max_bytes:
                _, evicted = self._entries.popitem(last=False)
                total -= evicted.nbytes

    def evict(self, keys: Iterable[str]) -> None:
        """Remove some keys; missing ones are ignored."""
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)

    def _lookup(self, key: str) -> SizedObject | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry
