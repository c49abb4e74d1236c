"""The neighbour explorer: what is near a text or a row, and near that again."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from jammi_lab.conditions import Conditions, of_the_rows
from jammi_lab.errors import JammiError
from jammi_lab.handles import ResultTable
from jammi_lab.hits import Behind
from jammi_lab.markup import Form, as_text, stack, table
from jammi_widgets import assets, protocol
from jammi_widgets.beside import Beside
from jammi_widgets.judging import judged, noted
from jammi_widgets.panel import Panel
from jammi_widgets.rows import Shown, texts_of

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.workspace import Workspace

MOST_COLUMNS = 12
"""Columns of the rows behind that are shown."""
BARS = 20
"""Of the histogram."""
NEAREST = 200
"""Hits that the histogram is of."""
MOST_OF_A_COLUMN = 2_000
"""Characters of a value that the page gets."""
FACET = 40
"""Characters that a value may have to stand among the facets."""


class NeighborExplorer(Panel):
    """Rows of an embedding table by their nearness to a text, or to the row `key`; each hit leads on to its own neighbours.

    `selection` holds the keys of the chosen rows as text, `filter` a condition in SQL over the columns of the rows behind, as `where=` of `ws.search`
    takes it. Raises TableNotFound, SchemaMismatch for a table without vectors, RowNotFound.
    """

    _esm = assets.module("neighbors")
    _css = assets.style()
    _kinds: ClassVar[Any] = protocol.Open | protocol.Refresh | protocol.Near | protocol.Compare | protocol.Act | protocol.Cancel
    _shared = (protocol.Refresh, protocol.Near)
    _aside = (protocol.Open, protocol.Refresh, protocol.Near, protocol.Compare, "query", "filter", "k", "selection")

    query = traitlets.Unicode("").tag(sync=True)
    """The text that is searched for; empty when it is a row."""
    k = traitlets.Int(10, min=1, max=1_000).tag(sync=True)
    """How many neighbours."""

    def __init__(self, ws: "Workspace", table: str | ResultTable, key: Any = None, *, query: str = "", k: int = 10) -> None:
        self._put(ws, ws.table(table) if isinstance(table, str) else table)
        self._row: str | None = None
        if key is not None:
            ws.vector(self._named, key)
            self._row = as_text(key)
        self._last: dict[str, Any] = {}
        self._asking = 0
        self._through: bool | None = None
        super().__init__(ws)
        self.k = k
        self.query = query
        self.selection = [] if self._row is None else [self._row]
        if self._row is not None or query:
            with self._as_bound():
                self._near(query or None, self._row if not query else None)
        self.observe(self._led, names="selection")
        self.observe(self._set, names=["query", "filter", "k"])

    def _put(self, ws: "Workspace", named: ResultTable) -> None:
        """Look around in this table."""
        self._columns = shown_columns(ws, named)
        self._named, self._shown = named, Shown(ws._matrix(named._record).keys)
        self._beside = Beside(ws, named, self._columns)

    def _renewed(self) -> dict[str, Any]:
        """What was asked, asked again of the newest version."""
        self._put(self._ws, self._ws.table(self._named.name))
        self.selection = self._shown.there(self.selection)
        if self._row is not None and not self._shown.there([self._row]):
            self._row = None
        return self._again()

    def refresh(self) -> None:
        """Ask again, the newest version of the table."""
        with self._as_bound():
            self._tell({"kind": "changed", "body": self._renewed()})

    @traitlets.validate("selection")
    def _chosen(self, proposal: dict[str, Any]) -> list[str]:
        names = list(proposal["value"])
        self._shown.places(names, self._named.name)
        return names

    def _there(self, names: list[str]) -> list[str]:
        return self._shown.there(names)

    def _led(self, change: dict[str, Any]) -> None:
        """A row that Python or a linked panel chose, and that is not on the page, is gone to: its neighbours are shown."""
        names = change["new"]
        if len(names) == 1 and names[0] != self._row and names[0] not in [hit["key"] for hit in self._last.get("hits", [])]:
            self._do("selection", lambda: self._changed(lambda: self._near(None, names[0])))

    def _changed(self, near: Callable[[], dict[str, Any]]) -> None:
        """Tell every view what is near by now, or why that cannot be told."""
        try:
            with self._as_bound():
                self._tell({"kind": "changed", "body": near()})
        except JammiError as problem:
            self._tell({"kind": "said", "lines": list(problem.rendered())})

    def _set(self, change: dict[str, Any]) -> None:
        """A query, a condition or a number that was set, here or on the page, is searched with; a condition that is none is said on the page."""
        if self._asking != threading.get_ident():
            self._do(change["name"], lambda: self._changed(lambda: self._near(self.query, None) if change["name"] == "query" else self._again()))

    def _reads(self, what: Any) -> bool:  # noqa: ARG002  all of it shows columns
        return not self._beside.lies() or (bool(self.filter.strip()) and not self._conditions().lie(self.filter))

    def _lay(self, what: Any) -> None:  # noqa: ARG002
        self._beside.lay()
        if self.filter.strip():
            self._conditions().lay(self.filter)

    def _conditions(self) -> Conditions:
        return Conditions(Behind(self._ws, self._ws._searchable(self._named)))

    def _look_quietly(self) -> None:
        about = self._about()
        if self._last and about != self._last["about"]:
            self._last["about"] = about
            self._tell({"kind": "about", "body": about})
        if self._beside.moved() or (self.filter.strip() and self._conditions().moved(self.filter)):
            self._lay_again(lambda: self._lay(None))

    def _key(self, shown: str) -> Any:
        """The key of a row that is shown so. RowNotFound."""
        return self._shown.keys_at(self._shown.places([shown], self._named.name))[0].as_py()

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Near(text=text, row=row, k=k):
                with self._searching():
                    self.k = k
                return self._near(text, row)
            case protocol.Compare(rows=rows):
                return self._compared([self._key(r) for r in rows])
            case protocol.Refresh():
                return self._renewed()
        return self._again()

    def _again(self) -> dict[str, Any]:
        if self.query or self._row is not None:
            return self._near(self.query or None, self._row)
        return self._near(None, None)

    @contextlib.contextmanager
    def _searching(self) -> Iterator[None]:
        """What is set in the block says what is searched for, and does not ask for a search."""
        self._asking = threading.get_ident()
        try:
            yield
        finally:
            self._asking = 0

    def _near(self, text: str | None, row: str | None) -> dict[str, Any]:
        """The hits, and how near the nearest two hundred are."""
        where = of_the_rows(self._ws._rooms.engine, self.filter) if self.filter.strip() else None
        self._row, key = (row, self._key(row)) if text is None and row is not None else (None, None)
        wide = max(self.k, NEAREST)
        if not text and row is None:
            self._last = {"hits": [], "query": "", "row": None, "about": self._about()}
            return dict(self._last)
        found, self._through = self._ws._searched(self._named, text or None, key, wide, where, None, self._columns, None)
        with self._searching():
            self.set_trait("query", text or "")
        rows = found.arrow()
        hits, near = self._told(rows.slice(0, self.k)), [round(similarity, 4) for similarity in rows["similarity"].to_pylist()]
        own = self._values([key])[0] if row is not None else None
        self._last = {"hits": hits, "histogram": _histogram(near), "query": text or "", "row": row, "own": own, "about": self._about()}
        return dict(self._last)

    def _told(self, rows: "pa.Table") -> list[dict[str, Any]]:
        values = [texts_of(rows[column], MOST_OF_A_COLUMN) for column in self._columns]
        told = zip(rows["key"].to_pylist(), rows["similarity"].to_pylist(), rows["source_missing"].to_pylist(), strict=True)
        return [
            {"key": as_text(key), "similarity": round(similarity, 4), "missing": missing, "values": [column[at] for column in values]}
            for at, (key, similarity, missing) in enumerate(told)
        ]

    def _values(self, keys: Sequence[Any]) -> list[list[str | None]]:
        """The columns of some rows as they are now; empty for those that are gone."""
        import pyarrow as pa

        found = self._beside.of(pa.array(keys, self._shown.keys.type))
        columns = [texts_of(found[column], MOST_OF_A_COLUMN) for column in self._columns]
        return [[column[at] for column in columns] for at in range(len(keys))]

    def _compared(self, keys: Sequence[Any]) -> dict[str, Any]:
        import numpy as np

        a, b = (self._ws.vector(self._named, key).astype(np.float64) for key in keys)
        similarity = float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))
        return {"keys": [as_text(k) for k in keys], "columns": self._columns, "values": self._values(keys), "similarity": round(similarity, 4)}

    def _about(self) -> dict[str, Any]:
        """What stands above the hits: the table, whether it is still true, and how it is searched."""
        verdict, notes = judged(self._ws, self._named.name, self._named.version)
        count = self._named.row_count or 0
        state = self._ws._rooms.vectors.told(self._named._record)
        how = {None: "", True: "; searched through the index", False: "; exact search: all rows were compared"}[self._through]
        notes.append(f"{count:,} rows of {self._named.dimensions} dimensions, {f'index {state}' if state else 'no index'}{how}")
        return {
            "table": self._named.name,
            "version": self._named.version,
            "verdict": verdict,
            "notes": notes,
            "columns": self._columns,
            "text": _text_columns(self._named),
        }

    def _form(self) -> Form:
        title = f"Neighbours in {self._named.name}, version {self._named.version}"
        hits = self._last.get("hits", [])
        if not hits:
            return table(["key", "similarity"], [], caption=title, note="Nothing was asked yet.")
        asked = f"nearest to {self._last['query']!r}" if self._last["query"] else f"nearest to the row {self._last['row']}"
        shown = [[h["key"], f"{h['similarity']:.4f}", *(v for v in h["values"][:4])] for h in hits]
        rows = table(["key", "similarity", *self._columns[:4]], shown, caption=title, note=asked)
        with self._as_bound():
            return stack(noted(self._ws, self._named.name, self._named.version), rows)


def shown_columns(ws: "Workspace", named: ResultTable) -> list[str]:
    """The columns of the rows behind that people can read, but for the key: texts first. SchemaMismatch for a table without vectors."""
    columns = Behind(ws, ws._searchable(named)).columns
    manifest = named.manifest
    key = str(manifest.descriptor.get("key", "")) if manifest is not None else ""
    taken = {"key", "rank", "similarity", "source_missing", "query", "vector", key.casefold()}
    kept = [c for c, kind in columns.items() if c.casefold() not in taken and not c.startswith("_") and not kind.startswith(("BLOB", "FLOAT["))]
    return sorted(kept, key=lambda c: columns[c] != "VARCHAR")[:MOST_COLUMNS]


def _text_columns(named: ResultTable) -> list[str]:
    manifest = named.manifest
    text = manifest.descriptor.get("text") if manifest is not None else None
    return [str(t) for t in text] if isinstance(text, list | tuple) else []


def _histogram(values: Sequence[float]) -> dict[str, Any]:
    """How many values are in each of twenty bins between the least and the greatest."""
    if not values:
        return {"bins": [], "least": 0.0, "most": 0.0}
    least, most = min(values), max(values)
    bins = [0] * BARS
    for value in values:
        bins[min(BARS - 1, int((value - least) / ((most - least) or 1.0) * BARS))] += 1
    return {"bins": bins, "least": least, "most": most}
