"""Single rows of a column of vectors: the same numbers as pyarrow reads, or None."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.storage.parquet import ParquetSink
from jammi_lab.storage.parquet_rows import ParquetRowReader
from tests.features.vectors.drawn import normal


def table_of(vectors):
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.table({"key": [f"k{i}" for i in range(len(vectors))], "vector": column})


@pytest.mark.parametrize(
    ("rows", "width"),
    [(1, 1), (50, 3), (30_000, 100), (2_500, 1_000), (1_100, 5_000), (3, 300_000)],
)
def test_rows_of_a_stored_table_are_what_was_written(tmp_path, rows, width):
    vectors = normal(0, rows, width)
    sink = ParquetSink(tmp_path / "t.parquet", table_of(vectors).schema)
    sink.write(table_of(vectors))
    sink.close()
    found = ParquetRowReader.for_column(tmp_path / "t.parquet", "vector")
    places = np.random.default_rng(1).integers(0, rows, 200)
    places[:2] = 0, rows - 1
    assert found.take(places).tobytes() == vectors[places].tobytes() and found.take(
        places[:0]
    ).shape == (0, width)


@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(1, 400),
    st.integers(1, 100),
    st.integers(0, 2**31),
)
def test_pages_and_groups_may_end_anywhere(tmp_path_factory, rows, width, page, group, seed):
    vectors = normal(seed, rows, width)
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    pq.write_table(
        table_of(vectors),
        path,
        use_dictionary=False,
        compression="none",
        data_page_size=page,
        row_group_size=group,
        write_batch_size=7,
    )
    assert (
        ParquetRowReader.for_column(path, "vector").take(np.arange(rows)).tobytes()
        == vectors.tobytes()
    )


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"use_dictionary": True},
        {"use_dictionary": False, "column_encoding": {"vector.list.element": "BYTE_STREAM_SPLIT"}},
    ],
    ids=str,
)
def test_another_layout_is_none(tmp_path, options):
    vectors = np.random.default_rng(0).integers(0, 3, (100, 8)).astype(np.float32)
    pq.write_table(
        table_of(vectors),
        tmp_path / "t.parquet",
        **{"compression": "none", "use_dictionary": False, **options},
    )
    assert ParquetRowReader.for_column(tmp_path / "t.parquet", "vector") is None


def test_vectors_with_gaps_are_none(tmp_path):
    column = pa.array([[1.0, 2.0], None, [3.0, None]], pa.list_(pa.float32(), 2))
    pq.write_table(
        pa.table({"vector": column}),
        tmp_path / "t.parquet",
        use_dictionary=False,
        compression="none",
    )
    assert ParquetRowReader.for_column(tmp_path / "t.parquet", "vector") is None


def test_newer_data_pages_are_none_or_right(tmp_path):
    vectors = normal(0, 100, 8)
    pq.write_table(
        table_of(vectors),
        tmp_path / "t.parquet",
        use_dictionary=False,
        compression="none",
        data_page_version="2.0",
    )
    assert ParquetRowReader.for_column(tmp_path / "t.parquet", "vector") is None


def test_a_file_that_became_shorter_is_an_error_and_no_answer(tmp_path):
    vectors = np.ones((100, 8), np.float32)
    path = tmp_path / "t.parquet"
    pq.write_table(table_of(vectors), path, use_dictionary=False, compression="none")
    found = ParquetRowReader.for_column(path, "vector")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(OSError, match="shorter"):
        found.take(np.array([99]))
