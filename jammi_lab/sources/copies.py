"""Private copies of database files that this process has open itself, and that a second library must therefore not open (`outside_process.py`)."""

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Callable

from jammi_lab.sources.embedded import Stats, old

_MOST = 4
"""How many copies of one file are kept: a statement that is still to run may read an older one."""
_made: dict[str, list[tuple[Stats, bool, str]]] = {}
_lock = threading.Lock()


def of(path: str, stats: Stats, copy: Callable[[str], None]) -> str:
    """The path of a copy of a file that is in that state, made by `copy` unless a stat proves that there is one. Raises what `copy` raises."""
    with _lock:
        kept = _made.setdefault(path, [])
        for seen, settled, there in reversed(kept):
            if settled and seen == stats and os.path.exists(there):
                return there
        folder = tempfile.mkdtemp(prefix="jammi-copy-")
        made = os.path.join(folder, os.path.basename(path))
        try:
            settled = old(stats)
            copy(made)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        kept.append((stats, settled, made))
        while len(kept) > _MOST:
            shutil.rmtree(os.path.dirname(kept.pop(0)[2]), ignore_errors=True)
        return made


@atexit.register
def clear() -> None:
    """Remove all copies."""
    with _lock:
        for kept in _made.values():
            for _, _, there in kept:
                shutil.rmtree(os.path.dirname(there), ignore_errors=True)
        _made.clear()
