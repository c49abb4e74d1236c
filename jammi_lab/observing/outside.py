"""The sources of a workspace as they are now: records from the catalog, connectors, and the frames that this kernel holds."""

from collections.abc import Callable, Mapping
from pathlib import Path

from jammi_lab.canonical import digest_of
from jammi_lab.catalog.catalog import Catalog
from jammi_lab.errors import SourceNotFound, SourceUnavailable
from jammi_lab.names import fold, near
from jammi_lab.observing.paths import record_of
from jammi_lab.sources.base import Connector, Reach, key_of
from jammi_lab.sources.frames import FrameConnector, is_frame
from jammi_lab.sources.registry import connector_for
from jammi_lab.sources.secrets import Given, Vault
from jammi_lab.sources.tenants import seen_by
from jammi_lab.values.records import SourceRecord

FRAME = "frame"


class Outside:
    """Finds connectors by name, in the bound tenant's scope."""

    def __init__(self, catalog: Catalog, folder: Path | None, reach: Reach | None = None) -> None:
        self._catalog, self._folder, self._reach = catalog, folder, reach
        self._frames: dict[tuple[str | None, str], object] = {}
        self._vault = Vault()
        self.namespace: Callable[[], Mapping[str, object]] | None = None
        """Gives the notebook's variables; None outside a notebook."""

    def hold(self, record: SourceRecord, frame: object) -> None:
        """Keep a registered frame until it is removed or the workspace closes."""
        self._frames[(record.tenant, fold(record.name))] = frame

    def held(self, record: SourceRecord) -> object | None:
        """The frame that is held for a record."""
        return self._frames.get((record.tenant, fold(record.name)))

    def release(self, record: SourceRecord) -> None:
        """Let go of a registered frame."""
        self._frames.pop((record.tenant, fold(record.name)), None)
        self._vault.release(record)
        self._detach(record)

    def keep(self, record: SourceRecord, typed: Mapping[str, str], function: Callable[[], str] | None = None) -> None:
        """Keep what was typed with a registered source, or the function for its secret, until it is removed or the workspace closes; in memory."""
        self._vault.keep(record, typed, function)
        self._detach(record)  # what stood under the name before may still be attached

    def _detach(self, record: SourceRecord) -> None:
        if self._reach is not None:
            self._reach.forget(key_of(record.tenant, fold(record.name)))

    def given(self, record: SourceRecord, typed: Mapping[str, str] | None = None, function: Callable[[], str] | None = None) -> Given:
        """The credentials of a record: those typed now, or kept, and what its `secret` leads to."""
        return self._vault.given(record, typed, function)

    def connector(
        self,
        record: SourceRecord,
        frame: object | None = None,
        typed: Mapping[str, str] | None = None,
        function: Callable[[], str] | None = None,
    ) -> Connector:
        """The connector of a record, as the bound tenant sees it, with the frame and the credentials given or held.

        SourceUnavailable for a frame that this kernel does not hold.
        """
        frame = self._frames.get((record.tenant, fold(record.name))) if frame is None else frame
        if record.kind == FRAME and frame is None:
            raise SourceUnavailable(
                f"The frame {record.name!r} is not in this kernel.",
                hint=f"Make it again and call ws.sources.add({record.name!r}, frame, replace=True).",
            )
        connector = connector_for(record, frame, self._folder, self.given(record, typed, function), self._reach)
        if record.tenant_column is None:
            return connector
        return seen_by(connector, record.tenant_column, self._catalog.scope.tenant, digest_of([record.kind, record.location, record.options]))

    def find(self, name: str) -> tuple[SourceRecord, Connector] | None:
        """The record and connector of a registered source; None when there is none of that name. SourceUnavailable for an absent frame."""
        record = self._catalog.sources.get(name)
        return None if record is None else (record, self.connector(record))

    def path(self, name: str) -> Connector | None:
        """The connector of files that a statement named by their path, by the name that their anchor carries; None for any other name."""
        record = record_of(name)
        return None if record is None else connector_for(record, None, self._folder)

    def record(self, name: str) -> SourceRecord:
        """The record of a registered source. SourceNotFound, with near names."""
        record = self._catalog.sources.get(name)
        if record is None:
            known = [r.name for r in self._catalog.sources.list()]
            raise SourceNotFound(
                f"There is no source {name!r}.",
                near=near(name, known),
                hint="ws.sources.list() shows what there is; ws.sources.add(name, location) adds one.",
            )
        return record

    def variable(self, name: str) -> FrameConnector | None:
        """A frame that the notebook holds in a variable of that name."""
        if self.namespace is None:
            return None
        value = self.namespace().get(name)
        return FrameConnector(name, value) if value is not None and is_frame(value) else None

    def variables(self) -> list[str]:
        """Names of the notebook's variables that hold frames."""
        if self.namespace is None:
            return []
        return [name for name, value in list(self.namespace().items()) if not name.startswith("_") and is_frame(value)]
