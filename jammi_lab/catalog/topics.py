"""Topics: logs of record batches, each event with its offset, in the same database as everything else.

An offset is given in the transaction that writes its event, and writers come one after the other: offsets have no gap, and an event that is seen is
never followed by one with a smaller offset. Nothing here knows what is in a batch.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.direct import Direct
from jammi_lab.catalog.schema import topic_consumers, topic_events, topics
from jammi_lab.catalog.scope import Scope
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import TopicNotFound
from jammi_lab.names import fold
from jammi_lab.values.base import Value


class TopicRecord(Value, frozen=True, kw_only=True):
    """A registered topic."""

    topic_id: str
    """Tells it from every other topic that was ever called so."""
    name: str
    tenant: str | None = None
    columns: bytes
    """Its Arrow schema, serialized."""
    first_offset: int = 0
    """The oldest event that is kept; `next_offset` when none is."""
    next_offset: int = 0
    """The offset of the next event."""
    retention: float | None = None
    """How many seconds an event is kept; None is for ever."""
    created_at: str = ""

    @property
    def owner(self) -> str:
        """Whose it is, as the catalog compares it."""
        return self.tenant or ""


class StoredEvent(Value, frozen=True):
    """One event as it is stored."""

    offset: int
    produced_at: str
    digest: str
    body: bytes


_t, _e, _c = topics, topic_events, topic_consumers
_RECORD = (_t.c.topic_id, _t.c.name, _t.c.tenant_id, _t.c.columns, _t.c.first_offset, _t.c.next_offset, _t.c.retention, _t.c.created_at)
_fold: sa.BindParameter[str] = sa.bindparam("fold")
_id: sa.BindParameter[str] = sa.bindparam("id")
_GET = Direct(scope.select(*_RECORD, seen=_t).where(_t.c.name_fold == _fold).order_by(scope.own_first(_t)).limit(1))
_OF = Direct(scope.select_of(*_RECORD, seen=_t).where(_t.c.name_fold == _fold))
_BY_ID = Direct(scope.select_of(*_RECORD, seen=_t).where(_t.c.topic_id == _id))
_LIST = scope.select(*_RECORD, seen=_t).order_by(_t.c.name_fold, scope.own_first(_t))
_CHANGE = scope.update_of(_t).where(_t.c.topic_id == _id)
_ADVANCE = Direct(_CHANGE.values(next_offset=sa.bindparam("following", type_=sa.BigInteger)))
_APPEND = Direct(sa.insert(_e))
_DROP = tuple(scope.delete_of(each).where(each.c.topic_id == _id) for each in (_e, _c, _t))
_from, _until = sa.bindparam("start", type_=sa.BigInteger), sa.bindparam("stop", type_=sa.BigInteger)
_of_topic = (_e.c.topic_id == _id, _e.c.event_offset >= _from, _e.c.event_offset < _until)
_SIZES = scope.select_of(_e.c.event_offset, sa.func.length(_e.c.body), seen=_e).where(*_of_topic).order_by(_e.c.event_offset)
_EVENTS = scope.select_of(_e.c.event_offset, _e.c.produced_at, _e.c.digest, _e.c.body, seen=_e).where(*_of_topic).order_by(_e.c.event_offset)
_ROWS = scope.select_of(sa.func.coalesce(sa.func.sum(_e.c.row_count), 0), seen=_e).where(*_of_topic)
_OLDEST = scope.select_of(_e.c.produced_at, seen=_e).where(_e.c.topic_id == _id).order_by(_e.c.event_offset).limit(1)
_KEPT = scope.select_of(sa.func.min(_e.c.event_offset), seen=_e).where(_e.c.topic_id == _id, _e.c.produced_at >= sa.bindparam("since"))
_FORGET = scope.delete_of(_e).where(_e.c.topic_id == _id, _e.c.event_offset < _until)
_CONSUMERS = scope.select_of(_c.c.consumer, _c.c.next_offset, seen=_c).where(_c.c.topic_id == _id).order_by(_c.c.consumer)
_NOT_CONSUMER = scope.delete_of(_c).where(_c.c.topic_id == _id, _c.c.consumer == sa.bindparam("called"))


class Topics:
    """The topics of the bound scope."""

    def __init__(self, database: Database, bound: Scope, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, bound, clock

    def register(self, record: TopicRecord) -> TopicRecord:
        """The topic of that owner and name: this one, or the one that is there already. TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The topic {record.name!r}")
        with self._database.write() as tx:
            for row in _OF.rows(tx, {"owner": record.owner, "fold": fold(record.name)}):
                return _record(row)
            kept = msgspec.structs.replace(record, created_at=rfc3339(self._clock.now_ns()))
            tx.execute(sa.insert(_t), _row(kept))
        return kept

    def get(self, name: str) -> TopicRecord | None:
        """The topic of that name, own before shared."""
        with self._database.read() as tx:
            found = _GET.rows(tx, self._scope.params(fold=fold(name)))
        return _record(found[0]) if found else None

    def again(self, record: TopicRecord) -> TopicRecord | None:
        """The same topic as it is now, whoever is bound; None when it was dropped."""
        with self._database.read() as tx:
            found = _BY_ID.rows(tx, _key(record))
        return _record(found[0]) if found else None

    def list(self) -> list[TopicRecord]:
        """Every topic, by name; a shared one that an own one hides is left out."""
        with self._database.read() as tx:
            found = [_record(row) for row in tx.execute(_LIST, self._scope.params()).all()]
        if self._scope.lifted:
            return found
        own = {fold(t.name) for t in found if t.tenant is not None}
        return [t for t in found if t.tenant is not None or fold(t.name) not in own]

    def append(self, record: TopicRecord, body: bytes, digest: str, rows: int) -> int:
        """The offset of a new event; whoever may write to it has been seen to. TopicNotFound when it was dropped meanwhile."""
        now = self._clock.now_ns()
        with self._database.write() as tx:
            current = self.again(record)
            if current is None:
                raise TopicNotFound(f"The topic {record.name!r} was dropped meanwhile; nothing was published.")
            event = {"topic_id": record.topic_id, "tenant_id": record.tenant, "event_offset": current.next_offset, "produced_at": rfc3339(now)}
            _APPEND.change(tx, event | {"row_count": rows, "digest": digest, "body": body})
            _ADVANCE.change(tx, _key(record, following=current.next_offset + 1))
            self.trim(current)
        return current.next_offset

    def sizes(self, record: TopicRecord, start: int, stop: int, most: int) -> Sequence[tuple[int, int]]:
        """Offsets and bytes of at most `most` events from `start`, before `stop`."""
        with self._database.read() as tx:
            rows = tx.execute(_SIZES.limit(most), _key(record, start=start, stop=stop)).all()
        return [(row[0], row[1]) for row in rows]

    def events(self, record: TopicRecord, start: int, stop: int) -> Sequence[StoredEvent]:
        """The events from `start` up to and without `stop`, in their order."""
        with self._database.read() as tx:
            return [StoredEvent(row[0], row[1], row[2], row[3]) for row in tx.execute(_EVENTS, _key(record, start=start, stop=stop)).all()]

    def row_count(self, record: TopicRecord) -> int:
        """How many rows the events between its first and its next offset have."""
        with self._database.read() as tx:
            return int(tx.execute(_ROWS, _key(record, start=record.first_offset, stop=record.next_offset)).scalar_one())

    def overdue(self, record: TopicRecord) -> bool:
        """Whether the oldest event is kept longer than the topic says."""
        if record.retention is None or self._database.read_only:
            return False
        with self._database.read() as tx:
            oldest = tx.execute(_OLDEST, _key(record)).scalar()
        return oldest is not None and oldest < self._since(record.retention)

    def trim(self, record: TopicRecord) -> None:
        """Remove the events that are kept longer than the topic says."""
        if not self.overdue(record) or record.retention is None:
            return
        with self._database.write() as tx:
            first = tx.execute(_KEPT, _key(record, since=self._since(record.retention))).scalar()
            current = self.again(record)
            if current is not None:
                first = current.next_offset if first is None else first
                tx.execute(_FORGET, _key(record, stop=first))
                tx.execute(_CHANGE.values(first_offset=first), _key(record))

    def keep(self, record: TopicRecord, retention: float | None) -> None:
        """Say anew how long events are kept. TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The topic {record.name!r}")
        with self._database.write() as tx:
            tx.execute(_CHANGE.values(retention=retention), _key(record))

    def drop(self, record: TopicRecord) -> bool:
        """Whether the topic was there and is gone with its events. TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The topic {record.name!r}")
        with self._database.write() as tx:
            return [tx.execute(each, _key(record)).rowcount for each in _DROP][-1] == 1

    def consumers(self, record: TopicRecord) -> dict[str, int]:
        """Where each named consumer goes on."""
        with self._database.read() as tx:
            return {row[0]: row[1] for row in tx.execute(_CONSUMERS, _key(record)).all()}

    def seen(self, record: TopicRecord, consumer: str, next_offset: int) -> None:
        """Keep where a consumer goes on; nothing when the topic was dropped."""
        with self._database.write() as tx:
            if self.again(record) is None:
                return
            tx.execute(_NOT_CONSUMER, _key(record, called=consumer))
            row = {"topic_id": record.topic_id, "consumer": consumer, "tenant_id": record.tenant, "next_offset": next_offset}
            tx.execute(sa.insert(_c), row | {"updated_at": rfc3339(self._clock.now_ns())})

    def _since(self, retention: float) -> str:
        return rfc3339(max(0, self._clock.now_ns() - int(retention * 1e9)))


def _key(record: TopicRecord, **more: Any) -> dict[str, Any]:
    return {"owner": record.owner, "id": record.topic_id, **more}


def _record(row: Any) -> TopicRecord:
    topic_id, name, tenant, columns, first, following, retention, created = row
    return TopicRecord(
        topic_id=topic_id,
        name=name,
        tenant=tenant,
        columns=columns,
        first_offset=first,
        next_offset=following,
        retention=retention,
        created_at=created,
    )


def _row(record: TopicRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in TopicRecord.__struct_fields__ if name != "tenant"}
    return row | {"tenant_id": record.tenant, "name_fold": fold(record.name)}
