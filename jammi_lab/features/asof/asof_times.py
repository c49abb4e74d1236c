"""Times of two tables on one exact integer scale, and the as-of match on that scale."""

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.steps.key_types import is_moment, is_wall_clock
from jammi_lab.storage.vector_arrays import RowNumbers, to_numpy

Times = NDArray[Any]
"""int64, or Python integers (dtype object) where int64 would overflow."""
Mask = NDArray[np.bool_]
_STEPS_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_MICROSECOND = datetime.timedelta(microseconds=1)


@dataclass(frozen=True)
class TimeScale:
    """An integer scale of times."""

    per_day: int | None
    """Steps per day; None for plain integers."""

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
        mixes_zones = {_family(spine_type), _family(facts_type)} == {
            "time without a zone",
            "time with a zone",
        }
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
        return TimeScale(None)
    return TimeScale(max(_steps_per_day(spine_type), _steps_per_day(facts_type)))


def to_times(column: pa.Array, scale: TimeScale) -> tuple[Times, Mask]:
    """The times on a scale, and a mask of the non-NULL ones."""
    valid: Mask = to_numpy(column.is_valid())
    kind = column.type
    if pa.types.is_date32(kind):
        values = to_numpy(column.cast(pa.int32()).fill_null(0)).astype(np.int64)
    elif pa.types.is_temporal(kind):
        values = to_numpy(column.cast(pa.int64()).fill_null(0))
    elif pa.types.is_decimal(kind):
        return _decimal_integers(column), valid
    else:
        values = to_numpy(column.fill_null(0))
    factor = 1 if scale.per_day is None else scale.per_day // _steps_per_day(kind)
    if values.dtype == np.uint64:
        return (
            values.astype(object)
            if values.max(initial=0) > np.iinfo(np.int64).max
            else values.astype(np.int64)
        ), valid
    max_value = np.iinfo(np.int64).max // factor
    values = values.astype(np.int64, copy=False)
    if len(values) and factor > 1 and (values.max() > max_value or values.min() < -max_value):
        return values.astype(object) * factor, valid
    return values * factor, valid


def _is_integral(kind: pa.DataType) -> bool:
    """Integers, and decimals with scale 0, in which a HUGEINT (such as any sum of integers)
    comes."""
    return bool(pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0))


def _decimal_integers(column: pa.Array) -> Times:
    """Decimals of scale 0 as integers."""
    words = np.frombuffer(
        column.cast(pa.decimal128(38, 0), safe=False).buffers()[1], np.int64
    ).reshape(-1, 2)[column.offset :][: len(column)]
    words = np.where(to_numpy(column.is_valid())[:, None], words, 0)
    low, high = words[:, 0], words[:, 1]
    if (high == low >> 63).all():
        return np.ascontiguousarray(low)
    exact: Times = high.astype(object) * 2**64 + low.view(np.uint64).astype(object)
    return exact


def _family(kind: pa.DataType) -> str:
    return (
        "whole number"
        if _is_integral(kind)
        else "time with a zone"
        if is_moment(kind)
        else "time without a zone"
    )


def _steps_per_day(kind: pa.DataType) -> int:
    return (
        1
        if pa.types.is_date32(kind)
        else _STEPS_PER_DAY["ms"]
        if pa.types.is_date64(kind)
        else _STEPS_PER_DAY[kind.unit]
    )


@dataclass(frozen=True)
class MatchRule:
    """The match rule of an as-of join."""

    direction: str
    """"backward", "forward" or "nearest"."""
    inclusive: bool
    """Whether a fact at exactly the same time matches."""
    tolerance: int | None
    """The greatest distance in steps; None for any."""


class AsofIndex:
    """An index of facts by group and time. It keeps one fact per group and time: the one with the
    greatest tie-break value, and a mark when several share that."""

    def __init__(self, group: RowNumbers, times: Times, valid: Mask, ties: pa.Array | None) -> None:
        """`group`: the group number of each fact, −1 for none; `ties`: the tie-break values."""
        rows = np.flatnonzero(valid & (group >= 0))
        self.moments, rank = np.unique(times[rows], return_inverse=True)
        """All distinct times, ascending."""
        self._width = len(self.moments) + 1
        address = group[rows] * self._width + rank
        tie_rank = np.zeros(len(rows), np.int64) if ties is None else _tie_ranks(ties)[rows]
        order = np.lexsort((tie_rank, address))
        address, tie_rank = address[order], tie_rank[order]
        last = np.ones(len(order), np.bool_)
        last[:-1] = address[1:] != address[:-1]
        tied = np.zeros(len(order), np.bool_)
        tied[1:] = (address[1:] == address[:-1]) & (tie_rank[1:] == tie_rank[:-1])
        self._group_time, self._row, self._tied = address[last], rows[order][last], tied[last]
        self._fact_times = self.moments[rank[order][last]]

    def match(
        self, group: RowNumbers, times: Times, valid: Mask, rule: MatchRule
    ) -> tuple[RowNumbers, Mask]:
        """For each row of the spine the row of its fact, −1 for none; and a mask of ambiguous
        matches."""
        positions = np.full(len(group), -1, np.int64)
        candidates = np.flatnonzero(valid & (group >= 0))
        if len(self._group_time) and len(candidates):
            group_start, query_times = group[candidates] * self._width, times[candidates]
            match rule.direction:
                case "backward":
                    positions[candidates] = self._last_until(group_start, query_times, rule)
                case "forward":
                    positions[candidates] = self._first_from(group_start, query_times, rule)
                case _:
                    before = self._last_until(group_start, query_times, rule)
                    after = self._first_from(group_start, query_times, rule)
                    nearer = (before < 0) | (
                        (after >= 0)
                        & (self._distance(after, query_times) < self._distance(before, query_times))
                    )
                    positions[candidates] = np.where(nearer, after, before)
        rows = np.where(positions < 0, -1, self._row[positions]) if len(self._row) else positions
        tied = (positions >= 0) & self._tied[positions] if len(self._row) else positions >= 0
        return rows, tied

    def _last_until(
        self, group_start: RowNumbers, query_times: Times, rule: MatchRule
    ) -> RowNumbers:
        """The position of the last fact up to each time; −1 when the group has none."""
        end = np.searchsorted(self.moments, query_times, "right" if rule.inclusive else "left")
        position = np.searchsorted(self._group_time, group_start + end, "left") - 1
        return self._within_tolerance(
            np.where((position >= 0) & (self._group_time[position] >= group_start), position, -1),
            query_times,
            rule,
        )

    def _first_from(
        self, group_start: RowNumbers, query_times: Times, rule: MatchRule
    ) -> RowNumbers:
        """The position of the first fact from each time on; −1 when the group has none."""
        start = np.searchsorted(self.moments, query_times, "left" if rule.inclusive else "right")
        position = np.searchsorted(self._group_time, group_start + start, "left")
        last = len(self._group_time) - 1
        return self._within_tolerance(
            np.where(
                (position <= last)
                & (self._group_time[np.minimum(position, last)] < group_start + self._width),
                position,
                -1,
            ),
            query_times,
            rule,
        )

    def _within_tolerance(
        self, positions: RowNumbers, query_times: Times, rule: MatchRule
    ) -> RowNumbers:
        if rule.tolerance is None:
            return positions
        return np.where(
            (positions >= 0) & (self._distance(positions, query_times) <= rule.tolerance),
            positions,
            -1,
        )

    def _distance(self, positions: RowNumbers, query_times: Times) -> NDArray[Any]:
        """Distances in steps; undefined where there is no fact."""
        fact_times = self._fact_times[positions]
        if np.dtype(object) in (fact_times.dtype, query_times.dtype):
            exact_distance: NDArray[Any] = np.abs(
                fact_times.astype(object) - query_times.astype(object)
            )
            return exact_distance
        # modulo 2⁶⁴, in which a distance always fits
        return np.where(
            fact_times > query_times,
            fact_times.view(np.uint64) - query_times.view(np.uint64),
            query_times.view(np.uint64) - fact_times.view(np.uint64),
        )


def _tie_ranks(ties: pa.Array) -> RowNumbers:
    """Ranks of the tie-break values: equal for equal values, NULL lowest and NaN highest. Raises
    SchemaMismatch for types without an order."""
    try:
        ranks = to_numpy(pc.rank(ties, sort_keys="ascending", tiebreaker="min")).astype(np.int64)
    except (pa.ArrowException, TypeError) as error:
        raise SchemaMismatch(
            f"Values of type {ties.type} have no order and cannot break ties.",
            actual=str(ties.type),
        ) from error
    ranks[~to_numpy(ties.is_valid())] = 0
    return ranks
