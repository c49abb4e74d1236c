"""A copy of the catalog in one SQLite file, as it was at one moment, while others write.

The copy of an SQLite catalog is taken through the catalog's own connection: a second copy of the SQLite library that opened and closed the file would
let go of the locks that this process holds on it. That of a server's is written row by row, from one snapshot.
"""

import contextlib
import os
import sqlite3
import urllib.parse
from pathlib import Path

import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.dialects import Sqlite, has_content
from jammi_lab.catalog.migrations import MIGRATIONS, migrate
from jammi_lab.catalog.mutable_rows import physical
from jammi_lab.catalog.schema import ledger, metadata, mutables
from jammi_lab.errors import InvalidArgument, ResourceExhausted, TableDamaged
from jammi_lab.sources.locations import is_catalog
from jammi_lab.storage.files import AtomicFile

_ROWS = 1000


def backup(database: Database, target: Path, at: str) -> None:
    """Leave a whole copy under `target`, in place of an earlier one, or what was there when it fails; without the tables of ephemeral sessions.

    InvalidArgument for a place where no copy may lie, ResourceExhausted when it cannot be written, TableDamaged when the catalog cannot be read.
    """
    own = database.dialect.file
    try:
        _check(own, target)
    except OSError as error:
        raise InvalidArgument(f"No copy can lie at {target}: {error.strerror or error}.", hint="Choose another place or name.") from None
    file = AtomicFile(target)
    try:
        if own is None:
            _copy_rows(database, file.temp, at)
        with contextlib.closing(sqlite3.connect(file.temp)) as copy:
            if own is not None:
                with database.read() as tx:
                    source = tx.connection.dbapi_connection
                    assert isinstance(source, sqlite3.Connection), "this catalog is an SQLite file"
                    source.backup(copy)
            _forget_sessions(copy)
            if copy.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):  # pages are copied whatever is in them
                raise sqlite3.DatabaseError("the copy is damaged")
            copy.execute("PRAGMA journal_mode=DELETE")  # one file: nothing of it lies in a log
        file.commit()
    except (OSError, sqlite3.OperationalError) as error:
        file.abort()
        raise ResourceExhausted(
            f"The copy {target} could not be written: {error}.", hint="See whether there is room, and who may write there."
        ) from None
    except sqlite3.DatabaseError:
        file.abort()
        raise TableDamaged(
            f"The catalog {database.label} is damaged; no copy was made.", hint="jammi_lab.rebuild(path) makes a new one from the manifests."
        ) from None
    except BaseException:
        file.abort()
        raise


def _copy_rows(database: Database, path: Path, at: str) -> None:
    """A new catalog in an SQLite file, with every row of another database as one snapshot shows it."""
    copy = Database(Sqlite(path, read_only=False, create=True))
    try:
        migrate(copy, at)
        with database.read() as tx, copy.write() as into:
            for table in (each for each in metadata.sorted_tables if each is not ledger):
                _copy(tx, into, table)
            for table_id, numbered in tx.execute(scope.everyones(mutables.c.table_id, mutables.c.numbered)).all():
                both = physical(table_id, bool(numbered))
                for statement in both.make:
                    into.exec_driver_sql(copy.dialect.ddl(statement))
                for table in both.tables():
                    _copy(tx, into, table)
    finally:
        copy.close()


def _copy(tx: sa.Connection, into: sa.Connection, table: sa.Table) -> None:
    for rows in tx.execute(scope.everyones(table)).mappings().partitions(_ROWS):
        into.execute(sa.insert(table), [dict(row) for row in rows])


def _forget_sessions(copy: sqlite3.Connection) -> None:
    """Take the tables of ephemeral sessions out of a copy, which would outlive them; the sessions stay, so that whoever opens the copy tells their
    end."""
    copy.execute("PRAGMA secure_delete=ON")
    for table_id, numbered in copy.execute(f"SELECT table_id, numbered FROM {mutables.name} WHERE session_id IS NOT NULL").fetchall():
        for statement in physical(table_id, bool(numbered)).drop:
            copy.execute(statement)
    copy.execute(f"DELETE FROM {mutables.name} WHERE session_id IS NOT NULL")
    copy.commit()


def _check(own: Path | None, target: Path) -> None:
    if not target.parent.is_dir():
        raise InvalidArgument(f"There is no folder {target.parent} for the copy.", hint="Make it first.")
    if target.is_dir():
        raise InvalidArgument(f"{target} is a folder; a backup is one file.", hint=f"Say how it is to be called: {target / 'backup.sqlite3'}")
    if own is not None and target.exists() and os.path.samefile(own, target):
        raise InvalidArgument("The catalog cannot be copied onto itself.", hint="Choose another place.")
    if is_catalog(target):
        raise InvalidArgument(f"{target} is the catalog of a workspace, and no copy of one; it was left alone.", hint="Choose another name.")
    if any(has_content(Path(f"{target}{log}")) for log in ("-wal", "-journal")):  # which SQLite would play into the copy
        raise InvalidArgument(f"A log of SQLite lies beside {target}: somebody has it open, or did not close it.", hint="Choose another name.")
    if target.exists() and not (target.is_file() and (target.stat().st_size == 0 or _is_copy(target))):
        raise InvalidArgument(f"{target} is something else than an earlier backup; it was left alone.", hint="Choose another name.")


def _is_copy(path: Path) -> bool:
    """Whether a file holds a catalog of ours, by how its ledger begins: other tools call tables so, too. Nothing is made beside it to read it."""
    uri = f"file:{urllib.parse.quote(os.fsencode(path))}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as there:
            first = there.execute(f"SELECT number, name FROM {ledger.name} ORDER BY number LIMIT 1").fetchone()
    except sqlite3.Error:
        return False
    return bool(first == MIGRATIONS[0][:2])
