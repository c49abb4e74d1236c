"""What a reader decided about files after a look at all their values: the columns with their types,
how the files are read, and the sentences that tell the user what had to be decided.

A decision is made once per state of the files. It is kept in the observation cache, so that later
statements, also in other kernels, read with the types given.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.sources.files.snapshots import change_token
from jammi_lab.storage.digests import NO_STAT, CacheEntry, DigestCache, observation_key
from jammi_lab.storage.files import CLOCK_SECONDS

_RULES = "4"
"""Counts changes of the rules that decide; an earlier decision is made again."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How files are read."""

    columns: Mapping[str, str]
    """SQL type by column, in order."""
    notes: tuple[str, ...] = ()
    """What had to be decided, one sentence each, such as `zip: text, because "01010" begins with
    0`."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """What else the reader needs, as JSON values."""


def decision_for(
    record: SourceRecord,
    source_files: Sequence[SourceFile],
    memo: DigestCache | None,
    decide: Callable[[], Decision],
) -> Decision:
    """The decision about these files: an earlier one if their stats, or the marks of their store,
    prove that they are the same; else the one that `decide` makes. Raises what `decide` raises."""
    if memo is None or record.anchor == "content":  # an unchanged stat is not trusted
        return decide()
    state = change_token(source_files)
    rules = digest_of([duckdb.__version__, _RULES, record.options])
    key = observation_key("decision", record.kind, record.location, rules)
    stored = memo.get(key)
    if stored is not None and stored.payload["of"] == state:
        return _from_payload(stored.payload)
    began_ns = time.time_ns()
    decision = decide()
    if all(file.is_proved(began_ns, CLOCK_SECONDS) for file in source_files):
        payload = {"of": state, **_to_payload(decision)}
        memo.put(key, CacheEntry(NO_STAT, began_ns, payload))
    return decision


def _to_payload(decision: Decision) -> dict[str, Any]:
    return {
        "columns": [[name, kind] for name, kind in decision.columns.items()],
        "notes": list(decision.notes),
        "reading": dict(decision.reading),
    }


def _from_payload(payload: Mapping[str, Any]) -> Decision:
    return Decision(dict(payload["columns"]), tuple(payload["notes"]), payload["reading"])
