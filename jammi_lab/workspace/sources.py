"""The registered sources of a workspace: `ws.sources` and its handles."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jammi_lab.core import reprs
from jammi_lab.core.anchors import Anchor, Input, Snapshot, Unknown, Vanished, unpinned_anchor
from jammi_lab.core.attribute_suggestions import answer_name_in_list
from jammi_lab.core.cancellable import run_cancellable
from jammi_lab.core.command_hints import cell_or_python
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    SourceExists,
    SourceUnavailable,
    TableNotFound,
)
from jammi_lab.core.forms import form, listing_table, shown_type
from jammi_lab.core.html import NamedCollection, Rendered, ReprMixin, count_noun, plain_text
from jammi_lab.core.identifiers import (
    check_count,
    check_source_name,
    find_name,
    fold,
    near_names,
    near_or_all,
    quote_identifier,
)
from jammi_lab.core.records import SourceRecord
from jammi_lab.core.suggestions import options_as_flags
from jammi_lab.core.value import Value
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.observation_cache import KnownTables
from jammi_lab.sources.base import Connector
from jammi_lab.sources.credentials import location_options, resolve_credentials, strip_credentials
from jammi_lab.sources.databases import connection
from jammi_lab.sources.files.formats import check_anchor, check_options, is_delimited, options_dict
from jammi_lab.sources.frames import is_frame
from jammi_lab.sources.located_connector import LocatedConnector
from jammi_lab.sources.locations import (
    check_readable_location,
    display_location,
    full_location,
    scheme_of,
    store_location,
)
from jammi_lab.sources.registry import infer_kind, is_package_kind
from jammi_lab.sources.secrets import USER_INPUT, Credentials, Secret, check_secret

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.workspace.infrastructure import Infrastructure


_FORM_ROWS = 3
"""Rows that the form of a source shows."""
Names = list[str]
T = TypeVar("T")
_ABSENT = "absent: not in this kernel"
_MAX_NAMED_TABLES = 5
"""Number of tables of a source that its display names."""


class Column(Value, frozen=True):
    """A column of a source."""

    name: str
    """Its name."""
    type: str
    """Its SQL type."""


class Source(ReprMixin):
    """A registered source."""

    def __init__(self, parts: "Infrastructure", record: SourceRecord) -> None:
        self._parts, self._record = parts, record

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
        return display_location(self._record.location, self._parts.local_folder)

    @property
    def tenant(self) -> str | None:
        """The owner; None is shared."""
        return self._record.tenant

    @property
    def tenant_column(self) -> str | None:
        """The column that names the tenant of a row; None when every tenant sees all rows."""
        return self._record.tenant_column

    def tables(self) -> list[str]:
        """The tables that it contains; its own name when it is a single table."""
        names = self._connector().tables()
        self._known_tables.record_tables(self._record, names, self._parts.clock.now_ns())
        return names or [self.name]

    def columns(self, table: str | None = None) -> list[Column]:
        """Names and SQL types. SourceUnavailable; TableNotFound."""
        return [Column(name, kind) for name, kind in self._select(table).output]

    @property
    def notes(self) -> list[str]:
        """What its reader had to decide, one sentence each, such as `zip: text, because "01010"
        begins with 0`. Empty for a source of which the bound tenant sees only some rows.
        SourceUnavailable."""
        connector = self._connector()
        return connector.notes() if isinstance(connector, LocatedConnector) else []

    def preview(self, n: int = 20, table: str | None = None) -> "pa.Table":
        """The first `n` rows as an Arrow table. `table` selects one of several tables.
        SourceUnavailable; TableNotFound."""
        return self._select(table, f"LIMIT {check_count('n', n)}").run().table()

    def anchor(
        self, table: str | None = None, columns: list[str] | None = None
    ) -> Anchor | list[Anchor]:
        """Its current state, over the given columns or all. A list with one anchor per table when
        it contains several and none is named.

        An anchor of kind `unpinned_at_instant` gives the reason why the state is unknown.
        """
        tables: Sequence[str | None] = self._connector().tables() if table is None else ()
        if len(tables) < 2:
            tables = [self._find_table(table)]
        observation = self._parts.observe(True)
        anchors = [self._anchor(observation, each, columns) for each in tables]
        observation.close()
        return anchors if len(anchors) > 1 else anchors[0]

    def _anchor(
        self, observation: Observation, table: str | None, columns: list[str] | None
    ) -> Anchor:
        kind = "frame" if self.kind == "frame" else "source"
        source_input = Input(kind, self.name, table, tuple(sorted(columns or ())))
        observed = observation.observe(
            source_input, self._parts.scope.current, all_columns=columns is None
        )
        match observed:
            case Snapshot():
                if not observed.fault and (
                    missing := [c for c in columns or () if c not in observed.columns]
                ):
                    raise TableNotFound(
                        f"{self.name} has no column {missing[0]!r}.",
                        **near_or_all(missing[0], observed.columns),
                    )
                return observed.anchor(
                    source_input, tuple(columns) if columns is not None else None
                )
            case Vanished():
                raise SourceUnavailable(
                    f"The source {self.name!r} no longer exists: {self.location}."
                )
            case Unknown(why):
                return unpinned_anchor(source_input, observation.started_at, why)

    def _connector(self) -> Connector:
        return self._parts.source_directory.connector(self._record)

    def _find_table(self, table: str | None) -> str | None:
        """The name of a table as the source spells it; without a name, that of the only table.
        None for a source that is a single table. TableNotFound, with near names."""
        connector = self._connector()
        tables = connector.tables()
        if not tables:
            if table is not None and fold(table) != fold(self.name):
                raise TableNotFound(
                    f"{self.name} is a single table; it contains no table {table!r}.",
                    near=[self.name],
                )
            return None
        if table is None:
            if len(tables) > 1:
                raise TableNotFound(
                    f"{self.name} holds several tables.",
                    near=tables[:3],
                    hint=f"Choose one: table={tables[0]!r}.",
                )
            return tables[0]
        match = find_name(table, tables) or connector.find(table.split("."))
        if match is None:
            raise TableNotFound(
                f"There is no table {table} in {self.name}.", near=near_names(table, tables)
            )
        return match

    def _select(self, table: str | None, clause: str = "", columns: str = "*") -> PreparedStatement:
        """The rows of one of its tables. SourceUnavailable; TableNotFound."""
        names = [self.name, self._find_table(table)]
        address = ".".join(quote_identifier(name) for name in names if name)
        [prepared] = self._parts.engine.prepare(
            f"SELECT {columns} FROM {address} {clause}", tenant=self._parts.scope.current
        )
        return prepared

    @property
    def _known_tables(self) -> KnownTables:
        return KnownTables(self._parts.observation_cache)

    def _is_available(self) -> bool:
        """Whether it can be observed here: a frame lives in the kernel that registered it."""
        return (
            self.kind not in ("frame", connection.KIND)
            or self._parts.source_directory.registered_frame(self._record) is not None
        )

    def _list_row(self) -> tuple[str, str, str, str, str, str]:
        """Its row in a list; the source itself is not accessed."""
        record = self._record
        names = _first_names(self._known_tables.tables(record))
        anchor = (
            record.anchor
            if record.tenant_column is None
            else f"{record.anchor}, rows by {record.tenant_column}"
        )
        return (
            record.name,
            record.kind,
            _relative_to_cwd(self.location),
            names,
            anchor,
            "" if self._is_available() else _ABSENT,
        )

    def _rendered(self) -> Rendered:
        tables = self._known_tables.tables(self._record)
        columns: list[Column] = []
        rows = row_count = None
        notes: list[str] = []
        if tables is None or tables[1] == 1:
            with contextlib.suppress(JammiError):
                columns = self.columns()
                notes = [cell_or_python(options_as_flags(each), each) for each in self.notes]
                first_rows = self.preview(_FORM_ROWS)
                if self.kind in ("parquet", "frame"):  # told without reading the rows
                    count = self._select(None, columns="count(*)")
                    [row_count] = count.run().table()[0].to_pylist()
                if first_rows.num_rows:
                    rows = reprs.rows_preview(first_rows, [c.type for c in columns], row_count)
        state = ""
        if not self._is_available():
            state = f"{_ABSENT}: ws.sources.add({self.name!r}, {self.kind}, …) restores it"
        options = self._record.options or {}
        facts = [
            ("kind", self.kind),
            ("location", _relative_to_cwd(self.location)),
            ("tables", _first_names(tables)),
            ("anchor", self._record.anchor),
            ("state", state),
            ("options", ", ".join(f"{n}={value!r}" for n, value in options.items())),
            ("columns", ", ".join(f"{c.name} {shown_type(c.type)}" for c in columns)),
            *(("note", note) for note in notes),
        ]
        return form(self.name, facts=facts, table=rows)


class SourceList(list[Source], ReprMixin):
    """A list of sources, displayed with one line each."""

    __repr__ = ReprMixin.__repr__
    if not TYPE_CHECKING:
        __getitem__ = answer_name_in_list

    def _rendered(self) -> Rendered:
        if not self:
            add = cell_or_python("%jammi add NAME LOCATION", "ws.sources.add(name, location)")
            return plain_text(f"No sources yet: {add} registers one.")
        return listing_table(
            ["name", "kind", "location", "tables", "anchor", "state"],
            [source._list_row() for source in self],
            aligned="llllll",
            optional=("tables", "state"),
            note=count_noun(len(self), "source"),
        )


class Sources(NamedCollection[str], ReprMixin):
    """The sources of a workspace: `ws.sources["papers"]`, iteration over names, `in`."""

    def __init__(self, parts: "Infrastructure") -> None:
        self._records = parts.catalog.sources
        self._parts, self._folder = parts, parts.local_folder

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
        state: str | None = None,
        replace: bool = False,
        check: bool = True,
    ) -> Source:
        """Register external data under a name for SQL: a path, glob or folder of files, a list of
        paths, a URL, a pandas, polars or pyarrow object, or a connection (ADBC, DB-API, SQLAlchemy
        engine or, with `state`, its URL).

        A relative path is relative to the current directory. Unless `check` is False, the source is
        opened once; a remote one must respond within `look.timeout_seconds`. A frame takes no
        options; its anchor is its content. With `tenant_column` a tenant sees the rows in which
        that column has its name or NULL; without a tenant only rows with NULL are visible. `state`
        is a SELECT whose result changes with the rows that a connection reads.
        Adding an identical source again changes nothing, so that a notebook can be run again. To
        register another source under an existing name, pass `replace`.
        Raises NameInvalid, SourceExists, SourceUnavailable, InvalidArgument; then nothing is
        registered.
        """
        self._parts.check_writable()
        check_source_name(name)
        check_anchor(anchor)
        options = options_dict(options)
        if state is not None:
            options["state"] = state
        if _is_list_of_paths(location):
            kind = kind or infer_kind(location[0])
            location, options = _as_folder(location, options)
        frame: object = None
        address, typed, object_kind = "", dict[str, str](), "frame"
        if isinstance(location, str | Path) and state is None:
            address, options, typed = strip_credentials(str(location), options)
            stored_location = store_location(address, self._folder)
        else:
            frame, object_kind, stored_location = _held_object(location, anchor, options)
        draft = SourceRecord(
            name=name,
            kind=object_kind,
            location=stored_location,
            tenant=self._parts.scope.current,
            options=options,
            anchor=anchor,
            tenant_column=tenant_column,
            secret=USER_INPUT if secret is None and typed else check_secret(secret),
        )
        function = secret if callable(secret) else None
        directory = self._parts.source_directory
        credentials = directory.credentials(draft).with_input(draft, typed, function)
        if check and function is not None:
            # The function may prompt the user: only this thread can do that, and without a timeout.
            credentials()
        try:
            record, tables = self._open(draft, frame, address, credentials, kind=kind, check=check)
        except SourceUnavailable as error:
            if frame is None and os.path.exists(name) and not os.path.exists(address):
                error.hint = f"The name comes first: ws.sources.add({address!r}, {name!r})."
            raise
        stored = self._store_record(record, frame, replace=replace)
        directory.store_credentials(stored, credentials)
        if check:
            cache = self._parts.observation_cache
            KnownTables(cache).record_tables(stored, tables, self._parts.clock.now_ns())
            cache.flush()
        if frame is not None:
            directory.register_frame(stored, frame)
        return Source(self._parts, stored)

    def _open(
        self,
        draft: SourceRecord,
        frame: object,
        location: str,
        credentials: Credentials,
        *,
        kind: str | None,
        check: bool,
    ) -> tuple[SourceRecord, Names]:
        """The complete record of a source and, with `check`, its tables. Raises as `add`."""
        directory = self._parts.source_directory

        def open_source() -> tuple[SourceRecord, Names]:
            record = draft
            if frame is None:
                record = self._complete_record(draft, kind, location, credentials)
            directory.outside.name_source(record)
            connector = directory.connector(record, frame, credentials)
            if check:
                connector.check()
            return record, connector.tables() if check else []

        return self._run_within_timeout(location, open_source)

    def _store_record(self, record: SourceRecord, frame: object, *, replace: bool) -> SourceRecord:
        existing = None if replace else self._find_same(record, frame)
        return self._parts.catalog.sources.put(
            record if existing is None else existing, replace or existing is not None
        )

    def _complete_record(
        self, record: SourceRecord, kind: str | None, location: str, credentials: Credentials
    ) -> SourceRecord:
        """The record with its kind, inferred from the source if necessary, and its options in the
        stored form. SourceUnavailable, InvalidArgument."""
        check_readable_location(record.location, self._folder)
        if kind is None and is_delimited(location, record.options):
            kind = "csv"
        kind = infer_kind(location, kind, lambda: resolve_credentials(record, credentials))
        options = (
            record.options
            if is_package_kind(kind)
            else check_options(kind, record.options, location_options(location))
        )
        return record.with_values(kind=kind, options=options)

    def _run_within_timeout(self, location: str, work: Callable[[], T]) -> T:
        """Run the function that opens a source; for a remote one, at most `look.timeout_seconds`.
        SourceUnavailable after that."""
        if scheme_of(location) in (None, "memory"):
            return work()
        seconds = self._parts.settings["look.timeout_seconds"]
        deadline = time.monotonic() + seconds

        def tick() -> None:
            if time.monotonic() > deadline:
                hint = (
                    "Check the address and the server; in Python, check=False adds it without "
                    "opening it."
                )
                raise SourceUnavailable(
                    f"{display_location(location)} did not respond within {seconds:g} s (the "
                    "setting look.timeout_seconds).",
                    hint=hint,
                )

        return run_cancellable(work, lambda: None, tick=tick)

    def _find_same(self, record: SourceRecord, frame: object) -> SourceRecord | None:
        """The record of an identical source that is registered already, also as a frame of an
        earlier kernel; None when there is none. SourceExists for a different one of that name."""
        existing = self._parts.catalog.sources.get(record.name)
        if existing is None or existing.tenant != record.tenant:
            return None
        registered_frame = self._parts.source_directory.registered_frame(existing)
        is_same_place = full_location(existing.location, self._folder) == full_location(
            record.location, self._folder
        )
        is_same = (
            is_same_place
            and existing.with_values(created_at="", name=record.name, location=record.location)
            == record
            and (frame is None or registered_frame is None or registered_frame is frame)
        )
        if not is_same:
            raise SourceExists(
                f"A different source named {existing.name!r} already exists.",
                hint="Pass replace=True (in a cell --replace) to replace it.",
            )
        return existing

    def remove(self, name: str, *, tables: bool = False) -> Names:
        """Unregister a source. Tables made from it stay and report that it is gone; those of a
        frame, that it is not in this kernel. With `tables`, the bound tenant's own tables that read
        it directly are removed, even if other tables read them. Returns the physical names that
        were removed. SourceNotFound; TenantForbidden."""
        record = self._parts.source_directory.require_record(name)
        removed = self._parts.retention.remove_source(record.name, with_tables=tables)
        self._parts.source_directory.release(record)
        KnownTables(self._parts.observation_cache).forget(record)
        return removed

    def list(self) -> "SourceList":
        """All sources that the bound tenant sees, by name."""
        return SourceList(
            Source(self._parts, record) for record in self._parts.catalog.sources.list()
        )

    def __getitem__(self, name: str) -> Source:
        """The source of that name. SourceNotFound, with near names."""
        return Source(self._parts, self._parts.source_directory.require_record(name))

    def __iter__(self) -> Iterator[str]:
        return iter([record.name for record in self._parts.catalog.sources.list()])


def _is_list_of_paths(location: object) -> bool:
    return (
        isinstance(location, list | tuple)
        and bool(location)
        and all(isinstance(path, str | Path) for path in location)
    )


def _as_folder(
    paths: Sequence[str | Path], options: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The folder of several files, and the options with their paths in it. InvalidArgument."""
    if any(scheme_of(str(path)) is not None for path in paths):
        raise InvalidArgument("A list of files must be local.", hint="Use a glob of the URLs.")
    absolute = [os.path.abspath(path) for path in paths]
    folder = os.path.commonpath([os.path.dirname(path) for path in absolute])
    files = sorted({os.path.relpath(path, folder).replace(os.sep, "/") for path in absolute})
    return folder, {**options, "files": files}


def _held_object(value: object, anchor: str, options: Mapping[str, Any]) -> tuple[object, str, str]:
    """What this kernel holds of a frame, a connection or an SQLAlchemy URL, its kind and what is
    stored as its location. InvalidArgument, ExtensionMissing."""
    if "state" in options or connection.is_connection(value):
        check_options(connection.KIND, options)
        held = connection.hold(value)
        return held, connection.KIND, held.location
    frame = _check_frame(value, anchor, options)
    return frame, "frame", type(frame).__module__.split(".")[0] + " frame"


def _check_frame(frame: object, anchor: str, options: Mapping[str, Any]) -> object:
    """The frame, after checking its type, anchor and options. InvalidArgument."""
    if not is_frame(frame):
        raise InvalidArgument(
            f"A value of type {type(frame).__name__} cannot be a source.",
            hint="Pass a path or URL, or a pandas, polars or pyarrow object; pyarrow.table(values) "
            "makes one of a dict of columns, pyarrow.Table.from_pylist(rows) of a list of dicts.",
        )
    if anchor not in ("auto", "content"):
        raise InvalidArgument(
            f"A frame cannot have the anchor {anchor!r}: its state is the digest of its rows.",
            hint="Omit anchor.",
        )
    check_options("frame", options)
    return frame


def _first_names(tables: tuple[list[str], int] | None) -> str:
    """The first names of a list of tables, and the number of the others."""
    if tables is None:
        return ""
    first, other_count = tables[0][:_MAX_NAMED_TABLES], tables[1] - _MAX_NAMED_TABLES
    return ", ".join(first) + (f" and {other_count:,} more" if other_count > 0 else "")


def _relative_to_cwd(location: str) -> str:
    """A location, relative to the current directory when it is a path below it."""
    prefix = os.getcwd() + os.sep
    return location.removeprefix(prefix) if location.startswith(prefix) else location
