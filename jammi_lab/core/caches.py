"""Caches in memory, bounded by the number of entries or by their bytes. Thread-safe."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, Protocol, TypeVar, cast

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Values by key, of which the least recently used go first. Values are never None."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, V] = OrderedDict()

    def _size(self) -> int:
        return len(self._entries)

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
            while self._size() > self._max_size:
                self._entries.popitem(last=False)


class SizedObject(Protocol):
    """An object with a known size."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        ...


T = TypeVar("T", bound=SizedObject | None)


class ObjectCache(BoundedCache[str, SizedObject]):
    """At most so many bytes of matrices and indexes. Keys contain content digests, so entries never
    become stale.

    Evicted objects live on as long as a caller uses them. A larger object is returned but not
    cached.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._loading_locks: dict[str, threading.Lock] = {}

    def _size(self) -> int:
        return sum(entry.nbytes for entry in self._entries.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        with self._lock:
            return self._size()

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def load(self, key: str, make: Callable[[], T]) -> T:
        """The object of a key; calls `make` if it is not cached. Concurrent calls make it once.
        None is not cached. Raises what `make` raises."""
        if (cached := self.get(key)) is not None:
            return cast(T, cached)
        with self._lock:
            loading_lock = self._loading_locks.setdefault(key, threading.Lock())
        with loading_lock:
            if (cached := self.get(key)) is not None:
                return cast(T, cached)
            try:
                loaded = make()
                if loaded is not None:
                    self.put(key, loaded)
            finally:
                with self._lock:
                    if self._loading_locks.get(key) is loading_lock:
                        del self._loading_locks[key]
            return loaded

    def put(self, key: str, value: SizedObject) -> None:
        """Store an object, unless it is larger than the cache."""
        if value.nbytes <= self._max_size:
            super().put(key, value)

    def evict(self, keys: Iterable[str]) -> None:
        """Remove some keys; missing ones are ignored."""
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
