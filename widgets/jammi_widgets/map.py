"""The map of an embedding table: its rows as points of a plane, near each other where the rows are alike."""

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import traitlets

from jammi_lab.conditions import Conditions, of_the_rows
from jammi_lab.errors import InvalidArgument, JammiError, RowNotFound, SchemaMismatch
from jammi_lab.exploring import Colouring, VectorMap
from jammi_lab.handles import ResultTable
from jammi_lab.hits import Behind
from jammi_lab.markup import Form, as_text, stack, visible
from jammi_lab.names import near
from jammi_lab.values.verdicts import word
from jammi_widgets import assets, protocol
from jammi_widgets.beside import Beside
from jammi_widgets.judging import judged, noted
from jammi_widgets.neighbors import shown_columns
from jammi_widgets.panel import Panel
from jammi_widgets.rows import Shown, texts_of
from jammi_widgets.work import Report

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.workspace import Workspace

MOST_SELECTED = 10_000
"""Keys that `selection` holds; `selected()` gives all of them."""
PALETTE = ("#3b7dd8", "#d1632a", "#2f8f5b", "#b04f9e", "#b7891f", "#1f9aa8", "#7c6bd6", "#c0454c", "#7f8c3a", "#8a6f5a")
"""Colours of the values of a column, most frequent first; those beyond share the last."""
OTHERS = "#98a1ab"
MOST_SAID = 6
"""Columns that are read out of a row, and how many characters of each."""
MOST_OF_A_VALUE = 300
AT_ONCE = "at once"
"""What a page says for the components that are computed when they are shown, and not kept."""


class EmbeddingMap(Panel):
    """The rows of an embedding table as points: by their two principal components, at once, or as `projection` says.

    `projection`: "pca" or "tsne" for points that are kept, as `ws.vector_map` keeps them. `table` may also be a table of kind projection, or what
    `ws.vector_map` gave. `selection` holds the keys of chosen rows as text, the first ten thousand of them; `selected()` all of them as an Arrow
    table to join with. `filter` is a condition in SQL over the columns of the rows behind, as `where=` of `ws.search` takes it: the other points step
    back, and a lasso leaves them out. `color` names a column of the rows behind. Raises as `ws.vector_map`.
    """

    _esm = assets.module("map")
    _css = assets.style()
    _kinds: ClassVar[Any] = (
        protocol.Open | protocol.Refresh | protocol.Points | protocol.Colour | protocol.Hover | protocol.Lasso | protocol.Act | protocol.Cancel
    )

    _aside = (protocol.Refresh, protocol.Colour, protocol.Hover, "filter")

    color = traitlets.Unicode("").tag(sync=True)
    """The column that colours the points; empty for none."""
    count = traitlets.Int(0).tag(sync=True)
    """How many rows are chosen."""

    def __init__(
        self,
        ws: "Workspace",
        table: str | ResultTable | VectorMap,
        *,
        color: str | None = None,
        projection: Literal["pca", "tsne"] | None = None,
    ) -> None:
        self._put(ws, table if isinstance(table, VectorMap) else ws.vector_map(table, projection))
        if color is not None and color not in self._columns:
            raise InvalidArgument(f"The rows behind {self._named.name!r} have no column {color!r}.", near=near(color, self._columns))
        super().__init__(ws)
        self.color = color or ""
        self.observe(lambda _: self._mark(), names="selection")
        self.observe(lambda _: self._do("filter", self._filtered), names="filter")

    def _put(self, ws: "Workspace", shown: VectorMap) -> None:
        """Show these points."""
        self._named = ws.table(shown.table)
        self._columns = shown_columns(ws, self._named)
        self._beside = Beside(ws, self._named, self._columns)
        self._map, self._points = shown, _within(shown)
        self._shown = Shown(shown.keys)
        self._rows: NDArray[np.int64] | None = None
        self._apart: NDArray[np.bool_] | None = None
        self._about_told: dict[str, Any] = {}
        self._caught_keys: list[str] | None = None

    def _show(self, shown: VectorMap) -> None:
        """Show these points in place of others; what is chosen stays chosen where it is still there."""
        chosen = list(self.selection)
        self._put(self._ws, shown)
        self.selection = self._shown.there(chosen)
        self._rows = self._shown.places(self.selection, self._source.name)
        self.set_trait("count", len(self._rows))
        with contextlib.suppress(JammiError):  # a column that the condition names may be gone
            self._find()
        self._tell({"kind": "changed", "body": self._about()})

    def refresh(self) -> None:
        """Take the newest version of what is shown."""
        with self._as_bound():
            kept = self._map.projection
            self._show(self._ws.vector_map(self._named.name if kept is None else kept.name))

    def selected(self) -> "pa.Table":
        """The keys of the chosen rows, in one column `key`: name the answer in a cell to join with it."""
        import pyarrow as pa

        return pa.table({"key": self._keys()})

    def _keys(self) -> "pa.Array":
        import numpy as np

        return self._shown.keys_at(np.array([], np.int64) if self._rows is None else self._rows)

    @traitlets.validate("selection")
    def _chosen(self, proposal: dict[str, Any]) -> list[str]:
        names = list(proposal["value"])
        if names == self._caught_keys:
            return names
        self._rows, self._caught_keys = self._shown.places(names, self._source.name), None
        self.set_trait("count", len(names))
        return names

    def _there(self, names: list[str]) -> list[str]:
        return self._shown.there(names)

    @traitlets.validate("color")
    def _column(self, proposal: dict[str, Any]) -> str:
        if (column := proposal["value"]) and column not in self._columns:
            raise InvalidArgument(f"The rows behind {self._named.name!r} have no column {column!r}.", near=near(column, self._columns))
        return str(column)

    def _filtered(self) -> None:
        """Find the points that satisfy the condition; one that is none is said on the page, and nothing changes."""
        try:
            with self._as_bound():
                self._find()
        except JammiError as problem:
            self._tell({"kind": "said", "lines": list(problem.rendered())})
        else:
            self._tell({"kind": "said", "lines": []})
            self._mark()

    def _find(self) -> None:
        import numpy as np
        import pyarrow.compute as pc

        if not self.filter.strip():
            self._apart = None
            return
        keys = self._conditions().keys(of_the_rows(self._ws._rooms.engine, self.filter), None)
        found = pc.is_in(self._map.keys, value_set=self._as_kept(keys))
        self._apart = ~np.asarray(found.fill_null(False))

    def _conditions(self) -> Conditions:
        return Conditions(Behind(self._ws, self._ws._searchable(self._named)))

    def _reads(self, what: Any) -> bool:
        match what:
            case "filter" | protocol.Refresh():
                return bool(self.filter.strip()) and not self._conditions().lie(self.filter)
            case protocol.Hover() | protocol.Colour():
                return not self._beside.lies()
        return False

    def _lay(self, what: Any) -> None:
        match what:
            case "filter" | protocol.Refresh():
                self._conditions().lay(self.filter)
            case protocol.Hover() | protocol.Colour():
                self._beside.lay()

    def _as_kept(self, keys: "pa.ChunkedArray") -> "pa.Array":
        """Keys of the rows behind in the type of those of the points. SchemaMismatch when theirs is another by now."""
        import pyarrow as pa

        kind = self._map.keys.type
        try:
            return keys.cast(kind).combine_chunks()
        except pa.ArrowException as error:
            raise SchemaMismatch(
                "The keys of the rows behind are of another type by now.", column="key", expected=str(kind), actual=str(keys.type)
            ) from error

    def _flags(self) -> "memoryview":
        """One byte for each point: 1 when it is chosen, 2 when the condition leaves it out."""
        import numpy as np

        flags = np.zeros(len(self._points), np.uint8)
        if self._rows is not None:
            flags[self._rows] = 1
        if self._apart is not None:
            flags[self._apart] = 2
        return flags.data

    def _mark(self) -> None:
        """What is chosen and found is shown, whoever chose it: Python, a linked panel, or this page."""
        self._tell({"kind": "marked", "body": self._marked()}, [self._flags()])

    def _marked(self) -> dict[str, Any]:
        return {"chosen": self.count, "found": None if self._apart is None else int(len(self._apart) - self._apart.sum())}

    def _look_quietly(self) -> None:
        before, about = self._about_told, self._about()
        if before and about != before:
            self._tell({"kind": "about", "body": about})
        if self._beside.moved():
            self._lay_again(self._beside.lay)
        if self.filter.strip() and self._conditions().moved(self.filter):
            self._lay_again(lambda: self._conditions().lay(self.filter))

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Points():
                return {"count": len(self._points), **self._marked(), "buffers": [self._points.reshape(-1).view("uint8").data, self._flags()]}
            case protocol.Colour(column=column):
                return self._coloured(column)
            case protocol.Hover(point=point):
                return self._said(point)
            case protocol.Lasso(outline=outline):
                return self._caught(outline)
            case protocol.Refresh():
                self.refresh()
        return self._about()

    @property
    def _source(self) -> ResultTable:
        """The table whose verdict is that of the points."""
        return self._map.projection or self._named

    def _about(self) -> dict[str, Any]:
        """What stands above the points: what they are of, how they were placed, and whether they are still true."""
        name, version = self._source.name, self._map.version
        verdict, notes = judged(self._ws, name, version)
        self._about_told = {
            "table": self._named.name,
            "source": name,
            "version": version,
            "verdict": verdict,
            "notes": notes,
            "columns": self._columns,
            "count": len(self._points),
            "placed": self._map.placed if len(self._points) > 1 else "",
            "method": self._method,
        }
        return dict(self._about_told)

    @property
    def _method(self) -> str:
        kept = self._map.projection
        return AT_ONCE if kept is None or kept.manifest is None else str(kept.manifest.descriptor["method"])

    # -- actions -------------------------------------------------------------------------------------------------------------------

    def _act(self, action: str, names: list[str], report: Report) -> dict[str, Any]:
        """`recompute`: make the shown table true again. `project`: place the points another way."""
        if action == "recompute":
            name = self._source.name
            self._ws.recompute(name, progress=report)
            self.refresh()
            return {"lines": [f"{name} is {word(self._ws.staleness(name))}."]}
        if action == "project":
            method = names[0] if names[0] in ("pca", "tsne") else None
            if method is None and names[0] != AT_ONCE:
                raise InvalidArgument(f"There is no way {names[0]!r} to place points.", near=near(names[0], ("pca", "tsne")))
            found = self._ws.vector_map(self._named.name, method, progress=report)  # type: ignore[arg-type]  # it is one of them
            self._show(found)
            return {"lines": []}
        return super()._act(action, names, report)

    def _coloured(self, column: str) -> dict[str, Any]:
        """One byte for each point: the place of its value in the legend; the last place for the others, 255 for none."""
        if column not in self._columns:
            raise InvalidArgument(f"There is no column {column!r}.", near=near(column, self._columns))
        self.color = column
        found = self._colouring(column)
        return {"column": column, "legend": [list(each) for each in found.legend], "buffers": [found.places.data]}

    def _colouring(self, column: str) -> Colouring:
        """The most frequent values with a colour each, and the others together. Raises as reading does."""
        values = self._beside.whole(self._map.keys, column)
        codes, most, others = by_frequency(values, len(PALETTE))
        shown = [(visible(name)[:60], colour, count) for (name, count), colour in zip(most, PALETTE, strict=False)]
        if others:
            of_most = sum(count for _, count in most)
            shown.append((f"{others:,} other values", OTHERS, len(values) - values.null_count - of_most))
        return Colouring(column, shown, codes, values.null_count)

    def _said(self, point: int) -> dict[str, Any]:
        if point >= len(self._points):
            raise RowNotFound("That point is not there any more.")
        found = self._beside.of(self._map.keys.slice(point, 1))
        texts = [(column, texts_of(found[column], MOST_OF_A_VALUE)[0]) for column in self._columns[:MOST_SAID]]
        values = [[column, visible(text)[:MOST_OF_A_VALUE]] for column, text in texts if text is not None]
        return {"point": point, "key": as_text(self._map.keys[point].as_py()), "values": values}

    def _caught(self, outline: list[tuple[float, float]]) -> dict[str, Any]:
        """The points inside an outline become the selection."""
        import numpy as np

        caught = inside(self._points, np.array(outline, np.float64))
        self._rows = np.flatnonzero(caught if self._apart is None else caught & ~self._apart)
        self.set_trait("count", len(self._rows))
        self._caught_keys = self._shown.texts_at(self._rows[:MOST_SELECTED])
        self.selection = self._caught_keys
        return {**self._marked(), "buffers": [self._flags()]}

    def _form(self) -> Form:
        """The points as a picture, in their colours as far as these can be read."""
        colouring = None
        with self._as_bound():
            with contextlib.suppress(JammiError):
                colouring = self._colouring(self.color) if self.color else None
            return stack(noted(self._ws, self._source.name, self._map.version), self._map._body(colouring))


def _within(shown: VectorMap) -> "NDArray[np.float32]":
    """The points within [−1, 1] in both directions, the middle of them at the origin."""
    import numpy as np

    if not len(shown):
        return np.zeros((0, 2), np.float32)
    points = shown.points - (shown.points.min(0) + shown.points.max(0)) / 2
    return np.ascontiguousarray(points / (float(np.abs(points).max()) or 1.0), np.float32)


def by_frequency(values: "pa.ChunkedArray", most: int) -> "tuple[NDArray[np.uint8], list[tuple[str, int]], int]":
    """For each value the place that it has among the most frequent ones, or `most`, or 255 for NULL; these as texts with how often each is there; and
    how many others there are. Of equally frequent values the lesser comes first."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    elif pa.types.is_null(values.type):
        values = values.cast(pa.string())
    try:
        return _by_frequency(values, most)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):  # lists and structs, say, are neither told apart nor put in order
        return _by_frequency(pa.chunked_array([pa.array(texts_of(values, MOST_OF_A_VALUE), pa.string())]), most)


def _by_frequency(values: "pa.ChunkedArray", most: int) -> "tuple[NDArray[np.uint8], list[tuple[str, int]], int]":
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = values.combine_chunks()
    encoded = (plain.chunk(0) if isinstance(plain, pa.ChunkedArray) else plain).dictionary_encode()
    at, distinct = np.asarray(encoded.indices.fill_null(-1), np.int64), encoded.dictionary
    counts = np.bincount(at[at >= 0], minlength=len(distinct))
    ordered = [("counts", "descending"), ("values", "ascending")]
    first = pc.select_k_unstable(pa.table({"counts": counts, "values": distinct}), min(most, len(distinct)), ordered)
    place = np.full(len(distinct) + 1, most, np.uint8)
    place[np.asarray(first)] = np.arange(len(first))
    place[-1] = 255
    names = texts_of(pa.chunked_array([distinct.take(first)]), MOST_OF_A_VALUE)
    return place[at], [(str(name), int(counts[i])) for name, i in zip(names, first.to_pylist(), strict=True)], len(distinct) - len(first)


def inside(points: "NDArray[np.float32]", outline: "NDArray[np.float64]") -> "NDArray[np.bool_]":
    """Which points lie inside a closed outline: those from which a ray crosses it an odd number of times."""
    import numpy as np

    least, most = outline.min(0), outline.max(0)
    near = np.flatnonzero(((points >= least) & (points <= most)).all(1))
    order = near[np.argsort(points[near, 1], kind="stable")]
    x, y = points[order, 0].astype(np.float64), points[order, 1].astype(np.float64)
    odd = np.zeros(len(order), bool)
    for (ax, ay), (bx, by) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if ay != by:
            low, high = np.searchsorted(y, (min(ay, by), max(ay, by)))  # the points at whose height the edge is
            odd[low:high] ^= x[low:high] < (bx - ax) * (y[low:high] - ay) / (by - ay) + ax
    found = np.zeros(len(points), bool)
    found[order[odd]] = True
    return found
