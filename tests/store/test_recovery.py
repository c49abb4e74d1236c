"""What recovery makes of each state that a crash, a disk or a person can leave. Each test arranges
the state and runs recovery twice."""

import errno
import json
import os

import msgspec
import pytest

import jammi_lab as jl
from jammi_lab.catalog.writers import Writers
from jammi_lab.core.errors import WorkspaceReadOnly
from jammi_lab.core.records import VersionRecord
from jammi_lab.core.verdicts import Damaged, Match, MissingManifest
from jammi_lab.storage import parquet
from jammi_lab.store import manifests, recovery
from jammi_lab.store.manifests import manifest_path
from jammi_lab.store.reports import RecoveryReport
from jammi_lab.workspace.copy import copy_workspace
from tests.backends import root_of
from tests.inside import services_of
from tests.store.conftest import VENUES
from tests.store.lab import (
    DEAD,
    catalog,
    everything,
    file_of,
    files,
    files_of,
    flip,
    row,
    statuses,
    unlink_unseen,
    unpublish,
)
from tests.waiting import in_threads


@pytest.fixture
def root(folder):
    return root_of(folder)


@pytest.fixture
def path(folder, table):
    return file_of(folder, table)


@pytest.fixture
def again(reopen, folder):
    """Opens the workspace again, and shows that a second recovery changes nothing."""

    def run():
        opened = reopen()
        report = opened.recovery
        after = everything(folder)
        second = opened.recover()
        assert (
            second.promoted,
            second.failed,
            second.healed,
            second.quarantined,
            second.reaped,
        ) == ([], [], [], [], [])
        assert everything(folder) == after
        return opened, told(report)

    return run


def told(report):
    """A report without the recipes of the tables that it names."""
    return msgspec.structs.replace(report, recipes={})


NO_MANIFEST = b'{"manifest_version": 1}'


@pytest.mark.parametrize("left", ["whole", "torn", "gone"])
@pytest.mark.parametrize("manifest", ["whole", "none", "gone"])
def test_building_without_whole_bytes_and_manifest_becomes_failed_and_all_files_go(
    again, folder, table, path, left, manifest
):
    unpublish(folder, table.table_name)
    body = path.read_bytes()
    path.unlink() if left == "gone" else path.write_bytes(body[:-7] if left == "torn" else body)
    if manifest != "whole":
        manifest_path(path).unlink()
    if manifest == "none":
        manifest_path(path).write_bytes(NO_MANIFEST)
    _, report = again()
    if left == manifest == "whole":
        assert report == RecoveryReport(promoted=[table.table_name])
        return
    assert report == RecoveryReport(failed=[table.table_name]) and files(folder) == []
    assert statuses(folder) == {table.table_name: "failed"}
    assert row(folder, table.table_name)["completed_at"]


def test_a_build_that_cannot_be_opened_now_is_kept_and_promoted_later(
    reopen, folder, table, monkeypatch
):
    """As with too many open files, or a umask that keeps others out."""
    unpublish(folder, table.table_name)

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(parquet, "open_for_reading", refused)
        report = reopen().recovery
    [line] = report.errors
    assert (report.failed, files(folder)) == ([], sorted(files_of(table)))
    assert line.startswith(f"{table.table_name}: ") and "Permission denied" in line
    assert told(reopen().recovery) == RecoveryReport(promoted=[table.table_name])


def test_what_was_built_for_a_recipe_that_was_dropped_meanwhile_does_not_come_back(
    again, folder, lab, table
):
    unpublish(folder, table.table_name, writer=services_of(lab).writer_id)  # it is being built
    lab.drop("venues")
    opened, report = again()
    assert (report.promoted, "venues" in opened, opened.tables(), files(folder)) == (
        [],
        False,
        [],
        [],
    )


def test_an_older_build_is_not_promoted_although_its_recipe_was_renamed_meanwhile(
    again, folder, lab, table
):
    newer = lab.materialize("venues", "SELECT id FROM papers")
    lab.rename("venues", "places")
    unpublish(folder, table.table_name)
    opened, report = again()
    assert (
        report == RecoveryReport(failed=[table.table_name])
        and opened.table("places").table_name == newer.table_name
    )


def test_building_with_whole_bytes_and_manifest_becomes_ready_as_if_nothing_had_happened(
    again, folder, table
):
    before = row(folder, table.table_name)
    edges = everything(folder)["lineage"]
    unpublish(folder, table.table_name)
    ws, report = again()
    assert report == RecoveryReport(promoted=[table.table_name])
    assert ws.recovery.recipes == {table.table_name: "venues"}
    assert str(ws.recovery) == "recovery: 1 promoted"
    assert row(folder, table.table_name) == {**before, "writer_id": DEAD}
    assert everything(folder)["lineage"] == edges
    assert ws.verify("venues") == Match() and ws.table("venues").read().arrow().num_rows == 2
    assert str(ws.staleness("venues")) == "fresh"


@pytest.mark.every_case
@pytest.mark.parametrize("fails", [False, True])
def test_the_names_of_tables_are_durable_before_they_become_ready(
    again, folder, lab, table, monkeypatch, fails
):
    def sync(path):
        synced.append((path, set(statuses(folder).values())))
        if fails:
            raise OSError(errno.EIO, "Input/output error")

    synced, other = [], lab.materialize("other", "SELECT id FROM papers")
    names = {table.table_name, other.table_name}
    unpublish(folder, table.table_name)
    unpublish(folder, other.table_name, writer="wdead0000000000001")
    with monkeypatch.context() as watched:
        watched.setattr(recovery, "sync_folder", sync)
        with jl.open(folder) as ws:
            report = ws.recovery
    assert {folder for folder, _ in synced} == {table.path.parent} and "building" in synced[-1][1]
    # of a folder whose sync failed, the kernel may call the next one a success
    assert len(synced) == (1 if fails else 2)
    assert set(report.promoted) == (set() if fails else names) and len(report.errors) == fails * 2
    assert all(any(name in error for error in report.errors) for name in names if fails)
    assert set(again()[1].promoted) == (names if fails else set())


@pytest.mark.parametrize("manifest", ["its own", "the other's"])
def test_the_whole_bytes_of_another_table_are_not_promoted_and_kept_beside_a_manifest_of_its_own(
    again, lab, folder, root, table, path, manifest
):
    other = lab.materialize("other", "SELECT id FROM papers")
    unpublish(folder, table.table_name)
    path.write_bytes(file_of(folder, other).read_bytes())
    if manifest != "its own":
        manifest_path(path).write_bytes(manifest_path(file_of(folder, other)).read_bytes())
    _, report = again()
    assert files(folder) == files_of(other) and statuses(folder)[table.table_name] == "failed"
    if manifest != "its own":
        assert report == RecoveryReport(failed=[table.table_name])
        return
    assert report == RecoveryReport(quarantined=[table.table_name])
    kept = {p.name: p for p in (root / "quarantine").iterdir()}
    said = f"{table.table_name}.why.json"
    assert set(kept) == {path.name, manifest_path(path).name, said}
    note = json.loads(kept[said].read_text())
    assert note["table"] == table.table_name and note["recipe"] == "venues" and note["why"]


@pytest.mark.parametrize("begun", ["first", "later"])
def test_a_build_is_promoted_over_an_older_version_and_over_none_that_was_begun_later(
    again, lab, folder, table, papers, begun
):
    papers.write_text("id,venue,year\n9,z,2029\n")
    newer = lab.materialize("venues", VENUES)
    unpublished = newer if begun == "later" else table
    unpublish(folder, unpublished.table_name)
    ws, report = again()
    done = "promoted" if begun == "later" else "failed"
    assert newer.version == 2 and report == RecoveryReport(**{done: [unpublished.table_name]})
    assert ws.table("venues").table_name == newer.table_name
    if begun == "first":
        assert files(folder) == files_of(newer)


def test_temporary_files_of_a_dead_writers_table_go_and_those_of_others_stay(
    again, lab, folder, table, path
):
    other = lab.materialize("other", "SELECT id FROM papers")
    theirs, left = (
        path.parent / f".{file_of(folder, each).name}.abcd1234.tmp" for each in (other, table)
    )
    theirs.write_bytes(b"a living writer's"), left.write_bytes(b"a dead one's")
    with jl.open(folder):
        unpublish(folder, table.table_name)
        manifest_path(path).unlink()
        again()
        assert theirs.exists() and not left.exists()


def a_dead_writer(folder):
    with catalog(folder) as db:
        db.execute(
            "INSERT INTO writers(writer_id, host, boot_id, pid, started_at) VALUES (?, 'h', 'b', 1, '2026-01-01T00:00:00.000000Z')",
            [DEAD],
        )


@pytest.mark.parametrize("suffix", [".parquet", ".materialization.json"])
def test_an_unfinished_file_whose_row_a_power_failure_took_goes_with_its_writer(
    again, lab, folder, table, path, suffix
):
    there = files(folder)
    left = path.parent / f".crashed__sql__20261120T000000000000000_0a1b2c3d{suffix}.abcd1234.tmp"
    left.write_bytes(b"torn")
    assert again()[0].recovery == RecoveryReport() and left.exists()  # nobody died
    a_dead_writer(folder)
    again()
    assert files(folder) == there


def test_whole_files_without_a_row_are_never_taken_for_unfinished_ones(
    again, lab, folder, table, path
):
    strange = path.parent / "other__sql__20261120T000000000000000_0a1b2c3d.parquet"
    strange.write_bytes(path.read_bytes())
    (path.parent / ".notes.tmp").write_text("a person's")
    a_dead_writer(folder)
    again()
    assert strange.exists() and (path.parent / ".notes.tmp").exists()


def test_what_cannot_be_removed_of_a_dead_writers_tables_is_named_and_keeps_no_other(
    lab, folder, table, monkeypatch
):
    torn = [lab.materialize(f"torn{n}", f"SELECT {n} AS n") for n in range(3)]
    for each in torn:
        unpublish(folder, each.table_name)
        file_of(folder, each).write_bytes(b"PAR1")
    unlink, stuck = os.unlink, torn[1].table_name

    def fail(place, *rest, **more):
        if stuck in str(place):
            raise OSError(5, "Input/output error")
        unlink(place, *rest, **more)

    with monkeypatch.context() as broken:
        broken.setattr(os, "unlink", fail)
        report = lab.recover()
    assert sorted(report.failed) == sorted(each.table_name for each in torn)
    assert [line.split(":")[0] for line in report.errors] == [stuck]
    assert files(folder) == sorted(files_of(table, torn[1]))


def test_a_failed_row_whose_writer_died_before_it_removed_the_files_is_cleared(
    again, folder, table
):
    with catalog(folder) as db:
        db.execute("UPDATE result_tables SET status='failed', writer_id=?", [DEAD])
    a_dead_writer(folder)
    again()
    assert files(folder) == [] and statuses(folder) == {table.table_name: "failed"}


def test_a_lost_manifest_of_a_ready_table_is_healed_from_the_catalogs_copy(
    again, lab, folder, table, path
):
    body = manifests.read(path)
    lab.close()
    manifest_path(path).unlink()
    ws, report = again()
    assert report == RecoveryReport(healed=[table.table_name])
    assert manifest_path(path).read_bytes() == body and ws.verify("venues") == Match()


def test_an_unparsable_manifest_of_a_ready_table_is_healed_on_request(lab, folder, table, path):
    body = manifests.read(path)
    manifest_path(path).write_bytes(body[:-9])
    assert told(lab.recover()) == RecoveryReport(healed=[table.table_name])
    assert manifest_path(path).read_bytes() == body and not lab.recover()


def test_a_file_of_holes_is_not_copied_and_without_its_manifest_it_is_quarantined(
    lab, folder, table, path, tmp_path
):
    os.truncate(path, 1 << 40)
    assert copy_workspace(lab, tmp_path / "copy").missing == [table.table_name]
    lab.close()
    manifest_path(path).unlink()
    with jl.open(folder) as ws:
        assert ws.recovery.quarantined == [table.table_name]


@pytest.mark.parametrize("has", ["other bytes", "no copy"])
def test_a_lost_manifest_with_other_bytes_or_without_a_copy_is_quarantined_and_failed(
    again, lab, folder, root, table, path, has
):
    lab.close()
    manifest_path(path).unlink()
    if has == "other bytes":
        flip(path)
    else:
        with catalog(folder) as db:
            db.execute("DELETE FROM manifests")
    ws, report = again()
    assert report == RecoveryReport(quarantined=[table.table_name])
    assert statuses(folder) == {table.table_name: "failed"} and files(folder) == []
    for name in (path.name, f"{table.table_name}.why.json"):
        assert (root / "quarantine" / name).exists()
    assert "venues" not in ws


def test_a_recovery_heals_what_another_kernel_is_healing_just_now(
    lab, folder, table, path, fault_hook
):
    def other(name):
        if name == "file.before_rename" and not cleared:
            cleared.extend(path.parent.glob(".*.tmp"))
            for each in cleared:
                each.unlink()  # as a recovery does with what looks left by a dead one

    cleared = []
    manifest_path(path).unlink()
    fault_hook(other)
    report = lab.recover()
    assert cleared and told(report) == RecoveryReport(healed=[table.table_name])
    assert lab.verify("venues") == Match() and files(folder) == files_of(table)


@pytest.mark.parametrize("quarantined", [False, True])
def test_what_another_kernel_is_writing_stays_until_ours_has_its_name(
    lab, folder, table, path, quarantined, fault_hook
):
    def unfinished():
        return [each.name for each in theirs if each.exists()]

    manifest_path(path).unlink()
    if quarantined:
        flip(path)
    (folder / "quarantine").mkdir()
    theirs = [
        path.with_name(f".{manifest_path(path).name}.0123abcd.tmp"),
        folder / "quarantine" / f".{table.table_name}.why.json.0123abcd.tmp",
    ]
    for each in theirs:
        each.write_bytes(b"{")
    seen = []
    fault_hook(lambda name: seen.append(unfinished()) if name == "file.before_rename" else None)
    lab.recover()
    assert seen and all(len(each) == 2 for each in seen)
    assert unfinished() == [theirs[not quarantined].name]


def test_a_recovery_finishes_a_quarantine_that_another_kernel_is_at_just_now(
    lab, folder, table, path, fault_hook
):
    def other(name):
        if name == "file.before_rename" and not cleared:
            cleared.extend((folder / "quarantine").glob(".*.tmp"))
            for each in cleared:
                each.unlink()
            path.rename(folder / "quarantine" / path.name)

    cleared = []
    manifest_path(path).unlink()
    flip(path)
    fault_hook(other)
    report = lab.recover()
    assert cleared and told(report) == RecoveryReport(quarantined=[table.table_name])
    assert statuses(folder) == {table.table_name: "failed"} and not list(
        (folder / "quarantine").glob(".*")
    )


def test_what_a_recovery_left_unfinished_twice_goes_with_the_next(again, lab, folder, table, path):
    left = path.with_name(f".{manifest_path(path).name}.0123abcd.tmp")
    left.write_bytes(b"{")
    lab.close()
    with catalog(folder) as db:
        db.execute(
            "UPDATE writers SET retired_at = NULL"
        )  # it died, after it had given a second one its name
    _, report = again()
    assert not report and files(folder) == files_of(table) and not left.exists()


def test_a_damaged_table_that_has_its_manifest_is_left_for_verify(again, folder, table, path):
    flip(path)
    ws, report = again()
    assert not report and not ws.recover() and isinstance(ws.staleness("venues"), Damaged)


def test_a_ready_row_from_before_manifests_is_left_alone(again, folder, table, path):
    manifest_path(path).unlink()
    with catalog(folder) as db:
        db.execute("UPDATE result_tables SET definition_hash=NULL, manifest_digest=NULL")
        db.execute("DELETE FROM manifests")
    before = everything(folder)
    ws, report = again()
    assert not report and everything(folder) == before
    assert ws.verify("venues") == MissingManifest() and ws.staleness("venues") == MissingManifest()
    assert ws.table("venues").read().arrow().num_rows == 2


def test_rows_of_every_tenant_are_settled_and_stay_with_their_tenant(again, lab, folder, table):
    tables = {None: table}
    for tenant in ("acme", "bolt"):
        with lab.tenant(tenant):
            tables[tenant] = lab.materialize("venues", VENUES)
            torn = lab.materialize("torn", "SELECT id FROM papers")
            file_of(folder, torn).write_bytes(b"PAR1")
            unpublish(folder, torn.table_name)
    for each in tables.values():
        unpublish(folder, each.table_name)
    ws, report = again()
    assert (
        sorted(report.promoted) == sorted(t.table_name for t in tables.values())
        and len(report.failed) == 2
    )
    assert ws.current_tenant is None
    for tenant, each in tables.items():
        assert row(folder, each.table_name)["tenant_id"] == tenant
        with ws.tenant(tenant):
            assert ws.table("venues").table_name == each.table_name
    assert files(folder) == sorted(f for t in tables.values() for f in files_of(t))


def test_a_writer_that_dies_after_its_lock_was_tried_is_settled_all_the_same(
    reopen, folder, table, path, monkeypatch
):
    unpublish(folder, table.table_name)
    dead = [Writers.dead_writers, lambda _: iter(())]
    monkeypatch.setattr(Writers, "dead_writers", lambda writers: dead.pop()(writers))
    assert told(reopen().recovery) == RecoveryReport(promoted=[table.table_name]) and dead == []


@pytest.mark.every_case
@pytest.mark.parametrize("status", ["building", "deleting"])
@pytest.mark.parametrize("what", ["link", "folder", "forbidden"])
def test_what_a_dead_writer_left_and_cannot_be_settled_is_told_in_words_and_not_said_to_be_in_the_making(
    lab, folder, table, path, tmp_path, monkeypatch, status, what
):
    unpublish(folder, table.table_name)
    with catalog(folder) as db:
        db.execute("UPDATE result_tables SET status = ?", [status])
    if what == "forbidden":

        def refused(*_, **__):
            raise PermissionError(
                errno.EACCES, "Permission denied", f"{path.parent}/.{path.name}.x.tmp"
            )

        monkeypatch.setattr(
            os if status == "deleting" else manifests,
            "unlink" if status == "deleting" else "read_regular",
            refused,
        )
    else:
        path.rename(tmp_path / "elsewhere")
        path.mkdir() if what == "folder" else path.symlink_to(tmp_path / "elsewhere")
    report = lab.recover()
    assert report.spared == [] and "living" not in repr(report)
    assert (tmp_path / "elsewhere").exists() == (what != "forbidden")
    said = {
        "link": "is outside its folder",
        "folder": "is not a regular file: Is a directory. Move it",
        "forbidden": "Permission denied. Check the permissions of",
    }[what]
    [line] = report.errors
    assert line.startswith(f"{table.table_name}: ") and said in line and "[Errno" not in line


def test_a_file_that_takes_the_place_of_the_results_meanwhile_lets_the_workspace_be_closed_and_is_told_by_the_next_open(
    lab, folder, table
):
    (folder / "results").rename(folder / "aside")
    (folder / "results").write_text("mine")
    lab.close()
    with pytest.raises(WorkspaceReadOnly, match="results' must be a folder and no link"):
        jl.open(folder)
    (folder / "results").unlink()
    with jl.open(folder) as ws:
        assert ws.recovery.missing == [table.table_name]


@pytest.mark.parametrize("note", ["{not json", "", "[" * 100_000, "[1]", "null"])
def test_a_note_of_the_results_folders_that_says_nothing_has_the_tables_looked_at(
    again, lab, folder, table, path, note
):
    lab.close()
    with catalog(folder) as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'results-stamps'", [note])
    manifest_path(path).unlink()
    ws, report = again()
    assert report == RecoveryReport(healed=[table.table_name])
    ws.close()
    with jl.open(folder) as ws:
        assert not services_of(
            ws
        ).recovery.have_folders_changed()  # a closed workspace has noted it anew


def test_a_manifest_of_a_later_release_is_left_alone_and_stops_nothing_else(
    again, lab, folder, table, path
):
    second = lab.materialize("second", "SELECT id FROM papers")
    body = json.loads(manifests.read(path))
    manifest_path(path).write_text(json.dumps({**body, "manifest_version": 2}))
    for each in (table, second):
        unpublish(folder, each.table_name)
    ws, report = again()
    assert report.promoted == [second.table_name] and [e.split(":")[0] for e in report.errors] == [
        table.table_name
    ]
    assert statuses(folder)[table.table_name] == "building" and path.exists()
    made = ws.materialize("venues", VENUES)  # nobody waits for a row that nobody can settle
    assert made.outcome == "computed" and made.version > table.version


def test_an_ordinary_open_reports_nothing_and_looks_at_no_ready_table(
    again, folder, table, monkeypatch
):
    from jammi_lab.store.recovery import Recovery

    swept = []
    monkeypatch.setattr(Recovery, "_inspect", lambda self, record: swept.append(record))
    _, report = again()
    assert report == RecoveryReport() and not report and str(report) == "recovery: nothing to do"
    assert [r.table_name for r in swept] == [
        table.table_name
    ]  # by the recovery that `again` asks for, and no other


def test_ready_tables_are_swept_when_a_writer_died_though_it_built_nothing(
    again, folder, table, path, reopen
):
    reopen().close()
    unlink_unseen(manifest_path(path))
    a_dead_writer(folder)
    _, report = again()
    assert report == RecoveryReport(healed=[table.table_name])


def test_a_read_only_open_recovers_nothing(lab, folder, table):
    unpublish(folder, table.table_name)
    lab.close()
    before = everything(folder)
    with jl.open(folder, read_only=True) as ws:
        assert not ws.recovery
    assert everything(folder) == before


def test_recoveries_at_once_settle_each_row_once(lab, folder):
    tables = [lab.materialize(f"t{n}", f"SELECT id, {n} AS n FROM papers") for n in range(6)]
    for each in tables:
        unpublish(folder, each.table_name)
    reports = in_threads(lambda ws: ws.recover(), [lab] * 4)
    assert sorted(name for r in reports for name in r.promoted) == sorted(
        t.table_name for t in tables
    )
    assert not any(r.errors or r.failed for r in reports)


def test_a_row_that_another_recovery_promoted_first_keeps_its_files(
    lab, folder, table, path, papers, monkeypatch
):
    """The lock file of the dead writer is gone, so two processes may settle its rows at once, and
    see different newest versions."""
    from jammi_lab.catalog.result_tables import ResultTableRepository

    unpublish(folder, table.table_name)

    def newest(*_):
        with catalog(folder) as db:
            db.execute(
                "UPDATE result_tables SET status='ready' WHERE table_name=?", [table.table_name]
            )
        later = VersionRecord("venues", table.version + 1, "later")
        return later, ready

    ready = services_of(lab).catalog.result_tables.get(table.table_name)
    monkeypatch.setattr(ResultTableRepository, "newest_of_owner", newest)
    report = lab.recover()
    assert path.exists() and statuses(folder) == {table.table_name: "ready"} and report.failed == []


@pytest.mark.parametrize(
    "when", ["before it is hashed", "after it was hashed", "after it was hashed and damaged"]
)
def test_a_table_dropped_while_it_is_swept_is_not_healed_and_not_quarantined(
    lab, folder, root, table, path, monkeypatch, when
):
    manifest_path(path).unlink()
    if when.endswith("damaged"):
        flip(path)
    hashed = recovery.sha256_file

    def hash_and_drop(target):
        if when.startswith("before"):
            lab.drop("venues")
        found = hashed(target)
        lab.drop("venues")
        return found

    monkeypatch.setattr(recovery, "sha256_file", hash_and_drop)
    assert told(lab.recover()) == RecoveryReport()
    assert files(folder) == [] and not (root / "quarantine").exists()
