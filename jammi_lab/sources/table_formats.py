"""Kinds that are more than plain files: databases in a file, lakehouse tables, workbooks. How each is told, its options, its connector."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jammi_lab.sources import failures, outside_process
from jammi_lab.sources.locations import full_location, literal_path, scheme_of, store_location
from jammi_lab.sources.outside_process import ChildFailed

if TYPE_CHECKING:
    from jammi_lab.sources.base import Connector, Given, Reach
    from jammi_lab.values.records import SourceRecord

KINDS = ("sqlite", "duckdb", "delta", "iceberg", "xlsx")
SCHEMES = ("sqlite", "duckdb")
"""As in `sqlite:///data.db`, or `sqlite:////tmp/data.db` for an absolute path; `locations.store_location` makes paths of them."""
OPTIONS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "sqlite": {"text": (bool,)},
    "delta": {"version": (int,)},
    "iceberg": {"catalog": (str,), "table": (str,), "endpoint_url": (str,), "region": (str,), "anon": (bool,)},
    "xlsx": {"sheet": (str,), "header": (bool,)},
}
"""For each kind, its options and their types."""
_SUFFIXES = {
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db": "sqlite",
    ".db3": "sqlite",
    ".duckdb": "duckdb",
    ".ddb": "duckdb",
}


def infer(typed: str) -> str | None:
    """The kind that a location tells as it was typed; None when it tells none of these. SourceUnavailable for a file that may not be read."""
    scheme = scheme_of(typed)
    if scheme in SCHEMES:
        return scheme
    if scheme is not None:
        name = urlsplit(typed).path if scheme in ("http", "https") else typed
        return "xlsx" if _SUFFIXES.get(os.path.splitext(name.lower())[1]) == "xlsx" else None
    path = literal_path(full_location(store_location(typed, None), None))
    if path is None:
        return None
    if os.path.isdir(path):
        return _of_folder(path)
    told = _SUFFIXES.get(os.path.splitext(path.lower())[1])
    if path.lower().endswith(".metadata.json"):
        return "iceberg"
    if told in SCHEMES or (told is None and not os.path.splitext(path)[1]):
        return _of_head(path) or told
    return told


def _of_folder(path: str) -> str | None:
    if os.path.isdir(os.path.join(path, "_delta_log")):
        return "delta"
    metadata = os.path.join(path, "metadata")
    try:
        return "iceberg" if any(name.endswith(".metadata.json") for name in os.listdir(metadata)) else None
    except OSError:
        return None


def _of_head(path: str) -> str | None:
    """What the first bytes tell: a `.db` may be either."""
    if not os.path.isfile(path):
        return None
    try:
        head = outside_process.head(path)
    except ChildFailed as error:
        if error.kind == "denied":
            raise failures.unreadable(path, PermissionError()) from None
        return None
    if head.startswith(b"SQLite format 3\0"):
        return "sqlite"
    return "duckdb" if head[8:12] == b"DUCK" else None


def connector(record: SourceRecord, folder: Path | None, given: Given, reach: Reach | None = None) -> Connector:
    """Who reads a registered source of one of these kinds; `given` are its credentials, `reach` asks in the engine's instance."""
    match record.kind:
        case "sqlite":
            from jammi_lab.sources.sqlite import SqliteConnector

            return SqliteConnector(record, folder)
        case "duckdb":
            from jammi_lab.sources.duckdb_files import DuckdbConnector

            return DuckdbConnector(record, folder)
        case "delta":
            from jammi_lab.sources.delta import DeltaConnector

            return DeltaConnector(record, folder, reach, given)
        case "iceberg":
            from jammi_lab.sources.iceberg import IcebergConnector

            return IcebergConnector(record, folder, reach, given)
        case _:
            from jammi_lab.sources.excel import ExcelConnector

            return ExcelConnector(record, folder, given)
