"""Metadata of server tables: definition, size, log position, and the limits of an observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jammi_lab.sources.base import ObservationContext

DigestsBySet = Mapping[str, str]
"""Digests by `set_key`."""


@dataclass(frozen=True, slots=True)
class ServerTable:
    """A table or view, as the server's catalog describes it."""

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    """Column names and the server's types, in order; the types are independent of its settings."""
    marker: str
    """Changes whenever the definition does."""
    rows: int
    """Estimated row count; if there is no estimate, more than any observation may scan."""
    bytes: int
    """Estimated size in bytes."""
    is_logged: bool = False
    """Whether every change to it moves the server's log position."""
    stamp: str = ""
    """Changes with every write, even one that is rolled back; empty if a transaction sees one
    snapshot of everything."""
    has_snapshot: bool = True
    """Whether a transaction sees one snapshot of it; False if it reads foreign tables."""
    volatile_because: str = ""
    """Why two reads may differ although nothing was written; empty if they cannot."""
    types: Mapping[str, str] = field(default_factory=dict)
    """SQL types by column, in order; empty until they are determined."""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The position of a server's log."""

    position: list[str]
    """The identity of the server, and the position."""
    all_visible: bool
    """Whether a digest that starts now sees every commit up to the position."""


class TableState(NamedTuple):
    """What an observation reads of a table before its rows; nothing of a table that is missing."""

    info: ServerTable
    position: LogPosition | None
    """None if not every change to the table moves the log."""


_MIN_ROWS_PER_SECOND = 10_000
"""The slowest digest that a deep observation waits for."""
_MAX_EXTRA_SECONDS = 3600.0
"""The longest wait for a digest, also of an unknown number of rows."""


def digest_timeout(info: ServerTable, ctx: ObservationContext) -> float | None:
    """How many seconds a digest may take. A deep observation allows for the row count, because the
    server has just proved that it responds."""
    if ctx.scan_rows is not None or ctx.timeout_seconds is None:
        return ctx.timeout_seconds
    return ctx.timeout_seconds + min(info.rows / _MIN_ROWS_PER_SECOND, _MAX_EXTRA_SECONDS)
