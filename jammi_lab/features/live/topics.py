"""Handles of topics: `ws.topics` and what it returns."""

import datetime
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.logs import LogRecord, NewEntry
from jammi_lab.core import reprs
from jammi_lab.core.clock import Clock, to_seconds
from jammi_lab.core.display_values import to_display
from jammi_lab.core.errors import DuplicateTable, NameInvalid, TopicNotFound
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import NamedCollection, Rendered, ReprMixin, count_noun, plain_text
from jammi_lab.core.identifiers import check_count, check_name, fold, near_names
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.features.live.fold import body_of, stored_schema
from jammi_lab.features.live.subscriptions import Event, Subscription, TopicReader
from jammi_lab.features.live.topic_filters import Predicate
from jammi_lab.inputs.row_input import SchemaLike, schema_of, to_arrow_rows
from jammi_lab.sources.scratch_duckdb import sql_types

OFFSET_COLUMN, PRODUCED_AT_COLUMN = "_offset", "_produced_at"
"""The columns that SQL reads in addition to a topic's own."""
RESERVED_PREFIX = "jammi."
"""The prefix of topics that only jammi_lab writes."""
_RECORD_SCHEMA = pa.schema([pa.field("record", pa.string(), nullable=False)])
"""The schema of those topics: each event is one text."""
_MAX_SHOWN_ROWS = 200
"""Rows that the display of a tail shows; `Events.arrow` returns all of them."""


class Topic(ReprMixin):
    """A registered topic, as of the call that returned it."""

    def __init__(self, record: LogRecord) -> None:
        self._record = record

    @property
    def name(self) -> str:
        """Its name; in SQL `topics.<name>`."""
        return self._record.name

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch."""
        return stored_schema(self._record)

    @property
    def tenant(self) -> str | None:
        """The tenant that owns it; None is shared."""
        return self._record.tenant

    @property
    def first_offset(self) -> int:
        """The offset of the oldest stored event."""
        return self._record.first

    @property
    def next_offset(self) -> int:
        """The offset of the next event."""
        return self._record.next

    def _rendered(self) -> Rendered:
        return _list_topics([self])


class TopicList(list[Topic], ReprMixin):
    """Topics, by name."""

    __repr__ = ReprMixin.__repr__

    def _rendered(self) -> Rendered:
        return _list_topics(self)


class EventList(list[Event], ReprMixin):
    """Events of one topic, oldest first."""

    __repr__ = ReprMixin.__repr__

    def __init__(self, name: str, schema: pa.Schema, events: list[Event]) -> None:
        super().__init__(events)
        self.name, self.schema = name, schema

    def arrow(self) -> pa.Table:
        """All rows with their offsets and timestamps, as in `topics.<name>`."""
        return events_to_arrow(self.schema, self)

    def _rendered(self) -> Rendered:
        table = self.arrow()
        own = table.num_columns - 2  # by position: a forged schema may have a name twice
        shown = table.select([own, *range(own)])
        types = sql_types(shown.schema)
        columns = shown.column_names
        last = shown.slice(max(0, table.num_rows - _MAX_SHOWN_ROWS)).columns
        rows = list(zip(*map(to_display, last), strict=True))
        return reprs.preview(
            columns,
            [types[name] for name in columns],
            rows,
            total=table.num_rows,
            caption=f"topic {self.name}",
        )


class Topics(NamedCollection[Topic], ReprMixin):
    """The topics of a workspace: append-only logs of record batches that every kernel can write and
    follow."""

    def __init__(self, catalog: Catalog, scope: TenantScope, engine: Engine, clock: Clock) -> None:
        self._catalog = catalog
        self._scope = scope
        self._engine = engine
        self._clock = clock
        self._repository = self._records = catalog.topics
        self._is_closed = False

    def register(self, name: str, schema: SchemaLike) -> Topic:
        """Create a topic of the bound tenant for batches of one schema. Registering it again with
        an equal schema changes nothing.

        Its events are kept until it is dropped. Raises NameInvalid, NameTooLong, SchemaMismatch,
        InvalidArgument, DuplicateTable when a topic of that name has another schema.
        """
        check_name(name, "topic")
        _check_not_reserved(name)
        return Topic(
            self._register(name, schema_of(schema, reserved=(OFFSET_COLUMN, PRODUCED_AT_COLUMN)))
        )

    def publish(self, name: str, batch: Any) -> int:
        """Publish rows (a RecordBatch, a Table, a frame or a list of dicts) as one event; return
        its offset. The event is on disk when the call returns.

        Raises TopicNotFound, SchemaMismatch (nothing is written), TenantForbidden for a shared
        topic while a tenant is bound, ResourceExhausted.
        """
        _check_not_reserved(name)
        return self._append(self._require(name), batch)

    def replay(
        self, name: str, *, from_offset: int = 0, where: str | None = None
    ) -> Iterator[Event]:
        """Iterate over the existing events, from an offset on.

        `where`: a condition on single rows; an event contains the rows that satisfy it, and an
        event without such rows is skipped. The tenant bound at the call applies. Raises
        TopicNotFound, InvalidArgument, StatementNotAllowed for a condition that is not row-wise,
        SqlError.
        """
        record = self._require(name)
        reader = self._reader(record, where)
        return reader.read_range(
            max(check_count("from_offset", from_offset), record.first), record.next
        )

    def subscribe(
        self,
        name: str,
        *,
        from_offset: int | None = None,
        where: str | None = None,
        timeout: float | datetime.timedelta | None = None,
    ) -> Subscription:
        """Iterate over the events from an offset on, and all future ones, of any kernel; without
        `from_offset` only future ones.

        `timeout`: it ends after that many seconds (or a timedelta) without an event; None is never.
        The tenant bound at the call applies. Raises as `replay`.
        """
        record = self._require(name)
        seconds = None if timeout is None else to_seconds(timeout, "A timeout")
        start = record.next if from_offset is None else check_count("from_offset", from_offset)
        return Subscription(
            self._reader(record, where),
            start,
            is_over=lambda: self._is_closed,
            clock=self._clock,
            timeout=seconds,
        )

    def tail(self, name: str, n: int = 10) -> EventList:
        """The last `n` events. Raises TopicNotFound, InvalidArgument."""
        count, record = check_count("n", n), self._require(name)
        reader = self._reader(record, None)
        events = reader.read_range(max(record.first, record.next - count), record.next)
        return EventList(record.name, reader.schema, [*events])

    def drop(self, name: str, *, if_exists: bool = False) -> None:
        """Drop a topic with its events; their values are removed as those of a
        mutable table are. Raises TopicNotFound unless `if_exists`; TenantForbidden."""
        _check_not_reserved(name)
        record = self._repository.get(name) if isinstance(name, str) else None
        if record is None:
            if if_exists:
                return
            raise self._missing_error(name)
        self._repository.drop(record)
        self._catalog.purge()

    def list(self) -> TopicList:
        """Every topic that the bound tenant sees, by name."""
        return TopicList(Topic(record) for record in self._repository.list())

    def __getitem__(self, name: str) -> Topic:
        return Topic(self._require(name))

    def close(self) -> None:
        """End every subscription."""
        self._is_closed = True

    def _current_reader(self, name: str) -> TopicReader | None:
        """A reader of a topic as of now; None when there is no such topic."""
        return TopicReader(self._repository, self._require(name)) if name in self else None

    def _publish_record(self, name: str, record: str, max_events: int | None = None) -> None:
        """Publish one text to a topic of jammi_lab itself, in the bound tenant's scope; create it
        if needed. With `max_events`, older events are deleted."""
        topic = self._register(name, _RECORD_SCHEMA)
        self._append(topic, [{"record": record}], max_events)

    def _register(self, name: str, schema: pa.Schema) -> LogRecord:
        record, _ = self._repository.create(name, schema.serialize().to_pybytes())
        if (existing := Topic(record).schema) != schema:
            raise DuplicateTable(
                f"A topic {record.name!r} with other columns already exists: "
                f"{', '.join(f'{f.name} {f.type}' for f in existing)}.",
                hint="Choose another name, or drop it first: ws.topics.drop(name).",
            )
        return record

    def _append(self, record: LogRecord, batch: Any, max_events: int | None = None) -> int:
        rows = to_arrow_rows(batch, Topic(record).schema, record.label)
        body = body_of(rows)

        after = self._repository.append(
            record,
            lambda current, _: NewEntry(body, rows.num_rows, current.row_count + rows.num_rows),
        )
        assert after is not None, "an event was made"
        if max_events is not None:
            self._repository.trim(after, after.next - max_events)
        return after.next - 1

    def _reader(self, record: LogRecord, where: str | None) -> TopicReader:
        predicate = (
            None
            if where is None
            else Predicate(self._engine, where, Topic(record).schema, self._scope.current)
        )
        return TopicReader(self._repository, record, predicate)

    def _require(self, name: str) -> LogRecord:
        record = self._repository.get(name) if isinstance(name, str) else None
        if record is None:
            raise self._missing_error(name)
        return record

    def _missing_error(self, name: str) -> TopicNotFound:
        suggestions = near_names(str(name), [record.name for record in self._repository.list()])
        return TopicNotFound(
            f"There is no topic {str(name)[:80]!r}.",
            near=suggestions,
            hint="" if suggestions else "ws.topics.register(name, schema) creates one.",
        )


def events_to_arrow(schema: pa.Schema, events: "list[Event]") -> pa.Table:
    """The rows of events with the offset and timestamp of each."""
    table = pa.Table.from_batches([event.batch for event in events], schema)
    counts = [event.batch.num_rows for event in events]
    offsets = [
        event.offset for event, rows in zip(events, counts, strict=True) for _ in range(rows)
    ]
    moments = [
        event.produced_at for event, rows in zip(events, counts, strict=True) for _ in range(rows)
    ]
    return table.append_column(OFFSET_COLUMN, pa.array(offsets, pa.int64())).append_column(
        PRODUCED_AT_COLUMN, pa.array(moments, pa.timestamp("us", "UTC"))
    )


def _list_topics(topics: list[Topic]) -> Rendered:
    if not topics:
        return plain_text("No topics yet; ws.topics.register(name, schema) creates one.")
    lines = [
        (t.name, ", ".join(f"{f.name} {f.type}" for f in t.schema), t.next_offset - t.first_offset)
        for t in topics
    ]
    return listing_table(
        ["topic", "columns", "events"], lines, aligned="llr", note=count_noun(len(lines), "topic")
    )


def _check_not_reserved(name: Any) -> None:
    if isinstance(name, str) and fold(name).startswith(RESERVED_PREFIX):
        raise NameInvalid(
            f"Topics whose name begins with {RESERVED_PREFIX!r} are written by jammi_lab only; "
            f"{name!r} can be read.",
            name=name,
        )
