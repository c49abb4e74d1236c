"""States of files: from the cache if their stats prove it, else from their bytes; and the Snapshot
of a file set."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from jammi_lab.core.anchors import Cost, FileState, Snapshot
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.base import ObservationContext
from jammi_lab.sources.files import arrow_ipc
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.sources.files.formats import COMPRESSED_SUFFIXES, partitions
from jammi_lab.storage.digests import (
    NO_STAT,
    CacheEntry,
    digest_parquet_stream,
    is_current,
    observation_key,
    parquet_payload,
    read_stable,
    sha256_stream,
)

Payload = Mapping[str, Any]
"""`whole`: digest of the bytes; `by_column`: digest by top-level column, or None; `rows`: row
count, or None."""
Files = Sequence[tuple[SourceFile, Payload]]


def _cache_key(source_file: SourceFile, kind: str) -> str:
    return observation_key(f"file-{kind}", source_file.realm, source_file.path)


def cached_payload(
    source_file: SourceFile,
    kind: str,
    ctx: ObservationContext,
    bypass_cache: bool,
) -> Payload | None:
    """The cached payload of a file, if its stat (or its store's mark) proves that the bytes are the
    same; None if it must be read."""
    if bypass_cache:
        return None
    entry = ctx.cache.get(_cache_key(source_file, kind))
    if entry is None:
        return None
    if not source_file.is_local:
        is_same = (
            source_file.mark is not None
            and entry.payload.get("mark") == source_file.mark
            and entry.stat == source_file.stat
        )
        return entry.payload if is_same else None
    return entry.payload if is_current(entry, source_file.stat, ctx.racy_seconds) else None


def read_payload(source_file: SourceFile, kind: str, ctx: ObservationContext) -> Payload:
    """Read the payload of a file and cache it. Raises OSError, pyarrow.ArrowInvalid,
    SchemaMismatch."""
    if source_file.is_local:
        path = Path(source_file.path)
        stat, payload = read_stable(path, functools.partial(_payload_of, source_file, kind))
    else:
        stat = source_file.stat
        payload = {**_payload_of(source_file, kind), "mark": source_file.mark}
    ctx.cache.put(_cache_key(source_file, kind), CacheEntry(stat, ctx.now_ns, payload))
    return payload


MIN_MARKED_BYTES = 32 << 20
"""Remote files from this total size are identified by their store's metadata instead of being
downloaded."""


def store_payloads(source_files: Sequence[SourceFile]) -> list[Payload] | None:
    """Payloads of large remote files from their store's metadata; None for files to be identified
    by their bytes."""
    if not all(source_file.mark for source_file in source_files):
        return None
    if sum(source_file.stat.size for source_file in source_files) < MIN_MARKED_BYTES:
        return None
    return [
        {
            "whole": f"{source_file.mark} with {source_file.stat.size} bytes",
            "by_column": None,
            "rows": None,
        }
        for source_file in source_files
    ]


def _payload_of(source_file: SourceFile, kind: str) -> dict[str, Any]:
    if kind == "arrow":
        return arrow_ipc.cache_payload(source_file)
    with source_file.open() as file:
        if kind == "parquet":
            size = file.seek(0, os.SEEK_END)
            return parquet_payload(digest_parquet_stream(file, size), file)
        return {"whole": sha256_stream(file), "by_column": None, "rows": None}


def whole_digest(kind: str, options: Mapping[str, Any], files: Files) -> str:
    """One digest over the relative paths and bytes of all files and over everything that determines
    how they are read, partition folders included."""
    return digest_of(
        {
            "kind": kind,
            "options": dict(options),
            "files": sorted(
                [source_file.relative, payload["whole"], *_path_parts(source_file)]
                for source_file, payload in files
            ),
        }
    )


def _path_parts(source_file: SourceFile) -> list[Any]:
    """What determines the rows besides the bytes: `key=value` folders, also those above the source,
    and a compression suffix."""
    suffix = os.path.splitext(source_file.path.lower())[1]
    return [
        sorted(partitions(source_file.path).items()) if source_file.relative else [],
        suffix if suffix in COMPRESSED_SUFFIXES else "",
    ]


def describe_cached(
    record: SourceRecord,
    digest: str,
    ctx: ObservationContext,
    describe: Callable[[], dict[str, str]],
) -> tuple[dict[str, str], bool]:
    """The columns and types of this content, cached across restarts, and whether `describe` had to
    run."""
    key = observation_key("columns", record.kind, record.location, digest_of(record.options))
    content_digest = digest_of([duckdb.__version__, digest])
    entry = ctx.cache.get(key)
    if entry is not None and entry.payload.get("of") == content_digest:
        return dict(entry.payload["columns"]), False
    columns = describe()
    ctx.cache.put(
        key,
        CacheEntry(
            NO_STAT,
            ctx.now_ns,
            {"of": content_digest, "columns": [[name, kind] for name, kind in columns.items()]},
        ),
    )
    return columns, True


MAX_LISTED_FILES = 4096
"""File sets of more files are only identified as a whole."""


def file_states(kind: str, options: Mapping[str, Any], files: Files) -> dict[str, FileState] | None:
    """The state of each file of a local folder or glob of Parquet files; None for other kinds,
    whose readers infer types and formats from all files together."""
    if kind != "parquet" or len(files) > MAX_LISTED_FILES:
        return None
    if not all(
        source_file.relative and payload["rows"] is not None for source_file, payload in files
    ):
        return None
    return {
        source_file.relative: FileState(
            digest_of([payload["whole"], dict(options), *_path_parts(source_file)]), payload["rows"]
        )
        for source_file, payload in files
    }


def snapshot(
    digest: str,
    files: Files,
    columns: dict[str, str],
    cost: Cost,
    states: dict[str, FileState] | None = None,
) -> Snapshot:
    """The state of these files: by column if every column has a digest, else as a whole."""
    counts = [payload["rows"] for _, payload in files]
    rows = sum(counts) if all(count is not None for count in counts) else None
    by_column = _column_digests(files, columns) if rows is not None else None
    method = "digest of the bytes" if by_column is None else "digest of the columns"
    if any(payload["whole"].endswith(" bytes") for _, payload in files):
        mark_names = {str(source_file.mark).split(" ", 1)[0] for source_file, _ in files}
        method = f"{' and '.join(sorted(mark_names))} with size"
    stamp = change_token([source_file for source_file, _ in files])
    return Snapshot(
        columns=columns,
        whole=digest,
        method=method,
        cost=cost,
        by_column=by_column,
        row_count=rows,
        stamp=stamp,
        files=states,
    )


def unreadable_snapshot(digest: str, files: Files, fault: str) -> Snapshot:
    """The state of files whose bytes are known and whose rows cannot be read, for the reason
    `fault`. It never equals a state of readable files."""
    stamp = change_token([source_file for source_file, _ in files])
    return Snapshot(
        columns={},
        whole=digest,
        method="digest of the bytes",
        cost=Cost.SCAN,
        stamp=stamp,
        fault=fault,
    )


def _column_digests(files: Files, columns: Mapping[str, str]) -> dict[str, str] | None:
    """A digest per SQL column; None if a column cannot be mapped to the files (names made unique,
    or differing only by case)."""
    folded_files = []
    for source_file, payload in files:
        by_column: Mapping[str, str] = payload["by_column"] or {}
        folded = {fold(name): digest for name, digest in by_column.items()}
        if len(folded) != len(by_column) or not by_column:
            return None
        pairs = partitions(source_file.path) if source_file.relative else {}
        values = {fold(key): value for key, value in pairs.items()}
        folded_files.append((source_file.relative, payload["rows"], folded, values))
    digests = {}
    for column in columns:
        folded_column = fold(column)
        parts = [_column_part(*folded_file, folded_column) for folded_file in folded_files]
        if any(part is None for part in parts):
            return None
        digests[column] = digest_of(sorted(part for part in parts if part is not None))
    return digests


def _column_part(
    relative: str, rows: int, folded: Mapping[str, str], values: Mapping[str, str], column: str
) -> list[Any] | None:
    """The contribution of one file to a column: its digest, or for a partition the folder's value
    and the row count; None if the file lacks the column."""
    if column in values:
        return [relative, folded.get(column, ""), rows, values[column]]
    return [relative, folded[column]] if column in folded else None


def change_token(source_files: Sequence[SourceFile]) -> str:
    """Changes when any file is written, replaced, added or removed, even with equal bytes, and when
    its path leads to another one."""
    return digest_of(
        [[item.relative, item.stat.to_dict(), item.mark or "", item.route] for item in source_files]
    )
