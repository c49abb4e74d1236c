"""Who in this process reads the bytes of which table: they are removed when nobody does."""

import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable

from jammi_lab.storage.files import Place

_held: Counter[str] = Counter()
_lock = threading.Lock()


def hold(path: Place) -> Callable[[], None]:
    """Let a file be read until what this gives is called; calling that twice is fine."""
    key, mine = os.fspath(path), [None]
    with _lock:
        _held[key] += 1

    def release() -> None:
        with _lock:
            if mine:
                mine.clear()
                _held[key] -= 1
                if not _held[key]:
                    del _held[key]

    return release


def held(path: Place) -> bool:
    """Whether some statement of this process, in whichever workspace it is open, reads the file."""
    with _lock:
        return os.fspath(path) in _held


class Reading:
    """Holds a file from now on for a statement that will read it: until its first run is over, or until it is forgotten without one.

    Called when a run begins; what that gives is called when the run is over."""

    def __init__(self, path: Place) -> None:
        self._path, self._until_run = path, hold(path)
        weakref.finalize(self, self._until_run)

    def __call__(self) -> Callable[[], None]:
        release = hold(self._path)
        self._until_run()
        return release
