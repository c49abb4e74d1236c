"""Which columns of a changed file or frame differ from those that were read, and how many rows it
had and has.

The earlier content no longer exists when the question comes up. So the digests of its columns are
stored in the observation cache when a table is computed from it. They are for display: verdicts
rest on anchors.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from jammi_lab.core.anchors import Anchor, Observed, Snapshot
from jammi_lab.core.html import count_noun, escape_invisible
from jammi_lab.storage.digests import NO_STAT, CacheEntry, DigestCache, observation_key

MAX_STORED_COLUMNS = 256
"""Of wider inputs no digests by column are stored."""
_MAX_DIGEST_CHARS = 16
_MAX_NAMED_COLUMNS = 3


def note_columns(state: Observed, anchor: Anchor, cache: DigestCache, now_ns: int) -> None:
    """Store the digests of the columns that were read, if the state has any and is the anchor's."""
    if (
        isinstance(state, Snapshot)
        and state.by_column is not None
        and state.anchor(anchor.input, anchor.columns).same_state(anchor)
        and 0 < len(anchor.columns) <= MAX_STORED_COLUMNS
        and not _stored_payload(anchor, cache)
    ):
        payload = _payload(anchor, state.by_column, state.row_count)
        cache.put(_key(anchor), CacheEntry(NO_STAT, now_ns, payload))


def note_row_count(anchor: Anchor, count: Callable[[], int | None], cache: DigestCache) -> None:
    """Store the number of rows of a text file, which has no digests by column, as counted."""
    if not _stored_payload(anchor, cache) and (rows := count()) is not None:
        cache.put(_key(anchor), CacheEntry(NO_STAT, time.time_ns(), {"columns": {}, "rows": rows}))


def column_difference(recorded: Anchor, current: Anchor, cache: DigestCache) -> str:
    """What differs between two states of an input that were noted: `only price`. Empty when that
    is not known."""
    former, now = _stored_payload(recorded, cache), _stored_payload(current, cache)
    digests, columns = now.get("columns", {}), former.get("columns", {})
    differing = [c for c in columns if digests.get(c) != columns[c]] if digests else []
    return difference_text(
        differing if len(differing) < len(columns) else [],
        former.get("rows", recorded.row_count),
        now.get("rows", current.row_count),
    )


def difference_text(only: list[str], before: int | None, now: int | None) -> str:
    """`only price`, or `3 → 4 rows`. `only`: the columns that differ, when the others are equal."""
    parts = [f"only {column_names(only)}"] if only else []
    if before is not None and now is not None and before != now:
        parts.append(f"{before:,} → {count_noun(now, 'row')}")
    return ", ".join(parts)


def column_names(names: list[str]) -> str:
    """Names of columns for display, the first few and how many more."""
    shown = [escape_invisible(name) for name in names[:_MAX_NAMED_COLUMNS]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {count_noun(more, 'more column')}" if more else "")


def _stored_payload(anchor: Anchor, cache: DigestCache) -> dict[str, Any]:
    entry = cache.get(_key(anchor))
    return {} if entry is None else entry.payload


def _payload(anchor: Anchor, digests: Mapping[str, str], rows: int | None) -> dict[str, Any]:
    columns = {c: digests[c][-_MAX_DIGEST_CHARS:] for c in anchor.columns if c in digests}
    return {"columns": columns, "rows": rows}


def _key(anchor: Anchor) -> str:
    return observation_key("rows", "columns", anchor.method, anchor.value)
