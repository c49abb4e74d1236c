"""The as-of match: DuckDB's ASOF JOIN over keys and times, with a count of the facts that tie."""

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.steps.key_types import single_array

_DAY = datetime.timedelta(days=1)
_MICROSECOND = datetime.timedelta(microseconds=1)
STEPS_PER_DAY = {
    "DATE": 1,
    "TIMESTAMP_S": 86_400,
    "TIMESTAMP_MS": 86_400_000,
    "TIMESTAMP": 86_400_000_000,
    "TIMESTAMP WITH TIME ZONE": 86_400_000_000,
    "TIMESTAMP_NS": 86_400_000_000_000,
}
"""The types of times, with the steps of their integers per day."""
_MAX_TOLERANCE = 2**64
"""Beyond the distance of any two times."""
_SIDES = {"backward": ["before"], "forward": ["after"], "nearest": ["before", "after"]}
"""The facts of which each direction takes one: the last before a time, and the first after it."""


def tolerance_steps(tolerance: datetime.timedelta | int | None, time_type: str) -> int | None:
    """A tolerance in whole steps of an SQL type of times, rounded down. Raises InvalidArgument for
    a duration between integers, and for a number between times."""
    if tolerance is None:
        return None
    per_day = STEPS_PER_DAY.get(time_type)
    if isinstance(tolerance, datetime.timedelta) != (per_day is not None):
        expected = "an integer, because the times are integers"
        if per_day is not None:
            expected = "a timedelta, because the times are dates or timestamps"
        raise InvalidArgument(f"tolerance must be {expected}, got {tolerance!r}.")
    if isinstance(tolerance, datetime.timedelta):
        tolerance = (tolerance // _MICROSECOND) * (per_day or 0) // (_DAY // _MICROSECOND)
    return min(int(tolerance), _MAX_TOLERANCE)


@dataclass(frozen=True)
class MatchRule:
    """The match rule of an as-of join."""

    direction: str
    """"backward", "forward" or "nearest"."""
    inclusive: bool
    """Whether a fact at exactly the same time matches."""
    tolerance: int | None
    """The greatest distance in steps; None for any."""


class AsofMatcher:
    """The facts, one for each key and time, in a DuckDB instance of the caller."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        rule: MatchRule,
        keys: Sequence[pa.ChunkedArray],
        times: pa.ChunkedArray,
        ties: pa.ChunkedArray | None,
    ) -> None:
        """`ties`: the tie-break values; of equal times the fact with the greatest is kept, NULL
        being the least and NaN the greatest."""
        self._connection = connection
        connection.execute(f"SET threads = {os.cpu_count() or 1}")
        self._load("facts_read", keys, times, {} if ties is None else {"tie": ties})
        group = ", ".join([*(f"key{number}" for number in range(len(keys))), "step"])
        winners = (
            ""
            if ties is None
            else f"QUALIFY rank() OVER (PARTITION BY {group} ORDER BY tie DESC NULLS LAST) = 1"
        )
        connection.execute(
            f"CREATE TEMP TABLE facts AS SELECT {group}, min(number) AS number, count(*) AS ties "
            f"FROM (FROM facts_read {winners}) GROUP BY {group}"
        )
        connection.execute("DROP TABLE facts_read")
        self._match_statement = _match_statement(rule, len(keys))

    def match(self, keys: Sequence[pa.ChunkedArray], times: pa.ChunkedArray) -> pa.Table:
        """For each row of the spine, in order, the number of its fact (NULL for none) and how many
        facts tie with it."""
        self._load("spine", keys, times, {})
        return self._connection.execute(self._match_statement).to_arrow_table()

    def _load(
        self,
        table: str,
        keys: Sequence[pa.ChunkedArray],
        times: pa.ChunkedArray,
        more: dict[str, pa.ChunkedArray],
    ) -> None:
        """Create a table of row numbers, keys and the integers behind times. (An ASOF JOIN whose
        left side is Arrow data takes quadratic time in DuckDB 1.5.5, so the rows are copied.)"""
        steps = single_array(times)
        if pa.types.is_date32(steps.type):
            steps = steps.cast(pa.int32())
        columns = {f"key{number}": single_array(column) for number, column in enumerate(keys)}
        read = pa.table({"step": steps.cast(pa.int64()), **columns, **more})
        self._connection.register("read", read)
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS "
            "SELECT *, row_number() OVER () - 1 AS number FROM read"
        )
        self._connection.unregister("read")


def _match_statement(rule: MatchRule, key_count: int) -> str:
    keys = "".join(f" AND spine.key{number} = {{side}}.key{number}" for number in range(key_count))
    equal = "=" if rule.inclusive else ""
    joins = {
        "before": f"spine.step >{equal} before.step",
        "after": f"spine.step <{equal} after.step",
    }
    sides = _SIDES[rule.direction]
    joined = " ".join(
        f"ASOF LEFT JOIN facts AS {side} ON {joins[side]}{keys.format(side=side)}" for side in sides
    )
    found = f"{sides[0]}.{{0}}"
    if rule.direction == "nearest":
        is_later = f"before.step IS NULL OR {_distance('after.step')} < {_distance('before.step')}"
        found = f"CASE WHEN {is_later} THEN after.{{0}} ELSE before.{{0}} END"
    if rule.tolerance is not None:
        found = f"CASE WHEN {_distance(found.format('step'))} <= {rule.tolerance} THEN {found} END"
    return (
        f"SELECT {found.format('number')} AS fact, {found.format('ties')} AS ties "
        f"FROM spine {joined} ORDER BY spine.number"
    )


def _distance(step: str) -> str:
    """The distance of a fact's step from that of the spine."""
    return f"abs(spine.step::HUGEINT - {step})"
