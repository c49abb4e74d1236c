"""Deadlines of ephemeral sessions, and clocks that jump."""

import datetime
import math
from typing import Any

from jammi_lab.core.clock import Clock, rfc3339, to_seconds

GRACE_NS = 60 * 10**9
"""How long a session lives on after the machine slept past its deadline."""
_MIN_JUMP_SECONDS = 2.0
"""Difference between wall clock and monotonic clock that counts as a jump; the monotonic clock
stands still while the machine sleeps."""
_LAST_NS = int(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC).timestamp()) * 10**9
"""Later moments cannot be written as a date and mean never."""


def deadline_after(start_ns: int, duration: Any, name: str) -> int | None:
    """The moment that many seconds later; None beyond the calendar. Raises InvalidArgument unless
    `duration` is a number above 0."""
    seconds = to_seconds(duration, name, positive=True)
    if math.isinf(seconds) or start_ns + seconds * 1e9 >= _LAST_NS:
        return None
    return start_ns + round(seconds * 1e9)


class ClockJumpDetector:
    """Detects that the machine slept or that the wall clock was set, by comparing it with a clock
    that stands still during sleep."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall, self._steady = clock.now_ns(), clock.monotonic()

    def jump_seconds(self) -> float:
        """Seconds by which the wall clock has jumped since the last call: positive after sleep or
        when it was set forward, negative when it was set back, else 0."""
        wall, steady = self._clock.now_ns(), self._clock.monotonic()
        jump = (wall - self._wall) / 1e9 - (steady - self._steady)
        self._wall, self._steady = wall, steady
        return jump if abs(jump) > _MIN_JUMP_SECONDS else 0.0


def format_deadline(moment_ns: int | None) -> str | None:
    """A moment as the catalog stores it; None is never."""
    return None if moment_ns is None else rfc3339(moment_ns)
