"""Upkeep: which versions go, how catalog and files are compared and mended, and the copy of the
catalog."""

import contextlib
import datetime
import errno
import gc
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import (
    InvalidArgument,
    ResourceExhausted,
    TableNotFound,
    TenantForbidden,
    WorkspaceReadOnly,
)
from jammi_lab.store import recovery
from jammi_lab.store.manifests import manifest_path
from tests.inside import record_of, services_of
from tests.store.conftest import PAPERS, VENUES
from tests.store.lab import (
    catalog,
    everything,
    files,
    files_of,
    flip,
    statuses,
    unpublish,
)

DAY = 86_400


def versions(lab, name, count, sql=VENUES):
    return [lab.materialize(name, sql, cache="bypass") for _ in range(count)]


def aged(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def stray(folder, name="stray.parquet", age=0.0, body=b"not ours"):
    path = folder / "results" / "_global" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    aged(path, age)
    return path


# -- expire ----------------------------------------------------------------------------------------


def test_expire_keeps_the_newest_or_as_many_as_it_is_told_and_those_pinned(lab, folder):
    made = versions(lab, "venues", 5)
    assert lab.expire("VENUES", keep=4) == [made[0].table_name]
    assert lab.expire("venues", keep=9) == []
    made[1].pin("the paper cites it")
    assert lab.expire("venues") == [made[3].table_name, made[2].table_name]
    lab.table("venues", version=2).unpin()
    assert lab.expire("venues") == [made[1].table_name]
    assert files(folder) == files_of(made[4])
    assert [t.version for t in lab.table("venues").history()] == [5]


def test_expire_keeps_what_the_newest_version_of_some_recipe_is_anchored_on(lab, papers):
    first = lab.materialize("venues", VENUES)
    lab.materialize("top", "SELECT * FROM jammi.venues WHERE n > 1")
    papers.write_text(PAPERS + "4,b,2024\n")
    second = lab.materialize("venues", VENUES)
    assert lab.expire("venues") == []
    lab.recompute("top")
    assert lab.expire("venues") == [first.table_name]
    assert (
        lab.table("venues").table_name == second.table_name and str(lab.staleness("top")) == "fresh"
    )


def test_expire_keeps_an_exact_version_that_a_table_was_made_from(lab, papers):
    first = lab.materialize("venues", VENUES)
    lab.materialize("old", "SELECT * FROM jammi_version('venues', 1)")
    papers.write_text(PAPERS + "4,b,2024\n")
    lab.materialize("venues", VENUES)
    assert lab.expire("venues") == []
    lab.drop("old")
    assert lab.expire("venues") == [first.table_name]


def test_expire_keeps_what_another_tenants_table_is_anchored_on(lab, papers, table):
    with lab.tenant("acme"):
        lab.materialize("mine", "SELECT * FROM jammi.venues")
    papers.write_text(PAPERS + "4,b,2024\n")
    lab.materialize("venues", VENUES)
    assert lab.expire("venues") == []


def test_expire_removes_what_has_the_rows_that_a_table_read_of_another_recipe(lab, papers):
    equal = f"SELECT * FROM ({VENUES})"
    lab.materialize("venues", VENUES)
    first = lab.materialize("equal", equal)
    lab.materialize("top", "SELECT * FROM jammi.venues")
    papers.write_text(PAPERS + "4,b,2024\n")
    lab.materialize("venues", VENUES)
    lab.materialize("equal", equal)
    assert lab.expire("venues") == []
    assert lab.expire("equal") == [first.table_name]


def test_expire_leaves_failed_attempts_alone(lab, fault):
    versions(lab, "venues", 1)
    fault("publish:sealed", RuntimeError("no"))
    with pytest.raises(RuntimeError):
        lab.materialize("venues", VENUES, cache="bypass")
    fault(None)
    assert lab.expire("venues") == [] and [t.version for t in lab.tables(status="failed")] == [2]
    assert lab.table("venues").version == 1


def test_expire_is_for_all_versions_or_for_none(lab, folder, fault):
    versions(lab, "venues", 3)
    fault("catalog:before-commit", ResourceExhausted("There is no space left."))
    with pytest.raises(ResourceExhausted):
        lab.expire("venues")
    fault(None)
    assert len(lab.table("venues").history()) == 3 and len(files(folder)) == 6


def test_expire_takes_a_recipe_and_a_number_from_1(lab):
    [table] = versions(lab, "venues", 1)
    with pytest.raises(TableNotFound) as caught:
        lab.expire("venue")
    assert caught.value.near == ("venues",)
    with pytest.raises(TableNotFound):
        lab.expire(table.table_name)
    for keep in (0, -1, True, 1.0, "1"):
        with pytest.raises(InvalidArgument):
            lab.expire("venues", keep=keep)


# -- readers ---------------------------------------------------------------------------------------

MANY = "SELECT i FROM range(2000000) t(i)"


def read_on(_, result):
    assert sum(b.num_rows for b in result.batches()) == 2_000_000


ENDS = {
    "read to the end": read_on,
    "closed": lambda _, result: result.close(),
    "closed with its workspace": lambda lab, _: lab.close(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_bytes_of_a_dropped_table_go_when_its_reader_is(lab, folder, end):
    table = lab.materialize("many", MANY)
    result = table.read()
    result.preview(1)
    lab.drop("many")
    assert "many" not in lab and files(folder) == files_of(table)
    assert list(statuses(folder).values()) == ["deleting"]
    end(lab, result)
    assert files(folder) == [] and statuses(folder) == {}


def test_a_reader_that_was_forgotten_holds_nothing_for_long(lab, folder):
    result = lab.materialize("many", MANY).read()
    lab.materialize("other", VENUES)
    lab.drop("many")
    del result
    deadline = time.monotonic() + 10
    while len(files(folder)) > 2 and time.monotonic() < deadline:
        lab.recover()
    assert len(files(folder)) == 2


def test_a_reader_in_another_handle_of_this_process_counts(lab, folder):
    lab.materialize("many", MANY)
    with jl.open(folder) as other:
        result = other.table("many").read()
        lab.drop("many")
        assert files(folder)
        assert result.arrow().num_rows == 2_000_000
    assert not lab.recover().errors and files(folder) == []


def test_when_the_kernel_dies_before_the_reader_ends_the_next_open_removes_the_bytes(
    lab, folder, run_python
):
    run_python(
        "import os, jammi_lab as jl\n"
        "ws = jl.open('lab')\n"
        f"t = ws.materialize('many', '{MANY}')\n"
        "r = t.read(); r.preview(1); ws.drop('many'); os._exit(0)"
    )
    assert list(statuses(folder).values()) == ["deleting"]
    assert len(lab.recover().reaped) == 1 and files(folder) == []


# -- check -----------------------------------------------------------------------------------------


def test_a_sound_workspace_has_nothing_to_say(lab, folder, table):
    report = lab.fsck()
    assert (
        not report
        and str(report) == "fsck: catalog and files agree"
        and "No problems found" in report._repr_html_()
    )
    assert not lab.fsck(deep=True) and not lab.fsck(repair=True)


@pytest.mark.parametrize(("harm", "said"), [(Path.unlink, "missing"), (flip, "damaged")])
def test_check_names_ready_tables_whose_bytes_are_gone_or_damaged_and_leaves_them(
    lab, table, harm, said
):
    harm(table.path)
    for repair in (False, True):
        assert getattr(lab.fsck(repair=repair), said) == [table.table_name]
    assert lab.table("venues").status == "ready"


def test_check_names_files_that_no_row_accounts_for(lab, folder, table):
    stray(folder), stray(folder, ".stray.parquet.0a1b2c3d.tmp")
    (folder / "results" / "elsewhere").mkdir()
    (folder / "results" / "elsewhere" / "x.txt").write_text("x")
    assert lab.fsck().orphans == [
        "results/_global/.stray.parquet.0a1b2c3d.tmp",
        "results/_global/stray.parquet",
        "results/elsewhere/x.txt",
    ]


def test_check_names_a_lost_manifest_and_a_repair_writes_it_again(lab, table):
    place = manifest_path(table.path)
    body = place.read_bytes()
    place.unlink()
    assert lab.fsck().missing == ["results/_global/" + place.name] and not place.exists()
    report = lab.fsck(repair=True)
    assert (report.repaired, report.missing) == (
        [table.table_name],
        [],
    ) and place.read_bytes() == body
    assert not lab.fsck()


def flip_with_equal_stat(path, monkeypatch):
    stat = os.stat(path)
    flip(path)

    def as_before(real):
        return lambda target, **rest: (
            stat if os.fspath(target) == os.fspath(path) and not rest else real(target, **rest)
        )

    monkeypatch.setattr(os, "lstat", as_before(os.lstat))
    monkeypatch.setattr(os, "stat", as_before(os.stat))


def test_bytes_that_were_just_written_are_read_again_whatever_their_stat(lab, monkeypatch, table):
    services_of(lab).results.racy_seconds = 3600.0
    assert str(lab.staleness("venues")) == "fresh"
    flip_with_equal_stat(table.path, monkeypatch)
    assert str(lab.staleness("venues")).startswith("damaged")


def test_damage_that_moves_no_stat_is_found_by_a_deep_check_and_known_from_then_on(
    lab, monkeypatch, table
):
    services_of(lab).results.racy_seconds = -1.0  # as if the file had long been as it is
    flip_with_equal_stat(table.path, monkeypatch)
    assert lab.fsck().damaged == [] and str(lab.staleness("venues")) == "fresh"
    assert lab.fsck(deep=True).damaged == [table.table_name]
    assert str(lab.staleness("venues")).startswith("damaged")


def test_a_repair_gives_the_catalog_its_copy_of_a_manifest_back(lab, folder, table):
    with catalog(folder) as db:
        db.execute("DELETE FROM manifests")
    assert lab.fsck().damaged == [table.table_name]
    assert lab.fsck(repair=True).repaired == [table.table_name] and not lab.fsck()


def test_without_repair_a_check_changes_nothing(lab, folder):
    made = versions(lab, "venues", 4)
    made[0].path.unlink()
    manifest_path(made[1].path).unlink()
    flip(made[2].path)
    stray(folder, age=90 * DAY)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "x.parquet").write_bytes(b"x")
    aged(folder / "checkpoints" / "x.parquet", 90 * DAY)
    unpublish(folder, made[3].table_name)
    before = everything(folder)
    assert lab.fsck() and lab.fsck(deep=True)
    assert everything(folder) == before and (folder / "checkpoints" / "x.parquet").exists()


def test_a_repair_removes_what_a_killed_rebuild_left(lab, folder):
    names = [".catalog.sqlite3.0a1b2c3d.tmp", ".catalog.sqlite3.0a1b2c3d.tmp-journal"]
    for name in names:
        (folder / name).write_bytes(b"half a catalog")
        aged(folder / name, 7200)
    for name in (".catalog.sqlite3.99999999.tmp", ".catalog.sqlite3.mine.tmp", ".notes.tmp"):
        (folder / name).write_bytes(b"young, or not ours")
    (folder / ".catalog.sqlite3.11111111.tmp").mkdir()
    assert lab.fsck().orphans == [*names, ".catalog.sqlite3.99999999.tmp"]
    assert lab.fsck(repair=True).reclaimed == names
    assert len(list(folder.glob(".*.tmp*"))) == 4


def test_a_repair_removes_orphans_older_than_the_grace_time(lab, folder, table):
    old, young = stray(folder, "old.parquet", age=7200), stray(folder, "young.parquet", age=60)
    report = lab.fsck(repair=True)
    assert report.reclaimed == ["results/_global/old.parquet"] and report.bytes_reclaimed == len(
        b"not ours"
    )
    assert (
        report.orphans == ["results/_global/young.parquet"] and not old.exists() and young.exists()
    )
    assert (
        lab.fsck(repair=True, grace=datetime.timedelta(0)).reclaimed
        == ["results/_global/young.parquet"]
        and len(files(folder)) == 2
    )


def test_a_whole_table_that_the_catalog_has_lost_is_kept_and_told_of(lab, folder, reopen, table):
    with catalog(folder) as db:  # as after an older copy of it was put back
        for rows in ("result_tables", "versions", "manifests", "recipes"):
            db.execute(f"DELETE FROM {rows}")
    there = files(folder)
    report = lab.fsck(repair=True, grace=0)
    assert report.reclaimed == [] and files(folder) == there and len(report.orphans) == 2
    assert [each.partition(":")[0] for each in report.errors] == [
        record_of(table).path
    ] and "jl.rebuild" in report.errors[0]
    table.path.unlink()  # what is left vouches for nothing
    assert lab.fsck(repair=True, grace=0).reclaimed == [
        record_of(table).path.replace(".parquet", ".materialization.json")
    ]


def damage_page(lab, folder, name):
    """Damage the first page of a table or index of a catalog, which is closed for it."""
    with catalog(folder) as db:
        question = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        [page] = db.execute(question, [name]).fetchone()
    lab.close()
    with (folder / "catalog.sqlite3").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 100)


def test_a_deep_check_finds_damage_in_the_catalog_that_nothing_has_met(lab, folder, table):
    damage_page(lab, folder, "model_training")
    with jl.open(folder) as again:
        assert not again.fsck()
        assert ["damaged" in each for each in again.fsck(deep=True).errors] == [True]


def test_a_clock_that_was_set_back_removes_nothing(lab, folder):
    path = stray(folder, age=-DAY)
    assert lab.fsck(repair=True).reclaimed == [] and path.exists()


def test_a_clock_that_was_set_forward_takes_nothing_from_a_living_writer(lab, folder, fault_hook):
    def jumped(name):
        if name == "publish:manifest-durable":
            for path in (folder / "results" / "_global").iterdir():
                aged(path, 365 * DAY)
            seen.append(other.fsck(repair=True, grace=0))

    seen = []
    with jl.open(folder) as other:
        fault_hook(jumped)
        table = lab.materialize("venues", VENUES)
    assert seen and not seen[0].reclaimed and not seen[0].orphans
    assert table.verify() == jl.Match()


@pytest.mark.parametrize("repair", [False, True])
def test_files_that_got_their_name_or_went_while_they_were_compared_are_no_orphans(
    lab, folder, monkeypatch, repair
):
    made = versions(lab, "venues", 2)
    with jl.open(folder) as other:
        listed = recovery.list_files

        def meanwhile(root, below, *unread):
            found = list(listed(root, below, *unread))
            if below == "results":
                lab.table("venues", version=1).drop()
                for path in (folder / "results" / "_global").glob(".*.tmp"):
                    path.unlink()  # as who renames it
            return found

        stray(folder, f".{made[1].table_name}.materialization.json.0123abcd.tmp")
        monkeypatch.setattr(recovery, "list_files", meanwhile)
        report = other.fsck(repair=repair, grace=0)
    assert not report.orphans and not report.reclaimed and not report.bytes_reclaimed


def test_an_orphan_that_another_kernel_removes_first_is_not_reclaimed_twice(
    lab, folder, fault_hook
):
    path = stray(folder, age=7200)
    fault_hook(lambda name: path.unlink(missing_ok=True) if name == "check:reclaim" else None)
    report = lab.fsck(repair=True)
    assert not report.reclaimed and not report.orphans and not report.bytes_reclaimed


def test_an_index_that_a_living_kernel_is_writing_is_no_orphan(lab, folder, fault_hook):
    def look(name):
        if name == "index.before_write":
            seen.append(other.fsck())

    seen = []
    with jl.open(folder) as other:
        fault_hook(look)
        table = lab.import_embeddings(
            "vectors",
            pa.table({"id": [1, 2], "vec": [[1.0, 0.0], [0.0, 1.0]]}),
            key="id",
            vector="vec",
        )
    assert len(seen) > 1 and not any(each.orphans for each in seen)
    assert table.path.with_name(f"{table.table_name}.idx.usearch").exists() and not lab.fsck()


def test_the_quarantine_is_emptied_of_what_was_put_aside_30_days_ago(lab, folder, table):
    aged(table.path, 60 * DAY)  # old bytes, put aside today
    manifest_path(table.path).unlink()
    flip(table.path)
    aged(folder / record_of(table).path, 60 * DAY)
    assert len(lab.fsck(repair=True).quarantined) == 2
    assert len(lab.fsck(repair=True).quarantined) == 2
    aged(folder / "quarantine" / f"{table.table_name}.why.json", 31 * DAY)
    report = lab.fsck(repair=True)
    assert (
        report.quarantined == []
        and len(report.reclaimed) == 2
        and not list((folder / "quarantine").iterdir())
    )


def test_a_checkpoint_is_removed_after_7_days(lab, folder):
    (folder / "checkpoints").mkdir()
    for name, days in (("young.parquet", 6), ("old.parquet", 8)):
        (folder / "checkpoints" / name).write_bytes(b"rows")
        aged(folder / "checkpoints" / name, days * DAY)
    assert lab.fsck(repair=True).reclaimed == ["checkpoints/old.parquet"]
    assert (folder / "checkpoints" / "young.parquet").exists()


def test_a_folder_that_may_not_be_listed_is_told_and_the_others_are_compared(
    lab, folder, monkeypatch, table
):
    (folder / "results" / "acme").mkdir()
    found, scandir = stray(folder), os.scandir

    def refused(path):
        if str(path).endswith("acme"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    report = lab.fsck()
    assert report.errors == [
        "results/acme/: its files cannot be read or changed: Permission denied. Check the permissions of the workspace's folder."
    ]
    assert report.orphans == [found.relative_to(folder).as_posix()]


def test_one_table_that_cannot_be_compared_stops_nothing_else(lab, folder):
    first, second = versions(lab, "venues", 2)
    second.path.unlink()
    with catalog(folder) as db:
        db.execute(
            "UPDATE result_tables SET path='results/../../etc/passwd' WHERE table_name=?",
            [first.table_name],
        )
    report = lab.fsck()
    assert (
        report.missing == [second.table_name]
        and len(report.errors) == 1
        and first.table_name in report.errors[0]
    )


def test_a_read_only_workspace_is_checked_and_not_repaired(lab, folder, table):
    table.path.unlink()
    with jl.open(folder, read_only=True) as reader:
        assert reader.fsck().missing == [table.table_name]
        for refused in (
            lambda: reader.fsck(repair=True),
            lambda: reader.expire("venues"),
            reader.table("venues").pin,
        ):
            with pytest.raises(WorkspaceReadOnly):
                refused()


def test_a_grace_time_is_a_number_of_seconds(lab):
    for grace in (
        -1,
        "1",
        None,
        True,
        float("nan"),
    ):
        with pytest.raises(InvalidArgument):
            lab.fsck(grace=grace)


# -- backup ----------------------------------------------------------------------------------------


def test_a_backup_is_one_file_that_opens_as_the_catalog_it_was(lab, folder, tmp_path, table):
    place = lab.backup(tmp_path / "copies.sqlite3")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(("copies", ".copies"))] == [
        "copies.sqlite3"
    ]
    lab.drop("venues")
    lab.close()
    os.replace(place, folder / "catalog.sqlite3")
    with jl.open(folder) as again:
        assert (
            again.table("venues").table_name == table.table_name
            and again.sources["papers"].kind == "csv"
        )


def test_a_backup_while_others_write_is_of_one_moment(lab, tmp_path):
    stop = threading.Event()

    def write():
        at = 0
        while not stop.is_set():
            at += 1
            with services_of(lab).catalog.transaction():
                services_of(lab).catalog.metadata.set("one", str(at))
                services_of(lab).catalog.metadata.set("two", str(at))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            lab.backup(tmp_path / "copy.sqlite3")
            with sqlite3.connect(tmp_path / "copy.sqlite3") as db:
                question = "SELECT DISTINCT value FROM meta WHERE key IN ('one', 'two')"
                assert len(db.execute(question).fetchall()) <= 1
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            db.close()
    finally:
        stop.set()
        thread.join()


def test_a_backup_is_not_made_while_a_tenant_is_bound(lab, tmp_path):
    with (
        lab.tenant("acme"),
        pytest.raises(TenantForbidden, match="includes the rows of all tenants"),
    ):
        lab.backup(tmp_path / "copy.sqlite3")
    assert not (tmp_path / "copy.sqlite3").exists()


def test_a_backup_takes_the_place_of_an_earlier_one_and_of_nothing_else(lab, folder, tmp_path):
    lab.backup(tmp_path / "copy.sqlite3")
    lab.backup(tmp_path / "copy.sqlite3")
    (tmp_path / "data.csv").write_text("a,b\n")
    os.mkfifo(tmp_path / "pipe")
    own = "jammi.toml workspace.id results/_global/copy.sqlite3 catalog.sqlite3-wal writers/copy"
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    for said, targets in (
        ("not an earlier backup", [tmp_path / "data.csv", tmp_path / "pipe", tmp_path]),
        ("does not exist", [tmp_path / "no" / "where.sqlite3"]),
        ("is the catalog of|own files", [folder / "catalog.sqlite3"]),
        ("is in the workspace's own files", [folder / name for name in own.split()]),
    ):
        for target in targets:
            with pytest.raises(InvalidArgument, match=said):
                lab.backup(target)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE t (a)",
        "CREATE TABLE catalog_format (id, format, batch)",
        "CREATE TABLE catalog_format (format, created_at)",
    ],
)
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_backup_leaves_a_database_that_is_none_of_ours_alone(lab, tmp_path, made, mode):
    place = tmp_path / "precious.db"
    with contextlib.closing(sqlite3.connect(place)) as db:
        db.execute(f"PRAGMA journal_mode={mode}")
        db.execute(made)
    before = place.read_bytes()
    with pytest.raises(InvalidArgument, match="is not an earlier backup") as refused:
        lab.backup(place)
    assert (
        refused.value.hint
        and place.read_bytes() == before
        and [p.name for p in tmp_path.glob("*precious*")] == ["precious.db"]
    )


def test_a_backup_does_not_take_the_place_of_another_workspaces_catalog(lab, tmp_path):
    other = tmp_path / "other"
    with jl.open(other) as ws:
        ws.materialize("mine", "SELECT 42 AS a")
        (tmp_path / "link").symlink_to(other / "catalog.sqlite3")
        for target in (other / "catalog.sqlite3", tmp_path / "link"):
            with pytest.raises(InvalidArgument, match="is the catalog of a workspace"):
                lab.backup(target)
    with pytest.raises(InvalidArgument, match="is the catalog of a workspace"):
        lab.backup(other / "catalog.sqlite3")
    with jl.open(other) as ws:
        assert "mine" in ws


def test_a_backup_takes_the_place_of_a_catalog_that_was_copied(lab, folder, tmp_path, table):
    lab.close()
    place = tmp_path / "copied.sqlite3"
    shutil.copy(folder / "catalog.sqlite3", place)  # its header says that it has a log
    before = place.read_bytes()
    with jl.open(folder) as ws:
        assert ws.backup(place) == place and place.read_bytes() != before
    assert [p.name for p in tmp_path.glob("*copied*")] == ["copied.sqlite3"]


def test_a_backup_is_not_put_beside_the_log_of_another_file(lab, tmp_path):
    place = lab.backup(tmp_path / "copy.sqlite3")
    before = place.read_bytes()
    with contextlib.closing(sqlite3.connect(place)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE more (a)")
        with pytest.raises(InvalidArgument, match="An SQLite log exists next to"):
            lab.backup(place)
        assert db.execute("SELECT count(*) FROM more").fetchone() == (0,)
    assert lab.backup(place).read_bytes()[:16] == before[:16]


def test_what_is_no_place_for_a_backup_is_refused_in_a_sentence(lab):
    for path in (
        None,
        3,
        "",
        b"copy.sqlite3",
        "a\0b",
        "s3://bucket/copy.sqlite3",
        "c" * 300,
        "c" * 300 + "/copy",
    ):
        with pytest.raises(InvalidArgument) as refused:
            lab.backup(path)
        assert refused.value.hint


def test_a_backup_leaves_the_locks_of_the_catalog_alone(lab, folder, tmp_path, run_python):
    with services_of(lab).catalog.transaction():
        with pytest.raises(InvalidArgument):
            lab.backup(folder / "catalog.sqlite3")  # to look at a file lets go of no lock on it
        path = tmp_path / "other.sqlite3"
        thread = threading.Thread(target=lab.backup, args=[path])
        thread.start()
        thread.join(30)
        assert path.exists()
        done = run_python(
            "import sqlite3; db = sqlite3.connect('lab/catalog.sqlite3', timeout=0)\n"
            "try: db.execute('BEGIN IMMEDIATE'); print('free')\nexcept sqlite3.OperationalError: print('locked')"
        )
    assert done.stdout.strip() == "locked"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, ResourceExhausted),
        (errno.EACCES, InvalidArgument),
        (errno.EROFS, InvalidArgument),
    ],
)
def test_a_backup_that_fails_leaves_nothing_and_what_was_there(lab, tmp_path, fault, number, kind):
    place = lab.backup(tmp_path / "copy.sqlite3")
    before = place.read_bytes()
    lab.materialize("venues", VENUES)
    fault("file.before_rename", OSError(number, os.strerror(number)))
    with pytest.raises(kind, match=f"written: {os.strerror(number)}") as told:
        lab.backup(place)
    fault(None)
    assert ("write permission" in told.value.hint) == (kind is InvalidArgument)
    assert place.read_bytes() == before and not list(tmp_path.glob(".*.tmp"))


def test_a_read_only_workspace_can_be_backed_up(lab, folder, tmp_path, table):
    with jl.open(folder, read_only=True) as reader:
        assert reader.backup(tmp_path / "copy.sqlite3").stat().st_size > 0


def test_a_damaged_catalog_is_not_copied(lab, folder, tmp_path):
    damage_page(lab, folder, "lineage_down")
    with jl.open(folder, read_only=True) as reader, pytest.raises(jl.TableDamaged, match="rebuild"):
        reader.backup(tmp_path / "copy.sqlite3")
    assert not list(tmp_path.glob("*copy*"))


def test_a_large_result_of_a_table_that_is_gone_says_so_when_it_is_read_again(lab, monkeypatch):
    monkeypatch.setattr("jammi_lab.workspace.result.MAX_CACHED_BYTES", 0)
    result = lab.materialize("many", MANY).read()
    assert sum(b.num_rows for b in result.batches()) == 2_000_000
    lab.drop("many")
    with pytest.raises(jl.JammiError) as caught:
        result.arrow()
    assert isinstance(caught.value, jl.SourceUnavailable | jl.TableDamaged | jl.TableNotFound), (
        caught.value
    )


def test_a_deep_check_tells_of_each_table_that_it_has_read(lab, table):
    lab.materialize("few", "SELECT 1 AS x")
    told = []
    lab.fsck(deep=True, progress=told.append)
    assert [(p.stage, p.done, p.total, p.unit) for p in told] == [
        ("fsck", 1, 2, "tables"),
        ("fsck", 2, 2, "tables"),
    ]


def test_an_expired_version_goes_at_once_without_a_garbage_collection(ws):
    ws.materialize("a", "SELECT 1 AS x")
    gc.disable()
    try:
        ws.materialize("b", "SELECT x FROM jammi.a")
        ws.materialize("a", "SELECT 2 AS x")
        ws.recompute()
        before = ws.table("a", 1).path
        ws.expire("a", keep=1)
    finally:
        gc.enable()
    assert not before.exists()
