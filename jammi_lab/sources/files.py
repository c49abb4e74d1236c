"""Files as sources: one file, a glob or a folder, of this machine, on an object store, or one file behind http."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
from msgspec.structs import replace

from jammi_lab.errors import InvalidArgument, JammiError, SchemaMismatch, SourceUnavailable, TableNotFound
from jammi_lab.names import near, quote, written
from jammi_lab.sources import arrow_files, failures, footers, scratch, sightings
from jammi_lab.sources.base import Given, Looking, Relation, nothing_given
from jammi_lab.sources.entrance import entrance
from jammi_lab.sources.locations import Located, full_location, refuse_own
from jammi_lab.sources.places import Item, Place
from jammi_lab.sources.reading import begins_wide, holds, select_from, wrong_line
from jammi_lab.sources.remote import place_of
from jammi_lab.sources.secrets import Given as Secret
from jammi_lab.values.anchors import Cost, Input, InputKind, Observed, Snapshot, Unknown, Vanished
from jammi_lab.values.records import SourceRecord

_TRIES = 3
_PREVIEW = 1000
_OUTSIDE = (JammiError, OSError, duckdb.Error, pa.ArrowException)
"""All that the outside can do to a read."""
_CONTENT = (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.BinderException)
"""What DuckDB raises for text that is not of its kind, whoever reads it and whenever."""


class FileConnector(Located):
    """A registered source of files. `record.location` is what `locations.store_location` gave; `folder` is the workspace's, None without one."""

    def __init__(self, record: SourceRecord, folder: Path | None = None, given: Given = nothing_given) -> None:
        self.record = record
        self.folder = folder
        self.pattern = full_location(record.location, folder)
        self._given = given

    @functools.cached_property
    def place(self) -> Place:
        """Where the files are. ExtensionMissing, SecretMissing."""
        return place_of(self.pattern, entrance(self.record, self._given))

    def tables(self) -> list[str]:
        """Empty: the files together are one table."""
        return []

    def check(self) -> None:
        """Nothing, when the files are there and their first rows can be read. SourceUnavailable; InvalidArgument for files of the workspace itself
        and for an anchor on a column that is not there."""
        items = self._items()
        try:
            self._check_ends(items)
            relation = self._relation(items)
            columns = scratch.describe(relation)
            scratch.preview(relation, _PREVIEW)
        except OSError as error:
            raise failures.unreadable(self._blamed(error), error) from None
        except SchemaMismatch as error:
            raise SourceUnavailable(error.message, hint=error.hint) from None
        except duckdb.Error as error:
            raise self._said(str(error), items) from None
        anchor = self.record.anchor
        if anchor.startswith("column:") and (name := anchor.removeprefix("column:")) not in columns:
            raise InvalidArgument(f"There is no column {name!r} to anchor on.", near=near(name, columns), hint=f"Columns are {', '.join(columns)}.")

    def relation(self, table: str | None) -> Relation:
        """What SQL reads. SourceUnavailable, TableNotFound for a table inside it, InvalidArgument for files of the workspace itself."""
        if table is not None:
            raise TableNotFound(f"{self.record.name!r} is one table and holds no table {table!r}.", hint=f"Say FROM {written(self.record.name)}.")
        items = self._items()
        try:
            return self._relation(items)
        except OSError as error:
            raise failures.unreadable(self._blamed(error), error) from None
        except SchemaMismatch as error:
            raise SourceUnavailable(error.message, hint=error.hint) from None

    def observe(self, table: str | None, looking: Looking) -> Observed:
        """A Snapshot; Vanished when no file is there; Unknown when that cannot be told, or costs more than the look allows."""
        if table is not None:
            return Vanished()
        if self.record.anchor == "none":
            return Unknown('its owner chose anchor="none"')
        see = self._by_column if self.record.anchor.startswith("column:") else self._by_content
        for _ in range(_TRIES):
            try:
                items = self.place.items(self.kind)
            except (FileNotFoundError, NotADirectoryError):
                return Vanished()
            except OSError as error:
                self._told_of(error)
                return Unknown(failures.why(error))
            try:
                seen = see(items, looking)
                if isinstance(seen, Unknown) or seen.cost is Cost.FREE or self.place.items(self.kind) == items:
                    return seen if self.place.local or isinstance(seen, Unknown) or seen.cost is not Cost.FREE else replace(seen, cost=Cost.METADATA)
            except FileNotFoundError:
                continue  # one of several went while they were read: look again at what is left
            except _OUTSIDE as error:
                return Unknown(self._doubt(error, items))
        return Unknown("its files change while they are looked at")

    def _items(self) -> list[Item]:
        try:
            items = self.place.items(self.kind)
        except (FileNotFoundError, NotADirectoryError):
            raise failures.missing(self.pattern) from None
        except OSError as error:
            raise failures.unreadable(self._blamed(error), error) from None
        self._refuse_own(items)
        return items

    def _blamed(self, error: OSError) -> str:
        """What an error is about, for people; a credential that was refused is asked for again."""
        self._told_of(error)
        return os.path.basename(str(error.filename)) if error.filename and self.place.local else self.location

    def _told_of(self, error: OSError) -> None:
        if isinstance(error, PermissionError) and isinstance(self._given, Secret) and not self.place.local:
            self._given.refused()

    def _refuse_own(self, items: list[Item]) -> None:
        if self.place.local:
            for item in items:
                refuse_own(item.path, self.folder)

    def _relation(self, items: list[Item]) -> Relation:
        named, columns = Input(InputKind.SOURCE, self.record.name), sightings.known_columns(self.record, items)
        if columns is None and self.place.local:  # a statement asks no store for the end of each file
            self._check_ends(items)
        if self.kind == "arrow":
            try:
                rows = arrow_files.read_tables(self.place, items)
            except pa.ArrowException:
                raise failures.not_arrow(self._torn(items, lambda item: arrow_files.read_table(self.place, item))) from None
            return Relation(named, frame=rows, columns=scratch.sql_types(rows.schema))
        held = self._held(items)
        reading = self.place.reading(held)
        return Relation(
            named,
            body=select_from(self.kind, self.place, held, reading.addresses, self.record.options),
            columns=columns,
            filesystem=reading.filesystem,
            scoped=reading.scoped,
            explain=lambda text: self._explained(text, list(zip(held, reading.addresses, strict=True))),
        )

    def _held(self, items: list[Item]) -> list[Item]:
        """The files that hold anything: an empty text file says nothing of columns, and DuckDB would make one up. SourceUnavailable when none does,
        and for a packed one that is torn."""
        if self.kind == "parquet":
            return items
        held = [item for item in items if holds(self.place, item)]
        if not held:
            raise failures.empty(self.location, self.kind)
        return held

    def _by_content(self, items: list[Item], looking: Looking) -> Snapshot | Unknown:
        force = self.record.anchor == "content"
        if not force and (said := sightings.told(self.place, items)) is not None:
            return self._seen(items, list(zip(items, said, strict=True)), looking, read=False)
        known = [sightings.remembered(self.place, item, self.kind, looking, force) for item in items]
        unread = sum(item.stat.size for item, seen in zip(items, known, strict=True) if seen is None)
        if looking.scan_bytes is not None and unread > looking.scan_bytes:
            return Unknown(f'would scan {unread:,} bytes; `ws.status(deep=True)` or `anchor="column:…"`')
        self._refuse_own([item for item, seen in zip(items, known, strict=True) if seen is None])
        found = [seen or sightings.read(self.place, item, self.kind, looking) for item, seen in zip(items, known, strict=True)]
        files = list(zip(items, found, strict=True))
        return self._seen(items, files, looking, read=any(seen is None for seen in known))

    def _seen(self, items: list[Item], files: sightings.Files, looking: Looking, *, read: bool) -> Snapshot:
        whole = sightings.whole_digest(self.kind, self.record.options, files)
        try:
            columns, described = sightings.columns_of(self.record, whole, looking, lambda: self._describe(items, looking))
        except _OUTSIDE:
            if (fault := self._fault(items)) is None:
                raise
            return sightings.unreadable(whole, files, fault)
        sightings.know_columns(self.record, items, columns, looking)
        cost = Cost.SCAN if read else Cost.METADATA if described else Cost.FREE
        return sightings.snapshot(whole, files, columns, cost)

    def _fault(self, items: list[Item]) -> str | None:
        """What it is in the content of text files that keeps rows from being read; None when it is anything else, and for files by column. The bytes
        were just digested, so that a change of them is known all the same."""
        if self.kind in ("parquet", "arrow"):
            return None
        try:
            self._held(items)
        except SourceUnavailable as error:
            return self._doubt(error, items)
        except OSError:
            return None
        try:
            scratch.describe(self._relation(items))
        except _CONTENT as error:
            return self._doubt(error, items)
        except _OUTSIDE:
            return None
        return None

    def _by_column(self, items: list[Item], looking: Looking) -> Snapshot | Unknown:
        if (kept := sightings.kept_column(self.record, items, looking)) is not None:
            return kept
        self._refuse_own(items)  # a link may lead there only since it was added
        name = self.record.anchor.removeprefix("column:")
        relation = self._relation(items)
        columns = self._describe(items, looking)
        if name not in columns:
            return Unknown(f"there is no column {name!r} to anchor on")
        select = f"SELECT max({quote(name)})::VARCHAR, count(*) FROM "
        if relation.body is None or not self.place.local or looking.query is None:
            [(largest, rows)] = scratch.ask(relation, f"{select} it")
        else:
            [(largest, rows)] = looking.query(f"{select} ({relation.body})")
        return sightings.column_snapshot(self.record, items, columns, (largest, rows), looking)

    def _describe(self, items: list[Item], looking: Looking) -> dict[str, str]:
        self._check_ends(items)
        relation = self._relation(items)
        if relation.columns is not None and relation.frame is not None:
            return dict(relation.columns)
        if relation.body is None or not self.place.local:
            return scratch.describe(relation)
        return looking.describe(relation)

    def _check_ends(self, items: list[Item]) -> None:
        if self.kind == "parquet":
            footers.check(self.place, items)

    def _torn(self, items: list[Item], read: Callable[[Item], object]) -> str:
        for item in items:
            try:
                read(item)
            except (pa.ArrowException, duckdb.Error):
                return os.path.basename(item.path)
        return self.location

    def _said(self, text: str, items: list[Item]) -> SourceUnavailable:
        """DuckDB's complaint in our words; where its sniffer gave up, the line is looked for, and among several damaged files the first one."""
        if self.kind == "parquet" and failures.is_damage(text):
            return failures.damaged(self._torn(items, lambda item: scratch.preview(self._relation([item]), _PREVIEW)) if items[1:] else items[0].path)
        said = self._wide(items) or self._wrong_line(text, items) or failures.read_failure(text)
        return (
            said if said is not None else SourceUnavailable(f"{self.location} cannot be read: {text.splitlines()[0].split(': ', 1)[-1].rstrip('.')}.")
        )

    def _wide(self, items: list[Item]) -> SourceUnavailable | None:
        """That a text file which cannot be read as it is begins with the mark of UTF-16, which the errors about its lines do not tell."""
        if self.kind in ("parquet", "arrow") or "encoding" in self.record.options:
            return None
        with contextlib.suppress(OSError):
            wide = next((item for item in items if begins_wide(self.place, item)), None)
            return failures.wide(os.path.basename(wide.path), self.kind) if wide is not None else None
        return None

    def _wrong_line(self, text: str, items: list[Item]) -> SourceUnavailable | None:
        """Which line it was that DuckDB's sniffer gave up on; None when it is not found, or the text is about something else."""
        late = "state machine reached an invalid state" in text  # beyond the lines that were sniffed, and nothing says where
        if self.kind not in ("csv", "tsv") or not (late or "when sniffing file" in text):
            return None
        most = sys.maxsize if late else 20_000
        return next((said for item in items if (said := wrong_line(self.kind, self.place, item, self.record.options, most)) is not None), None)

    def _explained(self, text: str, files: list[tuple[Item, str]]) -> SourceUnavailable | None:
        """DuckDB's complaint about a run, when it is about these files, which it knows by these addresses: a value of another type, a ragged line,
        a file unlike the others, a server that is gone."""
        remote = None if self.place.local else failures.remote_failure(self.location, text)
        if (said := remote or failures.value_failure(text)) is not None:
            return said
        meant = [item for item, address in files if address in text]
        with contextlib.suppress(OSError):
            return self._wrong_line(text, meant) or (failures.unlike(text) if meant else None)
        return None

    def _doubt(self, error: BaseException, items: list[Item]) -> str:
        if isinstance(error, duckdb.Error):
            return self._said(str(error), items).message.rstrip(".")
        if isinstance(error, pa.ArrowException):
            what = "Arrow or Feather" if self.kind == "arrow" else "Parquet"
            return f"{os.path.basename(self.location)} is not a whole {what} file"
        return failures.why(error)
