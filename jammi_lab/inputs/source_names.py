"""The registered sources with their connectors and credentials, and the resolvers of sources and
notebook frames."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import SourceNotFound, SourceUnavailable, TableNotFound
from jammi_lab.core.identifiers import QuotedName, fold, near_names, near_tables, quoted_name
from jammi_lab.core.records import SourceRecord
from jammi_lab.inputs.observation import PinnedState
from jammi_lab.inputs.observation_cache import LastObservations
from jammi_lab.inputs.path_names import record_of
from jammi_lab.sources.base import (
    Connector,
    MultiTableConnector,
    ReadPlan,
    Relation,
    SourceAccess,
    attachment_key,
)
from jammi_lab.sources.frames import FrameConnector, frame_snapshot, is_frame
from jammi_lab.sources.outside_access import OutsideAccess
from jammi_lab.sources.registry import connector_for
from jammi_lab.sources.row_security import filtered_for
from jammi_lab.sources.secrets import Credentials, CredentialStore
from jammi_lab.storage.digests import DigestCache

FRAME = "frame"


class SourceDirectory:
    """Connectors of the registered sources by name, in the bound tenant's scope."""

    def __init__(
        self,
        catalog: Catalog,
        folder: Path | None,
        source_access: SourceAccess | None = None,
        memo: DigestCache | None = None,
        outside: OutsideAccess | None = None,
    ) -> None:
        """`outside`: what the sources may open; None for everything."""
        self._catalog, self._folder, self._source_access = catalog, folder, source_access
        self._memo = memo
        self.outside = outside or OutsideAccess(folder)
        self._frames: dict[tuple[str | None, str], object] = {}
        self._credentials = CredentialStore()
        self.notebook_variables: Callable[[], Mapping[str, object]] | None = None
        """Returns the notebook's variables; None outside a notebook."""

    def register_frame(self, record: SourceRecord, frame: object) -> None:
        """Store a registered frame until it is removed or the workspace closes."""
        self._frames[(record.tenant, fold(record.name))] = frame

    def registered_frame(self, record: SourceRecord) -> object | None:
        """The stored frame of a record."""
        return self._frames.get((record.tenant, fold(record.name)))

    def release(self, record: SourceRecord) -> None:
        """Release the frame, credentials and attachments of a removed source."""
        self._frames.pop((record.tenant, fold(record.name)), None)
        self._credentials.release(record)
        self._detach_attachments(record)

    def store_credentials(
        self,
        record: SourceRecord,
        user_input: Mapping[str, str],
        secret_function: Callable[[], str] | None = None,
    ) -> None:
        """Store the credentials typed with a source, or the function for its secret, in memory,
        until the source is removed or the workspace closes."""
        self._credentials.store(record, user_input, secret_function)
        self._detach_attachments(record)  # an earlier source of this name may still be attached

    def _detach_attachments(self, record: SourceRecord) -> None:
        if self._source_access is not None:
            self._source_access.detach(attachment_key(record.tenant, fold(record.name)))

    def credentials(
        self,
        record: SourceRecord,
        user_input: Mapping[str, str] | None = None,
        secret_function: Callable[[], str] | None = None,
    ) -> Credentials:
        """The credentials of a record: typed now or stored earlier, and the value of its
        `secret`."""
        return self._credentials.credentials_for(record, user_input, secret_function)

    def connector(
        self,
        record: SourceRecord,
        frame: object | None = None,
        user_input: Mapping[str, str] | None = None,
        secret_function: Callable[[], str] | None = None,
    ) -> Connector:
        """The connector of a record as the bound tenant sees it. A missing `frame` or credential is
        taken from those stored earlier.

        SourceUnavailable for a frame that was not registered in this kernel, and for a source that
        must not be opened.
        """
        self.outside.check(record)
        frame = self._frames.get((record.tenant, fold(record.name))) if frame is None else frame
        if record.kind == FRAME and frame is None:
            raise SourceUnavailable(
                f"The frame {record.name!r} is not in this kernel.",
                hint=f"Create it again and call ws.sources.add({record.name!r}, frame, "
                "replace=True).",
            )
        connector = connector_for(
            record,
            frame,
            self._folder,
            self.credentials(record, user_input, secret_function),
            self._source_access,
            self._memo,
        )
        if record.tenant_column is None:
            return connector
        return filtered_for(
            connector,
            record.tenant_column,
            self._catalog.scope.tenant,
            digest_of([record.kind, record.location, record.options]),
        )

    def find(self, name: str) -> tuple[SourceRecord, Connector] | None:
        """The record and connector of a registered source; None when there is none of that name.
        SourceUnavailable for an absent frame."""
        record = self._catalog.sources.get(name)
        return None if record is None else (record, self.connector(record))

    def path_connector(self, name: str) -> Connector | None:
        """The connector of files that a statement names by path, from the name in their anchor;
        None for any other name. SourceUnavailable for files that must not be opened."""
        record = record_of(name)
        if record is None:
            return None
        self.outside.check(record)
        return connector_for(record, None, self._folder, memo=self._memo)

    def require_record(self, name: str) -> SourceRecord:
        """The record of a registered source. SourceNotFound, with near names."""
        record = self._catalog.sources.get(name)
        if record is None:
            names = [r.name for r in self._catalog.sources.list()]
            raise SourceNotFound(
                f"There is no source {name!r}.",
                near=near_names(name, names),
                hint="ws.sources.list() shows the registered ones; ws.sources.add(name, location) "
                "adds one.",
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


_UNREADABLE_CLAUSE = re.compile(r" cannot be (?:read|reached): ")


class SourceResolver:
    """Resolves registered sources."""

    def __init__(
        self, catalog: Catalog, directory: SourceDirectory, last_seen: LastObservations
    ) -> None:
        self._catalog, self._directory, self._last_seen = catalog, directory, last_seen

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
            if isinstance(connector, MultiTableConnector):
                return connector.relation(_find_table(connector, record.name, parts[1:]))
            tables = connector.tables()
            table_name = ".".join(parts[1:])
            table = next((t for t in tables if fold(t) == fold(table_name)), None)
            if table is None and tables:
                raise _missing_table_error(record.name, tables, parts[1:])
            if table is None and table_name:
                return None
            return connector.relation(table)
        except SourceUnavailable as error:
            raise SourceUnavailable(
                _with_source_name(record.name, error.message), near=error.near, hint=error.hint
            ) from error

    def names(self) -> Iterable[str]:
        """The names of the sources visible to the bound tenant and of their last known tables; no
        source is queried."""
        for record in self._catalog.sources.list():
            tables, _ = self._last_seen.tables(record) or ([], 0)
            yield from (
                record.name,
                *(QuotedName(_sql_name(record.name, table)) for table in tables),
            )


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


def _find_table(connector: MultiTableConnector, source: str, parts: Sequence[str]) -> str:
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
    if any(t.split(".")[-1] == parts[-1] for t in sql_names):
        return TableNotFound(
            f"The table name {source}.{name} is ambiguous.",
            near=suggestions,
            hint="Add its schema.",
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


class FrameResolver:
    """Resolves frames in notebook variables. Registered last, so that a source of the same name
    wins."""

    def __init__(self, directory: SourceDirectory) -> None:
        self._directory = directory

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a variable that holds a frame, captured in its current state."""
        connector = self._directory.frame_variable(parts[0]) if len(parts) == 1 else None
        return None if connector is None else capture_frame(connector, parts[0])

    def names(self) -> Iterable[str]:
        """The names of variables that hold frames."""
        return self._directory.frame_variable_names()


class InlineRows:
    """Resolves a reserved name to given rows, for statements that the library writes."""

    NAME = "__jammi_given"

    def __init__(self, rows: pa.Table) -> None:
        self._relation = Relation(
            Input(kind=InputKind.FRAME, name=self.NAME),
            ReadPlan(frame=rows),
            token=PinnedState(frame_snapshot(rows)),
        )

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The rows, for the reserved name."""
        return self._relation if parts == (self.NAME,) else None

    def names(self) -> Iterable[str]:
        """Empty: the name is internal."""
        return []


def capture_frame(connector: FrameConnector, name: str) -> Relation:
    """The relation of a frame in its current state. Statement and anchor use the same capture, even
    if the frame is modified meanwhile."""
    table, snapshot = connector.capture()
    return Relation(
        Input(kind=InputKind.FRAME, name=name),
        ReadPlan(frame=table),
        token=PinnedState(snapshot, origin=connector.origin()),
    )
