"""Row comparison: whether a rewritten file or a recomputed result table contains the same rows.

The earlier rows of a file no longer exist when the question comes up. So the digest of the rows
read is stored in the observation cache when a table is computed from them, if they are few enough
for a shallow pass. Without a stored digest the bytes decide. One value of a text file can decide
how others are read, so all its columns are compared, whichever are read; of a sheet of a workbook,
which is read as a whole, those that are read. The state of a frame, of an Arrow file and of
a table of a database file consists of its values already: these are not compared.
"""

import contextlib
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec

from jammi_lab.core.anchors import Anchor, Snapshot
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import JammiError
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
from jammi_lab.sources.base import Connector, ObservationContext, Query
from jammi_lab.sources.files.connector import FileConnector
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key
from jammi_lab.storage.parquet_statistics import are_statistics_true
from jammi_lab.store.result_files import ResultFiles

CHANGES_KIND, ROUNDING_KIND = "changes", "rounding"
"""The kind of the numbers by which two versions of a table differ."""
_TEXT_KINDS = ("csv", "tsv", "json", "ndjson")
_WHOLE_KINDS = (*_TEXT_KINDS, "xlsx")
"""Kinds whose anchors cover all bytes of the file, whichever columns are read."""
_COMPARABLE_KINDS = ("parquet", *_WHOLE_KINDS)
MAX_WHOLE_BYTES = 4 << 20
"""Maximum size of such a file to compare, in bytes. Its types must be decided again each time,
which takes most of the time."""
_MAX_ROWS_OF_ONE_THREAD = 100_000
"""From here on threads of an instance of its own are worth starting one."""
_ZONED_TIMESTAMP = "TIMESTAMP WITH TIME ZONE"
"""Not compared in text files: a text without an offset depends on the session's time zone, which
the digest does not record."""


def note_rows(connector: Connector, anchor: Anchor, context: ObservationContext) -> None:
    """Store the digest of the rows at an anchor, if the source is still in that state, is of a
    comparable kind and is small enough."""
    files = _comparable_files(connector)
    if files is None:
        return
    is_small = anchor.row_count is not None and (
        context.scan_rows is None or anchor.row_count <= context.scan_rows
    )
    if files.kind in _WHOLE_KINDS or (is_small and anchor.columns):
        with contextlib.suppress(*read_errors.SOURCE_ERRORS):
            _files_digest(files, anchor, context)


def has_same_rows(connector: Connector, recorded: Anchor, context: ObservationContext) -> bool:
    """Whether the files contain the same multiset of rows as at a recorded anchor, over its
    columns; False when that cannot be determined."""
    files = _comparable_files(connector)
    if files is None:
        return False
    with contextlib.suppress(*read_errors.SOURCE_ERRORS):
        state = files.observe(recorded.input.table, context)
        if not isinstance(state, Snapshot):
            return False
        current = state.anchor(recorded.input, recorded.columns)
        if not _differ_only_in_rows(current, recorded):
            return False
        expressions = _hash_expressions(files, state, recorded)
        digest = _stored_digest(recorded, expressions, context)
        return digest is not None and digest == _files_digest(files, current, context)
    return False


def _stored_digest(
    anchor: Anchor, expressions: list[str] | None, context: ObservationContext
) -> list[str] | None:
    """The stored digest of the rows of a state, or None."""
    if expressions is None:
        return None
    entry = context.cache.get(rows_key(_state_key(anchor), expressions))
    return None if entry is None else list(entry.payload["digest"])


def _comparable_files(connector: Connector) -> FileConnector | None:
    """The connector if its rows can be compared: local files, anchored by content."""
    if (
        isinstance(connector, FileConnector)
        and connector.kind in _COMPARABLE_KINDS
        and connector.file_set.is_local
        and connector.record.anchor in ("auto", "content")
    ):
        return connector
    return None


def _hash_expressions(files: FileConnector, state: Snapshot, anchor: Anchor) -> list[str] | None:
    """The expressions to hash: the columns of the anchor in the source's column order, for text
    files then all others. Column aliases like `t(p, q)` depend on that order, so reordered columns
    must give another cache key. None when they cannot be compared."""
    names = [name for name in state.columns if name in anchor.columns]
    is_text = files.kind in _TEXT_KINDS
    if is_text:
        names += sorted(set(state.columns) - set(anchor.columns))
    kinds = [state.columns[name] for name in names]
    if is_text and _ZONED_TIMESTAMP in kinds:
        return None
    return hash_expressions(names, kinds)


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


def _state_key(anchor: Anchor) -> str:
    return f"{anchor.method}:{anchor.value}"


def _files_digest(
    files: FileConnector, anchor: Anchor, context: ObservationContext
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
    is_large = (anchor.row_count or 0) > _MAX_ROWS_OF_ONE_THREAD
    select = f"{digest_select(expressions)} it"
    [row] = scratch_duckdb.query(files.relation(table), select, uses_all_threads=is_large)
    second_state = files.observe(table, context)
    if not isinstance(second_state, Snapshot) or first_state.stamp != second_state.stamp:
        return None  # the files may have been changed and changed back during the read
    if not all(
        state.anchor(anchor.input, anchor.columns).same_state(anchor)
        for state in (first_state, second_state)
    ):
        return None
    if files.kind in _WHOLE_KINDS:
        note_row_count(anchor, row[0], context.cache, context.now_ns)
    digest = rows_digest(row)
    if digest is not None:
        context.cache.put(
            rows_key(_state_key(anchor), expressions),
            CacheEntry(NO_STAT, context.now_ns, {"digest": digest}),
        )
    return digest


def _decide_rows_alone(files: FileConnector, anchor: Anchor) -> bool:
    """Whether equal rows are read as equal rows: DuckDB skips what the footer of a Parquet file
    says is not needed."""
    if files.kind != "parquet":
        return True
    listed = files.file_set.list_files(files.kind)
    return all(are_statistics_true(Path(item.path), anchor.columns) for item in listed)


def _is_within_limits(files: FileConnector, context: ObservationContext) -> bool:
    limits = [] if context.scan_bytes is None else [context.scan_bytes]
    limits += [MAX_WHOLE_BYTES] if files.kind in _WHOLE_KINDS else []
    sizes = [item.stat.size for item in files.file_set.list_files(files.kind)]
    return not limits or sum(sizes) <= min(limits)


# Two versions of a result table are both there to be compared.
#
# A recomputed table may have its rows in another order, or be written by another release. A table
# that reads only some of its columns, and does not depend on row order, need not be recomputed
# when these columns contain the same multiset of rows. The digest is the row count and two sums
# over a hash of each row. The hash covers all the columns together; column by column it would
# miss a column that was shuffled against the others. The comparison saves work and does not
# protect against tampering. Types whose different values may hash alike are not compared.

Equality = Literal["rounding", "rows"]
"""Row by row but for rounding; or as a multiset of rows."""
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


def rounding_select(columns: Sequence[str], new: str, old: str) -> str:
    """The SELECT of whether two SELECTs of as many rows have, row by row, the same numbers in these
    floating-point columns, but for rounding."""
    new_rows, old_rows = (unused_name(name, columns) for name in ("n", "o"))
    tests = [
        # the sign of a zero counts, that of a NaN depends on the order of a sum
        f"({n} IS NOT DISTINCT FROM {o} "
        f"AND coalesce({n} <> 0 OR signbit({n}) = signbit({o}), true) OR {are_close(n, o)})"
        for n, o in (
            (f"{new_rows}.{name}", f"{old_rows}.{name}") for name in map(quote_identifier, columns)
        )
    ]
    return (
        f"SELECT coalesce(bool_and({' AND '.join(tests) or 'true'}), true) "
        f"FROM ({new}) AS {new_rows} POSITIONAL JOIN ({old}) AS {old_rows}"
    )


class RowComparison:
    """Compares ready result tables of one workspace by their rows. Digests are stored in the
    observation cache."""

    def __init__(
        self, results: ResultFiles, cache: ObservationCache, settings: Settings, query: Query
    ) -> None:
        self._results, self._cache, self._settings, self._query = results, cache, settings, query

    def equality(
        self,
        new: TableRecord,
        old: TableRecord,
        columns: Sequence[str],
        *,
        is_ordered: bool,
        deep: bool,
    ) -> Equality | None:
        """How two versions of a table are equal over these columns although their bytes differ;
        None when they are not, or when that cannot be determined. Where the order of rows counts,
        only rounding is left out of account."""
        with contextlib.suppress(JammiError, OSError):
            if self.is_equal_but_for_rounding(new, old, columns, deep=deep):
                return "rounding"
            if not is_ordered and self.has_same_rows(old, new, columns, deep=deep):
                return "rows"
        return None

    def has_same_rows(
        self, left: TableRecord, right: TableRecord, columns: Sequence[str], *, deep: bool
    ) -> bool:
        """Whether both contain the same multiset of rows over these columns, in the same column
        order. Also False when that cannot be determined, or when the pass is not `deep` and the
        tables exceed its read limits. SourceUnavailable, OSError."""
        # also in one order, on which column aliases like t(p, q) depend
        types, others = (
            [(c.name, c.type) for c in record.columns if c.name in columns]
            for record in (left, right)
        )
        if types != others or left.row_count is None or left.row_count != right.row_count:
            return False
        expressions = hash_expressions(columns, [*map(dict(types).get, columns)])
        if expressions is None:
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
        rows = map(self._results.select_sql, (new, old))
        [[is_equal]] = self._query(rounding_select(sorted(others), *rows))
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

    def describe_changes(self, new: TableRecord, old: TableRecord) -> str:
        """What differs between two versions: `price: 3 of 200,000 rows`; empty when that is not
        known, as for large tables."""
        summary = self.changes(new, old)
        self._cache.flush()
        return "" if summary is None else summary.brief(new.row_count or 0) or str(summary)

    def changes(self, new: TableRecord, old: TableRecord) -> ChangeSummary | None:
        """What differs between two versions; None for tables beyond the read limits, and when they
        cannot be read."""
        key = observation_key(CHANGES_KIND, old.digest or "", new.digest or "", *new.key)
        if (entry := self._cache.get(key)) is not None:
            return msgspec.convert(entry.payload, ChangeSummary)
        try:
            if not all(self._may_be_read(record, deep=False) for record in (new, old)):
                return None
            summary = VersionCounts(new, old, functools.partial(self._rows_of, new, old)).summary
        except (JammiError, OSError):
            return None
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
