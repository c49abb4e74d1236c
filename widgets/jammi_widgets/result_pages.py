"""The rows of a result that a viewer holds in memory: those read so far, up to a limit."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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

    def __init__(self, first_rows: Callable[[int], "pa.Table"], *, has_more: bool = False) -> None:
        """`first_rows` returns the first rows, as many as its argument. `has_more`: there are rows
        beyond those that it can return."""
        self._first_rows, self._has_more, self._ended = first_rows, has_more, False
        self.rows: pa.Table = first_rows(0)
        """The rows read so far."""
        self.complete = False
        """Whether these are all rows."""
        self.match_count = 0
        """Number of rows in the last sorted or searched list."""
        self._order: tuple[tuple[str, int | None, bool, int], NDArray[np.int64]] | None = None
        self._sortable: dict[int, bool] = {}

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

    def is_sortable(self, column: int) -> bool:
        """Whether the values of a column can be sorted; lists and structs cannot."""
        if column not in self._sortable:
            self._sortable[column] = _is_sortable(self.rows.column(column).slice(0, 1))
        return self._sortable[column]

    def sorted_rows(self, text: str, column: int | None, *, descending: bool) -> Sequence[int]:
        """The numbers of all rows that contain the text in some column, sorted by a column with
        NULL last. The sort is stable."""
        import numpy as np

        self.load_rows(MAX_HELD_ROWS)
        key = (text, column, descending, self.rows.num_rows)
        if self._order is None or self._order[0] != key:
            row_numbers: NDArray[np.int64]
            if column is None or not self.is_sortable(column):
                row_numbers = np.arange(self.rows.num_rows)
            else:
                row_numbers = _sort_order(self.rows.column(column), descending=descending)
            if text:
                row_numbers = row_numbers[self._rows_with_text(text)[row_numbers]]
            self._order = (key, row_numbers)
        self.match_count = len(self._order[1])
        rows: Sequence[int] = _RowNumbers(self._order[1])
        return rows

    def _rows_with_text(self, text: str) -> "NDArray[np.bool_]":
        """Which rows contain the text in one of their columns, ignoring case. Lists and structs are
        not searched."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        matches = np.zeros(self.rows.num_rows, bool)
        for column in self.rows.columns:
            try:
                texts = column if pa.types.is_string(column.type) else column.cast(pa.string())
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
                continue
            matches |= np.asarray(
                pc.match_substring(texts, text, ignore_case=True).fill_null(False)
            )
        return matches


class _RowNumbers(Sequence[int]):
    """Row numbers as Python integers, converted on access only."""

    def __init__(self, numbers: "NDArray[np.int64]") -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, at: Any) -> Any:
        return self._numbers[at].tolist()


def _is_sortable(column: "pa.ChunkedArray") -> bool:
    import pyarrow as pa

    try:
        _sort_order(column, descending=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return False
    return not pa.types.is_nested(column.type)


def _sort_order(column: "pa.ChunkedArray", *, descending: bool) -> "NDArray[np.int64]":
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    keys = [("column", "descending" if descending else "ascending")]  # NULL is last in both orders
    return np.asarray(pc.sort_indices(pa.table({"column": column}), sort_keys=keys)).astype(
        np.int64
    )
