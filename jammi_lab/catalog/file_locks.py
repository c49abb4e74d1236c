"""Writer locks next to an SQLite catalog: an flock on `writers/<id>.lock` through a descriptor of
its own.

The operating system releases the lock when the process dies and at no other time. A forked child
closes its copy and never unlocks, because unlocking would release the parent's lock. The note of a
lock is the content of the file, with the file's modification time.
"""

import contextlib
import errno
import fcntl
import os
import threading
import time
import weakref
from pathlib import Path

from jammi_lab.catalog.writer_locks import PAUSES, Lock
from jammi_lab.storage.files import fault_point, make_folder, open_for_reading
from jammi_lab.storage.regular_files import open_regular

_MAX_NOTE_BYTES = 1 << 16
"""Bytes of a note that are read."""
_held_locks: "weakref.WeakSet[_FileLock]" = weakref.WeakSet()


class _FileLock:
    """A lock file whose lock this process holds."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor
        # a closed descriptor's number may soon belong to another file
        self._guard = threading.Lock()
        _held_locks.add(self)

    @classmethod
    def create(cls, path: Path) -> "_FileLock":
        """Create and lock a new lock file. Raises BlockingIOError when somebody mistook it for a
        leftover and locked it: the file may disappear at any time."""
        return cls(path, _create_locked(path))

    @classmethod
    def try_acquire(cls, path: Path, flags: int = os.O_RDONLY) -> "_FileLock | None":
        """Lock a plain file; None when somebody holds the lock. Raises FileNotFoundError when the
        file does not exist, or disappears meanwhile."""
        descriptor = open_regular(path, flags)
        try:
            _lock(descriptor)
            if not _has_path(descriptor, path):
                raise FileNotFoundError(path)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def release(self, *, remove: bool) -> None:
        """Release the lock. With `forget`, remove the file first, while it is locked, so that
        nobody locks a file that is about to disappear."""
        with self._guard:
            descriptor, self.descriptor = self.descriptor, -1
        if descriptor < 0:
            return
        if remove:
            with contextlib.suppress(OSError):  # an unlocked file that remains is harmless
                self.path.unlink()
        os.close(descriptor)

    def recreate_if_removed(self) -> bool:
        """Recreate and lock the file if somebody removed it under the lock; return whether that was
        needed. Raises OSError when it cannot be created."""
        with self._guard:
            if self.descriptor < 0 or _has_path(self.descriptor, self.path):
                return False
            make_folder(self.path.parent)
            old_descriptor, self.descriptor = self.descriptor, _create_locked(self.path)
        os.close(old_descriptor)
        return True

    def write_note(self, note: str) -> None:
        """Write a note into the file, without fsync."""
        content = note.encode()
        with self._guard:
            if self.descriptor >= 0:
                os.pwrite(self.descriptor, content, 0)
                os.ftruncate(self.descriptor, len(content))

    def drop_in_child(self) -> None:
        """Close the copy that a fork made; the parent keeps the lock."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _create_locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fault_point("lock.made")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _has_path(descriptor, path):
            raise BlockingIOError(
                errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), os.fspath(path)
            )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int) -> None:
    """Lock an open file. Raises BlockingIOError when somebody holds the exclusive lock; a shared
    lock, which is only a momentary test, is waited for."""
    for pause in PAUSES:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(pause)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _has_path(descriptor: int, path: Path) -> bool:
    """Whether an open file still has that path."""
    with contextlib.suppress(FileNotFoundError):
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    return False


def _after_fork() -> None:
    for lock in list(_held_locks):
        lock.drop_in_child()


os.register_at_fork(after_in_child=_after_fork)


class FileLocks:
    """Lock files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: weakref.WeakSet[_FileLock] = weakref.WeakSet()

    def create(self, writer_id: str) -> Lock:
        make_folder(self._folder)
        self._locks.add(lock := _FileLock.create(self._path(writer_id)))
        return lock

    def try_acquire(self, writer_id: str) -> Lock | None:
        return _FileLock.try_acquire(self._path(writer_id))

    def is_held(self, writer_id: str) -> bool:
        try:
            descriptor = open_regular(self._path(writer_id), os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # closing would not release it if the process was forked meanwhile
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def try_acquire_named(self, name: str) -> Lock | None:
        make_folder(self._folder)
        path = self._path(name)
        while True:
            try:
                return _FileLock.try_acquire(path, os.O_RDWR | os.O_CREAT)
            except FileNotFoundError as error:
                # with an errno the path is not a plain file; without one the last holder has just
                # removed the file, and a new one is created
                if error.errno is not None:
                    raise

    def read_note(self, writer_id: str) -> tuple[float, str] | None:
        with (
            contextlib.suppress(FileNotFoundError),
            open_for_reading(self._path(writer_id)) as file,
        ):
            written_at, note = os.fstat(file.fileno()).st_mtime, file.read(_MAX_NOTE_BYTES)
            text = note.decode(errors="replace").strip()
            return (time.time() - written_at, text) if text else None
        return None

    def was_registered(self, writer_id: str) -> bool:
        with contextlib.suppress(OSError):
            return self._path(writer_id).stat().st_size > 0
        return False

    def leftover_ids(self) -> set[str]:
        with contextlib.suppress(FileNotFoundError):
            return {
                name.removesuffix(".lock")
                for name in os.listdir(self._folder)
                if name.endswith(".lock")
            }
        return set()

    def reacquire_lost(self) -> bool:
        recreated = False
        for lock in list(self._locks):
            with contextlib.suppress(OSError):  # retried at the next call
                recreated |= lock.recreate_if_removed()
        return recreated

    def close(self) -> None:
        """Does nothing: each lock has a descriptor of its own."""

    def _path(self, writer_id: str) -> Path:
        # a catalog row is untrusted input: no id may lead out of the folder
        if not writer_id.isalnum():
            raise FileNotFoundError(writer_id)
        return self._folder / f"{writer_id}.lock"


def remove_dead_locks(folder: Path) -> int:
    """Remove the lock files of dead writers; return how many belong to living ones. For when no
    catalog says which writers there are."""
    alive = 0
    for path in sorted(folder.glob("*.lock")):
        with contextlib.suppress(FileNotFoundError):
            lock = _FileLock.try_acquire(path)
            alive += lock is None
            if lock is not None:
                lock.release(remove=True)
    return alive
