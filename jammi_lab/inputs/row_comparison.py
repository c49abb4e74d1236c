"""Row comparison: whether a rewritten file, a rewritten table of a database file, a recreated frame
or a recomputed result table contains the same rows.

For files and frames the earlier rows no longer exist when the question comes up. So the digest of
the rows read is stored in the observation cache when a table is computed from them, if they are few
enough for a shallow pass. Without a stored digest the bytes decide. Text files have no anchors per
column, so all their columns are compared, whichever are read.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from jammi_lab.core.anchors import Anchor, Snapshot
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.identifiers import quote_identifier, unused_name
from jammi_lab.core.records import TableRecord
from jammi_lab.core.settings import Settings
from jammi_lab.inputs.changed_columns import note_row_count
from jammi_lab.inputs.observation_cache import ROWS_KIND, ObservationCache
from jammi_lab.inputs.version_changes import (
    FLOAT_TYPES,
    NEW,
    OLD,
    ChangeSummary,
    VersionCounts,
    Windows,
    are_close,
    common_columns,
    equal_columns,
    skip_rows,
)
from jammi_lab.sources import read_errors, scratch_duckdb
from jammi_lab.sources.base import Connector, ObservationContext, ReadPlan, Relation
from jammi_lab.sources.databases.database_file import DatabaseFileConnector
from jammi_lab.sources.files.connector import FileConnector
from jammi_lab.sources.frames import FrameConnector
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key
from jammi_lab.storage.parquet_statistics import are_statistics_true
from jammi_lab.store.result_files import ResultFiles

CHANGES_KIND, ROUNDING_KIND = "changes", "rounding"
"""The kind of the numbers by which two versions of a table differ."""
_TEXT_KINDS = ("csv", "tsv", "json", "ndjson")
_COMPARABLE_KINDS = ("parquet", "arrow", *_TEXT_KINDS)
MAX_TEXT_BYTES = 4 << 20
"""Maximum size of a text file to compare, in bytes. Its types must be sniffed again each time,
which takes most of the time."""
MAX_DATABASE_BYTES = 64 << 20
"""Maximum size of an SQLite or DuckDB file to compare, in bytes: its tables are read a second time
when a table is computed from them."""
_ZONED_TIMESTAMP = "TIMESTAMP WITH TIME ZONE"
"""Not compared in text files: a text without an offset depends on the session's time zone, which
the digest does not record."""


def note_rows(connector: Connector, anchor: Anchor, context: ObservationContext) -> None:
    """Store the digest of the rows at an anchor, if the source is still in that state, is of a
    comparable kind and is small enough."""
    if isinstance(connector, FrameConnector):
        with contextlib.suppress(*read_errors.SOURCE_ERRORS):
            _frame_digest(*connector.capture(), anchor, context)
        return
    files = _comparable_files(connector)
    is_small = anchor.row_count is not None and (
        context.scan_rows is None or anchor.row_count <= context.scan_rows
    )
    if files is not None and (files.kind in _TEXT_KINDS or (is_small and anchor.columns)):
        with contextlib.suppress(*read_errors.SOURCE_ERRORS):
            _files_digest(files, anchor, context)


def has_same_rows(connector: Connector, recorded: Anchor, context: ObservationContext) -> bool:
    """Whether the files or the frame contain the same multiset of rows as at a recorded anchor,
    over its columns; False when that cannot be determined."""
    with contextlib.suppress(*read_errors.SOURCE_ERRORS):
        if isinstance(connector, FrameConnector):
            return _frame_has_same_rows(connector, recorded, context)
        if (files := _comparable_files(connector)) is not None:
            return _files_have_same_rows(files, recorded, context)
    return False


def _frame_has_same_rows(
    frame: FrameConnector, recorded: Anchor, context: ObservationContext
) -> bool:
    rows, state = frame.capture()
    recorded_digest = _stored_digest(recorded, _column_expressions(state, recorded), context)
    current = None if recorded_digest is None else _frame_digest(rows, state, recorded, context)
    return (
        current is not None
        and _differ_only_in_rows(current[0], recorded)
        and current[1] == recorded_digest
    )


def _stored_digest(
    anchor: Anchor, expressions: list[str] | None, context: ObservationContext
) -> list[str] | None:
    """The stored digest of the rows of a state, or None."""
    entry = (
        None
        if expressions is None
        else context.cache.get(rows_key(_state_key(anchor), expressions))
    )
    return None if entry is None else list(entry.payload["digest"])


def _comparable_files(connector: Connector) -> FileConnector | DatabaseFileConnector | None:
    """The connector if its rows can be compared: local files, anchored by content."""
    if isinstance(connector, FileConnector):
        if connector.kind not in _COMPARABLE_KINDS or not connector.file_set.is_local:
            return None
    elif not isinstance(connector, DatabaseFileConnector):
        return None
    return connector if connector.record.anchor in ("auto", "content") else None


def _files_have_same_rows(
    files: FileConnector | DatabaseFileConnector, recorded: Anchor, context: ObservationContext
) -> bool:
    state = files.observe(recorded.input.table, context)
    if not isinstance(state, Snapshot):
        return False
    current = state.anchor(recorded.input, recorded.columns)
    if (
        not _differ_only_in_rows(current, recorded)
        or (
            recorded_digest := _stored_digest(
                recorded, _hash_expressions(files, state, recorded), context
            )
        )
        is None
    ):
        return False
    return recorded_digest == _files_digest(files, current, context)


def _hash_expressions(
    files: FileConnector | DatabaseFileConnector, state: Snapshot, anchor: Anchor
) -> list[str] | None:
    """The expressions to hash: the columns of the anchor; for text files all columns. None when
    they cannot be compared."""
    if files.kind not in _TEXT_KINDS:
        return _column_expressions(state, anchor)
    others = sorted(set(state.columns) - set(anchor.columns))
    names = [*_columns_read(state, anchor), *others]
    kinds = [state.columns[name] for name in names]
    return None if _ZONED_TIMESTAMP in kinds else hash_expressions(names, kinds)


def _column_expressions(state: Snapshot, anchor: Anchor) -> list[str] | None:
    """The expressions to hash for the columns of an anchor, in the source's column order. Column
    aliases like `t(p, q)` depend on that order, so reordered columns must give another cache
    key."""
    names = _columns_read(state, anchor)
    return hash_expressions(names, [state.columns[name] for name in names])


def _columns_read(state: Snapshot, anchor: Anchor) -> list[str]:
    return [name for name in state.columns if name in anchor.columns]


def _differ_only_in_rows(current: Anchor, recorded: Anchor) -> bool:
    """Whether two states can differ only in their rows and in columns that are not read. For a
    changed schema the caller has bound the statement again, with an equal result; that requires a
    recorded schema."""
    compared = (current.columns, current.types, current.row_count, current.method)
    return bool(recorded.schema) and compared == (
        recorded.columns,
        recorded.types,
        recorded.row_count,
        recorded.method,
    )


def _frame_digest(
    rows: pa.Table, state: Snapshot, anchor: Anchor, context: ObservationContext
) -> tuple[Anchor, list[str]] | None:
    """The current state of a frame over an anchor's columns, and the digest of these rows; None
    when the frame exceeds the read limits or its rows cannot be compared."""
    current = state.anchor(anchor.input, anchor.columns)
    has_many_rows = context.scan_rows is not None and rows.num_rows > context.scan_rows
    is_large = context.scan_bytes is not None and rows.nbytes > context.scan_bytes
    if (
        has_many_rows
        or is_large
        or not current.columns
        or (expressions := _column_expressions(state, current)) is None
    ):
        return None
    if (stored := _stored_digest(current, expressions, context)) is not None:
        return current, stored
    [row] = scratch_duckdb.query(
        Relation(anchor.input, ReadPlan(frame=rows), columns=state.columns),
        f"{digest_select(expressions)} it",
    )
    digest = _store_digest(current, expressions, row, context)
    return None if digest is None else (current, digest)


def _state_key(anchor: Anchor) -> str:
    return f"{anchor.method}:{anchor.value}"


def _store_digest(
    anchor: Anchor, expressions: list[str], row: Sequence[Any], context: ObservationContext
) -> list[str] | None:
    """Store a digest and return it; None for rows that cannot be compared."""
    if (digest := rows_digest(row)) is not None:
        context.cache.put(
            rows_key(_state_key(anchor), expressions),
            CacheEntry(NO_STAT, context.now_ns, {"digest": digest}),
        )
    return digest


def _files_digest(
    files: FileConnector | DatabaseFileConnector, anchor: Anchor, context: ObservationContext
) -> list[str] | None:
    """The digest of the rows of a state; None when the files are in another state or change during
    the read, or the rows cannot be compared."""
    table = anchor.input.table
    first_state = files.observe(table, context)
    if (
        not isinstance(first_state, Snapshot)
        or (expressions := _hash_expressions(files, first_state, anchor)) is None
    ):
        return None
    if (stored := _stored_digest(anchor, expressions, context)) is not None:
        return stored
    if not _is_within_limits(files, context) or not _decide_rows_alone(files, anchor):
        return None
    relation = files.relation(table)
    needs_own_connection = (
        relation.read.body is None or relation.requirements.attachment is not None
    )
    if needs_own_connection or context.query is None:
        [row] = scratch_duckdb.query(relation, f"{digest_select(expressions)} it")
    else:
        [row] = context.query(f"{digest_select(expressions)} ({relation.read.body})")
    second_state = files.observe(table, context)
    if not isinstance(second_state, Snapshot) or first_state.stamp != second_state.stamp:
        return None  # the files may have been changed and changed back during the read
    if not all(
        state.anchor(anchor.input, anchor.columns).same_state(anchor)
        for state in (first_state, second_state)
    ):
        return None
    if files.kind in _TEXT_KINDS:
        note_row_count(anchor, row[0], context.cache, context.now_ns)
    return _store_digest(anchor, expressions, row, context)


def _decide_rows_alone(files: FileConnector | DatabaseFileConnector, anchor: Anchor) -> bool:
    """Whether equal rows are read as equal rows: DuckDB skips what the footer of a Parquet file
    says is not needed."""
    if not isinstance(files, FileConnector) or files.kind != "parquet":
        return True
    listed = files.file_set.list_files(files.kind)
    return all(are_statistics_true(Path(item.path), anchor.columns) for item in listed)


def _is_within_limits(
    files: FileConnector | DatabaseFileConnector, context: ObservationContext
) -> bool:
    limits = [] if context.scan_bytes is None else [context.scan_bytes]
    if isinstance(files, DatabaseFileConnector):
        return files.size_bytes() <= min([*limits, MAX_DATABASE_BYTES])
    limits += [MAX_TEXT_BYTES] if files.kind in _TEXT_KINDS else []
    return not limits or sum(
        item.stat.size for item in files.file_set.list_files(files.kind)
    ) <= min(limits)


# Two versions of a result table are both there to be compared.
#
# A recomputed table may have its rows in another order, or be written by another release. A table
# that reads only some of its columns, and does not depend on row order, need not be recomputed
# when these columns contain the same multiset of rows. The digest is the row count and two sums
# over a hash of each row. The hash covers all the columns together; column by column it would
# miss a column that was shuffled against the others. The comparison saves work and does not
# protect against tampering. Types whose different values may hash alike are not compared.

Query = Callable[[str], list[tuple[Any, ...]]]
_EXACT_TYPES = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL\(.*\)|VARCHAR|BLOB|DATE|TIME|"
    r"TIMESTAMP(_S|_MS|_NS)?|TIMESTAMP WITH TIME ZONE|UUID"
)
"""Types whose different values have different hashes, except by chance. Intervals and nested types
do not."""
_FLOAT_TYPES = re.compile(r"FLOAT|DOUBLE")
"""DuckDB treats 0.0 and -0.0 as equal, so the sign bit is hashed, too. Rows with a -0.0 are not
compared."""


def hash_expressions(columns: Sequence[str], kinds: Sequence[str | None]) -> list[str] | None:
    """The SQL expressions to hash so that rows that differ in these columns have different hashes;
    None when the types do not allow it."""
    if not all(
        kind is not None and (_EXACT_TYPES.fullmatch(kind) or _FLOAT_TYPES.fullmatch(kind))
        for kind in kinds
    ):
        return None
    return [
        *map(quote_identifier, columns),
        *(
            f"signbit({quote_identifier(c)})"
            for c, kind in zip(columns, kinds, strict=True)
            if _FLOAT_TYPES.fullmatch(kind or "")
        ),
    ]


def digest_select(expressions: Sequence[str]) -> str:
    """The SELECT, up to its FROM, of the digest of a multiset of rows: three numbers, and whether a
    column contains -0.0, which a statement may take for 0.0 or not, depending on the order of the
    rows."""
    zeros = [f"({e} AND {e[len('signbit(') : -1]} = 0)" for e in expressions if e[:1] == "s"]
    reversed_arguments = ", ".join(["'jammi'", *reversed(expressions)])
    return (
        f"SELECT count(*), sum(hash({', '.join(expressions) or '0'})), "
        f"sum(hash({reversed_arguments})), "
        f"coalesce(bool_or({' OR '.join(zeros) or 'false'}), false) FROM"
    )


def rows_digest(row: Sequence[Any]) -> list[str] | None:
    """The digest in the result of `digest_select`; None when a column contains -0.0."""
    *numbers, has_negative_zero = row
    return None if has_negative_zero else [str(number) for number in numbers]


def rows_key(state: str, expressions: Sequence[str]) -> str:
    """The cache key for the digest of the rows of a state."""
    return observation_key(ROWS_KIND, state, digest_of([duckdb.__version__, 2, *expressions]))


class RowComparison:
    """Compares ready result tables of one workspace by their rows. Digests are stored in the
    observation cache."""

    def __init__(
        self, results: ResultFiles, cache: ObservationCache, settings: Settings, query: Query
    ) -> None:
        self._results, self._cache, self._settings, self._query = results, cache, settings, query

    def has_same_rows(
        self, left: TableRecord, right: TableRecord, columns: Sequence[str], *, deep: bool
    ) -> bool:
        """Whether both contain the same multiset of rows over these columns, in the same column
        order. Also False when that cannot be determined, or when the pass is not `deep` and the
        tables exceed its read limits. SourceUnavailable, OSError."""
        types = [
            {c.name: c.type for c in record.columns if c.name in columns}
            for record in (left, right)
        ]
        if [*types[0]] != [*types[1]]:
            return False  # column aliases like t(p, q) depend on the column order
        kinds = [[column_types.get(c) for c in columns] for column_types in types]
        if (
            left.row_count is None
            or left.row_count != right.row_count
            or kinds[0] != kinds[1]
            or (expressions := hash_expressions(columns, kinds[0])) is None
        ):
            return False
        left_digest = self._rows_digest(left, expressions, deep)
        return left_digest is not None and left_digest == self._rows_digest(
            right, expressions, deep
        )

    def is_equal_but_for_rounding(
        self, new: TableRecord, old: TableRecord, columns: Sequence[str], *, deep: bool
    ) -> bool:
        """Whether both have the same rows in the same order over these columns, but for rounding of
        floating-point numbers, and that counts as equal by the setting. Otherwise as
        `has_same_rows`."""
        common = common_columns(new, old)
        others = set(columns) - equal_columns(new, old, common)
        if (
            self._settings["recompute.cutoff"] == "bytes"
            or not others
            or new.row_count != old.row_count
            or [c.name for c in new.columns] != [c.name for c in old.columns]
            or not all(common.get(name) in FLOAT_TYPES for name in others)
        ):
            return False
        key = observation_key(ROUNDING_KIND, old.digest or "", new.digest or "", *sorted(others))
        if (entry := self._cache.get(key)) is not None:
            return bool(entry.payload["rounded"])
        if not all(self._may_be_read(record, deep=deep) for record in (new, old)):
            return False
        new_rows, old_rows = (unused_name(name, common) for name in ("n", "o"))
        pairs = [
            (f"{new_rows}.{name}", f"{old_rows}.{name}")
            for name in map(quote_identifier, sorted(others))
        ]
        tests = [
            f"({n} IS NOT DISTINCT FROM {o} AND signbit({n}) IS NOT DISTINCT FROM signbit({o}) "
            f"OR {are_close(n, o)})"
            for n, o in pairs
        ]
        [[is_equal]] = self._query(
            f"SELECT coalesce(bool_and({' AND '.join(tests)}), true) "
            f"FROM ({self._results.select_sql(new)}) AS {new_rows} "
            f"POSITIONAL JOIN ({self._results.select_sql(old)}) AS {old_rows}"
        )
        payload = {"rounded": is_equal}
        self._cache.put(key, CacheEntry(NO_STAT, self._results.clock.now_ns(), payload))
        return bool(is_equal)

    def _may_be_read(self, record: TableRecord, *, deep: bool) -> bool:
        """Whether a table is within the read limits, unless `deep`, and intact."""
        is_expensive = (record.row_count or 0) > self._settings["look.scan_rows"] or (
            record.bytes or 0
        ) > self._settings["look.scan_bytes"]
        return (
            record.digest is not None
            and (deep or not is_expensive)
            and self._results.filesystem is None
            and self._results.is_intact(record)
        )

    def _rows_digest(
        self, record: TableRecord, expressions: Sequence[str], deep: bool
    ) -> list[str] | None:
        """The digest of a table's rows; None when the read limits forbid it or the files are
        damaged."""
        key = rows_key(record.digest or "", expressions)
        if (entry := self._cache.get(key)) is not None:
            return [str(part) for part in entry.payload["digest"]]
        if not self._may_be_read(record, deep=deep):
            return None
        [row] = self._query(f"{digest_select(expressions)} ({self._results.select_sql(record)})")
        if (digest := rows_digest(row)) is not None:
            self._cache.put(
                key, CacheEntry(NO_STAT, self._results.clock.now_ns(), {"digest": digest})
            )
        return digest

    def changes(self, new: TableRecord, old: TableRecord, *, count: bool) -> ChangeSummary | None:
        """What differs between two versions; None when it is not known. With `count`, the rows of
        tables within the read limits are compared, else only an earlier answer is repeated. Raises
        SourceUnavailable, OSError."""
        key = observation_key(CHANGES_KIND, old.digest or "", new.digest or "", *new.key)
        if (entry := self._cache.get(key)) is not None:
            return msgspec.convert(entry.payload, ChangeSummary)
        if not count or not all(self._may_be_read(record, deep=False) for record in (new, old)):
            return None
        summary = VersionCounts(new, old, functools.partial(self._rows_of, new, old)).summary
        self._cache.put(key, CacheEntry(NO_STAT, self._results.clock.now_ns(), summary.to_dict()))
        return summary

    def _rows_of(
        self, new: TableRecord, old: TableRecord, statement: str, windows: Windows
    ) -> list[tuple[Any, ...]]:
        tables = ", ".join(
            f"{name} AS ({skip_rows(self._results.select_sql(record), window)})"
            for name, record, window in ((NEW, new, windows.new), (OLD, old, windows.old))
        )
        return self._query(f"WITH {tables} {statement}")
