"""Attaching a database to a DuckDB instance, read-only, with its credentials in a secret of DuckDB's and nowhere else."""

import re
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import duckdb

from jammi_lab.errors import InvalidArgument, SourceUnavailable
from jammi_lab.names import literal, quote
from jammi_lab.sources.base import Asking, Attachment, Relation, ScopedSecret

T = TypeVar("T")
CONNECT_SECONDS = 10
"""How long a server may take to accept a connection."""
_TRIES = 100
"""How often something is taken away that an interrupt stops each time: they come every few hundredths of a second."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def attach(connection: duckdb.DuckDBPyConnection, attachment: Attachment) -> None:
    """Make a database known to an instance, which has its extension, as `attachment.alias`. duckdb.Error, after which nothing is left."""
    if attachment.server is not None:
        _reached(*attachment.server)
    for setting, value in attachment.settings.items():
        connection.execute(f"SET GLOBAL {_word(setting)} = {literal(value) if isinstance(value, str) else str(value).lower()}")
    alias, said = attachment.alias, ""
    try:
        if attachment.secret is not None:
            values = ", ".join(f"{_word(name)} {literal(value)}" for name, value in attachment.secret.items())
            connection.execute(f"CREATE OR REPLACE TEMPORARY SECRET {quote(alias)} (TYPE {_word(attachment.type)}, {values})")
            said = f", SECRET {quote(alias)}"
        kind = "" if attachment.type == "duckdb" else f", TYPE {_word(attachment.type)}"
        connection.execute(f"ATTACH {literal(attachment.path)} AS {quote(alias)} (READ_ONLY{kind}{said})")
        if attachment.type == "postgres":
            _refuse_secrets(connection, alias)
            _read_in_one_snapshot(connection, alias)
    except BaseException:
        detach(connection, attachment)
        raise


def _refuse_secrets(connection: duckdb.DuckDBPyConnection, alias: str) -> None:
    """The extension makes a table of this name a store of DuckDB secrets, from which whatever else is read in the instance would take them."""
    [(there,)] = connection.execute(
        f"SELECT t IS NOT NULL FROM postgres_query({literal(alias)}, 'SELECT to_regclass(''duckdb_secrets'')::text AS t')"
    ).fetchall()
    if there:
        raise SourceUnavailable(
            "The database holds a table duckdb_secrets, from which DuckDB would take credentials for other sources.",
            hint="Connect as a role in whose search path it is not.",
        )


_NO_SNAPSHOT = (
    "SELECT pg_is_in_recovery() OR EXISTS (SELECT FROM pg_stat_wal_receiver) OR EXISTS (SELECT FROM pg_settings WHERE name LIKE 'rds%') AS t"
)
"""Where the extension hands no snapshot on: on a standby, and where it takes the server for Aurora, by settings that every RDS has (1.5.5)."""


def _read_in_one_snapshot(connection: duckdb.DuckDBPyConnection, alias: str) -> None:
    """The extension reads a large table over several connections. Where they share no snapshot each sees another state, and none that was digested;
    then the whole instance reads each table over one."""
    [(apart,)] = connection.execute(f"SELECT t FROM postgres_query({literal(alias)}, {literal(_NO_SNAPSHOT)})").fetchall()
    if apart:
        connection.execute("SET GLOBAL pg_use_ctid_scan = false")


def _reached(host: str, port: int) -> None:
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS) as line:
            line.recv(1)  # such servers speak first
    except OSError as error:
        reason = "it does not answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
        raise SourceUnavailable(
            f"The server {host}:{port} cannot be reached: {reason}.", hint="Look whether it runs, and whether its address is right."
        ) from None


_GREETED = 2.0
"""How many seconds a server may take to say its first word."""
_HELLO = bytes.fromhex("0000000804d2162f")
"""What PostgreSQL answers before it knows who asks: whether it would encrypt. MySQL speaks first."""


def answers(attachment: Attachment) -> bool:
    """Whether a server says a word to whoever connects, without a credential; False where that cannot be found out."""
    said = attachment.secret or {}
    host, port = said.get("HOST", ""), said.get("PORT", "")
    if attachment.type not in ("postgres", "mysql") or not host or not port.isdigit():
        return False
    try:
        if host.startswith("/"):
            line = socket.socket(socket.AF_UNIX)
            line.settimeout(_GREETED)
            line.connect(f"{host}/.s.PGSQL.{port}")
        else:
            line = socket.create_connection((host, int(port)), _GREETED)
        with line:
            if attachment.type == "postgres":
                line.sendall(_HELLO)
            return bool(line.recv(1))
    except OSError:
        return False


def detach(connection: duckdb.DuckDBPyConnection, attachment: Attachment) -> None:
    """Take it away, with its secret. What is not there is fine; a statement that still reads it keeps it to its own end."""
    alias = quote(attachment.alias)
    _take_away(connection, f"DETACH DATABASE IF EXISTS {alias}")
    if attachment.secret is not None:
        _take_away(connection, f"DROP TEMPORARY SECRET IF EXISTS {alias}")


def _take_away(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Run what takes something away. An interrupt is meant for the statement before, and may come several times."""
    for _ in range(_TRIES):
        try:
            connection.execute(statement)
        except duckdb.InterruptException:
            continue
        except duckdb.Error:  # the instance may be gone; nothing that could be done about it here, and the name is never used again
            return
        return


def tell(connection: duckdb.DuckDBPyConnection, secret: ScopedSecret) -> None:
    """Let DuckDB's reader of an object store, whose extension is loaded, know a credential. duckdb.Error."""
    values = "".join(f", {_word(name)} {literal(value)}" for name, value in secret.values.items())
    said = f"TYPE {_word(secret.type)}{values}, SCOPE {literal(secret.scope)}"
    connection.execute(f"CREATE OR REPLACE TEMPORARY SECRET {quote(secret.name)} ({said})")


def untell(connection: duckdb.DuckDBPyConnection, secret: ScopedSecret) -> None:
    """Take it away again."""
    _take_away(connection, f"DROP TEMPORARY SECRET IF EXISTS {quote(secret.name)}")


class Asked:
    """`sources.base.Asking` on one connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, memory: dict[str, Any]) -> None:
        self._connection, self.memory = connection, memory

    def __call__(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a SELECT. duckdb.Error."""
        return self._connection.execute(sql).fetchall()


def in_transaction(connection: duckdb.DuckDBPyConnection, memory: dict[str, Any], work: Callable[[Asking], T]) -> T:
    """What `work` returns; all that it asks of the connection is one transaction, in which nothing is written. Raises what both raise."""
    connection.execute("BEGIN TRANSACTION")
    try:
        return work(Asked(connection, memory))
    finally:
        _take_away(connection, "ROLLBACK")  # it is over already, when an error ended it


def needs(relation: Relation) -> tuple[str, ...]:
    """All extensions that a relation's body needs."""
    attachment = relation.attachment
    return relation.extensions + ((attachment.extension,) if attachment is not None and attachment.extension is not None else ())


def _word(name: str) -> str:
    if not _WORD.fullmatch(name):
        raise InvalidArgument(f"{name!r} is no name of an option.")
    return name
