"""What makes bytes and names durable, now or beside what the caller does."""

import _thread
import errno
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from jammi_lab.storage.beside import begin

_data = getattr(os, "fdatasync", os.fsync)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network mounts cannot sync a folder; they write names through
            raise
    finally:
        os.close(descriptor)


def sync_file(file: Path | FileIO) -> None:
    """Make the bytes of a finished file durable. OSError."""
    if isinstance(file, FileIO):
        os.fsync(file.fileno())
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_data(file: FileIO) -> None:
    """Make what was written to an open file durable, and of its attributes what it takes to read that. OSError."""
    _data(file.fileno())


class Syncing:
    """Something that becomes durable while something else is done: from now on, and for certain once `wait` has returned.

    A file system with a journal writes that once for all that is synced at the same time, so what is small is begun together.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync, self._over = sync, False
        self._wrong: OSError | None = None
        self._done = _thread.allocate_lock()
        self._done.acquire()
        try:
            begin(self._run)
        except RuntimeError:  # there may be no more threads
            self._run()

    def _run(self) -> None:
        try:
            self._sync()
            self._over = True
        except OSError as error:
            self._wrong = error
        except ValueError:  # it was closed: who wanted it durable has given it up
            pass
        finally:
            self._done.release()

    def wait(self) -> None:
        """Wait until it is durable; any number of times. OSError."""
        with self._done:
            if not self._over:
                raise self._wrong or OSError(errno.EIO, os.strerror(errno.EIO))
