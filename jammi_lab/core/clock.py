"""The clock and the source of random ids. Tests inject their own."""

import datetime
import os
import time
from typing import Any, Protocol

from jammi_lab.core.errors import InvalidArgument, TableDamaged, invalid_row_error


class Clock(Protocol):
    """The current time, and random ids."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a monotonic clock."""
        ...

    def token(self, digits: int) -> str:
        """The given number of random hex digits."""
        ...


class SystemClock:
    """The machine's clock. Names created within the same nanosecond still differ by their token."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    def token(self, digits: int) -> str:
        # As `secrets.token_hex` does; importing that takes 4 ms of each `%load_ext`.
        return os.urandom((digits + 1) // 2).hex()[:digits]


def utc_now() -> str:
    """The time in UTC, to the second, as captions show it."""
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S}"


def rfc3339(ns: int) -> str:
    """A moment as RFC 3339 in UTC with microseconds: `2026-11-20T09:30:00.000001Z`. These strings
    sort by time. Raises InvalidArgument beyond the years 1 to 9999."""
    try:
        second = datetime.datetime.fromtimestamp(ns // 1_000_000_000, datetime.UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(
            "The clock of this machine tells no year from 1 to 9999.", hint="Set it."
        ) from None
    moment = second.replace(microsecond=ns % 1_000_000_000 // 1000)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_rfc3339(text: str) -> datetime.datetime:
    """The moment that an RFC 3339 string names, with its time zone. Raises TableDamaged for another
    string."""
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        raise invalid_row_error() from None


def seconds_since(text: str, now: float) -> float | None:
    """Seconds from an RFC 3339 moment until `now` (seconds since the epoch), at least 0. None for a
    string that is not a moment."""
    try:
        return max(0.0, now - parse_rfc3339(text).timestamp())
    except (TableDamaged, OverflowError):
        return None


def to_seconds(duration: Any, argument: str, *, positive: bool = False) -> float:
    """A duration given as seconds or as a timedelta, in seconds. Raises InvalidArgument unless it
    is at least 0, or with `positive` greater than 0."""
    seconds = duration.total_seconds() if isinstance(duration, datetime.timedelta) else duration
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not (seconds > 0 if positive else seconds >= 0)
    ):
        raise InvalidArgument(
            f"{argument} must be a timedelta or a number of seconds, "
            f"{'greater than' if positive else 'at least'} 0; got {duration!r}."
        )
    return float(seconds)
