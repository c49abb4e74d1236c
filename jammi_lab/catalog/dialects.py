"""What differs from one database to another: how a connection is opened, how a transaction begins, what its errors mean.

SQLite is set up so that an acknowledged commit is on disk (WAL, synchronous=FULL), that a transaction which will write takes its lock at BEGIN, so
that it never fails half-way for having read too early, and that deleted values do not stay in the file (secure_delete).
What is PostgreSQL's is in `postgres.py`.
"""

import os
import re
import sqlite3
import urllib.parse
from collections.abc import Hashable
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from jammi_lab.catalog.turns import Turn, is_busy, persist, primary_code
from jammi_lab.errors import (
    InvalidArgument,
    JammiError,
    ResourceExhausted,
    SourceUnavailable,
    TableDamaged,
    VersionConflict,
    WorkspaceNotFound,
    WorkspaceReadOnly,
)
from jammi_lab.interrupts import HeldBack

LOCK_SECONDS = 30
_WRITE = "BEGIN IMMEDIATE"
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|ncpfs|afs|9p|ceph|lustre|glusterfs|davfs"
    r"|fuse\.(sshfs|s3fs|gcsfuse|glusterfs|rclone|goofys|blobfuse2?|ceph.*|davfs2?|curlftpfs)"
)
_NOT_OURS = re.compile(r"no such (table|column)|has no column named|unsupported file format")
"""What SQLite says of a file in which it does not find what our statements name."""
_PRAGMAS = (
    "synchronous=FULL",
    "secure_delete=ON",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    # pages: with SQLite's own 1000 a commit of a thousand tables also waits until all of them are in the file; a log that is written over is synced
    "wal_autocheckpoint=2000",  # in less time than one that grows
    "cache_size=-65536",  # a look reads every newest row; with SQLite's own 2 MB it reads them from the file again
)


class Dialect(Protocol):
    """What `Database` needs to know about the database behind it."""

    label: str
    """What people call this catalog; free of credentials."""
    existed: bool
    """Whether it was there before it was opened."""

    @property
    def file(self) -> Path | None:
        """The file that holds it all, if one does."""
        ...

    @property
    def identity(self) -> Hashable:
        """What all who have this database open have in common; once it has been connected to."""
        ...

    @property
    def groundwork(self) -> tuple[str, ...]:
        """Statements that come before the first migration."""
        ...

    def assure(self) -> None:
        """WorkspaceNotFound when what was opened is not there any more."""
        ...

    def engine(self) -> sa.Engine:
        """An engine whose connections are ready to use; a connection's `info["begin"]` is the statement that begins its next transaction."""
        ...

    def begin(self, *, writing: bool) -> str:
        """The statement that begins a transaction."""
        ...

    def ddl(self, statement: str) -> str:
        """A statement of a migration as this database takes it; nothing where it is for a catalog that other tools open as a file."""
        ...

    def reset(self, connection: sa.Connection) -> None:
        """End a transaction that an interrupt or a failed commit left open in the driver, where SQLAlchemy does not see it."""
        ...

    def hurry(self, connection: sa.Connection, *, hasty: bool) -> None:
        """From now on commits of a connection do not wait for the disk, or do again. A server's always do."""
        ...

    def unsynced(self) -> FileIO | None:
        """The file, open, that holds hasty commits until it is synced; None where they are durable. OSError."""
        ...

    def purge(self, connection: sa.Connection, patience: float) -> bool:
        """Whether nothing that was deleted is in the database's log any more; a file may have to wait so many seconds for its readers."""
        ...

    def state(self, connection: sa.Connection) -> Hashable:
        """What is another whenever something was committed, over this connection or any other, since it was last asked over this one; None where that
        would cost as much as reading. Not inside a transaction."""
        ...

    def explain(self, error: sa.exc.DBAPIError) -> JammiError | None:
        """The typed error that a driver's error amounts to; None when it is a defect of ours."""
        ...


class Sqlite:
    """A catalog in one SQLite file on a local disk.

    Raises WorkspaceNotFound when it is not there and not to be made, InvalidArgument on a network filesystem, whose locks SQLite's log cannot rely
    on; and when it is opened, WorkspaceNotFound for a file of something else."""

    groundwork = ()

    def __init__(self, path: Path, *, read_only: bool, create: bool) -> None:
        self.path = self.file = path
        self._log = Path(f"{path}-wal")
        self._turn = Turn(path.parent)
        self.label = str(path)
        self.read_only = read_only
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise WorkspaceNotFound(
                f"What lies at {path} is no file, and so no catalog; nothing was changed.",
                hint="jammi_lab.rebuild(path) makes a catalog from the manifests and keeps that aside.",
            )
        self.existed = path.exists() and path.stat().st_size > 0
        if not self.existed and (read_only or not create):
            raise WorkspaceNotFound(
                f"There is no catalog at {path}.", hint="jammi_lab.open(path) makes one; jammi_lab.rebuild(path) makes it from the manifests."
            )
        if kind := network_filesystem(path.parent):
            raise InvalidArgument(
                f"The catalog cannot be kept in {path.parent}: that is a network filesystem ({kind}), where kernels cannot share it safely.",
                hint='Keep the catalog in PostgreSQL: jammi_lab.open(path, catalog="postgresql+psycopg://user@host/database").',
            )
        self._immutable, self._made = False, self.existed
        self._identity: tuple[int, int] | None = None

    @property
    def identity(self) -> Hashable:
        return self._identity or self.label  # the file itself: a path may lead over a link

    def assure(self) -> None:
        if self._identity is not None and _identity(self.path) != self._identity:  # what is written to a file without a name is lost
            raise WorkspaceNotFound(
                f"The catalog {self.label} was removed or replaced while it was open; nothing was changed.",
                hint="Put the workspace's folder back, or close it and open what is there now.",
            )

    def engine(self) -> sa.Engine:
        engine = sa.create_engine("sqlite+pysqlite://", creator=self._connect, poolclass=NullPool, hide_parameters=True)

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            self.reset(connection)
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, sqlite3.Connection)
            begin = connection.info["begin"]
            try:  # what SQLAlchemy does around a statement takes longer than all of a small transaction
                if begin == _WRITE:
                    self._turn.begin(raw, LOCK_SECONDS)
                else:
                    raw.execute(begin)
            except sqlite3.Error as error:
                raise sa.exc.DBAPIError(begin, None, error) from None

        @sa.event.listens_for(engine, "engine_disposed")
        def _closed(_: sa.Engine) -> None:
            self._turn.close()

        @sa.event.listens_for(engine, "handle_error")
        def _kept(context: sa.engine.ExceptionContext) -> None:
            # A file is whole after an interrupt. SQLAlchemy would close the connection, and a cursor in the traceback keep its write lock alive.
            context.is_disconnect = False

        @sa.event.listens_for(engine, "before_cursor_execute")
        def _interruptible(*_: Any) -> None:
            HeldBack.between_statements()

        return engine

    def reset(self, connection: sa.Connection) -> None:
        raw = connection.connection.dbapi_connection
        if isinstance(raw, sqlite3.Connection) and raw.in_transaction:
            raw.rollback()

    def begin(self, *, writing: bool) -> str:
        return _WRITE if writing else "BEGIN"

    def hurry(self, connection: sa.Connection, *, hasty: bool) -> None:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute(f"PRAGMA synchronous={'NORMAL' if hasty else 'FULL'}")

    def unsynced(self) -> FileIO | None:
        # the log is the one file of the three that SQLite takes no lock on: closing it lets go of none; without a log every commit waits for the disk
        try:
            return FileIO(os.fspath(self._log))
        except FileNotFoundError:
            return None

    def purge(self, connection: sa.Connection, patience: float) -> bool:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute(f"PRAGMA busy_timeout={int(patience * 1000)}")
        try:
            [(busy, *_)] = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise sa.exc.OperationalError("PRAGMA wal_checkpoint", {}, error) from None
            busy = 1
        finally:
            raw.execute(f"PRAGMA busy_timeout={int(LOCK_SECONDS * 1000)}")
        return not busy

    def state(self, connection: sa.Connection) -> Hashable:
        raw = connection.connection.dbapi_connection
        if self._immutable or not isinstance(raw, sqlite3.Connection):
            return None
        try:
            # the first tells of the commits of others, the second of rows that this connection has changed
            return raw, raw.execute("PRAGMA data_version").fetchone()[0], raw.total_changes
        except sqlite3.Error:
            return None  # whatever it is, reading says so in our words

    def ddl(self, statement: str) -> str:
        return statement

    def _connect(self) -> sqlite3.Connection:
        if not self.read_only:
            connection = self._open("rw" if self._made else "rwc")  # a file that is deleted meanwhile is not made anew, empty
            self._identity = self._identity or _identity(self.path)
            _wal(connection)
            self._made = True
            return connection
        self._identity = self._identity or _identity(self.path)
        if not self._immutable:
            try:
                return self._open("ro")
            except sqlite3.OperationalError as error:
                # in a folder that cannot be written to, the log's index cannot be made; without a log the file alone is the whole truth
                if primary_code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or has_content(self._log):
                    raise
                self._immutable = True
        return self._open("ro&immutable=1")

    def _open(self, mode: str) -> sqlite3.Connection:
        uri = f"file:{urllib.parse.quote(os.fspath(self.path.absolute()))}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            for pragma in (f"busy_timeout={int(LOCK_SECONDS * 1000)}", *_PRAGMAS):
                connection.execute("PRAGMA " + pragma)
            self._refuse_foreign(connection)  # also because only a read shows whether it can be read
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_foreign(self, connection: sqlite3.Connection) -> None:
        """WorkspaceNotFound for a file with tables that was never a catalog: the workspace would seem to be empty."""
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "migrations" not in tables:
            raise WorkspaceNotFound(
                f"{self.label} is a database of something else, and no catalog; nothing was changed.",
                hint="jammi_lab.rebuild(path) makes a catalog from the manifests and keeps that file aside.",
            )

    def explain(self, error: sa.exc.DBAPIError) -> JammiError | None:
        code = primary_code(error.orig)
        match code:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return VersionConflict(
                    f"Another kernel kept the catalog {self.label} locked for {LOCK_SECONDS} seconds; nothing was changed.",
                    hint="Try again when it is done.",
                )
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_NOMEM:
                return ResourceExhausted(
                    f"There is no space left for the catalog {self.label}; nothing was changed.", hint="Make room and try again."
                )
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                return damaged(self.label)
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                return self._unwritable()
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_AUTH:
                if self.path.parent.is_dir() and not self.read_only and not _writable(self.path.parent):
                    return self._unwritable()
                return SourceUnavailable(f"The catalog {self.label} cannot be opened.", hint="See whether the folder is there and may be read.")
            case sqlite3.SQLITE_IOERR:
                return ResourceExhausted(f"The disk failed while the catalog {self.label} was in use; nothing was changed.", hint="See to the disk.")
            case sqlite3.SQLITE_ERROR if _NOT_OURS.search(str(error.orig)):
                return damaged(self.label)
        return damaged(self.label) if "Could not decode" in str(error.orig) else None

    def _unwritable(self) -> WorkspaceReadOnly:
        there = self.path.exists()
        hint = "Open it with read_only=True, or as a user who may write." if there else "Choose a folder that you may write to."
        return WorkspaceReadOnly(f"The catalog {self.label} cannot be {'written to' if there else 'made'}.", hint=hint)


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def damaged(label: str) -> TableDamaged:
    """The error of a catalog that holds what nothing here wrote."""
    return TableDamaged(
        f"The catalog {label} is damaged.", hint="jammi_lab.rebuild(path) makes a new one from the manifests and keeps this one aside."
    )


def _wal(connection: sqlite3.Connection) -> None:
    """Have writes go to a log. Where there is none yet, SQLite does not wait for whoever is writing: another kernel that makes the file too."""
    try:
        persist(lambda: connection.execute("PRAGMA journal_mode=WAL"), LOCK_SECONDS)
    except BaseException:
        connection.close()
        raise


def has_content(path: Path) -> bool:
    """Whether a file is there and not empty. OSError."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def network_filesystem(folder: Path, mounts: str | None = None) -> str | None:
    """The kind of the network filesystem that a folder lies on, None for a local one or where it cannot be told (no /proc).

    From the mount table and not from statfs, which calls every FUSE filesystem the same, local ones too. `mounts` stands in for /proc/self/mounts.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    real, longest, kind = os.path.realpath(folder), -1, ""
    for line in mounts.splitlines():
        fields: list[Any] = line.split(" ")
        if len(fields) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
        if len(point) >= longest and (real == point or real.startswith(point.rstrip("/") + "/")):
            longest, kind = len(point), fields[2]
    return kind if _NETWORK.fullmatch(kind) else None
