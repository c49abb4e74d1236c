"""The parts of a workspace that searches use."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.records import TableRecord
from jammi_lab.core.tenancy import TenantScope

if TYPE_CHECKING:
    from jammi_lab.catalog.result_tables import ResultTableRepository
    from jammi_lab.engine.engine import Engine
    from jammi_lab.engine.name_resolution import NameResolver
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.engine.stream import Stream
    from jammi_lab.inputs.observation import Observation


class SearchContext:
    """The parts of a workspace that searches use, and their shared caches."""

    def __init__(
        self,
        *,
        scope: TenantScope,
        engine: "Engine",
        tables: "ResultTableRepository",
        observe: "Callable[[bool], Observation]",
        source_address: Callable[[str], str],
        manifest: Callable[[TableRecord], Manifest | None],
        start: "Callable[[PreparedStatement], Stream]",
        frames: "NameResolver",
    ) -> None:
        self.scope, self.engine, self.tables, self.observe = scope, engine, tables, observe
        """`observe` begins an observation of inputs; True makes it a deep one."""
        self.source_address, self.start, self.frames = source_address, start, frames
        """`source_address`: the text in FROM for a source, table or SQL; `start` runs a statement
        and reports its progress; `frames` knows the frames of the notebook."""
        self._manifest = manifest
        # A manifest digest always means the same content, so an entry is never stale.
        self._descriptors = BoundedCache[str, Mapping[str, Any]](256)

    def descriptor(self, record: TableRecord) -> Mapping[str, Any]:
        """The definition of a table as its manifest records it; empty for a table without one."""
        digest = record.manifest_digest or ""
        cached = self._descriptors.get(digest)
        if cached is not None:
            return cached
        manifest = self._manifest(record)
        if manifest is None:
            return {}
        if digest:
            self._descriptors.put(digest, manifest.descriptor)
        return manifest.descriptor
