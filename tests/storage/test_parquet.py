import datetime
import hashlib
import itertools
import os
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.features.outputs.file_stamps import read_stamp
from jammi_lab.storage import parquet
from jammi_lab.storage.parquet import (
    ROW_GROUP_ROWS,
    ParquetSink,
    leaf_paths,
    read_footer,
    row_group_rows,
    stored_schema,
)
from tests.sizes import examples


def table(rows: int) -> pa.Table:
    n = range(rows)
    return pa.table(
        {
            "i": pa.array([None if i % 7 == 3 else i for i in n], pa.int64()),
            "t": pa.array([None if i % 5 == 2 else f"text {i % 11}" for i in n]),
            "u": pa.array([f"unique {i * 7919}" for i in n]),
            "x": pa.array([i / 3 for i in n]),
            "when": pa.array(
                [datetime.datetime(2020, 1, 1) + datetime.timedelta(seconds=i) for i in n],
                pa.timestamp("us"),
            ),
            "l": pa.array(
                [[] if i % 3 == 1 else None if i % 3 == 2 else [i, None] for i in n],
                pa.list_(pa.int32()),
            ),
            "s": pa.array(
                [{"a": i, "b": [str(i)]} if i % 4 else None for i in n],
                pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
            ),
            "v": pa.array([[i, i + 1.0] for i in n], pa.list_(pa.float32(), 2)),
        }
    )


def written(path, batches, schema) -> str:
    sink = ParquetSink(path, schema)
    for batch in batches:
        sink.write(batch)
    sink.close()
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 50)


@settings(max_examples=examples(40))
@given(cuts=st.lists(st.integers(0, 230), max_size=12))
def test_bytes_do_not_depend_on_how_rows_were_cut_into_batches(tmp_path_factory, cuts):
    folder, rows = tmp_path_factory.mktemp("sink"), table(230)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_ROWS", 50)
        bounds = [0, *sorted(cuts), 230]
        whole = written(folder / "a", [rows], rows.schema)
        cut = written(
            folder / "b", [rows.slice(a, b - a) for a, b in itertools.pairwise(bounds)], rows.schema
        )
    assert cut == whole


def test_pages_are_cut_alike_however_the_rows_came(tmp_path):
    rows = pa.table(
        {"t": [f"{i * 7919:0100d}" for i in range(40_000)], "l": [[i] * 9 for i in range(40_000)]}
    )
    assert written(tmp_path / "a", [rows], rows.schema) == written(
        tmp_path / "b", rows.to_batches(max_chunksize=777), rows.schema
    )


def test_the_row_group_is_the_one_that_duckdb_reads_best():
    assert ROW_GROUP_ROWS == 122_880


def test_never_more_than_a_row_group_is_held_and_an_aborted_sink_leaves_no_file(
    tmp_path, small_groups
):
    sink = ParquetSink(tmp_path / "f", table(1).schema)
    sink.write(table(230))
    assert sink._pending_rows < 50
    sink.abort()
    sink.abort()
    assert os.listdir(tmp_path) == []


def test_rows_come_back_as_they_went_in(tmp_path, small_groups):
    rows = table(120)
    written(tmp_path / "f", rows.to_batches(max_chunksize=33), rows.schema)
    assert pq.read_table(tmp_path / "f").to_pylist() == rows.to_pylist()
    footer = pq.read_metadata(tmp_path / "f")
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [50, 50, 20]
    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT * EXCLUDE s FROM read_parquet('{tmp_path / 'f'}')")
        assert found.to_arrow_table().to_pylist() == rows.drop_columns(["s"]).to_pylist()


def hiding(value):
    """A NULL, and what lies under it."""
    valid = pa.py_buffer(bytes([0b101]))
    under = pa.array([1, value, 3]).buffers()[1]
    return pa.table({"a": pa.Array.from_buffers(pa.int64(), 3, [valid, under])})


NAMED = [pa.field("a", pa.int64(), metadata={"k": "v"})]
LETTERS = pa.array(["x", None, "y"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            pa.table({"a": [1]}),
            pa.table({"a": [1]}, schema=pa.schema(NAMED, metadata={"pandas": "now"})),
        ),
        (hiding(7), hiding(8)),
        (pa.table({"c": LETTERS}), pa.table({"c": LETTERS.dictionary_encode()})),
    ],
    ids=["metadata of the schema", "under a NULL", "a dictionary"],
)
def test_what_is_no_value_leaves_no_trace(tmp_path, one, other):
    assert written(tmp_path / "a", [one], one.schema) == written(
        tmp_path / "b", [other], other.schema
    )


def test_texts_that_repeat_get_a_dictionary_and_vectors_are_written_plain(tmp_path):
    rows = table(1000)
    written(tmp_path / "f", [rows], rows.schema)
    group = pq.read_metadata(tmp_path / "f").row_group(0)
    chunks = {each.path_in_schema: each for each in map(group.column, range(group.num_columns))}
    assert [chunks[name].has_dictionary_page for name in "tui"] == [True, False, False]
    vector = chunks["v.list.element"]
    assert (vector.compression, vector.has_dictionary_page) == ("UNCOMPRESSED", False)
    assert vector.statistics is None and chunks["i"].compression == "ZSTD"


def test_batches_may_differ_in_their_dictionaries(tmp_path):
    one, two = (pa.table({"c": pa.array(v).dictionary_encode()}) for v in (["x"], ["y", "x"]))
    sink = ParquetSink(tmp_path / "f", one.schema)
    sink.write(one)
    sink.write(two)
    sink.close()
    assert pq.read_table(tmp_path / "f")["c"].to_pylist() == ["x", "y", "x"]


def test_an_empty_result_is_a_file_with_columns_and_no_rows(tmp_path):
    sink = ParquetSink(tmp_path / "f", table(0).schema)
    assert sink.close() == 0
    assert (
        read_footer(tmp_path / "f").num_rows == 0
        and pq.read_schema(tmp_path / "f").names == table(0).column_names
    )


def test_a_sink_that_failed_in_the_middle_can_be_aborted(tmp_path, small_groups, fault_hook):
    def full(name):
        if name == "parquet.before_row_group":
            raise OSError(28, "No space left on device")

    sink = ParquetSink(tmp_path / "f", table(1).schema)
    fault_hook(full)
    with pytest.raises(OSError, match="No space"):
        sink.write(table(120))
    fault_hook(None)
    sink.abort()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("schema", "column"),
    [
        (pa.schema([("a", pa.int64()), ("a", pa.int64())]), "a"),
        (pa.schema([("a", pa.int64()), ("A", pa.int64())]), "A"),
        (pa.schema([("e\u0301", pa.int64()), ("é", pa.int64())]), "é"),
        (pa.schema([("i", pa.month_day_nano_interval())]), "i"),
        (pa.schema([("d", pa.duration("us"))]), "d"),
        (pa.schema([("l", pa.list_(pa.struct([("x", pa.month_day_nano_interval())])))]), "l"),
        (pa.schema([("u", pa.sparse_union([pa.field("x", pa.int32())]))]), "u"),
        (pa.schema([("n", pa.decimal256(39, 0))]), "n"),
        (pa.schema([("n", pa.decimal128(5, -2))]), "n"),
        (pa.schema([("l", pa.list_(pa.decimal256(60, 2)))]), "l"),
        (pa.schema([("e", pa.struct([]))]), "e"),
        (pa.schema([("w", pa.list_view(pa.int32()))]), "w"),
        (pa.schema([]), ""),
    ],
)
def test_what_parquet_would_not_give_back_is_refused_by_name_before_a_file_is_there(
    tmp_path, schema, column
):
    with pytest.raises(SchemaMismatch) as error:
        ParquetSink(tmp_path / "f", schema)
    assert error.value.column == column and os.listdir(tmp_path) == []


def test_a_batch_of_another_schema_is_refused(tmp_path):
    sink = ParquetSink(tmp_path / "f", pa.schema([("a", pa.int64())]))
    with pytest.raises(SchemaMismatch):
        sink.write(pa.table({"b": [1]}))
    with pytest.raises(SchemaMismatch) as error:
        sink.write(pa.table({"a": ["x"]}))
    assert error.value.column == "a"
    sink.abort()


def test_a_footer_tells_rows_and_anything_else_is_none(tmp_path):
    rows = table(9)
    written(tmp_path / "f", [rows], rows.schema)
    (tmp_path / "torn").write_bytes((tmp_path / "f").read_bytes()[:-3])
    (tmp_path / "empty").touch()
    assert read_footer(tmp_path / "f").num_rows == 9
    assert [read_footer(tmp_path / name) for name in ("torn", "empty", "absent")] == [
        None,
        None,
        None,
    ]


def test_leaves_are_told_apart_though_names_hold_dots():
    schema = pa.schema(
        [
            ("a.b", pa.int8()),
            ("a", pa.struct([("b", pa.int8()), ("c", pa.list_(pa.int8()))])),
            ("m", pa.map_(pa.string(), pa.int8())),
        ]
    )
    assert leaf_paths(schema) == [
        ["a.b"],
        ["a.b", "a.c.list.element"],
        ["m.key_value.key", "m.key_value.value"],
    ]


@pytest.mark.parametrize(
    ("dimensions", "rows"), [(4, ROW_GROUP_ROWS), (384, 10_240), (65_536, 1024)]
)
def test_rows_with_vectors_come_in_groups_of_sixteen_megabytes(dimensions, rows):
    schema = pa.schema([("key", pa.int64()), ("vector", pa.list_(pa.float32(), dimensions))])
    assert (
        row_group_rows(schema) == rows
        and row_group_rows(pa.schema([("key", pa.int64())])) == ROW_GROUP_ROWS
    )


def test_a_schema_of_many_columns_is_checked_in_time_that_grows_with_their_number():
    schema = pa.schema([pa.field(f"c{i}", pa.int64()) for i in range(20_000)])
    began = time.process_time()
    assert stored_schema(schema).names == schema.names
    assert time.process_time() - began < 5.0


def test_times_in_whole_microseconds_are_stored_as_such_and_finer_ones_refused(tmp_path):
    whole = pa.table({"t": pa.array([1_000, None, 86_399_999_999_000], pa.time64("ns"))})
    schema = stored_schema(whole.schema)
    written(tmp_path / "t.parquet", [whole], schema)
    assert pq.read_table(tmp_path / "t.parquet")["t"].cast(pa.int64()).to_pylist() == [
        1,
        None,
        86_399_999_999,
    ]
    fine = pa.table({"t": pa.array([1_001], pa.time64("ns"))})
    with pytest.raises(SchemaMismatch, match="'t' holds times of day in nanoseconds"):
        written(tmp_path / "f.parquet", [fine], schema)
    with pytest.raises(SchemaMismatch, match="nanoseconds"):
        stored_schema(pa.schema([("t", pa.list_(pa.time64("ns")))]))


def test_a_column_whose_name_is_no_text_is_damage_everywhere(tmp_path):
    """In a source, in a file with a stamp, and in a file that a crash left."""
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"odd": [1, 2]}), buffer, store_schema=False)
    body = buffer.getvalue().to_pybytes().replace(b"odd", b"\xad\xad\xad")
    (tmp_path / "a.parquet").write_bytes(body)
    assert read_footer(tmp_path / "a.parquet") is None
    assert read_stamp(tmp_path / "a.parquet") == (None, "")
    with jl.open(tmp_path / "lab") as ws:
        with pytest.raises(jl.SourceUnavailable, match="not a complete Parquet file"):
            ws.sources.add("a", tmp_path / "a.parquet")
        ws.sources.add("a", tmp_path / "a.parquet", check=False)
        assert "a.parquet" in str(ws.sources["a"].anchor())
        with pytest.raises(jl.SourceUnavailable, match="not a complete Parquet file"):
            ws.materialize("t", "FROM a")
