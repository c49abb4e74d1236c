"""The rows of a result that a viewer holds in memory: those read so far, up to a limit."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jammi_lab.workspace.column_filters import contains_text
from jammi_lab.workspace.column_profile import query_rows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

MAX_HELD_ROWS = 1_000_000
MAX_HELD_BYTES = 64 * 1024 * 1024
"""Limits of the rows held. The size is checked between reads, each of which at most doubles it."""
_FIRST_READ_ROWS = 1_000


class ResultPage:
    """The first rows of a result. They remain available after the result's own rows are
    released."""

    def __init__(
        self,
        first_rows: Callable[[int], "pa.Table"],
        types: Sequence[str],
        *,
        has_more: bool = False,
    ) -> None:
        """`first_rows` returns the first rows, as many as its argument, with columns of these SQL
        types. `has_more`: there are rows beyond those that it can return."""
        self._types = types
        self._first_rows, self._has_more, self._ended = first_rows, has_more, False
        self.rows: pa.Table = first_rows(0)
        """The rows read so far."""
        self.complete = False
        """Whether these are all rows."""
        self._order: tuple[tuple[str, int | None, bool, int], NDArray[np.int64]] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached and the result has more rows."""
        return not self.complete and (
            self._ended or self.rows.num_rows >= MAX_HELD_ROWS or self.rows.nbytes >= MAX_HELD_BYTES
        )

    def load_rows(self, row_count: int) -> None:
        """Read rows until `row_count` are held, the result ends or the limit is reached. Raises the
        errors of reading the result."""
        row_count = min(row_count, MAX_HELD_ROWS)
        while not self.complete and not self.is_full and self.rows.num_rows < row_count:
            limit = min(MAX_HELD_ROWS, max(_FIRST_READ_ROWS, 2 * self.rows.num_rows))
            rows = self._first_rows(limit + 1)
            self._ended, self.rows = rows.num_rows <= limit, rows.slice(0, limit)
            self.complete = self._ended and not self._has_more

    def take_rows(
        self, row_numbers: Sequence[int], columns: Sequence[int] | None = None
    ) -> "pa.Table":
        """The rows with these numbers, in this order; all columns by default."""
        import pyarrow as pa

        table = self.rows if columns is None else self.rows.select(list(columns))
        return table.take(pa.array(list(row_numbers), pa.int64()))

    def sorted_rows(
        self, text: str, column: int | None, *, descending: bool
    ) -> "NDArray[np.int64]":
        """The numbers of all rows that contain the text in some column, sorted by a column with
        NULL last, as the statement that the panel shows selects and sorts them. The sort is
        stable."""
        import numpy as np
        import pyarrow as pa

        self.load_rows(MAX_HELD_ROWS)
        key = (text, column, descending, self.rows.num_rows)
        if self._order is None or self._order[0] != key:
            numbers = pa.array(np.arange(self.rows.num_rows))
            number = f"c{self.rows.num_columns}"
            types = {f"c{i}": sql_type for i, sql_type in enumerate(self._types)}
            where = f"WHERE {contains_text(types, text)} " if text else ""
            by = "" if column is None else f"c{column}{' DESC' * descending} NULLS LAST, "
            rows = self.rows.append_column("number", numbers)
            found = query_rows(rows, number, f"{where}ORDER BY {by}{number}")
            self._order = (key, np.asarray(found.column(0)))
        return self._order[1]
