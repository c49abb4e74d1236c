"""The locks that say who is alive: each open handle of a workspace holds one, and its death lets it go. A holder can leave word with it.

Beside an SQLite catalog it is an flock on `writers/<id>.lock` through a descriptor of its own: the kernel releases it when the process dies and at no
other time. A forked child closes its copy and never unlocks, because unlocking would free the parent's. In PostgreSQL it is an advisory lock of one
connection that does nothing else: the server releases it when that connection ends, which it may also do while the process lives.

The word is what the file says, with the file's own time, or a note in the catalog with the server's. Nothing rests on it: it may be torn or lost.
"""

import contextlib
import errno
import fcntl
import os
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from jammi_lab.catalog.postgres import Postgres
from jammi_lab.errors import InvalidArgument, SourceUnavailable
from jammi_lab.storage.files import fault_point, make_folder, opened
from jammi_lab.storage.plain import open_plain


class Lock(Protocol):
    """A lock that this process has."""

    def release(self, *, forget: bool) -> None:
        """Let go; with `forget` also of whatever is kept for the writer, which does not come back."""
        ...

    def say(self, word: str) -> None:
        """Leave word for others, in place of the last. OSError, or what a server raises."""
        ...


class Locks(Protocol):
    """Where the writers' locks are."""

    def make(self, writer_id: str) -> Lock:
        """The lock of a new writer, held. BlockingIOError when somebody took it for one that was left, which may happen to a file."""
        ...

    def take(self, writer_id: str) -> Lock | None:
        """The lock of a writer, or None when somebody has it. FileNotFoundError when there is none any more."""
        ...

    def turn(self, name: str) -> Lock | None:
        """The lock of that name, which need not be there, for work that one does at a time; None when somebody has it. OSError, or what a server
        raises."""
        ...

    def heard(self, writer_id: str) -> tuple[float, str] | None:
        """The last word of a writer, or of who has a turn, and how many seconds ago it was left; None when there is none. Raises as `Lock.say`."""
        ...

    def held(self, writer_id: str) -> bool:
        """Whether somebody has the lock of a writer; who only asks has not."""
        ...

    def left(self) -> set[str]:
        """The writers of whom something is there that a death leaves; none of a server's, which lets go of all."""
        ...

    def renewed(self) -> bool:
        """Whether locks that were made here had been lost without a death; they are held again then."""
        ...

    def close(self) -> None:
        """Let go of what is left. Twice is fine."""
        ...


_LONG = 1 << 16
"""Bytes of a word that are read."""
_PAUSES = (0.0,) * 20 + (0.001,) * 200
"""Seconds between two tries to get a lock that is only asked for."""
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
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fault_point("lock.made")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(descriptor, path):
                raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), os.fspath(path))
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

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


def _lock(descriptor: int) -> None:
    """Lock an open file. BlockingIOError when somebody has it, who holds it alone; those who only ask share it for a moment, and are waited for."""
    for pause in _PAUSES:
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

    def make(self, writer_id: str) -> Lock:
        make_folder(self._folder)
        return _FileLock.make(self._path(writer_id))

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
        return False  # nothing but their release ends them

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


_NOTE = "word of "
_SAY = """INSERT INTO meta (key, value) VALUES (%s, extract(epoch FROM clock_timestamp())::text || ' ' || %s::text)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
_HEARD = """SELECT extract(epoch FROM clock_timestamp()) - split_part(value, ' ', 1)::numeric, substr(value, strpos(value, ' ') + 1)
    FROM meta WHERE key = %s"""


class _ServerLock:
    """An advisory lock that the connection of some `ServerLocks` has."""

    def __init__(self, locks: "ServerLocks", writer_id: str) -> None:
        self._locks, self._writer_id = locks, writer_id

    def release(self, *, forget: bool) -> None:
        self._locks.unlock(self._writer_id, forget=forget)

    def say(self, word: str) -> None:
        self._locks.say(self._writer_id, word)


class ServerLocks:
    """Advisory locks of a PostgreSQL server, on one connection. While it is open the catalog is also known to be in use."""

    def __init__(self, dialect: Postgres) -> None:
        self._dialect = dialect
        self._connection: Any = None
        self._guard = threading.RLock()
        self._own: set[str] = set()
        self._told: set[str] = set()
        self._taken: set[str] = set()  # a second lock by the same connection would be granted
        self._again = False

    def make(self, writer_id: str) -> Lock:
        with self._guard, self._explained():
            if not self._try(writer_id):
                raise SourceUnavailable(f"The lock of the new writer {writer_id} is held already.")
            self._own.add(writer_id)
        return _ServerLock(self, writer_id)

    def take(self, writer_id: str) -> Lock | None:
        with self._guard, self._explained():
            if writer_id in self._taken or not self._try(writer_id):
                return None
        return _ServerLock(self, writer_id)

    def held(self, writer_id: str) -> bool:
        with self._guard, self._explained():
            return writer_id in self._taken or not self._shared(writer_id)

    def turn(self, name: str) -> Lock | None:
        with self._guard:
            if (lock := self.take(name)) is not None:
                self._own.add(name)
        return lock

    def unlock(self, writer_id: str, *, forget: bool) -> None:
        """Let go of a lock, and with `forget` of the word that was left with it; a connection that is gone has let go of the lock."""
        with self._guard:
            silent = writer_id in self._own and writer_id not in self._told
            self._own.discard(writer_id)
            self._taken.discard(writer_id)
            if self._connection is not None:
                with contextlib.suppress(Exception):  # lost: the lock went with it, and the next use connects again
                    if forget and not silent:
                        self._connection.execute("DELETE FROM meta WHERE key = %s", [_NOTE + writer_id])
                    self._connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [writer_id])

    def say(self, writer_id: str, word: str) -> None:
        """Note a word in the catalog, with the server's time."""
        with self._guard:
            if self._connection is not None and writer_id in self._own:
                self._told.add(writer_id)
                self._connection.execute(_SAY, [_NOTE + writer_id, word])

    def heard(self, writer_id: str) -> tuple[float, str] | None:
        with self._guard:
            if self._connection is None or self._connection.closed:
                self._connect()
            row = self._connection.execute(_HEARD, [_NOTE + writer_id]).fetchone()
        return (float(row[0]), str(row[1])) if row else None

    def left(self) -> set[str]:
        return set()

    def renewed(self) -> bool:
        with self._guard:
            if not self._own:
                return False
            with self._explained():
                if not self._answers():
                    self._connect()
            again, self._again = self._again, False
        return again

    def close(self) -> None:
        with self._guard:
            connection, self._connection = self._connection, None
            self._own, self._taken = set(), set()
            if connection is not None:
                connection.close()

    def _try(self, writer_id: str) -> bool:
        if self._connection is None or self._connection.closed:
            self._connect()
        for pause in _PAUSES:
            [got] = self._connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [writer_id]).fetchone()
            if got:
                self._taken.add(writer_id)
                return True
            if not self._shared(writer_id):
                return False
            time.sleep(pause)  # somebody only asks
        return False

    def _shared(self, writer_id: str) -> bool:
        """Whether nobody has a lock, but for those who only ask."""
        if self._connection is None or self._connection.closed:
            self._connect()
        [got] = self._connection.execute("SELECT pg_try_advisory_lock_shared(hashtextextended(%s, 0))", [writer_id]).fetchone()
        if got:
            self._connection.execute("SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))", [writer_id])
        return bool(got)

    def _answers(self) -> bool:
        try:
            self._connection.execute("SELECT 1")
        except Exception as error:
            if not hasattr(error, "sqlstate"):
                raise
            return False
        return True

    def _connect(self) -> None:
        """Connect, and take again what a lost connection held for the writers that were made here."""
        self._connection = connection = self._dialect.connect()
        self._taken, self._again = set(self._own), bool(self._own)
        if connection.info.server_version >= 140000:
            connection.execute("SET idle_session_timeout = 0")
        [shared] = connection.execute(f"SELECT pg_try_advisory_lock_shared({self._dialect.key('use')})").fetchone()
        if not shared:
            connection.close()
            raise InvalidArgument(f"The catalog {self._dialect.label} is being replaced by jammi_lab.rebuild.", hint="Open it when that is done.")
        for writer_id in sorted(self._own):  # who settles our rows just now has the lock, and soon lets it go
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [writer_id])

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            lost = self._connection is None or self._connection.closed
            typed = self._dialect.typed(error, lost=lost) if hasattr(error, "sqlstate") else None
            if typed is None:
                raise
            raise typed from None
