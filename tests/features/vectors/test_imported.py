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


def test_bad_vectors_are_told_before_anything_is_made(ws):
    for table, raised, said in (
        (pa.table({"id": [1, 2], "vector": [[1.0, 2.0], [1.0]]}), errors.SchemaMismatch, "width"),
        (
            pa.table({"id": [1, 2], "vector": [[1.0, 2.0], [0.0, 0.0]]}),
            errors.SchemaMismatch,
            "key 2 is all zeros",
        ),
        (
            pa.table({"id": [1, 2], "vector": [[1.0, 2.0], [float("nan"), 1.0]]}),
            errors.SchemaMismatch,
            "key 2 is not finite",
        ),
        (
            pa.table({"id": [1, 2], "vector": [[1e300, 2.0], [1.0, 1.0]]}),
            errors.SchemaMismatch,
            "key 1 is not finite",
        ),
        (
            pa.table({"id": [1, 2], "vector": [[1.0, 2.0], None]}),
            errors.SchemaMismatch,
            "has a NULL vector",
        ),
        (
            pa.table({"id": [1, 2], "vector": [[1.0, 2.0], [1.0, None]]}),
            errors.SchemaMismatch,
            "NULL",
        ),
        (
            pa.table({"id": [1, None], "vector": [[1.0, 2.0], [1.0, 1.0]]}),
            errors.SchemaMismatch,
            "1 of 2 rows have no key",
        ),
        (
            pa.table({"id": [1, 1], "vector": [[1.0, 2.0], [1.0, 1.0]]}),
            errors.DuplicateKey,
            "more than one row",
        ),
        (pa.table({"id": [1], "vector": ["x"]}), errors.SchemaMismatch, "not lists of numbers"),
        (pa.table({"id": [1], "numbers": [[1.0]]}), errors.SchemaMismatch, "no column 'vec'"),
        (pa.table({"idd": [1], "vector": [[1.0]]}), errors.SchemaMismatch, "no column 'id'"),
        (
            pa.table({"id": [1], "vector": [[1.0]], "key": [2]}),
            errors.SchemaMismatch,
            "No other column can be named 'key'",
        ),
        (
            pa.table({"id": [{"a": 1}, {"a": 2}], "vector": [[1.0], [2.0]]}),
            errors.SchemaMismatch,
            "no order",
        ),
        (
            pa.table({"id": [], "vector": pa.array([], pa.list_(pa.float32()))}),
            errors.SchemaMismatch,
            "no fixed width",
        ),
    ):
        with pytest.raises(raised, match=said):
            ws.import_embeddings("v", table)
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


def test_the_rows_may_be_those_of_sql_with_an_asterisk(ws, tmp_path):
    (tmp_path / "p.csv").write_text("id,title\n1,a\n2,b\n")
    ws.sources.add("p", tmp_path / "p.csv")
    ws.import_embeddings("v", data([1, 2]), source="SELECT * FROM p WHERE title <> 'b'")
    rows = ws.search("v", [1.0] * ws.table("v").dimensions, select="title").arrow().to_pylist()
    assert {(r["key"], r["title"], r["source_missing"]) for r in rows} == {
        (1, "a", False),
        (2, None, True),
    }
    with pytest.raises(errors.SourceUnavailable):
        ws.import_embeddings("v", data([1, 2]), source="nothing*.csv")
