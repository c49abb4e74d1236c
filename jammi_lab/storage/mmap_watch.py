"""Detection of writes through a memory mapping (`mmap`).

Of two such writes to one page only the first changes the file's times, until the page is written
back. Starting the write-back makes the next write change them again.
"""

import contextlib
import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path

_WAIT_BEFORE, _WRITE = 1, 2
"""Flags of Linux's `sync_file_range`: wait for pages being written, then start writing the others,
without waiting for the disk."""


def force_mtime_update(path: Path) -> None:
    """Make sure that the next write through a mapping changes the file's stat, however old the file
    seems: the clock may have been set. Does nothing for a file that cannot be synced, or where the
    system has no such call."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        try:
            writeback_function()(descriptor)
        finally:
            os.close(descriptor)


@functools.cache
def writeback_function() -> Callable[[int], object]:
    """A function that starts the write-back of an open file; fsync where there is nothing
    better."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):
        return getattr(os, "fdatasync", os.fsync)
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return lambda descriptor: call(descriptor, 0, 0, _WAIT_BEFORE | _WRITE)
