"""From `building` to `ready` or to `failed`: what is left at each way out."""

import contextlib
import errno
import signal
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.catalog import database
from jammi_lab.catalog import sqlite as dialects
from jammi_lab.core.errors import (
    JammiError,
    LostOwnership,
    ResourceExhausted,
    SqlError,
    WorkspaceReadOnly,
)
from jammi_lab.core.verdicts import Match
from jammi_lab.steps.single_flight import SingleFlight
from jammi_lab.storage import files as storage
from tests.backends import ELSEWHERE
from tests.inside import services_of
from tests.store.conftest import VENUES
from tests.store.lab import catalog, files, files_of, row, statuses

LOCAL_POINTS = [
    "file.before_fsync",
    "file.before_rename",
    "file.before_folder_fsync",
    "file.after_folder_fsync",
]
POINTS = [
    "publish:building",
    "parquet.before_row_group",
    "parquet.before_footer",
    "parquet.after_footer",
    *(["file.after_put"] if "files" in ELSEWHERE else LOCAL_POINTS),
    "publish:sealed",
    "file.before_write",
    "publish:manifest-durable",
]


def no_space(point):
    """What the layer at that point raises when the disk is full."""
    return (
        ResourceExhausted("There is no space left for the catalog.")
        if point.startswith("catalog:")
        else OSError(errno.ENOSPC, "No space left on device")
    )


def check_failed(folder):
    """The one table of a workspace failed and left no file."""
    assert list(statuses(folder).values()) == ["failed"] and files(folder) == []


def test_there_is_a_building_row_and_no_finished_file_while_it_runs(lab, folder):
    seen = []

    def look(progress):
        if progress.unit == "rows":
            [status] = statuses(folder).values()
            seen.append((status, [f for f in files(folder) if f.endswith((".parquet", ".json"))]))

    lab.materialize("venues", VENUES, progress=look)
    assert seen and set(map(repr, seen)) == {repr(("building", []))}
    assert set(statuses(folder).values()) == {"ready"}


@pytest.mark.every_case
@pytest.mark.parametrize("point", POINTS[1:])  # at the first no file is touched yet
def test_a_full_disk_at_any_point_is_a_typed_error_that_names_the_table_and_leaves_nothing(
    lab, folder, fault, point
):
    kept = lab.materialize("kept", "SELECT id FROM papers")
    passed = fault(point, no_space(point))
    with pytest.raises(ResourceExhausted) as caught:
        lab.materialize("venues", VENUES)
    assert point in passed
    [failed] = [name for name, status in statuses(folder).items() if status != "ready"]
    assert statuses(folder)[failed] == "failed" and files(folder) == files_of(kept)
    assert "'venues'" in caught.value.message
    assert lab.materialize("venues", VENUES).outcome == "computed"


@pytest.mark.every_case
@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize(
    ("point", "error"),
    [
        ("catalog:before-commit", no_space("catalog:")),
        ("catalog:after-commit", KeyboardInterrupt()),
    ],
    ids=["a full disk", "an interrupt"],
)
def test_what_fails_at_any_commit_is_typed_and_leaves_nothing_half_made(
    lab, folder, fault, point, error, nth
):
    fault(point, error, nth)
    with contextlib.suppress(ResourceExhausted, KeyboardInterrupt):
        lab.materialize("venues", VENUES)
    fault(None)
    made = {name for name, status in statuses(folder).items() if status == "ready"}
    assert set(statuses(folder).values()) <= {"ready", "failed"}
    assert {f.split("/")[1].split(".")[0] for f in files(folder)} == made
    assert lab.materialize("venues", VENUES).verify() == Match()


@pytest.mark.every_case
@pytest.mark.parametrize("point", POINTS)
def test_an_interrupt_at_any_point_leaves_failed_and_no_files(lab, folder, fault, point):
    fault(point, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        lab.materialize("venues", VENUES)
    check_failed(folder)
    assert "nothing was left behind" in " ".join(caught.value.__notes__)


@pytest.mark.parametrize("what", ["cannot be opened", "does not reach the disk"])
def test_a_log_that_fails_while_rows_are_made_is_told_before_any_file_has_its_name(
    lab, folder, monkeypatch, what
):
    def fail(*_):
        assert files(folder) == []
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(
            *(
                (dialects.Sqlite, "open_unsynced_log")
                if what == "cannot be opened"
                else (database, "sync_data")
            ),
            fail,
        )
        with pytest.raises(ResourceExhausted, match="'venues'"):
            lab.materialize("venues", VENUES)
    check_failed(folder)
    assert lab.materialize("venues", VENUES).row_count == 2


def test_names_that_do_not_reach_the_disk_are_told_before_anything_is_published(
    lab, folder, monkeypatch
):
    sync, failed = storage.sync_folder, []

    def fail_once(path):
        if path.name == "_global" and not failed:
            failed.append(path)
            raise OSError(errno.EIO, "Input/output error")
        sync(path)

    with monkeypatch.context() as broken:
        broken.setattr(storage, "sync_folder", fail_once)
        with pytest.raises(ResourceExhausted, match="'venues'"):
            lab.materialize("venues", VENUES)
    check_failed(folder)
    assert lab.materialize("venues", VENUES).row_count == 2


def test_a_folder_that_may_not_be_written_is_read_only(lab, fault):
    fault("file.before_write", PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(WorkspaceReadOnly):
        lab.materialize("venues", VENUES)


def test_a_conversion_error_midway_leaves_failed_and_no_files(lab, folder, tmp_path):
    with open(tmp_path / "big.csv", "w") as file:
        file.write("x\n" + "1\n" * 400_000 + "oops\n")
    lab.sources.add("big", tmp_path / "big.csv")
    with pytest.raises(SqlError):
        lab.materialize("numbers", "SELECT CAST(x AS INTEGER) AS x FROM big")
    [name] = statuses(folder)
    assert statuses(folder)[name] == "failed" and files(folder) == []
    assert row(folder, name)["error"].startswith("Could not convert")
    [failed] = lab.tables(status="failed")
    assert failed.table_name == name and lab.tables() == []
    assert repr(failed).startswith("numbers, version 1: failed\n") and "Could not convert" in repr(
        failed
    )


ENDLESS = {
    "materialize": "SELECT sum(sqrt(i)) AS s FROM range(100000000000) t(i)",
    "stream": "SELECT i FROM range(100000000000) t(i)",
}


CHILD = """
import sys, time, jammi_lab as jl
with jl.open(sys.argv[1]) as ws:
    said = []
    def progress(p):
        if p.unit == "rows" and (p.done or sys.argv[2] == "computes") and not said:
            said.append(print("GO", flush=True))
        if p.done:
            time.sleep(0.05)
    try:
        ws.materialize("slow", sys.argv[3], progress=progress)
    except KeyboardInterrupt:
        print("INTERRUPTED", ws.sql("SELECT 41 + 1 AS x").fetchall(), flush=True)
"""


@pytest.mark.parametrize(
    ("when", "statement"),
    [
        ("writes", "SELECT i FROM range(40000000) t(i)"),  # its rows are sorted in memory
        ("computes", ENDLESS["materialize"]),
    ],
)
def test_a_process_that_gets_sigint_midway_leaves_failed_and_no_files_and_goes_on(
    folder, start_python, when, statement
):
    child = start_python(CHILD, folder, when, statement)
    assert child.stdout.readline() == "GO\n"
    time.sleep(0.3)  # by then the statement runs; what is asserted holds whether it does or not
    child.send_signal(signal.SIGINT)
    rest, _ = child.communicate(timeout=60)
    assert rest == "INTERRUPTED [(42,)]\n"
    check_failed(folder)


def test_a_writer_that_lost_its_row_is_told_so_and_publishes_nothing(lab, folder):
    def steal(progress):
        with catalog(folder) as db:
            db.execute(
                "UPDATE result_tables SET status='failed', error='settled elsewhere' WHERE status='building'"
            )

    with pytest.raises(LostOwnership):
        lab.materialize("venues", VENUES, progress=steal)
    check_failed(folder)
    [name] = statuses(folder)
    assert row(folder, name)["error"] == "settled elsewhere"


def test_a_writer_whose_row_and_files_were_settled_under_it_is_told_so(lab, folder, fault_hook):
    def settle(point):
        if point == "publish:sealed":
            with catalog(folder) as db:
                db.execute("UPDATE result_tables SET status='failed' WHERE status='building'")
            for each in (folder / "results").rglob("*.parquet"):
                each.unlink()

    fault_hook(settle)
    with pytest.raises(JammiError):
        lab.materialize("venues", VENUES)
    check_failed(folder)


def test_a_row_that_another_writer_promoted_keeps_its_files(lab, folder, fault_hook):
    def promote(point):
        if point == "publish:manifest-durable":
            with catalog(folder) as db:
                db.execute("UPDATE result_tables SET status='ready' WHERE status='building'")

    fault_hook(promote)
    with pytest.raises(LostOwnership):
        lab.materialize("venues", VENUES)
    assert list(statuses(folder).values()) == ["ready"] and len(files(folder)) == 2


@pytest.mark.parametrize("then", ["build", "open"])
def test_a_table_that_could_not_even_be_failed_is_settled_by_the_next(
    lab, folder, reopen, fault_hook, then
):
    seen = []

    def hook(point):
        seen.append(point)
        if "publish:building" in seen and point in ("publish:building", "catalog:before-commit"):
            raise ResourceExhausted("There is no space left.")

    fault_hook(hook)
    with pytest.raises(ResourceExhausted):
        lab.materialize("lost", "SELECT id FROM papers")
    if then == "open":
        lab.close()
    fault_hook(None)
    assert list(statuses(folder).values()) == ["building"]
    if then == "open":
        lab = reopen()
        assert lab.recovery.failed == list(statuses(folder))
        assert len(list(folder.glob("writers/*"))) <= 1  # those on a server have no files
    assert lab.materialize("lost", "SELECT id FROM papers").outcome == "computed"
    assert sorted(statuses(folder).values()) == ["failed", "ready"] and len(files(folder)) == 2


class Slow:
    """An encoder that takes its time, and says when it began."""

    name, version, dimensions = "slow", "1", 2

    def __init__(self, started):
        self.run_with_retry = started

    def encode(self, texts):
        self.run_with_retry.set()
        time.sleep(0.2)
        return np.ones((len(texts), 2), np.float32)


@pytest.mark.parametrize("what", ["embed", "compute", *ENDLESS])
def test_closing_while_another_thread_makes_a_table_waits_until_it_has_failed(
    tmp_path, folder, what
):
    ws = jl.open(folder)
    ws.sources.add(
        "notes", pa.table({"id": range(20000), "text": [f"text {i}" for i in range(20000)]})
    )
    started, ended = threading.Event(), []

    def step(notes):
        started.set()
        time.sleep(0.3)
        return notes.arrow()

    def build():
        try:
            if what == "embed":
                ws.embed("slow", "notes", key="id", text="text", model=Slow(started))
            elif what == "compute":
                ws.compute("slow", step, inputs=["notes"], version="1")
            else:
                ws.materialize("slow", ENDLESS[what], progress=lambda p: started.set())
        except jl.SessionClosed as error:
            ended.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    assert started.wait(60)
    ws.close()
    check_failed(folder)
    thread.join(10)
    assert not thread.is_alive() and "closed" in ended[0].message
    [name] = statuses(folder)
    assert "closed" in row(folder, name)["error"]
    with jl.open(folder) as again:
        assert not again.recovery


def test_closing_from_inside_of_what_is_made_does_not_wait_for_itself(tmp_path, folder):
    ws = jl.open(folder)
    began = time.monotonic()
    with pytest.raises(jl.SessionClosed):
        ws.compute("own", lambda: ws.close() or [{"a": 1}], inputs=[], version="1")
    assert time.monotonic() - began < 5


def test_a_failed_build_that_a_full_disk_does_not_record_is_not_waited_for(ws, monkeypatch):
    def refuse(*_):
        raise ResourceExhausted("No space is left.")

    monkeypatch.setattr(services_of(ws).catalog.table_status, "mark_failed", refuse)
    monkeypatch.setattr(SingleFlight, "wait", lambda *_: pytest.fail("waits for itself"))
    for _ in range(2):
        with pytest.raises(SqlError, match="Could not convert"):
            ws.materialize("t", "SELECT chr(65 + range::INT)::INT AS n FROM range(2)")
    monkeypatch.undo()
    assert ws.materialize("t", "SELECT 1 AS n").outcome == "computed"


def test_no_file_of_a_table_has_its_name_before_the_row_is_durable(
    ws, folder, tmp_path, monkeypatch
):
    """Nor the partial sums: a power failure would leave them without a row."""
    syncs, named = [], []
    start, wait = database.Database.start_sync, storage.BackgroundFsync.wait

    def watched(sync):
        if sync in syncs:
            named.append([path for path in files(folder) if not path.startswith("_global/.")])
        wait(sync)

    monkeypatch.setattr(
        database.Database, "start_sync", lambda self: syncs.append(start(self)) or syncs[-1]
    )
    monkeypatch.setattr(storage.BackgroundFsync, "wait", watched)
    pq.write_table(pa.table({"g": [1, 2], "x": [0.5, 1.5]}), tmp_path / "days.parquet")
    ws.sources.add("days", tmp_path / "days.parquet")
    made = ws.materialize("sums", "SELECT g, sum(x) AS s FROM days GROUP BY g")
    assert made.manifest.partial_sums and named[0] == []
