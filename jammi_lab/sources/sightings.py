"""What one look sees of files: from the memo where stats prove it, else from the bytes; and how digests of files become one Snapshot."""

import collections
import os
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from jammi_lab.canonical import digest_of
from jammi_lab.names import fold
from jammi_lab.sources import arrow_files
from jammi_lab.sources.base import Looking
from jammi_lab.sources.kinds import PACKED
from jammi_lab.sources.places import Item, Place
from jammi_lab.storage.digests import MemoEntry, at_rest, digest_parquet_stream, memo_key, parquet_payload, read_fingerprint, sha256_stream, trusted
from jammi_lab.storage.files import Stat, settled
from jammi_lab.values.anchors import Cost, Snapshot
from jammi_lab.values.records import SourceRecord

Payload = Mapping[str, Any]
"""`whole`: digest of the bytes; `by_column`: digest by top-level column, or None; `rows`, or None."""
Files = Sequence[tuple[Item, Payload]]

_NO_STAT = Stat(0, 0, 0, 0)


def _key(place: Place, item: Item, kind: str) -> str:
    if place.local and kind != "arrow":
        return memo_key(Path(item.path), kind == "parquet")
    return f"{'arrow' if kind == 'arrow' else 'url-' + kind}:{place.realm}{item.path}"


def remembered(place: Place, item: Item, kind: str, looking: Looking, force: bool) -> Payload | None:
    """What the memo holds of a file, when its stat (or its store's mark) proves that the bytes are the same; None when it must be read."""
    if force:
        return None
    entry = looking.memo.get(_key(place, item, kind))
    if entry is None:
        return None
    if not place.local:
        same = item.mark is not None and entry.payload.get("mark") == item.mark and entry.stat == item.stat
        return entry.payload if same else None
    return entry.payload if trusted(entry, item.stat, looking.racy_seconds) else None


def read(place: Place, item: Item, kind: str, looking: Looking) -> Payload:
    """What the bytes of a file say; the memo learns it. OSError, pyarrow.ArrowInvalid, SchemaMismatch."""
    key = _key(place, item, kind)
    if not place.local:
        payload = {**_remote_payload(place, item, kind), "mark": item.mark}
        looking.memo.put(key, MemoEntry(item.stat, looking.now_ns, payload))
        return payload
    if kind == "arrow":
        stat, payload = at_rest(Path(item.path), lambda: arrow_files.payload(place, item))
        looking.memo.put(key, MemoEntry(stat, looking.now_ns, payload))
        return payload
    found = read_fingerprint(Path(item.path), looking.memo, parquet=kind == "parquet", now_ns=looking.now_ns)
    return {"whole": found.whole, "by_column": found.by_column, "rows": found.row_count}


_LARGE = 32 << 20
"""From this many bytes on, remote files are known by what their store says of them, and are not fetched to be known."""
_LARGE_UNMARKED = 8 << 20
"""The same for a server that only dates its files: up to here their bytes are asked for at each look, since a date can be put back."""


def told(place: Place, items: Sequence[Item]) -> list[Payload] | None:
    """What the store itself says of large remote files, in place of digests of their bytes; None for what is to be known by its bytes."""
    if place.local or not all(item.mark or item.hint for item in items):
        return None
    large = _LARGE if all(item.mark for item in items) else _LARGE_UNMARKED
    if sum(item.stat.size for item in items) < large:
        return None
    return [{"whole": f"{item.mark or item.hint} with {item.stat.size} bytes", "by_column": None, "rows": None} for item in items]


def _remote_payload(place: Place, item: Item, kind: str) -> dict[str, Any]:
    if kind == "arrow":
        return arrow_files.payload(place, item)
    with place.open(item) as file:
        if kind == "parquet":
            return parquet_payload(digest_parquet_stream(file, item.stat.size), file)
        return {"whole": sha256_stream(file), "by_column": None, "rows": None}


def whole_digest(kind: str, options: Mapping[str, Any], files: Files) -> str:
    """One digest over the bytes of all files under their relative paths, and over how they are read; so also over what their folders say of them."""
    return digest_of(
        {"kind": kind, "options": dict(options), "files": sorted([item.relative, seen["whole"], *_said_by_path(item)] for item, seen in files)}
    )


def _said_by_path(item: Item) -> list[Any]:
    """What the same bytes would give other rows by: folders `key=value`, also those above the source, and an ending that has them unpacked."""
    ending = os.path.splitext(item.path.lower())[1]
    return [sorted(partitions(item.path).items()) if item.relative else [], ending if ending in PACKED else ""]


def columns_of(record: SourceRecord, whole: str, looking: Looking, describe: Callable[[], dict[str, str]]) -> tuple[dict[str, str], bool]:
    """The columns and types of this content, and whether they had to be found: unchanged files are not sniffed again, after a restart either."""
    key = f"columns:{record.kind}:{record.location}:{digest_of(record.options)}"
    of = digest_of([duckdb.__version__, whole])
    entry = looking.memo.get(key)
    if entry is not None and entry.payload.get("of") == of:
        return dict(entry.payload["columns"]), False
    columns = describe()
    looking.memo.put(key, MemoEntry(_NO_STAT, looking.now_ns, {"of": of, "columns": [[name, kind] for name, kind in columns.items()]}))
    return columns, True


_known: collections.OrderedDict[tuple[str, str, str], tuple[list[Item], dict[str, str]]] = collections.OrderedDict()
"""Columns by what was read; a statement need not sniff files again that a look has just seen."""
_MOST_KNOWN = 256


def know_columns(record: SourceRecord, items: list[Item], columns: dict[str, str], looking: Looking) -> None:
    """Keep the columns of these files for `known_columns`, if their stats prove the bytes."""
    proved = all(item.mark or (item.stat.inode and settled(item.stat, looking.now_ns, looking.racy_seconds)) for item in items)
    if proved:
        _known[record.kind, items[0].path, digest_of(record.options)] = (items, columns)
        while len(_known) > _MOST_KNOWN:
            _known.popitem(last=False)


def known_columns(record: SourceRecord, items: list[Item]) -> dict[str, str] | None:
    """The columns that a look found in just these files, while no stat has moved; else None."""
    seen = _known.get((record.kind, items[0].path, digest_of(record.options)))
    return dict(seen[1]) if seen is not None and seen[0] == items else None


def snapshot(whole: str, files: Files, columns: dict[str, str], cost: Cost) -> Snapshot:
    """The state of these files: by column where every column can be told apart, else as a whole."""
    counts = [seen["rows"] for _, seen in files]
    rows = sum(counts) if all(count is not None for count in counts) else None
    by_column = _by_column(files, columns) if rows is not None else None
    method = "digest of the bytes" if by_column is None else "digest of the columns"
    if any(seen["whole"].endswith(" bytes") for _, seen in files):
        words = {str(item.mark or item.hint).split(" ", 1)[0] for item, _ in files}
        method = f"{' and '.join(sorted(words))} with size"
    stamp = stamp_of([item for item, _ in files])
    return Snapshot(columns=columns, whole=whole, method=method, cost=cost, by_column=by_column, row_count=rows, stamp=stamp)


def unreadable(whole: str, files: Files, fault: str) -> Snapshot:
    """The state of files whose bytes are known and whose rows nobody can read; it equals that of no files which were read."""
    stamp = stamp_of([item for item, _ in files])
    return Snapshot(columns={}, whole=whole, method="digest of the bytes", cost=Cost.SCAN, stamp=stamp, fault=fault)


def _by_column(files: Files, columns: Mapping[str, str]) -> dict[str, str] | None:
    """A digest for each column that SQL sees; None when one of them cannot be traced to the files (names made unique, or differing in case)."""
    found = []
    for item, seen in files:
        held: Mapping[str, str] = seen["by_column"] or {}
        folded = {fold(name): digest for name, digest in held.items()}
        if len(folded) != len(held) or not held:
            return None
        found.append((item, seen["rows"], folded))
    digests = {}
    for column in columns:
        parts = [_part(item, rows, folded, fold(column)) for item, rows, folded in found]
        if any(part is None for part in parts):
            return None
        digests[column] = digest_of(sorted(part for part in parts if part is not None))
    return digests


def _part(item: Item, rows: int, folded: Mapping[str, str], column: str) -> list[Any] | None:
    """What one file adds to a column: its bytes, or, for a partition, the folder's value as often as there are rows."""
    value = partitions(item.path).get(column) if item.relative else None
    if value is not None:
        return [item.relative, folded.get(column, ""), rows, value]
    return [item.relative, folded[column]] if column in folded else None


def partitions(path: str) -> dict[str, str]:
    """The values that folders named `key=value` give the rows of a file, by folded key."""
    pairs = (part.split("=", 1) for part in os.path.dirname(path).split("/") if part.count("=") == 1)
    return {fold(urllib.parse.unquote(key)): value for key, value in pairs if key}


def column_snapshot(record: SourceRecord, items: list[Item], columns: dict[str, str], found: tuple[Any, Any], looking: Looking) -> Snapshot:
    """The state by `anchor="column:…"`: the largest value of that column and the number of rows, on its owner's word; the memo learns it."""
    payload = {"of": stamp_of(items), "columns": list(columns.items()), "found": [None if found[0] is None else str(found[0]), int(found[1])]}
    looking.memo.put(_column_key(record), MemoEntry(_NO_STAT, looking.now_ns, payload))
    return _column_snapshot(record, payload, Cost.METADATA if record.kind == "parquet" else Cost.SCAN)


def kept_column(record: SourceRecord, items: list[Item], looking: Looking) -> Snapshot | None:
    """The same from the memo, while stats prove that no file moved."""
    entry = looking.memo.get(_column_key(record))
    if entry is None or entry.payload["of"] != stamp_of(items):
        return None
    if not all(item.mark or (item.stat.inode and settled(item.stat, entry.observed_at_ns, looking.racy_seconds)) for item in items):
        return None
    return _column_snapshot(record, entry.payload, Cost.FREE)


def _column_snapshot(record: SourceRecord, payload: Payload, cost: Cost) -> Snapshot:
    rows = payload["found"][1]
    return Snapshot(columns=dict(payload["columns"]), whole=digest_of(payload["found"]), method=record.anchor, cost=cost, row_count=rows)


def _column_key(record: SourceRecord) -> str:
    return f"{record.anchor}:{record.kind}:{record.location}:{digest_of([record.options, duckdb.__version__])}"


def stamp_of(items: Sequence[Item]) -> str:
    """What moves when any of the files is written, replaced, added or removed, whatever its bytes are then."""
    return digest_of([[item.relative, item.stat.to_dict(), item.mark or ""] for item in items])
