"""Mutable tables as inputs: what `mutable.<name>` reads, and which state of it."""

from collections.abc import Iterable

from jammi_lab.canonical import digest_of
from jammi_lab.live.mutable import MUTABLE, Tables, shape_of
from jammi_lab.names import fold
from jammi_lab.observing.look import Look, Pinned
from jammi_lab.sources.base import Changing, Relation
from jammi_lab.sources.scratch import sql_types
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import AnchorKind, Input, InputKind, Observed, Snapshot, Vanished
from jammi_lab.values.mutables import MutableRecord

METHOD = "version of the mutable table"


class MutableProvider:
    """`mutable.<name>`: one snapshot of a table, the newest when it is resolved."""

    def __init__(self, tables: Tables, scope: TenantScope) -> None:
        self._tables, self._scope = tables, scope

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a mutable table; None when none is called so."""
        if len(parts) == 3 and fold(parts[1]) == "public":
            parts = (parts[0], parts[2])
        if len(parts) != 2 or fold(parts[0]) != MUTABLE:
            return None
        record = self._tables.find(parts[1])
        return None if record is None else self._relation(record, self._scope.current)

    def _relation(self, record: MutableRecord, tenant: str | None) -> Relation:
        seen = self._tables.snapshot(record)

        def renewed() -> Relation:
            with self._scope.use(tenant):
                return self._relation(self._tables.now(record), tenant)

        state = snapshot_of(seen.record)
        return Relation(
            input=Input(kind=InputKind.MUTABLE, name=record.name),
            frame=seen.rows,
            columns=state.columns,
            token=Pinned(state),
            changing=Changing(tuple(record.key), renewed, seen.record),
        )

    def names(self) -> Iterable[str]:
        """Names of the tables that the bound tenant sees, as `mutable.<name>`."""
        return [f"{MUTABLE}.{record.name}" for record in self._tables.list()]

    def observe(self, input: Input, _: Look) -> Observed:
        """Its version now."""
        record = self._tables.find(input.name)
        return Vanished() if record is None else snapshot_of(record)


def snapshot_of(record: MutableRecord) -> Snapshot:
    """The state of a table: which table it is and how often it was changed. Equal says that nothing was committed in between."""
    schema = shape_of(record).schema
    return Snapshot(
        columns=sql_types(schema),
        whole=digest_of({"table": record.table_id, "version": record.version}),
        method=METHOD,
        kind=AnchorKind.MUTABLE_VERSION,
        row_count=record.row_count,
        version=record.version,
    )
