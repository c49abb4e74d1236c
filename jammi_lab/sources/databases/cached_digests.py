"""Digests of server tables in the observation cache, and when one of them still holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb

from jammi_lab.sources.databases.table_info import DigestsBySet, LogPosition, ServerTable
from jammi_lab.storage.digests import CacheEntry


def payload(
    info: ServerTable, position: LogPosition, rows: int, sets: DigestsBySet, since: int, sound: bool
) -> dict[str, Any]:
    """The cached form of digests at a log position; `info` was read in their snapshot."""
    return {
        "of": _definition(info),
        "gate": position.position,
        "sets": sets,
        "rows": rows,
        "since": since,
        "sound": sound,
    }


def at_position(
    entry: CacheEntry | None, info: ServerTable, position: LogPosition | None
) -> Mapping[str, Any] | None:
    """The cached digests of the same definition and log position, or None."""
    if entry is None or position is None or entry.payload.get("of") != _definition(info):
        return None
    return entry.payload if entry.payload.get("gate") == position.position else None


def _definition(info: ServerTable) -> list[str]:
    """What a digest is of."""
    return [duckdb.__version__, info.marker]
