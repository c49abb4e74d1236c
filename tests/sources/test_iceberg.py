"""Iceberg tables as sources, written by pyiceberg through a catalog in an SQLite file."""

import shutil

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import StringType

from jammi_lab.core.anchors import Unknown, source_input
from jammi_lab.core.errors import InvalidArgument, SourceUnavailable
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.lakehouse.iceberg import IcebergConnector
from tests.contracts.source import look, observed
from tests.sources.kinds import lettered as rows
from tests.verdicts import doubt, is_fresh, is_stale


@pytest.fixture
def catalog(tmp_path):
    made = SqlCatalog(
        "test", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse"
    )
    made.create_namespace("shop")
    yield made
    made.close()


@pytest.fixture
def table(catalog):
    made = catalog.create_table("shop.orders", schema=rows([1]).schema)
    made.append(rows([1, 2, 3]))
    return made


def folder_of(table):
    return table.location().removeprefix("file://")


def source(path, name="s", **how):
    return IcebergConnector(SourceRecord(name=name, kind="iceberg", location=str(path), **how))


def there(table):
    return source(folder_of(table))


def recorded(connector, columns=None):
    return observed(connector).anchor(source_input("s"), columns)


class TestWhereItIs:
    def test_a_metadata_file_is_a_snapshot_that_never_advances(self, ws, table):
        pinned = table.metadata_location.removeprefix("file://")
        ws.sources.add("former", pinned)
        ws.sources.add("now", folder_of(table))
        assert ws.sources["former"].kind == ws.sources["now"].kind == "iceberg"
        ws.materialize("a", "FROM former")
        ws.materialize("b", "FROM now")
        table.append(rows([4]))
        assert is_fresh(ws, "a") and is_stale(ws, "b")
        assert ws.sql(
            "SELECT (SELECT count(*) FROM former), (SELECT count(*) FROM now)"
        ).fetchall() == [(3, 4)]

    def test_a_catalog_tells_the_folder_of_its_table(self, ws, table, tmp_path):
        with pytest.raises(SourceUnavailable, match="no metadata of an Iceberg table") as caught:
            ws.sources.add("orders", f"{tmp_path}/warehouse", kind="iceberg")
        assert "catalog.load_table(name).location() tells it" in caught.value.hint
        with pytest.raises(InvalidArgument, match="iceberg has no option 'table'"):
            ws.sources.add("orders", tmp_path, kind="iceberg", options={"table": "shop.orders"})
        ws.sources.add("orders", table.location(), kind="iceberg")
        assert ws.sql("SELECT count(*) FROM orders").fetchall() == [(3,)]

    @pytest.mark.parametrize(
        "bytes_", [b"[" * 100_000, b"\x1f\x8b\x08\x00" + bytes(6) + b"\xff" * 9]
    )
    def test_metadata_that_cannot_be_decoded_is_refused(self, ws, tmp_path, bytes_):
        (tmp_path / "metadata").mkdir()
        (tmp_path / "metadata" / "v1.metadata.json").write_bytes(bytes_)
        with pytest.raises(SourceUnavailable, match="is not a complete metadata file"):
            ws.sources.add("s", tmp_path, kind="iceberg")

    def test_a_table_without_snapshots_is_empty(self, ws, catalog):
        empty = catalog.create_table("shop.empty", schema=rows([1]).schema)
        ws.sources.add("s", folder_of(empty))
        ws.materialize("t", "FROM s")
        assert is_fresh(ws)
        assert recorded(source(folder_of(empty))).version == -1
        empty.append(rows([1]))
        assert is_stale(ws) and ws.sql("FROM s").fetchall() == [(1, "a")]


class TestSchemas:
    """A schema that changed holds at once, whether or not a row was written since."""

    def test_a_column_that_was_renamed_added_or_dropped_is_read_as_it_is_now(self, ws, table):
        ws.sources.add("s", folder_of(table))
        with table.update_schema() as update:
            update.rename_column("name", "label")
            update.add_column("extra", StringType())
        assert [c.name for c in ws.sources["s"].columns()] == ["id", "label", "extra"]
        assert ws.sql("SELECT label, extra FROM s WHERE id = 2").fetchall() == [("b", None)]
        with table.update_schema() as update:
            update.delete_column("label")
        with table.update_schema() as update:
            update.add_column("label", StringType())
        assert ws.sql("SELECT DISTINCT label FROM s").fetchall() == [(None,)]

    def test_an_anchor_that_was_taken_with_a_later_schema_is_compared_only_where_its_columns_are_the_same(
        self, table
    ):
        with table.update_schema() as update:
            update.rename_column("name", "label")
            update.add_column("extra", StringType())
        some, renamed = (
            recorded(there(table), ("id",)),
            recorded(there(table), ("label",)),
        )
        table.overwrite(rows([1, 2, 3]).rename_columns(["id", "label"]))
        connector = there(table)
        assert (connector.same_rows(some, look()), connector.same_rows(renamed, look())) == (
            True,
            False,
        )

    def test_other_names_for_columns_are_another_state(self, table):
        before = recorded(there(table), ("id",))
        with table.transaction() as change:
            change.set_properties(
                {"schema.name-mapping.default": '[{"field-id": 1, "names": ["n"]}]'}
            )
        assert not before.same_state(recorded(there(table), ("id",)))


class TestSameRows:
    def test_a_column_that_was_dropped_and_added_again_is_another_one(self, table):
        before = recorded(there(table))
        with table.update_schema() as update:
            update.delete_column("name")
        with table.update_schema() as update:
            update.add_column("name", StringType())
        now = recorded(there(table))
        assert not before.same_state(now) and there(table).same_rows(before, look()) is False

    def test_a_snapshot_that_has_expired_cannot_be_compared(self, table):
        before = recorded(there(table))
        first = table.metadata.current_snapshot_id
        table.overwrite(rows([1, 2, 3]))
        table.maintenance.expire_snapshots().by_id(first).commit()
        assert there(table).same_rows(before, look()) is False


class TestFailures:
    def test_a_table_without_metadata_is_undecidable(self, table):
        shutil.rmtree(f"{folder_of(table)}/metadata")
        state = observed(there(table))
        assert isinstance(state, Unknown)
        assert "contains no metadata of an Iceberg table" in state.why

    def test_a_snapshot_that_names_files_of_the_workspace_is_refused(self, ws, table):
        own = ws.materialize("private", "SELECT 42::BIGINT AS id, 'x' AS name").path
        ws.sources.add("s", folder_of(table))
        ws.materialize("t", "FROM s")
        table.add_files([f"file://{own}"])
        with pytest.raises(InvalidArgument, match="belongs to the workspace itself"):
            ws.sql("FROM s")
        assert doubt(ws)

    def test_two_metadata_files_of_one_number_are_not_guessed_between(self, table):
        path = table.metadata_location.removeprefix("file://")
        other = "e" if path[-20] == "f" else "f"  # of a random name
        shutil.copy(path, path[:-20] + other + path[-19:])
        state = observed(there(table))
        assert isinstance(state, Unknown) and "2 metadata files with number 1" in state.why

    def test_another_table_at_the_same_place_is_another_one(self, catalog, table):
        before = recorded(there(table))
        catalog.drop_table("shop.orders")
        shutil.rmtree(folder_of(table))
        made = catalog.create_table(
            "shop.orders", schema=rows([1]).schema, location=table.location()
        )
        made.append(rows([1, 2, 3]))
        assert source(folder_of(made)).same_rows(before, look()) is False and not before.same_state(
            recorded(source(folder_of(made)))
        )


def test_a_snapshot_is_read_in_one_order(ws, table):
    """`iceberg_scan` returns the data files in another order at each scan."""
    for start in range(10, 80, 10):
        table.append(rows([start, start + 1], ["x", "y"]))
    ws.sources.add("s", folder_of(table))
    made = [
        ws.materialize(name, sql, cache="bypass").manifest.artifact.digest
        for name, sql in (("flat", "SELECT * FROM s"), ("list", "SELECT list(id) AS n FROM s"))
        for _ in range(6)
    ]
    assert len(set(made)) == 2
