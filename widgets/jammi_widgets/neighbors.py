"""The neighbour explorer: search by the meaning of a text or by a row, from which each hit leads
to its own neighbours."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import traitlets

from jammi_lab.core.errors import JammiError
from jammi_lab.core.forms import table
from jammi_lab.core.html import Rendered, to_text, vstack
from jammi_lab.features.outputs.stamps import StampedSource
from jammi_lab.workspace.result_table import ResultTable
from jammi_widgets import assets, protocol
from jammi_widgets.cell_texts import row_texts
from jammi_widgets.row_panel import RowPanel
from jammi_widgets.verdict_notes import render_notes, verdict_with_notes

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.workspace.workspace import Workspace

MAX_VALUE_CHARS = 2_000
"""Maximum number of characters of a value sent to the page."""


class NeighborExplorer(RowPanel):
    """Rows of an embedding table by similarity to a text, or to the row `key`. Each hit leads to
    its own neighbours.

    `selection` holds the keys of the selected rows as text; `filter` is an SQL condition on the
    columns of the source rows, like `where=` of `ws.search`. Raises TableNotFound, SchemaMismatch
    for a table without vectors, RowNotFound.
    """

    _esm = assets.module("neighbors")
    query = traitlets.Unicode("").tag(sync=True)
    """The text searched for; empty if the query is a row."""
    k = traitlets.Int(10, min=1, max=1_000).tag(sync=True)
    """The number of neighbours."""

    def __init__(
        self,
        ws: "Workspace",
        table: str | ResultTable,
        key: Any = None,
        *,
        query: str = "",
        k: int = 10,
    ) -> None:
        self._ws = ws
        self._set_table(ws.table(table) if isinstance(table, str) else table)
        self._query_row: str | None = None
        if key is not None:
            ws.vector(self._table, key)
            self._query_row = to_text(key)
        self._last_answer: dict[str, Any] = {}
        self._searching_thread = 0
        self._read_besides: tuple[list[StampedSource], list[str]] = ([], [])
        super().__init__(ws)
        self.k = k
        self.query = query
        self.selection = [] if self._query_row is None else [self._query_row]
        if self._query_row is not None or query:
            with self._tenant_context():
                self._search(query or None, self._query_row if not query else None)
        self.observe(self._on_selection_change, names="selection")
        self.observe(self._on_query_change, names=["query", "filter", "k"])

    def _set_table(self, table: ResultTable) -> None:
        """Set the table to search."""
        self._set_rows(table, self._ws._services.search.matrix(table._record).keys)

    def _reload(self) -> bool:
        """Repeat the search on the newest version of the table."""
        self._set_table(self._ws.table(self._table.name))
        self.selection = self._key_index.existing_names(self.selection)
        if self._query_row is not None and not self._key_index.existing_names([self._query_row]):
            self._query_row = None
        self._repeat_search()
        return True

    def _body(self) -> dict[str, Any]:
        return dict(self._last_answer)

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> list[str]:
        names = list(proposal["value"])
        self._key_index.row_numbers(names, self._table.name)
        return names

    def _on_selection_change(self, change: dict[str, Any]) -> None:
        """Show the neighbours of a row that Python or a linked panel selected and that is not among
        the hits."""
        names = change["new"]
        if (
            len(names) == 1
            and names[0] != self._query_row
            and names[0] not in [hit["key"] for hit in self._last_answer.get("hits", [])]
        ):
            self._run_or_queue(lambda: self._send_hits(lambda: self._search(None, names[0])))

    def _send_hits(self, search: Callable[[], dict[str, Any]]) -> None:
        """Run the search and send the hits, or its error, to every view."""
        try:
            with self._tenant_context():
                self._send_message({"kind": "changed", "body": search()})
        except JammiError as error:
            self._send_message({"kind": "said", "lines": error.rendered_lines()})

    def _on_query_change(self, change: dict[str, Any]) -> None:
        """Search again after a change of query, condition or number, in Python or on the page. An
        invalid condition is reported on the page."""
        if self._searching_thread != threading.get_ident():
            is_query = change["name"] == "query"
            search = (lambda: self._search(self.query, None)) if is_query else self._repeat_search
            self._run_or_queue(lambda: self._send_hits(search))

    def _find_key(self, key_text: str) -> Any:
        """The key of the row with this displayed key. RowNotFound."""
        return self._key_index.keys_at(self._key_index.row_numbers([key_text], self._table.name))[
            0
        ].as_py()

    # -- messages
    # ----------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any] | None:
        match message:
            case protocol.FindNeighbors(text=text, row=row, k=k):
                with self._suppress_searches():
                    self.k = k
                return self._search(text, row)
            case protocol.Open():
                self._repeat_search()
        return None

    def _repeat_search(self) -> dict[str, Any]:
        if self.query or self._query_row is not None:
            return self._search(self.query or None, self._query_row)
        return self._search(None, None)

    @contextlib.contextmanager
    def _suppress_searches(self) -> Iterator[None]:
        """Suppress the searches that setting a trait would trigger: inside the block, traits record
        the current search."""
        self._searching_thread = threading.get_ident()
        try:
            yield
        finally:
            self._searching_thread = 0

    def _search(self, text: str | None, row: str | None) -> dict[str, Any]:
        """Search by a text or by a row, and return the answer."""
        where = self._condition()
        self._query_row, key = (
            (row, self._find_key(row)) if text is None and row is not None else (None, None)
        )
        if not text and row is None:
            self._last_answer = {
                "hits": [],
                "query": "",
                "row": None,
                "about": self._new_header(),
            }
            return dict(self._last_answer)
        rows = self._find_hits(text or None, key, where)
        with self._suppress_searches():
            self.set_trait("query", text or "")
        query_values = self._row_values([key])[0] if row is not None else None
        self._last_answer = {
            "hits": self._hit_messages(rows),
            "query": text or "",
            "row": row,
            "own": query_values,
            "about": self._new_header(),
        }
        return dict(self._last_answer)

    def _find_hits(self, text: str | None, key: Any, where: str | None) -> "pa.Table":
        """The most similar rows, with the shown columns. Raises as `ws.search`."""
        services, record = self._ws._services, self._ws.table(self._table)._record
        result = services.searches.run(
            record, text, None, row=key, k=self.k, where=where, select=self._columns
        )
        _, sources, unrecorded = result._recorded or ([], [], [])
        self._read_besides = sources, unrecorded
        return result.arrow()

    def _hit_messages(self, rows: "pa.Table") -> list[dict[str, Any]]:
        """The hits as the page shows them."""
        values = row_texts(rows, self._columns, MAX_VALUE_CHARS)
        hits = rows.select(["key", "similarity", "source_missing"]).to_pylist()
        return [
            {
                "key": to_text(hit["key"]),
                "similarity": round(hit["similarity"], 4),
                "missing": hit["source_missing"],
                "values": values_of_hit,
            }
            for hit, values_of_hit in zip(hits, values, strict=True)
        ]

    def _row_values(self, keys: Sequence[Any]) -> list[list[str | None]]:
        """The current source columns of these rows; empty for rows that no longer exist."""
        import pyarrow as pa

        rows = self._read_columns(pa.array(keys, self._key_index.keys.type), self._columns)
        return row_texts(rows, self._columns, MAX_VALUE_CHARS)

    def _header(self) -> dict[str, Any]:
        """The header of the panel: table, verdict, state of the index."""
        table = self._table
        verdict, notes = verdict_with_notes(self._ws, table.name, table.version)
        state = self._ws._services.vectors.describe(table._record)
        index = f"index {state}" if state else "no index"
        size = f"{table._record.row_count or 0:,} rows of {table.dimensions} dimensions, {index}"
        return {
            "table": table.name,
            "version": table.version,
            "verdict": verdict,
            "notes": [*notes, size],
            "columns": self._columns,
            "text": encoded_columns(table),
        }

    def _shown_besides(self) -> tuple[list[StampedSource], list[str]]:
        return self._read_besides

    def _shown_tables(self) -> list[ResultTable]:
        return [self._table]

    def _rendered(self) -> Rendered:
        name, version = self._table.name, self._table.version
        title = f"Neighbours in {name}, version {version}"
        hits = self._last_answer.get("hits", [])
        if not hits:
            return table(["key", "similarity"], [], caption=title, note="No search yet.")
        query, row = self._last_answer["query"], self._last_answer["row"]
        note = f"nearest to {query!r}" if query else f"nearest to the row {row}"
        cells = [[h["key"], f"{h['similarity']:.4f}", *h["values"][:4]] for h in hits]
        headers = ["key", "similarity", *self._columns[:4]]
        aligned = "lr" + "l" * len(self._columns[:4])
        rows = table(headers, cells, aligned=aligned, caption=title, note=note)
        with self._tenant_context():
            return vstack(render_notes(self._ws, name, version), rows)


def encoded_columns(result_table: ResultTable) -> list[str]:
    """The columns from which the vectors were made."""
    manifest = result_table.manifest
    text = manifest.descriptor.get("text") if manifest is not None else None
    return [str(t) for t in text] if isinstance(text, list | tuple) else []
