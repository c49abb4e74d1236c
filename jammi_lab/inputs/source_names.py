"""The registered sources with their connectors and credentials, and sources and frames as inputs:
their names in FROM, and their states."""

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import (
    Anchor,
    Input,
    MissingFrame,
    Observed,
    Snapshot,
    Unknown,
    Vanished,
    frame_input,
)
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import (
    JammiError,
    SourceNotFound,
    SourceUnavailable,
    TableNotFound,
)
from jammi_lab.core.identifiers import (
    QuotedName,
    find_name,
    fold,
    near_names,
    near_tables,
    quoted_name,
)
from jammi_lab.core.records import SourceRecord
from jammi_lab.core.settings import Settings
from jammi_lab.core.verdicts import MOVED
from jammi_lab.engine.name_resolution import FixedNames
from jammi_lab.inputs.observation import Kind, Observation, PinnedState
from jammi_lab.inputs.observation_cache import KnownTables, ObservationCache
from jammi_lab.inputs.path_names import PathFiles, record_of
from jammi_lab.sources import read_errors, scratch_duckdb
from jammi_lab.sources.base import (
    Connector,
    Describe,
    ObservationContext,
    ReadPlan,
    Relation,
    SourceAccess,
    SourceContext,
    SupportsRowComparison,
    attachment_key,
)
from jammi_lab.sources.frames import FrameConnector, frame_snapshot, is_frame
from jammi_lab.sources.locations import scheme_of
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.sources.registry import connector_for
from jammi_lab.sources.row_security import TenantFilteredConnector
from jammi_lab.sources.secrets import Credentials
from jammi_lab.storage.digests import DigestCache

_MAX_COUNTED_BYTES = 4 << 20
"""The rows of larger text files are not counted: their types are decided again for each state."""


class SourceDirectory:
    """Connectors of the registered sources by name, in the bound tenant's scope."""

    def __init__(
        self,
        catalog: Catalog,
        folder: Path | None,
        source_access: SourceAccess,
        memo: DigestCache,
        outside: OutsideAccess | None,
        time_zone: str,
    ) -> None:
        """`outside`: what the sources may open; None for everything. `time_zone`: that of
        statements."""
        self._catalog, self._folder, self._source_access = catalog, folder, source_access
        self._memo, self._time_zone = memo, time_zone
        self.outside = outside or OutsideAccess(folder)
        self.paths = PathFiles(catalog, folder, memo, self.outside)
        self._frames: dict[tuple[str | None, str], object] = {}
        self._credentials: dict[tuple[str | None, str], Credentials] = {}
        self.notebook_variables: Callable[[], Mapping[str, object]] | None = None
        """Returns the notebook's variables; None outside a notebook."""

    def register_frame(self, record: SourceRecord, frame: object) -> None:
        """Store a registered frame until it is removed or the workspace closes."""
        self._frames[_key(record)] = frame

    def registered_frame(self, record: SourceRecord) -> object | None:
        """The stored frame of a record."""
        return self._frames.get(_key(record))

    def release(self, record: SourceRecord) -> None:
        """Release the frame, credentials and attachments of a removed source."""
        self._frames.pop(_key(record), None)
        self._credentials.pop(_key(record), None)
        self._detach_attachments(record)

    def store_credentials(self, record: SourceRecord, credentials: Credentials) -> None:
        """Store the credentials of a source in memory, until it is removed or the workspace
        closes."""
        self._credentials[_key(record)] = credentials
        self._detach_attachments(record)  # an earlier source of this name may still be attached

    def _detach_attachments(self, record: SourceRecord) -> None:
        self._source_access.detach(attachment_key(record.tenant, fold(record.name)))

    def credentials(self, record: SourceRecord) -> Credentials:
        """The credentials of a record, as they were stored."""
        stored = self._credentials.get(_key(record))
        return Credentials(record) if stored is None else stored.for_record(record)

    def connector(
        self,
        record: SourceRecord,
        frame: object | None = None,
        credentials: Credentials | None = None,
    ) -> Connector:
        """The connector of a record as the bound tenant sees it. A missing `frame` or `credentials`
        are those stored earlier. SourceUnavailable for a source that must not be opened."""
        self.outside.check(record)
        frame = self._frames.get(_key(record)) if frame is None else frame
        credentials = credentials or self.credentials(record)
        context = SourceContext(
            self._folder, credentials, self._source_access, self._memo, self._time_zone
        )
        connector = connector_for(record, frame, context)
        if record.tenant_column is None:
            return connector
        return TenantFilteredConnector(
            connector,
            record.tenant_column,
            self.tenant,
            digest_of([record.kind, record.location, record.options]),
        )

    def find(
        self, name: str, observation: Observation | None = None
    ) -> tuple[SourceRecord, Connector] | None:
        """The record and connector of a registered source, in an observation those of its pass;
        None when there is none of that name."""
        sources = self._catalog.sources
        record = (
            sources.get(name) if observation is None else observation.find(name, sources.get_all)
        )
        return None if record is None else (record, self.connector(record))

    def path_connector(self, name: str) -> Connector | None:
        """The connector of files that a statement names by path, from the name in their anchor;
        None for any other name. SourceUnavailable for files that must not be opened."""
        record = record_of(name)
        return None if record is None else self.paths.connector(record)

    @property
    def tenant(self) -> str | None:
        """The bound tenant."""
        return self._catalog.scope.tenant

    def records(self) -> list[SourceRecord]:
        """The sources visible to the bound tenant."""
        return self._catalog.sources.list()

    def require_record(self, name: str) -> SourceRecord:
        """The record of a registered source. SourceNotFound, with near names."""
        record = self._catalog.sources.get(name)
        if record is None:
            names = [r.name for r in self.records()]
            hint = (
                "ws.sources.list() shows the registered ones; ws.sources.add(name, location) adds "
                "one."
            )
            if self._catalog.recipes.get(name) is not None:
                hint = f"{name!r} is a recipe: ws.table({name!r}); ws.drop({name!r}) removes it."
            raise SourceNotFound(
                f"There is no source {name!r}.", near=near_names(name, names), hint=hint
            )
        return record

    def frame_variable(self, name: str) -> FrameConnector | None:
        """The connector of a notebook variable that holds a frame; None when there is none."""
        if self.notebook_variables is None:
            return None
        value = self.notebook_variables().get(name)
        return FrameConnector(name, value) if value is not None and is_frame(value) else None

    def frame_variable_names(self) -> list[str]:
        """The names of notebook variables that hold frames."""
        if self.notebook_variables is None:
            return []
        return [
            name
            for name, value in list(self.notebook_variables().items())
            if not name.startswith("_") and is_frame(value)
        ]


def _key(record: SourceRecord) -> tuple[str | None, str]:
    return record.tenant, fold(record.name)


_UNREADABLE_CLAUSE = re.compile(r" cannot be (?:read|reached): ")


JAMMI_CATALOG = "jammi_catalog"
"""The SQL schema of the workspace's own catalog; reserved, so no source can have this name."""


class SourceKind(Kind):
    """Registered sources, and files named by path."""

    kind = word = "source"
    is_external = is_stored = True
    colour = "#3b6a96"

    def __init__(
        self,
        directory: SourceDirectory,
        cache: ObservationCache,
        settings: Settings,
        describe: Describe,
    ) -> None:
        self._directory, self._cache, self._settings = directory, cache, settings
        self._describe = describe
        self._known_tables = KnownTables(cache)

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of `source` or `source.table`; None when there is no such source.
        SourceUnavailable for a frame that is not in this kernel."""
        registered = self._directory.find(parts[0])
        return None if registered is None else self._relation(*registered, parts)

    @staticmethod
    def _relation(
        record: SourceRecord, connector: Connector, parts: tuple[str, ...]
    ) -> Relation | None:
        if isinstance(connector, FrameConnector):
            return capture_frame(connector, record.name) if len(parts) == 1 else None
        try:
            if connector.is_database:
                return connector.relation(_find_table(connector, record.name, parts[1:]))
            tables = connector.tables()
            table_name = ".".join(parts[1:])
            table = find_name(table_name, tables)
            if table is None and tables:
                raise _missing_table_error(record.name, tables, parts[1:])
            if table is None and table_name:
                return None
            return connector.relation(table)
        except SourceUnavailable as error:
            is_missing = error.message.startswith(("There is no f", "No file matches"))
            raise SourceUnavailable(
                _with_source_name(record.name, error.message),
                near=error.near,
                hint=f"{error.hint} {MOVED}." if is_missing else error.hint,
            ) from error

    def names(self) -> Iterable[str]:
        """The names of the sources visible to the bound tenant and of their last known tables; no
        source is queried."""
        for record in self._directory.records():
            tables, _ = self._known_tables.tables(record) or ([], 0)
            yield from (
                record.name,
                *(QuotedName(_sql_name(record.name, table)) for table in tables),
            )

    def observe(self, input: Input, observation: Observation) -> Observed:
        """The state of a registered source, of files named by path, or of a frame."""
        if input.name == JAMMI_CATALOG:
            return Unknown(why="tables of jammi_catalog change with every operation")
        registered = self._directory.find(input.name, observation)
        if registered is None:
            connector = self._unregistered(input.name)
            if connector is None:
                return self._absent(input.name)
            return connector.observe(input.table, self._context(observation))
        context = replace(
            self._context(observation),
            read_sets=observation.requested_columns(input),
            shared=observation.shared_read(input),
        )
        state = registered[1].observe(input.table, context)
        if input.table is not None and not isinstance(state, Unknown):
            self._record_tables(*registered, observation.now_ns)
        return state

    def _unregistered(self, name: str) -> Connector | None:
        """The connector of an input that is not registered; None when there is none."""
        return self._directory.path_connector(name)

    def _absent(self, name: str) -> Observed:  # noqa: ARG002
        return Vanished()

    def _connector(self, input: Input, observation: Observation) -> Connector | None:
        registered = self._directory.find(input.name, observation)
        return self._unregistered(input.name) if registered is None else registered[1]

    def _context(self, observation: Observation) -> ObservationContext:
        """The observation context for connectors: with read limits unless the pass is deep."""
        settings = self._settings
        return ObservationContext(
            cache=self._cache,
            describe=self._describe,
            now_ns=observation.now_ns,
            racy_seconds=settings["look.racy_seconds"],
            # Rows bound what costs by the row, such as a digest evaluated on a server; bytes bound
            # what is read at the speed of a disk, whatever the rows are: a file or a frame.
            scan_bytes=None if observation.deep else settings["look.scan_bytes"],
            scan_rows=None if observation.deep else settings["look.scan_rows"],
            timeout_seconds=settings["look.timeout_seconds"],
        )

    def _record_tables(self, record: SourceRecord, connector: Connector, now_ns: int) -> None:
        """Store the tables of a source if they are unknown (it was added without being opened)."""
        if self._known_tables.tables(record) is None:
            with contextlib.suppress(JammiError, OSError):
                self._known_tables.record_tables(record, connector.tables(), now_ns)

    def same_rows(self, recorded: Anchor, observation: Observation) -> bool | Unknown:
        """As the connector compares rows."""
        connector = self._connector(recorded.input, observation)
        return isinstance(connector, SupportsRowComparison) and connector.same_rows(
            recorded, self._context(observation)
        )

    def count_rows(self, anchor: Anchor, observation: Observation) -> int | None:
        """Of a local text file."""
        from jammi_lab.sources.files.text_connector import TextConnector

        connector, table = self._connector(anchor.input, observation), anchor.input.table
        with contextlib.suppress(*read_errors.SOURCE_ERRORS):
            if not isinstance(connector, TextConnector) or scheme_of(connector.pattern):
                return None
            relation = connector.relation(table)
            if (relation.read.local_bytes or _MAX_COUNTED_BYTES) >= _MAX_COUNTED_BYTES:
                return None
            [(rows,)] = scratch_duckdb.query(relation, "SELECT count(*) FROM it")
            state = connector.observe(table, self._context(observation))
            if isinstance(state, Snapshot):
                current = state.anchor(anchor.input, anchor.columns)
                return int(rows) if current.same_state(anchor) else None
        return None


class FrameKind(SourceKind):
    """Frames: registered ones, and those in notebook variables. Its names come after all others, so
    that a source of the same name wins."""

    kind = word = "frame"
    is_stored, has_origin = False, True
    colour = "#7a5a96"

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a variable that holds a frame, captured in its current state."""
        connector = self._unregistered(parts[0]) if len(parts) == 1 else None
        return None if connector is None else capture_frame(connector, parts[0])

    def names(self) -> Iterable[str]:
        """The names of variables that hold frames."""
        return self._directory.frame_variable_names()

    def _unregistered(self, name: str) -> FrameConnector | None:
        return self._directory.frame_variable(name)

    def _absent(self, name: str) -> Observed:
        return MissingFrame(f"the frame {name} is not in this kernel; create it again")


def _with_source_name(source: str, message: str) -> str:
    """A connector's message with the name of the source in front, unless it already contains it."""
    if repr(source) in message:
        return message
    message = (
        message[:1].lower() + message[1:]
        if message.startswith(("The ", "There ", "A ", "No "))
        else message
    )
    return f"The source {source!r} cannot be read: {_UNREADABLE_CLAUSE.sub(': ', message, count=1)}"


def _find_table(connector: Connector, source: str, parts: Sequence[str]) -> str:
    """The table of a source that a name refers to. TableNotFound, with near names."""
    table = connector.find(parts)
    if table is not None:
        return table
    raise _missing_table_error(source, connector.tables(), parts)


def _missing_table_error(source: str, tables: Sequence[str], parts: Sequence[str]) -> TableNotFound:
    """The error for a name that is not a table of the source, with near names."""
    sql_names = {f"{source}.{t}": _sql_name(source, t) for t in tables}
    if not parts:
        hint = (
            f"Name a table, for example FROM {next(iter(sql_names.values()))}." if sql_names else ""
        )
        return TableNotFound(
            f"{source} is a database, not a table." if sql_names else f"{source} has no tables.",
            hint=hint,
        )
    name = ".".join(parts)
    suggestions = [sql_names[candidate] for candidate in near_tables(f"{source}.{name}", sql_names)]
    if [fold(table) for table in tables].count(fold(name)) > 1:
        return TableNotFound(
            f"Several tables of {source} are called {name}.",
            hint="Rename one of them in the database, or create a view with another name.",
        )
    return TableNotFound(f"There is no table {name} in {source}.", near=suggestions)


def _sql_name(source: str, table: str) -> str:
    """The SQL name of a table of a source."""
    return quoted_name(
        source,
        *(
            table.split(".")
            if 0 < table.find(".") == table.rfind(".") < len(table) - 1
            else [table]
        ),
    )


class InlineRows(FixedNames):
    """Resolves a reserved name to given rows, for statements that the library writes."""

    NAME = "__jammi_given"

    def __init__(self, rows: pa.Table) -> None:
        token = PinnedState(frame_snapshot(rows))
        self.relation = Relation(frame_input(self.NAME), ReadPlan(frame=rows), token=token)
        super().__init__({self.NAME: self.relation})


def capture_frame(connector: FrameConnector, name: str) -> Relation:
    """The relation of a frame in its current state. Statement and anchor use the same capture, even
    if the frame is modified meanwhile."""
    table, snapshot = connector.capture()
    return Relation(
        frame_input(name),
        ReadPlan(frame=table),
        token=PinnedState(snapshot, origin=connector.origin()),
    )
