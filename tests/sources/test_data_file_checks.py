"""Data files of Delta and Iceberg tables against the log, and conditions on what it says of them."""

import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

import jammi_lab
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.verdicts import Undecidable
from tests.sources.test_iceberg import catalog, folder_of  # noqa: F401  a fixture


def write_delta(folder, catalog, rows):
    write_deltalake(folder / "t", rows)
    return folder / "t"


def write_iceberg(folder, catalog, rows):
    table = catalog.create_table("shop.t", schema=rows.schema)
    table.append(rows)
    return Path(folder_of(table))


@pytest.fixture(params=[write_delta, write_iceberg], ids=["delta", "iceberg"])
def write(request, catalog, tmp_path):
    """Writes a table of one file; returns their paths."""

    def write(rows):
        path = request.param(tmp_path, catalog, rows)
        [file] = path.rglob("*.parquet")
        return path, file

    return write


def replace(file, values):
    """Other values under the ids of the column that the file has."""
    [former] = pq.read_schema(file)
    kind = values.type
    if pa.types.is_list(kind):
        kind = pa.list_(former.type.value_field.with_type(kind.value_type))
    schema = pa.schema([former.with_type(kind)])
    pq.write_table(pa.table({"v": values}).cast(schema), file)


@pytest.mark.parametrize(
    ("logged", "stored"),
    [
        (pa.array([1]), pa.array([2.5])),
        (pa.array([1]), pa.array(["7.5"])),
        (pa.array([datetime.date(2024, 1, 1)]), pa.array([datetime.datetime(2024, 1, 1, 13)])),
        (pa.array([Decimal("1.2")]), pa.array([Decimal("1.25")])),
        (pa.array([[1]]), pa.array([[2.5]])),
        (pa.array([True]), pa.array([5])),
        (pa.array([1, 2]), pa.array([1])),
        (pa.array([1, 2]), pa.array([1, 3])),
        (pa.array([1, 2]), pa.array([0, 2])),
        (pa.array(["b", "c"]), pa.array(["b", "d"])),
        (pa.array([datetime.date(2024, 1, 1)]), pa.array([datetime.date(2024, 1, 2)])),
        (pa.array([None], pa.int64()), pa.array([1])),
    ],
    ids=str,
)
def test_a_data_file_that_contradicts_the_log_is_refused(tmp_path, write, logged, stored):
    path, file = write(pa.table({"v": logged}))
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.sources.add("t", path)
        made = ws.materialize("m", "FROM t")
        replace(file, stored)
        assert isinstance(made.staleness(), Undecidable)
        with pytest.raises(
            SourceUnavailable, match=f"table t has .* by its log, and .* {file.name}"
        ):
            ws.sql("FROM t")
        with pytest.raises(SourceUnavailable, match=f"by its log, and .* in {file.name}"):
            ws.sources.add("t", path, replace=True, anchor="none")


def test_a_data_file_that_the_log_holds_is_read(tmp_path, write):
    path, file = write(pa.table({"v": pa.array([1, 3]), "n": pa.array([{"a": 1}, {"a": 3}])}))
    rows = pa.table({"v": pa.array([2, 1], pa.int32()), "n": pa.array([{"a": 3}, {"a": 1}])})
    schema = pq.read_schema(file)
    pq.write_table(rows.cast(schema.set(0, schema.field(0).with_type(pa.int32()))), file)
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.sources.add("t", path)
        assert ws.sql("SELECT v, n.a FROM t").fetchall() == [(2, 3), (1, 1)]


def test_files_added_to_an_iceberg_table_are_checked_by_the_names_of_its_mapping(
    tmp_path,
    catalog,
):
    path = write_iceberg(tmp_path, catalog, pa.table({"v": [1]}))
    pq.write_table(pa.table({"v": [2]}), tmp_path / "added.parquet")
    catalog.load_table("shop.t").add_files([str(tmp_path / "added.parquet")])
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.sources.add("t", path)
        assert sorted(ws.sql("FROM t").fetchall()) == [(1,), (2,)]
        pq.write_table(pa.table({"v": [2.5]}), tmp_path / "added.parquet")
        with pytest.raises(SourceUnavailable, match="int64 in column 'v' by its log, and double"):
            ws.sql("FROM t")


@pytest.mark.parametrize(
    ("values", "condition"),
    [
        (pa.array([1.0, float("nan")]), "v > 1"),
        (pa.array([1.0, float("nan")], pa.float32()), "v > 1"),
        (pa.array([{"a": 1.0}, {"a": float("nan")}]), "v.a = 'nan'"),
        (pa.array([Decimal("9" * 30 + ".5")]), f"v = {'9' * 30}.5"),
        (pa.array([Decimal("10000000000000001.5")]), "v = 10000000000000001.5"),
    ],
    ids=str,
)
def test_a_condition_finds_what_the_bounds_of_the_log_do_not_hold(
    tmp_path, write, values, condition
):
    """Bounds of Delta have no NaN, and decimals as DOUBLE."""
    path, _ = write(pa.table({"v": values}))
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.sources.add("t", path)
        assert ws.sql(f"SELECT count(*) FROM t WHERE {condition}").fetchall() == [(1,)]
