"""Paired measurement: both sides run in turn, so what slows the machine down slows both; the middle run of each counts."""

import dataclasses
import gc
import math
import statistics
import time
from collections.abc import Callable

Timed = Callable[[], float]
"""Does a piece of work once and gives the seconds that count."""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    what: str
    """What was measured, and against what."""
    ours: float
    """Seconds, the median."""
    other: float
    """Seconds of the other side, the median."""
    ratio: float
    """The median of the pairs' ratios."""
    limit: float | None
    """The ratio that may not be exceeded; None is for information."""

    @property
    def kept(self) -> bool:
        """Whether the limit holds."""
        return self.limit is None or self.ratio <= self.limit


def timed(work: Callable[[], object]) -> Timed:
    """The wall time of one call."""

    def once() -> float:
        gc.collect()
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return once


def pair(what: str, ours: Timed, other: Timed, *, repeats: int, limit: float | None, scale: float = 1.0) -> Line:
    """Both sides once to warm up, then `repeats` times in turn, changing who goes first. `scale` multiplies the other side's seconds."""
    ours(), other()
    pairs = []
    for turn in range(repeats):
        if turn % 2:
            second, first = other(), ours()
        else:
            first, second = ours(), other()
        pairs.append((first, second * scale))
    mine, theirs = zip(*pairs, strict=True)
    return Line(what, statistics.median(mine), statistics.median(theirs), statistics.median(a / b for a, b in pairs), limit)


def unmeasured(what: str, why: str) -> Line:
    """A line that could not be measured here, and why; its limit is not held against it."""
    return Line(f"{what}: {why}", math.nan, math.nan, math.nan, None)


def table(lines: list[Line]) -> str:
    """The lines as text, aligned."""
    head = ("", "ours", "other", "ratio", "limit", "")
    rows = [
        (
            line.what,
            seconds(line.ours),
            seconds(line.other),
            "" if math.isnan(line.ratio) else f"{line.ratio:.2f}" if line.ratio >= 0.1 else f"{line.ratio:.3f}",
            "" if line.limit is None else f"≤ {line.limit:g}",
            "" if line.kept else "MISSED",
        )
        for line in lines
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in [head, *rows]
    )


def seconds(value: float) -> str:
    """A time with a unit that suits it; nothing for what was not measured."""
    if math.isnan(value):
        return ""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
