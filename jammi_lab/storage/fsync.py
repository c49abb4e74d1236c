"""fsync of files and folders, at once or in the background."""

import _thread
import errno
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from jammi_lab.core.thread_pool import submit

_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network mounts cannot sync a folder; they write names through.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sync_file(file: Path | FileIO) -> None:
    """Make the bytes of a complete file durable. Raises OSError."""
    if isinstance(file, FileIO):
        os.fsync(file.fileno())
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_data(file: FileIO) -> None:
    """Make the bytes written to an open file durable, with only the attributes needed to read them.
    Raises OSError."""
    _fdatasync(file.fileno())


class BackgroundFsync:
    """A sync in the background: it starts at once and is complete when `wait` has returned.

    A journaling file system writes its journal once for all syncs at the same time, so small syncs
    should be started together.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync, self._succeeded = sync, False
        self._error: OSError | None = None
        self._done_lock = _thread.allocate_lock()
        self._done_lock.acquire()
        try:
            submit(self._run)
        except RuntimeError:  # no more threads are allowed
            self._run()

    def _run(self) -> None:
        try:
            self._sync()
            self._succeeded = True
        except OSError as error:
            self._error = error
        except ValueError:  # the file was closed, because its writer gave it up
            pass
        finally:
            self._done_lock.release()

    def wait(self) -> None:
        """Wait until the sync is complete. May be called repeatedly. Raises OSError."""
        with self._done_lock:
            if not self._succeeded:
                raise self._error or OSError(errno.EIO, os.strerror(errno.EIO))
