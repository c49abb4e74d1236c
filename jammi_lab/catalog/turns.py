"""Who writes to a SQLite file next.

SQLite lets in whoever asks at the moment when the file is free. A kernel that commits one thing after the other asks again right after each commit;
another, which asks every tenth of a second, may wait for as long as that goes on. So whoever wants to write takes a turn first, waits with it until
the file is free, and passes it on: who comes meanwhile is behind it. The turn is a courtesy among our kernels; SQLite's lock is the lock.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jammi_lab.interrupts import HeldBack

PATIENCE = 2.0
"""Seconds that a kernel waits for its turn. Who has it may have been stopped, and is not waited for again until it has gone on."""
_FIRST, _LONGEST = 0.0003, 0.003
"""Seconds between two tries."""


class Turn:
    """The turn to write to a file in a folder, which is locked, as a folder, by who has it: there is no file more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._here = threading.Lock()  # for the threads of this process, which share the descriptor
        self._descriptor: int | None = None
        self._stuck = False

    def begin(self, connection: sqlite3.Connection, seconds: float) -> None:
        """BEGIN IMMEDIATE, as soon as it is this thread's turn and the file is free. sqlite3.OperationalError when it was not for so many seconds.
        An interrupt is not held back while this waits."""
        mine = self._taken()
        try:
            connection.execute("PRAGMA busy_timeout=0")  # SQLite's own waiting hears no interrupt, and asks less and less often
            try:
                persist(lambda: connection.execute("BEGIN IMMEDIATE"), seconds)
            finally:
                connection.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")
        finally:
            if mine:
                self._pass_on()

    def close(self) -> None:
        """Let go of the folder; the next `begin` takes it up again."""
        if self._here.acquire(timeout=PATIENCE):
            try:
                descriptor, self._descriptor = self._descriptor, None
                if descriptor is not None:
                    os.close(descriptor)
            finally:
                self._here.release()

    def _taken(self) -> bool:
        """Whether it is this thread's turn; False when somebody has had it for too long, or the folder cannot be locked."""
        for _ in _tries(0.0 if self._stuck else PATIENCE):
            if self._here.acquire(blocking=False):
                try:
                    if self._descriptor is None:
                        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._here.release()
                except OSError:
                    self._here.release()
                    return False
                else:
                    self._stuck = False
                    return True
        self._stuck = True
        return False

    def _pass_on(self) -> None:
        with contextlib.suppress(OSError):
            assert self._descriptor is not None
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._here.release()


def persist(ask: Callable[[], object], seconds: float) -> None:
    """Ask something of SQLite until nobody else has what it takes. sqlite3.OperationalError when somebody has had it for so many seconds."""
    busy: sqlite3.OperationalError | None = None
    for _ in _tries(seconds):
        try:
            ask()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            busy = error
        else:
            return
    assert busy is not None
    raise busy


def _tries(seconds: float) -> Iterator[None]:
    """Once, and again and again for so many seconds, with pauses, in which an interrupt may come."""
    until, pause = time.monotonic() + seconds, _FIRST
    yield
    while time.monotonic() < until:
        HeldBack.between_statements()
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST)
        yield


def is_busy(error: BaseException) -> bool:
    """Whether SQLite says that somebody else has what was asked for."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def primary_code(error: BaseException | None) -> int:
    """SQLite's primary result code; sqlite3 gives the extended one."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
