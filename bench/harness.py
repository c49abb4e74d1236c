"""Paired measurement: both sides run alternately, so that load on the machine slows both. The
median run of each counts."""

import dataclasses
import gc
import math
import statistics
import time
from collections.abc import Callable

Timer = Callable[[], float]
"""Runs a piece of work once and returns the seconds that count."""


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
    """The maximum ratio; None for information only."""

    @property
    def within_limit(self) -> bool:
        """Whether the ratio is within the limit."""
        return self.limit is None or self.ratio <= self.limit


def wall_timer(work: Callable[[], object]) -> Timer:
    """A timer of the wall time of one call."""

    def run() -> float:
        gc.collect()
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return run


def pausing(timer: Timer, seconds: float = 0.1) -> Timer:
    """The timer after a pause: BLAS threads of the other side spin for a while after its product,
    and would take a processor from this one."""

    def run() -> float:
        time.sleep(seconds)
        return timer()

    return run


def cpu_timer(work: Callable[[], object]) -> Timer:
    """A timer of the processor time of all threads of one call, which other work on the machine
    disturbs little."""

    def run() -> float:
        gc.collect()
        began = time.process_time()
        work()
        return time.process_time() - began

    return run


def measure_pair(
    what: str, ours: Timer, other: Timer, *, repeats: int, limit: float | None, scale: float = 1.0
) -> Line:
    """Measure a pair: both sides once to warm up, then `repeats` times, alternating which goes
    first. `scale` multiplies the other side's seconds."""
    ours(), other()
    pairs = []
    for turn in range(repeats):
        if turn % 2:
            second, first = other(), ours()
        else:
            first, second = ours(), other()
        pairs.append((first, second * scale))
    mine, theirs = zip(*pairs, strict=True)
    return Line(
        what,
        statistics.median(mine),
        statistics.median(theirs),
        statistics.median(a / b for a, b in pairs),
        limit,
    )


def unmeasured_line(what: str, why: str) -> Line:
    """A line for a measurement that was skipped, with the reason. It never counts as a missed
    limit."""
    return Line(f"{what}: {why}", math.nan, math.nan, math.nan, None)


def format_table(lines: list[Line]) -> str:
    """Format the lines as an aligned text table."""
    head = ("", "ours", "other", "ratio", "limit", "")
    rows = [
        (
            line.what,
            format_seconds(line.ours),
            format_seconds(line.other),
            ""
            if math.isnan(line.ratio)
            else f"{line.ratio:.2f}"
            if line.ratio >= 0.1
            else f"{line.ratio:.3f}",
            "" if line.limit is None else f"≤ {line.limit:g}",
            "" if line.within_limit else "MISSED",
        )
        for line in lines
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    )


def format_seconds(value: float) -> str:
    """Format seconds with a suitable unit; empty for NaN."""
    if math.isnan(value):
        return ""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
