"""Who in this process reads the bytes of which table: they are removed when nobody does."""

import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

_held: Counter[str] = Counter()
_lock = threading.Lock()


def hold(path: Path) -> Callable[[], None]:
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


def held(path: Path) -> bool:
    """Whether some statement of this process, in whichever workspace it is open, reads the file."""
    with _lock:
        return os.fspath(path) in _held
