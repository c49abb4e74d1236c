"""PostgreSQL as the database of a catalog, set up so that the code written over SQLite means the same.

One writer at a time, one snapshot for a reader, text that sorts by its code points, an acknowledged commit that is on the server's disk.
"""

import contextlib
import os
import re
import weakref
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from jammi_lab.catalog import dialects
from jammi_lab.catalog.dialects import damaged
from jammi_lab.errors import (
    ExtensionMissing,
    InvalidArgument,
    JammiError,
    ResourceExhausted,
    SourceUnavailable,
    VersionConflict,
    WorkspaceNotFound,
    WorkspaceReadOnly,
)


class Postgres:
    """A catalog in one schema of a PostgreSQL database (`?schema=` of the URL, else `jammi`).

    A transaction that will write takes the catalog's advisory lock as it begins, as SQLite's BEGIN IMMEDIATE does: writers come one after the other,
    so that what one has read holds until it commits, and nothing has to be tried again. A reader sees one snapshot and waits for nobody.

    Raises InvalidArgument for a URL that is none of PostgreSQL, ExtensionMissing without the driver, SourceUnavailable when the server cannot be
    reached or lets nobody in, WorkspaceNotFound when the catalog is not there and not to be made.
    """

    file = None

    def __init__(self, url: str, *, read_only: bool, create: bool) -> None:
        self._arguments, self.schema = _postgres_url(url)
        self.read_only = read_only
        self.label = _postgres_label(self._arguments, self.schema)
        probe = self.connect()
        self._first: list[Any] = [probe]
        """Connections that are open and not used yet."""
        found = probe.execute(
            "SELECT to_regnamespace(%s) IS NOT NULL, to_regclass(%s) IS NOT NULL", [self.schema, f"{self.schema}.migrations"]
        ).fetchone()
        self.existed = bool(found and found[1])
        self.groundwork: tuple[str, ...] = () if found and found[0] else (f"CREATE SCHEMA {self.schema}",)
        if not self.existed and (read_only or not create):
            probe.close()
            raise WorkspaceNotFound(
                f"There is no catalog in {self.label}.",
                hint="jammi_lab.open(path, catalog=…) makes one; jammi_lab.rebuild(path, catalog=…) makes it from the manifests.",
            )
        if (encoding := probe.info.parameter_status("server_encoding")) != "UTF8":
            probe.close()
            raise InvalidArgument(f"The database of {self.label} keeps text as {encoding}; a catalog needs one in UTF8.")

    @property
    def identity(self) -> str:
        return self.label

    def assure(self) -> None:
        pass

    def engine(self) -> sa.Engine:
        engine = sa.create_engine("postgresql+psycopg://", creator=self.taken, poolclass=NullPool, hide_parameters=True)

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            self.reset(connection)
            connection.exec_driver_sql(connection.info["begin"])

        return engine

    def begin(self, *, writing: bool) -> str:
        if writing:  # each statement behind the lock sees what was committed before it was got; one snapshot would be older than the lock
            return f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({self.key('writes')})"
        return "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

    def hurry(self, connection: sa.Connection, *, hasty: bool) -> None:
        pass

    def unsynced(self) -> None:
        return None

    def purge(self, connection: sa.Connection, patience: float) -> bool:  # noqa: ARG002  a dropped table's files are the server's, and removed
        return True

    def state(self, connection: sa.Connection) -> None:  # noqa: ARG002  asking a server is a round trip, as reading is
        return None

    def ddl(self, statement: str) -> str:
        if statement.startswith("CREATE TRIGGER"):
            return ""
        statement = re.sub(r"\bBLOB\b", "BYTEA", statement).removesuffix(" WITHOUT ROWID")
        statement = re.sub(r"\bINTEGER\b", "BIGINT", statement)  # which in SQLite is as wide as it needs
        return re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', statement)  # text sorts by its code points, as in SQLite, whatever the database's language

    def reset(self, connection: sa.Connection) -> None:
        raw: Any = connection.connection.dbapi_connection
        if raw.closed or raw.info.transaction_status.name == "IDLE":
            return
        if raw.info.transaction_status.name == "ACTIVE":  # an interrupt fell into a statement: what it still answers is nobody's
            raw.close()
        else:
            raw.rollback()

    def key(self, what: str) -> str:
        """The SQL of the number of an advisory lock of this catalog."""
        return f"hashtextextended('jammi_lab {self.schema} {what}', 0)"

    def connect(self) -> Any:
        """A connection of psycopg that commits each statement by itself. ExtensionMissing, SourceUnavailable, InvalidArgument."""
        try:
            import psycopg
        except ImportError:
            raise ExtensionMissing(
                "A catalog in PostgreSQL needs the driver psycopg, which is not installed.", hint='Run: pip install "jammi-lab[postgres]".'
            ) from None
        options = (f"{name}={value}" for name, value in _SESSION.items())
        given = self._arguments.get("options", "")
        session = " ".join(
            [given, *(f"-c {option}" for option in (*options, f"search_path={self.schema}", f"lock_timeout={int(dialects.LOCK_SECONDS * 1000)}"))]
        )
        try:
            connection = psycopg.connect(**{**_KEPT_ALIVE, **self._arguments, "options": session.strip()}, autocommit=True)
        except psycopg.OperationalError as error:
            refused = self._unreachable(error)
        except psycopg.Error as error:
            refused = InvalidArgument(f"The catalog's URL cannot be used: {self._redacted(error)}.", hint=f"It led to {self.label}.")
        else:
            _connections.add(connection)
            return connection
        raise refused  # out here, or it would keep the driver's error as its context, which holds the password

    def taken(self) -> Any:
        """The next connection that is to be used: at first the one that the server was asked by."""
        return self._first.pop() if self._first else self.connect()

    def explain(self, error: sa.exc.DBAPIError) -> JammiError | None:
        return self.typed(error.orig, lost=error.connection_invalidated)

    def typed(self, error: BaseException | None, *, lost: bool = False) -> JammiError | None:
        """The typed error of an error of psycopg; None when it is a defect of ours."""
        state = str(getattr(error, "sqlstate", None) or "")
        if lost or state[:2] == "08" or state in ("57P01", "57P02", "57P03", "57P05", "25P03"):
            return SourceUnavailable(
                f"The connection to the catalog {self.label} was lost.",
                hint="What was under way was not done, unless it was just being acknowledged; the next call connects again.",
            )
        match state[:2], state:
            case (_, "55P03") | ("40", _):
                return VersionConflict(
                    f"Another kernel kept the catalog {self.label} locked for {dialects.LOCK_SECONDS} seconds; nothing was changed.",
                    hint="Try again when it is done.",
                )
            case ("53", _):
                return ResourceExhausted(
                    f"The server of the catalog {self.label} has no more room: {self._redacted(error)}; nothing was changed.",
                    hint="See to the server.",
                )
            case (_, "42501" | "25006"):
                return WorkspaceReadOnly(
                    f"The catalog {self.label} cannot be written to: {self._redacted(error)}.",
                    hint="Open it with read_only=True, or as a user who may write.",
                )
            case (_, "42P01" | "42703" | "3F000"):
                return damaged(self.label)
            case (_, "57014"):
                return SourceUnavailable(f"The catalog {self.label} did not finish: {self._redacted(error)}.", hint="Try again.")
        return None

    def _unreachable(self, error: BaseException) -> JammiError:
        return SourceUnavailable(
            f"The catalog {self.label} cannot be reached: {self._redacted(error)}.",
            hint="See whether the server runs and lets this user in; a password can stand in the URL, in PGPASSWORD or in ~/.pgpass.",
        )

    def _redacted(self, error: BaseException | None) -> str:
        """The last line of what the driver says, without the values of what was passed to it."""
        lines = [line.strip() for line in str(error).strip().splitlines() if not line.strip().startswith("Is the server running")]
        said = (lines or ["no reason given"])[-1].rstrip(".")
        for name in ("password", "sslpassword", "passfile", "oauth_client_secret"):
            if secret := str(self._arguments.get(name, "")):
                said = said.replace(secret, "***")
        return said[:300]


_KEPT_ALIVE = {
    "application_name": "jammi_lab",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""What a URL may say otherwise: without it a connection whose server is gone is noticed after two hours."""
_SESSION = {
    "idle_in_transaction_session_timeout": 120_000,  # a stopped kernel does not keep everybody from writing
    "tcp_keepalives_idle": 30,  # the server's side: the lock of a kernel whose machine is gone is freed within a minute
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
    "client_min_messages": "error",
}
_connections: "weakref.WeakSet[Any]" = weakref.WeakSet()


def _leave_to_the_parent() -> None:
    """In a forked child: put /dev/null in the place of each socket. Otherwise the child would hold the parent's locks after its death, and the end of
    the child's copies would say goodbye to the server in the parent's name."""
    null = os.open(os.devnull, os.O_RDWR)
    for connection in list(_connections):
        with contextlib.suppress(Exception):  # a connection that is closed has no socket
            os.dup2(null, connection.fileno(), inheritable=False)
    os.close(null)


os.register_at_fork(after_in_child=_leave_to_the_parent)


def _postgres_url(url: str) -> tuple[dict[str, Any], str]:
    """What psycopg takes, and the schema. InvalidArgument, which does not repeat the URL."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise InvalidArgument("The catalog's URL cannot be read.", hint=_POSTGRES_FORM) from None
    if parsed.drivername.split("+")[0] not in ("postgresql", "postgres") or parsed.drivername.partition("+")[2] not in ("", "psycopg"):
        raise InvalidArgument(
            f"A catalog cannot be kept by {parsed.drivername!r}; it is a file of its folder, or in PostgreSQL.", hint=_POSTGRES_FORM
        )
    if not parsed.database:
        raise InvalidArgument("The catalog's URL names no database.", hint=_POSTGRES_FORM)
    schema = parsed.query.get("schema", _SCHEMA)
    if not isinstance(schema, str) or not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", schema) or schema.startswith("pg_"):
        raise InvalidArgument("A catalog's schema is up to 40 of a-z, 0-9 and _, not beginning with a digit or pg_.", hint=_POSTGRES_FORM)
    plain = parsed.set(drivername="postgresql+psycopg").difference_update_query(["schema"])
    return dict(plain.get_dialect()().create_connect_args(plain)[1]), schema


def _postgres_label(arguments: dict[str, Any], schema: str) -> str:
    user, host, port = (str(arguments.get(name) or "") for name in ("user", "host", "port"))
    place = f"{user}@{host}" if user else host
    return f"postgresql://{place}{port and ':'}{port}/{arguments['dbname']}" + (f"?schema={schema}" if schema != _SCHEMA else "")


_SCHEMA = "jammi"
_POSTGRES_FORM = 'Write it like "postgresql+psycopg://user@host/database", with ?schema=name for one of several workspaces in a database.'
