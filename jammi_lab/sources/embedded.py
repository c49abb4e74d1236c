"""What a database in one file is to a workspace, whatever engine wrote it: where it is, what lies inside, and which state each table is in.

The state of a table is a digest for each column over its values in the order of the rows. The file's stat (with that of its log) says for nothing
that they are the same; the digest of the bytes says it for the price of reading the file; only then are the rows read.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from jammi_lab.canonical import digest_of
from jammi_lab.errors import InvalidArgument, JammiError, SourceUnavailable, TableNotFound
from jammi_lab.names import fold, near
from jammi_lab.sources import failures, outside_process
from jammi_lab.sources.base import Looking, Relation
from jammi_lab.sources.locations import Located, full_location, literal_path, refuse_own, shown
from jammi_lab.sources.outside_process import ChildFailed
from jammi_lab.storage.digests import MemoEntry
from jammi_lab.storage.files import Stat, settled, stat_of
from jammi_lab.values.anchors import Cost, Input, InputKind, Observed, Snapshot, Unknown, Vanished
from jammi_lab.values.records import SourceRecord

_TRIES = 3
_MOST_KNOWN = 64
METHOD = "digest of the columns"

Stats = tuple[Stat | None, ...]
"""Of the file and of what lies beside it; None for what is not there."""


@dataclass(frozen=True, slots=True)
class Inside:
    """A table or view in the file."""

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    """Names and types as the file declares them."""
    view: bool = False
    why: str = ""
    """Why it cannot be read; such a one is not listed."""

    @property
    def label(self) -> str:
        """As it is listed: the default schema is left out."""
        return self.name if self.schema == "main" else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Content:
    """What reading a table gave."""

    by_column: Mapping[str, str]
    rows: int


class Failed(Exception):
    """The file cannot be read; carries what to tell."""

    def __init__(self, error: JammiError) -> None:
        super().__init__(error.message)
        self.error = error


class EmbeddedConnector(Located, ABC):
    """A registered database file. `record.location` is what `locations.store_location` gave; `folder` is the workspace's, None without one."""

    engine = ""
    """The engine's name, for people."""
    beside: tuple[str, ...] = ()
    """Endings of the files that belong to its state."""

    def __init__(self, record: SourceRecord, folder: Path | None = None) -> None:
        self.record = record
        self.folder = folder
        pattern = full_location(record.location, folder)
        path = literal_path(pattern)
        if path is None:
            raise InvalidArgument(f"{shown(pattern)!r} names several files; an {self.engine} source is one.", hint="Add each file by its own name.")
        self.path = path

    # -- what each engine does in its own way ---------------------------------------------------------------------------------------------

    @abstractmethod
    def inside(self) -> list[Inside]:
        """All tables and views, read from the file. Failed."""

    @abstractmethod
    def reading(self, inside: Inside) -> Relation:
        """What SQL reads of one of them; its input is put in by the caller. SourceUnavailable, ExtensionMissing."""

    @abstractmethod
    def content(self, inside: Inside, looking: Looking) -> Content:
        """A digest of each column. Failed."""

    @abstractmethod
    def largest(self, inside: Inside, column: str, looking: Looking) -> tuple[str | None, int]:
        """The largest value of a column as text, and the number of rows. Failed."""

    @abstractmethod
    def ready(self) -> None:
        """Nothing, when all that reading needs is installed. ExtensionMissing."""

    # -- what every connector does --------------------------------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """The tables and views that can be read, by name. SourceUnavailable."""
        return [each.label for each in self._survey() if not each.why]

    def find(self, parts: Sequence[str]) -> str | None:
        """The table that `table` or `schema.table` means, as it is listed; None when there is none. The default schema can be named, too."""
        there = [each for each in self._survey() if not each.why]
        for told in (str, fold):
            wanted = tuple(map(told, parts))
            by_schema = [each.label for each in there if (told(each.schema), told(each.name)) == wanted]
            if meant := by_schema or [each.label for each in there if told(each.label) == ".".join(wanted)]:
                return meant[0]
        return None

    def check(self) -> None:
        """Nothing, when the file is a database that can be read. SourceUnavailable; ExtensionMissing; InvalidArgument for files of the workspace
        itself and for an anchor on a column that no table has."""
        self.ready()
        there = [each for each in self._survey() if not each.why]
        if self.record.anchor.startswith("column:"):
            wanted = self.record.anchor.removeprefix("column:")
            names = [column for each in there for column, _ in each.columns]
            if wanted not in names:
                hint = f"Columns are {', '.join(dict.fromkeys(names))}." if names else "The file holds no table."
                raise InvalidArgument(f"There is no column {wanted!r} to anchor on.", near=near(wanted, names), hint=hint)

    def relation(self, table: str | None) -> Relation:
        """What SQL reads. SourceUnavailable, TableNotFound, ExtensionMissing, InvalidArgument for files of the workspace itself."""
        found = self._find(table)
        if found.why:
            raise TableNotFound(f"{found.label!r} in {self._name} cannot be read: {found.why}.", hint="Read the tables behind it.")
        made = self.reading(found)
        return Relation(
            Input(InputKind.SOURCE, self.record.name, found.label),
            body=made.body,
            extensions=made.extensions,
            attachment=made.attachment,
            explain=self.explain,
        )

    def observe(self, table: str | None, looking: Looking) -> Observed:
        """A Snapshot by column; Vanished when the file or the table is gone; Unknown when that cannot be told, or costs more than the look allows."""
        if self.record.anchor == "none":
            return Unknown('its owner chose anchor="none"')
        see = self._by_column if self.record.anchor.startswith("column:") else self._by_content
        try:
            for _ in range(_TRIES):
                before = self._stats()
                if before[0] is None:
                    return Vanished()
                if (seen := see(table, before, looking)) is not None:
                    return seen
        except Failed as error:
            return Unknown(error.error.message.rstrip("."))
        except (JammiError, OSError, duckdb.Error, pa.ArrowException) as error:
            return Unknown(failures.why(error))
        return Unknown(f"{self._name} changes while it is looked at")

    def explain(self, said: str) -> JammiError | None:  # noqa: ARG002  engines that say more override it
        """Our words for what DuckDB said while it read the file, where they are known."""
        return None

    # -- the file -------------------------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return failures.tidy(self.path)

    @property
    def logs(self) -> list[str]:
        """Where its logs are: both engines follow a link to the file, and keep them beside the file itself."""
        real = os.path.realpath(self.path)
        return [real + ending for ending in self.beside]

    def _stats(self) -> Stats:
        """An empty log says as much as none: a reader, too, makes one and takes it away."""
        logs = map(stat_of, self.logs)
        return (stat_of(self.path), *(log if log is not None and log.size else None for log in logs))

    def _survey(self) -> list[Inside]:
        """What is inside: read again unless the stat proves that nothing was written. SourceUnavailable, InvalidArgument."""
        refuse_own(self.path, self.folder)
        try:
            stats = self._stats()
        except OSError as error:
            raise failures.unreadable(self._name, error) from None
        if stats[0] is None:
            raise failures.missing(full_location(self.record.location, self.folder))
        key = (self.kind, self.path, digest_of(self.record.options), stats)
        if (known := _surveys.get(key)) is not None:
            return known
        try:
            found = self.inside()
        except Failed as error:
            raise error.error from None
        if old(stats):
            _surveys[key] = found
            while len(_surveys) > _MOST_KNOWN:
                _surveys.pop(next(iter(_surveys)), None)
        return found

    def _find(self, table: str | None) -> Inside:
        there = self._survey()
        readable = [each.label for each in there if not each.why]
        if table is None:
            raise TableNotFound(
                f"{self.record.name!r} holds tables and is none itself.", near=[f"{self.record.name}.{each}" for each in readable[:5]]
            )
        found = next((each for each in there if each.label == table), None) or next((e for e in there if fold(e.label) == fold(table)), None)
        if found is None:
            raise TableNotFound(
                f"There is no table {table!r} in {self.record.name}.", near=near(table, readable), hint=f"It holds {_listed(readable)}."
            )
        return found

    # -- its state ------------------------------------------------------------------------------------------------------------------------

    def _by_content(self, table: str | None, stats: Stats, looking: Looking) -> Observed | None:
        """The state of the columns; None when the file was written meanwhile."""
        force = self.record.anchor == "content"
        file = looking.memo.get(self._file_key)
        kept = looking.memo.get(self._table_key(table))
        if not force and file is not None and kept is not None and _proved(file, stats, looking) and kept.payload["of"] == file.payload["whole"]:
            return self._snapshot(kept.payload, stats, Cost.FREE)
        size = sum(stat.size for stat in stats if stat is not None)
        if looking.scan_bytes is not None and size > looking.scan_bytes:
            return Unknown(f'would scan {size:,} bytes; `ws.status(deep=True)` or `anchor="column:…"`')
        refuse_own(self.path, self.folder)
        whole = self._digest(looking)
        if not force and kept is not None and kept.payload["of"] == whole and kept.payload["settled"]:
            if self._stats() != stats:
                return None
            self._keep(whole, stats, looking)
            return self._snapshot(kept.payload, stats, Cost.SCAN)
        try:
            found = self._find(table)
        except TableNotFound:
            return Vanished()
        # counting them would be reading them: so many as there were when it was last read
        if looking.scan_rows is not None and kept is not None and (rows := kept.payload["rows"]) > looking.scan_rows:
            return Unknown(f'would scan about {rows:,} rows; `ws.status(deep=True)` or `anchor="column:…"`')
        if found.why:
            return Unknown(f"{found.label} cannot be read: {found.why}")
        columns = looking.describe(self.relation(found.label))
        seen = self.content(found, looking)
        by_column = list(seen.by_column.items()) if list(seen.by_column) == list(columns) else None
        payload = {
            "of": whole,
            "settled": _all_settled(without_log_times(stats), looking.now_ns, looking.racy_seconds),
            "columns": [[name, kind] for name, kind in columns.items()],
            "content": digest_of([list(seen.by_column.items()), seen.rows]),
            "by_column": by_column,
            "rows": seen.rows,
        }
        if (after := self._unmoved(stats, whole, looking)) is None:
            return None
        self._keep(whole, after, looking)
        looking.memo.put(self._table_key(table), MemoEntry(_first(stats), looking.now_ns, payload))
        return self._snapshot(payload, stats, Cost.SCAN)

    def _unmoved(self, before: Stats, whole: str, looking: Looking) -> Stats | None:
        """The stats of now, when nobody has written since; None when somebody has. Whoever opens an SQLite log as root moves its ctime by that alone,
        so then the bytes decide."""
        after = self._stats()
        same = after == before or (without_log_times(after) == without_log_times(before) and self._digest(looking) == whole)
        return after if same else None

    def _digest(self, looking: Looking) -> str:
        try:
            return outside_process.digest([self.path, *self.logs], looking.timeout_seconds)
        except ChildFailed as error:
            raise Failed(self.said(error)) from None

    def said(self, error: ChildFailed) -> JammiError:
        """Our words for why the child could not read the file."""
        match error.kind:
            case "denied":
                return failures.unreadable(self._name, PermissionError())
            case "gone":
                return SourceUnavailable(f"{self._name} is gone.", hint="Put the file back, or remove the source.")
            case "busy":
                return SourceUnavailable(f"{self._name} is being written by somebody else.", hint="Try again when its owner is done.")
            case "unfinished":
                return SourceUnavailable(
                    f"{self._name} holds a transaction that its writer did not finish.",
                    hint="Open it once with a program that may write: it rolls back.",
                )
            case "notadb":
                return SourceUnavailable(f"{self._name} is not a whole {self.engine} database.", hint="It may be torn, or of another kind.")
        return SourceUnavailable(f"{self._name} cannot be read: {error}.")

    def _keep(self, whole: str, stats: Stats, looking: Looking) -> None:
        payload = {"whole": whole, "stats": _plain(stats)}
        looking.memo.put(self._file_key, MemoEntry(_first(stats), looking.now_ns, payload))

    def _snapshot(self, payload: Mapping[str, Any], stats: Stats, cost: Cost) -> Snapshot:
        return Snapshot(
            columns=dict(payload["columns"]),
            whole=payload["content"],
            method=METHOD,
            cost=cost,
            by_column=dict(payload["by_column"]) if payload["by_column"] is not None else None,
            row_count=payload["rows"],
            stamp=digest_of(_plain(without_log_times(stats))),
        )

    def _by_column(self, table: str | None, stats: Stats, looking: Looking) -> Observed | None:
        """The state on the owner's word: the largest value of one column, and the number of rows; None when the file was written meanwhile."""
        key = f"{self.record.anchor}:{self._table_key(table)}"
        kept = looking.memo.get(key)
        if kept is None or kept.payload["stats"] != _plain(stats) or not _all_settled(stats, kept.observed_at_ns, looking.racy_seconds):
            try:
                found = self._find(table)
            except TableNotFound:
                return Vanished()
            name = self.record.anchor.removeprefix("column:")
            if name not in dict(found.columns):
                return Unknown(f"there is no column {name!r} in {found.label} to anchor on")
            columns = looking.describe(self.relation(found.label))
            payload = {"stats": _plain(stats), "columns": list(columns.items()), "found": list(self.largest(found, name, looking))}
            if without_log_times(self._stats()) != without_log_times(stats):
                return None
            kept, cost = MemoEntry(_first(stats), looking.now_ns, payload), Cost.SCAN
            looking.memo.put(key, kept)
        else:
            cost = Cost.FREE
        found_ = kept.payload["found"]
        return Snapshot(
            columns=dict(kept.payload["columns"]),
            whole=digest_of(found_),
            method=self.record.anchor,
            cost=cost,
            row_count=found_[1],
            stamp=digest_of(_plain(without_log_times(stats))),
        )

    @property
    def _file_key(self) -> str:
        return f"{self.kind}-file:{self.path}"

    def _table_key(self, table: str | None) -> str:
        return f"{self.kind}-table:{self.path}:{fold(table or '')}:{digest_of([self.record.options, duckdb.__version__])}"


_surveys: dict[tuple[str, str, str, Stats], list[Inside]] = {}
"""What is inside a file, while its stat proves it."""
_OLD_SECONDS = 2.0


def old(stats: Stats) -> bool:
    """Whether whoever writes from now on moves the stat."""
    return _all_settled(stats, time.time_ns(), _OLD_SECONDS)


def _proved(entry: MemoEntry, stats: Stats, looking: Looking) -> bool:
    return entry.payload["stats"] == _plain(stats) and _all_settled(stats, entry.observed_at_ns, looking.racy_seconds)


def _all_settled(stats: Stats, observed_at_ns: int, racy_seconds: float) -> bool:
    return all(stat is None or settled(stat, observed_at_ns, racy_seconds) for stat in stats)


def without_log_times(stats: Stats) -> Stats:
    """The stats without what opening a log, and not only writing to it, may move."""
    main, *logs = stats
    return (main, *(None if log is None else Stat(log.size, log.mtime_ns, 0, log.inode) for log in logs))


def _plain(stats: Stats) -> list[Any]:
    return [None if stat is None else stat.to_dict() for stat in stats]


def _first(stats: Stats) -> Stat:
    return stats[0] or Stat(0, 0, 0, 0)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "no table"
