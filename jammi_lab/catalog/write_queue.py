"""A fair queue of SQLite writers across processes.

SQLite grants the write lock to whoever asks when the file is free. A kernel that commits in a row
asks again right after each commit, so another one, which polls, may starve. A writer therefore
takes the queue's lock first, holds it until the file is free, and then passes it on: later writers
wait behind it. The queue is only a courtesy among kernels; SQLite's lock is the one that protects
the file.
"""

import contextlib
import fcntl
import functools
import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from jammi_lab.core.interrupts import attempts

QUEUE_TIMEOUT_SECONDS = 2.0
"""How long a kernel waits for its turn. A stopped holder is then bypassed, and not waited for again
until it has moved on."""
_WRITE_LOCK_BYTE = "120"
"""Where SQLite's lock for writers is in the index of the log (https://sqlite.org/walformat.html)."""
_MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.0003, 0.003
"""Shortest and longest pause between two attempts."""


_attempts = functools.partial(attempts, pause=_MIN_PAUSE_SECONDS, max_pause=MAX_PAUSE_SECONDS)


class WriteQueue:
    """The queue of writers of the SQLite file in a folder. The holder flocks the folder itself, so
    that no further file is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread_lock = threading.Lock()  # threads of this process share the descriptor
        self._descriptor: int | None = None
        self._holder_stalled = False

    def begin(self, connection: sqlite3.Connection, seconds: float) -> None:
        """Run BEGIN IMMEDIATE as soon as it is this thread's turn and the file is free. An
        interrupt is not deferred while it waits.

        Raises sqlite3.OperationalError after that many seconds.
        """
        acquired = self._acquire()
        try:
            # SQLite's own busy handler ignores interrupts and polls less and less often
            connection.execute("PRAGMA busy_timeout=0")
            try:
                retry_while_busy(lambda: connection.execute("BEGIN IMMEDIATE"), seconds)
            finally:
                connection.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")
        finally:
            if acquired:
                self._release()

    def close(self) -> None:
        """Close the folder; the next `begin` opens it again."""
        if self._thread_lock.acquire(timeout=QUEUE_TIMEOUT_SECONDS):
            try:
                descriptor, self._descriptor = self._descriptor, None
                if descriptor is not None:
                    os.close(descriptor)
            finally:
                self._thread_lock.release()

    def _acquire(self) -> bool:
        """Wait for the turn; return whether it was granted. False when a holder took too long, or
        the folder cannot be locked."""
        for _ in _attempts(0.0 if self._holder_stalled else QUEUE_TIMEOUT_SECONDS):
            if self._thread_lock.acquire(blocking=False):
                try:
                    if self._descriptor is None:
                        self._descriptor = os.open(
                            self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                        )
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._thread_lock.release()
                except OSError:
                    self._thread_lock.release()
                    return False
                else:
                    self._holder_stalled = False
                    return True
        self._holder_stalled = True
        return False

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            assert self._descriptor is not None
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._thread_lock.release()


def retry_while_busy(call: Callable[[], object], seconds: float) -> None:
    """Retry a call while SQLite reports that the file is busy. Raises the last
    sqlite3.OperationalError after that many seconds."""
    last_error: sqlite3.OperationalError | None = None
    for _ in _attempts(seconds):
        try:
            call()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            last_error = error
        else:
            return
    assert last_error is not None
    raise last_error


def lock_holder(catalog: Path) -> str:
    """The process that holds the write lock of a catalog, as text, and whether it is stopped; empty
    where that is not known. The lock is a byte of the log's index, which must not be opened."""
    with contextlib.suppress(OSError, ValueError):
        index = f":{os.stat(f'{catalog}-shm').st_ino}"
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[-3].endswith(index) and fields[-2:] == [_WRITE_LOCK_BYTE] * 2:
                pid = int(fields[-4])
                state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2]
                stopped = ", which is stopped" if state.startswith(("T", "t")) else ""
                return f"process {pid} on {socket.gethostname()}{stopped}"
    return ""


def is_busy(error: BaseException) -> bool:
    """Whether SQLite reports that somebody else holds the lock."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def extended_code(error: BaseException | None) -> int:
    """SQLite's extended result code; 0 when there is none."""
    return getattr(error, "sqlite_errorcode", None) or 0


def primary_code(error: BaseException | None) -> int:
    """SQLite's primary result code."""
    return extended_code(error) & 0xFF
