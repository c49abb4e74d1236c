"""Charts of results: altair's own objects, drawn as a PNG in the kernel, so that they show in every front end without a network."""

import base64
import json
from typing import TYPE_CHECKING, Any, ClassVar

from jammi_lab.errors import ExtensionMissing, InvalidArgument
from jammi_lab.markup import count, escape, visible
from jammi_lab.names import near

try:
    import altair
except ImportError:
    raise ExtensionMissing("altair is not installed.", hint="pip install 'jammi-lab[charts]'") from None

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.result import Result

MOST_ROWS = 5_000
"""Rows that a chart is drawn from; of more, a sample in which each row is as likely as any other."""
KINDS: dict[str, str] = {
    "bar": "mark_bar",
    "line": "mark_line",
    "point": "mark_circle",
    "area": "mark_area",
    "box": "mark_boxplot",
    "hist": "mark_bar",
}
_PNG_SCALE = 2.0
_GREY, _LINE = "#77808a", "#77808a55"
_ON_ANY: dict[str, Any] = {
    "view": {"stroke": _LINE},
    "axis": {"labelColor": _GREY, "titleColor": _GREY, "domainColor": _GREY, "tickColor": _GREY, "gridColor": _LINE},
    "legend": {"labelColor": _GREY, "titleColor": _GREY},
    "title": {"color": _GREY},
}
"""Words and lines that are read on white and on black: the picture has no ground of its own, and cannot know the notebook's."""


class Chart(altair.Chart):
    """A chart that brings its own picture. Everything that altair does to a chart can be done to it."""

    _shows: ClassVar[str] = ""

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, Any]:
        """A PNG, and in words what it shows."""
        try:
            import vl_convert
        except ImportError:
            raise ExtensionMissing("vl-convert-python is not installed.", hint="pip install 'jammi-lab[charts]'") from None
        png = base64.b64encode(vl_convert.vegalite_to_png(_on_any(json.loads(self.to_json())), scale=_PNG_SCALE)).decode()
        text = _words(self)
        html = f'<img src="data:image/png;base64,{png}" alt="{escape(text)}" style="max-width:100%">'
        return {"text/plain": text, "text/html": html}

    def __repr__(self) -> str:
        return _words(self)


def _on_any(spec: dict[str, Any]) -> dict[str, Any]:
    """The chart with the colours that are read on any ground, where it has none of its own."""
    own = spec.get("config", {})
    return {**spec, "config": {"background": "transparent", **own, **{part: {**how, **own.get(part, {})} for part, how in _ON_ANY.items()}}}


def chart(result: "Result", kind: str, x: str | None, y: str | None, color: str | None) -> Chart:
    """A chart of a result: bar, line, point, area, box, hist. Columns that are not named are the first two; a histogram needs one.

    Raises InvalidArgument, with near names, for a kind or a column that there is not.
    """
    if kind not in KINDS:
        raise InvalidArgument(f"There is no chart of the kind {kind!r}.", near=near(kind, KINDS), hint=f"Kinds are {', '.join(KINDS)}.")
    columns = result.columns
    if len(set(columns)) < len(columns):
        raise InvalidArgument("Two columns have one name, so that a chart cannot tell them apart.", hint="Give them names with AS.")
    for name in (x, y, color):
        if name is not None and name not in columns:
            raise InvalidArgument(f"The result has no column {name!r}.", near=near(name, columns))
    x = columns[0] if x is None else x
    if y is None and kind != "hist":
        y = next((c for c in columns if c not in (x, color)), None)
        if y is None:
            raise InvalidArgument(f"A {kind} chart needs two columns; the result has {count(len(columns), 'column')}.", hint="kind='hist' needs one.")
    table, total = sampled(result)
    wanted = list(dict.fromkeys(c for c in (x, y, color) if c is not None))
    made = Chart(altair.Data(values=_values(table.select(wanted))), width=480, height=280)
    title = f"a sample of {table.num_rows:,} of {total:,} rows" if total > table.num_rows else ""
    if title:
        made = made.properties(title=altair.TitleParams(title, fontSize=11, fontWeight="normal"))
    marked: Chart = getattr(made, KINDS[kind])()
    encoded = marked.encode(**_channels(table, kind, x, y, color))
    words = f"{kind} chart of {y or 'the number of rows'} by {x}" + (f", coloured by {color}" if color else "")
    return encoded.properties(description=visible(f"{words}, {title or count(table.num_rows, 'row')}"))


def _words(made: altair.Chart) -> str:
    described = made.to_dict().get("description")
    return str(described) if described else "a chart"


def _channels(table: "pa.Table", kind: str, x: str, y: str | None, color: str | None) -> dict[str, Any]:
    def field(name: str, **more: Any) -> dict[str, Any]:
        # a name is given as it is: in altair's short form, dots, brackets and colons of a name would mean something
        return {
            "field": name.replace("\\", "\\\\").replace(".", "\\.").replace("[", "\\[").replace("]", "\\]"),
            "type": _scale(table, name),
            "title": name,
            **more,
        }

    if kind == "hist":
        binned = field(x, bin={"maxbins": 40}) if _scale(table, x) == "quantitative" else field(x)
        channels: dict[str, Any] = {"x": altair.X(**_typed(binned)), "y": altair.Y(aggregate="count", type="quantitative", title="rows")}
    else:
        assert y is not None, "only a histogram goes without"
        channels = {
            "x": altair.X(**_typed(field(x, sort=None) if kind == "bar" and _scale(table, x) == "nominal" else field(x))),
            "y": altair.Y(**_typed(field(y))),
        }
    if color is not None:
        channels["color"] = altair.Color(**_typed(field(color)))
    return channels


def _typed(channel: dict[str, Any]) -> dict[str, Any]:
    if isinstance(channel.get("bin"), dict):
        return {**channel, "bin": altair.Bin(**channel["bin"])}
    return channel


def _scale(table: "pa.Table", name: str) -> str:
    import pyarrow.types as kinds

    kind = table.schema.field(name).type
    if kinds.is_temporal(kind) and not kinds.is_time(kind) and not kinds.is_duration(kind):
        return "temporal"
    return "quantitative" if kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind) else "nominal"


def _values(table: "pa.Table") -> list[dict[str, Any]]:
    """The rows as JSON has them: moments as text, decimals as numbers, whatever else as people read it."""
    import datetime as dt
    import decimal

    from jammi_lab.markup import as_text

    def plain(value: Any) -> Any:
        match value:
            case None | bool() | int() | str():
                return value
            case float():
                return value if value == value and abs(value) != float("inf") else None  # noqa: PLR0124  NaN is not itself
            case decimal.Decimal():
                return float(value)
            case dt.datetime() | dt.date():
                return value.isoformat()
            case _:
                return as_text(value)

    return [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]


def sampled(result: "Result") -> "tuple[pa.Table, int]":
    """At most so many rows, in their order, and how many there are in all. The same rows give the same sample; memory is bounded.

    Each row draws a number, and those with the least ones stay: each row is as likely as any other.
    """
    import numpy as np
    import pyarrow as pa

    draw = np.random.default_rng(0)
    least, total = 1.0, 0
    kept, drawn = result.schema.empty_table(), np.empty(0)
    for batch in result.batches():
        total += batch.num_rows
        numbers = draw.random(batch.num_rows)
        some = np.flatnonzero(numbers < least)
        kept, drawn = pa.concat_tables([kept, pa.Table.from_batches([batch]).take(some)]), np.concatenate([drawn, numbers[some]])
        if len(drawn) > MOST_ROWS:
            chosen = np.sort(np.argpartition(drawn, MOST_ROWS)[:MOST_ROWS])
            kept, drawn = kept.take(chosen), drawn[chosen]
            least = float(drawn.max())
    return kept, total
