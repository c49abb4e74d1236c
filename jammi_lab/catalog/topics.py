"""Topics: logs of record batches, each event with its offset, in the catalog's database.

The transaction that stores an event assigns its offset, and writes are serialised: offsets have no
gaps, and after an event is visible no event with a smaller offset appears. This module does not
interpret the batches.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import CompiledStatement, Database
from jammi_lab.catalog.row_mapping import RowMapping
from jammi_lab.catalog.schema import topic_consumers, topic_events, topics
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import TopicNotFound
from jammi_lab.core.identifiers import fold
from jammi_lab.core.value import Value


class TopicRecord(Value, frozen=True, kw_only=True):
    """A registered topic."""

    topic_id: str
    """Distinguishes it from every other topic that ever had its name."""
    name: str
    tenant: str | None = None
    columns: bytes
    """Its Arrow schema, serialized."""
    first_offset: int = 0
    """The offset of the oldest stored event; `next_offset` when there is none."""
    next_offset: int = 0
    """The offset of the next event."""
    retention: float | None = None
    """How many seconds an event is kept; None is forever."""
    created_at: str = ""
    commit_id: str = ""
    """Distinguishes the newest event from any other of that offset, such as one that was published
    before the catalog was restored from a backup. Empty before the first event."""

    @property
    def owner(self) -> str:
        """The tenant as the catalog compares it: '' is shared."""
        return self.tenant or ""


class StoredEvent(Value, frozen=True):
    """One event as it is stored."""

    offset: int
    produced_at: str
    digest: str
    body: bytes


_t, _e, _c = topics, topic_events, topic_consumers
_TOPIC = RowMapping(topics, TopicRecord, derived={"name_fold": lambda record: fold(record.name)})
_fold: sa.BindParameter[str] = sa.bindparam("fold")
_id: sa.BindParameter[str] = sa.bindparam("id")
_GET = CompiledStatement(
    scope.select(*_TOPIC.columns, tables=_t)
    .where(_t.c.name_fold == _fold)
    .order_by(scope.own_first(_t))
    .limit(1)
)
_GET_OF_OWNER = CompiledStatement(
    scope.select_owned_by(*_TOPIC.columns, tables=_t).where(_t.c.name_fold == _fold)
)
_BY_ID = CompiledStatement(
    scope.select_owned_by(*_TOPIC.columns, tables=_t).where(_t.c.topic_id == _id)
)
_LIST = scope.select(*_TOPIC.columns, tables=_t).order_by(_t.c.name_fold, scope.own_first(_t))
_UPDATE = scope.update_owned_by(_t).where(_t.c.topic_id == _id)
_ADVANCE = CompiledStatement(
    _UPDATE.values(
        next_offset=sa.bindparam("following", type_=sa.BigInteger),
        commit_id=sa.bindparam("commit"),
    )
)
_APPEND = CompiledStatement(sa.insert(_e))
_DROP = tuple(scope.delete_owned_by(each).where(each.c.topic_id == _id) for each in (_e, _c, _t))
_start = sa.bindparam("start", type_=sa.BigInteger)
_stop = sa.bindparam("stop", type_=sa.BigInteger)
_in_range = (_e.c.topic_id == _id, _e.c.event_offset >= _start, _e.c.event_offset < _stop)
_SIZES = (
    scope.select_owned_by(_e.c.event_offset, sa.func.length(_e.c.body), tables=_e)
    .where(*_in_range)
    .order_by(_e.c.event_offset)
)
_EVENTS = CompiledStatement(
    scope.select_owned_by(_e.c.event_offset, _e.c.produced_at, _e.c.digest, _e.c.body, tables=_e)
    .where(*_in_range)
    .order_by(_e.c.event_offset)
)
_ROWS = scope.select_owned_by(sa.func.coalesce(sa.func.sum(_e.c.row_count), 0), tables=_e).where(
    *_in_range
)
_OLDEST = (
    scope.select_owned_by(_e.c.produced_at, tables=_e)
    .where(_e.c.topic_id == _id)
    .order_by(_e.c.event_offset)
    .limit(1)
)
_FIRST_SINCE = scope.select_owned_by(sa.func.min(_e.c.event_offset), tables=_e).where(
    _e.c.topic_id == _id, _e.c.produced_at >= sa.bindparam("since")
)
_DELETE_BEFORE = scope.delete_owned_by(_e).where(_e.c.topic_id == _id, _e.c.event_offset < _stop)
_CONSUMERS = (
    scope.select_owned_by(_c.c.consumer, _c.c.next_offset, tables=_c)
    .where(_c.c.topic_id == _id)
    .order_by(_c.c.consumer)
)
_DELETE_CONSUMER = scope.delete_owned_by(_c).where(
    _c.c.topic_id == _id, _c.c.consumer == sa.bindparam("called")
)


class TopicRepository:
    """The topics of the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, active_scope, clock

    def register(self, record: TopicRecord) -> TopicRecord:
        """Return the topic of that owner and name, creating it when it does not exist. Raises
        TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The topic {record.name!r}")
        with self._database.write() as tx:
            for row in _GET_OF_OWNER.fetch(tx, {"owner": record.owner, "fold": fold(record.name)}):
                return _TOPIC.decode(row)
            new_record = msgspec.structs.replace(record, created_at=rfc3339(self._clock.now_ns()))
            tx.execute(sa.insert(_t), _TOPIC.encode(new_record))
        return new_record

    def get(self, name: str) -> TopicRecord | None:
        """The topic of that name, own before shared."""
        rows = self._database.fetch(_GET, self._scope.parameters(fold=fold(name)))
        return _TOPIC.decode(rows[0]) if rows else None

    def refresh(self, record: TopicRecord) -> TopicRecord | None:
        """The current record of a topic, whoever is bound; None when it was dropped."""
        rows = self._database.fetch(_BY_ID, _key(record))
        return _TOPIC.decode(rows[0]) if rows else None

    def list(self) -> list[TopicRecord]:
        """Every topic, by name, without shared ones that own ones hide."""
        with self._database.read() as tx:
            records = [
                _TOPIC.decode(row) for row in tx.execute(_LIST, self._scope.parameters()).all()
            ]
        if self._scope.is_unrestricted:
            return records
        own = {fold(t.name) for t in records if t.tenant is not None}
        return [t for t in records if t.tenant is not None or fold(t.name) not in own]

    def append(
        self,
        record: TopicRecord,
        body: bytes,
        digest: str,
        row_count: int,
        max_events: int | None = None,
    ) -> int:
        """Store an event and return its offset; with `max_events` delete those before the newest
        ones. The caller has checked the permission. Raises TopicNotFound when the topic was dropped
        meanwhile."""
        now = self._clock.now_ns()
        with self._database.write() as tx:
            current = self.refresh(record)
            if current is None:
                raise TopicNotFound(
                    f"The topic {record.name!r} was dropped meanwhile; nothing was published."
                )
            event = {
                "topic_id": record.topic_id,
                "tenant_id": record.tenant,
                "event_offset": current.next_offset,
                "produced_at": rfc3339(now),
            }
            _APPEND.execute(tx, event | {"row_count": row_count, "digest": digest, "body": body})
            advanced = {"following": current.next_offset + 1, "commit": self._clock.token(16)}
            _ADVANCE.execute(tx, _key(record, **advanced))
            self.trim(current)
            if max_events is not None and current.next_offset + 1 - max_events > 0:
                self._delete_before(tx, current, current.next_offset + 1 - max_events)
        return current.next_offset

    def sizes(
        self, record: TopicRecord, start: int, stop: int, max_events: int
    ) -> Sequence[tuple[int, int]]:
        """Offset and bytes of at most `max_events` events from `start`, before `stop`."""
        with self._database.read() as tx:
            rows = tx.execute(_SIZES.limit(max_events), _key(record, start=start, stop=stop)).all()
        return [(row[0], row[1]) for row in rows]

    def events(self, record: TopicRecord, start: int, stop: int) -> Sequence[StoredEvent]:
        """The events from `start` up to, but not including, `stop`, in order."""
        rows = self._database.fetch(_EVENTS, _key(record, start=start, stop=stop))
        return [StoredEvent(*row) for row in rows]

    def row_count(self, record: TopicRecord) -> int:
        """The number of rows in all stored events."""
        with self._database.read() as tx:
            return int(
                tx.execute(
                    _ROWS, _key(record, start=record.first_offset, stop=record.next_offset)
                ).scalar_one()
            )

    def is_overdue(self, record: TopicRecord) -> bool:
        """Whether the oldest event exceeds the topic's retention."""
        if record.retention is None or self._database.read_only:
            return False
        with self._database.read() as tx:
            oldest = tx.execute(_OLDEST, _key(record)).scalar()
        return oldest is not None and oldest < self._retention_start(record.retention)

    def trim(self, record: TopicRecord) -> None:
        """Delete the events that exceed the topic's retention."""
        if not self.is_overdue(record) or record.retention is None:
            return
        with self._database.write() as tx:
            first = tx.execute(
                _FIRST_SINCE, _key(record, since=self._retention_start(record.retention))
            ).scalar()
            current = self.refresh(record)
            if current is not None:
                self._delete_before(tx, record, current.next_offset if first is None else first)

    @staticmethod
    def _delete_before(tx: sa.Connection, record: TopicRecord, first: int) -> None:
        """Make an offset the first one, if it is not before that."""
        if first > record.first_offset:
            tx.execute(_DELETE_BEFORE, _key(record, stop=first))
            tx.execute(_UPDATE.values(first_offset=first), _key(record))

    def set_retention(self, record: TopicRecord, retention: float | None) -> None:
        """Change the retention. Raises TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The topic {record.name!r}")
        with self._database.write() as tx:
            tx.execute(_UPDATE.values(retention=retention), _key(record))

    def drop(self, record: TopicRecord) -> bool:
        """Delete a topic with its events; return whether it existed. Raises TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The topic {record.name!r}")
        with self._database.write() as tx:
            return [tx.execute(each, _key(record)).rowcount for each in _DROP][-1] == 1

    def consumers(self, record: TopicRecord) -> dict[str, int]:
        """The next offset of each named consumer."""
        with self._database.read() as tx:
            return {row[0]: row[1] for row in tx.execute(_CONSUMERS, _key(record)).all()}

    def store_offset(self, record: TopicRecord, consumer: str, next_offset: int) -> None:
        """Store the next offset of a consumer; does nothing when the topic was dropped."""
        with self._database.write() as tx:
            if self.refresh(record) is None:
                return
            tx.execute(_DELETE_CONSUMER, _key(record, called=consumer))
            row = {
                "topic_id": record.topic_id,
                "consumer": consumer,
                "tenant_id": record.tenant,
                "next_offset": next_offset,
            }
            tx.execute(sa.insert(_c), row | {"updated_at": rfc3339(self._clock.now_ns())})

    def _retention_start(self, retention: float) -> str:
        return rfc3339(max(0, self._clock.now_ns() - int(retention * 1e9)))


def _key(record: TopicRecord, **more: Any) -> dict[str, Any]:
    return {"owner": record.owner, "id": record.topic_id, **more}
