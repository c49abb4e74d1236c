"""The source directory: records from the catalog, their connectors and credentials, and the frames
registered in this kernel."""

from collections.abc import Callable, Mapping
from pathlib import Path

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import SourceNotFound, SourceUnavailable
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.records import SourceRecord
from jammi_lab.inputs.path_names import record_of
from jammi_lab.sources.base import Connector, SourceAccess, attachment_key
from jammi_lab.sources.frames import FrameConnector, is_frame
from jammi_lab.sources.registry import connector_for
from jammi_lab.sources.row_security import filtered_for
from jammi_lab.sources.secrets import Credentials, CredentialStore

FRAME = "frame"


class SourceDirectory:
    """Connectors of the registered sources by name, in the bound tenant's scope."""

    def __init__(
        self, catalog: Catalog, folder: Path | None, source_access: SourceAccess | None = None
    ) -> None:
        self._catalog, self._folder, self._source_access = catalog, folder, source_access
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

        SourceUnavailable for a frame that was not registered in this kernel.
        """
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
        None for any other name."""
        record = record_of(name)
        return None if record is None else connector_for(record, None, self._folder)

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
