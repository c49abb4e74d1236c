"""One database, one kept connection per thread, one way to run a transaction.

`write()` takes the write lock at once and commits durably at the end of its block; `read()` sees one snapshot. Both may be nested in one thread: the
inner block joins the outer transaction. A process that got here by a fork is refused.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from jammi_lab.catalog.dialects import Dialect, damaged
from jammi_lab.errors import ForkedWorkspace, SessionClosed, WorkspaceReadOnly
from jammi_lab.interrupts import HeldBack
from jammi_lab.storage.files import fault_point
from jammi_lab.storage.syncing import Syncing, sync_data

T = TypeVar("T")
Transaction = contextlib.AbstractContextManager[sa.Connection]
_KEPT = 256
"""Answers that a thread keeps between two commits."""


class _Handle:
    """The connection of one thread, or of several that use it one after the other."""

    def __init__(self, connection: sa.Connection, thread: threading.Thread) -> None:
        self.connection, self.thread = connection, thread
        self.lock = threading.RLock()
        self.writing: bool | None = None  # of the running transaction; None when there is none
        self.hasty = False  # whether commits of the connection do not wait for the disk; True where an interrupt left that open
        self.state: Hashable = None  # of the database, when what is kept was read
        self.kept: dict[Hashable, Any] = {}


class _Explained:
    """A block in which the driver's errors are raised as ours."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sa.exc.DBAPIError):
            if (typed := self._dialect.explain(error)) is not None:
                raise typed from None
        elif isinstance(error, UnicodeDecodeError):
            raise damaged(self._dialect.label) from None


class Database:
    """Transactions on one catalog. Close it; nothing else ends its connections for certain."""

    def __init__(self, dialect: Dialect, *, read_only: bool = False) -> None:
        self.dialect = dialect
        self.read_only = read_only
        self._engine = dialect.engine()
        self._pid = os.getpid()
        self._mine = threading.local()
        self._handles: list[_Handle] = []
        self._common: _Handle | None = None
        self._guard = threading.Lock()
        self._closed = False
        self._explained = _Explained(dialect)

    @property
    def label(self) -> str:
        """What people call this catalog."""
        return self.dialect.label

    @property
    def existed(self) -> bool:
        """Whether it was there before it was opened."""
        return self.dialect.existed

    def write(self) -> Transaction:
        """A transaction that holds the write lock from its start and is durable when the block ends; an exception takes it back.

        Raises WorkspaceReadOnly, VersionConflict (locked too long), ResourceExhausted (disk full), TableDamaged, ForkedWorkspace, SessionClosed.
        """
        return self._transaction(writing=True)

    def read(self) -> Transaction:
        """A transaction that sees one state of the catalog, also of what this thread's open `write` has done. Same errors."""
        return self._transaction(writing=False)

    def kept(self, what: Hashable, read: Callable[[], T]) -> T:
        """What `read` gives, or gave to this thread since when nothing was committed by anybody: asked anew inside a transaction, and where the
        database cannot tell that for less than `read` takes. What it gives is shared, so it must be immutable. Raises as `read`."""
        handle = self._handle()
        with handle.lock:
            alone = handle.writing is None and not handle.connection.closed
            state = self.dialect.state(handle.connection) if alone else None
            if state is None:
                return read()
            if state != handle.state or len(handle.kept) >= _KEPT:
                handle.state, handle.kept = state, {}
            if what not in handle.kept:
                # what is committed meanwhile may be in the answer already, and gives another state: then it is read again
                handle.kept[what] = read()
            found: T = handle.kept[what]
            return found

    @property
    def writing(self) -> bool:
        """Whether this thread is inside of a `write`. ForkedWorkspace, SessionClosed."""
        self._check()
        handle: _Handle | None = getattr(self._mine, "handle", None)
        return handle is not None and bool(handle.writing)

    @contextlib.contextmanager
    def in_common(self) -> Iterator[None]:
        """A block in which this thread uses a connection that is for such blocks alone, for what threads do one after the other: none has to open one
        for it, and what was read and prepared for one of them is not read and prepared again for the next."""
        self._check()
        if self._common is None:
            self._common = self._opened(threading.main_thread())
        own, self._mine.handle = getattr(self._mine, "handle", None), self._common
        try:
            yield
        finally:
            self._mine.handle = own

    def hasty(self) -> Transaction:
        """A `write` that does not wait for the disk. Commits reach it in their order: a power failure may take this one, and then nothing later is
        left either; the death of a process takes none. For what is worth nothing after a power failure, or is made durable by `syncing`."""
        return self._transaction(writing=True, hasty=True)

    def syncing(self) -> Syncing | None:
        """What makes all durable, beside the caller, that was committed until now; None when it is. OSError."""
        log = self.dialect.unsynced()
        if log is None:
            return None

        def sync() -> None:
            with log:
                sync_data(log)

        return Syncing(sync)

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """A part of a `write` that an exception takes back alone; what was written before it stays with the transaction."""
        with self.write() as tx, self._explained, tx.begin_nested():
            yield

    def purge(self, patience: float = 0.0) -> bool:
        """Whether what was deleted is out of the database's own log, too. False while another kernel still reads a state that had it: ask again.

        `patience`: how many seconds to wait for that. Not inside a transaction.
        """
        if self.read_only:
            return True
        handle = self._handle()
        with handle.lock, HeldBack(), self._explained:
            if handle.writing is not None:
                raise RuntimeError("the log cannot be emptied inside a transaction")
            if handle.connection.closed:
                return True
            self.dialect.reset(handle.connection)
            return self.dialect.purge(handle.connection, patience)

    def has_table(self, name: str) -> bool:
        """Whether the database holds a table of that name."""
        with self.read() as tx:
            return sa.inspect(tx).has_table(name)

    def close(self) -> None:
        """Close every connection, after the transactions that run; closing twice is fine. In a forked child nothing is touched."""
        if os.getpid() != self._pid:
            return
        with self._guard:
            self._closed = True
            handles, self._handles = self._handles, []
        for handle in handles:
            with handle.lock:
                handle.connection.close()
        self._engine.dispose()

    @contextlib.contextmanager
    def _transaction(self, *, writing: bool, hasty: bool = False) -> Iterator[sa.Connection]:
        if writing and self.read_only:
            raise WorkspaceReadOnly(
                "The workspace was opened with read_only=True; nothing was changed.", hint="Open it without read_only to change it."
            )
        handle = self._handle()
        with handle.lock:
            if handle.writing is not None:
                if writing and not handle.writing:
                    raise RuntimeError("a write cannot begin inside a read: begin with write()")
                yield handle.connection
                return
            if handle.connection.closed:
                raise self._over()
            beside = threading.current_thread() is not threading.main_thread()  # nobody may use its connection again, and end what it had begun
            with HeldBack() if writing or beside else contextlib.nullcontext(), self._explained:
                transaction = self._begun(handle, writing=writing, hasty=hasty)
                connection = handle.connection
                handle.writing = writing
                try:
                    yield connection
                    if writing:
                        fault_point("catalog:before-commit")
                        transaction.commit()
                        fault_point("catalog:after-commit")
                finally:
                    handle.writing = None
                    with HeldBack():  # an interrupt within a rollback, that of a read too, comes out as an error of SQLAlchemy
                        if connection.in_transaction():
                            connection.rollback()
                        if not connection.invalidated:
                            self.dialect.reset(connection)

    def _begun(self, handle: _Handle, *, writing: bool, hasty: bool) -> sa.RootTransaction:
        """A transaction of a thread's connection, on a new one when a server has closed it since it was last used."""
        for last in (False, True):
            connection = handle.connection
            try:
                if (left := connection.get_transaction()) is not None:
                    with HeldBack():
                        left.close()  # its BEGIN failed, or an interrupt fell before the transaction was known to the handle
                if writing and handle.hasty != hasty:
                    self.dialect.reset(connection)
                    handle.hasty = True
                    self.dialect.hurry(connection, hasty=hasty)
                    handle.hasty = hasty
                connection.info["begin"] = self.dialect.begin(writing=writing)
                return connection.begin()
            except sa.exc.DBAPIError as error:
                if last or not error.connection_invalidated:
                    raise
            handle.connection = self._engine.connect()
            connection.close()
        raise AssertionError

    def _check(self, *, assured: bool = False) -> None:
        if os.getpid() != self._pid:
            raise ForkedWorkspace(
                "This workspace was opened before the process forked and cannot be used in the child.",
                hint="Open it again in the child: jammi_lab.open(path).",
            )
        if self._closed:
            raise self._over()
        if not assured:
            self.dialect.assure()

    def _handle(self) -> _Handle:
        handle: _Handle | None = getattr(self._mine, "handle", None)
        self._check(assured=handle is not None and handle.writing is not None)  # the outer transaction was
        if handle is None:
            handle = self._mine.handle = self._opened(threading.current_thread())
        return handle

    def _opened(self, thread: threading.Thread) -> _Handle:
        """A new connection, until that thread ends or all is closed."""
        with HeldBack(), self._explained:
            handle = _Handle(self._engine.connect(), thread)
            with self._guard:
                if self._closed:
                    handle.connection.close()
                    raise self._over()
                ended = [h for h in self._handles if not h.thread.is_alive()]
                self._handles = [h for h in self._handles if h.thread.is_alive()] + [handle]
            for old in ended:
                old.connection.close()
        return handle

    def _over(self) -> SessionClosed:
        return SessionClosed("The workspace is closed.", hint="Open it again: jammi_lab.open(path).")
