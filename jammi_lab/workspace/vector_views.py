"""Views of embedding tables: the neighbours of a row, and a map of the whole table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from jammi_lab.core.dataframes import ArrowExportMixin
from jammi_lab.core.definitions import StepInput
from jammi_lab.core.errors import InvalidArgument, RowNotFound
from jammi_lab.core.forms import table
from jammi_lab.core.html import (
    Rendered,
    count_noun,
    escape,
    escape_invisible,
    plain_text,
    svg_image,
    truncate,
    vstack,
)
from jammi_lab.core.identifiers import fold
from jammi_lab.core.panel_selection import PanelSelection
from jammi_lab.core.recipes import parse_descriptor
from jammi_lab.core.records import ProgressOption
from jammi_lab.features.outputs.badge import BadgeMixin, BadgeService
from jammi_lab.features.search.search import check_searchable
from jammi_lab.features.vectors.projection import Projection
from jammi_lab.workspace.result import Result
from jammi_lab.workspace.result_table import ResultTable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.workspace.assembly import Services

_POINT, _WORD, _NO_VALUE = "#3f7fb5", "#707c88", "#c3c9cf"
_WIDTH, _HEIGHT, _PADDING = 640, 400, 14
_FONTS = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
_MAX_DRAWN_POINTS = 4_000
_MAX_LISTED_ROWS = 10


@dataclass(frozen=True)
class Colouring:
    """The colours of the points of a map, by the values of a column."""

    column: str
    legend: Sequence[tuple[str, str, int]]
    """Value, colour, and number of points."""
    legend_positions: "NDArray[np.uint8]"
    """The legend position of each point; any larger number for a point without a value."""
    without_value: int = 0
    """Number of points without a value."""


class Neighbors(PanelSelection, BadgeMixin):
    """The rows most similar to one row of an embedding table."""

    def __init__(self, table: str, key: Any, hits: Result, badges: BadgeService) -> None:
        self.table, self.key, self.hits = table, key, hits
        """`hits`: key, rank, similarity, and the selected columns."""
        self._badges = badges

    def _tables(self) -> Sequence[str]:
        return self.hits._tables()

    def _content(self) -> Rendered:
        return vstack(plain_text(f"Nearest to {self.key} in {self.table}"), self.hits._content())


class VectorMap(PanelSelection, ArrowExportMixin, BadgeMixin):
    """An embedding table as points of a plane, with similar rows near each other as far as a
    projection allows. Also a frame with the columns key, x, y."""

    def __init__(
        self,
        name: str,
        keys: "pa.Array",
        points: "NDArray[np.float32]",
        shares: tuple[float, float] = (0.0, 0.0),
        projection: ResultTable | None = None,
        version: int | None = None,
        badges: BadgeService | None = None,
    ) -> None:
        self.table = name
        self.keys = keys
        self.points = points
        self.shares = shares
        self.projection = projection
        """`points`: (rows, 2) float32 in key order; `shares`: the share of the variance along each
        axis, for a map that is not stored; `projection`: the table that stores the points, None
        for a map that is not stored."""
        self.version = projection.version if projection is not None else version
        """The version of the table that the points were read or computed from."""
        self._badges = badges

    def _tables(self) -> Sequence[str]:
        return [self.table if self.projection is None else self.projection.name]

    @property
    def placement(self) -> str:
        """How the points were computed, as the end of a sentence."""
        if self.projection is None:
            return (
                "along the two directions in which the vectors differ most "
                f"({100 * sum(self.shares):.0f} % of the variance)"
            )
        from jammi_lab.features.vectors.projections import limit_perplexity

        manifest = self.projection.manifest
        descriptor = {} if manifest is None else manifest.descriptor
        method = "by their first two principal components"
        if descriptor.get("method") == "tsne":
            method = (
                "by t-SNE with perplexity "
                f"{limit_perplexity(descriptor['perplexity'], len(self)):.3g}"
            )
        return f"{method} ({self.projection.name}, version {self.projection.version})"

    def __len__(self) -> int:
        return len(self.points)

    def arrow(self) -> "pa.Table":
        """key, x, y of every row."""
        import pyarrow as pa

        return pa.table(
            {"key": self.keys, "x": pa.array(self.points[:, 0]), "y": pa.array(self.points[:, 1])}
        )

    def _content(self, colouring: Colouring | None = None) -> Rendered:
        step = -(-len(self) // _MAX_DRAWN_POINTS) or 1
        points = self.points[::step]
        note = f"{count_noun(len(self), 'row')} of {self.table}"
        if len(self) > 1:
            note += f" {self.placement}"
        note += f"; {len(points):,} of them are drawn" if len(points) < len(self) else ""
        note += "." if colouring is None else f"; coloured by {escape_invisible(colouring.column)}."
        drawn_colouring = (
            None
            if colouring is None
            else replace(colouring, legend_positions=colouring.legend_positions[::step])
        )
        image = (
            svg_image(_scatter(points, drawn_colouring), f"Map of {self.table}")
            if len(points)
            else ""
        )
        first_rows = [
            (key, f"{x:.2f}", f"{y:.2f}")
            for key, (x, y) in zip(
                self.keys[:_MAX_LISTED_ROWS].to_pylist(), self.points.tolist(), strict=False
            )
        ]
        return Rendered(
            f"{image}<div>{escape(note)}</div>",
            table(["key", "x", "y"], first_rows, aligned="lrr", note=note).text,
        )


class VectorViews:
    """Makes views of embedding tables: the neighbours of a row, and a map of the whole table."""

    def __init__(self, services: "Services") -> None:
        self._services, self._search = services, services.search
        self._badges = services.badges

    def neighbors(
        self, table: str | ResultTable, key: Any, k: int, select: Sequence[str]
    ) -> Neighbors:
        """The `k` rows most similar to the row with that key, or to the first row. Raises as
        `ws.search`."""
        record = check_searchable(self._services.tables.find(table)._record)
        matrix = self._search.matrix(record)
        if key is None:
            if not len(matrix):
                raise RowNotFound(f"{record.recipe!r} has no rows.")
            key = matrix.keys[0].as_py()
        key = matrix.typed_key(key)
        hits = self._services.searches.run(record, None, None, row=key, k=k, select=select)
        hits.limit = max(hits.limit, k)
        return Neighbors(record.recipe, key, hits, self._badges)

    def vector_map(
        self,
        table: str | ResultTable,
        method: Literal["pca", "tsne"] | None,
        progress: ProgressOption,
    ) -> VectorMap:
        """An embedding table as a map. Raises as `ws.vector_map`."""
        from jammi_lab.features.vectors.projections import project_to_plane

        handle = self._services.tables.find(table)
        if handle.kind == Projection.kind and method is None:
            return _load_map(handle, self._badges)
        record = check_searchable(handle._record)
        if method is not None:
            name = f"{record.recipe}_{method}"
            return _load_map(self._project(name, handle, method, progress), self._badges)
        matrix = self._search.matrix(record)
        return VectorMap(
            record.recipe,
            matrix.keys,
            *project_to_plane(matrix.vectors),
            version=record.version,
            badges=self._badges,
        )

    def _project(
        self,
        name: str,
        table: ResultTable,
        method: Literal["pca", "tsne"],
        progress: ProgressOption,
    ) -> ResultTable:
        """The stored projection of a table, brought up to date with its recorded settings.
        InvalidArgument when the name belongs to another recipe."""
        recipe = Projection(table, method=method)
        existing = self._services.catalog.recipes.get(name)
        if existing is not None:
            recorded = parse_descriptor(existing.descriptor)
            name_of_table = self._services.lookup.lineage_name(table) or ""
            vectors = self._services.recorded_recipes.bind_context().load_vectors(name_of_table)
            if (
                not isinstance(recorded, Projection)
                or recorded.method != method
                or not isinstance(recorded.table, StepInput)
                or fold(recorded.table.statement) != fold(vectors.step_input.statement)
            ):
                raise InvalidArgument(
                    f"{name!r} exists already and is not the map of {table.name!r} by {method}.",
                    hint=f"Store the map under another name: ws.projection(NAME, {table.name!r}, "
                    f"method={method!r}), and show that.",
                )
            recipe = recorded
        return self._services.materializer.materialize(name, recipe, progress=progress)


def _load_map(projection: ResultTable, badges: BadgeService) -> VectorMap:
    """The map of a stored projection."""
    import numpy as np

    rows = projection.arrow().combine_chunks()
    points = np.stack([rows.column(axis).to_numpy() for axis in ("x", "y")], 1)
    return VectorMap(
        projection.derived_from or projection.name,
        rows.column("key").combine_chunks(),
        points,
        projection=projection,
        badges=badges,
    )


def _scatter(points: "NDArray[np.float32]", colouring: Colouring | None = None) -> str:
    """A scatter plot with equal scales on both axes, and the legend below."""
    low, high = points.min(0), points.max(0)
    scale = min(
        (_WIDTH - 8 * _PADDING) / max(float(high[0] - low[0]), 1e-6),
        (_HEIGHT - 2 * _PADDING) / max(float(high[1] - low[1]), 1e-6),
    )
    middle = (low + high) / 2
    x = _WIDTH / 2 + (points[:, 0] - middle[0]) * scale
    y = _HEIGHT / 2 - (points[:, 1] - middle[1]) * scale
    size = 6 if len(x) <= 400 else 4 if len(x) <= 2000 else 3
    body = ""
    for colour, indices in _points_by_colour(len(x), colouring):
        dots = "".join(
            f"M{a:.1f} {b:.1f}h0"
            for a, b in zip(x[indices].tolist(), y[indices].tolist(), strict=True)
        )
        body += (
            f'<path d="{dots}" stroke="{colour}" stroke-width="{size}" stroke-linecap="round" '
            f'stroke-opacity="0.9"/>'
        )
    legend, legend_height = ("", 0) if colouring is None else _legend(colouring)
    height = _HEIGHT + legend_height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="{_FONTS}">{body}{legend}</svg>'
    )


def _points_by_colour(
    count: int, colouring: Colouring | None
) -> "Iterator[tuple[str, NDArray[np.intp]]]":
    """The points of each colour in drawing order: those without a value first, then by legend."""
    import numpy as np

    if colouring is None:
        yield _POINT, np.arange(count)
        return
    colours = [*(colour for _, colour, _ in colouring.legend), _NO_VALUE]
    positions = np.minimum(colouring.legend_positions, len(colouring.legend))
    for position in (len(colouring.legend), *range(len(colouring.legend))):
        indices = np.flatnonzero(positions == position)
        if len(indices):
            yield colours[position], indices


def _legend(colouring: Colouring) -> tuple[str, int]:
    """The legend, in lines below the points, and its height."""
    parts, x, y = [], _PADDING, _HEIGHT + 14
    for name, colour, count in [
        *colouring.legend,
        *([("no value", _NO_VALUE, colouring.without_value)] if colouring.without_value else []),
    ]:
        label = f"{truncate(name, 28)} {count:,}"
        width = round(6.6 * len(label)) + 28
        if x + width > _WIDTH and x > _PADDING:
            x, y = _PADDING, y + 18
        parts.append(
            f'<path d="M{x} {y - 4}h0" stroke="{colour}" stroke-width="9" stroke-linecap="round"/>'
        )
        parts.append(
            f'<text x="{x + 9}" y="{y}" font-size="12" fill="{_WORD}">{escape(label)}</text>'
        )
        x += width
    return "".join(parts), y - _HEIGHT + 8
