"""Kinds other than plain data files (database files, lakehouse tables, workbooks): inference and
options."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from jammi_lab.sources import read_errors
from jammi_lab.sources.databases import reader_process
from jammi_lab.sources.databases.reader_process import ReaderError
from jammi_lab.sources.locations import full_location, literal_path, scheme_of, store_location

KINDS = ("sqlite", "duckdb", "delta", "iceberg", "xlsx")
SCHEMES = ("sqlite", "duckdb")
"""As in `sqlite:///data.db`, or `sqlite:////tmp/data.db` for an absolute path.
`locations.store_location` turns them into paths."""
OPTIONS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "sqlite": {"text": (bool,)},
    "delta": {"version": (int,)},
    "iceberg": {
        "catalog": (str,),
        "table": (str,),
        "endpoint_url": (str,),
        "region": (str,),
        "anon": (bool,),
    },
    "xlsx": {
        "sheet": (str,),
        "range": (str,),
        "skip": (int,),
        "header": (bool,),
        "types": (dict,),
        "all_varchar": (bool,),
    },
}
"""For each kind, its options and their types."""
_SUFFIXES = {
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".xlsb": "xlsx",
    ".xls": "xlsx",
    ".ods": "xlsx",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db": "sqlite",
    ".db3": "sqlite",
    ".duckdb": "duckdb",
    ".ddb": "duckdb",
}


def infer(user_input: str) -> str | None:
    """The kind of a location as typed; None if it is none of these. Raises SourceUnavailable for a
    file without read permission."""
    scheme = scheme_of(user_input)
    if scheme in SCHEMES:
        return scheme
    if scheme is not None:
        name = urlsplit(user_input).path if scheme in ("http", "https") else user_input
        return "xlsx" if _SUFFIXES.get(os.path.splitext(name.lower())[1]) == "xlsx" else None
    path = literal_path(full_location(store_location(user_input, None), None))
    if path is None:
        return None
    if os.path.isdir(path):
        return _kind_of_folder(path)
    kind = _SUFFIXES.get(os.path.splitext(path.lower())[1])
    if path.lower().endswith(".metadata.json"):
        return "iceberg"
    if kind in SCHEMES or (kind is None and not os.path.splitext(path)[1]):
        return _kind_of_head(path) or kind
    return kind


def _kind_of_folder(path: str) -> str | None:
    if os.path.isdir(os.path.join(path, "_delta_log")):
        return "delta"
    metadata = os.path.join(path, "metadata")
    try:
        return (
            "iceberg"
            if any(name.endswith(".metadata.json") for name in os.listdir(metadata))
            else None
        )
    except OSError:
        return None


def _kind_of_head(path: str) -> str | None:
    """The kind by the first bytes: a `.db` may be SQLite or DuckDB."""
    if not os.path.isfile(path):
        return None
    try:
        head = reader_process.head(path)
    except ReaderError as error:
        if error.kind == "denied":
            raise read_errors.unreadable_error(path, PermissionError()) from None
        return None
    if head.startswith(b"SQLite format 3\0"):
        return "sqlite"
    return "duckdb" if head[8:12] == b"DUCK" else None
