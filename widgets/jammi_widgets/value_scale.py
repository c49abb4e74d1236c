"""Colours for the values of a map: an ordered scale for numbers, dates and timestamps, the most
frequent values of other columns."""

import itertools
from typing import TYPE_CHECKING, NamedTuple

from jammi_lab.workspace.histogram_edges import number_edges
from jammi_widgets.cell_texts import column_texts

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

GRADIENT = (
    "#3f4ec9",
    "#5a4fc4",
    "#7a4fbb",
    "#9a4fae",
    "#b8509c",
    "#cf5686",
    "#dd636c",
    "#e0714f",
    "#d98432",
    "#c79a1e",
)
"""Colours from low to high values. Hue and lightness both change, and each is legible on light and
dark pages."""
NO_VALUE_CODE = 255
_MAX_LABEL_CHARS = 40
_MAX_DIGITS = 16
"""Integers of more digits are written with an exponent."""
_MAX_VALUE_CHARS = 300


class ScaledValues(NamedTuple):
    """Values by their position on a scale."""

    positions: "NDArray[np.uint8]"
    """The legend position of each value; `NO_VALUE_CODE` for NULL, NaN and infinity."""
    legend: list[tuple[str, str, int]]
    """Label, colour and number of values, from low to high."""


def scale_values(values: "pa.ChunkedArray") -> ScaledValues | None:
    """The values on an ordered scale: each value for itself if they are few integers or dates, else
    equal intervals, of numbers between round ones. None for types without a scale, and for fewer
    than two values."""
    import numpy as np

    numbers = _numbers(values)
    if numbers is None:
        return None
    finite = np.isfinite(numbers)
    distinct = np.unique(numbers[finite])
    if len(distinct) < 2:
        return None
    if len(distinct) <= len(GRADIENT) and not np.any(distinct % 1):
        edges, positions = distinct, np.searchsorted(distinct, numbers)
        labels = _labels(edges, values.type)
    else:
        edges, texts = _interval_edges(distinct[0], distinct[-1], values.type)
        positions = np.searchsorted(edges[1:-1], numbers, side="right")
        labels = [f"{low} – {high}" for low, high in itertools.pairwise(texts)]
    codes = np.where(finite, positions, NO_VALUE_CODE).astype(np.uint8)
    counts = np.bincount(codes[finite], minlength=len(labels))
    colours = [
        GRADIENT[i] for i in np.linspace(0, len(GRADIENT) - 1, len(labels)).round().astype(int)
    ]
    legend = [
        (label, colour, int(count))
        for label, colour, count in zip(labels, colours, counts, strict=True)
    ]
    return ScaledValues(codes, legend)


def _numbers(values: "pa.ChunkedArray") -> "NDArray[np.float64] | None":
    """The values as numbers, NaN for NULL; None for types without a scale."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = values.type
    if kinds.is_date(kind) or kinds.is_timestamp(kind):
        values = values.cast(pa.timestamp("us")).cast(pa.int64())
    elif not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)):
        return None
    numbers = values.cast(pa.float64(), safe=False).fill_null(float("nan"))
    return np.asarray(numbers, np.float64)


def _interval_edges(
    low: float, high: float, kind: "pa.DataType"
) -> "tuple[NDArray[np.float64], list[str]]":
    """The bounds of at most as many intervals as there are colours, with their labels."""
    import numpy as np
    import pyarrow.types as kinds

    most = len(GRADIENT)
    if kinds.is_date(kind) or kinds.is_timestamp(kind):
        edges = np.linspace(low, high, most + 1)
        return edges, _labels(edges, kind)

    def round_edges(max_bins: int) -> list[str]:
        texts = number_edges(low, high, whole=kinds.is_integer(kind), max_bins=max_bins)
        return texts[:-1] if float(texts[-2]) >= high else texts  # the last includes its bound

    texts = round_edges(most)
    texts = round_edges(most - 1) if len(texts) > most + 1 else texts
    return np.array(texts, np.float64), [_number_label(text) for text in texts]


def _number_label(text: str) -> str:
    if text.lstrip("-").isdigit() and len(text) <= _MAX_DIGITS:
        return _integer_label(int(text))
    short = f"{float(text):,.4g}"
    return short if float(short.replace(",", "")) == float(text) else text


def _labels(edges: "NDArray[np.float64]", kind: "pa.DataType") -> list[str]:
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_date(kind) or kinds.is_timestamp(kind):
        times = pa.array(edges.round().astype("int64")).cast(pa.timestamp("us"))
        span_days = (edges[-1] - edges[0]) / 86_400e6
        shown = times.cast(pa.date32(), safe=False) if span_days >= len(GRADIENT) else times
        return [str(t)[:_MAX_LABEL_CHARS] for t in column_texts(pa.chunked_array([shown]), 99)]
    return [_integer_label(round(edge)) for edge in edges]


def _integer_label(number: int) -> str:
    """The number; with separators from five digits, so that a year is one."""
    return str(number) if abs(number) < 10_000 else f"{number:,}"


def rank_by_frequency(
    values: "pa.ChunkedArray", max_ranks: int
) -> "tuple[NDArray[np.uint8], list[tuple[str, int]], int]":
    """The rank of each value among the `max_ranks` most frequent ones (`max_ranks` for other
    values, 255 for NULL), these values as texts with their counts, and the number of other distinct
    values. Ties are ranked by value."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.string())
    if not pa.types.is_string(values.type):
        values = pa.chunked_array([pa.array(column_texts(values, _MAX_VALUE_CHARS), pa.string())])
    encoded = values.dictionary_encode().combine_chunks()
    codes, distinct = np.asarray(encoded.indices.fill_null(-1), np.int64), encoded.dictionary
    counts = np.bincount(codes[codes >= 0], minlength=len(distinct))
    sort_keys = [("counts", "descending"), ("values", "ascending")]
    found = pa.table({"counts": counts, "values": distinct})
    top = pc.select_k_unstable(found, min(max_ranks, len(distinct)), sort_keys)
    ranks = np.full(len(distinct) + 1, max_ranks, np.uint8)
    ranks[np.asarray(top)] = np.arange(len(top))
    ranks[-1] = 255
    named = found.take(top).to_pydict()
    return (
        ranks[codes],
        list(zip(named["values"], named["counts"], strict=True)),
        len(distinct) - len(top),
    )
