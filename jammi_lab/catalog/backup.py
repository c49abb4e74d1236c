"""Online backup: a consistent copy of the catalog in one SQLite file, taken while others write.

An SQLite catalog is copied through its own connection: a second copy of the SQLite library that
opened and closed the file would release the POSIX locks that this process holds on it. A server's
catalog is written row by row, from one snapshot.
"""

import contextlib
import errno
import os
import sqlite3
import urllib.parse
from pathlib import Path

from jammi_lab.catalog.connection import Connection
from jammi_lab.catalog.database import Database, create_tables
from jammi_lab.catalog.logs import create_entries_statement, entries_columns, entries_table
from jammi_lab.catalog.schema import FORMAT, TABLES, Table, format_table, logs
from jammi_lab.catalog.sqlite import Sqlite, has_content
from jammi_lab.core.errors import InvalidArgument, ResourceExhausted, TableDamaged
from jammi_lab.sources.locations import is_catalog
from jammi_lab.storage import own_files
from jammi_lab.storage.files import AtomicFile, remove_leftovers


def backup(database: Database, target: Path, applied_at: str) -> None:
    """Write a complete copy to `target`, replacing an earlier backup. A failed backup leaves the
    previous content of `target` untouched. Tables of ephemeral sessions are left out.

    Raises InvalidArgument when `target` cannot hold a backup, OSError or ResourceExhausted when it
    cannot be written, TableDamaged when the catalog cannot be read.
    """
    catalog_file = database.dialect.file
    _check_target(target)
    remove_leftovers(target)
    file = AtomicFile(target)
    try:
        file.write(b"")  # SQLite would keep the group from writing
        if catalog_file is None:
            _copy_rows(database, file.temp, applied_at)
        with contextlib.closing(sqlite3.connect(file.temp)) as copy:
            if catalog_file is not None:
                _copy_pages(database, copy)
            _drop_session_tables(copy)
            # the backup API copies pages without checking what is in them
            if copy.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("the copy is damaged")
            # leave WAL mode, so that the copy is a single file
            copy.execute("PRAGMA journal_mode=DELETE")
        file.commit()
    except sqlite3.OperationalError as error:
        raise ResourceExhausted(
            f"The backup {target} could not be written: {error}.",
            hint="Check the free disk space and the open files (ulimit -n).",
        ) from None
    except sqlite3.DatabaseError:
        raise TableDamaged(
            f"The catalog {database.label} is damaged; no backup was made.",
            hint="jammi_lab.rebuild(path) creates a new catalog from the manifests.",
        ) from None
    finally:
        file.abort()
        for log in ("-journal", "-wal", "-shm"):  # after an error SQLite leaves them
            with contextlib.suppress(OSError):
                own_files.discard(f"{file.temp}{log}")


def _copy_pages(database: Database, copy: sqlite3.Connection) -> None:
    """Copy the catalog of a file. Raises OSError when the disk of the copy is full."""
    with database.read() as tx:
        try:
            tx.raw.backup(copy)
        except sqlite3.OperationalError as error:
            # Only what is written can be full, and that is not the catalog.
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise OSError(os.strerror(errno.ENOSPC)) from None
            raise


def _copy_rows(database: Database, path: Path, applied_at: str) -> None:
    """Create a catalog in an SQLite file with every row of another database, read from one
    snapshot."""
    copy = Database(Sqlite(path, read_only=False, create=True))
    try:
        create_tables(copy, applied_at)
        with database.read() as tx, copy.write() as copy_tx:
            for table in (each for each in TABLES.values() if each is not format_table):
                _copy_table(tx, copy_tx, table)
            for (log_id,) in tx.fetch(f"SELECT log_id FROM {logs.name}"):
                copy_tx.execute(create_entries_statement(log_id))
                _copy_table(tx, copy_tx, entries_columns(log_id))
    finally:
        copy.close()


def _copy_table(tx: Connection, copy_tx: Connection, table: Table) -> None:
    columns = list(table.columns)
    rows = tx.fetch(f"SELECT {', '.join(columns)} FROM {table.name}")
    copy_tx.execute_many(table.insert, [dict(zip(columns, row, strict=True)) for row in rows])


def _drop_session_tables(copy: sqlite3.Connection) -> None:
    """Drop the tables of ephemeral sessions from a copy, which would outlive them.

    The session rows stay, so that whoever opens the copy records that the sessions ended.
    """
    copy.execute("PRAGMA secure_delete=ON")
    for (log_id,) in copy.execute(
        f"SELECT log_id FROM {logs.name} WHERE session_id IS NOT NULL"
    ).fetchall():
        copy.execute(f"DROP TABLE {entries_table(log_id)}")
    copy.execute(f"DELETE FROM {logs.name} WHERE session_id IS NOT NULL")
    copy.commit()


def _check_target(target: Path) -> None:
    if not target.parent.is_dir():
        raise InvalidArgument(
            f"The folder {target.parent} does not exist.", hint="Create it first."
        )
    if is_catalog(target):
        raise InvalidArgument(
            f"{target} is the catalog of a workspace, not a backup; it was not changed.",
            hint="Choose another name.",
        )
    # SQLite would replay a log left there into the copy
    if any(has_content(Path(f"{target}{log}")) for log in ("-wal", "-journal")):
        raise InvalidArgument(
            f"An SQLite log exists next to {target}: another process has it open, or did not "
            "close it.",
            hint="Choose another name.",
        )
    if target.exists() and not (
        target.is_file() and (target.stat().st_size == 0 or _is_backup(target))
    ):
        raise InvalidArgument(
            f"{target} exists and is not an earlier backup; it was not changed.",
            hint="Choose another name.",
        )


def _is_backup(path: Path) -> bool:
    """Whether a file holds a catalog of ours, judged by the row that holds its format.

    `immutable=1` keeps SQLite from creating files next to it.
    """
    uri = f"file:{urllib.parse.quote(os.fsencode(path.resolve()))}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            rows = connection.execute(
                f"SELECT format, created_at FROM {format_table.name}"
            ).fetchall()
    except sqlite3.Error:
        return False
    return [name for name, _ in rows] == [FORMAT]
