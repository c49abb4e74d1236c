"""The connection of one thread to the catalog's database."""

import sqlite3
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.core.interrupts import DeferInterrupts

if TYPE_CHECKING:
    from jammi_lab.catalog.sqlite import Dialect

_NO_PARAMETERS: Mapping[str, Any] = {}


def driver_errors() -> tuple[type[Exception], ...]:
    """What the drivers in use raise."""
    psycopg = sys.modules.get("psycopg")
    return (sqlite3.Error,) if psycopg is None else (sqlite3.Error, psycopg.Error)


class Connection:
    """A connection of the driver. The methods raise the driver's errors, and a deferred interrupt
    before the statement is run."""

    def __init__(self, dialect: "Dialect") -> None:
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

    def fetch(self, text: str, parameters: Mapping[str, Any] = _NO_PARAMETERS) -> list[Any]:
        """The rows of a statement, as tuples."""
        DeferInterrupts.checkpoint()
        rows: list[Any] = self.raw.execute(self.dialect.translate(text), parameters).fetchall()
        return rows

    def execute(self, text: str, parameters: Mapping[str, Any] = _NO_PARAMETERS) -> int:
        """Run a statement; return the number of changed rows."""
        DeferInterrupts.checkpoint()
        changed: int = self.raw.execute(self.dialect.translate(text), parameters).rowcount
        return changed

    def execute_many(self, text: str, parameter_sets: Sequence[Mapping[str, Any]]) -> int:
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
