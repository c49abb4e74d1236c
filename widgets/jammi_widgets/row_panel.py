"""What the panels of an embedding table share: rows known by their keys, and the columns of their
source rows in their current state."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.engine.row_conditions import check_row_condition
from jammi_lab.features.search.hits import VECTOR_HIT_COLUMNS, as_hits
from jammi_lab.features.search.source_rows import SourceRows
from jammi_lab.workspace.result_table import ResultTable
from jammi_widgets.cell_texts import KeyIndex
from jammi_widgets.panel import Panel

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SHOWN_COLUMNS = 12
"""Maximum number of source columns shown."""


class RowPanel(Panel):
    """A panel of the rows of an embedding table. `selection` holds keys as text; `filter` is an SQL
    condition on the columns of the source rows."""

    _sent_header: dict[str, Any] | None = None
    """What the page shows above the rows; None before the first time."""

    def _set_rows(self, table: ResultTable, keys: "pa.Array") -> None:
        """Set the table, whose rows have these keys. SchemaMismatch for one without vectors."""
        self._columns = self._readable_columns(table)
        self._table, self._key_index = table, KeyIndex(keys)

    def _source_rows(self, table: ResultTable | None = None) -> SourceRows:
        """The source rows. TableNotFound; SchemaMismatch for a table without vectors."""
        return self._ws._services.search.source_rows(self._ws.table(table or self._table)._record)

    def _readable_columns(self, table: ResultTable) -> list[str]:
        """The readable columns of the source rows without the key and names that a hit itself has,
        text columns first. SchemaMismatch for a table without vectors."""
        columns, manifest = self._source_rows(table).columns, table.manifest
        key = str(manifest.descriptor.get("key", "")) if manifest is not None else ""
        excluded = {*VECTOR_HIT_COLUMNS, "vector", key.casefold()}
        readable = []
        for name, kind in columns.items():
            is_hidden = name.startswith("_") or kind.startswith(("BLOB", "FLOAT["))
            if name.casefold() not in excluded and not is_hidden:
                readable.append(name)
        return sorted(readable, key=lambda c: columns[c] != "VARCHAR")[:MAX_SHOWN_COLUMNS]

    def _read_columns(self, keys: "pa.Array", columns: Sequence[str]) -> "pa.Table":
        """Some source columns of the rows with these keys, in order, under these names; NULL for
        rows that no longer exist. Raises the errors of a search with these columns."""
        source = self._source_rows()
        _ = source.columns  # raises the source's own error rather than a search's
        selected, hits = source.select_columns(columns), as_hits(keys)
        if not selected:
            return hits.select([])
        rows = source.answer(hits, selected, filtered=False).table
        hit_columns = {*hits.column_names, "source_missing"}
        added = [name for name in rows.column_names if name not in hit_columns]
        return rows.select(added).rename_columns(list(columns))

    def _condition(self) -> str | None:
        """The condition of the filter; None without one. Raises the errors of a condition."""
        if not self.filter.strip():
            return None
        return check_row_condition(self._ws._services.engine, self.filter)

    def _selectable_names(self, names: list[str]) -> list[str]:
        return self._key_index.existing_names(names)

    @abstractmethod
    def _header(self) -> dict[str, Any]:
        """What the page shows above the rows: the table and its verdict."""

    def _new_header(self) -> dict[str, Any]:
        """The header, for the page."""
        self._sent_header = self._header()
        return dict(self._sent_header)

    def _refresh_if_changed(self) -> None:
        previous = self._sent_header
        if previous is not None and self._new_header() != previous:
            self._send_message({"kind": "about", "body": self._sent_header})
