"""The map of an embedding table: its rows as points of a plane, near each other where the rows are alike."""

from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from jammi_lab.errors import InvalidArgument, RowNotFound
from jammi_lab.handles import ResultTable
from jammi_lab.hits import Behind
from jammi_lab.markup import Form, as_text, escape, picture, visible
from jammi_lab.names import near, quote
from jammi_lab.values.verdicts import Fresh, word
from jammi_widgets import assets, protocol
from jammi_widgets.neighbors import shown_columns
from jammi_widgets.panel import Panel

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.vectors.matrix import Matrix
    from jammi_lab.workspace import Workspace

MOST_SELECTED = 10_000
"""Keys that `selection` holds; `selected()` gives all of them."""
MOST_SAVED = 4_000
"""Points in the saved picture."""
PALETTE = ("#3b7dd8", "#d1632a", "#2f8f5b", "#b04f9e", "#b7891f", "#1f9aa8", "#7c6bd6", "#c0454c", "#7f8c3a", "#8a6f5a")
"""Colours of the values of a column, most frequent first; those beyond share the last."""
OTHERS = "#98a1ab"


class EmbeddingMap(Panel):
    """The rows of an embedding table as points, by their two principal components.

    `selection` holds the keys of chosen rows as text, the first ten thousand of them; `selected()` all of them as an Arrow table to join with.
    `color` names a column of the rows behind. Raises TableNotFound, SchemaMismatch for a table without vectors.
    """

    _esm = assets.module("map")
    _css = assets.style()
    _kinds: ClassVar[Any] = (
        protocol.Open | protocol.Refresh | protocol.Points | protocol.Colour | protocol.Hover | protocol.Lasso | protocol.Act | protocol.Cancel
    )

    color = traitlets.Unicode("").tag(sync=True)
    """The column that colours the points; empty for none."""
    count = traitlets.Int(0).tag(sync=True)
    """How many rows are chosen."""

    def __init__(self, ws: "Workspace", table: str | ResultTable, *, color: str | None = None) -> None:
        self._named = ws.table(table) if isinstance(table, str) else table
        self._columns = shown_columns(ws, self._named)
        if color is not None and color not in self._columns:
            raise InvalidArgument(f"The rows behind {self._named.name!r} have no column {color!r}.", near=near(color, self._columns))
        self._behind = Behind(ws, ws._searchable(self._named))
        self._matrix: Matrix = ws._matrix(self._named._record)
        self._points, self._shares = _placed(self._matrix)
        self._rows: NDArray[np.int64] | None = None
        self._caught_keys: list[str] | None = None
        super().__init__(ws)
        self.color = color or ""

    def refresh(self) -> None:
        """Take the newest version of the table."""
        with self._as_bound():
            self._named = self._ws.table(self._named.name)
            self._matrix = self._ws._matrix(self._named._record)
            self._points, self._shares = _placed(self._matrix)
        self._rows = None
        self.selection = []
        self._tell({"kind": "changed", "body": self._about()})

    def selected(self) -> "pa.Table":
        """The keys of the chosen rows, in one column `key`: name the answer in a cell to join with it."""
        import pyarrow as pa

        return pa.table({"key": self._keys()})

    def _keys(self) -> "pa.Array":
        import numpy as np

        return self._matrix.keys_at(np.array([], np.int64) if self._rows is None else self._rows)

    @traitlets.validate("selection")
    def _chosen(self, proposal: dict[str, Any]) -> list[str]:
        import numpy as np

        names = list(proposal["value"])
        if names == self._caught_keys:
            return names
        self._rows, self._caught_keys = np.array(sorted(self._row(n) for n in names), np.int64), None
        self.set_trait("count", len(names))
        return names

    def _told_keys(self) -> list[str]:
        return [as_text(k) for k in self._keys()[:MOST_SELECTED].to_pylist()]

    def _row(self, shown: str) -> int:
        for key in (shown, *([int(shown)] if shown.lstrip("-").isdigit() else [])):
            row = self._matrix.row_of(key)
            if row is not None:
                return row
        raise RowNotFound(f"{self._named.name!r} has no row with the key {shown!r}.")

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Points():
                return {"count": len(self._points), "buffers": [self._points.data.cast("B")]}
            case protocol.Colour(column=column):
                return self._coloured(column)
            case protocol.Hover(point=point):
                return self._said(point)
            case protocol.Lasso(outline=outline):
                return self._caught(outline)
            case protocol.Refresh():
                self.refresh()
        return self._about()

    def _about(self) -> dict[str, Any]:
        verdict = self._ws._questions.verdicts_now([self._named.name]).get(self._named.name, Fresh())
        kept = f"{sum(self._shares):.0%} of the variance" if len(self._points) > 1 else ""
        return {
            "table": self._named.name,
            "version": self._named.version,
            "verdict": word(verdict),
            "columns": self._columns,
            "count": len(self._points),
            "kept": kept,
        }

    def _values(self, columns: list[str], where: str = "", key: Any = None) -> "pa.Table":
        """The key as a text and some columns of the rows behind, as texts."""
        named = self._behind.key_column
        picked = ", ".join(f"{quote(c)}::VARCHAR AS {quote(c)}" for c in columns)
        sql = f"SELECT {quote(named)} AS __key, {picked} FROM {self._behind.address}"
        return self._ws.sql(f"SELECT * FROM ({sql}) WHERE __key = $key", key=key).arrow() if where else self._ws.sql(sql).arrow()

    def _coloured(self, column: str) -> dict[str, Any]:
        """One byte for each point: the place of its value in the legend; the last place for the others, 255 for none."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if column not in self._columns:
            raise InvalidArgument(f"There is no column {column!r}.", near=near(column, self._columns))
        self.color = column
        found = self._values([column])
        own = self._matrix.keys_at(np.arange(len(self._points)))
        at = pc.index_in(own, found["__key"].cast(own.type).combine_chunks())
        values = found[column].combine_chunks().take(at)
        counts = sorted((-c["counts"], c["values"]) for c in pc.value_counts(values).to_pylist() if c["values"] is not None)
        legend = [name for _, name in counts[: len(PALETTE)]]
        place = pc.fill_null(pc.index_in(values, pa.array(legend, pa.string())), len(legend))
        codes = np.where(np.asarray(pc.is_null(values)), 255, np.asarray(place)).astype(np.uint8)
        shown = [[visible(name)[:60], PALETTE[i], -counts[i][0]] for i, name in enumerate(legend)]
        if len(counts) > len(legend):
            shown.append([f"{len(counts) - len(legend):,} other values", OTHERS, -sum(c for c, _ in counts[len(legend) :])])
        return {"column": column, "legend": shown, "buffers": [codes.data]}

    def _said(self, point: int) -> dict[str, Any]:
        import numpy as np

        if point >= len(self._points):
            raise RowNotFound("That point is not there any more.")
        key = self._matrix.keys_at(np.array([point]))[0].as_py()
        found = self._values(self._columns[:6], "key", key).to_pylist()
        values = [[c, visible(str(v))[:300]] for c, v in found[0].items() if c != "__key" and v is not None] if found else []
        return {"point": point, "key": as_text(key), "values": values}

    def _caught(self, outline: list[tuple[float, float]]) -> dict[str, Any]:
        """The points inside an outline become the selection."""
        import numpy as np

        self._rows = np.flatnonzero(inside(self._points, np.array(outline, np.float64)))
        self.set_trait("count", len(self._rows))
        self._caught_keys = self._told_keys()
        self.selection = self._caught_keys
        flags = np.zeros(len(self._points), np.uint8)
        flags[self._rows] = 1
        return {"chosen": len(self._rows), "buffers": [flags.data]}

    def _form(self) -> Form:
        """The points as a picture."""
        import numpy as np

        step = max(1, -(-len(self._points) // MOST_SAVED))
        some = (self._points[::step] * [1, -1] + 1) * [300, 200] + 4
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>' for x, y in np.round(some, 1).tolist())
        head = '<svg xmlns="http://www.w3.org/2000/svg" width="608" height="408" viewBox="0 0 608 408">'
        drawing = f'{head}<g fill="{PALETTE[0]}" fill-opacity="0.6">{dots}</g></svg>'
        name = f"{self._named.name}, version {self._named.version}"
        title = f"Map of {name}: {len(self._points):,} rows by their first two principal components"
        html = f"<div>{escape(title)}</div>{picture(drawing, title)}"
        return Form(html, visible(title))


def _placed(matrix: "Matrix") -> "tuple[NDArray[np.float32], tuple[float, float]]":
    """The points within [−1, 1] in both directions, and the share of the variance that each direction holds."""
    import numpy as np

    from jammi_lab.vectors.projection import plane

    points, shares = plane(matrix.vectors)
    most = float(np.abs(points).max()) if len(points) else 0.0
    return np.ascontiguousarray(points / (most or 1.0), np.float32), shares


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
