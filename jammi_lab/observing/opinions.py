"""The second opinion on result tables: other bytes, and are the rows other ones too?

A table that was made again may come out with its rows in another order, or written by another release. What reads only some of its columns, and
does not depend on the order of rows, need not be made again when these columns hold the same bag of rows. Two sums over a hash of each row decide
it, over all the columns at once (one by one they would not see a column that was shuffled against the others), beside the number of rows. It saves
work and is no check against tampering. No opinion is given where the hash could take different values for equal ones.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import duckdb

from jammi_lab.canonical import digest_of
from jammi_lab.config import Settings
from jammi_lab.names import quote
from jammi_lab.observing.memo import ROWS, ObservationMemo
from jammi_lab.storage.digests import MemoEntry
from jammi_lab.storage.files import Stat
from jammi_lab.store.results import Results
from jammi_lab.values.records import TableRecord

Query = Callable[[str], list[tuple[Any, ...]]]
_EXACT = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL\(.*\)|VARCHAR|BLOB|DATE|TIME|TIMESTAMP(_S|_MS|_NS)?|TIMESTAMP WITH TIME ZONE|UUID"
)
"""Types whose different values have different hashes, chance apart. Intervals and nested types are not among them."""
_FLOAT = re.compile(r"FLOAT|DOUBLE")
"""DuckDB takes 0.0 and -0.0 for one, so the sign goes in beside the number."""


def told_apart(columns: Sequence[str], kinds: Sequence[str | None]) -> list[str] | None:
    """What is hashed of a row, so that rows which differ in these columns have different hashes; None when that cannot be had for their types."""
    if not all(kind is not None and (_EXACT.fullmatch(kind) or _FLOAT.fullmatch(kind)) for kind in kinds):
        return None
    return [*map(quote, columns), *(f"signbit({quote(c)})" for c, kind in zip(columns, kinds, strict=True) if _FLOAT.fullmatch(kind or ""))]


def sums(hashed: Sequence[str]) -> str:
    """The SELECT, up to its FROM, of the digest of a bag of rows."""
    backwards = ", ".join(["'jammi'", *reversed(hashed)])
    return f"SELECT count(*), sum(hash({', '.join(hashed) or '0'})), sum(hash({backwards})) FROM"


def rows_key(state: str, hashed: Sequence[str]) -> str:
    """Under which the memo keeps the digest of the rows of a state."""
    return f"{ROWS}{state}:{digest_of([duckdb.__version__, *hashed])}"


class Opinions:
    """Compares ready result tables of one workspace by their rows; what was found is kept in the observation memo."""

    def __init__(self, results: Results, memo: ObservationMemo, settings: Settings, query: Query) -> None:
        self._results, self._memo, self._settings, self._query = results, memo, settings, query

    def same_rows(self, one: TableRecord, other: TableRecord, columns: Sequence[str], *, deep: bool) -> bool:
        """Whether both hold the same bag of rows over these columns, which stand in the same order. False when they do not, and when that cannot be
        told or would read more than a shallow look may. SourceUnavailable, OSError."""
        types = [{c.name: c.type for c in record.columns if c.name in columns} for record in (one, other)]
        if [*types[0]] != [*types[1]]:
            return False  # `t(p, q)` goes by the order
        kinds = [[of.get(c) for c in columns] for of in types]
        if one.row_count is None or one.row_count != other.row_count or kinds[0] != kinds[1] or (hashed := told_apart(columns, kinds[0])) is None:
            return False
        first = self._digest(one, hashed, deep)
        return first is not None and first == self._digest(other, hashed, deep)

    def _digest(self, record: TableRecord, hashed: Sequence[str], deep: bool) -> list[str] | None:
        """The digest of a table's rows; None when it may not be taken now, or its bytes are not the published ones."""
        key = rows_key(record.digest or "", hashed)
        if (entry := self._memo.get(key)) is not None:
            return [str(part) for part in entry.payload["digest"]]
        dear = (record.row_count or 0) > self._settings["look.scan_rows"] or (record.bytes or 0) > self._settings["look.scan_bytes"]
        if record.digest is None or (dear and not deep) or self._results.filesystem is not None or not self._results.intact(record):
            return None
        [found] = self._query(f"{sums(hashed)} ({self._results.body(record)})")
        digest = [str(part) for part in found]
        self._memo.put(key, MemoEntry(Stat(0, 0, 0, 0), self._results.clock.now_ns(), {"digest": digest}))
        return digest
