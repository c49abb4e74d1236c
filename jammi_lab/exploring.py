"""Looking around in vectors: the verbs of a workspace that show the neighbours of a row, and a whole embedding table as a map."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from jammi_lab.badged import Badged
from jammi_lab.deriving import Deriving
from jammi_lab.errors import InvalidArgument, JammiError, RowNotFound
from jammi_lab.framed import Framed
from jammi_lab.glance import at_a_glance
from jammi_lab.handles import ResultTable
from jammi_lab.markup import Form, count, escape, picture, plain, stack, table, visible
from jammi_lab.names import fold
from jammi_lab.noticing import Noticing
from jammi_lab.result import Result
from jammi_lab.searching import Searching
from jammi_lab.sensing.reports import OnProgress
from jammi_lab.values.descriptors import ProjectionDescriptor, parse_descriptor
from jammi_lab.values.records import TableKind

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.workspace import Workspace

_POINT, _WORD, _AXIS, _NONE = "#3f7fb5", "#707c88", "#8a94a0", "#c3c9cf"
_WIDE, _HIGH, _PAD = 640, 400, 14
_MOST_DRAWN = 4_000
_MOST_NAMED = 24
_MOST_LISTED = 10
_BAR, _LINE = 220, 20


@dataclass(frozen=True)
class Colouring:
    """The colours of the points of a map, by the values of a column."""

    column: str
    legend: Sequence[tuple[str, str, int]]
    """Value, colour, and how many points have it."""
    places: "NDArray[np.uint8]"
    """For each point the place in the legend; any beyond it for a point without a value."""
    bare: int = 0
    """How many points are without a value."""


class Neighbors(Badged):
    """The rows most similar to one row of an embedding table."""

    def __init__(self, table: str, key: Any, hits: Result) -> None:
        self.table, self.key, self.hits = table, key, hits
        """`hits`: key, rank, similarity, and what was selected."""
        self._noticing = hits._noticing

    def _tables(self) -> Sequence[str]:
        return self.hits._tables()

    def _body(self) -> Form:
        found = self.hits.preview(self.hits.limit)
        image = picture(_bars(found["key"].to_pylist(), found["similarity"].to_pylist()), f"Rows most similar to {self.key}") if len(found) else ""
        shown = self.hits._body()
        return stack(plain(f"Nearest to {self.key} in {self.table}"), Form(image + shown.html, shown.text))


class VectorMap(Framed, Badged):
    """An embedding table as points of a plane; rows that are alike lie near each other, as far as a plane can show it. A frame of key, x, y, too."""

    def __init__(
        self,
        name: str,
        keys: "pa.Array",
        points: "NDArray[np.float32]",
        shares: tuple[float, float] = (0.0, 0.0),
        projection: ResultTable | None = None,
        version: int | None = None,
        noticing: Noticing | None = None,
    ) -> None:
        self.table, self.keys, self.points, self.shares, self.projection = name, keys, points, shares, projection
        """`points`: (rows, 2) float32 in key order; `shares`: what share of the variance lies along each axis, of a map that was not kept;
        `projection`: the table that keeps the points, None for those placed at once."""
        self.version = projection.version if projection is not None else version
        """Of the table that the points were read from, or placed from."""
        self._noticing = noticing

    def _tables(self) -> Sequence[str]:
        return [self.table if self.projection is None else self.projection.name]

    @property
    def placed(self) -> str:
        """How the points were placed, as the end of a sentence."""
        if self.projection is None:
            return f"along the two directions in which the vectors differ most ({sum(self.shares):.0%} of the variance)"
        from jammi_lab.vectors.tsne import at_most

        said = self.projection.manifest.descriptor if self.projection.manifest is not None else {}
        way = "by their first two principal components"
        if said.get("method") == "tsne":
            way = f"by t-SNE with perplexity {at_most(said['perplexity'], len(self)):.3g}"
        return f"{way} ({self.projection.name}, version {self.projection.version})"

    def __len__(self) -> int:
        return len(self.points)

    def arrow(self) -> "pa.Table":
        """key, x, y of every row."""
        import pyarrow as pa

        return pa.table({"key": self.keys, "x": pa.array(self.points[:, 0]), "y": pa.array(self.points[:, 1])})

    def _body(self, colouring: Colouring | None = None) -> Form:
        step = -(-len(self) // _MOST_DRAWN) or 1
        points, names = self.points[::step], [str(self.keys[at].as_py()) for at in range(0, len(self), step)]
        note = f"{count(len(self), 'row')} of {self.table}"
        if len(self) > 1:
            note += f" {self.placed}"
        note += f"; {len(points):,} of them are drawn" if len(points) < len(self) else ""
        note += "." if colouring is None else f"; coloured by {visible(colouring.column)}."
        drawn = None if colouring is None else replace(colouring, places=colouring.places[::step])
        image = picture(_scatter(points, names, drawn), f"Map of {self.table}") if names else ""
        some = [(key, f"{x:.2f}", f"{y:.2f}") for key, (x, y) in zip(self.keys[:_MOST_LISTED].to_pylist(), self.points.tolist(), strict=False)]
        return Form(f"{image}<div>{escape(note)}</div>", table(["key", "x", "y"], some, aligned="lrr", note=note).text)


class Exploring(Deriving, Searching):
    """The part of a Workspace that looks around in vectors, and what it shows of itself."""

    def _repr_html_(self) -> str:
        ws = cast("Workspace", self)
        try:
            return at_a_glance(ws).html
        except JammiError:  # a display is no place to fail
            return plain(repr(ws)).html

    def neighbors(self, table: str | ResultTable, key: Any = None, *, k: int = 10, select: str | Sequence[str] | None = None) -> Neighbors:
        """The `k` rows most similar to the row with that key, as table and picture; without a key those of the first row.

        A text stands for a key of the table's own type, as `'17'` does in SQL. `select`: columns of the source to show. Raises as `search`.
        """
        from jammi_lab.vectors.arrays import as_key

        record = self._searchable(table)
        matrix = self._matrix(record)
        if key is None:
            if not len(matrix):
                raise RowNotFound(f"{record.recipe!r} has no rows.")
            key = matrix.keys[0].as_py()
        elif matrix.row_of(key) is None and (meant := as_key(key, matrix.keys.type)) is not None:
            key = meant
        found = self.search(table, row=key, k=k, select=select)
        found.limit = max(found.limit, k)
        return Neighbors(record.recipe, key, found)

    def vector_map(self, table: str | ResultTable, method: Literal["pca", "tsne"] | None = None, *, progress: OnProgress = None) -> VectorMap:
        """An embedding table as a map: each row a point, by the first two principal components of the vectors, at once.

        With a `method` the points are kept, in the table `<table>_<method>` that `projection` makes; what was said of it before (perplexity, seed)
        stays. A table of kind projection is shown as it is. Raises TableNotFound; SchemaMismatch for a table without vectors; InvalidArgument when
        that name is taken; and what `projection` raises.
        """
        from jammi_lab.vectors.projection import plane

        handle = self._naming.table(table)
        if handle.kind == TableKind.PROJECTION and method is None:
            return _kept(handle, self._noticing)
        record = self._searchable(table)
        if method is not None:
            return _kept(self._kept_as(f"{record.recipe}_{method}", handle, method, progress), self._noticing)
        matrix = self._matrix(record)
        return VectorMap(record.recipe, matrix.keys, *plane(matrix.vectors), version=record.version, noticing=self._noticing)

    def _kept_as(self, name: str, table: ResultTable, method: Literal["pca", "tsne"], progress: OnProgress) -> ResultTable:
        """The points of a table, true again if they were made before. InvalidArgument when the name means something else."""
        before = self._rooms.catalog.recipes.get(name)
        if before is None:
            return self.projection(name, table, method=method, progress=progress)
        said = parse_descriptor(before.descriptor)
        asked = self._rooms.producers.inputs.vectors_named(self._said(table))
        if not isinstance(said, ProjectionDescriptor) or said.method != method or fold(said.vectors.statement) != fold(asked[1]):
            raise InvalidArgument(
                f"{name!r} is something else than the map of {table.name!r} by {method}.",
                hint=f"Make the map under another name, ws.projection(NAME, {table.name!r}, method={method!r}), and show that.",
            )
        if said.perplexity is None or said.seed is None:
            return self.projection(name, table, method=method, progress=progress)
        return self.projection(name, table, method=method, perplexity=said.perplexity, seed=said.seed, progress=progress)


def _kept(projection: ResultTable, noticing: Noticing) -> VectorMap:
    """The points that a table keeps."""
    import numpy as np

    found = projection.arrow().combine_chunks()
    points = np.stack([found.column(axis).to_numpy() for axis in ("x", "y")], 1)
    return VectorMap(
        projection.derived_from or projection.name, found.column("key").combine_chunks(), points, projection=projection, noticing=noticing
    )


def _framed(body: str, wide: int, high: int) -> str:
    family = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" font-family="{family}">{body}</svg>'


def _short(text: str, most: int) -> str:
    shown = visible(text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _bars(keys: Sequence[Any], similarities: Sequence[float]) -> str:
    """A bar for each neighbour; those that point the other way have none."""
    names = [_short(str(key), 36) for key in keys]
    left = max(40, round(7.2 * max(map(len, names)))) + _PAD
    parts = [f'<line x1="{left}" y1="4" x2="{left}" y2="{_LINE * len(names) + 8}" stroke="{_AXIS}"/>']
    for at, (name, similarity) in enumerate(zip(names, similarities, strict=True)):
        y, long = 8 + at * _LINE, max(0.0, similarity) * _BAR
        parts += [
            f'<text x="{left - 6}" y="{y + 12}" font-size="12" fill="{_WORD}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{left}" y="{y + 2}" width="{long:.1f}" height="{_LINE - 7}" rx="2" fill="{_POINT}"/>',
            f'<text x="{left + long + 6:.1f}" y="{y + 12}" font-size="12" fill="{_WORD}">{similarity:.2f}</text>',
        ]
    return _framed("".join(parts), left + _BAR + 50, _LINE * len(names) + 14)


def _scatter(points: "NDArray[np.float32]", names: Sequence[str], colouring: Colouring | None = None) -> str:
    """Points in a frame, both axes on one scale, with the names of some that lie apart from each other; what the colours mean stands below."""
    import numpy as np

    low, high = points.min(0), points.max(0)
    scale = min((_WIDE - 8 * _PAD) / max(float(high[0] - low[0]), 1e-6), (_HIGH - 2 * _PAD) / max(float(high[1] - low[1]), 1e-6))
    middle = (low + high) / 2
    x, y = _WIDE / 2 + (points[:, 0] - middle[0]) * scale, _HIGH / 2 - (points[:, 1] - middle[1]) * scale
    size = 6 if len(x) <= 400 else 4 if len(x) <= 2000 else 3
    body = ""
    for colour, of in _by_colour(len(x), colouring):
        dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x[of].tolist(), y[of].tolist(), strict=True))
        body += f'<path d="{dots}" stroke="{colour}" stroke-width="{size}" stroke-linecap="round" stroke-opacity="0.9"/>'
    for at, (left, top) in _named(np.stack([x, y], 1), names).items():
        body += f'<text x="{left:.0f}" y="{top:.0f}" font-size="11" fill="{_WORD}">{escape(_short(names[at], 28))}</text>'
    below, high_below = ("", 0) if colouring is None else _legend(colouring)
    return _framed(body + below, _WIDE, _HIGH + high_below)


def _by_colour(count: int, colouring: Colouring | None) -> "Iterator[tuple[str, NDArray[np.intp]]]":
    """The points of each colour: those without a value lie lowest, the most frequent value next."""
    import numpy as np

    if colouring is None:
        yield _POINT, np.arange(count)
        return
    bare = np.flatnonzero(colouring.places >= len(colouring.legend))
    for colour, of in [(_NONE, bare), *((colour, np.flatnonzero(colouring.places == at)) for at, (_, colour, _) in enumerate(colouring.legend))]:
        if len(of):
            yield colour, of


def _legend(colouring: Colouring) -> tuple[str, int]:
    """What each colour means, in lines below the points, and how high they are."""
    parts, x, y = [], _PAD, _HIGH + 14
    for name, colour, many in [*colouring.legend, *([("no value", _NONE, colouring.bare)] if colouring.bare else [])]:
        said = f"{_short(name, 28)} {many:,}"
        wide = round(6.6 * len(said)) + 28
        if x + wide > _WIDE and x > _PAD:
            x, y = _PAD, y + 18
        parts.append(f'<path d="M{x} {y - 4}h0" stroke="{colour}" stroke-width="9" stroke-linecap="round"/>')
        parts.append(f'<text x="{x + 9}" y="{y}" font-size="12" fill="{_WORD}">{escape(said)}</text>')
        x += wide
    return "".join(parts), y - _HIGH + 8


def _named(places: "NDArray[np.float64]", names: Sequence[str]) -> Mapping[int, tuple[float, float]]:
    """Points that get their name and where it is written: the one farthest from all named so far first, names on no other name."""
    import numpy as np

    apart = np.hypot(*(places - places.mean(0)).T)
    boxes: dict[int, tuple[float, float, float, float]] = {}
    for _ in range(min(len(names), 4 * _MOST_NAMED)):
        at = int(apart.argmax())
        if apart[at] <= 0 or len(boxes) == _MOST_NAMED:
            break
        wide = 6.2 * len(_short(names[at], 28))
        left = min(max(2.0, places[at, 0] + 6 if places[at, 0] + wide < _WIDE - 8 else places[at, 0] - wide - 6), _WIDE - wide)
        box = (left, places[at, 1] - 6, left + wide, places[at, 1] + 7)
        if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes.values()):
            boxes[at] = box
        apart = np.minimum(apart, np.hypot(*(places - places[at]).T))
    return {at: (left, top + 10) for at, (left, top, _, _) in boxes.items()}
