"""Statements that are handed to the driver as they are, for what runs at every commit or goes over many rows: what SQLAlchemy does around one costs
several times what SQLite takes for it.

Values are given as the driver takes them, and come back as it gives them: numbers, text and bytes, which both drivers know.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa


def rows(tx: sa.Connection, text: str, given: Any = ()) -> list[Any]:
    """What a statement reads. Raises as `tx.execute`."""
    raw = tx.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):
        return list(tx.exec_driver_sql(text, given).all())
    try:
        return raw.execute(text, given).fetchall()
    except sqlite3.Error as error:
        raise sa.exc.DBAPIError("a statement of the catalog", None, error) from None


def change(tx: sa.Connection, text: str, given: Any = (), *, many: bool = False) -> int:
    """Run a statement that changes rows, once, or once for each of `many` sets of values; how many rows. Raises as `tx.execute`."""
    raw = tx.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):
        return tx.exec_driver_sql(text, given).rowcount
    try:
        return (raw.executemany if many else raw.execute)(text, given).rowcount
    except sqlite3.Error as error:
        raise sa.exc.DBAPIError("a statement of the catalog", None, error) from None


class Direct:
    """A statement that is written like all others, tenant predicate and all, and compiled once: it is given values for the same names each time."""

    def __init__(self, statement: sa.Executable) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, list[str] | None, dict[str, Any]]] = {}

    def rows(self, tx: sa.Connection, given: Mapping[str, Any]) -> list[Any]:
        """What it reads with these values for its parameters. Raises as `tx.execute`."""
        return rows(tx, *self._bound(tx, given))

    def change(self, tx: sa.Connection, given: Mapping[str, Any]) -> int:
        """How many rows it changes. Raises as `tx.execute`."""
        return change(tx, *self._bound(tx, given))

    def change_all(self, tx: sa.Connection, given: Sequence[Mapping[str, Any]]) -> int:
        """How many rows it changes in all, when it is run for each of some sets of values. Raises as `tx.execute`."""
        if not given:
            return 0
        bound = [self._bound(tx, each) for each in given]
        return change(tx, bound[0][0], [values for _, values in bound], many=True)

    def _bound(self, tx: sa.Connection, given: Mapping[str, Any]) -> tuple[str, Any]:
        found = self._compiled.get(tx.dialect.name)
        if found is None:
            found = self._compiled[tx.dialect.name] = self._compile(tx.dialect, list(given))
        text, order, own = found
        if order is None:
            return text, {**own, **given}
        return text, tuple([given[name] if name in given else own[name] for name in order])

    def _compile(self, dialect: sa.Dialect, given: list[str]) -> tuple[str, list[str] | None, dict[str, Any]]:
        names = {"column_keys": given} if isinstance(self._statement, sa.sql.dml.ValuesBase) else {}
        made: Any = self._statement.compile(dialect=dialect, **names)  # type: ignore[attr-defined]  # every Executable has it
        return str(made), made.positiontup if made.positional else None, {k: v for k, v in made.params.items() if v is not None}
