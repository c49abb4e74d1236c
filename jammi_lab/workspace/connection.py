"""A read-only connection by DB-API 2.0 (PEP 249), for tools that read SQL through one."""

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from jammi_lab.core.errors import InvalidArgument, JammiError

if TYPE_CHECKING:
    from jammi_lab.workspace.statement_runner import StatementRunner

Description = list[tuple[str, str, None, None, None, None, None]]


class ReadConnection:
    """A read-only DB-API 2.0 connection to a workspace. Closing it leaves the workspace open, and a
    commit or rollback has nothing to do."""

    dialect = "duckdb"
    """The SQL that it takes, as marimo asks for it."""
    paramstyle = "named"
    """The nearest of the standard's styles: values are bound by name, but written as `$name`."""
    Error = JammiError

    def __init__(self, statements: "StatementRunner") -> None:
        self._statements = statements

    def cursor(self) -> "ReadCursor":
        """A cursor, which runs statements."""
        return ReadCursor(self._statements)

    def commit(self) -> None:
        """Do nothing: nothing was written, and the workspace stays open."""

    rollback = close = commit


class ReadCursor:
    """Runs statements that only read. Reading rows of tables that are not fresh is a RuntimeWarning
    with the verdict."""

    rowcount = -1
    arraysize = 1

    def __init__(self, statements: "StatementRunner") -> None:
        self._statements = statements
        self.description: Description | None = None
        """The columns of the last statement: name and SQL type, and five times None."""
        self._rows: Iterator[tuple[Any, ...]] = iter(())

    def execute(
        self, operation: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> Self:
        """Run statements in order; the rows are those of the last one. Values are bound by name, as
        `$name`. Raises as `ws.sql`; StatementNotAllowed for one that writes."""
        if parameters and not isinstance(parameters, Mapping):
            raise InvalidArgument(
                "Parameters are bound by name.", hint="Write $name, and pass {'name': value}."
            )
        result = self._statements.read(operation, dict(parameters or {}))
        if sentence := result.verdict:
            warnings.warn(sentence, RuntimeWarning, stacklevel=2)
        self._rows = iter(result.fetchall())
        self.description = [
            (name, kind, None, None, None, None, None)
            for name, kind in zip(result.columns, result._types, strict=True)
        ]
        return self

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None after the last one."""
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next `size` rows."""
        return list(itertools.islice(self._rows, self.arraysize if size is None else size))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that are left."""
        return list(self._rows)

    def close(self) -> None:
        """Forget the rows that are left."""
        self._rows = iter(())
