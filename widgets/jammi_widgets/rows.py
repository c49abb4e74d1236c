"""Rows as a page shows them: as texts, and by their keys."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.errors import RowNotFound
from jammi_lab.markup import as_text
from jammi_lab.people import for_people

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.registered import Source
    from jammi_lab.workspace import Workspace

WITH_SCHEMAS = ("duckdb", "postgresql", "mysql")
"""Kinds of sources that call a table `schema.table`; in others a point is part of the name."""
DATABASES = (*WITH_SCHEMAS, "sqlite")
"""Kinds of sources whose own name is no table."""
_FEW = 8
"""Of so many rows each is looked for by itself; for more, the keys of all are put in order once."""
MOST_OF_A_VALUE = 200
"""Characters of a value that a look into a table shows."""


def holds_tables(source: "Source") -> bool:
    """Whether it is a database, whose own name is no table, whatever it holds. Nothing is asked or read for it."""
    return source.kind in DATABASES


def texts_of(column: "pa.ChunkedArray", most: int) -> list[str | None]:
    """The values of a column, so many characters of each; None is NULL."""
    return [None if value is None else as_text(value)[:most] for value in for_people(column)]


def first_rows(ws: "Workspace", relation: str, most: int) -> dict[str, list[Any]]:
    """The first rows of what FROM calls so, with the names of the columns."""
    found = ws.sql(f"SELECT * FROM {relation} LIMIT {most}").arrow()
    columns = [["NULL" if text is None else text for text in texts_of(column, MOST_OF_A_VALUE)] for column in found.columns]
    return {"columns": found.column_names, "rows": [list(row) for row in zip(*columns, strict=True)]}


def columns_of(ws: "Workspace", relation: str) -> list[tuple[str, str]]:
    """Names and SQL types of the columns of what FROM calls so."""
    found = ws.sql(f"SELECT * FROM {relation} LIMIT 0")
    return list(zip(found.columns, found._types, strict=True))


class Shown:
    """The keys of a table's rows, and their places by the text that each is shown as."""

    def __init__(self, keys: "pa.Array") -> None:
        self.keys = keys

    @functools.cached_property
    def _texts(self) -> "pa.Array":
        import pyarrow as pa

        kind = self.keys.type
        if pa.types.is_string(kind):
            return self.keys
        return self.keys.cast(pa.string()) if pa.types.is_integer(kind) else pa.array([as_text(k) for k in self.keys.to_pylist()], pa.string())

    def _found(self, names: Sequence[str]) -> "NDArray[np.int64]":
        """The place of each; −1 for what is not there."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if len(names) <= _FEW:
            return np.array([pc.index(self._texts, name).as_py() for name in names], np.int64)
        found = pc.index_in(pa.array(names, pa.string()), value_set=self._texts).fill_null(-1)
        return np.asarray(found, np.int64)

    def places(self, names: Sequence[str], table: str) -> "NDArray[np.int64]":
        """Where these rows are, in ascending order, each once. RowNotFound for the first that is not in the `table`."""
        import numpy as np

        found = self._found(names)
        if (found < 0).any():
            raise RowNotFound(f"{table!r} has no row with the key {names[int((found < 0).argmax())]!r}.")
        return np.unique(found)

    def there(self, names: Sequence[str]) -> list[str]:
        """Those of the names that are rows."""
        return [name for name, at in zip(names, self._found(names), strict=True) if at >= 0]

    def texts_at(self, places: "NDArray[np.int64]") -> list[str]:
        """What rows are shown as."""
        import pyarrow as pa

        found: list[str] = self._texts.take(pa.array(places)).to_pylist()
        return found

    def keys_at(self, places: "NDArray[np.int64]") -> "pa.Array":
        """The keys of rows, in their own type."""
        import pyarrow as pa

        return self.keys.take(pa.array(places))
