"""Row comparison: whether two versions of a result table are equal but for rounding, and what
differs between them."""

import functools
from collections.abc import Sequence
from typing import Any

import msgspec

from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import quote_identifier, unused_name
from jammi_lab.core.records import TableRecord
from jammi_lab.core.settings import Settings
from jammi_lab.inputs.observation_cache import ObservationCache
from jammi_lab.inputs.version_changes import (
    FLOAT_TYPES,
    NEW,
    OLD,
    ChangeSummary,
    VersionCounts,
    are_close,
    common_columns,
    equal_columns,
)
from jammi_lab.sources.base import Query
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key
from jammi_lab.store.result_files import ResultFiles

CHANGES_KIND, ROUNDING_KIND = "changes", "rounding"
"""The kind of the numbers by which two versions of a table differ."""


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
    """Compares ready result tables of one workspace by their rows. What is found is stored in the
    observation cache."""

    def __init__(
        self, results: ResultFiles, cache: ObservationCache, settings: Settings, query: Query
    ) -> None:
        self._results, self._cache, self._settings, self._query = results, cache, settings, query

    def is_equal_but_for_rounding(
        self, new: TableRecord, old: TableRecord, columns: Sequence[str], *, deep: bool
    ) -> bool:
        """Whether both have the same rows in the same order over these columns, but for rounding of
        floating-point numbers, and that counts as equal by the setting. Also False when that cannot
        be determined, or when the pass is not `deep` and the tables exceed its read limits."""
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
        try:
            if not all(self._may_be_read(record, deep=deep) for record in (new, old)):
                return False
            rows = map(self._results.select_sql, (new, old))
            [[is_equal]] = self._query(rounding_select(sorted(others), *rows))
        except (JammiError, OSError):
            return False
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

    def _rows_of(self, new: TableRecord, old: TableRecord, statement: str) -> list[tuple[Any, ...]]:
        tables = ", ".join(
            f"{name} AS ({self._results.select_sql(record)})"
            for name, record in ((NEW, new), (OLD, old))
        )
        return self._query(f"WITH {tables} {statement}")
