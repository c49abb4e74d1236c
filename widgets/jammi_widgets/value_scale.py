"""Colours for the values of a map: an ordered scale for numbers, dates and timestamps, the most
frequent values of other columns."""

import itertools
from typing import TYPE_CHECKING, NamedTuple

from jammi_lab.workspace.histogram_edges import number_edges, time_edges
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
    intervals between round numbers, or between whole units of the calendar. None for types without
    a scale, and for fewer than two values."""
    import numpy as np

    numbers = _numbers(values)
    if numbers is None:
        return None
    finite = np.isfinite(numbers)
    distinct = np.unique(numbers[finite])
    if len(distinct) < 2:
        return None
    if len(distinct) <= len(GRADIENT) and not np.any(distinct % 1):
        positions, labels = np.searchsorted(distinct, numbers), _labels(distinct, values.type)
    else:
        edges, texts = _interval_edges(distinct[0], distinct[-1], values.type)
        if not texts:
            return None
        positions = np.searchsorted(edges[1:-1], numbers, side="right")
        labels = [f"{low} – {high}" for low, high in itertools.pairwise(texts)]
    codes = np.where(finite, positions, NO_VALUE_CODE).astype(np.uint8)
    counts = np.bincount(codes[finite], minlength=len(labels))
    places = np.linspace(0, len(GRADIENT) - 1, len(labels)).round().astype(int)
    colours = [GRADIENT[i] for i in places]
    return ScaledValues(codes, list(zip(labels, colours, counts.tolist(), strict=True)))


def _is_time(kind: "pa.DataType") -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_date(kind) or kinds.is_timestamp(kind))


def _numbers(values: "pa.ChunkedArray") -> "NDArray[np.float64] | None":
    """The values as numbers, times in microseconds since 1970, NaN for NULL; None for types without
    a scale."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = values.type
    if _is_time(kind):
        values = values.cast(pa.timestamp("us")).cast(pa.int64())
    elif not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)):
        return None
    numbers = values.cast(pa.float64(), safe=False).fill_null(float("nan"))
    return np.asarray(numbers, np.float64)


def _interval_edges(
    low: float, high: float, kind: "pa.DataType"
) -> "tuple[NDArray[np.float64], list[str]]":
    """The bounds of at most as many intervals as there are colours, with their labels; none for
    years that no calendar has."""
    import numpy as np
    import pyarrow.types as kinds

    most = len(GRADIENT)
    if _is_time(kind):
        texts = time_edges(low / 1e6, high / 1e6, dates=kinds.is_date(kind), max_bins=most)
        return np.array(texts, "datetime64[us]").astype(np.float64), texts

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


def _labels(numbers: "NDArray[np.float64]", kind: "pa.DataType") -> list[str]:
    """Integers, or times of that type, as texts."""
    import pyarrow as pa

    if not _is_time(kind):
        return [_integer_label(round(number)) for number in numbers]
    times = pa.array(numbers.astype("int64")).cast(pa.timestamp("us"))
    texts = column_texts(pa.chunked_array([times.cast(kind, safe=False)]), _MAX_LABEL_CHARS)
    return [text or "" for text in texts]


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

    if pa.types.is_string(values.type):
        texts = values.combine_chunks()
    else:
        texts = pa.array(column_texts(values, _MAX_VALUE_CHARS), pa.string())
    counted = pa.Table.from_struct_array(texts.drop_null().value_counts())
    sort_keys = [("counts", "descending"), ("values", "ascending")]
    top = counted.take(pc.select_k_unstable(counted, min(max_ranks, len(counted)), sort_keys))
    found = pc.index_in(texts, value_set=top["values"].combine_chunks()).fill_null(max_ranks)
    codes = pc.if_else(texts.is_valid(), found, NO_VALUE_CODE)
    named = list(zip(*top.to_pydict().values(), strict=True))
    return np.asarray(codes, np.uint8), named, len(counted) - len(top)
