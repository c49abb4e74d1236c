"""Status changes are compare-and-set; numbers are given once."""

import msgspec
import pytest

from jammi_lab.core.errors import DuplicateTable, TableNotFound
from jammi_lab.core.records import TableStatus
from tests.catalog.conftest import FULL, anchored


def test_a_published_record_reads_back_as_it_was(lab):
    begun = lab.begin("top", **FULL)
    published = lab.table_status.publish(
        msgspec.structs.replace(begun, anchors=[anchored("source:papers")]), b'{"a":1}\n'
    )
    assert lab.result_tables.get(begun.table_name) == published
    assert published.status is TableStatus.READY
    assert published.completed_at
    assert lab.result_tables.manifest(begun.table_name) == b'{"a":1}\n'


def test_a_row_fails_only_by_its_own_writer_and_only_while_it_is_building(lab):
    begun = lab.begin("top")
    assert not lab.table_status.mark_failed(begun.table_name, "other", "no")
    assert lab.table_status.mark_failed(begun.table_name, lab.writer, "disk full")
    assert not lab.table_status.mark_failed(begun.table_name, lab.writer, "again")
    found = lab.result_tables.get(begun.table_name)
    assert found is not None
    assert (found.status, found.error) == (TableStatus.FAILED, "disk full")


def test_two_tenants_build_the_same_definition_beside_each_other(lab):
    lab.begin("top", "same")
    with lab.scope.use("acme"):
        assert lab.begin("top", "same").tenant == "acme"


def test_a_failed_attempt_leaves_a_gap_and_shadows_nothing(lab):
    one = lab.ready("top")
    two = lab.begin("top")
    lab.table_status.mark_failed(two.table_name, lab.writer, "x")
    assert lab.result_tables.newest("top")[1] == one
    lab.table_status.remove(two.table_name)
    assert lab.ready("top").version == 3
    assert [v.version for v, _ in lab.result_tables.versions("top")] == [3, 1]


def test_a_number_is_not_given_again_when_the_newest_version_was_dropped(lab):
    lab.ready("top")
    lab.ready("top")
    lab.table_status.drop_version("top", 2)
    assert lab.ready("top").version == 3


def test_a_physical_name_is_given_once(lab):
    begun = lab.begin("top")
    with pytest.raises(DuplicateTable):
        lab.table_status.begin(lab.record("top", table_name=begun.table_name.upper()))


def test_reuse_is_a_new_version_of_the_same_table_unless_it_is_the_newest_already(lab):
    old, _new = lab.ready("top"), lab.ready("top")
    again = lab.table_status.reuse("TOP", old.table_name)
    assert (again.version, again.table_name) == (3, old.table_name)
    assert lab.table_status.reuse("top", old.table_name) == again
    assert lab.table_status.reuse("alias", old.table_name).version == 1
    assert [v.recipe for v in lab.result_tables.versions_of_table(old.table_name)] == [
        "top",
        "top",
        "alias",
    ]


def test_a_building_table_cannot_be_dropped(lab):
    lab.begin("top")
    assert lab.table_status.drop_version("top", 1) is None


def test_only_a_ready_table_is_condemned(lab):
    begun, failed, buried = lab.begin("one"), lab.begin("two"), lab.ready("three")
    lab.table_status.mark_failed(failed.table_name, lab.writer, "disk full")
    lab.drop(buried)
    for table, status in (
        (begun, TableStatus.BUILDING),
        (failed, TableStatus.FAILED),
        (buried, TableStatus.DELETING),
    ):
        assert not lab.table_status.mark_damaged(table.table_name, "bytes differ")
        assert lab.result_tables.get(table.table_name).status is status


def test_healing_replaces_the_copy_of_the_manifest(lab):
    table = lab.ready("top")
    assert lab.table_status.replace_manifest(table.table_name, "{“ü”}".encode())
    assert lab.result_tables.manifest(table.table_name) == "{“ü”}".encode()
    assert not lab.table_status.replace_manifest("nothing", b"{}")


def test_one_tenants_table_is_to_another_what_does_not_exist(lab):
    with lab.scope.use("acme"):
        table = lab.ready("top")
    with lab.scope.use("zeta"):
        assert lab.result_tables.get(table.table_name) is None
        assert lab.result_tables.manifest(table.table_name) is None
        assert not lab.table_status.mark_damaged(table.table_name, "x")
        assert not lab.table_status.replace_manifest(table.table_name, b"")
        assert lab.table_status.drop_version("top", 1) is None
        with pytest.raises(TableNotFound) as foreign:
            lab.table_status.reuse("mine", table.table_name)
        with pytest.raises(TableNotFound) as absent:
            lab.table_status.reuse("mine", "absent")
        assert str(foreign.value).replace(table.table_name, "absent") == str(absent.value)
