import datetime as dt
from decimal import Decimal

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jammi_lab as jl
from jammi_lab.core.anchors import Unknown
from jammi_lab.core.errors import InvalidArgument, SchemaMismatch, SourceUnavailable
from jammi_lab.sources.frames import (
    METHOD,
    FrameConnector,
    as_arrow,
    frame_snapshot,
    is_frame,
    unique_names,
)
from jammi_lab.sources.scratch_duckdb import query
from jammi_lab.workspace.stamp_checks import shown_in_file
from tests.contracts.source import observed, same_state
from tests.sizes import examples
from tests.verdicts import is_stale

COLUMNS = {"id": [1, 2, 3], "name": ["a", "b", "c"]}


def every_library():
    table = pa.table(COLUMNS)
    return {
        "pandas": pd.DataFrame(COLUMNS),
        "polars": pl.DataFrame(COLUMNS),
        "lazy": pl.DataFrame(COLUMNS).lazy(),
        "table": table,
        "batch": table.to_batches()[0],
        "reader": table.to_reader(),
        "duckdb": duckdb.sql(
            "SELECT unnest([1, 2, 3])::BIGINT AS id, unnest(['a', 'b', 'c']) AS name"
        ),
    }


@pytest.mark.parametrize("library", every_library())
def test_every_library_s_frame_is_taken_and_has_one_digest(library):
    frame = every_library()[library]
    assert is_frame(frame)
    rows = as_arrow(frame)
    assert rows.to_pydict() == COLUMNS
    assert frame_snapshot(rows).by_column == frame_snapshot(pa.table(COLUMNS)).by_column


@pytest.mark.parametrize(
    "thing",
    [
        None,
        3,
        "text",
        [1],
        {"a": 1},
        pl.Series([1]),
        pd.Series([1]),
        pa.chunked_array([[1]]),
        pd.DataFrame,
    ],
)
def test_other_things_are_no_frames(thing):
    assert not is_frame(thing)
    with pytest.raises(InvalidArgument, match=r"frame, or ws\.sql\(statement\)"):
        as_arrow(thing)


PERIOD = pa.field(
    "a",
    pa.int64(),
    metadata={"ARROW:extension:name": "pandas.period", "ARROW:extension:metadata": '{"freq": "M"}'},
)


def objects(*values):
    return pd.DataFrame({"good": range(len(values)), "a": pd.Series(values, dtype=object)})


def with_name(name):
    frame = pd.DataFrame([[1]])
    frame.columns = pd.Index([name], dtype=object)
    return frame


def test_a_column_that_sql_cannot_hold_is_named(ws):
    """It is the last one."""
    for frame in (
        objects("a\ud83d"),
        with_name("s\ud83d"),
        with_name(""),
        objects("a", b"b"),
        objects(1, "b"),
        objects(True, 5),
        objects(object()),
        objects(2**60 + 1, 2.5),
        objects(dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 13)),
        objects(dt.datetime(2020, 1, 1, 13), dt.date(2020, 1, 1)),
        objects(Decimal("1.1"), 2.5),
        objects(2**70, 1),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame([[1, 2]], columns=[1, "1"]),
        pd.DataFrame({"a": [1]}, index=pd.Index([1], name="a")),
        pd.DataFrame({"a": [1 + 2j]}),
        pd.DataFrame({"a": pd.period_range("2020-01", periods=2, freq="M")}),
        pd.DataFrame({"a": pd.to_timedelta([1], unit="ns")}),
        pl.DataFrame({"a": pl.Series([1], dtype=pl.Duration("ns"))}),
        pl.DataFrame({"good": 1, "a": pl.Series([2**100], dtype=pl.Int128)}),
        pl.DataFrame({"good": 1, "a": pl.Series([object()], dtype=pl.Object)}),
        pa.table([[1]], pa.schema([PERIOD])),  # of a file, without pandas
        pa.table([[1], [2]], ["a", "a"]),
        pa.table({"a": pa.array([[1]], pa.list_(pa.timestamp("ns", "UTC")))}),
        pa.table({"a": pa.array([86_400_001], pa.date64())}),
        pa.table({"a": pa.array([Decimal("1" * 50)], pa.decimal256(60, 0))}),
        pa.table({"a": pa.array([{}], pa.struct([]))}),
    ):
        with pytest.raises(SchemaMismatch) as caught:
            ws.sources.add("a", frame)
        names = frame.column_names if isinstance(frame, pa.Table) else frame.columns
        assert caught.value.column == str(names[-1]) and "\n" not in caught.value.message
        assert isinstance(observed(FrameConnector("s", frame)), Unknown)


@pytest.mark.parametrize(
    ("frame", "rows"),
    [
        (objects(None, float("nan"), "x"), [(0, None), (1, None), (2, "x")]),
        (objects(1, 2.5), [(0, 1), (1, 2.5)]),
        (pd.DataFrame({"v": [1]}, index=pd.Index([7], name="k")), [(7, 1)]),
        (
            pd.DataFrame(
                {"v": [1, 2]},
                index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["i", None]),
            ),
            [(1, 1), (2, 2)],
        ),
        (
            pd.DataFrame(
                {
                    "a": pd.array([2**53 + 1, None], "Int64"),
                    "b": pd.array([True, None], "boolean"),
                    "c": pd.Categorical(["x", None]),
                    "d": pd.array([Decimal("1.5"), None], pd.ArrowDtype(pa.decimal128(5, 1))),
                    "e": [2.5, float("nan")],
                    "f": [dt.datetime(2020, 1, 1), pd.NaT],
                }
            ),
            [(2**53 + 1, True, "x", Decimal("1.5"), 2.5, dt.datetime(2020, 1, 1)), (None,) * 6],
        ),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), [(0,), (1,)]),
        (pd.DataFrame({"a": pd.to_timedelta([1], unit="us")}), [(dt.timedelta(microseconds=1),)]),
        (pl.DataFrame({"a": [dt.time(1, 2, 3, 4)]}), [(dt.time(1, 2, 3, 4),)]),
        (pa.table({"a": pa.array([86_400_000], pa.date64())}), [(dt.date(1970, 1, 2),)]),
    ],
    ids=str,
)
def test_values_are_read_as_they_are(ws, frame, rows):
    ws.sources.add("a", frame)
    assert ws.sql("SELECT * FROM a").fetchall() == rows


def test_what_is_no_table_is_refused(ws):
    odd = pd.DataFrame([[1]], columns=pd.Index(["a\udcff"], dtype=object))
    for values in (pd.DataFrame(), pa.table({}), odd):
        with pytest.raises(SchemaMismatch):
            ws.sources.add("a", values)
    for values in ({"a": [1]}, {}, [], [1, 2], [{"a": 1}]):
        with pytest.raises(InvalidArgument, match="cannot be a source") as caught:
            ws.sources.add("a", values)
        assert "pyarrow.Table.from_pylist(rows)" in caught.value.hint


@pytest.mark.parametrize("said", [b"x", b"{}", b"\xff"])
def test_a_type_that_pandas_cannot_make_is_a_typed_error(tmp_path, said):
    """Arrow asks it of pandas, once that has periods, and passes on whatever is raised there."""
    pa.table(pd.DataFrame({"p": pd.period_range("2020", periods=2, freq="D")}))
    field = PERIOD.with_metadata({**PERIOD.metadata, "ARROW:extension:metadata": said})
    rows = pa.table([[1]], pa.schema([field]))
    with pytest.raises(SchemaMismatch, match="The frame cannot be read"):
        as_arrow(rows)
    pq.write_table(rows, tmp_path / "a.parquet")
    feather.write_feather(rows, tmp_path / "a.arrow")
    with jl.open(tmp_path / "lab") as ws:
        for name in ("a.parquet", "a.arrow"):
            with pytest.raises(SourceUnavailable):
                ws.sources.add("a", tmp_path / name).columns()
    assert shown_in_file(tmp_path / "a.parquet").stamp is None


def test_categories_become_their_values_and_their_order_of_appearance_does_not_matter():
    one = pd.DataFrame({"c": pd.Categorical(["x", "y"], categories=["x", "y"])})
    two = pd.DataFrame({"c": pd.Categorical(["x", "y"], categories=["y", "x", "unused"])})
    assert as_arrow(one).schema == as_arrow(two).schema
    assert same_state(
        observed(FrameConnector("s", one)),
        observed(FrameConnector("s", two)),
    )


def test_types_are_those_of_sql():
    frame = pl.DataFrame(
        {
            "d": [dt.date(2020, 1, 1)],
            "v": pl.Series([[1.0, 2.0]], dtype=pl.Array(pl.Float32, 2)),
            "h": pl.Series([1.0], dtype=pl.Float32),
        }
    )
    half = as_arrow(pa.table({"h": pa.array([1.5], pa.float16())}))
    assert dict(FrameConnector("s", frame).relation(None).columns) == {
        "d": "DATE",
        "v": "FLOAT[2]",
        "h": "FLOAT",
    }
    assert half.schema.field("h").type == pa.float32()


def test_moments_with_a_zone_are_kept_to_the_microsecond_or_refused():
    moments = pa.array([1_000, None, -5_000], pa.timestamp("ns", "UTC"))
    assert as_arrow(pa.table({"at": moments})).column("at").to_pylist() == moments.to_pylist()
    fine = pl.Series([1_001]).cast(pl.Datetime("ns", "UTC"))
    for each in (fine, fine.reshape((-1, 1)), fine.implode(), fine.implode().implode()):
        with pytest.raises(
            SchemaMismatch,
            match="'at' contains times that are finer than SQL has them",
        ):
            as_arrow(each.alias("at").to_frame())
    assert as_arrow(pa.table({"at": pa.array([1_001], pa.timestamp("ns"))})).column(
        "at"
    ).type == pa.timestamp("ns")


def test_what_is_read_is_what_was_digested():
    frame = pd.DataFrame(COLUMNS)
    rows, seen = FrameConnector("s", frame).capture()
    frame.loc[0, "name"] = "X"
    assert (
        frame_snapshot(rows).by_column == seen.by_column
        and seen.method == METHOD
        and seen.row_count == 3
    )
    assert rows.to_pydict() == COLUMNS


def test_a_stream_that_was_read_once_can_be_read_again_also_by_another_connector():
    reader = pa.table(COLUMNS).to_reader()
    first, second = FrameConnector("s", reader), FrameConnector("s", reader)
    assert [query(c.relation(None), "SELECT count(*) FROM it") for c in (first, second, first)] == [
        [(3,)]
    ] * 3


def test_a_lazy_frame_is_collected_at_each_look(tmp_path):
    (tmp_path / "f.csv").write_text("a\n1\n")
    connector = FrameConnector("s", pl.scan_csv(tmp_path / "f.csv"))
    before = observed(connector)
    (tmp_path / "f.csv").write_text("a\n2\n")
    assert not same_state(before, observed(connector))
    (tmp_path / "f.csv").write_text("b\n2,3\n")
    assert "cannot be collected" in observed(connector).why


@settings(max_examples=examples(60), deadline=None)
@given(
    names=st.lists(
        st.sampled_from(["a", "A", "a_1", "A_1", "A_2", "a_1_1", "ss", "SS", "sS", "ß", "é", "É"]),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_columns_that_differ_by_case_have_the_names_that_the_engine_gives_them(names):
    rows = pa.table([pa.array([i]) for i in range(len(names))], names=names)
    with duckdb.connect() as engine:
        engine.register("it", rows)
        assert unique_names(rows).column_names == [
            row[0] for row in engine.execute("DESCRIBE it").fetchall()
        ]
    assert unique_names(rows).to_pydict() == {
        name: [i] for i, name in enumerate(unique_names(rows).column_names)
    }


@pytest.mark.parametrize("kind", ["frame", "arrow"])
def test_of_columns_that_differ_by_case_alone_an_edit_of_one_moves_what_reads_it_and_nothing_else(
    ws, tmp_path, kind
):
    def put(*values):
        rows = pa.table([[value] for value in values], names=["a", "A", "a_1"])
        feather.write_feather(rows, tmp_path / "f.arrow")
        if kind == "frame" or "f" not in ws.sources:
            ws.sources.add("f", rows if kind == "frame" else tmp_path / "f.arrow", replace=True)

    put(1, 2, 3)
    names = [column.name for column in ws.sources["f"].columns()]
    assert names == ["a", "A_1", "a_1_1"]
    for name in names:
        ws.materialize(f"of {name}", f"SELECT {name} AS v FROM f")
    for edited, values in zip(names, [(9, 2, 3), (1, 9, 3), (1, 2, 9)], strict=True):
        put(*values)
        assert [name for name in names if is_stale(ws, f"of {name}")] == [edited]
        put(1, 2, 3)
        assert not [name for name in names if is_stale(ws, f"of {name}")]


@pytest.mark.parametrize(
    "where",
    ["x > 1", "x >= 1", "x BETWEEN 1 AND 'nan'", "NOT x < 1", "x > 1 AND s > 'a'", "st.x > 1"],
)
def test_a_condition_over_a_frame_finds_the_rows_that_it_finds_in_a_file(ws, tmp_path, where):
    values = [1.5, float("nan"), float("inf"), -0.0, None]
    rows = pa.table(
        {"id": range(5), "x": values, "s": list("abcde"), "st": [{"x": value} for value in values]}
    )
    ws.sources.add("frame", rows)
    pq.write_table(rows, tmp_path / "file.parquet")
    ws.sources.add("file", tmp_path / "file.parquet")
    found, there = (
        ws.sql(f"SELECT id FROM {name} WHERE {where} ORDER BY id").arrow()["id"].to_pylist()
        for name in ("frame", "file")
    )
    assert found == there and 1 in found  # NaN is the greatest number
