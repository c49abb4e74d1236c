"""Tables of hits: their columns, and how they are built."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.features.vectors.exact_search import Hits
    from jammi_lab.features.vectors.matrix import Matrix


VECTOR_HIT_COLUMNS = ("query", "key", "rank", "similarity", "source_missing")
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


def as_hits(keys: "pa.Array") -> "pa.Table":
    """A table of hits with these keys, in their order."""
    import numpy as np
    import pyarrow as pa

    return pa.table(
        {
            "key": keys,
            "rank": np.arange(1, len(keys) + 1, dtype=np.int32),
            "similarity": np.zeros(len(keys), np.float32),
        }
    )


def hits_table(matrix: "Matrix", hits: "Hits", *, has_query_column: bool) -> "pa.Table":
    """key, rank and similarity of hits; with several queries their number first."""
    import numpy as np
    import pyarrow as pa

    from jammi_lab.storage.vector_arrays import to_arrow

    queries, per_query = hits.rows.shape
    columns: dict[str, Any] = (
        {"query": to_arrow(np.repeat(np.arange(queries, dtype=np.int32), per_query))}
        if has_query_column
        else {}
    )
    columns["key"] = matrix.keys_at(hits.rows.reshape(-1))
    ranks = np.arange(1, per_query + 1, dtype=np.int32)
    columns["rank"] = to_arrow(np.tile(ranks, queries) if has_query_column else ranks)
    columns["similarity"] = to_arrow(hits.similarities)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))
