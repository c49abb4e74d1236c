"""The terms of documents as columns: what a lexical table holds for each row."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.vectors.arrays import to_arrow, to_arrow_rows, to_numpy
from jammi_lab.words.analyzers import analyze

SCHEMA = pa.schema(
    [("terms", pa.list_(pa.string())), ("counts", pa.list_(pa.int32())), ("length", pa.int32())]
)
"""`terms`: the distinct terms of a document, ascending; `counts`: how often each occurs; `length`:
the number of its terms with repetitions."""


def count_terms(texts: Sequence[str], analyzer: str) -> pa.RecordBatch:
    """The terms of each text, with their counts, in the columns of `SCHEMA`."""
    lengths = np.empty(len(texts), np.int32)
    flat: list[str] = []
    for row, text in enumerate(texts):
        terms = analyze(text, analyzer)
        lengths[row] = len(terms)
        flat += terms
    encoded = pa.array(flat, pa.string()).dictionary_encode()
    vocabulary, ranks = sorted_vocabulary(encoded.dictionary)
    codes = ranks[to_numpy(encoded.indices)]
    pairs, counts = np.unique(
        np.repeat(np.arange(len(texts)), lengths) * max(1, len(vocabulary)) + codes,
        return_counts=True,
    )
    rows, codes = np.divmod(pairs, max(1, len(vocabulary)))
    offsets = to_arrow(np.searchsorted(rows, np.arange(len(texts) + 1)).astype(np.int32))
    return pa.RecordBatch.from_arrays(
        [
            pa.ListArray.from_arrays(offsets, vocabulary.take(to_arrow_rows(codes))),
            pa.ListArray.from_arrays(offsets, to_arrow(counts.astype(np.int32))),
            to_arrow(lengths),
        ],
        schema=SCHEMA,
    )


def sorted_vocabulary(
    terms: pa.Array,
) -> tuple[pa.Array, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """Distinct terms in ascending order, and for each of the terms its place there."""
    order = pc.sort_indices(terms)
    ranks = np.empty(len(terms), np.int64)
    ranks[to_numpy(order)] = np.arange(len(terms))
    return terms.take(order), ranks
