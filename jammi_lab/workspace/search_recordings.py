"""Recordings: logs of searches with their answers, which can be repeated and compared."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from jammi_lab.core.definitions import decode_param
from jammi_lab.core.errors import JammiError, TopicNotFound
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import CalledCollection, Rendered, ReprMixin, count_noun
from jammi_lab.features.search.queries import texts_of
from jammi_lab.freshness.reports import NamedRows
from jammi_lab.workspace.result import InMemoryResult, Result
from jammi_lab.workspace.searches import RecordedSearch, Searches


class Recording(ReprMixin):
    """A log of searches with their answers."""

    def __init__(self, name: str, searches: Searches) -> None:
        self.name, self._searches = name, searches

    def __len__(self) -> int:
        return len(self._searches.recorded(self.name))

    def replay(self) -> Result:
        """Run each search again, and compare: columns n (from 0), query, table, outcome (same,
        differs or fails), cause, missing and added (keys of hits), recorded_keys, keys.

        `cause`: model (the query has another vector now), definition (a table has another recipe),
        data (a table or its source has other rows), or index (candidates of an approximate search);
        for a search that fails, the error.
        """
        import pyarrow as pa

        rows = [
            {"n": number, **_compare(recorded, self._searches)}
            for number, recorded in enumerate(self._searches.recorded(self.name))
        ]
        texts = [(name, pa.string()) for name in ("query", "table", "outcome", "cause")]
        names = ("missing", "added", "recorded_keys", "keys")
        keys = [(name, pa.list_(pa.string())) for name in names]
        schema = pa.schema([("n", pa.int64()), *texts, *keys])
        table = pa.Table.from_pylist(rows, schema=schema)
        return InMemoryResult(table, [], self._searches.badges)

    def _rendered(self) -> Rendered:
        lines = [
            (each.arguments["table"], _query_text(each), len(each.keys))
            for each in self._searches.recorded(self.name)
        ]
        note = f"{count_noun(len(lines), 'search', 'searches')} in {self.name}"
        return listing_table(["table", "query", "hits"], lines, aligned="llr", note=note)


@contextlib.contextmanager
def open_recording(name: str, searches: Searches) -> Iterator[Recording]:
    """Record the searches of this thread or task within the block. NameInvalid."""
    with searches.record(name):
        yield Recording(name, searches)


class Recordings(CalledCollection, NamedRows[Recording], ReprMixin):
    """The recordings of searches."""

    def __init__(self, searches: Searches) -> None:
        self._rows = [Recording(name, searches) for name in searches.names()]

    def _missing_error(self, name: str, near: list[str]) -> JammiError:
        return TopicNotFound(
            f"There is no recording {name!r}.",
            near=near,
            hint="with ws.recording(name): … creates one.",
        )

    def _rendered(self) -> Rendered:
        lines = [(recording.name, len(recording)) for recording in self]
        note = count_noun(len(lines), "recording")
        return listing_table(["recording", "searches"], lines, aligned="lr", note=note)


def _compare(recorded: RecordedSearch, searches: Searches) -> dict[str, Any]:
    """The outcome of a repeated search, and its cause."""
    row = {
        "table": recorded.arguments["table"],
        "query": _query_text(recorded),
        "recorded_keys": recorded.keys,
    }
    try:
        repeated = searches.repeat(recorded)
    except JammiError as error:
        return {**row, "outcome": "fails", "cause": error.message, "keys": None}
    same = repeated.answer == recorded.answer
    cause = None if same else _cause_of(recorded, repeated)
    outcome = "same" if same else "differs"
    return {
        **row,
        "outcome": outcome,
        "cause": cause,
        "missing": _without(recorded.keys, repeated.keys),
        "added": _without(repeated.keys, recorded.keys),
        "keys": repeated.keys,
    }


def _without(keys: Sequence[str], others: Sequence[str]) -> list[str]:
    """The keys that are not among the others, each as often as it has none there: several queries
    may have the same hit."""
    return list((Counter(keys) - Counter(others)).elements())


def _cause_of(recorded: RecordedSearch, repeated: RecordedSearch) -> str:
    if recorded.vector != repeated.vector:
        return "model"
    pairs = list(zip(recorded.tables, repeated.tables, strict=True))
    if any(old.definition != new.definition for old, new in pairs):
        return "definition"
    has_source_columns = recorded.arguments["where"] or recorded.arguments["select"]
    if has_source_columns or any(old.digest != new.digest for old, new in pairs):
        return "data"
    # The same vectors gave other hits, or source rows of them are gone.
    return "index" if recorded.keys != repeated.keys else "data"


def _query_text(recorded: RecordedSearch) -> str:
    query = decode_param(recorded.arguments["query"])
    if query is None:
        return f"row {decode_param(recorded.arguments['row'])}"
    texts = texts_of(query)
    return "vector" if texts is None else " | ".join(texts)
