"""What messages of database servers mean: unreachable hosts, rejected logins, lost connections."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jammi_lab.core.errors import SourceUnavailable

ErrorTable = Sequence[tuple[str, str, str]]
"""What messages mean: a pattern, the reason (with the groups of the pattern) and the hint; an empty
hint stands for that of a rejected credential."""
UNREACHABLE_ERRORS: ErrorTable = (
    (
        r"Unknown (?:MySQL )?server host|could not translate host name|Name or service not known",
        "the host name is unknown",
        "Check the host in the URL.",
    ),
    (
        (
            r"Can't connect|could not connect|Connection refused|No route to host|Network is "
            r"unreachable"
        ),
        "nothing listens on that host and port",
        "Check that the server is running, and the host and port.",
    ),
)
OVERLOADED_ERRORS: ErrorTable = (
    (
        r"[Tt]oo many connections|remaining connection slots",
        "it has too many connections",
        "Try again later.",
    ),
)


POSTGRES_MESSAGE = re.compile(
    r"Failed to |Unable to connect to Postgres|.*to read a Postgres |(?:.*: )?ERROR:|server "
    r"closed the connection|.*connection to server|.*COPY data from Postgres|"
    r"no connection to the server|SSL SYSCALL"
)
"""How messages of the extension, libpq and the server begin; others are not about the server."""
_POSTGRES_LOST_CONNECTION = (
    r"starting up|shutting down|terminating connection|server closed the "
    r"connection|connection to server was lost|Connection reset|SSL SYSCALL|"
    r"no connection to the server|Broken pipe"
)
POSTGRES_ERRORS: ErrorTable = (
    (r"authentication failed|no password supplied|SCRAM|no pg_hba\.conf entry", "login failed", ""),
    (r'role "[^"]*" does not exist', "the user does not exist", "Check the user in the URL."),
    (
        r'database "([^"]*)" does not exist',
        "the database does not exist",
        "Check the database at the end of the URL.",
    ),
    *UNREACHABLE_ERRORS,
    (
        r"timeout expired|Connection timed out|timed out",
        "it does not respond",
        "Check that the server is running, and the host and port.",
    ),
    (_POSTGRES_LOST_CONNECTION, "the connection was lost", "Run the statement again."),
    (r"SSL|certificate", "the TLS negotiation failed", "Check sslmode and sslrootcert in the URL."),
    *OVERLOADED_ERRORS,
    (
        r"unsupported startup parameter",
        "its connection pooler rejects startup options",
        "Connect to the server directly, or let the pooler ignore `options`.",
    ),
)


def postgres_query_error(text: str, source: str) -> SourceUnavailable | None:
    """The error for a server that rejected or cancelled a query; None for any other message."""
    if denied := re.search(r"permission denied for (\w+ ?\w*) (\S+)", text):
        return SourceUnavailable(
            f"{denied[1].capitalize()} {denied[2]} of the source {source!r} cannot be read: "
            "permission denied.",
            hint="Ask its owner for read permission.",
        )
    if missing := re.search(r'relation "([^"]*)" does not exist', text):
        return SourceUnavailable(
            f"The table {missing[1]} no longer exists on the server.",
            hint="Restore it, or remove what reads it.",
        )
    if missing := re.search(
        r'column "?([^"\s]*)"? does not exist|has no column named "?([^"\s]*)"?', text
    ):
        return SourceUnavailable(
            f"The column {missing[1] or missing[2]} no longer exists on the server.",
            hint="Run the statement again to refresh the columns.",
        )
    if re.search(
        r"canceling statement due to|could not serialize|deadlock detected|snapshot too "
        r"old|conflict with recovery",
        text,
    ):
        return SourceUnavailable("The server cancelled the query.", hint="Run the statement again.")
    # The scanner reads the binary format of the columns as they were when it was bound.
    if re.search(r"bytes to read a Postgres|Postgres.*(?:binary|decimal)|Got \d+ bytes", text):
        return SourceUnavailable(
            "The definition of a table changed during the read.", hint="Run the statement again."
        )
    return None


MYSQL_ERRORS: ErrorTable = (
    (
        r"Access denied for user '[^']*'@'[^']*' to database '([^']*)'",
        "this user has no access to the database {0}",
        "Ask its owner for read permission.",
    ),
    (r"Access denied for user", "login failed", ""),
    (
        r"SELECT command denied to user \S+ for (?:table|column) (.+?)(?: in table.*)?\s*$",
        "{0} cannot be read, permission denied",
        "Ask its owner for read permission.",
    ),
    (
        r"Unknown database '([^']*)'",
        "the database {0} does not exist",
        "Check the database at the end of the URL.",
    ),
    (
        r"Table '([^']*)' doesn't exist",
        "the table {0} no longer exists",
        "Restore it, or remove what reads it.",
    ),
    (
        r"Unknown column '([^']*)'",
        "the column {0} no longer exists",
        "Run the statement again to refresh the columns.",
    ),
    *UNREACHABLE_ERRORS,
    (
        r"Lost connection|gone away|Connection was killed|shutdown in progress",
        "the connection was lost",
        "Run the statement again.",
    ),
    (
        r"execution was interrupted|max_statement_time|Lock wait timeout|Deadlock",
        "the server cancelled the query",
        "Run the statement again.",
    ),
    *OVERLOADED_ERRORS,
    (
        r"[Tt]able definition has changed",
        "the definition of a table changed during the read",
        "Run the statement again.",
    ),
    (r"SSL|TLS|certificate", "the TLS negotiation failed", "Check ssl_mode and ssl_ca in the URL."),
)
