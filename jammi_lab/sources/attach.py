"""Attach databases to a DuckDB instance, read-only, with credentials only in a DuckDB secret."""

import re
import socket
from collections.abc import Callable, Mapping
from typing import TypeVar

import duckdb

from jammi_lab.core.errors import InvalidArgument, SourceUnavailable
from jammi_lab.core.identifiers import quote_identifier, sql_literal
from jammi_lab.sources.base import Attachment, Query, ScopedSecret

T = TypeVar("T")
CONNECT_SECONDS = 10
"""The connection timeout of a server."""
_MAX_CLEANUP_ATTEMPTS = 100
"""How often a cleanup statement is retried after an interrupt; interrupts repeat every few
hundredths of a second."""
_SETTINGS = {
    "mysql": "SET GLOBAL mysql_query_timeout_enabled = false; SET GLOBAL mysql_tinyint1_as_boolean "
    "= false; SET GLOBAL mysql_session_time_zone = '+00:00'",
    "postgres": "SET GLOBAL pg_pool_health_check_query = ''",  # see _check_postgres
}
"""Settings of extensions, applied to the whole instance before ATTACH."""
_OPTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def attach(connection: duckdb.DuckDBPyConnection, attachment: Attachment) -> None:
    """Attach a database as `attachment.alias` to an instance with its extension loaded. Raises
    duckdb.Error and then leaves nothing behind."""
    if attachment.server is not None:
        _check_greeting(*attachment.server)
    if attachment.type in _SETTINGS:
        connection.execute(_SETTINGS[attachment.type])
    alias, secret_clause = attachment.alias, ""
    try:
        if attachment.secret is not None:
            _create_secret(connection, alias, attachment.type, attachment.secret)
            secret_clause = f", SECRET {quote_identifier(alias)}"
        kind = "" if attachment.type == "duckdb" else f", TYPE {_checked_option(attachment.type)}"
        connection.execute(
            f"ATTACH {sql_literal(attachment.path)} AS {quote_identifier(alias)} "
            f"(READ_ONLY{kind}{secret_clause})"
        )
        if attachment.type == "postgres":
            _check_postgres(connection, attachment)
    except BaseException:
        detach(connection, attachment)
        raise


def _check_postgres(connection: duckdb.DuckDBPyConnection, attachment: Attachment) -> None:
    """Refuse a database with a table `duckdb_secrets`: the extension would use it as a secret
    storage for everything that the instance reads.

    The connections of the pool are checked before each use from here on: until now there is only
    one, which has just been made.
    """
    text = "SELECT to_regclass('duckdb_secrets') IS NOT NULL AS secrets"
    [(has_secret_table,)] = in_transaction(
        connection,
        lambda query: query(
            f"SELECT * FROM postgres_query({sql_literal(attachment.alias)}, {sql_literal(text)})"
        ),
    )
    if has_secret_table:
        raise SourceUnavailable(
            "The database contains a table duckdb_secrets, from which DuckDB would take "
            "credentials for other sources.",
            hint="Connect as a role whose search path excludes it.",
        )
    connection.execute(
        f"FROM postgres_configure_pool(catalog_name={sql_literal(attachment.alias)}, "
        "health_check_query='SELECT 1')"
    ).fetchall()


def _check_greeting(host: str, port: int) -> None:
    """Check that a MySQL server listens, which speaks first: the extension's client has no time
    limit for that, waits for the rest of what it takes for a packet, and ends the process for some
    of what is none."""
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS) as connection:
            greeting, length = b"", 4
            while len(greeting) < length and (data := connection.recv(length - len(greeting))):
                greeting += data
                if len(greeting) == 4:  # the header, which begins with the length of the rest
                    length = min(4 + int.from_bytes(greeting[:3], "little"), _MAX_GREETING_BYTES)
    except OSError as error:
        reason = (
            "it does not respond"
            if isinstance(error, TimeoutError)
            else (error.strerror or str(error)).lower()
        )
        raise SourceUnavailable(
            f"The server {host}:{port} cannot be reached: {reason}.",
            hint="Check that the server is running, and its URL.",
        ) from None
    if greeting and not _MYSQL_GREETING.fullmatch(greeting):
        raise protocol_error()


def protocol_error() -> SourceUnavailable:
    """The error for a program that listens on the port of a server and is none."""
    return SourceUnavailable(
        "The server's response does not follow the expected protocol.",
        hint="Check the host and port: another program may be listening there.",
    )


_MYSQL_GREETING = re.compile(
    rb"..\0\0(?:[\x09\x0a][\x20-\x7e]{1,255}\0.{12,}|\xff(?!\xff\xff)..+)", re.S
)
"""The length of the first packet, its number, and the versions of the protocol and the server with
the session's id and salt, or an error. An error of number 65535 would be a report of progress."""
_MAX_GREETING_BYTES = 4096


def detach(connection: duckdb.DuckDBPyConnection, attachment: Attachment) -> None:
    """Detach a database and drop its secret, if they exist. A running statement can still read it
    to the end."""
    alias = quote_identifier(attachment.alias)
    _run_cleanup(connection, f"DETACH DATABASE IF EXISTS {alias}")
    if attachment.secret is not None:
        drop_secret(connection, attachment.alias)


def _run_cleanup(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Run a cleanup statement. Interrupts are meant for the statement before it, and may repeat."""
    for _ in range(_MAX_CLEANUP_ATTEMPTS):
        try:
            connection.execute(statement)
        except duckdb.InterruptException:
            continue
        except duckdb.Error:
            # The instance may be closed. The name is never used again, so nothing else is needed.
            return
        return


def create_secret(connection: duckdb.DuckDBPyConnection, secret: ScopedSecret) -> None:
    """Create a DuckDB secret for an object store whose extension is loaded. Raises duckdb.Error."""
    values = {**secret.values, "SCOPE": secret.scope}
    _create_secret(connection, secret.alias, secret.type, values)


def _create_secret(
    connection: duckdb.DuckDBPyConnection, name: str, kind: str, values: Mapping[str, str]
) -> None:
    clause = f"TYPE {_checked_option(kind)}"
    for option, value in values.items():
        clause += f", {_checked_option(option)} {sql_literal(value)}"
    connection.execute(f"CREATE OR REPLACE TEMPORARY SECRET {quote_identifier(name)} ({clause})")


def drop_secret(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Drop a secret, if it exists."""
    _run_cleanup(connection, f"DROP TEMPORARY SECRET IF EXISTS {quote_identifier(name)}")


def in_transaction(connection: duckdb.DuckDBPyConnection, work: Callable[[Query], T]) -> T:
    """The result of `work`, whose queries run in one read-only transaction. Raises duckdb.Error and
    what `work` raises."""
    connection.execute("BEGIN TRANSACTION")
    try:
        return work(lambda sql: connection.execute(sql).fetchall())
    finally:
        _run_cleanup(connection, "ROLLBACK")  # fails if an error has already ended it


def _checked_option(name: str) -> str:
    if not _OPTION_NAME.fullmatch(name):
        raise InvalidArgument(f"{name!r} is not a valid option name.")
    return name
