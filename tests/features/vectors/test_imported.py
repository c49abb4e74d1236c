"""Vectors from outside: checked, put in key order, reused when they are the same."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jammi_lab.core import errors

RNG = np.random.default_rng(5)


def data(keys: list[Any], dimensions: int = 4, **others: list[Any]) -> pa.Table:
    vectors = [RNG.normal(size=dimensions).astype(np.float32).tolist() for _ in keys]
    return pa.table({"id": keys, "vector": pa.array(vectors, pa.list_(pa.float32())), **others})


def test_rows_come_in_key_order_with_key_and_vector_first_and_other_columns_beside(ws):
    given = data(["b", "c", "a"], tag=[1, 2, 3])
    table = ws.import_embeddings("v", given)
    rows = table.read().arrow()
    assert (
        rows.column_names == ["key", "vector", "tag"]
        and rows["key"].to_pylist() == ["a", "b", "c"]
        and rows["tag"].to_pylist() == [3, 1, 2]
    )
    assert np.array_equal(ws.vector("v", "c"), np.float32(given["vector"][1].as_py()))
    assert (table.kind, table.dimensions, table.model_id, table.reuse) == (
        "imported",
        4,
        "external",
        None,
    )


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.list_(pa.float32(), 4),
        pa.large_list(pa.float32()),
        pa.list_(pa.int64()),
    ],
)
def test_vectors_may_be_lists_of_any_numbers(ws, kind):
    ws.import_embeddings(
        "v", pa.table({"id": [2, 1], "vector": pa.array([[1, 2, 3, 4], [5, 6, 7, 8]], kind)})
    )
    assert ws.vector("v", 1).tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("called", ["vec", "Vec", "vector"])
def test_vectors_are_found_under_their_usual_names(ws, called):
    given = data([1, 2])
    ws.import_embeddings("v", given.rename_columns(["id", called]))
    assert np.array_equal(ws.vector("v", 2), np.float32(given["vector"][1].as_py()))
    with pytest.raises(errors.SchemaMismatch, match="vector="):
        ws.import_embeddings("w", given.rename_columns(["id", "numbers"]))


def test_chunks_do_not_matter(ws):
    whole = data(list(range(10)))
    one = ws.import_embeddings("one", whole)
    two = ws.import_embeddings("two", pa.concat_tables([whole.slice(6), whole.slice(0, 6)]))
    assert one.path.read_bytes() == two.path.read_bytes() and two.outcome in ("computed", "reused")


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_frames_are_taken_as_they_are(ws, frame):
    given = data([3, 1], tag=["x", "y"])
    if frame == "pandas":
        taken: Any = given.to_pandas()
    else:
        import polars as pl

        taken = pl.from_arrow(given)
    assert ws.import_embeddings("v", taken).row_count == 2


NO_VECTORS = pa.array([], pa.list_(pa.float32()))
BAD_VECTORS = [
    ([1, 2], [[1.0, 2.0], [1.0]], "width"),
    ([1, 2], [[1.0, 2.0], [0.0, 0.0]], "key 2 is all zeros"),
    ([1, 2], [[1.0, 2.0], [float("nan"), 1.0]], "key 2 is not finite"),
    ([1, 2], [[1e300, 2.0], [1.0, 1.0]], "key 1 is not finite"),
    ([1, 2], [[1.0, 2.0], None], "has a NULL vector"),
    ([1, 2], [[1.0, 2.0], [1.0, None]], "NULL"),
    ([1, None], [[1.0, 2.0], [1.0, 1.0]], "1 of 2 rows have no key"),
    ([1], ["x"], "not lists of numbers"),
    ([{"a": 1}, {"a": 2}], [[1.0], [2.0]], "no order"),
    ([], NO_VECTORS, "no fixed width"),
]
BAD_COLUMNS = [
    ({"id": [1], "numbers": [[1.0]]}, "no column 'vec'"),
    ({"idd": [1], "vector": [[1.0]]}, "no column 'id'"),
    ({"id": [1], "vector": [[1.0]], "key": [2]}, "No other column can be named 'key'"),
]


def test_bad_vectors_are_told_before_anything_is_made(ws):
    with_names = [({"id": keys, "vector": rows}, said) for keys, rows, said in BAD_VECTORS]
    for columns, said in with_names + BAD_COLUMNS:
        with pytest.raises(errors.SchemaMismatch, match=said):
            ws.import_embeddings("v", pa.table(columns))
    with pytest.raises(errors.DuplicateKey, match="more than one row"):
        ws.import_embeddings("v", data([1, 1]))
    assert ws.tables(status=None) == []


def test_bad_arguments_are_told(ws):
    for change in (
        {"model_id": ""},
        {"model_id": None},
        {"precision": "f8"},
        {"source": "nowhere"},
        {"key": "vector"},
    ):
        with pytest.raises(errors.JammiError):
            ws.import_embeddings("v", data([1]), **change)
