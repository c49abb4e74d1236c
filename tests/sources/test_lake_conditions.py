"""Conditions on Delta and Iceberg tables, whose logs have bounds by which files are skipped."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

import jammi_lab
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


def test_a_data_file_that_the_log_holds_is_read(tmp_path, write):
    path, file = write(pa.table({"v": pa.array([1, 3]), "n": pa.array([{"a": 1}, {"a": 3}])}))
    rows = pa.table({"v": pa.array([2, 1], pa.int32()), "n": pa.array([{"a": 3}, {"a": 1}])})
    schema = pq.read_schema(file)
    pq.write_table(rows.cast(schema.set(0, schema.field(0).with_type(pa.int32()))), file)
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.sources.add("t", path)
        assert ws.sql("SELECT v, n.a FROM t").fetchall() == [(2, 3), (1, 1)]


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
