"""The columns that a panel shows of the rows behind its table, as they are now: taken from where searches lay them out beside the vectors, and read
from the source where they are not (decision 062)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jammi_lab.errors import TableDamaged
from jammi_lab.hits import Behind, as_hits

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.handles import ResultTable
    from jammi_lab.selected import Laid
    from jammi_lab.vectors.exact import Places
    from jammi_lab.vectors.matrix import Matrix
    from jammi_lab.workspace import Workspace

_FEW = 8
"""Of so many rows each is looked for by itself."""


class Beside:
    """The rows behind a table with vectors. Nothing is kept here: each question asks for the state of the source, and what was laid out of another
    state or for another tenant is not found. Raises as a search with these columns."""

    def __init__(self, ws: "Workspace", named: "ResultTable", columns: Sequence[str]) -> None:
        self._ws, self._named, self.columns = ws, named, list(columns)
        """`columns`: those that are shown, some of them or all."""

    def of(self, keys: "pa.Array") -> "pa.Table":
        """The columns of the rows with these keys, in their order; NULL for what is gone."""
        behind, matrix = self._asked()
        places = None if matrix is None or not self.columns else _places(matrix, keys)
        if matrix is not None and places is not None and (laid := behind.laid(self.columns, matrix.keys)) is not None:
            return self._called(laid.beside(as_hits(keys), places), self.columns)
        return self._read(behind, keys, self.columns)

    def whole(self, keys: "pa.Array", column: str) -> "pa.ChunkedArray":
        """One column of very many rows, as `of` gives it."""
        behind, matrix = self._asked()
        if matrix is not None and (places := _places(matrix, keys)) is not None:
            if (laid := self._laid(behind, matrix)) is not None:
                return self._called(laid.beside(as_hits(keys), places), self.columns)[column]
            if (laid := behind.laid([column], matrix.keys)) is not None:  # of all columns there is too much
                return self._called(laid.beside(as_hits(keys), places), [column])[column]
        return self._read(behind, keys, [column])[column]

    def lies(self) -> bool:
        """Whether the columns are given without reading the source."""
        behind, matrix = self._asked()
        return matrix is not None and (not self.columns or behind.lies(self.columns))

    def moved(self) -> bool:
        """Whether they were given so, and are others by now, which can be read in a moment."""
        behind, matrix = self._asked()
        return matrix is not None and behind.moved(self.columns)

    def lay(self) -> None:
        """Read now what later questions are answered from, when that is possible. Raises as reading does."""
        behind, matrix = self._asked()
        if matrix is not None and self.columns and not behind.lies(self.columns):
            behind.lay(self.columns, matrix.keys)

    def _asked(self) -> "tuple[Behind, Matrix | None]":
        """What is asked, and the table's rows; None for a table that was dropped while it is shown: the rows behind it may be there still."""
        record = self._ws._searchable(self._named)
        behind = Behind(self._ws, record)
        try:
            return behind, self._ws._matrix(record)
        except TableDamaged:
            return behind, None

    def _laid(self, behind: Behind, matrix: "Matrix") -> "Laid | None":
        """The columns of all rows. Where nobody asked for them yet those of one row are read: it says what lies behind, and what reading takes."""
        if (laid := behind.laid(self.columns, matrix.keys)) is not None or not len(matrix):
            return laid
        if self._ws._selections.find(behind._what(self.columns)) is not None:
            return None
        self._read(behind, matrix.keys[:1], self.columns)
        return behind.laid(self.columns, matrix.keys)

    def _read(self, behind: Behind, keys: "pa.Array", columns: Sequence[str]) -> "pa.Table":
        _ = behind.columns  # what cannot be read says so itself, and not as a search does
        chosen = behind.chosen(columns)
        if not chosen:
            return as_hits(keys).select([])
        return self._called(behind.answer(as_hits(keys), chosen, filtered=False).arrow(), columns)

    @staticmethod
    def _called(rows: "pa.Table", columns: Sequence[str]) -> "pa.Table":
        """Just these columns, which stand in their order between those of every answer, by the names that the panel knows them by."""
        own = {"key", "rank", "similarity", "source_missing"}
        return rows.select([name for name in rows.column_names if name not in own]).rename_columns(list(columns))


def _places(matrix: "Matrix", keys: "pa.Array") -> "Places | None":
    """Where the rows with these keys stand in a table; None when one of them is not there: a map may be of another version."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(keys) <= _FEW:
        few = [matrix.row_of(key) for key in keys.to_pylist()]
        return None if None in few else np.array(few, np.int64)
    if keys.equals(matrix.keys):
        return np.arange(len(keys))
    try:
        found = pc.index_in(keys, value_set=matrix.keys)
    except pa.ArrowException:  # keys of another type by now
        return None
    return None if found.null_count else np.asarray(found, np.int64)
