"""Topics as tables of SQL, and their state as inputs."""

from collections.abc import Iterable

from jammi_lab.canonical import digest_of
from jammi_lab.catalog.topics import TopicRecord
from jammi_lab.errors import VersionConflict
from jammi_lab.live.events import Reader
from jammi_lab.live.topics import Topics, as_rows
from jammi_lab.names import fold
from jammi_lab.observing.look import Look, Pinned
from jammi_lab.sources.base import Relation
from jammi_lab.sources.computed import Computed, Read
from jammi_lab.sources.scratch import sql_types
from jammi_lab.values.anchors import Input, InputKind, Observed, Snapshot, Vanished

TOPICS = "topics"
METHOD = "offsets of the topic"


class TopicProvider:
    """`topics.<name>`: a topic's columns, then `_offset` and `_produced_at`; the rows in the order in which they were published."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        """The relation of a topic as it is now: a statement reads these events, whatever is published meanwhile. None when there is none."""
        if len(parts) != 2 or fold(parts[0]) != TOPICS or (reader := self._topics.reader(parts[1])) is None:
            return None
        columns = _columns(reader)
        what = Input(InputKind.TOPIC, reader.record.name)
        relation = Relation(input=what, columns=columns, token=Pinned(_snapshot(reader, columns)))

        def rows(_: object) -> object:
            record = reader.record
            events = list(reader.from_to(record.first_offset, record.next_offset))
            if len(events) != record.next_offset - record.first_offset:
                raise VersionConflict(f"Events of the topic {record.name!r} were removed while it was read.", hint="Run the statement again.")
            return as_rows(reader.schema, events)

        computed = Computed(says="", reads=lambda read: [Read(relation, tuple(sorted(read)), columns)], rows=rows)
        return Relation(input=what, columns=columns, token=relation.token, computed=computed)

    def names(self) -> Iterable[str]:
        """The topics that the bound tenant sees, as `topics.<name>`."""
        return [f"{TOPICS}.{topic.name}" for topic in self._topics]

    def observe(self, input: Input, _: Look) -> Observed:
        """The offsets of a topic; a topic that was dropped and registered again is another one."""
        reader = self._topics.reader(input.name)
        return Vanished() if reader is None else _snapshot(reader, _columns(reader))


def _columns(reader: Reader) -> dict[str, str]:
    return sql_types(as_rows(reader.schema, []).schema)


def _snapshot(reader: Reader, columns: dict[str, str]) -> Snapshot:
    record: TopicRecord = reader.record
    state = [record.topic_id, record.first_offset, record.next_offset]
    return Snapshot(columns=columns, whole=digest_of(state), method=METHOD, row_count=reader.log.row_count(record))
