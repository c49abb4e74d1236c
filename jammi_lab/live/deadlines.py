"""Deadlines by the wall clock: the minute of grace after the machine slept, and the clock that was set back."""

import datetime
import math
from typing import Any

from jammi_lab.clock import Clock, in_seconds

GRACE_NS = 60 * 10**9
_GAP = 2.0
"""Seconds by which the wall clock must have run ahead of the one that stands still while the machine sleeps, or have fallen behind it."""
_LAST_NS = int(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC).timestamp()) * 10**9
"""What lies behind it cannot be written as a date: it is never."""


def after(moment_ns: int, length: Any, what: str) -> int | None:
    """The moment so many seconds later, None for one beyond the calendar. InvalidArgument unless it is a number above 0."""
    seconds = in_seconds(length, what, above=True)
    if math.isinf(seconds) or moment_ns + seconds * 1e9 >= _LAST_NS:
        return None
    return moment_ns + round(seconds * 1e9)


class Waking:
    """Notices that the machine slept, from two clocks of which only one goes on meanwhile, and that the other was set back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall, self._steady = clock.now_ns(), clock.monotonic()

    def leapt(self) -> float:
        """By how many seconds the wall clock has leapt since this was last asked: above 0 when the machine slept or the clock was set, below it when
        that was set back, else 0."""
        wall, steady = self._clock.now_ns(), self._clock.monotonic()
        ahead = (wall - self._wall) / 1e9 - (steady - self._steady)
        self._wall, self._steady = wall, steady
        return ahead if abs(ahead) > _GAP else 0.0
