"""The way out: for everybody at once, bytes with the last version, and nothing half gone."""

import contextlib
import errno

import pytest

from jammi_lab.errors import ResourceExhausted, TableNotFound
from tests.store.conftest import VENUES
from tests.store.lab import everything, files, files_of, statuses


def test_a_dropped_recipe_leaves_no_row_and_no_file(lab, folder):
    lab.materialize("venues", VENUES)
    lab.materialize("venues", VENUES, cache="bypass")
    lab.drop("venues")
    assert files(folder) == [] and statuses(folder) == {}
    left = everything(folder)
    assert left["versions"] == left["manifests"] == left["lineage"] == left["recipes"] == []
    with pytest.raises(TableNotFound):
        lab.table("venues")


def test_bytes_go_with_the_last_version_that_refers_to_them(lab, folder):
    one = lab.materialize("one", VENUES)
    assert lab.materialize("two", VENUES).table_name == one.table_name
    lab.drop("one")
    assert files(folder) == files_of(one) and lab.table("two").read().arrow().num_rows == 2
    lab.drop("two")
    assert files(folder) == []


def test_dropping_one_version_makes_the_one_before_it_the_newest(lab, folder):
    first = lab.materialize("venues", VENUES)
    second = lab.materialize("venues", VENUES, cache="bypass")
    second.drop()
    assert lab.table("venues").table_name == first.table_name and files(folder) == files_of(first)


@pytest.mark.parametrize("nth", range(1, 6))
def test_a_drop_that_fails_at_any_commit_was_for_all_versions_or_for_none(lab, folder, fault, nth):
    tables = [lab.materialize("venues", VENUES, cache="bypass") for _ in range(3)]
    fault("catalog:before-commit", ResourceExhausted("There is no space left."), nth)
    with contextlib.suppress(ResourceExhausted):
        lab.drop("venues")
    fault(None)
    left = [t for t in lab.tables() if t.name == "venues"]
    assert len(left) in (0, 3) and bool(left) == (len(lab.recipes()) == 1) == (nth == 1)
    if left:
        assert files(folder) == sorted(f for t in tables for f in files_of(t))


def test_a_drop_that_is_interrupted_before_bytes_are_removed_is_finished_by_the_time_of_the_next_open(lab, folder, fault, reopen):
    lab.materialize("venues", VENUES)
    fault("removal:tombstone", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        lab.drop("venues")
    fault(None)
    assert "venues" not in lab and set(statuses(folder).values()) == {"deleting"}
    assert not reopen().recover() and files(folder) == [] and statuses(folder) == {}


@pytest.mark.parametrize("point", ["file.before_unlink", "file.after_unlink"])
def test_a_disk_that_fails_while_bytes_are_removed_is_typed_and_the_next_open_finishes(lab, folder, fault, reopen, point):
    table = lab.materialize("venues", VENUES)
    fault(point, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(ResourceExhausted) as caught:
        lab.drop("venues")
    assert table.table_name in caught.value.message
    fault(None)
    assert "venues" not in lab and list(statuses(folder).values()) == ["deleting"]
    again = reopen()
    assert again.recovery.reaped == [table.table_name]
    assert files(folder) == [] and statuses(folder) == {} and not again.recover()


def test_a_stream_that_reads_a_dropped_table_comes_to_its_end(lab, folder):
    lab.materialize("many", "SELECT i FROM range(500000) t(i)")
    batches = lab.table("many").read().batches()
    first = next(batches)
    lab.drop("many")
    assert "many" not in lab
    assert first.num_rows + sum(b.num_rows for b in batches) == 500_000
    assert files(folder) == []


def test_a_failed_version_goes_with_its_recipe(lab, folder, fault):
    lab.materialize("venues", VENUES)
    fault("funnel:parquet-durable", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        lab.materialize("venues", VENUES, cache="bypass")
    fault(None)
    lab.drop("venues")
    assert statuses(folder) == {} and files(folder) == []
