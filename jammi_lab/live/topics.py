"""Topics as people hold them: `ws.topics` and what it gives."""

import datetime
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from jammi_lab import forms
from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.topics import TopicRecord
from jammi_lab.clock import Clock, in_seconds
from jammi_lab.engine.session import Engine
from jammi_lab.errors import DuplicateTable, InvalidArgument, NameInvalid, TopicNotFound
from jammi_lab.live.events import Event, Reader, Subscription, Wake
from jammi_lab.live.predicates import Predicate
from jammi_lab.live.schemas import SchemaLike, rows_of, schema_of
from jammi_lab.markup import Form, Shown, count, plain
from jammi_lab.names import check_name, fold, near
from jammi_lab.sources.scratch import sql_types
from jammi_lab.tenancy import TenantScope

OFFSET, PRODUCED_AT = "_offset", "_produced_at"
"""What SQL reads beside a topic's own columns."""
OURS = "jammi."
"""Topics whose name begins so are written by jammi_lab alone."""
MAX_EVENT = 256 << 20
"""Bytes of one event."""
_MOST_ROWS = 200
"""Rows that a tail shows; it holds all of them."""


class Topic(Shown):
    """A registered topic, as it was when it was asked for."""

    def __init__(self, record: TopicRecord) -> None:
        self._record = record

    @property
    def name(self) -> str:
        """Its name; in SQL `topics.<name>`."""
        return self._record.name

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch."""
        return pa.ipc.read_schema(pa.py_buffer(self._record.columns))

    @property
    def tenant(self) -> str | None:
        """Whose it is; None is shared."""
        return self._record.tenant

    @property
    def first_offset(self) -> int:
        """The oldest event that is kept."""
        return self._record.first_offset

    @property
    def next_offset(self) -> int:
        """The offset that the next event will have."""
        return self._record.next_offset

    @property
    def retention(self) -> float | None:
        """How many seconds an event is kept; None is for ever."""
        return self._record.retention

    def _form(self) -> Form:
        return _listing([self])


class TopicList(list[Topic], Shown):
    """Topics, by name."""

    __repr__ = Shown.__repr__

    def _form(self) -> Form:
        return _listing(self)


class Events(list[Event], Shown):
    """Events of one topic, oldest first."""

    __repr__ = Shown.__repr__

    def __init__(self, name: str, schema: pa.Schema, events: list[Event]) -> None:
        super().__init__(events)
        self.name, self.schema = name, schema

    def arrow(self) -> pa.Table:
        """All rows with their offsets and moments, as `topics.<name>` has them."""
        return as_rows(self.schema, self)

    def _form(self) -> Form:
        table = self.arrow().drop_columns([PRODUCED_AT])
        columns = [OFFSET, *(name for name in table.column_names if name != OFFSET)]
        shown, types = table.slice(max(0, table.num_rows - _MOST_ROWS)), sql_types(table.schema)
        rows = list(zip(*(shown.column(name).to_pylist() for name in columns), strict=True))
        return forms.preview(columns, [types[name] for name in columns], rows, total=table.num_rows, caption=f"topic {self.name}")


class Topics(Shown):
    """The topics of a workspace: append-only logs of record batches that every kernel may write to and follow."""

    def __init__(self, catalog: Catalog, scope: TenantScope, engine: Engine, clock: Clock) -> None:
        self._catalog, self._scope, self._engine, self._clock, self._log = catalog, scope, engine, clock, catalog.topics
        self._wake = Wake()

    def register(self, name: str, schema: SchemaLike, *, retention: float | datetime.timedelta | None = None) -> Topic:
        """A topic of the bound tenant for batches of one schema. Registering it again with an equal schema changes nothing but the retention.

        `retention`: for how many seconds an event is kept; None is for ever, or as it was. Raises NameInvalid, NameTooLong, SchemaMismatch,
        InvalidArgument, DuplicateTable when the name is taken by a topic of another schema.
        """
        check_name(name, "topic")
        _refuse_ours(name)
        return Topic(self._registered(name, schema_of(schema, reserved=(OFFSET, PRODUCED_AT)), _seconds(retention)))

    def publish(self, name: str, batch: Any) -> int:
        """The offset of a new event with these rows: a RecordBatch, a Table, a frame or a list of dicts. It is on disk when the call returns.

        Raises TopicNotFound, SchemaMismatch (nothing is written), TenantForbidden for a shared topic while a tenant is bound, ResourceExhausted.
        """
        _refuse_ours(name)
        record = self._require(name)
        self._catalog.scope.check_owner(record.tenant, f"The topic {record.name!r}")
        return self._append(record, batch)

    def replay(self, name: str, *, from_offset: int = 0, where: str | None = None) -> Iterator[Event]:
        """The events that there are when this is called, from an offset on.

        `where`: a condition over one row; an event brings the rows that satisfy it, and one without such a row is left out. The tenant is the one
        that is bound now. Raises TopicNotFound, InvalidArgument, StatementNotAllowed for a condition that looks beyond its row, SqlError.
        """
        record = self._current(name)
        reader = self._reader(record, where)
        return reader.from_to(max(_offset(from_offset), record.first_offset), record.next_offset)

    def subscribe(
        self,
        name: str,
        *,
        from_offset: int | None = None,
        where: str | None = None,
        timeout: float | datetime.timedelta | None = None,
        consumer: str | None = None,
    ) -> Subscription:
        """The events from an offset on and all that are still to come, whichever kernel publishes them; without `from_offset` only later ones.

        `timeout`: after how many seconds (or a timedelta) without an event to deliver it ends; None is never. `consumer`: a name under which the
        place is kept, so that the next subscription of that name goes on there (an event that was taken last, and not followed by a call for the
        next, comes again).
        The tenant is the one that is bound now. Raises as `replay`; WorkspaceReadOnly for a consumer.
        """
        record = self._current(name)
        seconds = None if timeout is None else in_seconds(timeout, "A timeout")
        start = record.next_offset if from_offset is None else _offset(from_offset)
        seen = None
        if consumer is not None:
            check_name(consumer, "consumer")
            self._catalog.scope.check_owner(record.tenant, f"The topic {record.name!r}")
            start = self._log.consumers(record).get(consumer, start)
            self._log.seen(record, consumer, start)
            seen = lambda offset: self._log.seen(record, consumer, offset)  # noqa: E731  the place of this consumer
        return Subscription(self._reader(record, where), start, wake=self._wake, clock=self._clock, timeout=seconds, seen=seen)

    def tail(self, name: str, n: int = 10) -> Events:
        """The last `n` events. TopicNotFound; InvalidArgument."""
        if not isinstance(n, int) or n < 0:
            raise InvalidArgument(f"A number of events is a whole number from 0, not {n!r}.")
        record = self._current(name)
        reader = self._reader(record, None)
        found = reader.from_to(max(record.first_offset, record.next_offset - n), record.next_offset)
        return Events(record.name, reader.schema, [*found])

    def consumers(self, name: str) -> dict[str, int]:
        """Where each named consumer of a topic goes on. TopicNotFound."""
        return self._log.consumers(self._require(name))

    def drop(self, name: str, *, if_exists: bool = False) -> None:
        """Remove a topic with its events and consumers; their values go as those of a mutable table do. TopicNotFound, unless `if_exists`;
        TenantForbidden."""
        _refuse_ours(name)
        record = self._log.get(name) if isinstance(name, str) else None
        if record is None:
            if if_exists:
                return
            raise self._missing(name)
        self._log.drop(record)
        self._wake.ring()
        self._catalog.purge()

    def list(self) -> TopicList:
        """Every topic that the bound tenant sees, by name."""
        return TopicList(Topic(record) for record in self._log.list())

    def __getitem__(self, name: str) -> Topic:
        return Topic(self._current(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._log.get(name) is not None

    def __iter__(self) -> Iterator[Topic]:
        return iter(self.list())

    def __len__(self) -> int:
        return len(self._log.list())

    def _form(self) -> Form:
        return self.list()._form()

    def close(self) -> None:
        """End every subscription."""
        self._wake.ring(closing=True)

    def reader(self, name: str) -> Reader | None:
        """What reads a topic as it is now, without what is kept too long; None when there is none."""
        return Reader(self._log, self._current(name)) if name in self else None

    def record_ours(self, name: str, schema: pa.Schema, rows: Sequence[dict[str, Any]]) -> int:
        """Publish to a topic of our own, of the bound tenant; it is made when it is not there."""
        return self._append(self._registered(name, schema, None), rows)

    def _registered(self, name: str, schema: pa.Schema, retention: float | None) -> TopicRecord:
        mine = TopicRecord(
            topic_id=self._clock.token(32), name=name, tenant=self._scope.current, columns=schema.serialize().to_pybytes(), retention=retention
        )
        record = self._log.register(mine)
        if (there := Topic(record).schema) != schema:
            raise DuplicateTable(
                f"There is a topic {record.name!r} already, with other columns: {', '.join(f'{f.name} {f.type}' for f in there)}.",
                hint="Choose another name, or drop it first: ws.topics.drop(name).",
            )
        if retention is not None and record.retention != retention:
            self._log.keep(record, retention)
            return self._current(name)
        return record

    def _append(self, record: TopicRecord, batch: Any) -> int:
        schema = Topic(record).schema
        rows = rows_of(batch, schema, f"The topic {record.name!r}").combine_chunks()
        batches = rows.to_batches() or [pa.RecordBatch.from_pylist([], schema)]
        body = batches[0].serialize().to_pybytes() if len(batches) == 1 and rows.nbytes <= MAX_EVENT else b""
        if not body or len(body) > MAX_EVENT:
            raise InvalidArgument(f"An event has at most {MAX_EVENT >> 20} MiB.", hint="Publish the rows in parts.")
        offset = self._log.append(record, body, hashlib.sha256(body).hexdigest(), rows.num_rows)
        self._wake.ring()
        return offset

    def _reader(self, record: TopicRecord, where: str | None) -> Reader:
        predicate = None if where is None else Predicate(self._engine, where, Topic(record).schema, self._scope.current)
        return Reader(self._log, record, predicate)

    def _current(self, name: str) -> TopicRecord:
        """The topic without what is kept too long."""
        record = self._require(name)
        if self._log.overdue(record):
            self._log.trim(record)
            record = self._require(name)
        return record

    def _require(self, name: str) -> TopicRecord:
        record = self._log.get(name) if isinstance(name, str) else None
        if record is None:
            raise self._missing(name)
        return record

    def _missing(self, name: str) -> TopicNotFound:
        like = near(str(name), [record.name for record in self._log.list()])
        return TopicNotFound(f"There is no topic {str(name)[:80]!r}.", near=like, hint="" if like else "ws.topics.register(name, schema) makes one.")


def as_rows(schema: pa.Schema, events: "list[Event]") -> pa.Table:
    """The rows of events with the offset and the moment of each."""
    table = pa.Table.from_batches([event.batch for event in events], schema)
    counts = [event.batch.num_rows for event in events]
    offsets = [event.offset for event, rows in zip(events, counts, strict=True) for _ in range(rows)]
    moments = [event.produced_at for event, rows in zip(events, counts, strict=True) for _ in range(rows)]
    return table.append_column(OFFSET, pa.array(offsets, pa.int64())).append_column(PRODUCED_AT, pa.array(moments, pa.timestamp("us", "UTC")))


def _listing(topics: list[Topic]) -> Form:
    if not topics:
        return plain("No topics yet: ws.topics.register(name, schema) makes one.")
    lines = [(t.name, ", ".join(f"{f.name} {f.type}" for f in t.schema), t.next_offset - t.first_offset) for t in topics]
    return forms.listing(["topic", "columns", "events"], lines, aligned="llr", note=count(len(lines), "topic"))


def _refuse_ours(name: Any) -> None:
    if isinstance(name, str) and fold(name).startswith(OURS):
        raise NameInvalid(f"Topics that begin with {OURS!r} are written by jammi_lab alone; {name!r} can be read.", name=name)


def _offset(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < 1 << 63:
        raise InvalidArgument(f"An offset is a whole number from 0 below 2 to the 63rd, not {given!r}.")
    return int(given)


def _seconds(retention: Any) -> float | None:
    seconds = None if retention is None else in_seconds(retention, "A retention", above=True)
    if seconds == math.inf:
        raise InvalidArgument("A retention has an end; leave it out to keep events for ever.")
    return seconds
