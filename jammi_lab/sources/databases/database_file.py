"""Base of the connectors for single-file databases (SQLite, DuckDB): path, table list, state.

The state of a table is one digest per column, over the values in row order. While the stat of the
file and of its logs proves that nothing was written, it is not computed again.
"""

import contextlib
import errno
import os
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import duckdb

from jammi_lab.core import foreign_errors
from jammi_lab.core.anchors import Cost, Observed, Snapshot, Unknown, source_input
from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import InvalidArgument, JammiError, SourceUnavailable, TableNotFound
from jammi_lab.core.identifiers import fold, near_names, quoted_name
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources import duckdb_extensions, read_errors, scratch_duckdb
from jammi_lab.sources.base import (
    NO_WORKSPACE,
    Attachment,
    ObservationContext,
    ReadPlan,
    Relation,
    Requirements,
    SourceContext,
    attachment_key,
)
from jammi_lab.sources.databases import reader_process
from jammi_lab.sources.databases.reader_process import ReaderError
from jammi_lab.sources.located_connector import LocatedConnector, SourceGone, find_table
from jammi_lab.sources.locations import (
    check_readable_path,
    display_location,
    literal_path,
)
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key
from jammi_lab.storage.files import CLOCK_SECONDS, Stat, is_settled, route_of, stat_of
from jammi_lab.storage.own_files import is_own

_MAX_ATTEMPTS = 3
_MAX_CACHED_READS = 1024
METHOD = "digest of the columns"

T = TypeVar("T")
Stats = tuple[Stat | None, ...]
"""Stats of the file and of its logs; None for a missing file."""


@dataclass(frozen=True, slots=True)
class FileTable:
    """A table or view in the file."""

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    """Names and declared types."""
    is_view: bool = False
    unreadable_because: str = ""
    """Why it cannot be read, as a clause; such a table is not listed. Empty when it can."""
    collated: tuple[str, ...] = ()
    """Columns of texts that may compare as equal without being identical."""

    @property
    def label(self) -> str:
        """The listed name, without the default schema."""
        return self.name if self.schema == "main" else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class TableContent:
    """Digests and row count of a table."""

    by_column: Mapping[str, str]
    rows: int


class DatabaseFileConnector(LocatedConnector, ABC):
    """A registered database file."""

    is_database = True
    engine = ""
    """The engine's name in messages."""
    messages = ""
    """The group of `foreign_errors.toml` about messages of DuckDB."""
    log_suffixes: tuple[str, ...] = ()
    """Suffixes of the log files that belong to the state."""

    def __init__(self, record: SourceRecord, context: SourceContext = NO_WORKSPACE) -> None:
        super().__init__(record, context)
        path = literal_path(self.pattern)
        if path is None:
            raise InvalidArgument(
                f"{display_location(self.pattern)!r} matches several files; an {self.engine} "
                "source is one file.",
                hint="Add each file as its own source.",
            )
        self.path = path

    # -- implemented by each engine

    @abstractmethod
    def read_tables(self) -> list[FileTable]:
        """All tables and views of the file. Raises SourceUnavailable."""

    @abstractmethod
    def table_relation(self, info: FileTable) -> Relation:
        """The relation of one table. Raises SourceUnavailable, ExtensionMissing."""

    @abstractmethod
    def digest_table(self, info: FileTable, ctx: ObservationContext) -> TableContent:
        """One digest per column, and the row count. Raises SourceUnavailable."""

    # -- connector

    def tables(self) -> list[str]:
        """The readable tables and views. Raises SourceUnavailable."""
        return [info.label for info in self._tables() if not info.unreadable_because]

    def find(self, parts: Sequence[str]) -> str | None:
        """The label of `table`, of the default schema, or `schema.table`; None if none or several
        match."""
        tables = ((info.label, f"{info.schema}.{info.name}") for info in self._tables())
        return find_table(tables, ".".join(parts))

    def check(self) -> None:
        """Check that the file is a readable database.

        Raises SourceUnavailable, ExtensionMissing, and InvalidArgument for a file of the workspace
        itself or an anchor on a column that no table has.
        """
        extension = self._attachment(self.path).extension
        if extension is not None:
            duckdb_extensions.path_of(extension)
        readable = [info for info in self._tables() if not info.unreadable_because]
        self._check_anchor_column(column for info in readable for column, _ in info.columns)

    def relation(self, table: str | None) -> Relation:
        """The relation of one table.

        Raises SourceUnavailable, TableNotFound, ExtensionMissing, and InvalidArgument for a file of
        the workspace itself.
        """
        info = self._find_table(table)
        if info.unreadable_because:
            copied = quoted_name(info.schema, info.name)
            raise TableNotFound(
                f"{info.label!r} in {self._name} cannot be read: {info.unreadable_because}.",
                hint="Read its underlying tables instead."
                if info.is_view
                else f"Copy it in the database: CREATE TABLE other AS FROM {copied}.",
            )
        return self.table_relation(info)

    def _relation_of(self, info: FileTable, body: str, attachment: Attachment) -> Relation:
        """The relation of a table that a body reads."""
        return Relation(
            source_input(self.record.name, info.label),
            ReadPlan(body=body),
            requirements=Requirements(attachment=attachment),
            explain=self.explain,
        )

    def _attachment(self, path: str) -> Attachment:
        """The file, attached for one statement."""
        return Attachment(
            key=attachment_key(self.record.tenant, fold(self.record.name)),
            type=self.kind,
            path=path,
            persistent=False,
        )

    def _observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """A Snapshot by column. Raises as `LocatedConnector`."""
        for _ in range(_MAX_ATTEMPTS):
            before = self._stats()
            if before[0] is None:
                raise SourceGone
            if (observed := self._observe_at(table, before, ctx)) is not None:
                return observed
        return Unknown(f"{self._name} changes while it is observed")

    def explain(self, message: str) -> JammiError | None:
        """The error for a DuckDB message about this file; None for an unknown message."""
        return foreign_errors.to_error(self.messages, message, name=self._name)

    # -- file

    @property
    def _name(self) -> str:
        return read_errors.display_name(self.path)

    @property
    def logs(self) -> list[str]:
        """Paths of the logs. Both engines resolve links, so the logs are next to the target."""
        real = os.path.realpath(self.path)
        return [real + ending for ending in self.log_suffixes]

    def _stats(self) -> Stats:
        """Current stats. An empty log counts as none, because readers also create and remove it."""
        logs = map(stat_of, self.logs)
        return (
            stat_of(self.path),
            *(log if log is not None and log.size else None for log in logs),
        )

    def _tables(self) -> list[FileTable]:
        """All tables and views, cached while the stats prove that nothing was written.

        Raises SourceUnavailable, InvalidArgument.
        """
        check_readable_path(self.path, self.folder)
        try:
            stats = self._stats()
        except OSError as error:
            raise read_errors.unreadable_error(self._name, error) from None
        if stats[0] is None:
            raise read_errors.missing_error(self.pattern)
        # a pipe is waited for, a log that is a link has the rows of a file elsewhere read, and
        # SQLite writes to the index of its log
        real = os.path.realpath(self.path)
        index = f"{real}-shm"
        for path in (real, *self.logs, index):
            with contextlib.suppress(FileNotFoundError):  # SQLite removes its log at any time
                found = os.lstat(path)
                if not (is_own(found) if path == index else stat.S_ISREG(found.st_mode)):
                    no_file = OSError(errno.EINVAL, "it is a link, or not a regular file")
                    raise read_errors.unreadable_error(os.path.basename(path), no_file)
        return self.read_cached("tables", self.read_tables)

    def read_cached(self, what: str, read: Callable[[], T]) -> T:
        """What `read` returns, kept while the stats prove that nothing was written. Raises what
        `read` raises."""
        stats = self._stats()
        key = (self.kind, self.path, digest_of(self.record.options), what, stats)
        known: T | None = _cached_reads.get(key)
        if known is None:
            known = read()
            if stats_are_settled(stats):
                _cached_reads.put(key, known)
        return known

    def _find_table(self, table: str | None) -> FileTable:
        tables = self._tables()
        readable = [info_.label for info_ in tables if not info_.unreadable_because]
        if table is None:
            raise TableNotFound(
                f"{self.record.name!r} contains tables; name one of them.",
                near=[f"{self.record.name}.{info_}" for info_ in readable[:5]],
            )
        label = find_table(([info_.label] for info_ in tables), table)
        info = next((info_ for info_ in tables if info_.label == label), None)
        if info is None:
            raise TableNotFound(
                f"There is no table {table!r} in {self.record.name}.",
                near=near_names(table, readable),
                hint=f"It contains {_display_names(readable)}.",
            )
        return info

    # -- state

    def _observe_at(
        self, table: str | None, stats: Stats, ctx: ObservationContext
    ) -> Observed | None:
        """The state at these stats: an earlier one, if they prove that nothing was written since;
        else that of the rows. None when the file was written meanwhile."""
        key = self._table_key(table)
        entry = ctx.cache.get(key)
        is_trusted = self.record.anchor != "content"
        if is_trusted and entry is not None and _proves_bytes(entry, stats, ctx):
            return self._snapshot(entry.payload, stats, Cost.FREE)
        info = self._find_table(table)
        if self.anchor_column is None:
            # Counting the rows would mean reading them: the limit applies to the previous count.
            rows = 0 if entry is None else entry.payload["rows"]
            if (refused := ctx.refuse_scan(_total_bytes(stats), rows)) is not None:
                return refused
        if info.unreadable_because:
            return Unknown(f"{info.label} cannot be read: {info.unreadable_because}")
        relation = self.relation(info.label)
        columns = ctx.describe(relation)
        payload: dict[str, Any] = {"columns": list(columns.items())}
        if self.anchor_column is None:
            payload |= self._read_content(info, columns, ctx)
        else:
            payload["found"] = self._read_largest(relation, columns)
        after = self._stats()
        if without_log_times(after) != without_log_times(stats):
            return None
        payload["stats"] = _serialized_stats(after)
        ctx.cache.put(key, CacheEntry(after[0] or NO_STAT, ctx.now_ns, payload))
        return self._snapshot(payload, after, Cost.SCAN)

    def _read_content(
        self, info: FileTable, columns: Mapping[str, str], ctx: ObservationContext
    ) -> dict[str, Any]:
        content = self.digest_table(info, ctx)
        pairs = list(content.by_column.items())
        return {
            "content": digest_of([pairs, content.rows]),
            # Per-column digests are only usable when the engine and DuckDB agree on the columns.
            "by_column": pairs if list(content.by_column) == list(columns) else None,
            "rows": content.rows,
        }

    def _read_largest(self, relation: Relation, columns: Mapping[str, str]) -> list[Any]:
        """The largest value of the column of the anchor, and the row count. Raises
        SourceUnavailable."""
        select = self._select_largest(columns, "it")
        try:
            return list(scratch_duckdb.query(relation, select)[0])
        except duckdb.Error as error:
            raise self._read_error(str(error)) from None

    def _read_error(self, message: str) -> JammiError:
        """The error for a DuckDB message, also an unknown one."""
        return self.explain(message) or read_errors.unexplained_error(self._name, message)

    def ask_reader(self, seconds: float | None = None, **request: Any) -> dict[str, Any]:
        """The answer of the reader process. Raises SourceUnavailable."""
        try:
            return reader_process.request(request, seconds)
        except ReaderError as error:
            names = {"name": self._name, "engine": self.engine}
            explained = foreign_errors.to_error("reader", error.kind, **names)
            unexplained = SourceUnavailable(f"{self._name} cannot be read: {error}.")
            raise explained or unexplained from None

    def _snapshot(self, payload: Mapping[str, Any], stats: Stats, cost: Cost) -> Snapshot:
        columns, stamp = dict(payload["columns"]), self._change_token(stats)
        if self.anchor_column is not None:
            return self._column_snapshot(columns, payload["found"], cost, stamp=stamp)
        return Snapshot(
            columns=columns,
            whole=payload["content"],
            method=METHOD,
            cost=cost,
            by_column=dict(payload["by_column"]) if payload["by_column"] is not None else None,
            row_count=payload["rows"],
            stamp=stamp,
        )

    def _change_token(self, stats: Stats) -> str:
        return digest_of([route_of(self.path), _serialized_stats(without_log_times(stats))])

    def _table_key(self, table: str | None) -> str:
        options = digest_of([self.record.options, duckdb.__version__, self.context.time_zone])
        return observation_key(
            self.record.anchor, f"{self.kind}-table", self.path, fold(table or ""), options
        )


_cached_reads = BoundedCache[tuple[str, str, str, str, Stats], Any](_MAX_CACHED_READS)
"""What was read of files, by file, options and stats."""


def stats_are_settled(
    stats: Stats, at_ns: int | None = None, racy_seconds: float = CLOCK_SECONDS
) -> bool:
    """Whether any write later than a moment, by default now, is sure to change the stats."""
    at_ns = time.time_ns() if at_ns is None else at_ns
    return all(stat is None or is_settled(stat, at_ns, racy_seconds) for stat in stats)


def _proves_bytes(entry: CacheEntry, stats: Stats, ctx: ObservationContext) -> bool:
    return entry.payload["stats"] == _serialized_stats(stats) and stats_are_settled(
        stats, entry.observed_at_ns, ctx.racy_seconds
    )


def without_log_times(stats: Stats) -> Stats:
    """The stats without the ctime of logs, which merely opening a log may change."""
    main, *logs = stats
    return (
        main,
        *(
            None if log is None else Stat(log.size, log.mtime_ns, 0, log.inode, log.device)
            for log in logs
        ),
    )


def _serialized_stats(stats: Stats) -> list[Any]:
    return [None if stat is None else stat.to_dict() for stat in stats]


def _total_bytes(stats: Stats) -> int:
    return sum(stat.size for stat in stats if stat is not None)


def _display_names(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "no tables"


def plain_text(column: str) -> str:
    """A quoted column of texts without its collation, to which COLLATE would give another one that
    cannot be compared with a collation in a statement; reading fails for a text that is not UTF-8,
    which the scanner of SQLite does not check."""
    return f"decode(encode({column})) AS {column}"
