"""Measures of row maps: calls and time after one row in a hundred was edited."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jammi_lab as jl
from bench import fixtures
from bench.harness import Line, measure_pair, wall_timer

_ROWS, _EDITED_ROWS = 10_000, 100
_CALL_SECONDS = 0.001


class CountedCalls:
    """A function of one text that takes a millisecond."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, text: str) -> int:
        self.count += 1
        time.sleep(_CALL_SECONDS)
        return len(text)


def mapping(folder: Path, repeats: int) -> Iterator[Line]:
    """After one row in a hundred was edited, one in a hundred is asked, and little else is done."""
    with jl.open(folder / "lab") as ws:
        ws.sources.add("texts", str(fixtures.parquet_of_texts(folder / "texts.parquet", _ROWS)))
        function = CountedCalls()
        run = partial(
            ws.map,
            "lengths",
            function,
            "texts",
            key="id",
            inputs="text",
            version="1",
            schema={"length": "bigint"},
        )
        map_all = wall_timer(partial(run, cache="bypass"))
        map_all()
        shares: list[float] = []

        def map_again() -> float:
            edited = _EDITED_ROWS * (1 + len(shares))
            fixtures.parquet_of_texts(folder / "texts.parquet", _ROWS, edited=edited)
            function.count = 0
            took = wall_timer(run)()
            shares.append(function.count / _ROWS)
            return took

        yield measure_pair(
            "map again: 1 % of 10,000 rows edited, against all of them, at 1 ms a call",
            map_again,
            map_all,
            repeats=repeats,
            limit=0.05,
        )
        yield Line(
            "map again: share of rows that are asked, against all",
            max(shares),
            1.0,
            max(shares),
            0.01,
        )


CASES = {"mapping": mapping}
