"""Connector for a connection of the user: ADBC, DB-API 2.0, or an SQLAlchemy engine.

The connection lives in this kernel, as a frame does, and nothing of it is stored. What its server
accepts is asked of the server: which character quotes names, and for each type whether a constant
comes back as the value that was meant. Only conditions on such types are sent; DuckDB evaluates all
conditions again.

The state of a table is the result of a statement of the user. Each statement is a transaction of
its own, because in an open one a server may go on showing old rows.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa

from jammi_lab.core import redaction
from jammi_lab.core.anchors import (
    STATE_STATEMENT,
    Cost,
    Observed,
    Snapshot,
    Unknown,
    source_input,
)
from jammi_lab.core.cancellable import run_cancellable
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import (
    ExtensionMissing,
    InvalidArgument,
    JammiError,
    SourceUnavailable,
    TableNotFound,
    first_line,
)
from jammi_lab.core.identifiers import near_names, sql_literal, unique_names
from jammi_lab.core.module_imports import import_modules
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.base import (
    Computed,
    Consistency,
    InputRead,
    ObservationContext,
    ReadPlan,
    Relation,
    SourceContext,
)
from jammi_lab.sources.frames import canonical_table, frame_snapshot
from jammi_lab.sources.located_connector import LocatedConnector, find_table
from jammi_lab.sources.scan_conditions import ConditionsOfScan, condition_on_server
from jammi_lab.sources.scratch_duckdb import arrow_type, sql_types
from jammi_lab.storage.arrow_values import cast_losslessly, to_arrow_array

KIND = "connection"
_ARROW_METHODS: Mapping[str, Mapping[str, bool]] = {
    "to_arrow_table": {},
    "fetch_arrow_table": {},
    "fetchall_arrow": {},
    "fetch_arrow_all": {"force_return_table": True},
}
"""Methods of cursors that return an Arrow table (DuckDB; ADBC; Databricks; Snowflake)."""
_CONNECTION_METHODS = ("cursor", "raw_connection", "exec_driver_sql")
"""A method of a connection, of an SQLAlchemy engine, of a connection of one."""
_CANCEL_METHODS = ("cancel", "adbc_cancel", "interrupt")
_TABLES = (
    "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema NOT IN "
    "('information_schema', 'INFORMATION_SCHEMA', 'pg_catalog', 'mysql', 'performance_schema', "
    "'sys') ORDER BY 1, 2"
)
_COLUMNS = (
    "SELECT column_name, data_type, numeric_precision, numeric_scale FROM "
    "information_schema.columns WHERE table_schema = {schema} AND table_name = {name} "
    "ORDER BY ordinal_position"
)
_SQLITE_TABLES = "SELECT 'main', name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY 2"
_SQLITE_COLUMNS = (
    "SELECT name, CASE WHEN type LIKE '%INT%' THEN 'bigint' WHEN type LIKE '%REAL%' OR type LIKE "
    "'%FLOA%' OR type LIKE '%DOUB%' THEN 'double' WHEN type LIKE '%BLOB%' THEN 'blob' ELSE 'text' "
    "END, NULL, NULL FROM pragma_table_info({name}) ORDER BY cid"
)
"""The types of SQLite are its affinities."""
_CATALOGS = (_TABLES, _COLUMNS), (_SQLITE_TABLES, _SQLITE_COLUMNS)
"""Queries for schema and name of all tables, and, where a cursor has no Arrow types, for the
columns of one: of most servers, and of SQLite, whose types are its affinities."""
_TYPE_NAMES = {
    "bit": "boolean",
    "mediumint": "integer",
    "datetime2": "timestamp",
    "smalldatetime": "timestamp",
    "datetimeoffset": "timestamptz",
    "number": "numeric",
    "tinyblob": "blob",
    "mediumblob": "blob",
    "longblob": "blob",
}
"""Types of servers that DuckDB has under another name."""
_WRAPPED_TYPE = re.compile(r"(?:LowCardinality|Nullable)\((.*)\)")
"""How ClickHouse writes a type."""
_NUMBER = pa.decimal128(38, 10)
"""The type of a number without a declared scale."""
_INTEGER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
_SENT_AS_TEXT = re.compile(r"DATE|TIMESTAMP|DECIMAL\(.*\)")
"""Types whose constants are sent as a cast of their text."""
_PLAIN_CONSTANT = re.compile(r"[\d .:-]+")
"""Neither `infinity` nor a year before Christ."""


class HeldConnection:
    """A connection that this kernel holds, and what is known of its server. Thread-safe."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.constants: dict[str, bool] = {}
        """Whether the server has the constants of a type of DuckDB's."""
        self.has_types = False
        """Whether its cursors return Arrow tables; known after the first statement."""
        self._quote: tuple[str, str] | None = None
        self._lock = threading.Lock()

    @property
    def location(self) -> str:
        """What stands for it in a list: the package of the driver."""
        return f"{KIND}://{type(self.connection).__module__.lstrip('_').partition('.')[0]}"

    def fetch(self, sql: str, types: Sequence[pa.DataType] | None = None) -> pa.Table:
        """The rows of a SELECT. Of a cursor without Arrow they get these types, or are all text.
        Raises SourceUnavailable, also for a connection in a transaction."""
        running = list[Any]()
        try:
            return run_cancellable(
                lambda: self._fetch(sql, types, running), lambda: _cancel(running)
            )
        except JammiError:
            raise
        except Exception as error:
            raise SourceUnavailable(
                f"The connection cannot be read: {type(error).__name__}: {first_line(error)}"
            ) from error

    def _fetch(self, sql: str, types: Sequence[pa.DataType] | None, running: list[Any]) -> pa.Table:
        with self._lock, self._cursor(running) as cursor:
            cursor.execute(sql)
            for name, options in _ARROW_METHODS.items():
                if hasattr(cursor, name):
                    self.has_types = True
                    return _plain(getattr(cursor, name)(**options))
            rows, names = cursor.fetchall(), [column[0] for column in cursor.description]
        kinds = types or [pa.string()] * len(names)
        values = list(zip(*rows, strict=True)) or [()] * len(names)
        columns = [
            _converted(name, _array_of, column, kind)
            for name, column, kind in zip(names, values, kinds, strict=True)
        ]
        return pa.table(columns, names)

    @contextlib.contextmanager
    def _cursor(self, running: list[Any]) -> Iterator[Any]:
        """A cursor of a new transaction; it and its connection are put into `running` meanwhile."""
        connection, is_pooled = self.connection, hasattr(self.connection, "raw_connection")
        if is_pooled:
            connection = connection.raw_connection()
        status = getattr(getattr(connection, "info", None), "transaction_status", None)
        # of sqlite3, and of psycopg, whose 2 is an open transaction
        if getattr(connection, "in_transaction", None) is True or status == 2:
            raise SourceUnavailable(
                "The connection has an open transaction.",
                hint="Commit it or roll it back, and give the source a connection of its own.",
            )
        try:
            with contextlib.suppress(Exception):  # DuckDB has nothing to roll back
                connection.rollback()
            with contextlib.closing(connection.cursor()) as cursor:
                running += [connection, cursor]
                yield cursor
        finally:
            running.clear()
            with contextlib.suppress(Exception):
                connection.rollback()
            if is_pooled:
                connection.close()

    def quote(self, name: str) -> str:
        """A name as the server writes it. Raises as `fetch`."""
        mark, _ = self._marks()
        return f"{mark}{name.replace(mark, mark * 2)}{mark}"

    def limit(self, rows: int | None) -> str:
        """The clause that limits a SELECT; empty for a server that has another one."""
        _, clause = self._marks()
        return clause.format(rows) if rows is not None else ""

    def _marks(self) -> tuple[str, str]:
        """The character that quotes names, and the clause for a limit. MySQL and BigQuery take a
        name in double quotes for a text."""
        if self._quote is None:
            self.fetch("SELECT 1 AS x")  # the error of a server that does not answer
        for mark, clause in itertools.product('"`', (" LIMIT {}", "")):
            if self._quote is None:
                name = f"{mark}x{mark}"
                sql = f"SELECT {name} FROM (SELECT 1 AS {name}) t{clause.format(1)}"
                with contextlib.suppress(SourceUnavailable):
                    if str(self.fetch(sql).column(0)[0]) == "1":
                        self._quote = mark, clause
        if self._quote is None:
            raise SourceUnavailable("The server understands names neither in quotes nor backticks.")
        return self._quote


_held: weakref.WeakValueDictionary[str | int, HeldConnection] = weakref.WeakValueDictionary()
"""The connections that sources use, by URL or by the object's id."""


def hold(connection: Any) -> HeldConnection:
    """The holder of a connection, the same for the same one; of an SQLAlchemy URL that of an engine
    made for it. Raises InvalidArgument, ExtensionMissing."""
    is_url = not is_connection(connection)
    connection = getattr(connection, "engine", connection)  # of SQLAlchemy's Connection
    key = str(connection) if is_url else id(connection)
    held = _held.get(key)
    if held is None:
        held = _held[key] = HeldConnection(_engine_of(str(key)) if is_url else connection)
    return held


def is_connection(value: object) -> bool:
    """Whether a value is a connection or an engine."""
    return any(hasattr(type(value), name) for name in _CONNECTION_METHODS)


def _cancel(running: Sequence[Any]) -> None:
    for owner, name in itertools.product(running, _CANCEL_METHODS):
        if hasattr(owner, name):
            with contextlib.suppress(Exception):
                getattr(owner, name)()


def _engine_of(url: str) -> Any:
    redaction.remember_typed_credentials(url)
    try:
        with import_modules():
            from sqlalchemy import NullPool, create_engine
            from sqlalchemy.exc import ArgumentError
    except ImportError:
        raise ExtensionMissing(
            "The package sqlalchemy is not installed.", hint="Run: pip install sqlalchemy."
        ) from None
    try:
        return create_engine(url, poolclass=NullPool)
    except (ArgumentError, ImportError, ValueError):  # ValueError: a port that is no number
        raise InvalidArgument(
            "With state= the location must be a connection, or an SQLAlchemy URL whose driver is "
            "installed."
        ) from None


def _converted(
    name: str, convert: Callable[[Any, pa.DataType], Any], values: Any, kind: pa.DataType
) -> Any:
    """The values of a column as another type. Raises SourceUnavailable for a value that is none of
    that type."""
    try:
        return convert(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SourceUnavailable(
            f"Column {name!r} contains a value that is not of its type {kind}: {first_line(error)}",
            hint="Cast the column in a view on the server, or leave it out.",
        ) from None


def _array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        values = [None if value is None else _text_of(value) for value in values]
    return to_arrow_array(values, kind)


def _text_of(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)


def _column_type(name: str, precision: str, scale: str) -> pa.DataType:
    """The Arrow type of a column whose server names its type so; text for what has no other."""
    while wrapped := _WRAPPED_TYPE.fullmatch(name):
        name = wrapped[1]
    kind = arrow_type(_TYPE_NAMES.get(name.lower(), name)) or pa.string()
    if pa.types.is_decimal(kind):
        try:
            return pa.decimal128(int(precision), int(scale or 0)) if precision else _NUMBER
        except ValueError:  # of more than 38 digits
            return pa.string()
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    return kind


class ConnectionConnector(LocatedConnector):
    """A registered source that is read by a connection of the user."""

    is_database = True

    def __init__(
        self, record: SourceRecord, context: SourceContext, held: HeldConnection | None
    ) -> None:
        super().__init__(record, context)
        self._connection = held
        if record.tenant_column is not None or record.anchor not in ("auto", "none"):
            raise InvalidArgument(
                "A connection takes neither tenant_column= nor anchor=: its state is the result of "
                "the statement state=."
            )

    def check(self) -> None:
        """Check that the server answers, and the statement for the state, if that names no table.
        Raises SourceUnavailable."""
        self._open_connection.quote("x")
        state = self.record.options.get("state", "")
        if state and "{table}" not in state:
            self._open_connection.fetch(state)

    def tables(self) -> list[str]:
        """The tables as `schema.table`. Raises SourceUnavailable."""
        return [label for *_, label in self._listed_tables()]

    def find(self, parts: Sequence[str]) -> str | None:
        """The label of `schema.table`, or of `table` where one schema has it; None if none or
        several match. Raises SourceUnavailable."""
        tables = ((label, name) for _, name, label in self._listed_tables())
        return find_table(tables, ".".join(parts))

    def relation(self, table: str | None) -> Relation:
        """The rows of a table, which are read when a statement runs. Raises SourceUnavailable,
        TableNotFound."""
        read_table = self._table(table or "")
        types = sql_types(read_table.schema)
        named = Relation(source_input(self.record.name, table), columns=types)
        computed = Computed(
            definition="",
            inputs=lambda read: [InputRead(named, tuple(sorted(read)), types)],
            rows=functools.partial(self._rows, read_table, types),
        )
        return replace(
            named, read=ReadPlan(computed=computed), consistency=Consistency(unordered=True)
        )

    def _rows(
        self,
        table: _Table,
        types: Mapping[str, str],
        columns: Collection[str],
        conditions: ConditionsOfScan,
    ) -> pa.Table:
        """At least the rows that the conditions need; columns that are not read are NULL."""
        needed, limit = condition_on_server(
            conditions(),
            lambda column, value: self._constant(table.schema.field(column), types[column], value),
            lambda column: self._open_connection.quote(table.names[column]),
        )
        read = [field for field in table.schema if field.name in columns]
        selected = ", ".join(self._open_connection.quote(table.names[field.name]) for field in read)
        sql = f"SELECT {selected or '1 AS one'} FROM {self._quoted(table.label)}"
        sql += f" WHERE {needed}" if needed else ""
        sql += self._open_connection.limit(limit)
        sent = self._open_connection.fetch(sql, [field.type for field in read] or [pa.int64()])
        arrays = {field.name: pa.nulls(sent.num_rows, field.type) for field in table.schema}
        for field, column in zip(read, sent.columns, strict=False):
            arrays[field.name] = _converted(field.name, cast_losslessly, column, field.type)
        return pa.table(arrays, schema=table.schema)

    def _constant(self, field: pa.Field, kind: str, value: str | None) -> str | None:
        """The SQL of a constant of a column; None if the server may compare it otherwise."""
        is_integer = _INTEGER.fullmatch(kind) is not None
        if not is_integer and not _SENT_AS_TEXT.fullmatch(kind):
            return None
        if value is None:
            return "NULL"
        if not _PLAIN_CONSTANT.fullmatch(value):
            return None
        if is_integer:
            return value
        constant, known = f"CAST({sql_literal(value)} AS {kind})", self._open_connection.constants
        if kind not in known:
            known[kind] = False
            with contextlib.suppress(SourceUnavailable, pa.ArrowException):
                sent = self._open_connection.fetch(f"SELECT {constant} AS c", [field.type])
                known[kind] = sent.column(0)[0] == pa.scalar(value).cast(field.type)
        return constant if known[kind] else None

    def _table(self, label: str) -> _Table:
        """The columns of a table. Raises SourceUnavailable, TableNotFound."""
        try:
            address = self._quoted(label)
            if self._open_connection.has_types:
                sent = self._open_connection.fetch(f"SELECT * FROM {address} WHERE 1 = 0")
                names, types = sent.column_names, sent.schema.types
            else:
                schema, name = map(sql_literal, label.split(".", 1))
                rows = self._from_catalog(1, schema=schema, name=name)
                names, types = [row[0] for row in rows], [_column_type(*row[1:]) for row in rows]
        except SourceUnavailable:
            names, types = [], []
            if label in self.tables():
                raise
        if not names:
            raise TableNotFound(
                f"There is no table {label} in {self.record.name}.",
                near=near_names(label, self.tables()),
            )
        unique = unique_names(names)
        schema_of_rows = pa.schema(zip(unique, types, strict=True))
        return _Table(label, dict(zip(unique, names, strict=True)), schema_of_rows)

    def _observe(self, table: str | None, ctx: ObservationContext) -> Observed:  # noqa: ARG002
        """The result of the statement for the state, and the columns. Raises as `_table`."""
        state = self.record.options.get("state")
        if not state:
            return Unknown(
                "nothing tells when its rows change; add it again with state=, a SELECT whose "
                "result changes with them"
            )
        label = table or ""
        statement = state.replace("{table}", self._quoted(label))
        rows = self._open_connection.fetch(statement)
        return Snapshot(
            columns=sql_types(self._table(label).schema),
            whole=digest_of([statement, frame_snapshot(rows).whole]),
            method=STATE_STATEMENT,
            cost=Cost.METADATA,
        )

    @property
    def _open_connection(self) -> HeldConnection:
        if self._connection is None:
            state = self.record.options.get("state", "SELECT …")
            raise SourceUnavailable(
                f"The connection of {self.record.name!r} is not in this kernel.",
                hint=f"Connect, and call ws.sources.add({self.record.name!r}, connection, "
                f"state={state!r}).",
            )
        return self._connection

    def _quoted(self, label: str) -> str:
        """The name of a table as the server writes it."""
        return ".".join(map(self._open_connection.quote, label.split(".", 1)))

    def _from_catalog(self, query: int, **names: str) -> list[tuple[str, ...]]:
        """The rows of one of the queries of `_CATALOGS`, with an empty text for NULL. Raises
        SourceUnavailable."""
        usual, of_sqlite = (queries[query].format(**names) for queries in _CATALOGS)
        try:
            sent = self._open_connection.fetch(usual)
        except SourceUnavailable as error:
            try:
                sent = self._open_connection.fetch(of_sqlite)
            except SourceUnavailable:
                raise error from None
        rows = zip(*(column.to_pylist() for column in sent.columns), strict=True)
        return [tuple("" if value is None else str(value) for value in row) for row in rows]

    def _listed_tables(self) -> list[tuple[str, str, str]]:
        """Schema, name and label of all tables. Raises SourceUnavailable."""
        return [(schema, name, f"{schema}.{name}") for schema, name in self._from_catalog(0)]


class _Table(NamedTuple):
    """A table as it is read."""

    label: str
    names: Mapping[str, str]
    """The server's name of each column, by its name in SQL."""
    schema: pa.Schema
    """The columns by their names in SQL."""


def _plain(sent: pa.Table) -> pa.Table:
    """A table of a driver with types that SQL has. ADBC sends PostgreSQL's `numeric` as text."""
    for number, field in enumerate(sent.schema):
        if getattr(field.type, "type_name", "") == "numeric":
            values = sent.column(number).cast(pa.string())
            number_values = _converted(field.name, pa.ChunkedArray.cast, values, _NUMBER)
            sent = sent.set_column(number, field.name, number_values)
    return canonical_table(sent)
