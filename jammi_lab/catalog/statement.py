"""Statements of the catalog: SQL in the common dialect of SQLite and PostgreSQL, with `:name` for a
parameter.

A statement is a constant of its module. Whose rows it reads or changes is said by a condition of
`tenant_scope`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from jammi_lab.catalog.connection import Connection
from jammi_lab.catalog.schema import TABLES
from jammi_lab.core.errors import invalid_row_error

Parameters = Mapping[str, Any]
_SELECT_LIST = re.compile(r"SELECT (?:DISTINCT )?(.*?)\s+FROM ", re.DOTALL)
_COMMA = re.compile(r",\s+(?![^(]*\))")
_COLUMN = re.compile(r"(?:coalesce\()?(\w+)\.(\w+)(?:, ''\))?")
"""An expression that has the values of a column."""


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
