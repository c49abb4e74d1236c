"""Statements passed to the driver directly, for hot paths: those that run at every commit or over
many rows. SQLAlchemy's work around a statement costs several times what SQLite needs to run it.

Values go in as the driver takes them and come back as it returns them: numbers, text and bytes,
which both drivers support.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class _TextsOf(FunctionElement[str]):
    """The texts of a JSON list, which is one parameter however many they are."""

    inherit_cache = True


@compiles(_TextsOf)
def _texts_of_sqlite(element: _TextsOf, compiler: Any, **_: Any) -> str:
    return f"(SELECT value FROM json_each{compiler.process(element.clause_expr)})"


@compiles(_TextsOf, "postgresql")
def _texts_of_postgres(element: _TextsOf, compiler: Any, **_: Any) -> str:
    texts = compiler.process(element.clause_expr)
    return f"(SELECT jsonb_array_elements_text(CAST({texts} AS jsonb)))"


def is_listed(column: sa.ColumnElement[Any], parameter: str) -> sa.ColumnElement[bool]:
    """Whether a column is one of the texts of a parameter that `text_list` made."""
    return column.bool_op("IN")(_TextsOf(sa.bindparam(parameter, type_=sa.Text)))


def text_list(texts: Iterable[str]) -> str:
    """The value of a parameter for `is_listed`."""
    return msgspec.json.encode(sorted(texts)).decode()


def fetch(tx: sa.Connection, text: str, parameters: Any = ()) -> list[Any]:
    """The rows that a statement returns. Raises as `tx.execute`."""
    raw = tx.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):
        return list(tx.exec_driver_sql(text, parameters).all())
    try:
        return raw.execute(text, parameters).fetchall()
    except sqlite3.Error as error:
        raise sa.exc.DBAPIError("a statement of the catalog", None, error) from None


def execute(tx: sa.Connection, text: str, parameters: Any = (), *, many: bool = False) -> int:
    """Run a statement that changes rows; return the number of rows. With `many`, run it once per
    set of values. Raises as `tx.execute`."""
    raw = tx.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):
        return tx.exec_driver_sql(text, parameters).rowcount
    try:
        return (raw.executemany if many else raw.execute)(text, parameters).rowcount
    except sqlite3.Error as error:
        raise sa.exc.DBAPIError("a statement of the catalog", None, error) from None


class CompiledStatement:
    """A statement built like all others, tenant predicate included, and compiled once per dialect.
    Every call must bind the same parameter names."""

    def __init__(self, statement: sa.Executable) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, list[str] | None, dict[str, Any]]] = {}

    def fetch(self, tx: sa.Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the rows for these parameters. Raises as `tx.execute`."""
        return fetch(tx, *self._compile_with(tx, parameters))

    def execute(self, tx: sa.Connection, parameters: Mapping[str, Any]) -> int:
        """Run it with these parameters; return the number of changed rows. Raises as
        `tx.execute`."""
        return execute(tx, *self._compile_with(tx, parameters))

    def execute_many(self, tx: sa.Connection, parameter_sets: Sequence[Mapping[str, Any]]) -> int:
        """Run it once per set of parameters; return the total number of changed rows. Raises as
        `tx.execute`."""
        if not parameter_sets:
            return 0
        compiled = [self._compile_with(tx, parameters) for parameters in parameter_sets]
        return execute(tx, compiled[0][0], [values for _, values in compiled], many=True)

    def _compile_with(self, tx: sa.Connection, parameters: Mapping[str, Any]) -> tuple[str, Any]:
        compiled = self._compiled.get(tx.dialect.name)
        if compiled is None:
            compiled = self._compiled[tx.dialect.name] = self._compile(tx.dialect, list(parameters))
        text, order, constants = compiled
        if order is None:
            return text, {**constants, **parameters}
        return text, tuple(
            [parameters[name] if name in parameters else constants[name] for name in order]
        )

    def _compile(
        self, dialect: sa.Dialect, names: list[str]
    ) -> tuple[str, list[str] | None, dict[str, Any]]:
        options = (
            {"column_keys": names} if isinstance(self._statement, sa.sql.dml.ValuesBase) else {}
        )
        compiled: Any = self._statement.compile(dialect=dialect, **options)  # type: ignore[attr-defined]  # every Executable has it
        return (
            str(compiled),
            compiled.positiontup if compiled.positional else None,
            {k: v for k, v in compiled.params.items() if v is not None},
        )
