"""Runs the searches of `ws.search`, and records those within a recording.

Each search of a block `with ws.recording(name):` is an event of the topic
`jammi.recordings.<name>`: its arguments, the tables that it read with their definitions and
digests, the digest of the query vector and that of the answer.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.definitions import decode_param, encode_param
from jammi_lab.core.errors import TableNotFound, TopicNotFound
from jammi_lab.core.identifiers import check_name
from jammi_lab.core.records import TableRecord
from jammi_lab.features.search.queries import SearchRequest, texts_of
from jammi_lab.workspace.result import Result

if TYPE_CHECKING:
    from jammi_lab.workspace.assembly import Services

TOPIC_PREFIX = "jammi.recordings."


class RecordedTable(msgspec.Struct, frozen=True):
    """A table that a search read, in the version that it had."""

    name: str
    version: int
    definition: str | None
    digest: str | None


class RecordedSearch(msgspec.Struct, frozen=True):
    """A search: its arguments, what it read, and what it found."""

    arguments: dict[str, Any]
    tables: list[RecordedTable]
    vector: str | None
    """The digest of the query vectors; None for a search by words alone or of a row."""
    answer: str
    """The digest of the answer."""
    keys: list[str]
    """The keys of the hits, as text."""


class _Search(NamedTuple):
    """A search that was run."""

    result: Result
    recorded: RecordedSearch


class Searches:
    """Runs searches, and records those within a recording."""

    def __init__(self, services: "Services") -> None:
        self._search, self._lookup = services.search, services.lookup
        self._statements, self._topics = services.statements, services.topics
        self.badges = services.badges
        self._recording: contextvars.ContextVar[str | None] = contextvars.ContextVar(
            "jammi_recording", default=None
        )

    def search(self, table: object, query: Any, words: object, **options: Any) -> Result:
        """The hits of a search. Raises as `ws.search`."""
        record, words_record = self._tables(table, query, words)
        if (topic := self._recording.get()) is None:
            return self.run(record, query, words_record, **options)
        names = [
            None if each is None else self._lookup.lineage_name(each) for each in (table, words)
        ]
        done = self._run_recorded(record, words_record, query, options, names)
        self._topics._publish_record(topic, msgspec.json.encode(done.recorded).decode())
        return done.result

    def run(
        self, record: TableRecord, query: Any, words: TableRecord | None, **options: Any
    ) -> Result:
        """The hits of a search of some tables. Raises as `ws.search`."""
        searched = [record] if words is None else [record, words]
        return self._statements.answer(
            lambda: self._search.search(record, SearchRequest(query, **options), words),
            searched,
            filtered=options.get("where") is not None,
        )

    @contextlib.contextmanager
    def record(self, name: str) -> Iterator[None]:
        """Record the searches of this thread or task within the block. NameInvalid."""
        topic = TOPIC_PREFIX + check_name(name, "recording")
        token = self._recording.set(topic)
        try:
            yield
        finally:
            self._recording.reset(token)

    def recorded(self, name: str) -> list[RecordedSearch]:
        """The searches of a recording, oldest first; none before the first of its block."""
        try:
            events = list(self._topics.replay(TOPIC_PREFIX + name))
        except TopicNotFound:
            return []
        return [
            msgspec.json.decode(row, type=RecordedSearch)
            for event in events
            for row in event.batch["record"].to_pylist()
        ]

    def names(self) -> list[str]:
        """The recordings of the bound tenant and the shared ones."""
        topics = [topic.name for topic in self._topics.list()]
        return [t.removeprefix(TOPIC_PREFIX) for t in topics if t.startswith(TOPIC_PREFIX)]

    def repeat(self, recorded: RecordedSearch) -> RecordedSearch:
        """The same search over the tables as they are now. Raises as `ws.search`."""
        options = dict(recorded.arguments)
        table, words = options.pop("table"), options.pop("words")
        query, options["row"] = decode_param(options.pop("query")), decode_param(options["row"])
        options["params"] = {n: decode_param(v) for n, v in (options["params"] or {}).items()}
        record, words_record = self._tables(table, query, words)
        return self._run_recorded(record, words_record, query, options, [table, words]).recorded

    def _tables(
        self, table: object, query: Any, words: object
    ) -> tuple[TableRecord, TableRecord | None]:
        by_words = words is None and texts_of(query) is not None
        try:
            record = self._lookup.find_searchable(table, by_words=by_words).record
        except TableNotFound as error:
            if isinstance(query, str) and self._lookup.has_ready_version(query):
                error.hint = f"The table comes first: ws.search({query!r}, {table!r})."
            raise
        if words is None:
            return record, None
        return record, self._lookup.find_searchable(words, by_words=True).record

    def _run_recorded(
        self,
        record: TableRecord,
        words: TableRecord | None,
        query: Any,
        options: Mapping[str, Any],
        names: Sequence[str | None],
    ) -> _Search:
        from jammi_lab.storage.arrow_digests import arrow_digests

        result = self.run(record, query, words, **options)
        rows = result.arrow()
        texts = None if isinstance(query, str) else texts_of(query)
        plain_query = texts or (query.tolist() if hasattr(query, "tolist") else query)
        params = options.get("params") or {}
        arguments = {
            **options,
            "table": names[0],
            "words": names[1],
            "query": encode_param(plain_query),
            "row": encode_param(options.get("row")),
            "params": {name: encode_param(value) for name, value in params.items()},
        }
        tables = []
        for each in (record, words):
            if each is not None:
                tables.append(
                    RecordedTable(each.recipe, each.version, each.definition_hash, each.digest)
                )
        answer = digest_of([[name, digest] for name, digest in arrow_digests(rows).items()])
        keys = [str(key) for key in rows["key"].to_pylist()]
        vector = self._vector_digest(record, query)
        return _Search(result, RecordedSearch(arguments, tables, vector, answer, keys))

    def _vector_digest(self, record: TableRecord, query: Any) -> str | None:
        """The digest of the vectors that a text or vector query is searched with."""
        if query is None or record.recipe_class.has_words:
            return None
        vectors, _ = self._search.query_vectors(record, query)
        return digest_of(vectors.astype("<f4").tobytes().hex())
