"""Liveness locks: each open handle of a workspace holds one, and its death releases it. A holder
can attach a note to its lock.

With an SQLite catalog they are files (`FileLocks`). With PostgreSQL they are advisory locks of
one dedicated connection: the server releases them when that connection ends, which may happen while
the process lives. Their notes are rows of `meta` with the server's time. A note may be torn or
lost, so nothing depends on one.
"""

import contextlib
import errno
import fcntl
import math
import os
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jammi_lab.catalog.connection import driver_errors
from jammi_lab.catalog.postgres import Postgres
from jammi_lab.core.errors import SourceUnavailable, too_many_open_files
from jammi_lab.storage import own_files
from jammi_lab.storage.files import fault_point, make_folder, open_for_reading, open_regular

PAUSES = (0.0,) * 20 + (0.001,) * 200
"""Pauses in seconds between attempts to get a lock that others only test."""
_NOTE_PREFIX = "word of "
_WRITE_NOTE = """INSERT INTO meta (key, value)
    VALUES (%s, extract(epoch FROM clock_timestamp())::text || ' ' || %s::text)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
_READ_NOTE = """SELECT extract(epoch FROM clock_timestamp()) - split_part(value, ' ', 1)::numeric,
    substr(value, strpos(value, ' ') + 1)
    FROM meta WHERE key = %s"""


class _ServerLock:
    """An advisory lock held by the connection of a `ServerLocks`."""

    def __init__(self, locks: "ServerLocks", writer_id: str) -> None:
        self._locks, self._writer_id = locks, writer_id

    def release(self, *, remove: bool) -> None:
        """Release the lock; with `remove`, also remove whatever is stored for the writer, which
        does not come back."""
        self._locks.unlock(self._writer_id, remove=remove)

    def write_note(self, note: str) -> None:
        """Attach a note for others, replacing the last. Raises OSError, or what a server raises."""
        self._locks.write_note(self._writer_id, note)


class ServerLocks:
    """Advisory locks of a PostgreSQL server, on one connection. While that is open, the catalog
    counts as in use."""

    def __init__(self, dialect: Postgres) -> None:
        self._dialect = dialect
        self.connection: Any = None
        self._guard = threading.RLock()
        self._created_ids: set[str] = set()
        # needed because the server grants a second lock to the same connection
        self._acquired_ids: set[str] = set()
        self._reacquired = False

    def create(self, writer_id: str) -> _ServerLock:
        """Create and hold the lock of a new writer. Raises BlockingIOError when somebody mistook a
        lock file for a leftover and locked it."""
        with self._guard, self._translate_errors():
            if not self._try_lock(writer_id):
                raise SourceUnavailable(f"The lock of the new writer {writer_id} is already held.")
            self._created_ids.add(writer_id)
        return _ServerLock(self, writer_id)

    def try_acquire(self, writer_id: str) -> _ServerLock | None:
        """Acquire the lock of a writer; None when somebody holds it. Raises FileNotFoundError when
        it does not exist any more."""
        with self._guard, self._translate_errors():
            if writer_id in self._acquired_ids or not self._try_lock(writer_id):
                return None
        return _ServerLock(self, writer_id)

    def is_held(self, writer_id: str) -> bool:
        """Whether somebody holds the lock of a writer. A shared lock, taken for a moment by such a
        test, does not count."""
        with self._guard, self._translate_errors():
            return writer_id in self._acquired_ids or not self._is_free(writer_id)

    def try_acquire_named(self, name: str) -> _ServerLock | None:
        """Acquire a named lock, creating it if needed, for work that one process does at a time;
        None when somebody holds it. Raises OSError, or what a server raises."""
        with self._guard:
            if (lock := self.try_acquire(name)) is not None:
                self._created_ids.add(name)
        return lock

    def unlock(self, writer_id: str, *, remove: bool) -> None:
        """Release a lock, and with `remove` remove its note. A lost connection has released the
        lock already."""
        with self._guard:
            self._created_ids.discard(writer_id)
            self._acquired_ids.discard(writer_id)
            if self.connection is not None:
                # a lost connection has released the lock; the next call connects again
                with contextlib.suppress(Exception):
                    if remove:
                        self.connection.execute(
                            "DELETE FROM meta WHERE key = %s", [_NOTE_PREFIX + writer_id]
                        )
                    self.connection.execute(
                        "SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [writer_id]
                    )

    def write_note(self, writer_id: str, note: str) -> None:
        """Store a note in the catalog, with the server's time."""
        with self._guard:
            if self.connection is not None and writer_id in self._created_ids:
                self.connection.execute(_WRITE_NOTE, [_NOTE_PREFIX + writer_id, note])

    def read_note(self, writer_id: str) -> tuple[float, str] | None:
        """The age in seconds and the text of the last note of a writer, or of the holder of a named
        lock; None when there is none. One that may not be read is infinitely old. Raises as
        `Lock.write_note`."""
        with self._guard:
            row = self._connected().execute(_READ_NOTE, [_NOTE_PREFIX + writer_id]).fetchone()
        return (float(row[0]), str(row[1])) if row else None

    def leftover_ids(self) -> set[str]:
        """The ids of lock files, including those of dead writers. Empty for a server, which
        releases everything."""
        return set()

    def reacquire_lost(self) -> bool:
        """Acquire again what was lost without a death; return whether anything was."""
        with self._guard:
            if not self._created_ids:
                return False
            with self._translate_errors():
                if not self._answers():
                    self._connect()
            reacquired, self._reacquired = self._reacquired, False
        return reacquired

    def close(self) -> None:
        """Release what is still held. Idempotent."""
        with self._guard:
            connection, self.connection = self.connection, None
            self._created_ids, self._acquired_ids = set(), set()
            if connection is not None:
                connection.close()

    def _try_lock(self, writer_id: str) -> bool:
        connection = self._connected()
        for pause in PAUSES:
            [acquired] = connection.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [writer_id]
            ).fetchone()
            if acquired:
                self._acquired_ids.add(writer_id)
                return True
            if not self._is_free(writer_id):
                return False
            time.sleep(pause)  # somebody only tests the lock
        return False

    def _is_free(self, writer_id: str) -> bool:
        """Whether nobody holds the lock exclusively."""
        connection = self._connected()
        [acquired] = connection.execute(
            "SELECT pg_try_advisory_lock_shared(hashtextextended(%s, 0))", [writer_id]
        ).fetchone()
        if acquired:
            connection.execute(
                "SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))", [writer_id]
            )
        return bool(acquired)

    def _answers(self) -> bool:
        try:
            self.connection.execute("SELECT 1")
        except Exception as error:
            if not hasattr(error, "sqlstate"):
                raise
            return False
        return True

    def _connected(self) -> Any:
        """The connection, after connecting if there is none."""
        if self.connection is None or self.connection.closed:
            self._connect()
        return self.connection

    def _connect(self) -> None:
        """Connect, and acquire again the locks that a lost connection held for the writers created
        here."""
        self.connection = connection = self._dialect.new_connection()
        self._acquired_ids, self._reacquired = set(self._created_ids), bool(self._created_ids)
        if connection.info.server_version >= 140000:
            connection.execute("SET idle_session_timeout = 0")
        # wait: another kernel may hold one of them briefly while it cleans up our rows
        for writer_id in sorted(self._created_ids):
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [writer_id])

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not isinstance(error, driver_errors()):
                raise
            raise (self._dialect.to_jammi_error(error) or error) from None


# Next to an SQLite catalog a lock is an flock on `writers/<id>.lock` through a descriptor of
# its own.
#
# The operating system releases the lock when the process dies and at no other time. A forked
# child closes its copy and never unlocks, because unlocking would release the parent's lock. The
# note of a lock is the content of the file, with the file's modification time.


@contextlib.contextmanager
def _descriptors_needed() -> Iterator[None]:
    """Raise ResourceExhausted for a lock file that cannot be opened for want of a descriptor."""
    try:
        yield
    except OSError as error:
        raise too_many_open_files(error, "A lock file of the workspace") or error from None


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
        """Release the lock. With `remove`, remove the file first, while it is locked, so that
        nobody locks a file that is about to disappear."""
        with self._guard:
            descriptor, self.descriptor = self.descriptor, -1
        if descriptor < 0:
            return
        if remove:
            with contextlib.suppress(OSError):  # an unlocked file that remains is harmless
                own_files.remove(self.path)
        os.close(descriptor)

    def recreate_if_removed(self) -> bool:
        """Recreate and lock the file if somebody removed it under the lock; return whether that was
        needed. Raises OSError when it cannot be created."""
        with self._guard:
            if self.descriptor < 0 or _has_path(self.descriptor, self.path):
                return False
            make_folder(self.path.parent, inside=self.path.parent.parent)
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
    descriptor = os.open(
        path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, own_files.FILE_MODE_BITS
    )
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
    """Lock files in one folder. A lock file that may not be opened belongs to another user, whose
    kernel counts as alive.

    Raises NotADirectoryError when something else is in the place of the folder.
    """

    def __init__(self, folder: Path) -> None:
        own_files.check_folder(folder)
        self._folder = folder
        self._locks: weakref.WeakSet[_FileLock] = weakref.WeakSet()

    def create(self, writer_id: str) -> _FileLock:
        """Create and hold the lock of a new writer. Raises BlockingIOError when somebody mistook a
        lock file for a leftover and locked it."""
        make_folder(self._folder, inside=self._folder.parent)
        with _descriptors_needed():
            self._locks.add(lock := _FileLock.create(self._path(writer_id)))
        return lock

    def try_acquire(self, writer_id: str) -> _FileLock | None:
        """Acquire the lock of a writer; None when somebody holds it. Raises FileNotFoundError when
        it does not exist any more."""
        with _descriptors_needed(), contextlib.suppress(PermissionError):
            return _FileLock.try_acquire(self._path(writer_id))
        return None

    def is_held(self, writer_id: str) -> bool:
        """Whether somebody holds the lock of a writer. A shared lock, taken for a moment by such a
        test, does not count."""
        try:
            descriptor = open_regular(self._path(writer_id), os.O_RDONLY)
        except FileNotFoundError:
            return False
        except PermissionError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # closing would not release it if the process was forked meanwhile
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def try_acquire_named(self, name: str) -> _FileLock | None:
        """Acquire a named lock, creating it if needed, for work that one process does at a time;
        None when somebody holds it. Raises OSError, or what a server raises."""
        make_folder(self._folder, inside=self._folder.parent)
        path = self._path(name)
        while True:
            try:
                return _FileLock.try_acquire(path, os.O_RDWR | os.O_CREAT)
            except FileNotFoundError as error:
                # with an errno the path is not a plain file; without one the last holder has just
                # removed the file, and a new one is created
                if error.errno is not None:
                    raise
            except PermissionError:
                return None

    def read_note(self, writer_id: str) -> tuple[float, str] | None:
        """The age in seconds and the text of the last note of a writer, or of the holder of a named
        lock; None when there is none. One that may not be read is infinitely old. Raises as
        `Lock.write_note`."""
        try:
            with open_for_reading(self._path(writer_id)) as file:
                written_at, note = os.fstat(file.fileno()).st_mtime, file.read(_MAX_NOTE_BYTES)
        except FileNotFoundError:
            return None
        except PermissionError:
            return math.inf, ""
        text = note.decode(errors="replace").strip()
        return (time.time() - written_at, text) if text else None

    def leftover_ids(self) -> set[str]:
        """The ids of lock files, including those of dead writers. Empty for a server, which
        releases everything."""
        with contextlib.suppress(FileNotFoundError):
            return {
                name.removesuffix(".lock")
                for name in os.listdir(self._folder)
                if name.endswith(".lock")
            }
        return set()

    def reacquire_lost(self) -> bool:
        """Acquire again what was lost without a death; return whether anything was."""
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


Lock = _FileLock | _ServerLock
"""A lock that this process holds."""
Locks = FileLocks | ServerLocks
"""The locks of all writers."""


def remove_dead_locks(folder: Path) -> int:
    """Remove the lock files of dead writers; return how many belong to living ones. For when no
    catalog says which writers there are. Raises as `FileLocks`."""
    locks, alive = FileLocks(folder), 0
    for writer_id in sorted(locks.leftover_ids()):
        with contextlib.suppress(FileNotFoundError):
            lock = locks.try_acquire(writer_id)
            alive += lock is None
            if lock is not None:
                lock.release(remove=True)
    return alive
