"""Estimates of the duration of a run, from the rows that it will compute."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor
from jammi_lab.core.records import CallEstimate
from jammi_lab.store import manifests

CALLS = "calls"
"""The count of a run's calls in its manifest."""
_MAX_EARLIER_RUNS = 10
FIXED_RUN_SECONDS = 0.02
"""The part of a run that does not depend on its rows: binding, publishing. Measured."""
_GROWTH_EXPONENT_RATIO = 0.75
"""A statement's duration grows with this power of its rows. Measured: 0.4 (small CSV) to 1."""
TYPICAL_ROW_BYTES = 40
"""The size of a row of a text file, to compare text files with inputs whose rows are counted."""


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

    Linear between the runs with the next fewer and the next more calls. A run without calls, where
    there was none, takes `fixed_seconds`: it reads the inputs and writes what it reuses."""
    fewer = max((run for run in runs if run[0] <= calls), default=None, key=itemgetter(0))
    more = min((run for run in runs if run[0] >= calls), default=None, key=itemgetter(0))
    if fewer is None and more is None:
        return None
    if fewer is not None and fewer[0] == calls:
        return fewer[1]
    low = fewer or (0, min(fixed_seconds, more[1] if more else fixed_seconds))
    if more is None:  # more calls than ever: by the slope below the largest run
        slope = max(low[1] - fixed_seconds, 0.0) / max(low[0], 1)
        return low[1] + slope * (calls - low[0])
    return low[1] + (more[1] - low[1]) * (calls - low[0]) / (more[0] - low[0])


def scale_to_rows(
    seconds: float,
    recorded: Iterable[Anchor],
    current: Mapping[tuple[str, str, str], object],
    text_bytes: Callable[[Anchor], tuple[int, int] | None] = lambda _: None,
) -> float:
    """The duration of a full run over the current inputs, from that of a run over the recorded
    ones, by the rows of the inputs whose number is known, above a fixed part. Text files, whose
    rows are not counted, count by their size: `text_bytes` returns it at an anchor and now."""
    counts = []
    for anchor in recorded:
        state = current.get(anchor.input.identity)
        if not isinstance(state, Anchor):
            continue
        if anchor.row_count is not None and state.row_count is not None:
            counts.append((anchor.row_count, state.row_count))
        elif (sizes := text_bytes(anchor)) is not None:
            counts.append((sizes[0] // TYPICAL_ROW_BYTES, sizes[1] // TYPICAL_ROW_BYTES))
    before, now = sum(old for old, _ in counts), sum(new for _, new in counts)
    if before == now or not before:
        return seconds
    fixed_seconds = min(seconds, FIXED_RUN_SECONDS)
    growth = float((now / before) ** _GROWTH_EXPONENT_RATIO)
    return fixed_seconds + (seconds - fixed_seconds) * growth


def _earlier_runs(catalog: Catalog, name: str) -> list[tuple[int, float]]:
    """The calls and durations of the newest versions."""
    runs = []
    for _, record in catalog.result_tables.versions(name)[:_MAX_EARLIER_RUNS]:
        manifest = manifests.parse(catalog.result_tables.manifest(record.table_name))
        if manifest is not None and CALLS in manifest.counts:
            runs.append((manifest.counts[CALLS], manifest.seconds))
    return runs
