"""Transactions: one cached connection per thread, one transaction helper.

`write()` takes the write lock at once and commits durably at the end of its block; `read()` sees
one snapshot. Both may be nested in one thread: the inner block joins the outer transaction. A
forked child process is refused.
"""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeVar

from jammi_lab.catalog.connection import Connection, Dialect, Statement, driver_errors
from jammi_lab.catalog.schema import CREATE_STATEMENTS, FORMAT, format_table
from jammi_lab.catalog.sqlite import damaged_error
from jammi_lab.core.errors import (
    CatalogTooNew,
    InvalidArgument,
    SessionClosed,
    WorkspaceReadOnly,
    check_not_forked,
    of_catalog,
)
from jammi_lab.core.interrupts import DeferInterrupts
from jammi_lab.storage.files import BackgroundFsync, fault_point, sync_data

_GET_FORMAT = f"SELECT format FROM {format_table.name}"
T = TypeVar("T")
Transaction = contextlib.AbstractContextManager[Connection]
_MAX_CACHED_RESULTS = 256
"""Cached results per thread between two commits."""


class _Handle:
    """The connection of one thread."""

    def __init__(self, connection: Connection, thread: threading.Thread) -> None:
        self.connection, self.thread = connection, thread
        self.lock = threading.RLock()
        self.writing: bool | None = None  # None outside of a transaction
        self.state: Hashable = None  # the database state to which the cached results belong
        self.cached: dict[Hashable, Any] = {}


class _TranslateErrors:
    """A block in which the driver's errors are raised as jammi_lab's errors."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, driver_errors()):
            if (typed := self._dialect.to_jammi_error(error)) is not None:
                raise of_catalog(typed) from None
        elif isinstance(error, UnicodeDecodeError):
            raise damaged_error(self._dialect.label) from None
        elif isinstance(error, UnicodeEncodeError):
            raise InvalidArgument("A text with a lone surrogate cannot be stored.") from None


class Database:
    """Transactions on one catalog. Close it explicitly: nothing else is certain to end its
    connections."""

    def __init__(self, dialect: Dialect, *, read_only: bool = False) -> None:
        self.dialect = dialect
        self.read_only = read_only
        self._pid = os.getpid()
        self._local = threading.local()
        self.handles: list[_Handle] = []
        self._guard = threading.RLock()  # a finalizer may run in it
        self._closed = False
        self._translate_errors = _TranslateErrors(dialect)
        _databases.add(weakref.ref(self, _databases.discard))

    @property
    def label(self) -> str:
        """The display name of the catalog."""
        return self.dialect.label

    @property
    def existed(self) -> bool:
        """Whether the catalog existed before it was opened."""
        return self.dialect.existed

    def write(self) -> Transaction:
        """A transaction that holds the write lock from its start, is durable when the block ends,
        and rolls back on an exception.

        Raises WorkspaceReadOnly, VersionConflict (lock timeout), ResourceExhausted (disk full),
        TableDamaged, ForkedWorkspace, SessionClosed.
        """
        return self._transaction(writing=True)

    def read(self) -> Transaction:
        """A read transaction over one snapshot, which includes the changes of this thread's open
        `write`. Same errors."""
        return self._transaction(writing=False)

    def fetch(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Any]:
        """The rows of one statement, as in a `read` of its own. Raises as `read`."""
        with self.read() as tx:
            return statement.fetch(tx, parameters)

    def fetch_cached(
        self, statement: Statement, parameters: Mapping[str, Any], decode: Callable[[list[Any]], T]
    ) -> T:
        """The decoded rows of one statement, cached as by `cached`."""
        return self.cached(
            (statement, *parameters.values()), lambda: decode(self.fetch(statement, parameters))
        )

    def cached(self, key: Hashable, read: Callable[[], T]) -> T:
        """The result of `read`, cached per thread until anybody commits.

        Inside a transaction, and where detecting a commit would cost as much as `read` itself, it
        is called each time. The result is shared, so it must be immutable. Raises as `read`.
        """
        handle = self._handle()
        with handle.lock, self._translate_errors:
            state = self._state(handle)
            if state is None:
                return read()
            if state != handle.state or len(handle.cached) >= _MAX_CACHED_RESULTS:
                handle.state, handle.cached = state, {}
            if key not in handle.cached:
                # a commit between the state and this read may be in the result already; it also
                # changes the state, so the next call reads again
                handle.cached[key] = read()
            result: T = handle.cached[key]
            return result

    def _state(self, handle: _Handle) -> Hashable:
        if handle.writing is not None or handle.connection.closed:
            return None
        return self.dialect.change_token(handle.connection)

    @property
    def writing(self) -> bool:
        """Whether this thread is inside a `write`. Raises ForkedWorkspace, SessionClosed."""
        self._check_usable()
        handle: _Handle | None = getattr(self._local, "handle", None)
        return handle is not None and bool(handle.writing)

    def write_without_fsync(self, *, keep_cached: bool = False) -> Transaction:
        """A `write` without fsync. Commits reach the disk in order, so a power failure may lose
        this one and every later one; the death of a process loses none.

        For rows that are worthless after a power failure, and for those that a later sync makes
        durable. With `keep_cached` no result of `cached` depends on the rows, so that those of
        this thread stay.
        """
        return self._transaction(writing=True, no_fsync=True, keep_cached=keep_cached)

    def start_sync(self) -> BackgroundFsync | None:
        """Start an fsync in the background that makes every commit so far durable; None when they
        are. Raises OSError."""
        log = self.dialect.open_unsynced_log()
        if log is None:
            return None

        def sync() -> None:
            with log:
                sync_data(log)

        return BackgroundFsync(sync)

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """A savepoint: an exception rolls back this block alone and leaves earlier changes in the
        transaction."""
        with self.write() as tx, self._translate_errors:
            tx.execute("SAVEPOINT inner_block")
            try:
                yield
            except BaseException:
                tx.execute("ROLLBACK TO SAVEPOINT inner_block")
                raise
            finally:
                tx.execute("RELEASE SAVEPOINT inner_block")

    def purge(self, timeout: float = 0.0) -> bool:
        """Truncate the database's log, so that deleted values are gone from it. Return False while
        another kernel reads a snapshot that includes them; call again later.

        `timeout`: how many seconds to wait for such readers. Not inside a transaction.
        """
        if self.read_only:
            return True
        handle = self._handle()
        with handle.lock, DeferInterrupts(), self._translate_errors:
            if handle.writing is not None:
                raise RuntimeError("the log cannot be emptied inside a transaction")
            if handle.connection.closed:
                return True
            self.dialect.reset(handle.connection)
            return self.dialect.purge(handle.connection, timeout)

    def has_table(self, name: str) -> bool:
        """Whether the database has a table of that name."""
        with self.read() as tx:
            return self.dialect.has_table(tx, name)

    def close(self) -> None:
        """Close every connection after its running transaction. Idempotent; does nothing in a
        forked child."""
        if os.getpid() != self._pid:
            return
        with self._guard:
            self._closed = True
        for handle in self.handles:
            with handle.lock, DeferInterrupts():
                handle.connection.close()
        self.handles = []
        self.dialect.close()

    @contextlib.contextmanager
    def _transaction(
        self, *, writing: bool, no_fsync: bool = False, keep_cached: bool = False
    ) -> Iterator[Connection]:
        if writing and self.read_only:
            raise WorkspaceReadOnly(
                "The workspace was opened with read_only=True; nothing was changed.",
                hint="Open it without read_only to change it.",
            )
        handle = self._handle()
        with handle.lock:
            if handle.writing is not None:
                if writing and not handle.writing:
                    raise RuntimeError("a write cannot begin inside a read: begin with write()")
                yield handle.connection
                return
            if handle.connection.closed:
                raise self._closed_error()
            # an interrupt is raised at the next statement, or at the end
            with DeferInterrupts(), self._translate_errors:
                self._begin(handle, writing=writing, no_fsync=no_fsync)
                connection = handle.connection
                handle.writing = writing
                try:
                    # nobody else commits from here to the end of this transaction
                    is_kept = keep_cached and self.dialect.change_token(connection) == handle.state
                    yield connection
                    if writing:
                        fault_point("catalog:before-commit")
                        state = self.dialect.change_token(connection) if is_kept else handle.state
                        self.dialect.commit(connection)
                        fault_point("catalog:after-commit")
                        handle.state = state
                    else:
                        # psycopg forgets its prepared statements, with a query, at each rollback
                        connection.raw.commit()
                finally:
                    handle.writing = None
                    with DeferInterrupts():
                        self.dialect.reset(connection)

    def _begin(self, handle: _Handle, *, writing: bool, no_fsync: bool) -> None:
        """Begin a transaction on a thread's connection, or on a new one when the server has closed
        it since its last use."""
        for retried in (False, True):
            connection = handle.connection
            try:
                with DeferInterrupts():
                    # an interrupt came before the handle recorded the transaction
                    self.dialect.reset(connection)
                if writing and connection.no_fsync != no_fsync:
                    connection.no_fsync = True
                    self.dialect.set_durability(connection, no_fsync=no_fsync)
                    connection.no_fsync = no_fsync
                self.dialect.begin(connection, writing=writing)
                return
            except driver_errors():
                if retried or not self.dialect.is_lost(connection):
                    raise
            handle.connection = Connection(self.dialect)
            connection.close()
        raise AssertionError

    def _check_usable(self, *, file_checked: bool = False) -> None:
        check_not_forked(self._pid)
        if self._closed:
            raise self._closed_error()
        if not file_checked:
            self.dialect.check_unchanged()

    def _handle(self) -> _Handle:
        handle: _Handle | None = getattr(self._local, "handle", None)
        # inside a transaction the outer one has checked the file already
        is_inside = handle is not None and handle.writing is not None
        self._check_usable(file_checked=is_inside)
        if _is_forking.is_set() and not is_inside:
            time.sleep(_FORK_PAUSE_SECONDS)  # let the fork have the locks
        if handle is None:
            handle = self._local.handle = self._open_handle()
        return handle

    def _open_handle(self) -> _Handle:
        """Open a connection that lives until this thread ends or the database is closed."""
        with DeferInterrupts(), self._translate_errors, self._guard:
            if self._closed:
                raise self._closed_error()
            for ended in [each for each in self.handles if not each.thread.is_alive()]:
                self.handles.remove(ended)
                ended.connection.close()
            handle = _Handle(Connection(self.dialect), threading.current_thread())
            self.handles.append(handle)
        return handle

    def _closed_error(self) -> SessionClosed:
        return SessionClosed(
            "The workspace is closed.", hint="Open it again: jammi_lab.open(path)."
        )


def create_tables(database: Database, created_at: str) -> None:
    """Create the tables of a new catalog in one transaction; an existing one costs one query.

    Raises CatalogTooNew, and changes nothing, when another release has written the catalog.
    """
    if database.existed and database.has_table(format_table.name):
        with database.read() as tx:
            _check_format(database, tx)
        return
    with database.write() as tx:
        # looked up again under the write lock: another kernel may have created it meanwhile
        if database.has_table(format_table.name):
            _check_format(database, tx)
            return
        for statement in database.dialect.setup_statements:
            tx.execute(statement)
        for statement in CREATE_STATEMENTS:
            tx.execute(database.dialect.ddl(statement))
        tx.execute(format_table.insert, {"format": FORMAT, "created_at": created_at})


def _check_format(database: Database, tx: Connection) -> None:
    [(found,)] = tx.fetch(_GET_FORMAT) or [("unknown",)]
    if found != FORMAT:
        raise CatalogTooNew(
            f"The catalog {database.label} was written by a later release (format {found}; this "
            f"one reads format {FORMAT}).",
            hint="Update jammi_lab to open it.",
        )


_databases: set[weakref.ref[Database]] = set()
_FORK_SECONDS = 2.0
"""How long a fork waits at most."""
_FORK_PAUSE_SECONDS = 0.01
"""How long others leave their locks to a thread that is about to fork, each time they need them."""
_is_forking = threading.Event()
_held_for_fork: list[Any] = []


def _hold_connections() -> None:
    """Wait until no thread is inside of SQLite. The locks of its memory would stay locked in a
    forked child, which could then open no database at all."""
    _is_forking.set()
    deadline = time.monotonic() + _FORK_SECONDS
    for database in filter(None, [reference() for reference in list(_databases)]):
        _held_for_fork.extend(
            lock
            for lock in _locks_of(database)
            if lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
        )


def _locks_of(database: Database) -> Iterator[Any]:
    yield database._guard
    for handle in database.handles:  # to which nothing is added while the guard is held
        yield handle.lock


def _release_connections() -> None:
    _is_forking.clear()
    while _held_for_fork:
        _held_for_fork.pop().release()


os.register_at_fork(
    before=_hold_connections,
    after_in_parent=_release_connections,
    after_in_child=_release_connections,
)
