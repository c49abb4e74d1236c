"""Read leases: which table files statements of this process are reading. A file is removed when its
last lease ends."""

import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable

from jammi_lab.storage.files import StoragePath

_lease_counts: Counter[str] = Counter()
_lock = threading.Lock()


def acquire_lease(path: StoragePath) -> Callable[[], None]:
    """Acquire a lease on a file. The returned function releases it and may be called twice."""
    key, active = os.fspath(path), [None]
    with _lock:
        _lease_counts[key] += 1

    def release() -> None:
        with _lock:
            if active:
                active.clear()
                _lease_counts[key] -= 1
                if not _lease_counts[key]:
                    del _lease_counts[key]

    return release


def is_leased(path: StoragePath) -> bool:
    """Whether a statement of this process, in any of its workspaces, is reading the file."""
    with _lock:
        return os.fspath(path) in _lease_counts


class ReadLease:
    """A lease on a file for a statement that will read it: until its first run has ended, or until
    the statement is garbage-collected without one.

    Called when a run begins; the returned function is called when the run has ended.
    """

    def __init__(self, path: StoragePath) -> None:
        self._path, self._release_initial = path, acquire_lease(path)
        weakref.finalize(self, self._release_initial)

    def __call__(self) -> Callable[[], None]:
        release = acquire_lease(self._path)
        self._release_initial()
        return release
