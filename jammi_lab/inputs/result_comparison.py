"""Row comparison of result tables: whether two versions with different bytes contain the same rows.

A recomputed table may have its rows in another order, or be written by another release. A table
that reads only some of its columns, and does not depend on row order, need not be recomputed when
these columns contain the same multiset of rows. The digest is the row count and two sums over a
hash of each row. The hash covers all the columns together; column by column it would miss a column
that was shuffled against the others. The comparison saves work and does not protect against
tampering. Types whose different values may hash alike are not compared.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import duckdb

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.identifiers import quote_identifier
from jammi_lab.core.records import TableRecord
from jammi_lab.core.settings import Settings
from jammi_lab.inputs.observation_cache import ROWS_KIND, ObservationCache
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key
from jammi_lab.store.result_files import ResultFiles

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

    def _rows_digest(
        self, record: TableRecord, expressions: Sequence[str], deep: bool
    ) -> list[str] | None:
        """The digest of a table's rows; None when the read limits forbid it or the files are
        damaged."""
        key = rows_key(record.digest or "", expressions)
        if (entry := self._cache.get(key)) is not None:
            return [str(part) for part in entry.payload["digest"]]
        is_expensive = (record.row_count or 0) > self._settings["look.scan_rows"] or (
            record.bytes or 0
        ) > self._settings["look.scan_bytes"]
        if (
            record.digest is None
            or (is_expensive and not deep)
            or self._results.filesystem is not None
            or not self._results.is_intact(record)
        ):
            return None
        [row] = self._query(f"{digest_select(expressions)} ({self._results.select_sql(record)})")
        if (digest := rows_digest(row)) is not None:
            self._cache.put(
                key, CacheEntry(NO_STAT, self._results.clock.now_ns(), {"digest": digest})
            )
        return digest
