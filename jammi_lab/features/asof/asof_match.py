"""The as-of match: DuckDB's ASOF JOIN over keys and exact integer times, with a count of the facts
that tie."""

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.steps.key_types import cast_exactly, is_moment, is_wall_clock, single_array

_STEPS_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_MICROSECOND = datetime.timedelta(microseconds=1)
_MAX_DISTANCE = 2**127 - 1
"""The greatest HUGEINT; a distance beyond it counts as this one."""
_SIDES = {"backward": ["before"], "forward": ["after"], "nearest": ["before", "after"]}
"""The facts of which each direction takes one: the last before a time, and the first after it."""


@dataclass(frozen=True)
class TimeScale:
    """An integer scale of times."""

    per_day: int | None
    """Steps per day; None for plain integers."""
    sql_type: str = "HUGEINT"
    """The type that holds the steps: BIGINT, which is joined in half the time, or HUGEINT."""

    def to_steps(self, tolerance: datetime.timedelta | int | None) -> int | None:
        """A tolerance in whole steps, rounded down. Raises InvalidArgument for a duration on a
        scale of integers, and for a number on a scale of times."""
        if tolerance is None:
            return None
        if isinstance(tolerance, datetime.timedelta) != (self.per_day is not None):
            expected = (
                "an integer, because the times are integers"
                if self.per_day is None
                else "a timedelta, because the times are dates or timestamps"
            )
            raise InvalidArgument(f"tolerance must be {expected}, got {tolerance!r}.")
        if not isinstance(tolerance, datetime.timedelta):
            return int(tolerance)
        return (tolerance // _MICROSECOND) * (self.per_day or 0) // _STEPS_PER_DAY["us"]

    def steps_per_unit(self, kind: pa.DataType) -> int:
        """How many steps one unit of the integers behind an Arrow type is."""
        return 1 if self.per_day is None else self.per_day // _units_per_day(kind)


def common_scale(
    spine_type: pa.DataType, facts_type: pa.DataType, names: tuple[tuple[str, str], tuple[str, str]]
) -> TimeScale:
    """The scale on which the times of both types are exact. `names`: (table, column) of each.
    Raises SchemaMismatch for types that are not times or cannot be compared."""
    for arrow_type, (table, column) in zip((spine_type, facts_type), names, strict=True):
        if not (is_wall_clock(arrow_type) or is_moment(arrow_type) or _is_integral(arrow_type)):
            raise SchemaMismatch(
                f"The time column {column!r} of {table!r} has type {arrow_type}.",
                table=table,
                column=column,
                expected="timestamps, dates or integers",
                actual=str(arrow_type),
                hint="Floating-point times are not exact: round them in SQL."
                if pa.types.is_floating(arrow_type)
                else "Cast them in SQL.",
            )
    if _family(spine_type) != _family(facts_type):
        mixes_zones = not _is_integral(spine_type) and not _is_integral(facts_type)
        table, column = names[1]
        raise SchemaMismatch(
            f"The times in {column!r} of {table!r} are {facts_type}, and those in "
            f"{names[0][1]!r} of {names[0][0]!r} are {spine_type}.",
            table=table,
            column=column,
            expected=str(spine_type),
            actual=str(facts_type),
            hint="State the time zone in SQL: time AT TIME ZONE 'Europe/Berlin'."
            if mixes_zones
            else "Cast one of them in SQL.",
        )
    if _is_integral(spine_type):
        is_narrow = all(
            pa.types.is_integer(kind) and not pa.types.is_uint64(kind)
            for kind in (spine_type, facts_type)
        )
        return TimeScale(None, "BIGINT" if is_narrow else "HUGEINT")
    units = _units_per_day(spine_type), _units_per_day(facts_type)
    return TimeScale(max(units), "BIGINT" if units[0] == units[1] else "HUGEINT")


def _is_integral(kind: pa.DataType) -> bool:
    """Integers, and decimals with scale 0, in which a HUGEINT (such as any sum of integers)
    comes."""
    return bool(pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0))


def _family(kind: pa.DataType) -> tuple[bool, bool]:
    return _is_integral(kind), is_moment(kind)


def _units_per_day(kind: pa.DataType) -> int:
    return 1 if pa.types.is_date32(kind) else _STEPS_PER_DAY[kind.unit]


@dataclass(frozen=True)
class MatchRule:
    """The match rule of an as-of join."""

    direction: str
    """"backward", "forward" or "nearest"."""
    inclusive: bool
    """Whether a fact at exactly the same time matches."""
    tolerance: int | None
    """The greatest distance in steps; None for any."""
    scale: TimeScale
    """The scale of the times."""
    key_types: Sequence[pa.DataType]
    """The types in which the key columns are compared."""


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
        self._connection, self._rule = connection, rule
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
        self._match_statement = _match_statement(rule)

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
        """Create a table of row numbers, keys and steps. (An ASOF JOIN whose left side is Arrow
        data takes quadratic time in DuckDB 1.5.5, so the rows are copied.)"""
        integers = _integers(single_array(times))
        columns = {
            f"key{number}": _comparable(single_array(column), kind)
            for number, (column, kind) in enumerate(zip(keys, self._rule.key_types, strict=True))
        }
        number = self._rule.scale.sql_type
        factor = self._rule.scale.steps_per_unit(times.type)
        self._connection.register("read", pa.table({"time": integers, **columns, **more}))
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * EXCLUDE (time), "
            f"time::{number} * {factor} AS step, row_number() OVER () - 1 AS number FROM read"
        )
        self._connection.unregister("read")


def _match_statement(rule: MatchRule) -> str:
    keys = "".join(
        f" AND spine.key{number} = {{side}}.key{number}" for number in range(len(rule.key_types))
    )
    joins = {
        "before": "spine.step >= before.step" if rule.inclusive else "spine.step > before.step",
        "after": "spine.step <= after.step" if rule.inclusive else "spine.step < after.step",
    }
    sides = _SIDES[rule.direction]
    joined = " ".join(
        f"ASOF LEFT JOIN facts AS {side} ON {joins[side]}{keys.format(side=side)}" for side in sides
    )
    found = f"{sides[0]}.{{0}}"
    if rule.direction == "nearest":
        is_later = f"before.step IS NULL OR {_distance('after.step')} < {_distance('before.step')}"
        found = f"CASE WHEN {is_later} THEN after.{{0}} ELSE before.{{0}} END"
    if rule.tolerance is not None and rule.tolerance < _MAX_DISTANCE:
        found = f"CASE WHEN {_distance(found.format('step'))} <= {rule.tolerance} THEN {found} END"
    return (
        f"SELECT {found.format('number')} AS fact, {found.format('ties')} AS ties "
        f"FROM spine {joined} ORDER BY spine.number"
    )


def _distance(step: str) -> str:
    """The distance of a fact's step from that of the spine, capped where a HUGEINT cannot hold
    it. A step that is NULL is as far as that."""
    return f"coalesce(TRY(abs(spine.step::HUGEINT - {step})), {_MAX_DISTANCE})"


def _integers(times: pa.Array) -> pa.Array:
    """The integers behind times."""
    if pa.types.is_date32(times.type):
        return times.cast(pa.int32())
    return times.cast(pa.int64()) if pa.types.is_temporal(times.type) else times


def _comparable(keys: pa.Array, kind: pa.DataType) -> pa.Array:
    """Keys in the type of their comparison; as text where DuckDB has no such type."""
    values = cast_exactly(keys, kind)
    return values.cast(pa.string()) if pa.types.is_decimal256(kind) else values
