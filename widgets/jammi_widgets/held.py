"""The rows of a result that a viewer holds: no more than was looked at, and never more than a bound."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.result import Result

MOST_ROWS = 1_000_000
MOST_BYTES = 64 * 1024 * 1024
"""What is held at most; the second is looked at between reads, each of which at most doubles what is held."""
_FIRST = 1_000


class Held:
    """The first rows of a result. They stay when the result's own rows are gone."""

    def __init__(self, result: "Result") -> None:
        self._result = result
        self.rows: pa.Table = result.preview(0)
        """What is held by now."""
        self.whole = False
        """Whether these are all rows."""
        self.found = 0
        """How many rows the last order had."""
        self._order: tuple[tuple[str, int | None, bool, int], NDArray[np.int64]] | None = None
        self._sorting: dict[int, bool] = {}

    @property
    def full(self) -> bool:
        """Whether the bound is reached, and there are more rows."""
        return not self.whole and (self.rows.num_rows >= MOST_ROWS or self.rows.nbytes >= MOST_BYTES)

    def upto(self, wanted: int) -> None:
        """Hold so many rows, if there are as many and the bound lets it. Raises what reading them raises."""
        wanted = min(wanted, MOST_ROWS)
        while not self.whole and not self.full and self.rows.num_rows < wanted:
            some = min(MOST_ROWS, max(_FIRST, 2 * self.rows.num_rows))
            rows = self._result.preview(some + 1)
            self.whole, self.rows = rows.num_rows <= some, rows.slice(0, some)

    def taken(self, places: Sequence[int], columns: Sequence[int] | None = None) -> "pa.Table":
        """The rows at these places, in their order; all columns when none are named."""
        import pyarrow as pa

        some = self.rows if columns is None else self.rows.select(list(columns))
        return some.take(pa.array(list(places), pa.int64()))

    def sorts(self, column: int) -> bool:
        """Whether the values of a column have an order: those of lists and structs have none here."""
        if column not in self._sorting:
            self._sorting[column] = _sorts(self.rows.column(column).slice(0, 1))
        return self._sorting[column]

    def ordered(self, text: str, column: int | None, *, descending: bool) -> Sequence[int]:
        """The places of all rows that have the text in some column, in the order of a column, NULL last; equal ones stay as they came."""
        import numpy as np

        self.upto(MOST_ROWS)
        key = (text, column, descending, self.rows.num_rows)
        if self._order is None or self._order[0] != key:
            places: NDArray[np.int64]
            if column is None or not self.sorts(column):
                places = np.arange(self.rows.num_rows)
            else:
                places = _places(self.rows.column(column), descending=descending)
            if text:
                places = places[self._with(text)[places]]
            self._order = (key, places)
        self.found = len(self._order[1])
        found: Sequence[int] = _Places(self._order[1])
        return found

    def _with(self, text: str) -> "NDArray[np.bool_]":
        """Which rows have the text in one of their columns, in any case of letters; lists and structs are not looked into."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        found = np.zeros(self.rows.num_rows, bool)
        for column in self.rows.columns:
            try:
                texts = column if pa.types.is_string(column.type) else column.cast(pa.string())
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
                continue
            found |= np.asarray(pc.match_substring(texts, text, ignore_case=True).fill_null(False))
        return found


class _Places(Sequence[int]):
    """Places as Python's numbers, of which only those that are asked for are made."""

    def __init__(self, places: "NDArray[np.int64]") -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, at: Any) -> Any:
        return self._places[at].tolist()


def _sorts(some: "pa.ChunkedArray") -> bool:
    import pyarrow as pa

    try:
        _places(some, descending=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return False
    return not pa.types.is_nested(some.type)


def _places(column: "pa.ChunkedArray", *, descending: bool) -> "NDArray[np.int64]":
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    keys = [("column", "descending" if descending else "ascending")]  # NULL stands last in either
    return np.asarray(pc.sort_indices(pa.table({"column": column}), sort_keys=keys)).astype(np.int64)
