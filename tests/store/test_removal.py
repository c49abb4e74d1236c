"""The way out: for everybody at once, bytes with the last version, and nothing half gone."""

import contextlib
import errno
import gc

import pytest

from jammi_lab.core.errors import ResourceExhausted, TableNotFound
from jammi_lab.store import read_leases as readers
from tests.inside import services_of
from tests.store.conftest import VENUES
from tests.store.lab import catalog, everything, files, files_of, statuses


def test_a_dropped_recipe_leaves_no_row_and_no_file(lab, folder):
    lab.materialize("venues", VENUES)
    lab.materialize("venues", VENUES, cache="bypass")
    lab.drop("venues")
    assert files(folder) == [] and statuses(folder) == {}
    left = everything(folder)
    assert left["versions"] == left["manifests"] == left["lineage"] == left["recipes"] == []
    with pytest.raises(TableNotFound):
        lab.table("venues")


def test_a_row_that_leads_out_of_the_workspace_can_be_dropped_and_touches_nothing(
    lab, folder, reopen
):
    table = lab.materialize("venues", VENUES)
    victim = folder.parent / "victim.parquet"
    victim.write_bytes(b"precious")
    with catalog(folder) as db:
        db.execute(
            "UPDATE result_tables SET path='../victim.parquet' WHERE table_name=?",
            [table.table_name],
        )
    ws = reopen()
    ws.drop("venues")
    assert statuses(folder) == {} and victim.read_bytes() == b"precious" and "venues" not in ws


def test_bytes_go_with_the_last_version_that_refers_to_them(lab, folder):
    one = lab.materialize("one", VENUES)
    assert lab.materialize("two", VENUES).table_name == one.table_name
    lab.drop("one")
    assert files(folder) == files_of(one) and lab.table("two").read().arrow().num_rows == 2
    lab.drop("two")
    assert files(folder) == []


@pytest.mark.every_case
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


@pytest.fixture
def failing(fault_hook):
    """`failing(point)` lets the disk fail at each passage of the point until `failing(None)`."""

    def at(point):
        def hook(name):
            if name == point:
                raise OSError(errno.EIO, "Input/output error")

        fault_hook(hook)

    return at


@pytest.mark.parametrize("point", ["file.before_unlink", "file.after_unlink"])
@pytest.mark.parametrize("retry", ["another drop", "recover", "open"])
def test_bytes_that_could_not_be_removed_are_removed_when_the_disk_is_well_again(
    lab, folder, failing, reopen, point, retry
):
    table = lab.materialize("venues", VENUES)
    other = lab.materialize("other", "SELECT 1 AS x")
    failing(point)
    with pytest.raises(ResourceExhausted, match=table.table_name):
        lab.drop("venues")
    assert "venues" not in lab and sorted(statuses(folder).values()) == ["deleting", "ready"]
    if retry == "open":
        lab.close()
    failing(None)
    match retry:
        case "another drop":
            lab.drop("other")
        case "recover":
            lab.recover()
        case "open":
            assert reopen().recovery.reaped == [table.table_name]
    assert files(folder) == ([] if retry == "another drop" else files_of(other))
    assert "deleting" not in statuses(folder).values()


def test_one_table_that_cannot_be_removed_does_not_keep_the_others(lab, folder, fault):
    for _ in range(3):
        lab.materialize("venues", VENUES, cache="bypass")
    fault("file.before_unlink", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(ResourceExhausted):
        lab.drop("venues")
    assert len(files(folder)) == 2 and list(statuses(folder).values()) == ["deleting"]
    lab.recover()
    assert files(folder) == [] and statuses(folder) == {}


def test_a_statement_that_was_bound_reads_its_version_though_it_goes_before_it_runs(lab, folder):
    old = lab.materialize("venues", VENUES)
    [prepared] = services_of(lab).engine.prepare("SELECT count(*) AS n FROM jammi.venues")
    lab.drop("venues")
    assert "venues" not in lab and files(folder) == files_of(old)
    assert prepared.run().table().to_pylist() == [{"n": 2}]
    del prepared
    lab.recover()
    assert files(folder) == []


def test_a_statement_that_is_never_run_keeps_no_bytes_once_it_is_forgotten(lab, folder):
    lab.materialize("venues", VENUES)
    prepared = services_of(lab).engine.prepare("SELECT * FROM jammi.venues")
    lab.drop("venues")
    assert files(folder)
    del prepared
    gc.collect()
    lab.recover()
    assert files(folder) == [] and statuses(folder) == {}


@pytest.mark.parametrize("moment", ["before it is held", "after it is held"])
def test_a_version_that_goes_while_its_name_is_being_resolved_gives_way_to_the_newest(
    lab, folder, monkeypatch, moment
):
    lab.materialize("venues", VENUES)
    hold, gone = readers.acquire_lease, []

    def held(path):
        if not gone:
            gone.append(path)
            if moment == "before it is held":
                lab.materialize("venues", VENUES, cache="bypass")
                lab.expire("venues", keep=1)
                return hold(path)
            release = hold(path)
            lab.materialize("venues", VENUES, cache="bypass")
            lab.expire("venues", keep=1)
            return release
        return hold(path)

    monkeypatch.setattr(readers, "acquire_lease", held)
    assert lab.sql("SELECT count(*) FROM jammi.venues").fetchall() == [(2,)]
    assert gone[0] != lab.table("venues").path
    lab.recover()
    assert files(folder) == files_of(lab.table("venues"))


def test_a_failed_version_goes_with_its_recipe(lab, folder, fault):
    lab.materialize("venues", VENUES)
    fault("publish:sealed", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        lab.materialize("venues", VENUES, cache="bypass")
    fault(None)
    lab.drop("venues")
    assert statuses(folder) == {} and files(folder) == []
