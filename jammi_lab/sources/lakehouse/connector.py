"""Base of the connectors for tables with snapshots (Delta, Iceberg). Every read is pinned to the
anchored snapshot.

An equal snapshot number proves that nothing changed. With another number the rows may still be the
same (after a compaction, or a write to a column that is not read): then `same_rows` compares them,
reading only the data files that are not in both snapshots.
"""

import errno
import functools
import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from jammi_lab.core.anchors import Anchor, Cost, Observed, Snapshot, Unknown, source_input
from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import quote_identifier, sql_literal
from jammi_lab.sources import duckdb_extensions, read_errors, scratch_duckdb
from jammi_lab.sources.base import (
    AddedRows,
    Consistency,
    NotAppended,
    ObservationContext,
    PartOfFiles,
    Query,
    ReadPlan,
    Relation,
    Requirements,
)
from jammi_lab.sources.lakehouse.appended_files import (
    added_files,
    condition_on_files,
)
from jammi_lab.sources.lakehouse.table import (
    LakehouseTable,
    TableSnapshot,
)
from jammi_lab.sources.located_connector import SourceGone
from jammi_lab.storage.digests import (
    NO_STAT,
    CacheEntry,
    observation_key,
    read_stable,
    sha256_file,
)
from jammi_lab.storage.files import CLOCK_SECONDS, Stat, is_settled, stat_of

# --------------------------------------------------------------------------------------------------
# Data files of a Delta or Iceberg table that were changed after their commit.
# Writers of these formats never change a data file, so the snapshot's number usually proves its
# rows. A file that has changed since the commit (an edit in place, a restored backup, a copy)
# proves nothing by its name; its digest becomes part of the snapshot's state.

_MAX_CACHED_DIGESTS = 4096
_digests = BoundedCache[tuple[str, Stat], str](_MAX_CACHED_DIGESTS)
"""Digests of changed files by stat; catalogs do not store them, since such files are rare."""


def rewritten_files(
    home: str, commit_file: str, data_files: Sequence[str], ctx: ObservationContext | None
) -> list[list[str]] | Unknown:
    """The local data files that have changed since the commit file was written, each as its path
    below `home` and a digest of its bytes.

    Unknown when the bytes to read exceed the limit of `ctx`. Raises FileNotFoundError for a missing
    data file, whose rows nobody can read; OSError.
    """
    changed = changed_files(commit_file, data_files)
    unread_bytes = sum(stat.size for path, stat in changed if _digests.get((path, stat)) is None)
    if ctx is not None and (refused := ctx.refuse_scan(unread_bytes)) is not None:
        return refused
    return [[os.path.relpath(path, home), _digest(path, stat)] for path, stat in changed]


def changed_files(commit_file: str, data_files: Sequence[str]) -> list[tuple[str, Stat]]:
    """The files that have changed since the commit file was written, which are all of them when it
    is missing. Raises FileNotFoundError for a missing data file."""
    commit = stat_of(commit_file)
    changed = []
    for path in sorted(data_files):
        stat = stat_of(path)
        if stat is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if commit is None or _changed_at(stat) > _changed_at(commit):
            changed.append((path, stat))
    return changed


def _changed_at(stat: Stat) -> int:
    # The modification time can be set by any program, and a copy has the one of its original.
    return max(stat.mtime_ns, stat.ctime_ns)


def _digest(path: str, stat: Stat) -> str:
    """The digest of a file that has just had this stat."""
    known = _digests.get((path, stat))
    if known is not None:
        return known
    began_ns = time.time_ns()
    read = functools.partial(sha256_file, path, follow_links=True)
    stat, digest = read_stable(Path(path), read)
    if is_settled(stat, began_ns, CLOCK_SECONDS):
        _digests.put((path, stat), digest)
    return digest


# --------------------------------------------------------------------------------------------------
# The connectors.

_PREVIEW_ROWS = 100
_MAX_KNOWN_SNAPSHOTS = 1024
_known_columns = BoundedCache[tuple[str, TableSnapshot], dict[str, str]](_MAX_KNOWN_SNAPSHOTS)
"""Names and types of the columns of snapshots, by format: each DESCRIBE opens the log again."""
_LOOSELY_EQUAL_TYPES = ("FLOAT", "DOUBLE", "INTERVAL")
"""Types with different values that SQL considers equal; their text representations differ."""
_INCOMPARABLE_TYPES = ("VARIANT", "GEOMETRY", "UNION")
"""Types with different values that are equal in SQL and as text."""


class LakehouseConnector(LakehouseTable):
    """A registered lakehouse table."""

    def check(self) -> None:
        """Check that the table can be read. Raises SourceUnavailable, ExtensionMissing, and
        InvalidArgument for an anchor on a missing column."""
        duckdb_extensions.path_of(self.extension)
        relation = self.relation(None)
        try:
            columns = scratch_duckdb.preview(relation, _PREVIEW_ROWS)
        except duckdb.Error as error:
            raise self._read_error(str(error)) from None
        self._check_anchor_column(columns)

    def relation(self, table: str | None) -> Relation:
        """The relation of the current snapshot. Raises SourceUnavailable, ExtensionMissing, and
        TableNotFound if `table` is not None."""
        self._check_single_table(table)
        self._check_location()
        try:
            state = self.current_snapshot()
            self._check_files(state)
            return self._relation(state)
        except SourceGone:
            raise self._missing_error() from None
        except duckdb.Error as error:
            raise self._read_error(str(error)) from None
        except OSError as error:
            raise read_errors.unreadable_error(self.location, error) from None

    def _observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """The state of the current snapshot. Raises as `LocatedConnector`."""
        self._check_single_table(table)
        self._check_location()
        try:
            state = self.current_snapshot()
            self._check_files(state)
            self._check_stored_files(state)
            if self.anchor_column is not None:
                return self._observe_column(state, ctx)
            return self._snapshot(state, self._columns(state, ctx), ctx)
        except duckdb.Error as error:
            raise self._read_error(str(error)) from None

    def same_rows(self, recorded: Anchor, ctx: ObservationContext) -> bool | Unknown:
        """Whether the columns of a recorded anchor contain the same multiset of rows now. Unknown
        if that exceeds the limits of the observation; False if it cannot be determined, for example
        because the old snapshot's files were deleted."""
        try:
            current = self.current_snapshot()
            self._check_files(current)
            columns = self._columns(current, ctx)
            former = self._recorded_snapshot(current, recorded, columns, ctx)
            if not isinstance(former, TableSnapshot):
                return former or False
            if not _same_fields(former, current, recorded.columns):
                return False
            read = [(name, columns[name]) for name in recorded.columns]
            if any(word in kind for _, kind in read for word in _INCOMPARABLE_TYPES):
                return False
            return former.version == current.version or self._compare_cached(
                former, current, columns, read, ctx
            )
        except (SourceGone, JammiError, OSError, duckdb.Error):
            return False

    def query(
        self, state: TableSnapshot, select: str, seconds: float | None = None
    ) -> list[tuple[Any, ...]]:
        """All rows of a SELECT that needs the extension. Raises duckdb.Error, and as
        `SourceAccess`."""
        relation = self._relation(state)
        if self.context.access is not None:
            return self.context.access(relation, lambda query: query(select), seconds=seconds)
        with scratch_duckdb.connect(relation) as connection:
            return connection.execute(select).fetchall()

    # -- a snapshot

    def _relation(self, state: TableSnapshot) -> Relation:
        body = self.select(state)

        def select_files(addresses: Collection[str]) -> PartOfFiles:
            return PartOfFiles(f"{body} WHERE {condition_on_files(addresses)}")

        def witness(query: Query, _: tuple[str, ...]) -> Observed:
            columns = _known_columns.get((self.kind, state)) or {
                row[0]: row[1] for row in query(f"DESCRIBE {body}")
            }
            try:
                return self._snapshot(state, columns)
            except OSError as error:
                return Unknown(read_errors.reason_of(error))

        return Relation(
            source_input(self.record.name),
            ReadPlan(
                body=body,
                part_of_files=select_files,
                added_since=lambda recorded, columns: self._added_since(state, recorded, columns),
            ),
            requirements=Requirements(
                extensions=(self.extension,),
                scoped_secret=self.table_files(self.table_home(state)).scoped_secret,
            ),
            columns=_known_columns.get((self.kind, state)),
            consistency=Consistency(
                witness=witness if self.record.anchor in ("auto", "content") else None,
                unordered=not self.keeps_row_order,
            ),
            explain=self.explain,
        )

    def _snapshot(
        self, state: TableSnapshot, columns: dict[str, str], ctx: ObservationContext | None = None
    ) -> Snapshot | Unknown:
        files = self._check_files(state)
        try:
            rewritten = rewritten_files(self.table_home(state), state.commit_file, files, ctx)
        except FileNotFoundError as missing:
            raise self._read_error(f'No such file "{missing.filename}"') from None
        if isinstance(rewritten, Unknown):
            return rewritten
        return Snapshot(
            columns=columns,
            whole=digest_of(
                [
                    state.table,
                    state.version,
                    state.fields,
                    *([state.commit] if state.commit else []),
                    *([rewritten] if rewritten else []),
                ]
            ),
            method=self.method,
            cost=Cost.METADATA,
            version=state.version,
            stamp=state.snapshot_id,
        )

    def _recorded_snapshot(
        self,
        current: TableSnapshot,
        recorded: Anchor,
        columns: Mapping[str, str],
        ctx: ObservationContext | None = None,
    ) -> TableSnapshot | Unknown | None:
        """The earlier snapshot in the state of a recorded anchor; None if it cannot be read any
        more or its files have changed since. Raises as `current_snapshot`, OSError."""
        if recorded.version is None or recorded.method != self.method:
            return None
        for former in self.former_snapshots(current, recorded.version, recorded.columns):
            snapshot = self._snapshot(former, dict(columns), ctx)
            if isinstance(snapshot, Unknown):
                return snapshot
            if snapshot.anchor(recorded.input, recorded.columns).same_state(recorded):
                return former
        return None

    def _added_since(
        self, current: TableSnapshot, recorded: Anchor, columns: Mapping[str, str]
    ) -> AddedRows:
        """The data files that a recorded state did not have. Raises NotAppended."""
        try:
            former = self._recorded_snapshot(current, recorded, columns)
            if not isinstance(former, TableSnapshot):
                raise NotAppended("its earlier snapshot is gone")
            if former.fields != current.fields:
                raise NotAppended("its columns changed")
            former_files, files = self.list_files(former), self.list_files(current)
            added = added_files(former_files, files, self.table_home(current))
            self._check_names(current, added.addresses, added.rows)
        except (SourceGone, JammiError, OSError, duckdb.Error):
            raise NotAppended("its earlier snapshot cannot be read") from None
        return added

    def _check_names(self, state: TableSnapshot, addresses: Collection[str], rows: int) -> None:
        """Raise NotAppended when the scan names these files, which have so many rows, otherwise
        than the list."""
        condition = condition_on_files(addresses)
        [(found,)] = self.query(
            state, f"SELECT count(*) FROM ({self.select(state)} WHERE {condition})"
        )
        if found != rows:
            raise NotAppended("its files cannot be read one by one")

    def _columns(self, state: TableSnapshot, ctx: ObservationContext) -> dict[str, str]:
        """Names and types of a snapshot's columns, cached because they never change."""
        known = _known_columns.get((self.kind, state))
        if known is None:
            known = ctx.describe(self._relation(state))
            _known_columns.put((self.kind, state), known)
        return dict(known)

    def _observe_column(self, state: TableSnapshot, ctx: ObservationContext) -> Observed:
        columns = self._columns(state, ctx)
        select = self._select_largest(columns, f"({self.select(state)})")
        snapshot = self._snapshot(state, columns, ctx)
        if isinstance(snapshot, Unknown):
            return snapshot

        def read() -> tuple[dict[str, str], Sequence[Any]]:
            [found] = self.query(state, select, ctx.timeout_seconds)
            return columns, found

        return self._observe_largest(ctx, snapshot.whole, lambda _: True, read, Cost.METADATA)

    # -- two snapshots

    def _compare_cached(
        self,
        former: TableSnapshot,
        current: TableSnapshot,
        columns: dict[str, str],
        read: list[tuple[str, str]],
        ctx: ObservationContext,
    ) -> bool | Unknown:
        # by their states: the number of a snapshot proves nothing where data files were rewritten
        states = [self._snapshot(each, columns, ctx) for each in (former, current)]
        wholes = []
        for state in states:
            if isinstance(state, Unknown):
                return state
            wholes.append(state.whole)
        read_digest = digest_of([read, duckdb.__version__])
        key = observation_key("same", self.kind, self.path, *wholes, read_digest)
        if (entry := ctx.cache.get(key)) is not None:
            return bool(entry.payload["same"])
        same = self._compare_rows(former, current, read, ctx)
        if [self._snapshot(each, columns, ctx) for each in (former, current)] != states:
            return False  # a data file was rewritten meanwhile
        if isinstance(same, bool):
            ctx.cache.put(key, CacheEntry(NO_STAT, ctx.now_ns, {"same": same}))
        return same

    def _compare_rows(
        self,
        former: TableSnapshot,
        current: TableSnapshot,
        read: list[tuple[str, str]],
        ctx: ObservationContext,
    ) -> bool | Unknown:
        old, new = self.list_files(former), self.list_files(current)
        common = {
            name for name, (_, is_whole) in old.items() if is_whole and new.get(name, (0, False))[1]
        }
        rows = sum(
            count
            for files in (old, new)
            for name, (count, _) in files.items()
            if name not in common
        )
        if (refused := ctx.refuse_scan(0, rows)) is not None:
            return refused
        if common == old.keys() == new.keys():
            return True
        former_rows = self._changed_rows(former, read, common)
        current_rows = self._changed_rows(current, read, common)
        [(same_counts,)] = self.query(
            current,
            f"SELECT (SELECT count(*) FROM ({former_rows})) = (SELECT count(*) FROM "
            f"({current_rows}))",
        )
        if not same_counts or not read:
            return bool(same_counts)
        [(differ,)] = self.query(
            current, f"SELECT count(*) FROM (({former_rows}) EXCEPT ALL ({current_rows}))"
        )
        return not differ

    def _changed_rows(
        self, state: TableSnapshot, read: list[tuple[str, str]], common: set[str]
    ) -> str:
        """A SELECT of the rows of a snapshot that are not in the common files. Text separates
        floats that SQL considers equal (0.0, -0.0)."""
        expressions = [part for name, kind in read for part in _exact_expressions(name, kind)]
        left_out = (
            f" WHERE filename NOT IN ({', '.join(map(sql_literal, sorted(common)))})"
            if common
            else ""
        )
        return f"SELECT {', '.join(expressions) or '1'} FROM {self.scan(state)}{left_out}"


def _same_fields(former: TableSnapshot, current: TableSnapshot, read: tuple[str, ...]) -> bool:
    """Whether the columns that are read are identical and in the same order."""
    one, other = (
        [field for field in state.fields if field[0] in read] for state in (former, current)
    )
    return one == other and len(one) == len(read)


def _exact_expressions(name: str, kind: str) -> list[str]:
    """Expressions that are equal only if the values are identical."""
    return (
        [quote_identifier(name), f"{quote_identifier(name)}::VARCHAR"]
        if any(word in kind for word in _LOOSELY_EQUAL_TYPES)
        else [quote_identifier(name)]
    )
