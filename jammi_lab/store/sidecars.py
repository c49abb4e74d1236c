"""Sidecars: files derived from a ready table, such as an index. Higher rooms register builders,
through which the store requests them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from jammi_lab.core.errors import JammiError
from jammi_lab.core.records import Progress, TableRecord


@dataclass(frozen=True)
class SidecarRequest:
    """Options for the sidecars of a new table."""

    precision: str | None = None
    """Storage precision of the index; None means that of the previous version."""
    in_background: bool = False
    """Whether they may be built after the call has returned."""


class SidecarBuilder(Protocol):
    """Builds one kind of sidecar. A table without it is ready nevertheless, so a failed build
    raises nothing."""

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
        """The sidecar's description on the status board; None when the table has none."""
        ...

    def on_removal(self, record: TableRecord) -> None:
        """Called when a table is about to be removed."""
        ...


class Sidecars:
    """The registered builders."""

    def __init__(self) -> None:
        self._builders: list[SidecarBuilder] = []
        self._incomplete: dict[str, TableRecord] = {}
        """Tables whose sidecar was missing after its build."""

    def register(self, builder: SidecarBuilder) -> None:
        """Add a builder."""
        self._builders.append(builder)

    def build(
        self,
        record: TableRecord,
        request: SidecarRequest,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Build what a newly ready table lacks. Raises KeyboardInterrupt."""
        for builder in self._builders:
            builder.build(record, request, on_progress)
        if not request.in_background and self._is_incomplete(record):
            self._incomplete[record.table_name] = record

    def has_incomplete(self) -> bool:
        """Whether a table still lacks a sidecar that should have been built here but could not be
        written."""
        return any(self._is_incomplete(record) for record in self._incomplete.values())

    def _is_incomplete(self, record: TableRecord) -> bool:
        try:
            return self.find_defect(record, deep=False) is not None
        except (JammiError, OSError):
            return True

    def find_defect(self, record: TableRecord, *, deep: bool) -> str | None:
        """What is wrong with the sidecars of a ready table, as text; None when they are sound.
        Raises OSError, JammiError."""
        return next(
            (
                defect
                for builder in self._builders
                if (defect := builder.find_defect(record, deep=deep)) is not None
            ),
            None,
        )

    def restore(self, record: TableRecord, *, wait: bool) -> bool:
        """Rebuild lost sidecars of a ready table, and return whether any exists again."""
        results = [builder.restore(record, wait=wait) for builder in self._builders]
        if not any(results) and self._is_incomplete(record):
            self._incomplete[record.table_name] = record
        return any(results)

    def describe(self, record: TableRecord) -> str | None:
        """The description of a ready table's sidecar on the status board, if any."""
        return next(
            (
                description
                for builder in self._builders
                if (description := builder.describe(record)) is not None
            ),
            None,
        )

    def on_removal(self, record: TableRecord) -> None:
        """Called when a table is about to be removed."""
        self._incomplete.pop(record.table_name, None)
        for builder in self._builders:
            builder.on_removal(record)
