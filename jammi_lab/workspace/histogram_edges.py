"""Bounds of the bars of a histogram: round numbers, and whole units of the calendar."""

import math
from decimal import Decimal
from fractions import Fraction

MAX_BINS = 30
"""Maximum number of bars of a histogram."""

_DAY_SECONDS = 86_400.0
_CALENDAR_STEPS = (
    *(("us", n, n / 1e6) for n in (1, 10, 100)),
    *(("ms", n, n / 1e3) for n in (1, 10, 100)),
    *(("s", n, float(n)) for n in (1, 5, 15, 30)),
    *(("m", n, n * 60.0) for n in (1, 5, 15, 30)),
    *(("h", n, n * 3600.0) for n in (1, 3, 6, 12)),
    *(("D", n, n * _DAY_SECONDS) for n in (1, 7)),
    *(("M", n, n * 30 * _DAY_SECONDS) for n in (1, 3, 6)),
    *(("Y", n * 10**e, n * 10**e * 365 * _DAY_SECONDS) for e in range(4) for n in (1, 2, 5)),
)
"""Unit of numpy, number of units, and about how many seconds that is."""
_YEAR_1_SECONDS = -62_135_596_800
_YEAR_10000_SECONDS = 253_402_300_800
_MONDAY_DAYS = 4
"""Days from 1 January 1970, from which numpy counts, to a Monday."""


def number_edges(low: float, high: float, *, whole: bool, max_bins: int = MAX_BINS) -> list[str]:
    """Ascending bounds as SQL numbers, so that each value is at or above one and below the next.
    They are multiples of 1, 2 or 5 times a power of ten, of whole numbers if `whole`."""
    start, raw = Fraction(low), (Fraction(high) - Fraction(low)) / max_bins
    exponent = math.floor(math.log10(raw.numerator) - math.log10(raw.denominator)) if raw else 0
    exponent = max(exponent, 0) if whole else exponent
    mantissa, exponent = next(
        (m, e) for e in (exponent, exponent + 1) for m in (1, 2, 5) if m * Fraction(10) ** e >= raw
    )
    step = mantissa * Fraction(10) ** exponent
    first, last = start // step, Fraction(high) // step
    return [_number_text(i * mantissa, exponent) for i in range(first, last + 2)]


def _number_text(digits: int, exponent: int) -> str:
    number = Decimal(digits).scaleb(exponent)
    return f"{number:f}" if -15 <= exponent <= 15 else f"{number:E}"


def time_edges(low: float, high: float, *, dates: bool, max_bins: int = MAX_BINS) -> list[str]:
    """Ascending bounds of dates or timestamps as text, from the lowest and the highest in seconds
    since 1970. They are whole units of the calendar; empty for years outside 1 to 9999."""
    import numpy as np

    if low < _YEAR_1_SECONDS or high >= _YEAR_10000_SECONDS:
        return []
    unit, step, _ = next(
        (unit, step, seconds)
        for unit, step, seconds in _CALENDAR_STEPS
        if (high - low) / seconds <= max_bins - 1 and not (dates and unit not in "DMY")
    )
    monday = _MONDAY_DAYS if (unit, step) == ("D", 7) else 0

    ends = np.array([math.floor(low * 1e6), math.floor(high * 1e6)], "datetime64[us]")
    first, last = (ends.astype(f"datetime64[{unit}]").astype("int64") - monday) // step
    shown = "D" if dates or unit in "DMY" else "s" if unit in ("h", "m", "s") else "us"
    edges = (np.arange(first, last + 2) * step + monday).astype(f"datetime64[{unit}]")
    texts = [str(edge).replace("T", " ") for edge in edges.astype(f"datetime64[{shown}]")]
    return [max(text, "0001-01-01") for text in texts]
