"""The source columns that a panel shows for a table with vectors, in their current state. They come
from the column cache of searches, or from the source if they are not cached."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jammi_lab.core.errors import TableDamaged
from jammi_lab.features.search.hits import as_hits
from jammi_lab.features.search.source_rows import SourceRows

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.features.vectors.matrix import Matrix
    from jammi_lab.storage.vector_arrays import RowNumbers
    from jammi_lab.workspace.result_table import ResultTable
    from jammi_lab.workspace.workspace import Workspace

_MAX_SINGLE_LOOKUPS = 8
"""Up to this many keys are looked up one by one."""


class RowColumns:
    """The source rows of a table with vectors. It holds no data: each call checks the state of the
    source, and cache entries of another state or tenant are ignored. Raises the errors of a search
    with these columns."""

    def __init__(self, ws: "Workspace", table: "ResultTable", columns: Sequence[str]) -> None:
        self._ws, self._table, self.columns = ws, table, list(columns)

    def read_rows(self, keys: "pa.Array") -> "pa.Table":
        """The columns of the rows with these keys, in order; NULL for rows that no longer exist."""
        return self._read(keys, self.columns)

    def read_column(self, keys: "pa.Array", column: str) -> "pa.ChunkedArray":
        """One column for a large number of rows, with the values of `read_rows`."""
        source, matrix = self._source_and_matrix()
        if matrix is not None and len(matrix):
            key = source.selection_key(self.columns)
            if source.context.columns.find(key) is None:
                # one row shows what the source is, and how long a read takes
                self._read_source(source, matrix.keys[:1], self.columns)
        # All columns together may be too large to cache.
        return self._read(keys, self.columns, [column])[column]

    def _read(self, keys: "pa.Array", *selections: Sequence[str]) -> "pa.Table":
        """The first of the selections of columns that is cached, else the last one from the
        source."""
        source, matrix = self._source_and_matrix()
        row_numbers = None if matrix is None else _find_row_numbers(matrix, keys)
        if matrix is not None and row_numbers is not None:
            for columns in selections:
                cached = source.cached_columns(columns, matrix.keys) if columns else None
                if cached is not None:
                    return self._rename_columns(cached.join(as_hits(keys), row_numbers), columns)
        return self._read_source(source, keys, selections[-1])

    def load(self) -> None:
        """Load the columns into the cache, if possible. Raises the errors of reading the source."""
        source, matrix = self._source_and_matrix()
        if matrix is not None and self.columns:
            source.load(self.columns, matrix.keys)

    def _source_and_matrix(self) -> "tuple[SourceRows, Matrix | None]":
        """The source rows and the table's matrix; None for a table that was dropped while it is
        shown, whose source may still exist."""
        search, record = self._ws._services.search, self._ws.table(self._table)._record
        source = search.source_rows(record)
        try:
            return source, search.matrix(record)
        except TableDamaged:
            return source, None

    def _read_source(
        self, source: SourceRows, keys: "pa.Array", columns: Sequence[str]
    ) -> "pa.Table":
        _ = source.columns  # raises the source's own error rather than a search's
        selected = source.select_columns(columns)
        if not selected:
            return as_hits(keys).select([])
        return self._rename_columns(
            source.answer(as_hits(keys), selected, filtered=False).rows(), columns
        )

    @staticmethod
    def _rename_columns(rows: "pa.Table", columns: Sequence[str]) -> "pa.Table":
        """The source columns of a search answer, without the columns of every answer, under the
        names used by the panel."""
        reserved = {"key", "rank", "similarity", "source_missing"}
        return rows.select(
            [name for name in rows.column_names if name not in reserved]
        ).rename_columns(list(columns))


def source_rows(ws: "Workspace", table: "ResultTable") -> SourceRows:
    """The source rows of a table with vectors. TableNotFound; SchemaMismatch for a table without
    vectors."""
    return ws._services.search.source_rows(ws.table(table)._record)


def _find_row_numbers(matrix: "Matrix", keys: "pa.Array") -> "RowNumbers | None":
    """The row numbers of these keys; None if one is missing, because a map may show another
    version."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(keys) <= _MAX_SINGLE_LOOKUPS:
        row_numbers = [matrix.find_row(key) for key in keys.to_pylist()]
        return None if None in row_numbers else np.array(row_numbers, np.int64)
    if keys.equals(matrix.keys):
        return np.arange(len(keys))
    try:
        positions = pc.index_in(keys, value_set=matrix.keys)
    except pa.ArrowException:  # the key type has changed
        return None
    return None if positions.null_count else np.asarray(positions, np.int64)
