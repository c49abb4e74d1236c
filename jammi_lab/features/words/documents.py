"""The terms of documents as columns: what a lexical table holds for each row."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.features.words.analyzers import analyze
from jammi_lab.storage.vector_arrays import to_arrow, to_numpy

SCHEMA = pa.schema([("terms", pa.large_string()), ("length", pa.int32())])
"""`terms`: the terms of a document in ascending order, each as often as it occurs, with a space
between them (no analyzer leaves white space in a term); `length`: their number.

One text a row is written and read in a third of the time of lists of terms and counts."""


def analyze_texts(texts: Sequence[str], analyzer: str) -> pa.RecordBatch:
    """The terms of each text, in the columns of `SCHEMA`."""
    documents = [sorted(analyze(text, analyzer)) for text in texts]
    encoded = [" ".join(terms).encode() for terms in documents]
    lengths = np.fromiter(map(len, documents), np.int32, len(documents))
    ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
    # `pa.array` of a list would import pandas
    joined = strings_from_buffer(np.frombuffer(b"".join(encoded), np.uint8), ends)
    return pa.RecordBatch.from_arrays([joined, to_arrow(lengths)], schema=SCHEMA)


def strings_from_buffer(
    data: "np.ndarray[tuple[int], np.dtype[np.uint8]]",
    ends: "np.ndarray[tuple[int], np.dtype[np.int64]]",
) -> pa.Array:
    """Texts from their UTF-8, one after the other, and where each ends, without a copy."""
    offsets = np.concatenate([np.zeros(1, np.int64), ends])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(ends), buffers)


def sorted_vocabulary(
    terms: pa.Array,
) -> tuple[pa.Array, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """Distinct terms in ascending order, and for each of the terms its place there."""
    order = pc.sort_indices(terms)
    ranks = np.empty(len(terms), np.int64)
    ranks[to_numpy(order)] = np.arange(len(terms))
    return terms.take(order), ranks
