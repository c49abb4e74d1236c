"""The texts of a table as an embedding reads them."""

import hashlib
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from jammi_lab.steps.row_texts import RowTexts

FIRST = ["graph", None, "", "tomato ☃", "graph"]
SECOND = ["network", "alone", None, "soup", "network"]
JOINED = ["graph\nnetwork", "alone", "", "tomato ☃\nsoup", "graph\nnetwork"]


def chunked(values: list[str | None], kind: pa.DataType, cut: int = 2) -> pa.ChunkedArray:
    whole = pa.array(values, pa.string())
    return pa.chunked_array([whole[:cut].cast(kind), whole[cut:].cast(kind)], kind)


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)
def test_columns_are_joined_and_looked_up_in_any_order(kind):
    texts = RowTexts([chunked(FIRST, kind), chunked(SECOND, kind, cut=3)])
    assert texts.texts_of(np.arange(5)) == JOINED and texts.texts_of(np.array([3, 0, 3])) == [
        JOINED[3],
        JOINED[0],
        JOINED[3],
    ]
    assert texts.lengths.tolist() == [len(text) for text in JOINED]
    assert texts.digests().tolist() == [
        hashlib.sha256(text.encode()).digest()[:16] for text in JOINED
    ]


def test_one_column_reads_null_as_the_empty_text():
    assert RowTexts([chunked(FIRST, pa.string())]).texts_of(np.arange(5)) == [
        text or "" for text in FIRST
    ]


def test_no_rows_are_no_texts():
    texts = RowTexts([pa.chunked_array([], pa.string())])
    assert (
        len(texts.digests()) == len(texts.lengths) == 0
        and texts.texts_of(np.empty(0, np.int64)) == []
    )


def test_texts_are_not_held_as_objects_of_python():
    column = pa.chunked_array([pa.array([f"text {i}" for i in range(50_000)])])
    tracemalloc.start()
    try:
        texts = RowTexts([column])
        digests = texts.digests()
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(digests) == 50_000 and held < 50_000 * 40 and peak < 50_000 * 80
