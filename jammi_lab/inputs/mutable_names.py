"""Resolver and observer of mutable tables, `mutable.<name>`."""

from collections.abc import Iterable

from jammi_lab.core.anchors import (
    AnchorKind,
    Input,
    InputKind,
    Observed,
    Snapshot,
    Unknown,
    Vanished,
)
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import TableDamaged, TableNotFound
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import MutableRecord
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.inputs.observation import Observation, PinnedState
from jammi_lab.live.mutable_tables import MUTABLE, MutableTableService, layout_of
from jammi_lab.sources.base import MutableState, ReadPlan, Relation
from jammi_lab.sources.scratch_duckdb import sql_types

VERSION_METHOD = "version of the mutable table"


class MutableTableResolver:
    """Resolves `mutable.<name>` to a snapshot of the table at the time of resolution."""

    def __init__(self, tables: MutableTableService, scope: TenantScope) -> None:
        self._tables, self._scope = tables, scope

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a mutable table; None when there is none of that name."""
        if len(parts) == 3 and fold(parts[1]) == "public":
            parts = (parts[0], parts[2])
        if len(parts) != 2 or fold(parts[0]) != MUTABLE:
            return None
        record = self._tables.find(parts[1])
        return None if record is None else self._relation(record, self._scope.current)

    def _relation(self, record: MutableRecord, tenant: str | None) -> Relation:
        snapshot = self._tables.snapshot(record)

        def refresh() -> Relation:
            with self._scope.use(tenant):
                return self._relation(self._tables.current(record), tenant)

        state = snapshot_of(snapshot.record)
        return Relation(
            Input(kind=InputKind.MUTABLE, name=record.name),
            ReadPlan(frame=snapshot.rows),
            columns=state.columns,
            token=PinnedState(state),
            mutable=MutableState(tuple(record.key), refresh, snapshot.record),
        )

    def names(self) -> Iterable[str]:
        """The names of the tables visible to the bound tenant, as `mutable.<name>`."""
        return [f"{MUTABLE}.{record.name}" for record in self._tables.list()]

    def observe(self, input: Input, observation: Observation) -> Observed:
        """The current version of the table; in a deep pass Unknown if its rows are damaged."""
        record = self._tables.find(input.name)
        if record is None:
            return Vanished()
        if observation.deep:
            try:
                self._tables.verify_rows(record)
            except TableNotFound:
                return Vanished()
            except TableDamaged as error:
                return Unknown(error.message.rstrip("."))
        return snapshot_of(record)


def snapshot_of(record: MutableRecord) -> Snapshot:
    """The state of a table: its id and version. Equal states mean that nothing was committed in
    between."""
    schema = layout_of(record).schema
    return Snapshot(
        columns=sql_types(schema),
        whole=digest_of({"table": record.table_id, "version": record.version}),
        method=VERSION_METHOD,
        kind=AnchorKind.MUTABLE_VERSION,
        row_count=record.row_count,
        version=record.version,
    )
