import datetime as dt
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.core.errors import DuplicateKey, SchemaMismatch, TableDamaged
from jammi_lab.features.vectors import matrix
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.storage.parquet import ParquetSink
from jammi_lab.storage.vector_arrays import chunk_matrices, to_keys
from tests.features.vectors.drawn import normal


def table(keys=("a", "b", "c"), rows=((1, 0), (0, 1), (1, 1))):
    return pa.table(
        {
            "key": pa.array(keys),
            "vector": pa.array(rows, pa.list_(pa.float32(), 2)),
            "_digest": pa.array(["x"] * len(keys)),
        }
    )


def from_arrow(data):
    return Matrix(to_keys(data["key"]), np.concatenate(chunk_matrices(data["vector"])))


def test_an_empty_file_is_an_empty_matrix(tmp_path):
    pq.write_table(table((), ()).cast(table().schema), tmp_path / "t.parquet")
    read = Matrix.from_parquet(tmp_path / "t.parquet")
    assert (
        len(read) == 0
        and read.dimensions == 2
        and read.keys.type == pa.string()
        and read.search([1, 0], 3).rows.shape == (1, 0)
    )


@pytest.mark.parametrize(
    "keys",
    [
        pa.array([3, 1, 2]),
        pa.array(["é", "a", "b"]),
        pa.array([uuid.UUID(int=n).bytes for n in (9, 1, 5)], pa.binary(16)).cast(pa.uuid()),
    ],
)
def test_ties_go_by_ascending_key_and_keys_keep_their_type(keys):
    held = Matrix(to_keys(keys), np.ones((3, 2), np.float32))
    found = held.keys_at(held.search([1, 1], 3).rows)
    assert found.type == keys.type and found.to_pylist() == sorted(keys.to_pylist())


@pytest.mark.parametrize(
    ("keys", "found", "others"),
    [
        (
            pa.array([2, 17]),
            [17, 17.0, Decimal("17.0"), np.int8(17)],
            [17.5, Decimal("17.5"), np.float32(17.5), float("nan"), "17", True],
        ),
        (
            pa.array([dt.date(2020, 1, 1), dt.date(2020, 1, 2)]),
            [dt.date(2020, 1, 2), dt.datetime(2020, 1, 2)],
            [dt.datetime(2020, 1, 2, 5)],
        ),
        (
            pa.array([5, 0], pa.timestamp("s")),
            [dt.datetime(1970, 1, 1)],
            [dt.datetime(1970, 1, 1, 0, 0, 0, 1)],
        ),
        (
            pa.array([0, 1], pa.timestamp("ns")),
            [pd.Timestamp(1), np.datetime64(1, "ns")],
            [pd.Timestamp(1001)],
        ),
        (
            pa.array([5, 0], pa.timestamp("us", "UTC")),
            [pd.Timestamp(0, tz="UTC")],
            [pd.Timestamp(1, tz="UTC")],
        ),
        (pa.array([Decimal("1.00"), Decimal("1.50")]), [Decimal("1.5")], [Decimal("1.501")]),
        (pa.array([1.0, 0.1], pa.float32()), [0.1, np.float32(0.1)], [0.2]),
    ],
)
def test_a_row_is_found_by_its_own_key_and_by_none_that_has_to_be_cut_to_be_it(keys, found, others):
    held = Matrix(keys, np.eye(2, dtype=np.float32))
    assert [held.find_row(key) for key in [*found, *others]] == [
        *(1 for _ in found),
        *(None for _ in others),
    ]


@pytest.mark.parametrize(
    "kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
@pytest.mark.parametrize("place", ["close together", "far apart"])
def test_whole_numbers_of_every_type_and_size_become_a_mask(kind, place):
    info, rng = np.iinfo(kind), np.random.default_rng(7)
    for low in (info.min, 0, info.max - 100):
        every = np.array(range(low, min(low + 101, info.max + 1)), kind)
        keys = rng.permutation(every)[:40]
        if place == "far apart":
            keys = np.unique(np.append(keys, np.array([info.min, info.max], kind)))
        held = Matrix(pa.array(keys), np.ones((len(keys), 1), np.float32))
        wanted = np.append(rng.permutation(every)[:50], np.array([info.min, info.max, 0], kind))
        assert held.key_mask(pa.array(np.unique(wanted))).tolist() == [
            key in set(wanted.tolist()) for key in keys.tolist()
        ]


def test_keys_of_another_type_are_no_filter():
    with pytest.raises(SchemaMismatch, match="another type"):
        from_arrow(table((1, 2, 3))).key_mask(pa.array(["x"]))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ((np.nan, 1), "'b' is not finite"),
        ((0, 0), "'b' is all zeros"),
        ((np.inf, 0), "'b' is not finite"),
    ],
)
def test_a_vector_without_a_direction_names_its_key(bad, says):
    with pytest.raises(SchemaMismatch, match=says):
        from_arrow(table(rows=((1, 0), bad, (1, 1))))


def test_a_key_in_two_rows_is_refused():
    with pytest.raises(DuplicateKey):
        from_arrow(table(("a", "b", "a")))


def test_a_missing_column_is_named(tmp_path):
    pq.write_table(table().drop_columns("vector"), tmp_path / "t.parquet")
    with pytest.raises(SchemaMismatch, match="'vector'"):
        Matrix.from_parquet(tmp_path / "t.parquet")
    pq.write_table(pa.table({"key": [1], "vector": [[1.0, 2.0]]}), tmp_path / "lists.parquet")
    with pytest.raises(SchemaMismatch, match=r"FLOAT\[n\]"):
        Matrix.from_parquet(tmp_path / "lists.parquet")


def test_a_file_that_is_gone_or_broken_is_a_damaged_table(tmp_path):
    with pytest.raises(TableDamaged, match="no longer exists"):
        Matrix.from_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(TableDamaged, match="cannot be read"):
        Matrix.from_parquet(tmp_path / "t.parquet")


def stored(path, rows, width, seed=0):
    """A table of the store with vectors, some of them equal, and keys in no order."""
    rng = np.random.default_rng(seed)
    vectors = normal(rng, rows, width)
    vectors[rows // 2 :: 3] = vectors[0]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width)
    table = pa.table({"key": rng.permutation(rows), "vector": column})
    sink = ParquetSink(path, table.schema)
    sink.write(table)
    sink.close()
    return path


def test_vectors_that_stay_in_their_file_are_those_that_are_loaded(tmp_path):
    path = stored(tmp_path / "t.parquet", 3000, 48)
    away, here = Matrix.from_file_lazily(path), Matrix.from_parquet(path)
    assert (
        len(away) == 3000
        and away.dimensions == 48
        and away.keys == here.keys
        and (away.order == here.order).all()
    )
    rows = np.array([[5, 1700, 2999, 0], [1, 2, -1, 3]])
    queries = normal(1, 2, 48)
    assert away.vectors_at(rows[0]).tobytes() == here.vectors[rows[0]].tobytes()
    for some, query in ((rows, queries), (rows[:1], queries[:1]), (rows[1:], queries[1:])):
        assert away.pairs(query, some).tobytes() == here.pairs(query, some).tobytes()
    assert away.nbytes < here.nbytes / 10
    found, expected = away.search(queries, 7), here.search(queries, 7)
    assert (found.rows == expected.rows).all() and away.nbytes > here.vectors.nbytes
    assert away.vectors_at(rows[0]).tobytes() == here.vectors[rows[0]].tobytes()


def test_vectors_in_a_file_of_another_layout_are_loaded(tmp_path):
    column = pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32(), 2))
    pq.write_table(
        pa.table({"key": [1, 2], "vector": column}), tmp_path / "t.parquet", compression="zstd"
    )
    assert (
        Matrix.from_file_lazily(tmp_path / "t.parquet").nbytes
        == Matrix.from_parquet(tmp_path / "t.parquet").nbytes
    )
    with pytest.raises(TableDamaged):
        Matrix.from_file_lazily(tmp_path / "nothing.parquet")


def test_a_file_that_is_gone_meanwhile_is_told(tmp_path):
    path = stored(tmp_path / "t.parquet", 1000, 8)
    away = Matrix.from_file_lazily(path)
    path.unlink()
    for ask in (
        lambda: away.vectors_at(np.array([1])),
        lambda: away.pairs(np.ones((1, 8), np.float32), np.array([[1]])),
        lambda: away.vectors,
    ):
        with pytest.raises(TableDamaged):
            ask()


def test_what_an_index_is_made_from_is_the_same_in_the_file_and_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "BATCH_ROWS", 70)  # many pieces, the last smaller than k
    path = stored(tmp_path / "t.parquet", 1000, 24)
    away, here = (
        Matrix.from_file_lazily(path),
        Matrix.from_parquet(path),
    )
    assert away.shape == here.shape == (1000, 24)
    rng = np.random.default_rng(1)
    queries, allow = normal(rng, 5, 24), rng.random(1000) < 0.7
    for k in (1, 10, int(allow.sum())):
        assert (
            away.kth_similarity(queries, k, allow).tobytes()
            == here.search(queries, k, allow=allow).similarities[:, -1].tobytes()
        )
    path.unlink()
    with pytest.raises(TableDamaged):
        away.kth_similarity(queries, 1, allow)


def test_rows_of_another_matrix_are_found_by_key_and_bits():
    vectors = normal(0, 6, 3)
    one, other = (
        Matrix(pa.array(list("abcdef")), vectors),
        Matrix(pa.array(list("gfdba")), np.ascontiguousarray(vectors[[0, 5, 3, 2, 0]])),
    )
    assert one.match_rows(other).tolist() == [
        4,
        -1,
        -1,
        2,
        -1,
        1,
    ]  # b has another vector, c and e are gone
    assert Matrix(pa.array(range(6)), vectors).match_rows(other).tolist() == [-1] * 6
    assert (
        one.match_rows(Matrix(pa.array([], pa.string()), np.empty((0, 3), np.float32))).tolist()
        == [-1] * 6
    )
    assert one.match_rows(one).tolist() == list(range(6))
