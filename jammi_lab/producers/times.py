"""Times of two tables on one exact scale, and for each time of the one the fact of the other that counts."""

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.errors import InvalidArgument, SchemaMismatch
from jammi_lab.producers.matching import is_moment, is_wall_clock
from jammi_lab.vectors.arrays import numbers_of
from jammi_lab.vectors.exact import Places

Times = NDArray[Any]
"""int64, or Python's whole numbers where those would not hold them all."""
Mask = NDArray[np.bool_]
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_MICROSECOND = datetime.timedelta(microseconds=1)


@dataclass(frozen=True)
class Scale:
    """What one step of a scale of times is."""

    per_day: int | None
    """Steps of a day; None for whole numbers that are no times."""

    def steps(self, tolerance: datetime.timedelta | int | None) -> int | None:
        """A tolerance in steps, rounded down: distances are whole steps. InvalidArgument for a duration of whole numbers, or a number of times."""
        if tolerance is None:
            return None
        if isinstance(tolerance, datetime.timedelta) != (self.per_day is not None):
            wanted = "a whole number, as the times are" if self.per_day is None else "a timedelta, as the times are dates or timestamps"
            raise InvalidArgument(f"tolerance is {wanted}, not {tolerance!r}.")
        if not isinstance(tolerance, datetime.timedelta):
            return int(tolerance)
        return (tolerance // _MICROSECOND) * (self.per_day or 0) // _PER_DAY["us"]


def scale_of(one: pa.DataType, other: pa.DataType, names: tuple[tuple[str, str], tuple[str, str]]) -> Scale:
    """The scale on which both are exact. `names`: table and column of each. SchemaMismatch for what are no times, or do not compare."""
    for kind, (table, column) in zip((one, other), names, strict=True):
        if not (is_wall_clock(kind) or is_moment(kind) or _is_whole(kind)):
            raise SchemaMismatch(
                f"The times in {column!r} of {table!r} are {kind}.",
                table=table,
                column=column,
                expected="timestamps, dates or whole numbers",
                actual=str(kind),
                hint="Floating-point numbers are no exact times: round them in SQL." if pa.types.is_floating(kind) else "Cast them in SQL.",
            )
    if _family(one) != _family(other):
        mixed = {_family(one), _family(other)} == {"time without a zone", "time with a zone"}
        table, column = names[1]
        raise SchemaMismatch(
            f"The times in {column!r} of {table!r} are {other}, and those in {names[0][1]!r} of {names[0][0]!r} are {one}.",
            table=table,
            column=column,
            expected=str(one),
            actual=str(other),
            hint="Say in SQL which zone is meant: time AT TIME ZONE 'Europe/Berlin'." if mixed else "Cast one of them in SQL.",
        )
    if _is_whole(one):
        return Scale(None)
    return Scale(max(_per_day(one), _per_day(other)))


def times_of(column: pa.Array, scale: Scale) -> tuple[Times, Mask]:
    """The times on a scale, and which of them there are."""
    there: Mask = numbers_of(column.is_valid())
    kind = column.type
    if pa.types.is_date32(kind):
        plain = numbers_of(column.cast(pa.int32()).fill_null(0)).astype(np.int64)
    elif pa.types.is_temporal(kind):
        plain = numbers_of(column.cast(pa.int64()).fill_null(0))
    elif pa.types.is_decimal(kind):
        return _whole_numbers(column), there
    else:
        plain = numbers_of(column.fill_null(0))
    factor = 1 if scale.per_day is None else scale.per_day // _per_day(kind)
    if plain.dtype == np.uint64:
        return (plain.astype(object) if plain.max(initial=0) > np.iinfo(np.int64).max else plain.astype(np.int64)), there
    most = np.iinfo(np.int64).max // factor
    plain = plain.astype(np.int64, copy=False)
    if len(plain) and factor > 1 and (plain.max() > most or plain.min() < -most):
        return plain.astype(object) * factor, there
    return plain * factor, there


def _is_whole(kind: pa.DataType) -> bool:
    """Integers, and decimals without digits behind the point: a HUGEINT, which every sum of integers is, comes as one."""
    return bool(pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0))


def _whole_numbers(column: pa.Array) -> Times:
    """Decimals without digits behind the point."""
    words = np.frombuffer(column.cast(pa.decimal128(38, 0), safe=False).buffers()[1], np.int64).reshape(-1, 2)[column.offset :][: len(column)]
    words = np.where(numbers_of(column.is_valid())[:, None], words, 0)
    low, high = words[:, 0], words[:, 1]
    if (high == low >> 63).all():
        return np.ascontiguousarray(low)
    exact: Times = high.astype(object) * 2**64 + low.view(np.uint64).astype(object)
    return exact


def _family(kind: pa.DataType) -> str:
    return "whole number" if _is_whole(kind) else "time with a zone" if is_moment(kind) else "time without a zone"


def _per_day(kind: pa.DataType) -> int:
    return 1 if pa.types.is_date32(kind) else _PER_DAY["ms"] if pa.types.is_date64(kind) else _PER_DAY[kind.unit]


@dataclass(frozen=True)
class Rule:
    """Which fact counts."""

    direction: str
    """backward, forward, nearest."""
    inclusive: bool
    """Whether one of the very time does."""
    tolerance: int | None
    """How many steps away at most."""


class Facts:
    """Facts in the order of group and time, one for each: of several of one time the one that won, or a mark that none did."""

    def __init__(self, group: Places, times: Times, there: Mask, ties: pa.Array | None) -> None:
        """`group`: of each fact, −1 for none; `ties`: what the greatest of wins among facts of one time."""
        kept = np.flatnonzero(there & (group >= 0))
        self.moments, rank = np.unique(times[kept], return_inverse=True)
        """All times there are, rising."""
        self._width = len(self.moments) + 1
        address = group[kept] * self._width + rank
        won = np.zeros(len(kept), np.int64) if ties is None else _ranked(ties)[kept]
        order = np.lexsort((won, address))
        address, won = address[order], won[order]
        last = np.ones(len(order), np.bool_)
        last[:-1] = address[1:] != address[:-1]
        tied = np.zeros(len(order), np.bool_)
        tied[1:] = (address[1:] == address[:-1]) & (won[1:] == won[:-1])
        self._address, self._row, self._tied = address[last], kept[order][last], tied[last]
        self._when = self.moments[rank[order][last]]

    def matched(self, group: Places, times: Times, there: Mask, rule: Rule) -> tuple[Places, Mask]:
        """For each row of a spine the number of its fact, −1 for none; and where that is one of several that nothing tells apart."""
        found = np.full(len(group), -1, np.int64)
        asked = np.flatnonzero(there & (group >= 0))
        if len(self._address) and len(asked):
            base, when = group[asked] * self._width, times[asked]
            match rule.direction:
                case "backward":
                    found[asked] = self._before(base, when, rule)
                case "forward":
                    found[asked] = self._after(base, when, rule)
                case _:
                    before, after = self._before(base, when, rule), self._after(base, when, rule)
                    nearer = (before < 0) | ((after >= 0) & (self._distance(after, when) < self._distance(before, when)))
                    found[asked] = np.where(nearer, after, before)
        rows = np.where(found < 0, -1, self._row[found]) if len(self._row) else found
        tied = (found >= 0) & self._tied[found] if len(self._row) else found >= 0
        return rows, tied

    def _before(self, base: Places, when: Times, rule: Rule) -> Places:
        """The last fact until each time, as a place among the facts; −1 for none in the group."""
        until = np.searchsorted(self.moments, when, "right" if rule.inclusive else "left")
        place = np.searchsorted(self._address, base + until, "left") - 1
        return self._within(np.where((place >= 0) & (self._address[place] >= base), place, -1), when, rule)

    def _after(self, base: Places, when: Times, rule: Rule) -> Places:
        """The first fact from each time on."""
        since = np.searchsorted(self.moments, when, "left" if rule.inclusive else "right")
        place, last = np.searchsorted(self._address, base + since, "left"), len(self._address) - 1
        return self._within(np.where((place <= last) & (self._address[np.minimum(place, last)] < base + self._width), place, -1), when, rule)

    def _within(self, found: Places, when: Times, rule: Rule) -> Places:
        if rule.tolerance is None:
            return found
        return np.where((found >= 0) & (self._distance(found, when) <= rule.tolerance), found, -1)

    def _distance(self, found: Places, when: Times) -> NDArray[Any]:
        """How many steps apart; anything where there is no fact."""
        fact = self._when[found]
        if np.dtype(object) in (fact.dtype, when.dtype):
            apart: NDArray[Any] = np.abs(fact.astype(object) - when.astype(object))
            return apart
        # modulo 2⁶⁴, in which a distance always fits
        return np.where(fact > when, fact.view(np.uint64) - when.view(np.uint64), when.view(np.uint64) - fact.view(np.uint64))


def _ranked(ties: pa.Array) -> Places:
    """Equal numbers for equal values, greater ones for greater; NULL is the least and NaN the greatest. SchemaMismatch for types without order."""
    try:
        ranks = numbers_of(pc.rank(ties, sort_keys="ascending", tiebreaker="min")).astype(np.int64)
    except (pa.ArrowException, TypeError) as error:
        raise SchemaMismatch(f"Values of type {ties.type} have no order, so none of them is the greatest.", actual=str(ties.type)) from error
    ranks[~numbers_of(ties.is_valid())] = 0
    return ranks
