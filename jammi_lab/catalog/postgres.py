"""PostgreSQL as the database of a catalog, configured to behave as SQLite does.

One writer at a time, one snapshot for a reader, text that sorts by code points, and acknowledged
commits that are on the server's disk.
"""

import contextlib
import functools
import os
import re
import urllib.parse
import weakref
from typing import Any

from jammi_lab.catalog import sqlite
from jammi_lab.catalog.connection import Connection, Dialect
from jammi_lab.catalog.schema import format_table
from jammi_lab.catalog.sqlite import damaged_error
from jammi_lab.core import foreign_errors
from jammi_lab.core.errors import (
    ExtensionMissing,
    InvalidArgument,
    JammiError,
    SourceUnavailable,
    WorkspaceNotFound,
    of_catalog,
)
from jammi_lab.core.module_imports import import_modules


class Postgres(Dialect):
    """A catalog in one schema of a PostgreSQL database (`?schema=` of the URL, else `jammi`).

    A write transaction takes the catalog's advisory lock at BEGIN, as SQLite's BEGIN IMMEDIATE
    does: writes are serialised, so what one has read holds until it commits, and nothing has to be
    retried. A reader sees one snapshot and never blocks.

    Raises InvalidArgument for a URL of another database, ExtensionMissing without the driver,
    SourceUnavailable when the server cannot be reached or refuses the login, WorkspaceNotFound when
    the catalog does not exist and must not be created.
    """

    def __init__(self, url: str, *, read_only: bool, create: bool) -> None:
        self._arguments, self.schema = _parse_url(url)
        self.read_only = read_only
        self.label = _display_url(self._arguments, self.schema)
        probe = self.new_connection()
        with import_modules():
            import psycopg

        self._idle_connections: list[Any] = [probe]
        """Open connections that were not used yet."""
        try:
            [(has_schema, self.existed, is_direct, runs_code)] = probe.execute(
                "SELECT to_regnamespace(%s) IS NOT NULL, to_regclass(%s) IS NOT NULL, "
                # a pooler names no backend, or not that which answers
                f"current_setting('search_path') = %s AND pg_backend_pid() = %s, {_RUNS_CODE}",
                [
                    self.schema,
                    f"{self.schema}.{format_table.name}",
                    self.schema,
                    probe.info.backend_pid,
                    self.schema,
                ],
            ).fetchall()
        except psycopg.Error as error:
            probe.close()
            raise self.to_jammi_error(error) or error from None
        if not is_direct:
            probe.close()
            raise InvalidArgument(
                f"A connection pooler in front of {self.label} shares out its sessions.",
                hint="Connect to the server itself: locks and settings belong to connections.",
            )
        if runs_code:
            probe.close()
            raise WorkspaceNotFound(
                f"The schema of {self.label} runs code in place of reading rows.",
                hint="Remove its functions, views, triggers, rules, policies and expressions, or "
                "name another with ?schema=.",
            )
        if not has_schema:
            self.setup_statements = (f"CREATE SCHEMA {self.schema}",)
        if not self.existed and (read_only or not create):
            probe.close()
            raise WorkspaceNotFound(
                f"There is no catalog in {self.label}.",
                hint="jammi_lab.open(path, catalog=…) creates one; jammi_lab.rebuild(path, "
                "catalog=…) creates it from the manifests.",
            )
        if (encoding := probe.info.parameter_status("server_encoding")) != "UTF8":
            probe.close()
            raise InvalidArgument(
                f"The database of {self.label} uses the encoding {encoding}; a catalog needs UTF8."
            )

    def connect(self) -> Any:
        """The next connection to use: first the one that probed the server. Raises as
        `new_connection`."""
        return self._idle_connections.pop() if self._idle_connections else self.new_connection()

    def close(self) -> None:
        while self._idle_connections:
            self._idle_connections.pop().close()

    def translate(self, statement: str) -> str:
        return _translate(statement)

    def begin(self, connection: Connection, *, writing: bool) -> None:
        # READ COMMITTED: each statement sees what was committed before the lock was acquired; a
        # snapshot would be older than the lock
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
        if writing:
            begin = (
                "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT "
                f"pg_advisory_xact_lock({self.lock_key('writes')})"
            )
        connection.raw.execute(begin)

    def has_table(self, connection: Connection, name: str) -> bool:
        # not `to_regclass`, which would look along a search path from before another kernel created
        # the schema
        return bool(
            connection.fetch(
                "SELECT 1 FROM pg_tables WHERE schemaname = :schema AND tablename = :name",
                {"schema": self.schema, "name": name},
            )
        )

    def ddl(self, statement: str) -> str:
        statement = re.sub(r"\bBLOB\b", "BYTEA", statement).removesuffix(" WITHOUT ROWID")
        # an INTEGER of SQLite is as wide as its value needs
        statement = re.sub(r"\bINTEGER\b", "BIGINT", statement)
        # text sorts by code points, as in SQLite, whatever the locale of the database
        return re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', statement)

    def reset(self, connection: Connection) -> None:
        raw = connection.raw
        if raw.closed or raw.info.transaction_status.name == "IDLE":
            return
        # an interrupt came during a statement, whose pending results nobody would read
        if raw.info.transaction_status.name == "ACTIVE":
            raw.close()
        else:
            raw.rollback()

    def is_lost(self, connection: Connection) -> bool:
        return bool(connection.raw.closed)

    def lock_key(self, purpose: str) -> str:
        """The SQL expression for the number of one of this catalog's advisory locks."""
        return f"hashtextextended('jammi_lab {self.schema} {purpose}', 0)"

    def new_connection(self) -> Any:
        """A psycopg connection in autocommit mode. Raises SourceUnavailable, InvalidArgument."""
        with import_modules():
            import psycopg
        settings = {
            **_SESSION_OPTIONS,
            "search_path": self.schema,
            "lock_timeout": int(sqlite.LOCK_SECONDS * 1000),
        }
        session_options = " ".join(
            [
                self._arguments.get("options", ""),
                *(f"-c {name}={value}" for name, value in settings.items()),
            ]
        )
        try:
            connection = psycopg.connect(
                **{**_CONNECTION_DEFAULTS, **self._arguments, "options": session_options.strip()},
                autocommit=True,
            )
        except psycopg.OperationalError as error:
            connection_error = self._unreachable_error(error)
        except psycopg.Error as error:
            connection_error = InvalidArgument(
                f"The catalog's URL cannot be used: {self._redacted_message(error)}.",
                hint=f"It was resolved to {self.label}.",
            )
        else:
            _connections.add(connection)
            return connection
        # raised out here so that the driver's error, which holds the password, is not its context
        raise connection_error

    def to_jammi_error(self, error: BaseException) -> JammiError | None:
        import psycopg

        state = str(getattr(error, "sqlstate", None) or "")
        if isinstance(error, psycopg.OperationalError) and not state:
            state = "lost"  # the server's own errors have a state
        if state in _STATES_OF_OTHER_TABLES:
            return damaged_error(self.label)
        return foreign_errors.to_error(
            "catalog_server",
            f"{state} of a reader" if self.read_only else state,
            catalog=self.label,
            schema=self.schema,
            seconds=sqlite.LOCK_SECONDS,
            reason=self._redacted_message(error),
        )

    def _unreachable_error(self, error: BaseException) -> JammiError:
        unreachable = SourceUnavailable(
            f"The catalog {self.label} cannot be reached: {self._redacted_message(error)}.",
            hint="Check that the server is running and accepts this user; a password can be given "
            "in the URL, in PGPASSWORD or in ~/.pgpass.",
        )
        return of_catalog(unreachable)

    def _redacted_message(self, error: BaseException | None) -> str:
        """The last line of the driver's message, without credentials."""
        lines = []
        for line in str(error).strip().splitlines():
            if not line.strip().startswith("Is the server running"):
                lines.append(line.strip())
        message = (lines or ["no reason given"])[-1].rstrip(".")
        for name in ("password", "sslpassword", "passfile", "oauth_client_secret"):
            if secret := str(self._arguments.get(name, "")):
                message = message.replace(secret, "***")
        return message[:300]


_CONNECTION_DEFAULTS = {
    "application_name": "jammi_lab",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Defaults that a URL can override: without them a connection to a dead server is noticed after two
hours."""
_SESSION_OPTIONS = {
    # a stopped kernel must not block all writers
    "idle_in_transaction_session_timeout": 120_000,
    # on the server's side: the locks of a kernel on a dead machine are released within a minute
    "tcp_keepalives_idle": 30,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
    "client_min_messages": "error",
}
_RUNS_CODE = """
    EXISTS (
        SELECT FROM (SELECT to_regnamespace(%s)::oid AS id) AS own WHERE
        EXISTS (SELECT FROM pg_proc WHERE pronamespace = own.id)
        OR EXISTS (SELECT FROM pg_operator WHERE oprnamespace = own.id)
        OR EXISTS (
            SELECT FROM pg_class AS c WHERE relnamespace = own.id AND (
                relkind <> ALL (ARRAY['r', 'i', 'S', 'c', 't']::"char"[])
                OR relhasrules OR relrowsecurity
                OR EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
                OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid)
                OR EXISTS (SELECT FROM pg_attrdef WHERE adrelid = c.oid)
                OR EXISTS (
                    SELECT FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c'::"char"
                )
                OR EXISTS (  -- on what is not built in
                    SELECT FROM pg_depend WHERE objid = c.oid AND refclassid = ANY
                    (ARRAY['pg_proc', 'pg_operator', 'pg_type']::regclass[]::oid[])
                )
            )
        )
    )
"""
"""Whether a schema has what the catalog never makes: code of somebody else that would run with the
rights of whoever opens it. No operator here has operands of two types, for which one of the schema
would be taken."""
_STATES_OF_OTHER_TABLES = "42P01 42703 3F000 42804 42883 42846 42P21 42P22 22P02 42809".split()
"""The states of a statement that names a table, column or schema which does not exist, or for whose
types or collations the columns have others."""
_connections: "weakref.WeakSet[Any]" = weakref.WeakSet()


def _detach_in_child() -> None:
    """In a forked child, replace each socket with /dev/null.

    Otherwise the child would hold the parent's locks after the parent's death, and closing the
    child's copies would end the parent's sessions on the server.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for connection in list(_connections):
        with contextlib.suppress(Exception):  # a closed connection has no socket
            os.dup2(null, connection.fileno(), inheritable=False)
    os.close(null)


os.register_at_fork(after_in_child=_detach_in_child)


_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_JSON_TEXTS = re.compile(r"SELECT value FROM json_each\((:[a-z_]+)\)")


@functools.lru_cache(maxsize=1024)
def _translate(statement: str) -> str:
    statement = _JSON_TEXTS.sub(r"SELECT jsonb_array_elements_text(CAST(\1 AS jsonb))", statement)
    return _PARAMETER.sub(r"%(\1)s", statement.replace("%", "%%"))


def _parse_url(url: str) -> tuple[dict[str, Any], str]:
    """Parse a URL into psycopg's arguments and the schema. Raises InvalidArgument without repeating
    the URL."""
    scheme, separator, rest = url.partition("://")
    dialect, _, driver = scheme.partition("+")
    if not separator:
        raise InvalidArgument("The catalog's URL cannot be read.", hint=_URL_HINT)
    if dialect not in ("postgresql", "postgres") or driver not in ("", "psycopg"):
        raise InvalidArgument(
            f"{scheme!r} is not supported for a catalog; use a file in the "
            "workspace folder, or PostgreSQL.",
            hint=_URL_HINT,
        )
    plain, schemas = _without_schema(rest)
    try:
        with import_modules():
            from psycopg import conninfo
    except ImportError:
        raise ExtensionMissing(
            "A catalog in PostgreSQL needs the driver psycopg, which is not installed.",
            hint='Run: pip install "jammi-lab[postgres]".',
        ) from None
    arguments: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # the driver's error would repeat the URL as a context
        arguments = dict(conninfo.conninfo_to_dict(f"postgresql://{plain}"))
    if not arguments:
        raise InvalidArgument("The catalog's URL cannot be read.", hint=_URL_HINT)
    if "@" in str(arguments.get("host")):
        # the host would be shown, with a part of the password
        raise InvalidArgument(
            "The catalog's URL has two @.", hint="Write one in a user name or password as %40."
        )
    if not arguments.get("dbname"):
        raise InvalidArgument("The catalog's URL names no database.", hint=_URL_HINT)
    schema = ",".join(schemas) if schemas else _DEFAULT_SCHEMA
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", schema) or schema.startswith("pg_"):
        raise InvalidArgument(
            "A schema name has up to 40 characters of a-z, 0-9 and _, and does not begin "
            "with a digit or pg_.",
            hint=_URL_HINT,
        )
    return arguments, schema


def _without_schema(url: str) -> tuple[str, list[str]]:
    """A URL without the parameter `schema`, and its values."""
    plain, _, query = url.partition("?")
    options = urllib.parse.parse_qsl(query, keep_blank_values=True)
    others = [option for option in options if option[0] != "schema"]
    if others:
        plain += "?" + urllib.parse.urlencode(others, quote_via=urllib.parse.quote)
    return plain, [value for name, value in options if name == "schema"]


def _display_url(arguments: dict[str, Any], schema: str) -> str:
    user, host, port = (str(arguments.get(name) or "") for name in ("user", "host", "port"))
    authority = f"{user}@{host}" if user else host
    return f"postgresql://{authority}{port and ':'}{port}/{arguments['dbname']}" + (
        f"?schema={schema}" if schema != _DEFAULT_SCHEMA else ""
    )


_DEFAULT_SCHEMA = "jammi"
_URL_HINT = (
    'Write it like "postgresql+psycopg://user@host/database", with ?schema=name for one of several '
    "workspaces in a database."
)
