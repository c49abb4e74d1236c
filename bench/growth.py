"""How the questions about a workspace grow with its tables: processor seconds over 5,000, 20,000
and 100,000 tables, and the exponent that fits them (1: twice the tables, twice the time)."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jammi_lab as jl
from bench import fixtures
from bench.harness import Line

SIZES = (5_000, 20_000, 100_000)
_TIMES = 20
"""How often a small question is asked for one figure."""
_LINEAR, _FLAT = 1.15, 0.35
"""Largest exponents of what goes over all tables, and of what is about one."""


def growth(folder: Path, repeats: int) -> Iterator[Line]:
    """One line a question: seconds at the largest size, and the exponent as the ratio."""
    figures = dict[str, list[float]]()
    for tables in SIZES:
        place = fixtures.workspace_of_copies(folder / f"of{tables}", tables)
        for what, taken in _figures(place, repeats).items():
            figures.setdefault(what, []).append(taken)
    for what, seconds in figures.items():
        limit = _LINEAR if what.startswith("status") else _FLAT
        said = ", ".join(f"{1e3 * s:.3g} ms" for s in seconds)
        yield Line(
            f"{what} of {', '.join(f'{n:,}' for n in SIZES)} tables ({said}): exponent",
            seconds[-1],
            math.nan,
            exponent(SIZES, seconds),
            limit,
        )


def exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """The slope of the line through the logarithms."""
    slope, _ = statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, seconds)])
    return slope


def _figures(place: Path, repeats: int) -> dict[str, float]:
    jl.open(place).close()  # what an open after a crash settles
    began = time.process_time()
    ws = jl.open(place)
    opened = time.process_time() - began
    with ws:
        first = _seconds(ws.status)
        verdicts = ws._services.freshness.current_verdicts
        again = statistics.median(_seconds(ws.status) for _ in range(max(3, repeats)))
        small: dict[str, Callable[[], object]] = {
            "verdict on one": lambda: ws.staleness("t0"),
            "direct dependents of one": lambda: ws.derives_from("t0"),
            "badge of one": lambda: verdicts(["t0"]),
            "lineage of one, depth 1,": lambda: ws.lineage("t0", depth=1),
        }
        asked = {what: _seconds(ask, _TIMES) for what, ask in small.items()}
    return {"open": opened, "status, first,": first, "status, again,": again, **asked}


def _seconds(ask: Callable[[], object], times: int = 1) -> float:
    if times > 1:
        ask()
    gc.collect()  # of what the statuses before left: 0.1 s over 20,000 tables
    began = time.process_time()
    for _ in range(times):
        ask()
    return (time.process_time() - began) / times


CASES = {"growth": growth}
"""Minutes long: run where it is named."""
