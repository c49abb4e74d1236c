"""The source columns that a panel shows for a table with vectors, in their current state."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jammi_lab.features.search.hits import as_hits
from jammi_lab.features.search.source_rows import SourceRows

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.workspace.result_table import ResultTable
    from jammi_lab.workspace.workspace import Workspace

_HIT_COLUMNS = {"key", "rank", "similarity", "source_missing"}


class RowColumns:
    """The source rows of a table with vectors. It holds no data: each call reads the source. Raises
    the errors of a search with these columns."""

    def __init__(self, ws: "Workspace", table: "ResultTable", columns: Sequence[str]) -> None:
        self._ws, self._table, self.columns = ws, table, list(columns)

    def read_rows(self, keys: "pa.Array", columns: Sequence[str] | None = None) -> "pa.Table":
        """The columns of the rows with these keys, in order, under the names used by the panel;
        NULL for rows that no longer exist. All columns unless some are named."""
        names = self.columns if columns is None else list(columns)
        source = source_rows(self._ws, self._table)
        _ = source.columns  # raises the source's own error rather than a search's
        selected = source.select_columns(names)
        if not selected:
            return as_hits(keys).select([])
        rows = source.answer(as_hits(keys), selected, filtered=False).table
        added = [name for name in rows.column_names if name not in _HIT_COLUMNS]
        return rows.select(added).rename_columns(names)


def source_rows(ws: "Workspace", table: "ResultTable") -> SourceRows:
    """The source rows of a table with vectors. TableNotFound; SchemaMismatch for a table without
    vectors."""
    return ws._services.search.source_rows(ws.table(table)._record)
