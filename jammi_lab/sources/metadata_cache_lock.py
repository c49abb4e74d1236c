"""Lock on DuckDB's cache of server table metadata: many readers, or one thread that clears it.

In DuckDB 1.5.5 `mysql_clear_cache` frees table definitions that a bound statement of another thread
still uses, which crashes the process (SIGSEGV). `pg_clear_cache` and `mysql_query` are not
affected.
"""

import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

_CLEAR_TIMEOUT_SECONDS = 0.5
"""How long clearing waits for readers."""


class MetadataCacheLock:
    """A readers-writer lock for one DuckDB instance; readers have priority."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._clearing = False

    def acquire_read(self) -> Callable[[], None]:
        """Take a read lock and return the function that releases it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._clearing)
            self._readers += 1

        def release() -> None:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

        return release

    @contextmanager
    def acquire_exclusive(self, seconds: float = _CLEAR_TIMEOUT_SECONDS) -> Iterator[bool]:
        """Yield whether the exclusive lock was acquired within `seconds`. It lasts until the block
        ends; the block must not wait for anything."""
        with self._changed:
            acquired = self._changed.wait_for(
                lambda: not self._readers and not self._clearing, seconds
            )
            self._clearing = self._clearing or acquired
        try:
            yield acquired
        finally:
            if acquired:
                with self._changed:
                    self._clearing = False
                    self._changed.notify_all()


def lock_for(state: MutableMapping[str, Any], kind: str) -> MetadataCacheLock:
    """The lock for one kind of server in the instance that `state` belongs to."""
    lock: MetadataCacheLock = state.setdefault(f"turns:{kind}", MetadataCacheLock())
    return lock
