"""Sources as people hold them: `ws.sources` and what it gives."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from jammi_lab import forms
from jammi_lab.engine.waiting import waited
from jammi_lab.errors import InvalidArgument, JammiError, SourceExists, SourceUnavailable, TableNotFound, WorkspaceReadOnly
from jammi_lab.markup import Form, Shown
from jammi_lab.names import check_source_name, fold, near, quote
from jammi_lab.observing.look import Look
from jammi_lab.observing.seen import LastSeen, Seen
from jammi_lab.sources.base import Connector, Finder
from jammi_lab.sources.entrance import entrance, place_options, taken_out
from jammi_lab.sources.frames import is_frame
from jammi_lab.sources.kinds import check_anchor, check_options, mapped
from jammi_lab.sources.locations import refuse_own_location, scheme_of, shown, store_location
from jammi_lab.sources.registry import infer_kind
from jammi_lab.sources.secrets import TYPED, Given, Secret, check_secret
from jammi_lab.values.anchors import Anchor, Input, InputKind, Snapshot, Unknown, Vanished, unpinned
from jammi_lab.values.base import Value
from jammi_lab.values.records import SourceRecord
from jammi_lab.wiring import Rooms

if TYPE_CHECKING:
    import pyarrow as pa


Names = list[str]
T = TypeVar("T")
_ABSENT = "absent: not in this kernel"
_NAMED = 5
"""Tables inside a source that are named where it is shown."""


class Column(Value, frozen=True):
    """A column of a source."""

    name: str
    """Its name."""
    type: str
    """Its SQL type."""


class Source(Shown):
    """A registered source."""

    def __init__(self, rooms: Rooms, record: SourceRecord) -> None:
        self._rooms, self._record = rooms, record

    @property
    def name(self) -> str:
        """Its registered name, which is its SQL name."""
        return self._record.name

    @property
    def kind(self) -> str:
        """parquet, csv, frame …"""
        return self._record.kind

    @property
    def location(self) -> str:
        """Where it is, without credentials."""
        return shown(self._record.location)

    @property
    def tenant(self) -> str | None:
        """Whose it is; None is shared."""
        return self._record.tenant

    @property
    def tenant_column(self) -> str | None:
        """The column that says whose a row is; None when all rows are everybody's."""
        return self._record.tenant_column

    @property
    def last_seen(self) -> Seen | None:
        """What the last look found, from what is remembered: nothing is asked or read for it. None when nobody looked yet."""
        return LastSeen(self._rooms.memo).last(self._record)

    def tables(self) -> list[str]:
        """The tables inside it; its own name when it is one table."""
        inside = self._connector().tables()
        LastSeen(self._rooms.memo).found(self._record, inside, self._rooms.clock.now_ns())
        return inside or [self.name]

    def columns(self, table: str | None = None) -> list[Column]:
        """Names and SQL types. SourceUnavailable; TableNotFound."""
        [prepared] = self._rooms.engine.prepare(f"SELECT * FROM {self._address(table)}", None, tenant=self._rooms.scope.current)
        return [Column(name, kind) for name, kind in prepared.output]

    def preview(self, n: int = 20, table: str | None = None) -> "pa.Table":
        """The first `n` rows as an Arrow table, of one of its tables where it holds several. SourceUnavailable; TableNotFound."""
        if not isinstance(n, int) or n < 0:
            raise InvalidArgument(f"A preview has a whole number of rows, not {n!r}.")
        [prepared] = self._rooms.engine.prepare(f"SELECT * FROM {self._address(table)} LIMIT {n}", None, tenant=self._rooms.scope.current)
        return prepared.run().table()

    def anchor(self, table: str | None = None, columns: list[str] | None = None) -> Anchor | list[Anchor]:
        """Its state now, over the given columns or all; a list, one for each table, when it holds several and none is named.

        An anchor of kind `unpinned_at_instant` says why it cannot be told.
        """
        if table is None and len(tables := self._connector().tables()) > 1:
            look = self._rooms.look(True)
            seen = [self._anchor(look, each, columns) for each in tables]
        else:
            look = self._rooms.look(True)
            seen = [self._anchor(look, self._table(table), columns)]
        look.close()
        return seen if table is None and len(seen) > 1 else seen[0]

    def _anchor(self, look: Look, table: str | None, columns: list[str] | None) -> Anchor:
        kind = InputKind.FRAME if self.kind == "frame" else InputKind.SOURCE
        what = Input(kind=kind, name=self.name, table=table, columns=tuple(sorted(columns or ())))
        seen = look.observe(what, self._rooms.scope.current, everything=columns is None)
        match seen:
            case Snapshot():
                if not seen.fault and (missing := [c for c in columns or () if c not in seen.columns]):
                    raise TableNotFound(f"{self.name} has no column {missing[0]!r}.", near=near(missing[0], seen.columns))
                return seen.anchor(what, tuple(columns) if columns is not None else None)
            case Vanished():
                raise SourceUnavailable(f"The source {self.name!r} is not there any more: {self.location}.")
            case Unknown(why):
                return unpinned(what, look.instant, why)

    def _connector(self) -> Connector:
        return self._rooms.outside.connector(self._record)

    def _table(self, table: str | None) -> str | None:
        """The table inside that is meant, as the source spells it; the only one when none is named. TableNotFound, with near names."""
        connector = self._connector()
        tables = connector.tables()
        if not tables:
            if table is not None and fold(table) != fold(self.name):
                raise TableNotFound(f"{self.name} is one table; it has no table {table!r} inside.", near=[self.name])
            return None
        if table is None:
            if len(tables) > 1:
                raise TableNotFound(f"{self.name} holds several tables.", near=tables[:3], hint=f"Say which: table={tables[0]!r}.")
            return tables[0]
        same = next((t for t in tables if t == table), None) or next((t for t in tables if fold(t) == fold(table)), None)
        if same is None and isinstance(connector, Finder):
            same = connector.find(table.split("."))
        if same is None:
            raise TableNotFound(f"There is no table {table} in {self.name}.", near=near(table, tables))
        return same

    def _address(self, table: str | None) -> str:
        inner = self._table(table)
        return quote(self.name) + (f".{quote(inner)}" if inner else "")

    def _at_hand(self) -> bool:
        """Whether it can be looked at here: a frame lives with the kernel that registered it."""
        return self.kind != "frame" or self._rooms.outside.held(self._record) is not None

    def _line(self) -> tuple[str, str, str, str, str, str]:
        """What a list tells of it, from what is known: nothing is asked or read for it."""
        record, known = self._record, LastSeen(self._rooms.memo)
        names, seen = _named(known.tables(record)), known.last(record) if self._at_hand() else _ABSENT
        anchor = record.anchor if record.tenant_column is None else f"{record.anchor}, rows by {record.tenant_column}"
        return record.name, record.kind, _from_here(shown(record.location)), names, anchor, str(seen or "")

    def _form(self) -> Form:
        inside, seen = LastSeen(self._rooms.memo).tables(self._record), self.last_seen
        columns: dict[str, str] = {}
        if inside is None or inside[1] == 1:
            with contextlib.suppress(JammiError):
                columns = {c.name: c.type for c in self.columns()}
        named, place = [("", columns)] if columns else [], _from_here(self.location)
        seen_now = str(seen or "") if self._at_hand() else f"{_ABSENT}: ws.sources.add({self.name!r}, frame, replace=True) brings it back"
        return forms.source(self.name, self.kind, place, self._record.anchor, named, seen_now, _named(inside))


class SourceList(list[Source], Shown):
    """Sources, one line each when they are shown."""

    __repr__ = Shown.__repr__

    def _form(self) -> Form:
        return forms.sources(source._line() for source in self)


class Sources(Shown):
    """The sources of a workspace: `ws.sources["papers"]`, iteration over names, `in`."""

    def __init__(self, rooms: Rooms, folder: Path | None) -> None:
        self._rooms, self._folder = rooms, folder

    def add(
        self,
        name: str,
        location: Any,
        *,
        kind: str | None = None,
        anchor: str = "auto",
        tenant_column: str | None = None,
        secret: Secret | None = None,
        options: Mapping[str, Any] | None = None,
        replace: bool = False,
        check: bool = True,
    ) -> Source:
        """Register outside data under a name that SQL can use: a path, glob or folder of files, or a pandas, polars or pyarrow object.

        A relative path is relative to the current directory. Unless `check` is False the source is opened once, for which what is elsewhere has
        `look.timeout_seconds`. A frame takes no options, and its anchor is its rows. With `tenant_column` each tenant sees the rows in which that
        column names it, and those in which it is NULL; without a tenant only the latter are seen.
        Adding the very same thing again changes nothing, its spelling included, so that a notebook can be run again; another thing under a name that
        is taken needs `replace`.
        Raises NameInvalid, SourceExists, SourceUnavailable, InvalidArgument; nothing is registered then.
        """
        if self._rooms.catalog.read_only:
            raise WorkspaceReadOnly("This workspace is open read-only; no source can be added.", hint="Open it without read_only=True.")
        check_source_name(name)
        check_anchor(anchor)
        options = mapped(options)
        frame = None if isinstance(location, str | Path) else _checked(location, anchor, options)
        typed, options, taken = ("", options, {}) if frame is not None else taken_out(str(location), options)
        record = SourceRecord(
            name=name,
            kind="frame",
            location=type(frame).__module__.split(".")[0] + " frame" if frame is not None else store_location(typed, self._folder),
            tenant=self._rooms.scope.current,
            options=options,
            anchor=anchor,
            tenant_column=tenant_column,
            secret=check_secret(secret) if secret is not None or not taken else TYPED,
        )
        outside, function = self._rooms.outside, secret if callable(secret) else None
        if check and function is not None:
            outside.given(record, taken, function)()  # it may prompt, which is this thread's, and takes as long as it takes

        def opened() -> tuple[SourceRecord, Names]:
            found = record if frame is not None else self._told(record, kind, typed, outside.given(record, taken, function))
            connector = outside.connector(found, frame, taken, function)
            if check:
                connector.check()
            return found, connector.tables() if check else []

        record, inside = self._within_limits(typed, opened)
        there = None if replace else self._there(record, frame)
        put = self._rooms.catalog.sources.put(record if there is None else there, replace or there is not None)
        outside.keep(put, taken, function)
        if check:
            LastSeen(self._rooms.memo).found(put, inside, self._rooms.clock.now_ns())
            self._rooms.memo.flush()
        if frame is not None:
            outside.hold(put, frame)
        return Source(self._rooms, put)

    def _told(self, record: SourceRecord, kind: str | None, typed: str, given: Given) -> SourceRecord:
        """The record with its kind, which may be asked for, and its options as they are stored. SourceUnavailable, InvalidArgument."""
        refuse_own_location(record.location, self._folder)
        kind = infer_kind(typed, kind, lambda: entrance(record, given))
        return msgspec.structs.replace(record, kind=kind, options=check_options(kind, record.options, place_options(typed)))

    def _within_limits(self, typed: str, work: Callable[[], T]) -> T:
        """What opening a source gives. One that is elsewhere may take `look.timeout_seconds`: SourceUnavailable after that."""
        if scheme_of(typed) in (None, "memory"):
            return work()
        seconds = self._rooms.settings["look.timeout_seconds"]
        until = time.monotonic() + seconds

        def tick() -> None:
            if time.monotonic() > until:
                hint = "Look at the address and the server; in Python check=False adds it without opening it."
                raise SourceUnavailable(f"{shown(typed)} did not answer within {seconds:g} s (the setting look.timeout_seconds).", hint=hint)

        return waited(work, lambda: None, tick=tick)

    def _there(self, record: SourceRecord, frame: object) -> SourceRecord | None:
        """The very same source, when it is registered already, or was, as a frame of an earlier kernel. SourceExists for another one of that name."""
        there = self._rooms.catalog.sources.get(record.name)
        if there is None or there.tenant != record.tenant:
            return None
        held = self._rooms.outside.held(there)
        same = msgspec.structs.replace(there, created_at="", name=record.name) == record and (frame is None or held is None or held is frame)
        if not same:
            raise SourceExists(
                f"There is a source {there.name!r} already, and it is not this one.",
                hint="Pass replace=True (in a cell --replace) to put this one in its place.",
            )
        return there

    def remove(self, name: str, *, tables: bool = False) -> Names:
        """Forget a source. Tables made from it stay, and say that it is gone; with `tables`, the bound tenant's own ones that read it directly go
        with it, whoever reads them. The physical names that are gone. SourceNotFound; TenantForbidden."""
        record = self._rooms.outside.record(name)
        gone = self._rooms.upkeep.forget(record.name, tables=tables)
        self._rooms.outside.release(record)
        if record.kind == "frame":
            LastSeen(self._rooms.memo).removed(record, self._rooms.clock.now_ns())
        return gone

    def list(self) -> "SourceList":
        """All sources that the bound tenant sees, by name."""
        return SourceList(Source(self._rooms, record) for record in self._rooms.catalog.sources.list())

    def __getitem__(self, name: str) -> Source:
        """The source of that name. SourceNotFound, with near names."""
        return Source(self._rooms, self._rooms.outside.record(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._rooms.catalog.sources.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter([record.name for record in self._rooms.catalog.sources.list()])

    def __len__(self) -> int:
        return len(self._rooms.catalog.sources.list())

    def _form(self) -> Form:
        return self.list()._form()


def _checked(frame: object, anchor: str, options: Mapping[str, Any]) -> object:
    """The frame. InvalidArgument for what is none, and for what a frame does not take."""
    if not is_frame(frame):
        raise InvalidArgument(
            f"A value of type {type(frame).__name__} cannot be a source.", hint="Pass a path or URL, or a pandas, polars or pyarrow object."
        )
    if anchor not in ("auto", "content"):
        raise InvalidArgument(f"A frame has no anchor {anchor!r}: its state is told by its rows.", hint="Leave anchor out.")
    check_options("frame", options)
    return frame


def _named(inside: tuple[list[str], int] | None) -> str:
    """The first tables inside a source, the others counted."""
    if inside is None:
        return ""
    first, others = inside[0][:_NAMED], inside[1] - _NAMED
    return ", ".join(first) + (f" and {others:,} more" if others > 0 else "")


def _from_here(location: str) -> str:
    """A path below the current directory as it would be typed there; anything else as it is."""
    here = os.getcwd() + os.sep
    return location.removeprefix(here) if location.startswith(here) else location
