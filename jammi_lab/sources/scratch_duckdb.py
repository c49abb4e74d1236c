"""Temporary DuckDB instances for connectors, independent of the engine: types of Arrow data, a test
read of a body."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from jammi_lab.core.errors import SchemaMismatch, too_many_open_files
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.core.interrupts import Signal
from jammi_lab.core.thread_pool import (
    START_TIMEOUT_SECONDS,
    ThreadPool,
    join_thread,
    start_daemon,
)
from jammi_lab.sources import attach, duckdb_extensions
from jammi_lab.sources.base import Relation
from jammi_lab.storage import spill_folders


class SharedInstance:
    """One instance per process, opened by `open_instance` on first use and again after an error for
    which `is_fatal` is true. Opening one takes 10 ms, closing it half of that."""

    def __init__(
        self,
        open_instance: Callable[[], duckdb.DuckDBPyConnection],
        is_fatal: Callable[[BaseException], bool],
    ) -> None:
        self._open_instance, self._is_fatal = open_instance, is_fatal
        self._abandoned: list[duckdb.DuckDBPyConnection | None] = []
        self._reset()
        os.register_at_fork(after_in_child=self._reset_after_fork)

    def _reset(self) -> None:
        # Reentrant, because garbage collection inside the lock may end another loan.
        self._lock = threading.RLock()
        self._instance: duckdb.DuckDBPyConnection | None = None

    def _reset_after_fork(self) -> None:
        # Closing the parent's instance could wait for a lock whose owner does not exist here.
        self._abandoned.append(self._instance)
        self._reset()

    @contextlib.contextmanager
    def borrow(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The instance; callers use a cursor of their own."""
        with self._lock:
            instance = self._instance = self._instance or self._open_instance()
        try:
            yield instance
        except BaseException as error:
            if self._is_fatal(error):
                with self._lock:
                    self._instance = None if self._instance is instance else self._instance
            raise


_MIN_FREE_DESCRIPTORS = 16
"""More than opening an instance and reading a Delta table in it need, because other threads open
files meanwhile."""


def open_in_memory(config: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """A new DuckDB instance in memory. Raises ResourceExhausted when the process has too few free
    file descriptors: DuckDB 1.5.5 and its extension for Delta would end the process then."""
    try:
        with contextlib.ExitStack() as files:
            for _ in range(_MIN_FREE_DESCRIPTORS):
                files.enter_context(open(os.devnull, "rb", buffering=0))
    except OSError as error:
        raise too_many_open_files(error, "DuckDB") or error from None
    return duckdb.connect(config=config)


CONFIG: dict[str, Any] = {
    "allow_persistent_secrets": "false",
    "threads": "1",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}


def _open(**settings: str) -> duckdb.DuckDBPyConnection:
    return open_in_memory(
        CONFIG | {"temp_directory": str(spill_folders.new_instance_path())} | settings
    )


# The cache could return the old bytes of a file that was just rewritten.
_shared_instance = SharedInstance(lambda: _open(enable_external_file_cache="false"), lambda _: True)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn DuckDB's RuntimeError for an interrupt back into KeyboardInterrupt."""
    try:
        yield
    except RuntimeError as error:  # "Query interrupted", not a duckdb.Error
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise


@contextlib.contextmanager
def open_bare(extension_names: Sequence[str] = ()) -> Iterator[duckdb.DuckDBPyConnection]:
    """A new, empty DuckDB instance with the needed extensions. Raises ExtensionMissing and, on an
    interrupt, KeyboardInterrupt."""
    with _interruptible(), _open() as connection:
        duckdb_extensions.load(connection, extension_names)
        yield connection


@contextlib.contextmanager
def borrow_bare() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the shared instance, in which only temporary objects may be created. Raises
    KeyboardInterrupt on an interrupt."""
    with _interruptible(), _shared_instance.borrow() as instance, instance.cursor() as connection:
        yield connection


def _open_for(
    relation: Relation, *, uses_all_threads: bool = False
) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
    needs = relation.requirements
    extension_names = list(needs.extensions)
    if needs.attachment is not None and needs.attachment.extension is not None:
        extension_names.append(needs.attachment.extension)
    if needs.scoped_secret is not None:
        extension_names.append(needs.scoped_secret.extension)
    changes_instance = extension_names or needs.attachment or needs.filesystem
    return open_bare(extension_names) if uses_all_threads or changes_instance else borrow_bare()


def register_frame(connection: duckdb.DuckDBPyConnection, name: str, frame: Any) -> None:
    """Name a frame for statements. Raises as `start_thread`."""
    _start_arrow_threads()
    connection.register(name, frame)


@functools.cache
def _start_arrow_threads() -> None:
    """Let Arrow start a thread of each of its pools, which DuckDB's scan of a frame waits for, also
    where it never starts."""
    from pyarrow import dataset

    go = Signal()

    def scan() -> None:
        for thread in threads:
            join_thread(thread)
        dataset.dataset(pa.table({"a": [1]})).to_table()

    try:
        threads = [start_daemon(go.wait, "jammi-arrow") for _ in range(2)]
        scanned = ThreadPool(1, "jammi-arrow").submit(scan)
    finally:
        go.set()
    try:
        scanned.result(START_TIMEOUT_SECONDS)
    except TimeoutError:  # others took the last threads meanwhile
        raise RuntimeError("Arrow can't start new thread") from None


os.register_at_fork(after_in_child=_start_arrow_threads.cache_clear)


@contextlib.contextmanager
def connect(
    relation: Relation, *, uses_all_threads: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the relation as the view `it`, in an instance of its own where it is to use
    all threads. Raises ExtensionMissing, and duckdb.Error if the body does not bind."""
    with _open_for(relation, uses_all_threads=uses_all_threads) as connection:
        if uses_all_threads:
            connection.execute(f"SET threads = {os.cpu_count() or 1}")
        connection.execute("SET TimeZone='UTC'")
        needs = relation.requirements
        if needs.attachment is not None:
            attach.attach(connection, needs.attachment)
        if needs.scoped_secret is not None:
            attach.create_secret(connection, needs.scoped_secret)
        if needs.filesystem is not None:
            connection.register_filesystem(needs.filesystem)
        if relation.read.frame is not None:
            register_frame(connection, "it", relation.read.frame)
        else:
            connection.execute(f"CREATE TEMP VIEW it AS {relation.read.body}")
        yield connection


def describe(relation: Relation) -> dict[str, str]:
    """Names and SQL types of a relation's columns, in order. Raises duckdb.Error."""
    with connect(relation) as connection:
        return _describe(connection)


def preview(relation: Relation, rows: int) -> dict[str, str]:
    """Read the first rows as a test, and return the same as `describe`. Raises duckdb.Error."""
    with connect(relation) as connection:
        columns = _describe(connection)
        first_rows = connection.execute(f"SELECT * FROM it LIMIT {rows:d}").to_arrow_reader()
        try:
            first_rows.read_all()
        except OSError as error:  # a value that DuckDB reads and cannot hand to Arrow
            raise duckdb.Error(str(error)) from None
    return columns


def _describe(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute("DESCRIBE it").fetchall()}


def query(
    relation: Relation, select: str, *, uses_all_threads: bool = False
) -> list[tuple[Any, ...]]:
    """All rows of a SELECT over the view `it`. Raises duckdb.Error."""
    with connect(relation, uses_all_threads=uses_all_threads) as connection:
        return connection.execute(select).fetchall()


def write_parquet(relation: Relation, path: Path) -> None:
    """Write all rows of a relation, in order. Raises duckdb.Error."""
    with connect(relation, uses_all_threads=True) as connection:
        connection.execute(f"COPY it TO {sql_literal(str(path))} (FORMAT parquet)")


_NO_MEMORY = (duckdb.OutOfMemoryException, MemoryError)
"""What says nothing of a type. `core.foreign_errors` explains it wherever it comes from."""


@functools.lru_cache(maxsize=256)
def _type_of(kind: pa.DataType) -> str | None:
    with borrow_bare() as connection:
        try:
            connection.register("it", pa.schema([pa.field("x", kind)]).empty_table())
            row = connection.execute("DESCRIBE it").fetchone()
        except _NO_MEMORY:
            raise
        except (duckdb.Error, pa.ArrowException):
            return None
    return str(row[1]) if row else None


def arrow_type(sql_type: str) -> pa.DataType | None:
    """The Arrow type of the values of an SQL type; None when there is no such type."""
    try:
        with borrow_bare() as connection:
            # parsed as a type, so it can be part of a statement
            name = str(connection.sqltype(sql_type))
            connection.execute("SET TimeZone='UTC'")
            return connection.execute(f"SELECT NULL::{name}").to_arrow_table().schema.field(0).type
    except _NO_MEMORY:
        raise
    except duckdb.Error:
        return None


def shown_types(schema: pa.Schema) -> list[str]:
    """The SQL types of the columns of Arrow data, for display; the Arrow type of a column that has
    none."""
    return [_type_of(field.type) or str(field.type) for field in schema]


def sql_types(schema: pa.Schema) -> dict[str, str]:
    """SQL types of the columns of Arrow data. Raises SchemaMismatch for a column without an SQL
    type."""
    types = {}
    for field in schema:
        kind = _type_of(field.type)
        if kind is None:
            message = f"Column {field.name!r} has type {field.type}, which SQL does not support."
            raise SchemaMismatch(
                message,
                column=field.name,
                actual=str(field.type),
                hint="Convert or remove that column.",
            )
        types[field.name] = kind
    return types
