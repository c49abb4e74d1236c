"""The connection of one thread to the catalog's database, and the statements that run on it.
`Dialect` is what differs between databases: opening connections, beginning transactions, errors.

A statement is SQL in the common dialect of SQLite and PostgreSQL, with `:name` for a parameter, and
a constant of its module. Whose rows it reads or changes is said by a condition of `tenant_scope`.
"""

import re
import sqlite3
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec

from jammi_lab.catalog.schema import TABLES
from jammi_lab.core.errors import JammiError, invalid_row_error
from jammi_lab.core.interrupts import DeferInterrupts

Parameters = Mapping[str, Any]
_NO_PARAMETERS: Parameters = {}
_SELECT_LIST = re.compile(r"SELECT (?:DISTINCT )?(.*?)\s+FROM ", re.DOTALL)
_COMMA = re.compile(r",\s+(?![^(]*\))")
_COLUMN = re.compile(r"(?:coalesce\()?(\w+)\.(\w+)(?:, ''\))?")
"""An expression that has the values of a column."""


def driver_errors() -> tuple[type[Exception], ...]:
    """What the drivers in use raise."""
    psycopg = sys.modules.get("psycopg")
    return (sqlite3.Error,) if psycopg is None else (sqlite3.Error, psycopg.Error)


class Dialect:
    """What `Database` needs from the database behind it: what differs between databases, and what
    most of them do."""

    label: str
    """The display name of the catalog, without credentials."""
    existed: bool
    """Whether the catalog existed before it was opened."""
    log_is_damaged = False
    """Whether the catalog lacked acknowledged commits when it was opened."""
    file: Path | None = None
    """The file that holds the whole catalog, if there is one."""
    setup_statements: tuple[str, ...] = ()
    """Statements that run before the tables are created."""

    @property
    def identity(self) -> Hashable:
        """Equal for all handles of this database; defined once it has been connected to."""
        return self.label

    def check_unchanged(self) -> None:
        """Raise WorkspaceNotFound when the opened file no longer exists at its path."""

    def connect(self) -> Any:
        """A connection of the driver that is ready to use, outside of a transaction."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what belongs to no connection."""

    def translate(self, statement: str) -> str:
        """A statement, with `:name` for its parameters, for the driver."""
        return statement

    def ddl(self, statement: str) -> str:
        """Translate a statement that creates a table or an index for this database."""
        return statement

    def has_table(self, connection: "Connection", name: str) -> bool:
        """Whether the catalog has a table of that name."""
        raise NotImplementedError

    def begin(self, connection: "Connection", *, writing: bool) -> None:
        """Begin a transaction."""
        raise NotImplementedError

    def reset(self, connection: "Connection") -> None:
        """Roll back the transaction of a connection, if it is in one."""
        raise NotImplementedError

    def is_lost(self, connection: "Connection") -> bool:  # noqa: ARG002
        """Whether the database has ended a connection."""
        return False

    def acknowledge_commits(self) -> None:
        """Make a loss of the commits that follow noticeable to the next handle. A server has no
        such loss."""

    def commit(self, connection: "Connection") -> None:
        """Commit a transaction that writes."""
        connection.raw.commit()

    def set_durability(self, connection: "Connection", *, no_fsync: bool) -> None:
        """Choose whether the commits of a connection skip fsync. A server's never do."""

    def open_unsynced_log(self) -> FileIO | None:
        """Open the file that holds commits without fsync until it is synced; None where commits are
        durable. Raises OSError."""
        return None

    def purge(self, connection: "Connection", timeout: float) -> bool:  # noqa: ARG002
        """Truncate the database's log; return whether no deleted value is in it any more. A file
        may have to wait that many seconds for readers; a server removes a dropped table's files."""
        return True

    def change_token(self, connection: "Connection") -> Hashable:  # noqa: ARG002
        """A token that changes whenever anybody commits, comparable on one connection; None where
        getting it would cost as much as reading, as a round trip to a server does. Inside a
        transaction it stands for what that one reads, with its own changes."""
        return None

    def to_jammi_error(self, error: BaseException) -> JammiError | None:
        """The JammiError for a driver's error; None for a defect of ours."""
        raise NotImplementedError


class Connection:
    """A connection of the driver. The methods raise the driver's errors, and a deferred interrupt
    before the statement is run."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.raw: Any = dialect.connect()
        """The driver's connection; both drivers have the methods used here."""
        self.closed = False
        self.no_fsync = False
        """Whether its commits skip fsync; True, too, when an interrupt left that undecided."""
        self.checkpoint_limit: int | None = None
        """The number of pages of the log at which SQLite begins a checkpoint, once it was set."""
        self.changes = 0
        """How many rows it had changed when its transaction began."""

    def fetch(self, text: str, parameters: Parameters = _NO_PARAMETERS) -> list[Any]:
        """The rows of a statement, as tuples."""
        DeferInterrupts.checkpoint()
        rows: list[Any] = self.raw.execute(self.dialect.translate(text), parameters).fetchall()
        return rows

    def execute(self, text: str, parameters: Parameters = _NO_PARAMETERS) -> int:
        """Run a statement; return the number of changed rows."""
        DeferInterrupts.checkpoint()
        changed: int = self.raw.execute(self.dialect.translate(text), parameters).rowcount
        return changed

    def execute_many(self, text: str, parameter_sets: Sequence[Parameters]) -> int:
        """Run a statement once per set of parameters; return the total number of changed rows."""
        DeferInterrupts.checkpoint()
        cursor = self.raw.cursor()
        cursor.executemany(self.dialect.translate(text), parameter_sets)
        changed: int = cursor.rowcount
        return changed

    def close(self) -> None:
        """Close it. Idempotent."""
        self.closed = True
        self.raw.close()


def is_listed(column: str, parameter: str) -> str:
    """The condition that a column is one of the texts of a parameter that `text_list` made."""
    return f"{column} IN (SELECT value FROM json_each(:{parameter}))"


def text_list(texts: Iterable[str]) -> str:
    """The value of a parameter for `is_listed`: one parameter, however many texts there are."""
    return msgspec.json.encode(sorted(texts)).decode()


class Statement:
    """A statement. Raises the driver's errors, which `Database` translates.

    SQLite stores any value in any column, and somebody else may have written the file, so the types
    of what a SELECT returns are checked: by the columns that it names as `table.column`, or by
    those of `columns`, such a list.
    """

    def __init__(self, text: str, columns: str = "") -> None:
        self.text = text
        selected = _SELECT_LIST.match(text)
        listed = columns or (selected[1] if selected else "")
        self._types = [_types_of(expression) for expression in _COMMA.split(listed)]

    def fetch(self, tx: Connection, parameters: Parameters) -> list[Any]:
        """Return the rows for these parameters. Raises TableDamaged."""
        rows = tx.fetch(self.text, parameters)
        for types, values in zip(self._types, zip(*rows, strict=True), strict=False):
            if types is not None and not types.issuperset(map(type, values)):
                raise invalid_row_error()
        return rows

    def execute(self, tx: Connection, parameters: Parameters) -> int:
        """Run it with these parameters; return the number of changed rows."""
        return tx.execute(self.text, parameters)

    def execute_many(self, tx: Connection, parameter_sets: Sequence[Parameters]) -> int:
        """Run it once per set of parameters; return the total number of changed rows."""
        return tx.execute_many(self.text, parameter_sets) if parameter_sets else 0


class AllTenantsStatement(Statement):
    """A statement over the rows of all tenants: for results that must not depend on the bound
    tenant, such as whether a writer has left anything, and for the consequences of a change in
    another row."""


def _types_of(expression: str) -> set[type] | None:
    """The types of the values that an expression of a SELECT may have; None for any."""
    column = _COLUMN.fullmatch(expression)
    if column is None or column[1] not in TABLES:
        return None
    return TABLES[column[1]].columns[column[2]].types
