"""Notices that a catalog file has lost commits.

After a kill the newest commits of an SQLite catalog are only in its write-ahead log, and a log that
was damaged, cut or lost looks to SQLite like one of an earlier moment. Commits are therefore
counted: in the catalog, as a part of each, and in a file next to it once it is durable. A catalog
with a smaller count than that file lacks commits that were acknowledged.

The file is written without fsync: after a power cut it may be older than the catalog, never newer.
"""

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

from jammi_lab.storage.files import open_for_reading, open_regular

SUFFIX = "-commits"
"""What the file's name has after that of the catalog."""
_COUNT = "UPDATE meta SET value = value + 1 WHERE key = 'commits' RETURNING CAST(value AS INTEGER)"
_FIRST = "INSERT INTO meta (key, value) VALUES ('commits', '1')"
_STORED = "SELECT value FROM meta WHERE key = 'commits'"
_DIGITS = 20


class CommitCount:
    """The counts of one handle's catalog. The file is not written before `start`, so that catalogs
    which are no workspace's (backups, those being rebuilt) have none."""

    def __init__(self, catalog: Path) -> None:
        self._path, self._log = Path(f"{catalog}{SUFFIX}"), Path(f"{catalog}-wal")
        self._descriptor: int | None = None
        self._acknowledged = 0
        self._guard = threading.Lock()

    def start(self) -> None:
        """Acknowledge commits from now on. Where the file cannot be written (a full disk), their
        loss would go unnoticed."""
        if self._descriptor is None:
            with contextlib.suppress(OSError):
                self._descriptor = open_regular(self._path, os.O_WRONLY | os.O_CREAT)

    def acknowledged(self) -> int:
        """The count of the file; 0 when there is none. To be read before the catalog is."""
        with contextlib.suppress(OSError, ValueError), open_for_reading(self._path) as file:
            return int(file.read(_DIGITS))
        return 0

    @staticmethod
    def add(connection: sqlite3.Connection) -> int:
        """Count the commit that a transaction is about to make. Raises sqlite3.Error."""
        if rows := connection.execute(_COUNT).fetchall():
            return int(rows[0][0])
        connection.execute(_FIRST)
        return 1

    def acknowledge(self, count: int) -> None:
        """Record that so many commits are durable."""
        with self._guard, contextlib.suppress(OSError):
            if self._descriptor is not None and count > self._acknowledged:
                self._write(count)

    @staticmethod
    def has_lost(connection: sqlite3.Connection, acknowledged: int) -> bool:
        """Whether a catalog has fewer commits than were acknowledged. Raises sqlite3.Error."""
        try:
            row = connection.execute(_STORED).fetchone()
        except sqlite3.OperationalError:  # not even the table is left
            return acknowledged > 0
        try:
            return (int(row[0]) if row else 0) < acknowledged
        except ValueError:  # somebody else wrote it
            return True

    def close(self) -> None:
        """Close the file, once the catalog is. If this was its last handle, SQLite has moved the
        log into the catalog: nothing can be lost with it any more, and an older copy that somebody
        puts in its place is not a loss."""
        with self._guard, contextlib.suppress(OSError):
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                try:
                    if not self._log.exists():
                        os.pwrite(descriptor, b"0".zfill(_DIGITS), 0)
                finally:
                    os.close(descriptor)

    def _write(self, count: int) -> None:
        assert self._descriptor is not None
        os.pwrite(self._descriptor, str(count).zfill(_DIGITS).encode(), 0)
        self._acknowledged = count
