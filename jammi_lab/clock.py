"""The one clock and the one source of ids; a test puts its own in their place."""

import datetime
import secrets
import time
from typing import Any, Protocol

from jammi_lab.errors import InvalidArgument


class Clock(Protocol):
    """What time it is, and fresh random ids."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""
        ...

    def token(self, digits: int) -> str:
        """That many random hex digits."""
        ...


class SystemClock:
    """The machine's clock; names made within one nanosecond still differ by their token."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    def token(self, digits: int) -> str:
        return secrets.token_hex((digits + 1) // 2)[:digits]


def rfc3339(ns: int) -> str:
    """A moment as RFC 3339 in UTC with microseconds: `2026-11-20T09:30:00.000001Z`; such texts sort by time."""
    moment = datetime.datetime.fromtimestamp(ns // 1_000_000_000, datetime.UTC).replace(microsecond=ns % 1_000_000_000 // 1000)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_rfc3339(text: str) -> datetime.datetime:
    """The moment that such a text names, with its zone."""
    return datetime.datetime.fromisoformat(text)


def seconds_since(text: str, now: float) -> float | None:
    """Seconds from the moment that such a text names until `now`, since the epoch, at least 0; None for a text that names none."""
    try:
        return max(0.0, now - from_rfc3339(text).timestamp())
    except (ValueError, OverflowError):
        return None


def in_seconds(length: Any, what: str, *, above: bool = False) -> float:
    """A length of time that somebody gave in seconds or as a timedelta. InvalidArgument unless it is one from 0 on, or `above` 0."""
    seconds = length.total_seconds() if isinstance(length, datetime.timedelta) else length
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not (seconds > 0 if above else seconds >= 0):
        raise InvalidArgument(f"{what} is a number of seconds {'above' if above else 'from'} 0 or a timedelta, not {length!r}.")
    return float(seconds)
