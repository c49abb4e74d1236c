"""What a search returns: tables of hits, and the inputs that were read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jammi_lab.core.anchors import Input

if TYPE_CHECKING:
    import pyarrow as pa


VECTOR_HIT_COLUMNS = ("query", "key", "rank", "similarity", "source_missing")
"""Columns that every answer of a search by meaning may have."""
WORD_HIT_COLUMNS = ("query", "key", "rank", "score", "source_missing")
"""Columns that every answer of a search by words may have."""
HIT_COLUMNS = (
    "query",
    "key",
    "rank",
    "score",
    "similarity",
    "rank_meaning",
    "rank_words",
    "source_missing",
)
"""Columns that every answer of a search by meaning and words may have."""
HIT_TYPES = {
    "query": "INTEGER",
    "rank": "INTEGER",
    "similarity": "FLOAT",
    "score": "DOUBLE",
    "rank_meaning": "INTEGER",
    "rank_words": "INTEGER",
    "source_missing": "BOOLEAN",
}
"""SQL types of the columns of hits, besides the key."""


@dataclass(frozen=True)
class SearchAnswer:
    """The hits of a search."""

    table: "pa.Table"
    """The hits."""
    types: Sequence[str]
    """The SQL types of the columns, in their order."""
    inputs: Sequence[Input]
    """What was read, with the columns read."""


def hits_table(
    keys: "pa.Array | pa.ChunkedArray",
    counts: Sequence[int],
    values: "Mapping[str, pa.Array | pa.ChunkedArray]",
    *,
    has_query_column: bool,
) -> "pa.Table":
    """A table of hits, which come query by query, best first: key, rank and values; with several
    queries their number first. `counts`: the number of hits of each query."""
    import numpy as np
    import pyarrow as pa

    from jammi_lab.storage.vector_arrays import to_arrow

    columns: dict[str, Any] = {}
    if has_query_column:
        columns["query"] = to_arrow(np.repeat(np.arange(len(counts), dtype=np.int32), counts))
    ranks = [np.arange(1, count + 1, dtype=np.int32) for count in counts]
    columns["key"] = keys
    columns["rank"] = to_arrow(np.concatenate([np.empty(0, np.int32), *ranks]))
    columns.update(values)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def as_hits(keys: "pa.Array") -> "pa.Table":
    """A table of hits with these keys, in their order."""
    return hits_table(keys, [len(keys)], {}, has_query_column=False)
