"""Waiting for SQLite's lock for writers."""

import sqlite3
from collections.abc import Callable

from jammi_lab.core.interrupts import attempts

_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.0003, 0.003
"""Shortest and longest pause between two attempts."""


def begin_immediate(connection: sqlite3.Connection, seconds: float) -> None:
    """Run BEGIN IMMEDIATE as soon as the file is free. An interrupt is not deferred while it waits.

    Raises sqlite3.OperationalError after that many seconds.
    """
    # SQLite's own busy handler ignores interrupts and polls less and less often
    connection.execute("PRAGMA busy_timeout=0")
    try:
        retry_while_busy(lambda: connection.execute("BEGIN IMMEDIATE"), seconds)
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")


def retry_while_busy(call: Callable[[], object], seconds: float) -> None:
    """Retry a call while SQLite reports that the file is busy. Raises the last
    sqlite3.OperationalError after that many seconds."""
    last_error: sqlite3.OperationalError | None = None
    for _ in attempts(seconds, pause=_MIN_PAUSE_SECONDS, max_pause=_MAX_PAUSE_SECONDS):
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


def is_busy(error: BaseException) -> bool:
    """Whether SQLite reports that somebody else holds the lock."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def extended_code(error: BaseException | None) -> int:
    """SQLite's extended result code; 0 when there is none."""
    return getattr(error, "sqlite_errorcode", None) or 0


def primary_code(error: BaseException | None) -> int:
    """SQLite's primary result code."""
    return extended_code(error) & 0xFF
