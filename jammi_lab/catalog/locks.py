"""The locks that say who is alive: each open handle of a workspace holds one, and its death lets it go. A holder can leave word with it.

Beside an SQLite catalog they are files (`file_locks.py`). In PostgreSQL it is an advisory lock of one connection that does nothing else: the server
releases it when that connection ends, which it may also do while the process lives. Its word is a note in the catalog with the server's time. Nothing
rests on a word: it may be torn or lost.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

from jammi_lab.catalog.postgres import Postgres
from jammi_lab.errors import InvalidArgument, SourceUnavailable


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


PAUSES = (0.0,) * 20 + (0.001,) * 200
"""Seconds between two tries to get a lock that is only asked for."""
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
        for pause in PAUSES:
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
