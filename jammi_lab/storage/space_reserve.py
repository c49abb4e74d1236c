"""The reserve of a workspace: a file whose space lets removals and an open succeed on a full disk.

A removal needs space before it frees any: the catalog's log grows by each commit.
"""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import TypeVar

from jammi_lab.core.errors import ResourceExhausted
from jammi_lab.storage import own_files
from jammi_lab.storage.files import StoragePath, open_regular

T = TypeVar("T")
RESERVE_FILE = "space.reserve"
RESERVE_BYTES = 1 << 20
_SIZES_BYTES = range(RESERVE_BYTES, 0, -RESERVE_BYTES // 64)
"""On a full disk, what a removal freed may not be enough for the whole reserve."""
_NO_SPACE_ERRNOS = {errno.ENOSPC, errno.EDQUOT}


class SpaceReserve:
    """The reserve in a workspace's folder. A workspace in an object store has none."""

    def __init__(self, folder: StoragePath) -> None:
        self._path = folder / RESERVE_FILE if isinstance(folder, Path) else None

    def run(self, action: Callable[[], T]) -> T:
        """The result of `action`. When the disk is full, it is run once more with the space of the
        reserve, which is made again afterwards if there is room. `action` must be repeatable.
        Raises as `action`."""
        try:
            return action()
        except (ResourceExhausted, OSError) as error:
            if not self._is_for_want_of_space(error) or not self._give_up():
                raise
        try:
            return action()
        finally:
            self.fill()

    def _is_for_want_of_space(self, error: BaseException) -> bool:
        """Whether the disk is full. SQLite reports a failed write of its shared memory as a disk
        error, so the free space decides."""
        if isinstance(error, OSError):
            return error.errno in _NO_SPACE_ERRNOS
        if self._path is None:
            return False
        with contextlib.suppress(OSError):
            state = os.statvfs(self._path.parent)
            return state.f_bavail * state.f_frsize < RESERVE_BYTES
        return False

    def fill(self) -> None:
        """Make the reserve, or as much of it as there is room for."""
        if self._path is None or self._size() >= RESERVE_BYTES:
            return
        with contextlib.suppress(OSError):
            descriptor = open_regular(self._path, os.O_WRONLY | os.O_CREAT)
            try:
                for size in _SIZES_BYTES:
                    with contextlib.suppress(OSError):
                        _allocate(descriptor, size)
                        break
            finally:
                os.close(descriptor)

    def _size(self) -> int:
        try:
            stat = None if self._path is None else self._path.lstat()
        except OSError:
            return 0
        return stat.st_size if stat is not None and S_ISREG(stat.st_mode) else 0

    def _give_up(self) -> bool:
        """Free the space; return whether there was any."""
        if self._path is None:
            return False
        has_space = self._size() > 0
        with contextlib.suppress(OSError):
            own_files.remove(self._path)
        return has_space


def _allocate(descriptor: int, size: int) -> None:
    """Give a file blocks, not a hole: a sparse file would free nothing. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.pwrite(descriptor, os.urandom(size), 0)
