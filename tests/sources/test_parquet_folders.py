"""Folders of Parquet files whose files differ: every value is read as it was written, or the folder
is refused."""

import datetime as dt
from decimal import Decimal

import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jammi_lab as jl
from tests.cases import cases, plain
from tests.sizes import examples
from tests.verdicts import is_fresh

D = Decimal


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        table = table if isinstance(table, pa.Table) else pa.table({"v": table})
        pq.write_table(table, folder / name)
    return folder


def array(kind, values):
    return pa.array(values).cast(kind)


def add(ws, tmp_path, *columns, **options):
    files = {f"{n}.parquet": column for n, column in enumerate(columns)}
    ws.sources.add("a", write(tmp_path / "d", files), options=options)


def values(ws, column="v"):
    return [row[0] for row in ws.sql(f"SELECT {column} FROM a").fetchall()]


@pytest.mark.parametrize(
    ("first", "second", "kind", "expected"),
    [*((array(*one), array(*two), *more) for one, two, *more in cases("sources/parquet_columns", "first", "second", "kind", "expected")), (pa.array([D("1.2")]), pa.array([D("10.2567")]), "DECIMAL(6,4)", [D("1.2000"), D("10.2567")]), (pa.array([b"x"]), pa.nulls(1), "BLOB", [b"x", None]), (pa.array(["x"]).dictionary_encode(), pa.array(["y"], pa.large_string()), "VARCHAR",
         ["x", "y"]), (pa.array([1], pa.timestamp("ms")), pa.array([1], pa.timestamp("us")), "TIMESTAMP",
         [dt.datetime(1970, 1, 1, 0, 0, 0, 1000), dt.datetime(1970, 1, 1, 0, 0, 0, 1)]), (pa.array([[1]], pa.list_(pa.int8())), pa.array([[2**40]]), "BIGINT[]", [[1], [2**40]]), (pa.array([[]], pa.list_(pa.null())), pa.array([["x"]]), "VARCHAR[]", [[], ["x"]]), (pa.array([{"a": 1, "b": 2}]), pa.array([{"b": 3, "a": 4}]),
         "STRUCT(a BIGINT, b BIGINT)", [{"a": 1, "b": 2}, {"a": 4, "b": 3}])],
    ids=lambda each: str(each.type) if isinstance(each, pa.Array) else "",
)  # fmt: skip
def test_the_type_of_a_column_holds_the_values_of_all_files(
    ws, tmp_path, first, second, kind, expected
):
    add(ws, tmp_path, first, second)
    assert [c.type for c in ws.sources["a"].columns()] == [kind]
    assert plain(values(ws)) == plain(expected)


def test_the_type_that_was_decided_is_told(ws, tmp_path):
    add(ws, tmp_path, pa.array([1], pa.int8()), pa.array([2]), pa.array([2.5]))
    assert ws.sources["a"].notes == [
        "v: DOUBLE, because 0.parquet has int8, 1.parquet has int64, 2.parquet has double"
    ]
    ws.sources.add("b", tmp_path / "d/0.parquet")
    assert ws.sources["b"].notes == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(
            (array(*one), array(*two), *more)
            for one, two, *more in cases("sources/parquet_refused", "first", "second")
        ),
        (pa.array([2**63], pa.uint64()), pa.array([-1])),
        (pa.array([dt.date(2024, 1, 2)]), pa.array([dt.datetime(2024, 1, 2, 13, 30)])),
        (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("us", "UTC"))),
        (pa.array([dt.timedelta(1)]), pa.array([1])),
        (pa.array([D("1.5")]), pa.array([0.1])),
        (pa.array([b"x"]), pa.array(["x"])),
        (pa.array([[2**60]]), pa.array([[2.5]])),
        (pa.array([{"a": 1}]), pa.array([{"a": 1, "b": 2}])),
    ],
    ids=lambda each: str(each.type),
)
def test_files_without_a_type_for_all_values_are_refused_by_name(ws, tmp_path, first, second):
    with pytest.raises(jl.SourceUnavailable) as caught:
        add(ws, tmp_path, first, second)
    said = caught.value.message
    for part in ("0.parquet", "1.parquet", "'v'", str(first.type), str(second.type)):
        assert part in said


def test_a_folder_that_gets_a_file_of_another_type_is_no_longer_read_or_fresh(ws, tmp_path):
    add(ws, tmp_path, pa.array([1, 2]))
    ws.materialize("m", "SELECT sum(v) AS s FROM a")
    pq.write_table(pa.table({"v": ["x"]}), tmp_path / "d/9.parquet")
    assert not is_fresh(ws, "m")
    with pytest.raises(jl.SourceUnavailable, match=r"9\.parquet"):
        values(ws)


@pytest.mark.parametrize("late", [{"id": [2], "more": [1]}, {"more": [1]}])
def test_a_column_that_only_a_later_file_has_is_not_dropped(ws, tmp_path, late):
    files = {"1.parquet": pa.table({"id": [1]}), "2.parquet": pa.table(late)}
    folder = write(tmp_path / "d", files)
    with pytest.raises(jl.SourceUnavailable, match="is missing from") as caught:
        ws.sources.add("a", folder)
    assert "union_by_name" in caught.value.hint
    ws.sources.add("a", folder, options={"union_by_name": True})
    assert values(ws, "more") == [None, 1]


def test_names_that_differ_by_case_are_one_column(ws, tmp_path):
    files = {"1.parquet": pa.table({"Id": [1]}), "2.parquet": pa.table({"ID": [2.5]})}
    ws.sources.add("a", write(tmp_path / "d", files))
    assert values(ws, "id") == [1, 2.5]
    assert [c.name for c in ws.sources["a"].columns()] == ["Id"]


@pytest.mark.parametrize(
    ("files", "says"),
    cases("sources/folders_of_two_meanings", "files", "says"),
)
def test_folders_that_mean_two_things_are_refused(ws, tmp_path, files, says):
    folder = write(tmp_path / "d", {name: pa.array(column) for name, column in files.items()})
    with pytest.raises(jl.SourceUnavailable) as caught:
        ws.sources.add("a", folder)
    assert says in caught.value.message


def test_the_keys_that_polars_leaves_in_its_files(ws, tmp_path):
    frame = polars.DataFrame({"k": ["a", "a", "b c"], "v": [1, 2, 3]})
    frame.write_parquet(tmp_path / "d", partition_by="k", mkdir=True)
    ws.sources.add("a", tmp_path / "d")
    assert ws.sql("SELECT k, v FROM a ORDER BY v").fetchall() == [("a", 1), ("a", 2), ("b c", 3)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_are_intervals(ws, tmp_path, unit):
    value = {"s": dt.timedelta(days=400), "ms": dt.timedelta(milliseconds=5)}.get(
        unit, dt.timedelta(microseconds=-7)
    )
    add(ws, tmp_path, pa.array([value, None], pa.duration(unit)))
    assert [c.type for c in ws.sources["a"].columns()] == ["INTERVAL"]
    assert values(ws) == [value, None]
    ws.sources.add("one", tmp_path / "d/0.parquet")
    assert ws.sql("SELECT max(v) AS s FROM one").fetchall() == [(value,)]
    assert ws.sql("SELECT v FROM a WHERE v < INTERVAL 1000 DAYS").fetchall() == [(value,)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1_001], pa.time64("ns")),
        pa.array([1], pa.duration("ns")),
        pa.array([[1]], pa.list_(pa.time64("ns"))),
        pa.array([[1]], pa.large_list(pa.time64("ns"))),
        pa.array([[1_001]], pa.list_view(pa.timestamp("ns", "UTC"))),
        pa.array([[1]], pa.list_(pa.timestamp("ns", "UTC"), 1)),
        pa.array([[("k", {"at": 1})]], pa.map_(pa.string(), pa.struct({"at": pa.time64("ns")}))),
        pa.array(pandas.period_range("2024-01", periods=2, freq="M")),
    ],
    ids=lambda column: str(column.type),
)
def test_what_is_finer_than_a_microsecond_and_periods_are_refused(ws, tmp_path, column):
    with pytest.raises(jl.SourceUnavailable, match=r"finer than a microsecond|has periods"):
        add(ws, tmp_path, column)


class Money(pa.ExtensionType):
    """A type of another library, without a hash."""

    def __init__(self):
        super().__init__(pa.int64(), "shop.money")

    def __arrow_ext_serialize__(self):
        return b""

    __arrow_ext_deserialize__ = classmethod(lambda cls, *_: cls())


def test_a_type_of_another_library_is_read_as_it_is_stored(ws, tmp_path):
    pa.register_extension_type(Money())
    try:
        add(ws, tmp_path, pa.ExtensionArray.from_storage(Money(), pa.array([7])))
        assert values(ws) == [7]
    finally:
        pa.unregister_extension_type("shop.money")


def test_integers_of_128_bits_are_refused_as_such(ws, tmp_path):
    file = tmp_path / "a.parquet"
    polars.DataFrame({"v": [1]}, {"v": polars.Int128}).write_parquet(file)
    with pytest.raises(jl.SourceUnavailable, match="cannot be read: Integers with more than 64"):
        ws.sources.add("a", file)


COLUMNS = st.sampled_from(
    [
        pa.array([1, None, 3], pa.int8()),
        pa.array([2**40, -1]),
        pa.array([2**62]),
        pa.array([2**64 - 1], pa.uint64()),
        pa.array([0.5], pa.float32()),
        pa.array([0.1, None]),
        pa.array([True, False]),
        pa.array(["x", "7.5", None]),
        pa.array([D("1.25")]),
        pa.array([D("100.5")], pa.decimal128(38, 3)),
        pa.array([dt.date(2024, 1, 2)]),
        pa.array([dt.datetime(2024, 1, 2, 13)]),
        pa.array([dt.datetime(2024, 1, 2, 13)], pa.timestamp("ms")),
        pa.array([dt.datetime(9999, 1, 2, 13)]),
        pa.array([dt.timedelta(hours=30)]),
        pa.array([dt.time(1, 2)]),
        pa.array([[1], None]),
        pa.array([[0.5]]),
        pa.array([{"a": 1}]),
        pa.array([{"a": 0.5}]),
        pa.array([b"\xff"]),
        pa.nulls(2),
    ]
)


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(COLUMNS, min_size=1, max_size=4), st.sampled_from(["pyarrow", "polars", "pandas"]))
def test_random_files_come_back_equal_or_are_refused(tmp_path_factory, columns, library):
    folder = tmp_path_factory.mktemp("d")
    written = []
    for number, column in enumerate(columns):
        table = pa.table({"v": column})
        path = folder / f"{number}.parquet"
        if library == "polars":
            polars.from_arrow(table).write_parquet(path)
        elif library == "pandas":
            table.to_pandas().to_parquet(path)
        else:
            pq.write_table(table, path)
        written += column.to_pylist()
    with jl.open(folder / "lab") as ws:
        try:
            ws.sources.add("a", str(folder / "*.parquet"))
        except jl.SourceUnavailable:
            assert len({column.type for column in columns}) > 1
            return
        read = values(ws)
    assert read == written
    kinds = [{type(value) for value in some} - {type(None)} for some in (read, written)]
    assert (kinds[0] == kinds[1] or kinds == [{float}, {int, float}]
            or (library == "pandas" and kinds == [{float}, {int}]))  # fmt: skip


def test_statements_over_files_of_several_types_skip_no_rows(ws, tmp_path):
    """DuckDB 1.5.5 casts the constant of a condition to the type of each file."""
    add(ws, tmp_path, pa.array([1, 2, 3]), pa.array([2.5]), pa.array([2], pa.int8()))
    for condition, expected in (
        ("v > 2", [3, 2.5]),
        ("v = 2", [2, 2]),
        ("v = 2.5", [2.5]),
        ("v < 2.5", [1, 2, 2]),
        ("v IN (2.5, 3)", [3, 2.5]),
        ("v <> 2.5", [1, 2, 3, 2]),
    ):
        rows = ws.sql(f"SELECT v FROM a WHERE {condition}").fetchall()
        assert [row[0] for row in rows] == expected
