"""The map of an embedding table: rows as points in the plane, close to each other where the vectors
are similar."""

import contextlib
from typing import TYPE_CHECKING, Any, Literal

import traitlets

from jammi_lab.core.errors import InvalidArgument, JammiError, RowNotFound, SchemaMismatch
from jammi_lab.core.html import Rendered, escape_invisible, to_text, vstack
from jammi_lab.core.identifiers import (
    check_choice,
    copyable_name,
    near_names,
    quote_identifier,
    quoted_name,
)
from jammi_lab.core.verdicts import marked_label
from jammi_lab.features.outputs.stamps import StampedSource
from jammi_lab.features.search.hits import VECTOR_HIT_COLUMNS
from jammi_lab.workspace.column_filters import condition
from jammi_lab.workspace.result_table import ResultTable
from jammi_lab.workspace.vector_views import Colouring, VectorMap
from jammi_widgets import assets, protocol
from jammi_widgets.action_runner import ProgressCallback
from jammi_widgets.cell_texts import row_texts
from jammi_widgets.row_panel import RowPanel
from jammi_widgets.value_scale import NO_VALUE_CODE, rank_by_frequency, scale_values
from jammi_widgets.verdict_notes import render_notes, verdict_with_notes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.workspace.workspace import Workspace

MAX_SELECTED_KEYS = 10_000
"""Maximum number of keys in `selection`; `selected()` returns all of them."""
PALETTE = (
    "#3b7dd8",
    "#d1632a",
    "#2f8f5b",
    "#b04f9e",
    "#b7891f",
    "#1f9aa8",
    "#7c6bd6",
    "#c0454c",
    "#7f8c3a",
    "#8a6f5a",
)
"""Colours for the values of a column, most frequent first; the remaining values share one
colour."""
OTHERS_COLOR = "#98a1ab"
MAX_HOVER_COLUMNS = 6
"""Maximum number of columns shown for a hovered point."""
MAX_VALUE_CHARS = 300
MAX_LISTED_ROWS = 50
"""Maximum number of selected rows listed below the map; `selected_rows()` returns all of them."""
UNSAVED_METHOD = "at once"
"""The page's name for a projection that is computed on display and not stored."""


class EmbeddingMap(RowPanel):
    """The rows of an embedding table as points, placed by their first two principal components or
    by a stored `projection`.

    `projection`: "pca" or "tsne" for points that are stored, as by `ws.vector_map`. `table` may
    also be a table of kind projection, or the result of `ws.vector_map`. `selection` holds the keys
    of selected rows as text, at most ten thousand; `selected()` returns all of them as an
    Arrow table to join with. `filter` is an SQL condition on the columns of the source rows, like
    `where=` of `ws.search`; other points are dimmed and excluded from a lasso. `color` names a
    column of the source rows. Raises the errors of `ws.vector_map`.
    """

    _esm = assets.module("map")
    color = traitlets.Unicode("").tag(sync=True)
    """The column that colours the points; empty for none."""
    count = traitlets.Int(0).tag(sync=True)
    """The number of selected rows."""

    def __init__(
        self,
        ws: "Workspace",
        table: str | ResultTable | VectorMap,
        *,
        color: str | None = None,
        projection: Literal["pca", "tsne"] | None = None,
    ) -> None:
        self._ws = ws
        self._set_map(table if isinstance(table, VectorMap) else ws.vector_map(table, projection))
        if color is not None:
            self._check_color(color)
        super().__init__(ws)
        self.color = color or ""
        self.observe(lambda _: self._send_marks(), names="selection")
        self.observe(lambda _: self._run_or_queue(self._apply_filter), names="filter")

    def _set_map(self, vector_map: VectorMap) -> None:
        """Set the points of the panel."""
        self._set_rows(self._ws.table(vector_map.table), vector_map.keys)
        self._vector_map, self._points = vector_map, _fit_to_square(vector_map)
        self._selected_rows: NDArray[np.int64] | None = None
        self._filtered_out: NDArray[np.bool_] | None = None
        self._lasso_keys: list[str] | None = None

    def _replace_map(self, vector_map: VectorMap) -> None:
        """Replace the points. Selected rows that still exist stay selected."""
        selected = list(self.selection)
        self._set_map(vector_map)
        self.selection = self._key_index.existing_names(selected)
        self._selected_rows = self._key_index.row_numbers(self.selection, self._verdict_table.name)
        self.set_trait("count", len(self._selected_rows))
        with contextlib.suppress(JammiError):  # the filter may name a removed column
            self._update_filtered_out()

    def _reload(self) -> bool:
        """Load the newest version of the table."""
        projection = self._vector_map.projection
        self._replace_map(
            self._ws.vector_map(self._table.name if projection is None else projection.name)
        )
        return True

    def selected(self) -> "pa.Table":
        """The keys of the selected rows, in one column `key`. Assign the table to a variable to
        join with it."""
        import pyarrow as pa

        return pa.table({"key": self._selection_keys()})

    def selected_rows(self) -> "pa.Table":
        """The selected rows with the columns of their source, in its current state; NULL where a
        row no longer exists. Raises the errors of reading the source."""
        import pyarrow as pa

        keys = self._selection_keys()
        with self._tenant_context():
            rows = self._read_columns(keys, self._columns)
        labels = pa.table({"key": keys})
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            labels = labels if name == "key" else labels.append_column(name, column)
        return labels

    def _first_selected_rows(self) -> dict[str, Any]:
        """The first selected rows as texts, for the list below the map."""
        keys = self._selection_keys()[:MAX_LISTED_ROWS]
        names = self._columns[:MAX_HOVER_COLUMNS]
        texts: list[list[str | None]] = []
        if len(keys):  # else the source is not asked
            texts = row_texts(self._read_columns(keys, names), names, MAX_VALUE_CHARS)
        return {
            "columns": ["key", *map(escape_invisible, names)],
            "rows": [
                [
                    "NULL" if text is None else escape_invisible(text)
                    for text in (to_text(key), *row)
                ]
                for key, row in zip(keys.to_pylist(), texts, strict=True)
            ],
            "chosen": self.count,
            "sql": self.sql if 0 < self.count <= MAX_SELECTED_KEYS else "",
        }

    @property
    def sql(self) -> str:
        """A SELECT of the selected rows of the source, by their keys. InvalidArgument for no rows,
        and for more than ten thousand."""
        if not self.count:
            raise InvalidArgument(
                "No rows are selected.", hint="Select rows with the lasso, or set selection."
            )
        if self.count > MAX_SELECTED_KEYS:
            raise InvalidArgument(
                f"{self.count:,} rows are selected; SQL takes at most {MAX_SELECTED_KEYS:,}.",
                hint="Add the keys as a source: ws.sources.add(NAME, map.selected()).",
            )
        with self._tenant_context():
            rows = self._source_rows()
            keys = [to_text(key) for key in self._selection_keys().to_pylist()]
            is_key = condition(quoted_name(rows.key_column), rows.key_type, keys)
            own = f"jammi.{quote_identifier(self._table.table_name)}"
            name = copyable_name(f"jammi.{self._table.name}")
            return f"SELECT * FROM {name if rows.address == own else rows.address}\nWHERE {is_key}"

    def keep(self, name: str) -> ResultTable:
        """The selected rows of the source as a new table of that name, with a verdict and a place
        in the lineage. InvalidArgument for a name that is taken, and as `sql`."""
        with self._tenant_context():
            if name in self._ws.recipes:
                raise InvalidArgument(
                    f"The table {name!r} already exists.", hint="Choose another name."
                )
            key = self._source_rows().key_column
            return self._ws.materialize(name, self.sql, key=key)

    def _selection_keys(self) -> "pa.Array":
        import numpy as np

        return self._key_index.keys_at(
            np.array([], np.int64) if self._selected_rows is None else self._selected_rows
        )

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> list[str]:
        names = list(proposal["value"])
        if names == self._lasso_keys:
            return names
        self._selected_rows = self._key_index.row_numbers(names, self._verdict_table.name)
        self._lasso_keys = None
        self.set_trait("count", len(names))
        return names

    @traitlets.validate("color")
    def _validate_color(self, proposal: dict[str, Any]) -> str:
        if column := proposal["value"]:
            self._check_color(column)
        return str(column)

    def _check_color(self, column: str) -> None:
        """Raises InvalidArgument for a column by which points cannot be coloured."""
        if column not in self._columns:
            is_of_hits = column.casefold() in VECTOR_HIT_COLUMNS
            raise InvalidArgument(
                f"The source rows of {self._table.name!r} have no column {column!r} to colour by.",
                near=near_names(column, self._columns),
                hint="The hits of a search have a column of that name, which hides it. Give it "
                f"another name in the source: SELECT {column} AS source_{column}, …."
                if is_of_hits
                else "",
            )

    def _apply_filter(self) -> None:
        """Apply the filter. An invalid condition is reported on the page and leaves the points as
        they are."""
        try:
            with self._tenant_context():
                self._update_filtered_out()
        except JammiError as error:
            self._send_message({"kind": "said", "lines": error.rendered_lines()})
        else:
            self._send_message({"kind": "said", "lines": []})
            self._send_marks()

    def _update_filtered_out(self) -> None:
        import numpy as np
        import pyarrow.compute as pc

        condition = self._condition()
        if condition is None:
            self._filtered_out = None
            return
        keys = self._source_rows().matching_keys(condition, None)
        matches = pc.is_in(self._vector_map.keys, value_set=self._cast_keys(keys))
        self._filtered_out = ~np.asarray(matches.fill_null(False))

    def _cast_keys(self, keys: "pa.ChunkedArray") -> "pa.Array":
        """Cast keys of the source rows to the key type of the points. SchemaMismatch if the type
        has changed."""
        import pyarrow as pa

        key_type = self._vector_map.keys.type
        try:
            return keys.cast(key_type).combine_chunks()
        except pa.ArrowException as error:
            raise SchemaMismatch(
                "The keys of the source rows have changed their type.",
                column="key",
                expected=str(key_type),
                actual=str(keys.type),
            ) from error

    def _flags(self) -> "memoryview":
        """One byte for each point: 1 if it is selected, 2 if the filter excludes it."""
        import numpy as np

        flags = np.zeros(len(self._points), np.uint8)
        if self._selected_rows is not None:
            flags[self._selected_rows] = 1
        if self._filtered_out is not None:
            flags[self._filtered_out] = 2
        return flags.data

    def _send_marks(self) -> None:
        """Send selection and filter matches to the page, whether Python, a linked panel or the page
        itself set them."""
        self._send_message({"kind": "marked", "body": self._mark_counts()}, [self._flags()])

    def _mark_counts(self) -> dict[str, Any]:
        return {
            "chosen": self.count,
            "found": None
            if self._filtered_out is None
            else int(len(self._filtered_out) - self._filtered_out.sum()),
        }

    # -- messages
    # ----------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any] | None:
        match message:
            case protocol.Points():
                return {
                    "count": len(self._points),
                    **self._mark_counts(),
                    "buffers": [self._points.reshape(-1).view("uint8").data, self._flags()],
                }
            case protocol.Colour(column=column):
                return self._set_color(column)
            case protocol.Hover(point=point):
                return self._describe_point(point)
            case protocol.Lasso(outline=outline):
                return self._select_outline(outline)
            case protocol.SelectedRows():
                return self._first_selected_rows()
        return None

    @property
    def _verdict_table(self) -> ResultTable:
        """The table whose verdict applies to the points."""
        return self._vector_map.projection or self._table

    def _body(self) -> dict[str, Any]:
        return self._new_header()

    def _header(self) -> dict[str, Any]:
        """Table, placement method and verdict."""
        name, version = self._verdict_table.name, self._vector_map.version
        verdict, notes = verdict_with_notes(self._ws, name, version)
        return {
            "table": self._table.name,
            "source": name,
            "version": version,
            "verdict": verdict,
            "notes": notes,
            "columns": self._columns,
            "count": len(self._points),
            "placed": self._vector_map.placement if len(self._points) > 1 else "",
            "method": self._method,
        }

    @property
    def _method(self) -> str:
        projection = self._vector_map.projection
        return (
            UNSAVED_METHOD
            if projection is None or projection.manifest is None
            else str(projection.manifest.descriptor["method"])
        )

    # -- actions
    # ----------------------------------------------------------------------------------------------

    def _act(self, action: str, names: list[str], report: ProgressCallback) -> dict[str, Any]:
        """`recompute`: bring the table up to date. `project`: place the points by another
        method."""
        if action == "recompute":
            name = self._verdict_table.name
            self._ws.recompute(name, progress=report)
            self.refresh()
            return {"lines": [f"{name} is {marked_label(self._ws.staleness(name))}."]}
        if action == "keep":
            table = self.keep(names[0])
            return {"lines": [f"{table.name} has the {table._record.row_count:,} selected rows."]}
        if action == "project":
            check_choice("method", names[0], ("pca", "tsne", UNSAVED_METHOD))
            method = None if names[0] == UNSAVED_METHOD else names[0]
            vector_map = self._ws.vector_map(self._table.name, method, progress=report)  # type: ignore[arg-type]  # checked above
            self._replace_map(vector_map)
            self._send_body()
            return {"lines": []}
        return super()._act(action, names, report)

    def _set_color(self, column: str) -> dict[str, Any]:
        """One byte for each point: the index of its value in the legend; the last index for other
        values, 255 for NULL."""
        self._check_color(column)
        self.color = column
        colouring = self._colouring(column)
        return {
            "column": column,
            "legend": [list(entry) for entry in colouring.legend],
            "buffers": [colouring.legend_positions.data],
        }

    def _colouring(self, column: str) -> Colouring:
        """The legend and the colour index of each point. Numbers, dates and timestamps have a
        gradient from low to high; of other columns the most frequent values have a colour each, and
        the others share one. Raises the errors of reading the source."""
        values = self._read_columns(self._vector_map.keys, [column])[column]
        if (scaled := scale_values(values)) is not None:
            without_value = int((scaled.positions == NO_VALUE_CODE).sum())
            return Colouring(column, scaled.legend, scaled.positions, without_value)
        codes, frequent, others = rank_by_frequency(values, len(PALETTE))
        legend = [
            (escape_invisible(name)[:60], colour, count)
            for (name, count), colour in zip(frequent, PALETTE, strict=False)
        ]
        if others:
            frequent_count = sum(count for _, count in frequent)
            legend.append(
                (
                    f"{others:,} other values",
                    OTHERS_COLOR,
                    len(values) - values.null_count - frequent_count,
                )
            )
        return Colouring(column, legend, codes, values.null_count)

    def _describe_point(self, point: int) -> dict[str, Any]:
        if point >= len(self._points):
            raise RowNotFound("This point no longer exists.")
        names = self._columns[:MAX_HOVER_COLUMNS]
        rows = self._read_columns(self._vector_map.keys.slice(point, 1), names)
        [texts] = row_texts(rows, names, MAX_VALUE_CHARS)
        values = [
            [column, escape_invisible(text)[:MAX_VALUE_CHARS]]
            for column, text in zip(names, texts, strict=True)
            if text is not None
        ]
        return {
            "point": point,
            "key": to_text(self._vector_map.keys[point].as_py()),
            "values": values,
        }

    def _select_outline(self, outline: list[tuple[float, float]]) -> dict[str, Any]:
        """Select the points inside an outline that match the filter."""
        import numpy as np

        chosen = points_inside(self._points, np.array(outline, np.float64))
        self._selected_rows = np.flatnonzero(
            chosen if self._filtered_out is None else chosen & ~self._filtered_out
        )
        self.set_trait("count", len(self._selected_rows))
        self._lasso_keys = self._key_index.texts_at(self._selected_rows[:MAX_SELECTED_KEYS])
        self.selection = self._lasso_keys
        return {**self._mark_counts(), "buffers": [self._flags()]}

    def _shown_besides(self) -> tuple[list[StampedSource], list[str]]:
        """The source rows give the colours."""
        if not self.color:
            return [], []
        return [], [self._table.source_id or self._table.name]

    def _shown_tables(self) -> list[ResultTable]:
        return [self._table]

    def _rendered(self) -> Rendered:
        """The points as a static image, coloured if the column can be read."""
        colouring = None
        with self._tenant_context():
            with contextlib.suppress(JammiError):
                colouring = self._colouring(self.color) if self.color else None
            return vstack(
                render_notes(self._ws, self._verdict_table.name, self._vector_map.version),
                self._vector_map._content(colouring),
            )


def _fit_to_square(vector_map: VectorMap) -> "NDArray[np.float32]":
    """The points centred at the origin and scaled to [−1, 1] in both directions."""
    import numpy as np

    if not len(vector_map):
        return np.zeros((0, 2), np.float32)
    points = vector_map.points - (vector_map.points.min(0) + vector_map.points.max(0)) / 2
    return np.ascontiguousarray(points / (float(np.abs(points).max()) or 1.0), np.float32)


def points_inside(
    points: "NDArray[np.float32]", outline: "NDArray[np.float64]"
) -> "NDArray[np.bool_]":
    """Which points lie inside a closed outline, by the even-odd rule: a ray from the point crosses
    the outline an odd number of times."""
    import numpy as np

    lower, upper = outline.min(0), outline.max(0)
    candidates = np.flatnonzero(((points >= lower) & (points <= upper)).all(1))
    order = candidates[np.argsort(points[candidates, 1], kind="stable")]
    x, y = points[order, 0].astype(np.float64), points[order, 1].astype(np.float64)
    crossed = np.zeros(len(order), bool)
    for (ax, ay), (bx, by) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if ay != by:
            low, high = np.searchsorted(
                y, (min(ay, by), max(ay, by))
            )  # the points within the edge's height
            crossed[low:high] ^= x[low:high] < (bx - ax) * (y[low:high] - ay) / (by - ay) + ax
    enclosed = np.zeros(len(points), bool)
    enclosed[order[crossed]] = True
    return enclosed
