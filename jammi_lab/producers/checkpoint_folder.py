"""Where the checkpoints of a workspace are, and which runs have one."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.records import MutableRecord
from jammi_lab.sources.base import Relation
from jammi_lab.storage.files import StoragePath, remove_file
from jammi_lab.storage.listing import list_files
from jammi_lab.store.result_files import CHECKPOINT_SECONDS, ResultFiles


@dataclass(frozen=True)
class CheckpointSlot:
    """The file of one checkpoint."""

    path: StoragePath | None
    """None for a run that may not keep anything."""
    table_ids: Sequence[int] = ()
    """Ids of the mutable tables that the run reads."""
    tables_exist: Callable[[], bool] = lambda: True
    """Whether they all still exist."""


class CheckpointFolder:
    """The checkpoints of one workspace."""

    def __init__(self, catalog: Catalog, results: ResultFiles) -> None:
        self._catalog, self._results = catalog, results

    def slot(self, definition: str, inputs: Sequence[Relation], suffix: str) -> CheckpointSlot:
        """The checkpoint of a definition. Changes nothing.

        A run over tables of an ephemeral session gets none, because their values must not outlive
        the session in a file. Every tenant has a checkpoint of its own: with a shared one, the
        time of a run would reveal which rows another tenant has."""
        tables = [
            state
            for state in (relation.mutable and relation.mutable.state for relation in inputs)
            if isinstance(state, MutableRecord)
        ]
        if any(record.session is not None for record in tables):
            return CheckpointSlot(None)

        def tables_exist() -> bool:
            current = [self._catalog.mutable_tables.get(record.name) for record in tables]
            return [record.table_id for record in tables] == [
                record and record.table_id for record in current
            ]

        tenant = self._catalog.scope.tenant
        name = definition if tenant is None else f"{definition}__{tenant}"
        return CheckpointSlot(
            self._results.root / "checkpoints" / (name + suffix),
            [record.table_id for record in tables],
            tables_exist,
        )

    def remove_old(self) -> None:
        """Delete the checkpoints that are too old."""
        now = self._results.clock.now_ns()
        for path, listed_file in list_files(self._results.root, "checkpoints"):
            if now - listed_file.modified_ns > CHECKPOINT_SECONDS * 1_000_000_000:
                with contextlib.suppress(OSError):
                    remove_file(self._results.root / path)
