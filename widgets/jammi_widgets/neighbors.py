"""The neighbour explorer: search by a text, by meaning, words or both, or by a row, from which each
hit leads to its own neighbours."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import traitlets

from jammi_lab.core.errors import JammiError
from jammi_lab.core.forms import table
from jammi_lab.core.html import (
    Rendered,
    count_noun,
    escape,
    escape_invisible,
    to_text,
    unmarked_word,
    vstack,
)
from jammi_lab.core.identifiers import fold
from jammi_lab.core.verdicts import Fresh, verdict_label
from jammi_lab.engine.row_conditions import check_row_condition
from jammi_lab.features.outputs.stamps import StampedSource
from jammi_lab.features.search.hits import HIT_COLUMNS
from jammi_lab.features.search.word_search import check_lexical
from jammi_lab.features.words.matches import excerpt, split_matches
from jammi_lab.workspace.result_table import ResultTable
from jammi_widgets import assets, protocol
from jammi_widgets.cell_texts import KeyIndex, column_texts, row_texts
from jammi_widgets.panel import Panel
from jammi_widgets.row_columns import RowColumns, source_rows
from jammi_widgets.verdict_notes import render_notes, verdict_with_notes

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.workspace.workspace import Workspace

MODES = ("meaning", "words", "both")
QUERY_NOTES = {
    "meaning": "nearest to",
    "words": "with the words of",
    "both": "by meaning and words of",
}
MAX_SHOWN_COLUMNS = 12
"""Maximum number of source columns shown."""
HISTOGRAM_BIN_COUNT = 20
"""Number of bins of the histogram."""
MIN_HISTOGRAM_HITS = 200
"""Minimum number of hits fetched for the histogram."""
MAX_VALUE_CHARS = 2_000
"""Maximum number of characters of a value sent to the page."""
MAX_MARKED_CHARS = 50_000
"""Maximum number of characters of a value that are searched for words of the query."""


class NeighborExplorer(Panel):
    """Rows of an embedding table by similarity to a text, or to the row `key`. Each hit leads to
    its own neighbours.

    `mode` is how a text is searched: `"meaning"`, `"words"` or `"both"`. The last two need a
    lexical table: `words`, by default the one that was made from the same source. Words of the text
    are marked in the hits.

    `selection` holds the keys of the selected rows as text; `filter` is an SQL condition on the
    columns of the source rows, like `where=` of `ws.search`. Raises TableNotFound, SchemaMismatch
    for a table without vectors, RowNotFound.
    """

    _esm = assets.module("neighbors")
    query = traitlets.Unicode("").tag(sync=True)
    """The text searched for; empty if the query is a row."""
    k = traitlets.Int(10, min=1, max=1_000).tag(sync=True)
    """The number of neighbours."""
    mode = traitlets.Enum(MODES, "meaning").tag(sync=True)
    """How a text is searched. A row is always searched by meaning."""

    def __init__(
        self,
        ws: "Workspace",
        table: str | ResultTable,
        key: Any = None,
        *,
        query: str = "",
        k: int = 10,
        words: str | ResultTable | None = None,
        mode: Literal["meaning", "words", "both"] = "meaning",
    ) -> None:
        self._words_name = None if words is None else ws.table(words).name
        self._set_table(ws, ws.table(table) if isinstance(table, str) else table)
        self._query_row: str | None = None
        if key is not None:
            ws.vector(self._table, key)
            self._query_row = to_text(key)
        self._last_answer: dict[str, Any] = {}
        self._searching_thread = 0
        self._read_besides: tuple[list[StampedSource], list[str]] = ([], [])
        super().__init__(ws)
        self.k = k
        self.mode = mode
        self.query = query
        self.selection = [] if self._query_row is None else [self._query_row]
        if self._query_row is not None or query:
            with self._tenant_context():
                self._search(query or None, self._query_row if not query else None)
        self.observe(self._on_selection_change, names="selection")
        self.observe(self._on_query_change, names=["query", "filter", "k", "mode"])

    def _set_table(self, ws: "Workspace", result_table: ResultTable) -> None:
        """Set the table to search."""
        self._words = find_words(ws, result_table, self._words_name)
        self._columns = readable_columns(ws, result_table)
        self._table = result_table
        self._key_index = KeyIndex(ws._services.search.matrix(result_table._record).keys)
        self._row_columns = RowColumns(ws, result_table, self._columns)

    def _reload(self) -> bool:
        """Repeat the search on the newest version of the table."""
        self._set_table(self._ws, self._ws.table(self._table.name))
        self.selection = self._key_index.existing_names(self.selection)
        if self._query_row is not None and not self._key_index.existing_names([self._query_row]):
            self._query_row = None
        self._repeat_search()
        return True

    def _body(self) -> dict[str, Any]:
        return dict(self._last_answer)

    @traitlets.validate("mode")
    def _validate_mode(self, proposal: dict[str, Any]) -> str:
        if proposal["value"] != "meaning" and self._words is None:
            raise traitlets.TraitError(
                f"There is no lexical table for {self._table.name!r}: create one with ws.lexical "
                "and pass words=."
            )
        return str(proposal["value"])

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> list[str]:
        names = list(proposal["value"])
        self._key_index.row_numbers(names, self._table.name)
        return names

    def _selectable_names(self, names: list[str]) -> list[str]:
        return self._key_index.existing_names(names)

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

    def _refresh_if_changed(self) -> None:
        header = self._header(self._last_mode())
        if self._last_answer and header != self._last_answer["about"]:
            self._last_answer["about"] = header
            self._send_message({"kind": "about", "body": header})

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
            case protocol.Compare(rows=rows):
                return self._compare_rows([self._find_key(r) for r in rows])
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
        """The hits, and a histogram of the similarities of at least 200 hits."""
        where = (
            check_row_condition(self._ws._services.engine, self.filter)
            if self.filter.strip()
            else None
        )
        self._query_row, key = (
            (row, self._find_key(row)) if text is None and row is not None else (None, None)
        )
        max_hits = max(self.k, MIN_HISTOGRAM_HITS)
        if not text and row is None:
            self._last_answer = {
                "hits": [],
                "query": "",
                "row": None,
                "about": self._header("meaning"),
            }
            return dict(self._last_answer)
        mode = self.mode if text else "meaning"
        rows = self._find_hits(text or None, key, mode, max_hits, where)
        with self._suppress_searches():
            self.set_trait("query", text or "")
        measure = "score" if mode == "words" else "similarity"
        values = [value for value in rows[measure].to_pylist() if value is not None]
        query_values = self._row_values([key])[0] if row is not None else None
        self._last_answer = {
            "hits": self._hit_messages(rows.slice(0, self.k), text if mode != "meaning" else None),
            "histogram": _histogram([round(value, 4) for value in values]),
            "query": text or "",
            "mode": mode,
            "row": row,
            "own": query_values,
            "about": self._header(mode),
        }
        return dict(self._last_answer)

    def _find_hits(
        self, text: str | None, key: Any, mode: str, k: int, where: str | None
    ) -> "pa.Table":
        """The best rows by the mode, with the shown columns. Raises as `ws.search`."""
        services, record = self._ws._services, self._ws.table(self._table)._record
        words = None if self._words is None or mode == "meaning" else self._words._record
        if mode == "words" and words is not None:
            record, words = words, None
        result = services.searches.run(
            record, text, words, row=key, k=k, where=where, select=self._columns
        )
        _, sources, unrecorded = result._recorded or ([], [], [])
        self._read_besides = sources, unrecorded
        return result.arrow()

    def _hit_messages(self, rows: "pa.Table", text: str | None) -> list[dict[str, Any]]:
        """The hits as the page shows them; `text`: the query whose words are marked."""
        values = row_texts(rows, self._columns, MAX_VALUE_CHARS)
        numbers = {
            name: [None if value is None else round(value, 4) for value in rows[name].to_pylist()]
            for name in ("similarity", "score")
            if name in rows.column_names
        }
        keys, missing = rows["key"].to_pylist(), rows["source_missing"].to_pylist()
        marks = self._marks(rows, text)
        return [
            {
                "key": to_text(key),
                **{name: column[index] for name, column in numbers.items()},
                "missing": missing[index],
                "values": values[index],
                "marks": marks[index],
            }
            for index, key in enumerate(keys)
        ]

    def _marks(self, rows: "pa.Table", text: str | None) -> list[dict[str, list[str]]]:
        """For each row, by column number: an excerpt of the value in parts, of which those with an
        odd index are words of the query."""
        marks: list[dict[str, list[str]]] = [{} for _ in range(len(rows))]
        if text is None or self._words is None:
            return marks
        search, record = self._ws._services.search.words, self._words._record
        terms, analyzer = set(search.terms(record, text)), search.analyzer(record)
        searched = set(map(fold, encoded_columns(self._words)))
        for number, column in enumerate(self._columns):
            if fold(column) not in searched:
                continue
            for index, value in enumerate(column_texts(rows[column], MAX_MARKED_CHARS)):
                parts = split_matches(value or "", terms, analyzer)
                if len(shown := excerpt(parts, MAX_VALUE_CHARS)) > 1:
                    marks[index][str(number)] = shown
        return marks

    def _row_values(self, keys: Sequence[Any]) -> list[list[str | None]]:
        """The current source columns of these rows; empty for rows that no longer exist."""
        import pyarrow as pa

        rows = self._row_columns.read_rows(pa.array(keys, self._key_index.keys.type))
        return row_texts(rows, self._columns, MAX_VALUE_CHARS)

    def _compare_rows(self, keys: Sequence[Any]) -> dict[str, Any]:
        import numpy as np

        a, b = (self._ws.vector(self._table, key).astype(np.float64) for key in keys)
        similarity = float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))
        return {
            "keys": [to_text(k) for k in keys],
            "columns": self._columns,
            "values": self._row_values(keys),
            "similarity": round(similarity, 4),
        }

    def _last_mode(self) -> str:
        """How the last search was made."""
        return str(self._last_answer.get("mode", "meaning"))

    def _searched_tables(self, mode: str) -> list[ResultTable]:
        """The tables that a search by the mode reads."""
        words = [] if self._words is None or mode == "meaning" else [self._words]
        return words if words and mode == "words" else [self._table, *words]

    def _header(self, mode: str) -> dict[str, Any]:
        """The header of the panel: tables, their verdict, index state and search method. The
        verdict is that of the first table that is not fresh."""
        tables = self._searched_tables(mode)
        verdicts = [verdict_with_notes(self._ws, each.name, each.version) for each in tables]
        fresh = verdict_label(Fresh())
        verdicts.sort(key=lambda each: (unmarked_word(each[0]) == fresh, each[0] == fresh))
        notes = [note for _, table_notes in verdicts for note in table_notes]
        return {
            "table": " and ".join(each.name for each in tables),
            "version": self._table.version,
            "verdict": verdicts[0][0],
            "notes": [*notes, self._method_note(mode)],
            "columns": self._columns,
            "text": encoded_columns(self._table),
            "words": None if self._words is None else self._words.name,
        }

    def _method_note(self, mode: str) -> str:
        """What is searched."""
        if mode == "words" and self._words is not None:
            return count_noun(self._words.row_count or 0, "row of words", "rows of words")
        count = self._table.row_count or 0
        state = self._ws._services.vectors.describe(self._table._record)
        index = f"index {state}" if state else "no index"
        return f"{count:,} rows of {self._table.dimensions} dimensions, {index}"

    def _shown_besides(self) -> tuple[list[StampedSource], list[str]]:
        return self._read_besides

    def _shown_tables(self) -> list[ResultTable]:
        return self._searched_tables(self._last_mode())

    def _rendered(self) -> Rendered:
        tables = self._shown_tables()
        title = "Neighbours in " + " and ".join(f"{t.name}, version {t.version}" for t in tables)
        hits = self._last_answer.get("hits", [])
        if not hits:
            return table(["key", "similarity"], [], caption=title, note="No search yet.")
        query_note = (
            f"{QUERY_NOTES[self._last_answer['mode']]} {self._last_answer['query']!r}"
            if self._last_answer["query"]
            else f"nearest to the row {self._last_answer['row']}"
        )
        measures = [name for name in ("similarity", "score") if name in hits[0]]
        cells = [
            [
                h["key"],
                *("" if h[name] is None else f"{h[name]:.4f}" for name in measures),
                *(
                    _render_parts(h["marks"].get(str(number)), value)
                    for number, value in enumerate(h["values"][:4])
                ),
            ]
            for h in hits
        ]
        headers = ["key", *measures, *self._columns[:4]]
        aligned = "l" + "r" * len(measures) + "l" * len(self._columns[:4])
        rows = table(headers, cells, aligned=aligned, caption=title, note=query_note)
        with self._tenant_context():
            notes = [render_notes(self._ws, each.name, each.version) for each in tables]
            return vstack(*notes, rows)


def readable_columns(
    ws: "Workspace", result_table: ResultTable, hit_columns: Sequence[str] = HIT_COLUMNS
) -> list[str]:
    """The readable columns of the source rows except the key, text columns first. `hit_columns` are
    those that an answer has by itself. SchemaMismatch for a table without vectors."""
    columns = source_rows(ws, result_table).columns
    manifest = result_table.manifest
    key = str(manifest.descriptor.get("key", "")) if manifest is not None else ""
    excluded = {*hit_columns, "vector", key.casefold()}
    readable = [
        c
        for c, kind in columns.items()
        if c.casefold() not in excluded
        and not c.startswith("_")
        and not kind.startswith(("BLOB", "FLOAT["))
    ]
    return sorted(readable, key=lambda c: columns[c] != "VARCHAR")[:MAX_SHOWN_COLUMNS]


def find_words(ws: "Workspace", result_table: ResultTable, name: str | None) -> ResultTable | None:
    """The lexical table of that name, or without one the only one made from the same source; None
    where there is none or are several. TableNotFound; SchemaMismatch for another kind."""
    if name is None:
        lookup, source = ws._services.lookup, result_table.source_id
        tables = [] if source is None else lookup.tables_of_source(source)
        matches = [each for each in tables if each.record.recipe_class.has_words]
        if len(matches) != 1:
            return None
        name = matches[0].version.recipe
    words = ws.table(name)
    check_lexical(words._record)
    return words


def _render_parts(parts: Sequence[str] | None, value: str | None) -> Any:
    """A value with its marked words."""
    if parts is None:
        return value
    html = [
        f"<mark>{escape(part)}</mark>" if number % 2 else escape(part)
        for number, part in enumerate(parts)
    ]
    return Rendered("".join(html), escape_invisible("".join(parts)))


def encoded_columns(result_table: ResultTable) -> list[str]:
    """The columns from which the vectors or words were made."""
    manifest = result_table.manifest
    text = manifest.descriptor.get("text") if manifest is not None else None
    return [str(t) for t in text] if isinstance(text, list | tuple) else []


def _histogram(values: Sequence[float]) -> dict[str, Any]:
    """Counts in twenty equal bins between the least and the greatest value."""
    import numpy as np

    if not values:
        return {"bins": [], "least": 0.0, "most": 0.0}
    low, high = min(values), max(values)
    counts, _ = np.histogram(values, HISTOGRAM_BIN_COUNT, (low, max(high, low + 1e-9)))
    return {"bins": counts.tolist(), "least": low, "most": high}
