"""Sidecars: files derived from a ready table, such as an index. Higher rooms register a builder for
the kinds of tables that have one; through it the store requests them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from jammi_lab.core.recipes import RecipeValue
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


class SidecarBuilder(Protocol):
    """Builds the sidecar of some kinds of tables. A table without it is ready nevertheless, so a
    failed build raises nothing."""

    def build(
        self,
        record: TableRecord,
        request: SidecarRequest,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        """Build what a newly ready table lacks. Raises KeyboardInterrupt."""
        ...

    def find_defect(self, record: TableRecord, *, deep: bool) -> str | None:
        """What is wrong with the sidecar of a ready table, as text; None when it is sound. `deep`
        reads its bytes. Raises OSError, JammiError."""
        ...

    def restore(self, record: TableRecord, *, wait: bool) -> bool:
        """Rebuild a lost sidecar, and return whether it exists again. Unless `wait`, a slow
        build is only started."""
        ...

    def describe(self, record: TableRecord) -> str | None:
        """The sidecar's description on the status board; None for an empty table."""
        ...

    def on_removal(self, record: TableRecord) -> None:
        """Called when a table is about to be removed."""
        ...


class Sidecars:
    """The registered builders, one for each kind of table that has a sidecar."""

    def __init__(self) -> None:
        self._builders: list[tuple[SidecarBuilder, Callable[[type[RecipeValue]], bool]]] = []

    def register(
        self, builder: SidecarBuilder, applies_to: Callable[[type[RecipeValue]], bool]
    ) -> None:
        """Add a builder, which comes before those added earlier. `applies_to`: whether tables of
        such recipes have this sidecar; no other reaches it."""
        self._builders.insert(0, (builder, applies_to))

    def _builder_of(self, record: TableRecord) -> SidecarBuilder | None:
        recipe = record.recipe_class
        return next((each for each, applies_to in self._builders if applies_to(recipe)), None)

    def build(
        self,
        record: TableRecord,
        request: SidecarRequest,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Build what a newly ready table lacks. Raises KeyboardInterrupt."""
        if (builder := self._builder_of(record)) is not None:
            builder.build(record, request, on_progress)

    def find_defect(self, record: TableRecord, *, deep: bool) -> str | None:
        """What is wrong with the sidecar of a ready table, as text; None when it is sound or there
        is none to have. Raises OSError, JammiError."""
        builder = self._builder_of(record)
        return None if builder is None else builder.find_defect(record, deep=deep)

    def restore(self, record: TableRecord, *, wait: bool) -> bool:
        """Rebuild the lost sidecar of a ready table, and return whether it exists again."""
        builder = self._builder_of(record)
        return builder is not None and builder.restore(record, wait=wait)

    def describe(self, record: TableRecord) -> str | None:
        """The description of a ready table's sidecar on the status board, if any."""
        builder = self._builder_of(record)
        return None if builder is None else builder.describe(record)

    def on_removal(self, record: TableRecord) -> None:
        """Called when a table is about to be removed."""
        if (builder := self._builder_of(record)) is not None:
            builder.on_removal(record)
