"""Iceberg tables whose rows are deleted by files beside the data (merge on read): the rows are
gone, or the table is refused; never too many, never too few."""

import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, IntegerType, LongType, NestedField, StringType

import jammi_lab as jl
from jammi_lab.core.errors import SourceUnavailable
from tests.services.iceberg_deletes import data_files, delete_at, delete_equal
from tests.sources.test_iceberg import catalog, folder_of  # noqa: F401  the fixture
from tests.verdicts import doubt, is_fresh, is_stale

SCHEMA = Schema(
    NestedField(1, "id", IntegerType(), required=True),
    NestedField(2, "name", StringType()),
    NestedField(3, "price", DoubleType(), required=True),
)


def rows(*ids, name="n{}"):
    said = {
        "id": pa.array(ids, pa.int32()),
        "name": pa.array([name and name.format(each) for each in ids], pa.string()),
        "price": [1.5] * len(ids),
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


def test_rows_deleted_by_a_value_are_gone_and_those_written_later_stay(ws, table):
    ws.materialize("t", "SELECT id FROM s")
    delete_equal(table, ["id"], (2,), (4,))
    assert is_stale(ws) and ids(ws) == [1, 3, 5]
    table.append(rows(4))
    assert ids(ws) == [1, 3, 4, 5]
    assert ws.sql("SELECT name FROM s WHERE name LIKE 'n%' ORDER BY 1").fetchall() == [
        ("n1",),
        ("n3",),
        ("n4",),
        ("n5",),
    ]  # without the column


def test_a_row_that_is_deleted_and_written_again_leaves_equal_rows(ws, table):
    ws.materialize("t", "FROM s")
    delete_equal(table, ["id"], (2,))
    table.append(rows(2))
    assert is_fresh(ws)
    delete_at(table, data_files(table)[-1], 0)
    assert is_stale(ws)


def test_deletes_hold_for_a_column_that_is_renamed(ws, table):
    delete_equal(table, ["name"], ("n2",))
    with table.update_schema() as update:
        update.rename_column("name", "label")
    assert ws.sql("SELECT id, label FROM s WHERE id < 4 ORDER BY id").fetchall() == [
        (1, "n1"),
        (3, "n3"),
    ]


def test_deletes_that_compare_a_column_which_has_changed_its_type_are_refused(ws, table):
    ws.materialize("t", "SELECT id FROM s")
    delete_equal(table, ["id"], (3,))
    with table.update_schema() as update:
        update.update_column("id", LongType())
    check_refused(ws, "the column id, which has changed its type")


def test_deletes_that_compare_a_column_which_was_dropped_are_refused(ws, table):
    """DuckDB breaks down over them."""
    ws.materialize("t", "SELECT id FROM s")
    delete_equal(table, ["name"], ("n2",))
    with table.update_schema() as update:
        update.delete_column("name")
    with table.update_schema() as update:
        update.add_column("name", StringType())
    check_refused(ws, "the column name, which no longer exists")


def test_a_pinned_snapshot_from_before_the_deletes_keeps_its_rows(ws, table):
    ws.sources.add("former", table.metadata_location.removeprefix("file://"))
    delete_equal(table, ["id"], (2,))
    delete_at(table, data_files(table)[0], 0)
    assert (ids(ws, "former"), ids(ws)) == ([1, 2, 3, 4, 5], [3, 4, 5])


def check_refused(ws, why):
    with pytest.raises(SourceUnavailable, match=why) as caught:
        ws.sql("SELECT id FROM s")
    assert "has equality deletes" in str(caught.value) and "compact" in str(caught.value)
    assert why in doubt(ws)


def test_deletes_that_compare_a_column_with_nulls_are_refused(ws, table):
    """DuckDB leaves out the row without a name: it holds NULL = 'n2' for a match."""
    table.append(rows(9, name=None))
    ws.materialize("t", "SELECT id FROM s")
    delete_equal(table, ["id", "name"], (2, "n2"))
    check_refused(ws, "the column name, which may be NULL")
    table.overwrite(rows(1))
    assert ids(ws) == [1] and is_stale(ws)


def test_deletes_that_compare_a_column_whose_nulls_nobody_counted_are_refused(catalog, tmp_path):
    table = catalog.create_table(
        "shop.silent", schema=SCHEMA, properties={"write.metadata.metrics.default": "none"}
    )
    table.append(rows(1, 2))
    with jl.open(tmp_path / "ws") as ws:
        ws.sources.add("s", folder_of(table))
        delete_equal(table, ["id"], (2,))
        assert ids(ws) == [1]
        ws.materialize("t", "SELECT id FROM s")
        delete_equal(table, ["name"], ("n1",))
        check_refused(ws, "the column name, which may be NULL")


def test_deletes_that_compare_floats_are_refused(ws, table):
    ws.materialize("t", "SELECT id FROM s")
    delete_equal(table, ["price"], (1.5,))
    check_refused(ws, "the column price, whose type is not supported")
    assert ws.sql("SELECT 1").fetchall() == [(1,)]


def test_deletes_in_a_table_of_partitions_are_refused_by_value_and_read_by_place(catalog, tmp_path):
    """DuckDB takes rows of all partitions away by a value that was deleted from one."""
    table = catalog.create_table(
        "shop.parts",
        schema=SCHEMA,
        partition_spec=PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "name")),
    )
    table.append(rows(1, 2, name="mon"))
    table.append(rows(1, 3, name="tue"))
    with jl.open(tmp_path / "ws") as ws:
        ws.sources.add("s", folder_of(table))
        delete_at(table, data_files(table)[1], 1, partition=Record("tue"))
        assert ids(ws) == [1, 1, 2]
        ws.materialize("t", "SELECT id FROM s")
        delete_equal(table, ["id"], (1,), partition=Record("mon"))
        check_refused(ws, "the table is partitioned")
