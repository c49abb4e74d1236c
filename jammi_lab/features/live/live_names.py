"""Mutable tables, `mutable.<name>`, and topics, `topics.<name>`, as inputs."""

from collections.abc import Iterable

from jammi_lab.catalog.logs import LogRecord
from jammi_lab.core.anchors import AnchorKind, Input, Observed, Snapshot, Unknown, Vanished
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import TableDamaged, TableNotFound, VersionConflict
from jammi_lab.core.identifiers import fold
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.features.live.fold import stored_schema
from jammi_lab.features.live.mutable_tables import MUTABLE, MutableTableService
from jammi_lab.features.live.subscriptions import TopicReader
from jammi_lab.features.live.topics import Topics, events_to_arrow
from jammi_lab.inputs.observation import Kind, Observation, PinnedState
from jammi_lab.sources.base import Computed, InputRead, MutableState, ReadPlan, Relation
from jammi_lab.sources.scratch_duckdb import sql_types

VERSION_METHOD = "version of the mutable table"


class MutableKind(Kind):
    """Mutable tables. A name means a snapshot of the table at the time when it is resolved."""

    kind, word, schema = "mutable", "mutable table", MUTABLE
    colour = "#8a6a2f"

    def __init__(self, tables: MutableTableService, scope: TenantScope) -> None:
        self._tables, self._scope = tables, scope

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a mutable table; None when there is none of that name."""
        if len(parts) == 3 and fold(parts[1]) == "public":
            parts = (parts[0], parts[2])
        if len(parts) != 2:
            return None
        record = self._tables.find(parts[1])
        return None if record is None else self._relation(record, self._scope.current)

    def _relation(self, record: LogRecord, tenant: str | None) -> Relation:
        snapshot = self._tables.snapshot(record)

        def refresh() -> Relation:
            with self._scope.use(tenant):
                return self._relation(self._tables.current(record), tenant)

        state = snapshot_of(snapshot.record)

        return Relation(
            Input(self.kind, record.name),
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


def snapshot_of(record: LogRecord) -> Snapshot:
    """The state of a table: its id, version and last commit. Equal states mean that nothing was
    committed in between."""
    schema = stored_schema(record)
    state = {"table": record.log_id, "version": record.version, "commit": record.commit_id}
    return Snapshot(
        columns=sql_types(schema),
        whole=digest_of(state),
        method=VERSION_METHOD,
        kind=AnchorKind.MUTABLE_VERSION,
        row_count=record.row_count,
        version=record.version,
    )


OFFSETS_METHOD = "offsets of the topic"


class TopicKind(Kind):
    """Topics: the topic's columns, then `_offset` and `_produced_at`, in the order of
    publication."""

    kind, word, schema = "topic", "topic", "topics"
    colour = "#2f7a78"

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a topic's current events; later ones are not included. None when there is
        no such topic."""
        if len(parts) != 2 or (reader := self._topics._current_reader(parts[1])) is None:
            return None
        columns = _columns(reader)
        topic_input = Input(self.kind, reader.record.name)
        relation = Relation(
            topic_input, columns=columns, token=PinnedState(_snapshot(reader, columns))
        )

        def rows(*_: object) -> object:
            record = reader.record
            events = list(reader.read_range(record.first, record.next))
            if len(events) != record.next - record.first:
                raise VersionConflict(
                    f"Events of the topic {record.name!r} were removed during the read.",
                    hint="Run the statement again.",
                )
            return events_to_arrow(reader.schema, events)

        computed_rows = Computed(
            definition="",
            inputs=lambda read: [InputRead(relation, tuple(sorted(read)), columns)],
            rows=rows,
        )
        return Relation(
            topic_input, ReadPlan(computed=computed_rows), columns=columns, token=relation.token
        )

    def names(self) -> Iterable[str]:
        """The topics visible to the bound tenant, as `topics.<name>`."""
        return [f"{self.schema}.{topic.name}" for topic in self._topics]

    def observe(self, input: Input, observation: Observation) -> Observed:  # noqa: ARG002
        """The state of a topic: its id and offsets. A topic that was dropped and registered again
        has another id."""
        reader = self._topics._current_reader(input.name)
        return Vanished() if reader is None else _snapshot(reader, _columns(reader))


def _columns(reader: TopicReader) -> dict[str, str]:
    return sql_types(events_to_arrow(reader.schema, []).schema)


def _snapshot(reader: TopicReader, columns: dict[str, str]) -> Snapshot:
    record = reader.record
    state = [record.log_id, record.first, record.next, record.commit_id]
    return Snapshot(
        columns=columns,
        whole=digest_of(state),
        method=OFFSETS_METHOD,
        row_count=record.row_count,
    )
