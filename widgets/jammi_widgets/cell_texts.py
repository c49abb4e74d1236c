"""Table rows as display texts, and lookup of rows by the text of their keys."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.core.display_values import to_display, to_rows_display
from jammi_lab.core.errors import RowNotFound
from jammi_lab.core.html import to_text

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.workspace.workspace import Workspace

KINDS_WITH_SCHEMAS = ("duckdb", "postgresql", "mysql")
"""Source kinds with table names of the form `schema.table`; in other kinds a dot is part of the
name."""
DATABASE_KINDS = (*KINDS_WITH_SCHEMAS, "sqlite", "connection")
"""Source kinds whose own name does not refer to a table."""
MAX_VALUE_CHARS = 200
"""Maximum number of characters of a value in a table preview."""


def column_texts(column: "pa.ChunkedArray", max_chars: int) -> list[str | None]:
    """The exact values of a column as texts of at most `max_chars` characters; None for NULL."""
    return [None if value is None else to_text(value)[:max_chars] for value in to_display(column)]


def row_texts(rows: "pa.Table", columns: Sequence[str], max_chars: int) -> list[list[str | None]]:
    """The values of some columns as texts, row by row."""
    texts = [column_texts(rows[column], max_chars) for column in columns]
    return [[column[index] for column in texts] for index in range(len(rows))]


def first_rows(ws: "Workspace", relation: str, max_rows: int) -> dict[str, list[Any]]:
    """The column names and the first rows of a relation, as texts."""
    return table_texts(ws.sql(f"SELECT * FROM {relation} LIMIT {max_rows}").arrow())


def table_texts(table: "pa.Table") -> dict[str, list[Any]]:
    """The column names and the rows of a table, as texts."""
    rows = to_rows_display(table)
    texts = [["NULL" if v is None else to_text(v)[:MAX_VALUE_CHARS] for v in row] for row in rows]
    return {"columns": table.column_names, "rows": texts}


def column_types(ws: "Workspace", relation: str) -> list[tuple[str, str]]:
    """Names and SQL types of the columns of a relation."""
    result = ws.sql(f"SELECT * FROM {relation} LIMIT 0")
    return list(zip(result.columns, result._types, strict=True))


class KeyIndex:
    """Maps the displayed text of a row's key to the row number."""

    def __init__(self, keys: "pa.Array") -> None:
        self.keys = keys

    @functools.cached_property
    def _texts(self) -> "pa.Array":
        import pyarrow as pa

        key_type = self.keys.type
        if pa.types.is_string(key_type):
            return self.keys
        return (
            self.keys.cast(pa.string())
            if pa.types.is_integer(key_type)
            else pa.array([to_text(k) for k in self.keys.to_pylist()], pa.string())
        )

    def _positions(self, names: Sequence[str]) -> "NDArray[np.int64]":
        """The row number of each name; −1 if there is none."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        positions = pc.index_in(pa.array(names, pa.string()), value_set=self._texts).fill_null(-1)
        return np.asarray(positions, np.int64)

    def row_numbers(self, names: Sequence[str], table: str) -> "NDArray[np.int64]":
        """The row numbers of these names, ascending and without duplicates. RowNotFound for the
        first name that is not in `table`."""
        import numpy as np

        positions = self._positions(names)
        if (positions < 0).any():
            raise RowNotFound(
                f"{table!r} has no row with the key {names[int((positions < 0).argmax())]!r}."
            )
        return np.unique(positions)

    def existing_names(self, names: Sequence[str]) -> list[str]:
        """The names that have a row."""
        return [
            name
            for name, position in zip(names, self._positions(names), strict=True)
            if position >= 0
        ]

    def texts_at(self, row_numbers: "NDArray[np.int64]") -> list[str]:
        """The displayed keys of these rows."""
        import pyarrow as pa

        texts: list[str] = self._texts.take(pa.array(row_numbers)).to_pylist()
        return texts

    def keys_at(self, row_numbers: "NDArray[np.int64]") -> "pa.Array":
        """The keys of these rows in their own type."""
        import pyarrow as pa

        return self.keys.take(pa.array(row_numbers))
