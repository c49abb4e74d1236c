"""Charts of results as altair objects. The kernel renders them as PNG, so that they show in every
front end and without network access."""

import base64
import contextlib
import hashlib
import importlib.util
import json
import math
import os
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import ExtensionMissing, InvalidArgument
from jammi_lab.core.html import count_noun, escape, escape_invisible
from jammi_lab.core.identifiers import check_choice, near_or_all
from jammi_lab.core.module_imports import import_modules
from jammi_lab.features.outputs.file_stamps import stamp_file
from jammi_lab.features.outputs.stamps import STAMP_KEY, Stamp, stamp_from
from jammi_lab.storage import own_files

_GRAMMAR = "rfc3987_syntax"


@contextlib.contextmanager
def _grammar_imported_later() -> Iterator[None]:
    """Import modules without the grammar of addresses, which the checks of altair's schemas import:
    it takes longer than all of altair. Its function imports it when it is called."""
    later: Any = types.ModuleType(_GRAMMAR)
    later.is_valid_syntax = lambda *texts: importlib.import_module(_GRAMMAR).is_valid_syntax(*texts)
    is_put = (
        importlib.util.find_spec(_GRAMMAR) is not None
        and sys.modules.setdefault(_GRAMMAR, later) is later
    )
    try:
        yield
    finally:
        if is_put:
            del sys.modules[_GRAMMAR]


try:
    with _grammar_imported_later():
        import altair
except ImportError:
    raise ExtensionMissing(
        "altair is not installed.", hint="pip install altair vl-convert-python"
    ) from None

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.workspace.result import Result

MAX_SAMPLE_ROWS = 5_000
"""Maximum number of rows in a chart. Larger results are sampled uniformly."""
KINDS: dict[str, str] = {
    "bar": "mark_bar",
    "line": "mark_line",
    "point": "mark_circle",
    "area": "mark_area",
    "box": "mark_boxplot",
    "hist": "mark_bar",
}
_PNG_SCALES = (2.0, 1.0)
"""Pixels of the image per pixel of the page. The second is used when an image is too large."""
MAX_TEXT_CHARACTERS = 48
"""Maximum length of a text in a chart."""
MAX_LABELS = 40
"""Maximum number of labelled values on an axis of texts, evenly spaced; all values are drawn. The
renderer takes 30 ms to measure a label."""
MAX_PNG_BYTES = 150_000
"""Size above which the image in a notebook has fewer pixels."""
_LAB_MIME_TYPE = "application/vnd.vegalite.v5+json"
"""What JupyterLab 4 draws without a network."""
_XML_SIGNS: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n\r"},
    **dict.fromkeys((*range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd"),
}
"""The characters that XML excludes, by code."""
_GREY, _GRID_GREY = "#77808a", "#77808a55"
_NEUTRAL_THEME: dict[str, Any] = {
    "view": {"stroke": _GRID_GREY},
    "axis": {
        "labelColor": _GREY,
        "titleColor": _GREY,
        "domainColor": _GREY,
        "tickColor": _GREY,
        "gridColor": _GRID_GREY,
    },
    "legend": {"labelColor": _GREY, "titleColor": _GREY},
    "title": {"color": _GREY},
}
"""Colours of texts and lines that are legible on light and dark pages. The image is transparent and
the notebook's theme is unknown."""


class Chart(altair.Chart):
    """An altair chart that renders itself as PNG. All methods of `altair.Chart` work."""

    def to_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The specification, with texts that can be drawn and saved."""
        specification: dict[str, Any] = _with_xml_texts(super().to_dict(*args, **kwargs))
        return specification

    def save(self, fp: Any, *args: Any, **kwargs: Any) -> None:
        """Save the chart as altair does, with its stamp: in the metadata of PNG and SVG, and for
        other formats in `<file>.jammi.json`. InvalidArgument for a link, a pipe or a device."""
        if isinstance(fp, str | Path):
            try:
                own_files.check_file(Path(fp))
                os.stat(Path(fp).parent)
            except OSError as error:
                raise InvalidArgument(
                    f"The chart cannot be saved as {str(fp)!r}: {error.strerror}.",
                    hint="Choose another name, or another folder.",
                ) from None
        super().save(fp, *args, **kwargs)
        if (stamp := self._stamp()) is not None and isinstance(fp, str | Path):
            stamp_file(Path(fp), stamp)

    def _stamp(self) -> Stamp | None:
        """The stamp, which the chart carries in its specification, so that its copies have it,
        too."""
        held = self.usermeta
        return stamp_from(held.get(STAMP_KEY)) if isinstance(held, dict) else None

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The PNG and a text description, and the stamp. A chart with parameters, as after
        `.interactive()`, also has its specification, which JupyterLab draws itself."""
        # Its parts were validated when they were made; the rows of a chart would take seconds.
        spec = _with_neutral_theme(json.loads(self.to_json(validate=False)))
        png, factor = _small_png(spec)
        width, height = (round(pixels / factor) for pixels in _png_size(png))
        text, image = _describe_chart(self), base64.b64encode(png).decode()
        stamp = self._stamp()
        if "params" in spec:
            drawn = {key: part for key, part in spec.items() if key != "$schema"}
            # Without HTML, which a lab would prefer to the specification.
            data = {"text/plain": text, "image/png": image, _LAB_MIME_TYPE: drawn}
            metadata = {} if stamp is None else stamp.metadata({"text/plain": text})
            return data, {**metadata, "image/png": {"width": width, "height": height}}
        html = (
            f'<img src="data:image/png;base64,{image}" '
            f'alt="{escape(text)}" width="{width}" style="max-width:100%">'
        )
        shown = {"text/plain": text, "text/html": html}
        return dict(shown), {} if stamp is None else stamp.metadata(shown)

    def _display_(self) -> Any:
        """The picture, as marimo asks for it: its exports fail at a bundle with metadata."""
        data, _ = self._repr_mimebundle_()
        picture = f'<img src="data:image/png;base64,{data.get("image/png")}">'
        return sys.modules["marimo"].Html(data.get("text/html", picture))

    def __repr__(self) -> str:
        return _describe_chart(self)


def _small_png(spec: dict[str, Any]) -> tuple[bytes, float]:
    """The chart as an image, and its pixels per pixel of the page: two, or one where that would be
    more than `MAX_PNG_BYTES`."""
    try:
        with import_modules():
            import vl_convert
    except ImportError:
        raise ExtensionMissing(
            "vl-convert-python is not installed.", hint="pip install vl-convert-python"
        ) from None
    png, scale = b"", 1.0
    for scale in _PNG_SCALES:
        png = vl_convert.vegalite_to_png(spec, scale=scale)
        if len(png) <= MAX_PNG_BYTES:
            break
    return png, scale


def _png_size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, with which a PNG begins."""
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def _with_xml_texts(value: Any) -> Any:
    """The specification with a visible sign in place of each character that XML excludes: the
    renderer makes an SVG of it, and would end the process."""
    match value:
        case str():
            return value if value.isprintable() else value.translate(_XML_SIGNS)
        case list():
            return [_with_xml_texts(item) for item in value]
        case dict():
            return {_with_xml_texts(key): _with_xml_texts(item) for key, item in value.items()}
        case _:
            return value


def _with_neutral_theme(spec: dict[str, Any]) -> dict[str, Any]:
    """The chart's specification with colours for any background, except where it sets its own."""
    config = spec.get("config", {})
    return {
        **spec,
        "config": {
            "background": "transparent",
            **config,
            **{part: {**style, **config.get(part, {})} for part, style in _NEUTRAL_THEME.items()},
        },
    }


def chart(result: "Result", kind: str, x: str | None, y: str | None, color: str | None) -> Chart:
    """A chart of a result; `kind` is bar, line, point, area, box or hist. `y` defaults to the first
    column of numbers, to the first column only if it is alone, and `x` to the first of the others.
    A histogram needs only `x`, by default the first column of numbers.

    Raises InvalidArgument, with near names, for an unknown kind or column.
    """
    check_choice("kind", kind, KINDS)
    columns = result.columns
    if len(set(columns)) < len(columns):
        raise InvalidArgument(
            "Two columns have the same name, so the chart is ambiguous.",
            hint="Rename one with AS.",
        )
    for name in (x, y, color):
        if name is not None and name not in columns:
            raise InvalidArgument(
                f"The result has no column {name!r}.", **near_or_all(name, columns)
            )
    table, total = sample_rows(result)
    numbers = [name for name in columns if _encoding_type(table, name) == "quantitative"]
    if kind == "hist":
        x = x or [*numbers, *columns][0]
    else:
        rest = [name for name in columns if name not in (x, color)]
        rest.sort(key=lambda name: (name not in numbers, name == columns[0]))
        y = y or next(iter(rest), None)
        x = x or next((name for name in columns if name != y), None)
    if x is None or (y is None and kind != "hist"):
        raise InvalidArgument(
            f"A {kind} chart needs two columns; the result has "
            f"{count_noun(len(columns), 'column')}.",
            hint="kind='hist' needs one.",
        )
    used_columns = list(dict.fromkeys(c for c in (x, y, color) if c is not None))
    rows = _json_rows(table.select(used_columns))
    figure = Chart(altair.Data(values=rows), width=480, height=280)
    title = f"a sample of {table.num_rows:,} of {total:,} rows" if total > table.num_rows else ""
    if title:
        figure = figure.properties(
            title=altair.TitleParams(title, fontSize=11, fontWeight="normal")
        )
    marked_figure: Chart = getattr(figure, KINDS[kind])()
    encoded = marked_figure.encode(**_channels(table, rows, kind, x, y, color))
    summary = f"{kind} chart of {y or 'the number of rows'} by {x}" + (
        f", coloured by {color}" if color else ""
    )
    if (stamp := result._stamp()) is not None:
        encoded = encoded.properties(usermeta={STAMP_KEY: stamp.to_dict()})
    return encoded.properties(
        description=escape_invisible(f"{summary}, {title or count_noun(table.num_rows, 'row')}")
    )


def _describe_chart(figure: altair.Chart) -> str:
    description = figure.description
    return description if isinstance(description, str) else "a chart"


def _channels(
    table: "pa.Table",
    rows: list[dict[str, Any]],
    kind: str,
    x: str,
    y: str | None,
    color: str | None,
) -> dict[str, Any]:
    def field(name: str, **options: Any) -> dict[str, Any]:
        # dots, brackets and quotes in a column name would be those of a path into a value
        return {
            "field": re.sub(r"""([\\.\[\]'"])""", r"\\\1", name),
            "type": _encoding_type(table, name),
            "title": _shorten(name),
            **options,
        }

    def axis(name: str, **options: Any) -> dict[str, Any]:
        if _encoding_type(table, name) == "nominal":
            values = list(dict.fromkeys(row[name] for row in rows))
            if "sort" not in options:  # the renderer sorts
                values.sort(key=str)
            if len(values) > MAX_LABELS:
                options["axis"] = altair.Axis(values=values[:: -(-len(values) // MAX_LABELS)])
        return field(name, **options)

    if kind == "hist":
        bins = {"bin": altair.Bin(maxbins=40)}
        binned = field(x, **bins) if _encoding_type(table, x) == "quantitative" else axis(x)
        channels: dict[str, Any] = {
            "x": altair.X(**binned),
            "y": altair.Y(aggregate="count", type="quantitative", title="rows"),
        }
    else:
        assert y is not None, "only a histogram has no y"
        is_of_texts = kind == "bar" and _encoding_type(table, x) == "nominal"
        order = {"sort": None} if is_of_texts else {}
        channels = {"x": altair.X(**axis(x, **order)), "y": altair.Y(**axis(y))}
    if color is not None:
        channels["color"] = altair.Color(**field(color))
    return channels


def _encoding_type(table: "pa.Table", name: str) -> str:
    import pyarrow.types as kinds

    data_type = table.schema.field(name).type
    if kinds.is_date(data_type) or kinds.is_timestamp(data_type):
        return "temporal"
    return (
        "quantitative"
        if kinds.is_integer(data_type)
        or kinds.is_floating(data_type)
        or kinds.is_decimal(data_type)
        else "nominal"
    )


def _shorten(text: str) -> str:
    """A text of at most `MAX_TEXT_CHARACTERS`; a longer one ends in a digest that tells it from
    others. The renderer measures labels in quadratic time: one of 100,000 characters takes it five
    minutes, and it shows about thirty."""
    if len(text) <= MAX_TEXT_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{text[: MAX_TEXT_CHARACTERS - 9]}…{digest}"


def _json_rows(table: "pa.Table") -> list[dict[str, Any]]:
    """The rows as JSON values: dates and times as ISO texts, decimals as numbers, other types as
    display texts."""
    import datetime as dt
    import decimal

    from jammi_lab.core.html import to_text

    def to_json_value(value: Any) -> Any:
        match value:
            case None | bool() | int():
                return value
            case str():
                return _shorten(value)
            case float():
                return value if math.isfinite(value) else None
            case decimal.Decimal():
                return float(value)
            case dt.datetime() | dt.date():
                return value.isoformat()
            case _:
                return _shorten(to_text(value))

    return [
        {name: to_json_value(value) for name, value in row.items()} for row in table.to_pylist()
    ]


def sample_rows(result: "Result") -> "tuple[pa.Table, int]":
    """A sample of at most 5,000 rows in their original order, and the total number of rows. The
    sample is deterministic and needs bounded memory.

    Each row draws a random number and the rows with the smallest numbers stay, so that all rows are
    equally likely.
    """
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(0)
    threshold, total = 1.0, 0
    sample, priorities = result.schema.empty_table(), np.empty(0)
    for batch in result.batches():
        total += batch.num_rows
        draws = rng.random(batch.num_rows)
        candidates = np.flatnonzero(draws < threshold)
        sample = pa.concat_tables([sample, pa.Table.from_batches([batch]).take(candidates)])
        priorities = np.concatenate([priorities, draws[candidates]])
        if len(priorities) > MAX_SAMPLE_ROWS:
            kept_rows = np.sort(np.argpartition(priorities, MAX_SAMPLE_ROWS)[:MAX_SAMPLE_ROWS])
            sample, priorities = sample.take(kept_rows), priorities[kept_rows]
            threshold = float(priorities.max())
    return sample, total
