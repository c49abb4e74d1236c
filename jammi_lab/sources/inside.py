"""What a server tells of one of its tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jammi_lab.sources.base import Looking
from jammi_lab.values.anchors import Unknown

Bodies = tuple[str, dict[str, str], Callable[[frozenset[str]], str] | None]
"""A SELECT of a table, its columns and SQL types, and, where there is a cheaper SELECT for some sets of columns, which."""
Sets = Mapping[str, str]
"""Digests by `set_key`."""


@dataclass(frozen=True, slots=True)
class Inside:
    """A table or view on the server, as its catalog tells it."""

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    """Names and the server's own types, in order."""
    marker: str
    """What moves when its definition does."""
    rows: int
    """About how many; for what cannot be estimated, more than any look may read."""
    bytes: int
    """About how large."""
    logged: bool = False
    """Whether the server's log tells of every change to it."""
    stamp: str = ""
    """What moves with every write, also with one that is undone; empty where a transaction holds everything together."""
    ranged: frozenset[str] = frozenset()
    """As `owners.conditions` says."""
    held: bool = True
    """Whether a transaction holds still what it shows, where the server has such; what it takes from elsewhere moves meanwhile."""
    fickle: str = ""
    """Why two readings may differ although nothing was written; empty where they do not."""
    worded: tuple[tuple[str, str], ...] = ()
    """As `Relation.worded`."""


Told = tuple[Inside, Bodies]
"""A table, and what SQL reads of it."""


@dataclass(slots=True)
class Known:
    """A definition that was seen in a DuckDB instance, which remembers its columns, too."""

    inside: Inside
    bodies: Bodies
    at: float
    """When it was last seen to hold, by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Where the log of a server stood."""

    position: list[str]
    """The position, and what identifies the server."""
    quiet: bool
    """Whether a digest that is begun from now on sees whatever was committed up to there."""


UNTOLD = 1 << 60
"""The number of rows of what cannot be estimated."""


def too_dear(inside: Inside, looking: Looking) -> Unknown | None:
    """Why a look may not read the table, in words that say what would."""
    way = '`ws.status(deep=True)` or `anchor="column:…"`'
    if looking.scan_rows is not None and inside.rows > looking.scan_rows:
        about = "an unknown number of" if inside.rows >= UNTOLD else f"about {inside.rows:,}"
        return Unknown(f"would scan {about} rows; {way}")
    if looking.scan_bytes is not None and inside.bytes > looking.scan_bytes:
        return Unknown(f"would scan about {inside.bytes:,} bytes; {way}")
    return None


_ROWS_A_SECOND = 10_000
_MOST_SECONDS = 3600.0
"""How slow a server may be with a digest of many rows, and how long with one of nobody knows how many."""


def patience(inside: Inside, looking: Looking) -> float | None:
    """How many seconds a digest may take: in a deep look as long as so many rows do. The server has just answered."""
    if looking.scan_rows is not None or looking.timeout_seconds is None:
        return looking.timeout_seconds
    return looking.timeout_seconds + min(inside.rows / _ROWS_A_SECOND, _MOST_SECONDS)
