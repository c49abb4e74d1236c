"""Estimates of the duration of a run, from the rows that it will compute."""

import time
from collections.abc import Callable, Sequence
from operator import itemgetter

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.records import CallEstimate
from jammi_lab.store import manifests

CALLS = "calls"
"""The count of a run's calls in its manifest."""
_MAX_EARLIER_RUNS = 10


def estimate_run(
    catalog: Catalog,
    name: str,
    count_rows: Callable[[], tuple[int, int]],
    calls_of: Callable[[int], int],
    *,
    cost: float | None = None,
    unit: str = "row",
) -> CallEstimate:
    """What the next run of the recipe `name` will compute.

    `count_rows` reads the inputs and returns how many rows must be computed and how many there are;
    raises what reading raises. `calls_of` returns the calls for a number of rows."""
    started_at = time.perf_counter()
    todo, rows = count_rows()
    reading_seconds = time.perf_counter() - started_at
    calls = calls_of(todo)
    seconds = predict_seconds(calls, _earlier_runs(catalog, name), reading_seconds)
    return CallEstimate(todo, rows, calls, seconds, None if cost is None else calls * cost, unit)


def predict_seconds(
    calls: int, runs: Sequence[tuple[int, float]], fixed_seconds: float
) -> float | None:
    """The duration of a run with so many calls, from the calls and durations of earlier runs, the
    newest first; None without one.

    That of a run with as many calls, else in proportion to the largest run, above
    `fixed_seconds`: what reading the inputs and writing what is reused takes."""
    equal = next((seconds for number, seconds in runs if number == calls), None)
    if equal is not None or not runs:
        return equal
    largest, seconds = max(runs, key=itemgetter(0))
    fixed = min(fixed_seconds, seconds)
    return fixed + (seconds - fixed) * calls / largest if largest else seconds


def _earlier_runs(catalog: Catalog, name: str) -> list[tuple[int, float]]:
    """The calls and durations of the newest versions."""
    runs = []
    for _, record in catalog.result_tables.versions(name)[:_MAX_EARLIER_RUNS]:
        manifest = manifests.parse(catalog.result_tables.manifest(record.table_name))
        if manifest is not None and CALLS in manifest.counts:
            runs.append((manifest.counts[CALLS], manifest.seconds))
    return runs
