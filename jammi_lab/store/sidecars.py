"""Sidecars: files derived from a ready table, such as an index. A feature builds them; through
`ResultFiles.sidecar` the store requests them."""

from collections.abc import Callable
from dataclasses import dataclass

from jammi_lab.core.records import Progress, TableRecord
from jammi_lab.storage.files import StoragePath

GRAPH_SUFFIX, MANIFEST_SUFFIX = ".idx.usearch", ".idx.manifest.json"
INDEX_SUFFIXES = (GRAPH_SUFFIX, MANIFEST_SUFFIX)
PARTIAL_SUMS_SUFFIX = ".sums.arrow"
SIDECAR_SUFFIXES = (*INDEX_SUFFIXES, PARTIAL_SUMS_SUFFIX)
"""Suffixes of the files beside a table, in the order in which they are written."""


def sidecar_path(parquet: StoragePath, suffix: str) -> StoragePath:
    """The path of a file beside the Parquet file of a table."""
    return parquet.with_name(parquet.name.removesuffix(".parquet") + suffix)


@dataclass(frozen=True)
class SidecarRequest:
    """Options for the sidecars of a new table."""

    precision: str | None = None
    """Storage precision of the index; None means that of the previous version."""
    in_background: bool = False
    """Whether they may be built after the call has returned."""


class SidecarBuilder:
    """Builds the sidecar of some kinds of tables; this one, of those that have none. A table
    without its sidecar is ready nevertheless, so a failed build raises nothing."""

    def build(
        self,
        record: TableRecord,
        request: SidecarRequest,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        """Build what a newly ready table lacks. Raises KeyboardInterrupt."""

    def find_defect(self, record: TableRecord, *, deep: bool) -> str | None:  # noqa: ARG002
        """What is wrong with the sidecar of a ready table, as text; None when it is sound. `deep`
        reads its bytes. Raises OSError, JammiError."""
        return None

    def restore(self, record: TableRecord, *, wait: bool) -> bool:  # noqa: ARG002
        """Rebuild a lost sidecar, and return whether it exists again. Unless `wait`, a slow
        build is only started."""
        return False

    def describe(self, record: TableRecord) -> str | None:  # noqa: ARG002
        """The sidecar's description on the status board; None for an empty table."""
        return None

    def on_removal(self, record: TableRecord) -> None:
        """Called when a table is about to be removed."""
