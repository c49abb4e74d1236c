"""Which tests are slow, by what earlier runs measured; `make durations` writes `durations.json`
anew.

A duration is the processor time of a test and of the children it waited for, or half of the time on
the clock where that is more: kernels, browsers and servers work beside the test. Functions below
`SLOW_SECONDS`, and those of several cases below `sizes.CASES_SECONDS`, are summed up for their file,
under the empty name.
"""

import json
import resource
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.sizes import CASES_SECONDS

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "tests" / "durations.json"
SLOW_SECONDS = 0.5
"""A test function that takes this long, with all its parameters, is slow."""
CHECK_SECONDS = 30.0
"""Processor time for the tests of `make check`."""
IMPORT_SECONDS = 0.3
"""What a file costs beside its tests: every worker imports it."""
SAME = 1.5
"""Durations that differ by less than this factor count as equal, so that the file changes only
where tests did."""


@cache
def measured() -> dict[str, dict[str, float]]:
    """Seconds by function by file."""
    if not FILE.exists():
        return {}
    found: dict[str, dict[str, float]] = json.loads(FILE.read_text())
    return found


def unselected(
    durations: Mapping[str, Mapping[str, float]], seconds: float = CHECK_SECONDS
) -> set[str]:
    """Files that `make check` leaves out: it takes the cheapest file of each folder, then the
    second of each, and so on, while they fit."""
    cost = {}
    for name, each in durations.items():
        if quick := [s for test, s in each.items() if not test or s < SLOW_SECONDS]:
            cost[name] = sum(quick) + IMPORT_SECONDS
    rank, files = dict[str, int](), dict[str, int]()
    for name in sorted(cost, key=lambda name: (cost[name], name)):
        folder = name.rpartition("/")[0]
        rank[name] = files[folder] = files.get(folder, 0) + 1
    out = durations.keys() - cost.keys()
    for name in sorted(cost, key=lambda name: (rank[name], cost[name], name)):
        if cost[name] > min(seconds, CHECK_SECONDS / 10):
            out.add(name)
        else:
            seconds -= cost[name]
    return out


@cache
def _unselected() -> set[str]:
    return unselected(measured())


def file_is_slow(path: Path) -> bool:
    """Whether `make check` leaves out a file."""
    return path.is_relative_to(ROOT) and path.relative_to(ROOT).as_posix() in _unselected()


def is_slow(nodeid: str) -> bool:
    """Whether a test is marked slow."""
    function = nodeid.partition("[")[0]
    return function.partition("::")[0] in _unselected() or seconds_of(function) >= SLOW_SECONDS


def seconds_of(function: str) -> float:
    """What all cases of a test function take together; 0 where that is little or not known."""
    file, _, name = function.partition("::")
    return measured().get(file, {}).get(name, 0.0)


class Stopwatch:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._cpu, self._wall = self._now(), time.monotonic()

    @staticmethod
    def _now() -> float:
        return sum(
            used.ru_utime + used.ru_stime
            for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    def seconds(self) -> float:
        """Never more than two processors give: a child that ends counts with all that it did before
        the test."""
        wall = time.monotonic() - self._wall
        return min(max(self._now() - self._cpu, 0.5 * wall), 2 * wall)


def store(seconds: Mapping[str, float], before: Mapping[str, Mapping[str, float]]) -> None:
    """Write what a run measured, by node; files that it did not run stay as they were, unless they
    are gone."""
    functions: dict[str, dict[str, float]] = {}
    least = {}
    for node, took in seconds.items():
        file, _, function = node.partition("::")
        of_file = functions.setdefault(file, {})
        name, _, case = function.partition("[")
        of_file[name] = of_file.get(name, 0.0) + took
        least[file, name] = CASES_SECONDS if case else SLOW_SECONDS
    new = {name: dict(each) for name, each in before.items() if (ROOT / name).exists()}
    for file, of_file in functions.items():
        kept = {n: s for n, s in of_file.items() if s >= least[file, n]}
        if quick := [s for n, s in of_file.items() if n not in kept]:
            kept[""] = sum(quick)
        new[file] = {n: _steady(s, before.get(file, {}).get(n)) for n, s in kept.items()}
    lines = (
        f" {json.dumps(name)}: {json.dumps(dict(sorted(new[name].items())))}"
        for name in sorted(new)
    )
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _steady(seconds: float, before: float | None) -> float:
    if before and before / SAME < seconds < before * SAME:
        return before
    return float(f"{seconds:.1g}") if seconds < 10 else float(round(seconds))
