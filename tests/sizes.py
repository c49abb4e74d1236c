"""How much of what is generated one run does: the short sizes of `make test`, the long ones of
`make soak`."""

import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
SOAK = os.environ.get("JAMMI_SOAK") == "1"
"""Whether generated tests run at their long sizes."""
CASES_SECONDS = 0.15
"""What the cases of one test may take together in `make test`, by their measured durations."""

soak = pytest.mark.soak
"""Marks a test whose size depends on `SOAK`: `make test` runs it short, `make soak` long."""
product = pytest.mark.product
"""Marks a test over several lists of parameters: `make test` covers each value (of three lists and
more each pair), `make soak` runs all cells."""

contract = pytest.mark.contract
"""Marks the tests of a class or module that each run over one list of things of a kind: `make test`
runs each with a quarter of the list, of two things with one, in rotation, so that everything in it
meets a part of the tests; `make soak` runs all. So do, without a mark, tests that get an
implementation from a fixture with parameters."""

every_case = pytest.mark.every_case
"""Marks a test of which `make test` runs each case, however long they take together: each is a
behaviour of its own."""

repeated = pytest.mark.repeated
"""Marks a module that runs the tests of other modules once more, elsewhere: `make test` runs a
quarter of those, `make soak` all."""


def sized(short: T, long: T) -> T:
    """The size for this run."""
    return long if SOAK else short


def examples(long: int) -> int:
    """How many examples a property gets that explores `long` of them in a soak."""
    return sized(max(10, long // 16), long)


def thinned(cells: Iterable[T], every: int) -> list[T]:
    """All cells in a soak, else every so manieth, the first and the last among them."""
    whole = list(cells)
    return whole if SOAK else [c for n, c in enumerate(whole) if not n % every or c is whole[-1]]


def rotated(row: int, column: int, columns: int) -> bool:
    """Whether the test that is the so manieth of a contract meets the so manieth thing of its
    list."""
    return (row + column) % min(4, columns) == 0


def covering(cells: Sequence[tuple[Any, ...]]) -> list[int]:
    """Positions of cells that cover, greedily, each value of two factors or each pair of values of
    more."""
    factors = len(cells[0]) if cells else 0
    width = 1 if factors < 3 else 2
    groups = list(itertools.combinations(range(factors), width))
    needs = [{(g, tuple(cell[i] for i in g)) for g in groups} for cell in cells]
    left, chosen = set().union(*needs) if needs else set(), list[int]()
    while left:
        best = max(range(len(cells)), key=lambda n: (len(needs[n] & left), -n))
        chosen.append(best)
        left -= needs[best]
    return chosen


def affordable(cases: int, seconds: float) -> int:
    """How many cases of a test `make test` runs, by the seconds that all take: what fits, but an
    eighth at least."""
    return (
        cases
        if seconds <= CASES_SECONDS
        else max(-(-cases // 8), int(cases * CASES_SECONDS / seconds))
    )


def spread(cells: Sequence[tuple[Any, ...]], count: int) -> set[int]:
    """Positions of so many cells, evenly over one list of parameters; of several lists those first
    that `covering` chooses."""
    even = [n * len(cells) // count for n in range(count)]
    first = covering(cells) if len(cells[0]) > 1 else []
    return set(list(dict.fromkeys([*first, *even]))[:count])
