"""`vector_mean`, `vector_sum` and `vector_max` over FLOAT[n] in statements."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jammi_lab.core import errors


@pytest.fixture
def lab(ws: Any) -> Any:
    vectors = [[1, -2, 0.5], [3, 4, 0.25], [-1, 0, 8], [5, 5, 5]]
    kind = pa.list_(pa.float32(), 3)
    table = {"id": [1, 2, 3, 4], "g": list("aabb"), "vector": pa.array(vectors, kind)}
    ws.import_embeddings("v", pa.table(table))
    return ws


def test_they_are_element_wise_and_of_the_vectors_type(lab):
    rows = lab.sql(
        "SELECT g, vector_mean(vector) AS mean, vector_sum(vector) AS sum, vector_max(vector) AS max "
        "FROM jammi.v GROUP BY g ORDER BY g"
    ).arrow()
    assert rows.schema.field("mean").type == pa.list_(pa.float32(), 3)
    assert rows.drop_columns("g").to_pylist() == [
        {"mean": [2, 1, 0.375], "sum": [4, 2, 0.75], "max": [3, 4, 0.5]},
        {"mean": [2, 2.5, 6.5], "sum": [4, 5, 13], "max": [5, 5, 8]},
    ]


def test_null_is_left_out_and_no_vector_gives_null(lab):
    joined = "jammi.v a LEFT JOIN jammi.v b ON b.key = a.key AND b.key = 2"
    row = lab.sql(f"SELECT vector_mean(b.vector), vector_sum(b.vector) FROM {joined}").fetchall()[0]
    assert [list(vector) for vector in row] == [[3, 4, 0.25], [3, 4, 0.25]]
    assert lab.sql("SELECT vector_max(vector) FROM jammi.v WHERE false").fetchall() == [(None,)]


def test_sums_do_not_depend_on_the_order_of_rows(ws):
    vectors = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32) * 1e6
    totals = []
    for order in (range(200), range(199, -1, -1)):
        column = pa.FixedSizeListArray.from_arrays(vectors[list(order)].reshape(-1), 4)
        ws.sources.add("s", pa.table({"vector": column}), replace=True)
        totals.append(ws.sql("SELECT vector_sum(vector) AS total FROM s").fetchall())
    assert totals[0] == totals[1]
    exact = vectors.astype(np.float64).sum(0).astype(np.float32)
    assert list(totals[0][0][0]) == pytest.approx(exact.tolist())


def test_a_table_of_means_is_searched_and_has_its_verdict(lab):
    lab.materialize(
        "means", "SELECT g AS id, vector_mean(vector) AS vector FROM jammi.v GROUP BY g"
    )
    assert [(each.name, each.columns) for each in lab.table("means").inputs] == [
        ("v", ("g", "vector"))
    ]
    assert str(lab.staleness("means")) == "fresh"
    lab.import_embeddings("groups", lab.table("means").arrow())
    assert lab.sql("SELECT key FROM search('groups', $v, k := 1)", v=[1, 1, 3]).fetchall() == [
        ("b",)
    ]


def test_what_would_be_rounded_or_is_no_aggregate_of_vectors_is_refused(lab):
    for call, words in (
        ("vector_mean(x) FROM (VALUES ([1, 2]), ([2, 3])) t(x)", "vector_mean must be FLOAT"),
        ("vector_sum(x) FROM (VALUES ([1]::FLOAT[]), ([1, 2])) t(x)", "one width, got 1 and 2"),
        ("vector_mean(vector) FILTER (key > 1) FROM jammi.v", "CASE WHEN"),
        ("vector_sum(DISTINCT vector) FROM jammi.v", "SELECT DISTINCT"),
        ("vector_max(vector ORDER BY key) FROM jammi.v", "order of rows has no effect"),
        ("vector_max(vector) OVER () FROM jammi.v", "not window functions"),
    ):
        with pytest.raises(errors.SqlError) as caught:
            lab.sql(f"SELECT {call}").fetchall()
        assert words in f"{caught.value} {caught.value.hint}"


def test_a_mistyped_name_has_near_names(lab):
    with pytest.raises(errors.SqlError) as caught:
        lab.sql("SELECT vector_meen(vector) FROM jammi.v")
    assert "vector_mean" in caught.value.near
