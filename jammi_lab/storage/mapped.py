"""Files that others write through a mapping (`mmap`).

Of two such writes to one page only the first moves the file's times, until the page goes to the disk: it is watched again from the moment that its
writing begins.
"""

import contextlib
import ctypes
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

from jammi_lab.storage.files import Stat

_WRITTEN_NS = 300 * 10**9
"""Nanoseconds after which the system has written what was changed; with patience, for it does within half a minute."""
_WAIT_BEFORE, _WRITE = 1, 2
"""Of Linux's `sync_file_range`: wait for pages that are being written, then begin to write the others, and wait for no disk."""


def watch(path: Path, stat: Stat) -> None:
    """See that the next write through a mapping moves the file's stat, if it changed so lately that one may not. Of a file that cannot be synced, or
    where the system knows nothing of the kind, it does nothing."""
    if time.time_ns() - max(stat.mtime_ns, stat.ctime_ns) > _WRITTEN_NS:
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        try:
            _write()(descriptor)
        finally:
            os.close(descriptor)


@functools.cache
def _write() -> Callable[[int], object]:
    """What begins to write an open file's pages: where there is nothing better, a sync."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):
        return getattr(os, "fdatasync", os.fsync)
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return lambda descriptor: call(descriptor, 0, 0, _WAIT_BEFORE | _WRITE)
