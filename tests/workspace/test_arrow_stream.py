"""Results and result tables in the hands of other libraries: through the Arrow C stream, as frames,
as files."""

import datetime
import decimal
from typing import Any

import pytest

import jammi_lab as jl

ROWS = """
SELECT * FROM (VALUES
  (1, 'Kyoto', 1.50::DECIMAL(10, 2), DATE '2020-01-02', TIMESTAMPTZ '2020-01-02 03:04:05.000006+00', [1, NULL], {'a': 1, 'B': 'x'}, 0.1::FLOAT),
  (2, 'Œslo', 0.05, NULL, NULL, [], {'a': NULL, 'B': ''}, NULL),
  (3, NULL, NULL, DATE '0999-12-31', TIMESTAMPTZ '1969-12-31 23:59:59+00', NULL, NULL, 'inf'::FLOAT)
) t(id, town, price, day, "at", list, pair, share) ORDER BY id
"""
NAMES = ["id", "town", "price", "day", "at", "list", "pair", "share"]
EXPECTED = [
    (
        1,
        "Kyoto",
        decimal.Decimal("1.50"),
        datetime.date(2020, 1, 2),
        datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.UTC),
        *[[1, None], {"a": 1, "B": "x"}, pytest.approx(0.1)],
    ),
    (2, "Œslo", decimal.Decimal("0.05"), None, None, [], {"a": None, "B": ""}, None),
    (
        3,
        None,
        None,
        datetime.date(999, 12, 31),
        datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=datetime.UTC),
        None,
        None,
        float("inf"),
    ),
]


@pytest.fixture(params=["a result", "a result table"])
def rows(request: pytest.FixtureRequest, ws: Any) -> Any:
    """The rows, as each of the two things that hold rows."""
    return ws.sql(ROWS) if request.param == "a result" else ws.materialize("towns", ROWS)


def as_tuples(table: Any) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def test_the_stream_gives_every_type_with_its_values(rows):
    import pyarrow as pa

    for take in (
        pa.table,
        lambda r: pa.RecordBatchReader.from_stream(r).read_all(),
        lambda r: r.arrow(),
    ):
        table = take(rows)
        assert table.column_names == NAMES and as_tuples(table) == EXPECTED


def test_polars_takes_them_as_they_are(rows):
    import polars as pl

    for frame in (pl.DataFrame(rows), rows.polars()):
        assert frame.columns == NAMES and frame["town"].to_list() == ["Kyoto", "Œslo", None]
        assert frame["at"].dtype == pl.Datetime("us", "UTC") and frame["price"].to_list()[
            0
        ] == decimal.Decimal("1.50")


def test_duckdb_takes_them_as_they_are(rows):
    import duckdb

    with duckdb.connect(config={"threads": 1}) as con:
        con.register("taken", rows)
        assert con.execute("SELECT sum(id), max(town) FROM taken").fetchall() == [(6, "Œslo")]


def test_altair_draws_sums_and_decimals_as_numbers(ws):
    import altair as alt

    sums = "SELECT i % 2 AS k, sum(i) AS n, sum(i * 1.25) AS x FROM range(4) t(i) GROUP BY k"
    for rows in (ws.sql(sums), ws.materialize("sums", sums)):
        chart = alt.Chart(rows).mark_bar().encode(x="k", y="n")
        chart.to_json()  # Decimal objects would be refused
        [values] = chart.to_dict()["datasets"].values()
        assert sorted(tuple(row.values()) for row in values) == [(0, 2, 2.5), (1, 4, 5.0)]


def test_a_table_has_the_number_of_its_rows_as_its_length(ws):
    assert len(ws.materialize("towns", ROWS)) == 3
    empty = ws.materialize("empty", "SELECT 1 AS a WHERE false")
    assert len(empty) == 0 and bool(empty)


def test_narwhals_takes_them_as_they_are(rows):
    import narwhals as nw

    frame = nw.from_native(rows)
    assert frame.columns == NAMES and frame["id"].sum() == 6


def test_a_status_is_a_frame_too(ws):
    import polars as pl

    ws.materialize("towns", ROWS)
    assert pl.DataFrame(ws.status())["verdict"].to_list() == ["fresh"]


def test_what_streams_is_damaged_bytes_never(ws):
    import polars as pl

    table = ws.materialize("towns", ROWS)
    table.path.write_bytes(table.path.read_bytes()[:-1] + b"x")
    with pytest.raises(jl.TableDamaged):
        pl.DataFrame(table)


def test_rows_come_as_a_stream_and_are_not_fetched_for_a_preview(ws):
    import pyarrow as pa

    result = ws.sql("SELECT i, i * 2 AS j FROM range(10_000_000) t(i)")
    assert result.preview(3).num_rows == 3
    assert len(result) == 10_000_000 == len(result)
    assert result.preview(3).num_rows == 3
    reader = pa.RecordBatchReader.from_stream(ws.sql("SELECT i FROM range(10_000_000) t(i)"))
    assert reader.read_next_batch().num_rows < 1_000_000
    reader.close()


def test_batches_are_an_arrow_reader_that_reads_no_further_than_it_is_asked(ws):
    import pyarrow as pa

    result = ws.sql("SELECT i FROM range(10_000_000) t(i)")
    with result.batches(1000) as reader:
        assert isinstance(reader, pa.RecordBatchReader) and reader.schema == result.schema
        assert next(reader).num_rows == 1000 and reader.read_next_batch()["i"][0].as_py() == 1000
    small = ws.sql("SELECT i FROM range(10) t(i)")
    assert (
        [batch.num_rows for batch in small.batches(4)]
        == [batch.num_rows for batch in small.batches(4)]
        == [4, 4, 2]
    )
    assert small.batches().read_all().equals(small.arrow())
    with pytest.raises(jl.SqlError, match="Boom"):
        list(ws.sql("SELECT error('boom') FROM range(10)").batches())


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("rows", [-1, 1.5, "many", None])
def test_a_number_of_rows_that_is_none_is_refused_before_anything_is_read(ws, rows, read):
    result = ws.sql("SELECT i FROM range(10) t(i)")
    if read:
        result.arrow()
    for ask in (result.preview, result.batches):
        with pytest.raises(jl.InvalidArgument, match="must be an integer of at least"):
            ask(rows)
    with pytest.raises(jl.InvalidArgument, match="at least 1, got 0"):
        result.batches(0)
    assert result.preview(0).num_rows == 0 and len(result.arrow()) == 10


@pytest.mark.parametrize("engine", ["polars", "duckdb", "pyarrow"])
def test_a_scan_is_lazy_in_the_engine_that_is_named(ws, engine):
    scanned = ws.materialize("towns", "SELECT id, town FROM (" + ROWS + ")", key="id").scan(engine)
    match engine:
        case "polars":
            assert type(scanned).__name__ == "LazyFrame" and scanned.filter(
                id=2
            ).collect().rows() == [(2, "Œslo")]
        case "duckdb":
            assert scanned.filter("id = 2").fetchall() == [(2, "Œslo")]
        case _:
            assert scanned.count_rows() == 3 and scanned.schema.names == ["id", "town"]


def test_an_engine_that_does_not_scan_is_refused(ws):
    with pytest.raises(jl.InvalidArgument, match="engine must be"):
        ws.materialize("towns", ROWS).scan("dask")


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".feather", ".csv"])
def test_an_export_has_the_rows(ws, tmp_path, ending):
    table = ws.materialize("towns", "SELECT id, town FROM (" + ROWS + ")", key="id")
    path = table.export(tmp_path / f"towns{ending}")
    ws.sources.add("back", path)
    assert ws.sql("SELECT id, town FROM back ORDER BY id").fetchall() == [
        (1, "Kyoto"),
        (2, "Œslo"),
        (3, None),
    ]


def test_what_a_csv_cannot_hold_is_named_and_nothing_is_written(ws, tmp_path):
    for value in (
        "[1]",
        r"'\xFF'::BLOB",
        "INTERVAL 1 MONTH",
        "DATE '-infinity'",
        "TIMESTAMP 'infinity'",
        "TIME '24:00:00'",
    ):
        rows = ws.sql(f"SELECT 1 AS id, 'a'::BLOB AS letter, {value} AS other")
        with pytest.raises(jl.SchemaMismatch, match="CSV cannot hold the column 'other'") as caught:
            rows.export(tmp_path / "towns.csv")
        assert caught.value.column == "other" and not (tmp_path / "towns.csv").exists()


def test_another_ending_is_refused(ws, tmp_path):
    with pytest.raises(jl.InvalidArgument, match=r"exported as '.txt'"):
        ws.materialize("towns", ROWS).export(tmp_path / "towns.txt")


@pytest.mark.parametrize("way", ["as it is called", "by a link", "as something new"])
def test_nothing_is_exported_into_the_workspace_s_own_folders(ws, tmp_path, way):
    table, other = ws.materialize("towns", ROWS), ws.materialize("other", "SELECT 1 AS a")
    (tmp_path / "link.parquet").symlink_to(other.path)
    target = {
        "as it is called": other.path,
        "by a link": tmp_path / "link.parquet",
        "as something new": other.path.with_name("new.parquet"),
    }[way]
    with pytest.raises(jl.InvalidArgument, match=r"the workspace.s own files"):
        table.export(target)
    with pytest.raises(jl.InvalidArgument, match=r"the workspace.s own files"):
        ws.export_openlineage(target)
    assert (
        type(other.verify()).__name__ == "Match"
        and not other.path.with_name("new.parquet").exists()
    )


def test_an_export_that_fails_leaves_what_was_there(ws, tmp_path, monkeypatch):
    table = ws.materialize("towns", ROWS)
    (tmp_path / "towns.parquet").write_text("precious")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jammi_lab.workspace.result_table.shutil.copyfileobj", full)
    with pytest.raises(jl.ResourceExhausted, match="could not be written: No space left on device"):
        table.export(tmp_path / "towns.parquet")
    assert (tmp_path / "towns.parquet").read_text() == "precious" and not [*tmp_path.glob(".*.tmp")]
