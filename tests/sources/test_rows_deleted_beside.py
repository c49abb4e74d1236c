"""Iceberg tables whose rows are deleted by files beside the data (merge on read): the rows are
gone, or the table is refused; never too many, never too few."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType, NestedField, StringType

import jammi_lab as jl
from jammi_lab.core.errors import SourceUnavailable
from tests.services.iceberg_deletes import data_files, delete_at, delete_equal
from tests.sources.test_iceberg import catalog, folder_of  # noqa: F401  the fixture
from tests.verdicts import doubt, is_fresh, is_stale

SCHEMA = Schema(
    NestedField(1, "id", IntegerType(), required=True),
    NestedField(2, "name", StringType()),
)


def rows(*ids, name="n{}"):
    said = {
        "id": pa.array(ids, pa.int32()),
        "name": pa.array([name and name.format(each) for each in ids], pa.string()),
    }
    return pa.table(said, schema=SCHEMA.as_arrow())


@pytest.fixture
def table(catalog):
    made = catalog.create_table("shop.orders", schema=SCHEMA)
    made.append(rows(1, 2, 3))
    made.append(rows(4, 5))
    return made


@pytest.fixture
def ws(tmp_path, table):
    with jl.open(tmp_path / "ws") as opened:
        opened.sources.add("s", folder_of(table))
        yield opened


def ids(ws, name="s"):
    return [number for (number,) in ws.sql(f"SELECT id FROM {name} ORDER BY id").fetchall()]


def test_rows_deleted_by_their_places_are_gone_and_move_the_anchor(ws, table):
    ws.materialize("t", "SELECT id FROM s")
    ws.materialize("n", "SELECT count(*) AS n FROM s")
    first, second = data_files(table)
    delete_at(table, first, 0, 2)
    assert is_stale(ws) and is_stale(ws, "n")
    delete_at(table, second, 0)
    assert ids(ws) == [2, 5] and ws.sql(
        "SELECT count(*), count(*) FILTER (id > 2) FROM s"
    ).fetchall() == [(2, 1)]
    ws.recompute("t")
    assert ws.sql("SELECT id FROM jammi.t ORDER BY id").fetchall() == [(2,), (5,)] and is_fresh(ws)


def test_a_row_that_is_deleted_and_written_again_leaves_equal_rows(ws, table):
    ws.materialize("t", "FROM s")
    delete_at(table, data_files(table)[0], 1)
    table.append(rows(2))
    assert is_fresh(ws)
    delete_at(table, data_files(table)[-1], 0)
    assert is_stale(ws)


def test_a_pinned_snapshot_from_before_the_deletes_keeps_its_rows(ws, table):
    ws.sources.add("former", table.metadata_location.removeprefix("file://"))
    delete_at(table, data_files(table)[0], 0, 1)
    assert (ids(ws, "former"), ids(ws)) == ([1, 2, 3, 4, 5], [3, 4, 5])


def test_a_table_with_deletes_by_value_is_refused(ws, table):
    ws.materialize("t", "SELECT id FROM s")
    delete_equal(table, "id", 2)
    with pytest.raises(SourceUnavailable, match="has equality deletes") as caught:
        ws.sql("SELECT id FROM s")
    assert "compact" in str(caught.value) and "has equality deletes" in doubt(ws)


def test_rows_deleted_from_one_partition_leave_the_others(catalog, ws):
    table = catalog.create_table(
        "shop.parts",
        schema=SCHEMA,
        partition_spec=PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "name")),
    )
    table.append(rows(1, 2, name="mon"))
    table.append(rows(1, 3, name="tue"))
    ws.sources.add("s", folder_of(table), replace=True)
    delete_at(table, data_files(table)[1], 1, partition=Record("tue"))
    assert ids(ws) == [1, 1, 2]


def test_a_table_that_lacks_a_file_of_deletes_is_undecidable(ws, table):
    delete_at(table, data_files(table)[0], 0)
    ws.materialize("t", "SELECT count(*) AS n FROM s")
    [file] = (Path(folder_of(table)) / "data").glob("*delete*")
    file.unlink()
    assert f"A data file of the Iceberg table orders is missing ({file.name})" in doubt(ws)
