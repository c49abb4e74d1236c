"""Locks of writers beside an SQLite catalog: an flock on `writers/<id>.lock` through a descriptor of its own. The kernel releases it when the process
dies and at no other time. A forked child closes its copy and never unlocks, because unlocking would free the parent's.

The word that is left with it is what the file says, with the file's own time.
"""

import contextlib
import errno
import fcntl
import os
import threading
import time
import weakref
from pathlib import Path

from jammi_lab.catalog.locks import PAUSES, Lock
from jammi_lab.storage.files import fault_point, make_folder, opened
from jammi_lab.storage.plain import open_plain

_LONG = 1 << 16
"""Bytes of a word that are read."""
_held: "weakref.WeakSet[_FileLock]" = weakref.WeakSet()


class _FileLock:
    """A lock file of which this process has the lock."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor
        self._guard = threading.Lock()  # a number that is closed may soon be another file's
        _held.add(self)

    @classmethod
    def make(cls, path: Path) -> "_FileLock":
        """A new lock file, locked. BlockingIOError when somebody took it meanwhile for one that was left: it may be gone at any time."""
        return cls(path, _made(path))

    @classmethod
    def take(cls, path: Path, flags: int = os.O_RDONLY) -> "_FileLock | None":
        """The lock of a plain file, or None when somebody has it. FileNotFoundError when there is none, also when it goes meanwhile."""
        descriptor = open_plain(path, flags)
        try:
            _lock(descriptor)
            if not _is_at(descriptor, path):
                raise FileNotFoundError(path)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def release(self, *, forget: bool) -> None:
        """Let go; a file to forget is removed first, while the lock is held, so that nobody locks a file that is about to go."""
        with self._guard:
            descriptor, self.descriptor = self.descriptor, -1
        if descriptor < 0:
            return
        if forget:
            with contextlib.suppress(OSError):  # a file that stays, unlocked, is nobody's
                self.path.unlink()
        os.close(descriptor)

    def again(self) -> bool:
        """Whether the file had been taken away under the lock, and there is a new one, locked. OSError when it cannot be made."""
        with self._guard:
            if self.descriptor < 0 or _is_at(self.descriptor, self.path):
                return False
            make_folder(self.path.parent)
            lost, self.descriptor = self.descriptor, _made(self.path)
        os.close(lost)
        return True

    def say(self, word: str) -> None:
        """Write the word into the file, which is not made durable."""
        said = word.encode()
        with self._guard:
            if self.descriptor >= 0:
                os.pwrite(self.descriptor, said, 0)
                os.ftruncate(self.descriptor, len(said))

    def drop_in_child(self) -> None:
        """Close the copy that a fork made; the parent keeps the lock."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _made(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fault_point("lock.made")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(descriptor, path):
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), os.fspath(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int) -> None:
    """Lock an open file. BlockingIOError when somebody has it, who holds it alone; those who only ask share it for a moment, and are waited for."""
    for pause in PAUSES:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(pause)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file has that name still."""
    with contextlib.suppress(FileNotFoundError):
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    return False


def _after_fork() -> None:
    for lock in list(_held):
        lock.drop_in_child()


os.register_at_fork(after_in_child=_after_fork)


class FileLocks:
    """Lock files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: weakref.WeakSet[_FileLock] = weakref.WeakSet()

    def make(self, writer_id: str) -> Lock:
        make_folder(self._folder)
        self._made.add(lock := _FileLock.make(self._path(writer_id)))
        return lock

    def take(self, writer_id: str) -> Lock | None:
        return _FileLock.take(self._path(writer_id))

    def held(self, writer_id: str) -> bool:
        try:
            descriptor = open_plain(self._path(writer_id), os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing lets go of it as well, unless the process was forked meanwhile
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def turn(self, name: str) -> Lock | None:
        make_folder(self._folder)
        path = self._path(name)
        while True:
            try:
                return _FileLock.take(path, os.O_RDWR | os.O_CREAT)
            except FileNotFoundError as error:
                if error.errno is not None:  # what has the name is no plain file, and stays; else somebody was done and removed it just now
                    raise

    def heard(self, writer_id: str) -> tuple[float, str] | None:
        with contextlib.suppress(FileNotFoundError), opened(self._path(writer_id)) as file:
            left, word = os.fstat(file.fileno()).st_mtime, file.read(_LONG)
            return (time.time() - left, word.decode(errors="replace")) if word else None
        return None

    def left(self) -> set[str]:
        with contextlib.suppress(FileNotFoundError):
            return {name.removesuffix(".lock") for name in os.listdir(self._folder) if name.endswith(".lock")}
        return set()

    def renewed(self) -> bool:
        again = False
        for lock in list(self._made):
            with contextlib.suppress(OSError):  # it is tried again
                again |= lock.again()  # somebody removed the file, and others take its writer for dead
        return again

    def close(self) -> None:
        """Nothing: each lock has a descriptor of its own."""

    def _path(self, writer_id: str) -> Path:
        if not writer_id.isalnum():
            raise FileNotFoundError(writer_id)  # a row is untrusted input: no id may lead out of the folder
        return self._folder / f"{writer_id}.lock"


def forget_dead(folder: Path) -> int:
    """How many lock files in a folder are held by a living writer; those of nobody are removed. For when no catalog tells who they are."""
    alive = 0
    for path in sorted(folder.glob("*.lock")):
        with contextlib.suppress(FileNotFoundError):
            lock = _FileLock.take(path)
            alive += lock is None
            if lock is not None:
                lock.release(forget=True)
    return alive
