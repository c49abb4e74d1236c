"""SQLite as the database of a catalog.

It is configured so that an acknowledged commit is on disk (WAL, synchronous=FULL), that a write
transaction takes its lock at BEGIN and so never fails half-way for a stale read, and that deleted
values do not stay in the file (secure_delete).
"""

import contextlib
import ctypes
import errno
import os
import re
import sqlite3
import urllib.parse
from collections.abc import Callable, Hashable
from io import FileIO
from pathlib import Path

from jammi_lab.catalog.commit_count import SUFFIX, CommitCount
from jammi_lab.catalog.connection import Connection, Dialect
from jammi_lab.catalog.schema import format_table
from jammi_lab.core import foreign_errors
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    ResourceExhausted,
    SourceUnavailable,
    TableDamaged,
    WorkspaceNotFound,
    WorkspaceReadOnly,
    too_many_open_files,
)
from jammi_lab.core.interrupts import attempts
from jammi_lab.storage import own_files
from jammi_lab.storage.files import Stat, open_regular, stat_of

# --------------------------------------------------------------------------------------------------
# Waiting for SQLite's lock for writers.

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


# --------------------------------------------------------------------------------------------------
# The database.

LOCK_SECONDS = 30
"""How long a transaction waits for the write lock."""
_NETWORK_FILESYSTEMS = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|ncpfs|afs|9p|ceph|lustre|glusterfs|davfs"
    r"|fuse\.(sshfs|s3fs|gcsfuse|glusterfs|rclone|goofys|blobfuse2?|ceph.*|davfs2?|curlftpfs)"
)
_FOREIGN_CONTENT = re.compile(
    "no such (table|column)|has no column named|unsupported file format|Could not decode"
)
"""SQLite's messages for a file without the tables and columns that our statements name, or with
texts that are none."""
_COLUMN, _CONDITION = r"(\w+|coalesce\(\w+, ''\))", r"\w+ (IS NOT NULL|= '?\w+'?)"
_PLAIN = re.compile(
    r"CREATE TABLE \w+ ?\([\w, ]+(, PRIMARY KEY \([\w, ]+\))?\)"
    rf"|CREATE (UNIQUE )?INDEX \w+ ON \w+ \({_COLUMN}(, {_COLUMN})*\)"
    rf"( WHERE {_CONDITION}( AND {_CONDITION})*)?"
)
"""What a catalog of any release is made of. SQLite has the statements as they were written."""
_NO_MEMORY_FOR_IO = 12 << 8 | sqlite3.SQLITE_IOERR
_PAGE_BYTES = 4096
_MAX_LOG_PAGES = 2000
"""With the default of 1000 a commit of a thousand tables also waits for a checkpoint; a larger
limit lets the log grow, and syncing a log that is overwritten is faster."""
_PRAGMAS = (
    "synchronous=FULL",
    "secure_delete=ON",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "automatic_index=OFF",  # SQLite 3.53 makes one of a whole table for a query of a few rows
    f"wal_autocheckpoint={_MAX_LOG_PAGES}",
    # KiB: a freshness check reads every newest row, which the default of 2 MB does not hold
    "cache_size=-65536",
)


_MAX_DESCRIPTORS = 4
"""What SQLite opens for a catalog: the file, its log, the log's index, the folder for a moment."""
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_JOURNAL_SUFFIX = "-journal"
_OWN_SUFFIXES = ("-wal", "-shm", _JOURNAL_SUFFIX, SUFFIX)
"""What the names of the files beside a catalog end in."""


class _FileConnection(sqlite3.Connection):
    """A connection that knows when the files behind it are other ones, at which SQLite does not
    look again."""

    path: Path
    state: list[Stat | None] | None = None
    """Of an immutable file, for which SQLite looks at no lock and no log: the stats when it was
    opened."""
    log: tuple[int, int] | None = None
    """The log, which stays as long as a connection is open."""
    seen: Stat | None = None
    """The catalog when its log was last seen in its place."""
    is_abandoned = False

    def has_lost_log(self) -> bool:
        """Whether the log was removed or replaced. What it has would be written to the catalog at
        the end: over what others have written by now. Then the connection is never closed."""
        log, now, seen = _file_id(Path(f"{self.path}-wal")), stat_of(self.path), self.seen
        if self.log in (None, log):
            self.seen = now
            return False
        if now and seen and now.inode == seen.inode and not self.is_abandoned:
            is_written = (now.size, now.mtime_ns) != (seen.size, seen.mtime_ns)
            if log is not None or is_written:
                self.is_abandoned = True
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
        return True

    def close(self) -> None:
        """Close it, unless that would overwrite what others have written."""
        self.has_lost_log()
        if not self.is_abandoned:
            super().close()

    def has_moved(self) -> bool:
        """Whether an immutable file was written to since it was opened."""
        return self.state not in (None, _state_of(self.path))

    def commit(self) -> None:
        """End a transaction. Raises SourceUnavailable when it may have read several states."""
        super().commit()
        if self.has_moved():
            raise SourceUnavailable(
                f"The catalog {self.path} was written to while it was read.", hint="Try again."
            )


class Sqlite(Dialect):
    """A catalog in one SQLite file on a local disk.

    Raises WorkspaceNotFound when the file does not exist and must not be created, or something
    else, such as a link, is in its place or in that of a file beside it; InvalidArgument on a
    network filesystem, whose locks are not reliable enough for SQLite's log.
    """

    def __init__(self, path: Path, *, read_only: bool, create: bool) -> None:
        self.path = path
        self.file = path
        self._log = Path(f"{path}-wal")
        self._commits = CommitCount(path)
        self.label = str(path)
        self.read_only = read_only
        for suffix in ("", *_OWN_SUFFIXES):
            own = Path(f"{path}{suffix}")
            try:
                own_files.check_file(own)
                if suffix == _JOURNAL_SUFFIX:
                    _check_names_no_other_file(own)
            except FileExistsError as error:
                reason = str(error.strerror).removeprefix("it ")
                raise WorkspaceNotFound(
                    f"{own} {reason}, so it cannot be a part of a catalog; nothing was changed.",
                    hint="Move it elsewhere, or create a catalog from the manifests with "
                    "jammi_lab.rebuild(path), which keeps what is there.",
                ) from None
        self.existed = path.exists() and path.stat().st_size > 0
        if not self.existed and (read_only or not create):
            raise WorkspaceNotFound(
                f"There is no catalog at {path}.",
                hint="jammi_lab.open(path) creates one; jammi_lab.rebuild(path) creates it from "
                "the manifests.",
            )
        if kind := network_filesystem(path.parent):
            raise InvalidArgument(
                f"The catalog cannot be stored in {path.parent}: it is a network filesystem "
                f"({kind}), where kernels cannot share it safely.",
                hint="Store the catalog in PostgreSQL: jammi_lab.open(path, "
                'catalog="postgresql+psycopg://user@host/database").',
            )
        self._exists = self.existed
        self._inode: tuple[int, int] | None = None

    @property
    def identity(self) -> Hashable:
        return self._inode or self.label  # by inode, because paths may contain links

    def check_unchanged(self) -> None:
        # writes to an unlinked file would be lost
        if self._inode is not None and _file_id(self.path) != self._inode:
            raise WorkspaceNotFound(
                f"The catalog {self.label} was removed or replaced while it was open; "
                "nothing was changed.",
                hint="Restore the workspace's folder, or close the workspace and open what is "
                "there now.",
            )

    def close(self) -> None:
        self._commits.close()

    def begin(self, connection: Connection, *, writing: bool) -> None:
        raw: _FileConnection = connection.raw
        if raw.has_lost_log():
            raise WorkspaceNotFound(
                f"The log of the catalog {self.label} was removed or replaced while it was open; "
                "nothing was changed.",
                hint="Restart this kernel, and open the workspace again.",
            )
        if writing:
            begin_immediate(raw, LOCK_SECONDS)
            connection.changes = raw.total_changes
        elif raw.has_moved():
            raise sqlite3.OperationalError("the file has moved")
        else:
            raw.execute("BEGIN")

    def is_lost(self, connection: Connection) -> bool:
        moved: bool = connection.raw.has_moved()
        return moved

    def reset(self, connection: Connection) -> None:
        if not connection.closed and connection.raw.in_transaction:
            connection.raw.rollback()

    def has_table(self, connection: Connection, name: str) -> bool:
        question = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name"
        return bool(connection.fetch(question, {"name": name}))

    def acknowledge_commits(self) -> None:
        self._commits.start()

    def commit(self, connection: Connection) -> None:
        # without fsync a commit is not acknowledged, and one without changes is not written
        is_counted = connection.raw.total_changes != connection.changes
        count = self._commits.add(connection.raw) if is_counted and not connection.no_fsync else 0
        self._limit_checkpoints(connection)
        connection.raw.commit()
        self._commits.acknowledge(count)

    def _limit_checkpoints(self, connection: Connection) -> None:
        """Let no checkpoint begin for which the disk has no room: it would take the space of the
        reserve, and leave the log as long as it is."""
        [[pages]] = connection.raw.execute("PRAGMA page_count")
        with contextlib.suppress(OSError):
            disk = os.statvfs(self.path.parent)
            needed = pages * _PAGE_BYTES - self.path.stat().st_size
            limit = 0 if needed > disk.f_bavail * disk.f_frsize else _MAX_LOG_PAGES
            if connection.checkpoint_limit != limit:
                connection.raw.execute(f"PRAGMA wal_autocheckpoint={limit}")
                connection.checkpoint_limit = limit

    def set_durability(self, connection: Connection, *, no_fsync: bool) -> None:
        connection.raw.execute(f"PRAGMA synchronous={'NORMAL' if no_fsync else 'FULL'}")

    def open_unsynced_log(self) -> FileIO | None:
        # SQLite takes no POSIX lock on the log, so closing this descriptor releases none; without a
        # log every commit is synced
        try:
            return FileIO(os.fspath(self._log))
        except FileNotFoundError:
            return None

    def purge(self, connection: Connection, timeout: float) -> bool:
        raw = connection.raw
        raw.execute(f"PRAGMA busy_timeout={int(timeout * 1000)}")
        try:
            [(busy, *_)] = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            busy = 1
        finally:
            raw.execute(f"PRAGMA busy_timeout={int(LOCK_SECONDS * 1000)}")
        return not busy

    def change_token(self, connection: Connection) -> Hashable:
        raw = connection.raw
        if raw.state is not None:
            return None
        try:
            # data_version: commits of other connections; total_changes: rows changed by this one
            return raw, raw.execute("PRAGMA data_version").fetchone()[0], raw.total_changes
        except sqlite3.Error:
            return None  # the read that follows reports the error

    def connect(self) -> sqlite3.Connection:
        if not self.read_only:
            # a file that was deleted meanwhile must not be replaced by an empty one
            acknowledged = 0 if self._inode else self._commits.acknowledged()
            connection = self._open("rw" if self._exists else "rwc")
            _enable_wal(connection)
            connection.log, connection.seen = _file_id(self._log), stat_of(self.path)
            self.log_is_damaged |= self._commits.has_lost(connection, acknowledged)
            self._inode = self._inode or _file_id(self.path)
            self._exists = True
            return connection
        self._inode = self._inode or _file_id(self.path)
        state = _state_of(self.path)
        try:
            return self._open("ro")
        except sqlite3.OperationalError as error:
            # in a read-only folder the log's index cannot be created; without a log the file is
            # complete, so it can be opened as immutable
            if primary_code(error) not in (
                sqlite3.SQLITE_CANTOPEN,
                sqlite3.SQLITE_READONLY,
            ) or has_content(self._log):
                raise
        connection = self._open("ro&immutable=1")
        connection.state = state
        return connection

    def _open(self, mode: str) -> _FileConnection:
        # after `file://` SQLite expects a host
        path = "/" + os.fspath(self.path.absolute()).lstrip("/")
        uri = f"file:{urllib.parse.quote(path)}?mode={mode}"
        if mode == "rwc":
            # SQLite would keep the group from writing; the files beside it get the same mode
            with contextlib.suppress(OSError):
                os.close(open_regular(self.path, os.O_RDWR | os.O_CREAT))
        connection = _FileConnection(
            uri, uri=True, timeout=LOCK_SECONDS, check_same_thread=False, isolation_level=None
        )
        connection.path = self.path
        try:
            for pragma in (f"busy_timeout={int(LOCK_SECONDS * 1000)}", *_PRAGMAS):
                connection.execute("PRAGMA " + pragma)
            # this read also shows whether the file is readable at all
            self._check_is_catalog(connection)
            self._share_log()
        except BaseException:
            connection.close()
            raise
        return connection

    def _share_log(self) -> None:
        """Let those who may write to the folder write to the log, which a reader that may not write
        to the catalog has just made with the permissions of the catalog. Else its owner could not
        write any more."""
        for path in (self._log, Path(f"{self.path}-shm")):
            with contextlib.suppress(OSError):
                log = path.stat()
                if log.st_uid == os.geteuid() != self.path.stat().st_uid:
                    folder = path.parent.stat()
                    os.chown(path, -1, folder.st_gid)
                    os.chmod(path, folder.st_mode & own_files.FILE_MODE_BITS)

    def _check_is_catalog(self, connection: sqlite3.Connection) -> None:
        """Raise WorkspaceNotFound for a database with tables that is not a catalog: the workspace
        would seem to be empty; and for one with a view, a trigger, a virtual table or an expression
        (of a column, an index, a constraint), which run a stranger's code in place of reading or
        writing a row, perhaps for ever."""
        statements = dict(connection.execute("SELECT name, sql FROM sqlite_master"))
        if statements and not (
            format_table.name in statements
            and all(sql is None or _PLAIN.fullmatch(sql) for sql in statements.values())
        ):
            raise WorkspaceNotFound(
                f"{self.label} is a database of another program, not a catalog; nothing was "
                "changed.",
                hint="jammi_lab.rebuild(path) creates a catalog from the manifests and keeps that "
                "file.",
            )

    def to_jammi_error(self, error: BaseException) -> JammiError | None:
        code = primary_code(error)
        reason = str(code)
        match code:
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                return self._damaged_or_misread_error()
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                return self._read_only_error()
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_AUTH:
                if _has_no_descriptor_left():
                    exhausted = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                    return too_many_open_files(exhausted, f"The catalog {self.label}")
                folder = self.path.parent
                if folder.is_dir() and not self.read_only and not _is_writable(folder):
                    return self._read_only_error()
                reason = "log" if self.read_only and has_content(self._log) else "open"
            case sqlite3.SQLITE_IOERR if extended_code(error) == _NO_MEMORY_FOR_IO:
                reason = str(sqlite3.SQLITE_NOMEM)
        if _FOREIGN_CONTENT.search(str(error)):
            return damaged_error(self.label)
        return foreign_errors.to_error(
            "catalog_file", reason, catalog=self.label, seconds=LOCK_SECONDS
        )

    def _damaged_or_misread_error(self) -> JammiError:
        """The error for invalid content. Everything is read again first: one failed read is no
        damage, and rebuilding an intact catalog would lose what manifests do not hold."""
        with contextlib.suppress(sqlite3.Error), contextlib.closing(self._open("ro")) as connection:
            if connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                return SourceUnavailable(
                    f"A read of the catalog {self.label} failed, but the file is intact; nothing "
                    "was changed.",
                    hint="Try again. If it happens repeatedly, check the disk and the memory.",
                )
        return damaged_error(self.label)

    def _read_only_error(self) -> WorkspaceReadOnly:
        exists = self.path.exists()
        hint = (
            "Open it with read_only=True, or as a user with write permission."
            if exists
            else "Choose a writable folder."
        )
        return WorkspaceReadOnly(
            f"The catalog {self.label} cannot be {'written to' if exists else 'created'}.",
            hint=hint,
        )


def _has_no_descriptor_left() -> bool:
    """Whether there are fewer than the catalog, its log and the log's index need."""
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_MAX_DESCRIPTORS):
                opened.enter_context(open(os.devnull, "rb"))
        except OSError as error:
            return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _state_of(path: Path) -> list[Stat | None]:
    """The stats of a database and of its log."""
    return [stat_of(path), stat_of(f"{path}-wal")]


def damaged_error(label: str) -> TableDamaged:
    """The error for a catalog with invalid content."""
    return TableDamaged(
        f"The catalog {label} is damaged.",
        hint="Restore a backup of it. Without one, jammi_lab.rebuild(path) creates a new catalog "
        "from the manifests and keeps this one; manifests hold no sources, mutable tables or "
        "topics.",
    )


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, retrying while another kernel that creates the same file
    writes: SQLite does not wait for it here."""
    try:
        retry_while_busy(lambda: connection.execute("PRAGMA journal_mode=WAL"), LOCK_SECONDS)
        connection.execute("SELECT 1 FROM sqlite_master").fetchall()  # opens the log
    except BaseException:
        connection.close()
        raise


def _check_names_no_other_file(path: Path) -> None:
    """Raise FileExistsError for a rollback journal that ends with the name of another file, as one
    of several databases does. SQLite deletes that file after the rollback. OSError."""
    try:
        with open(open_regular(path, os.O_RDONLY), "rb") as file:
            file.seek(-min(len(_JOURNAL_MAGIC), os.fstat(file.fileno()).st_size), os.SEEK_END)
            end = file.read()
    except FileNotFoundError:
        return
    if end == _JOURNAL_MAGIC:
        raise FileExistsError(errno.EEXIST, "it names another file", os.fspath(path))


def has_content(path: Path) -> bool:
    """Whether a file exists and is not empty. Raises OSError."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def check_whole(path: Path) -> None:
    """Check that a closed catalog is one file, which may get another name. Raises ResourceExhausted
    when its log has content, of which SQLite says nothing when it closes; OSError."""
    if has_content(Path(f"{path}-wal")):
        raise ResourceExhausted(
            f"The catalog {path} could not be written as one file; its disk is full or failing.",
            hint="Free disk space and try again.",
        )


def network_filesystem(folder: Path, mounts: str | None = None) -> str | None:
    """The type of the network filesystem that contains a folder; None for a local one, or where it
    cannot be determined (no /proc).

    Read from the mount table rather than statfs, which reports one type for every FUSE filesystem,
    local ones included. `mounts` replaces the content of /proc/self/mounts.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    resolved, longest, kind = os.path.realpath(folder), -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount_point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
        if len(mount_point) >= longest and (
            resolved == mount_point or resolved.startswith(mount_point.rstrip("/") + "/")
        ):
            longest, kind = len(mount_point), fields[2]
    return kind if _NETWORK_FILESYSTEMS.fullmatch(kind) else None
