"""A catalog whose write-ahead log was damaged or lost after a kill."""

import contextlib
import errno
import functools
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

import jammi_lab
from jammi_lab.catalog import commit_count
from tests import processes
from tests.inside import services_of
from tests.store.lab import flip

WORK = """
import os, signal, jammi_lab
ws = jammi_lab.open("lab")
if {table}:
    ws.materialize("t", "SELECT 1 AS a")
ws.mutable.create("m", {{"k": "int64", "v": "string"}}, primary_key=["k"])
for k in range(5):
    ws.sql(f"INSERT INTO mutable.m VALUES ({{k}}, 'x')")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What killed kernels left, with a result table and without one."""

    @functools.cache
    def run(table):
        cwd = tmp_path_factory.mktemp("killed")
        done = processes.run(
            [sys.executable, "-c", WORK.format(table=table)],
            cwd=cwd, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        return cwd / "lab"

    return run


@pytest.fixture
def killed(tmp_path, folders):
    """A copy of that without the log's index, which lies in memory: copies of folders may lack
    it."""

    def copy(*, table=True):
        lab = tmp_path / "lab"
        shutil.copytree(folders(table), lab, ignore=shutil.ignore_patterns("*-shm"))
        return lab, lab / "catalog.sqlite3-wal"

    return copy


def test_an_intact_log_is_no_finding(killed):
    lab, log = killed()
    assert log.stat().st_size > 0
    with jammi_lab.open(lab) as ws:
        assert not ws.recovery.damaged_log and not ws.recovery.unknown
        assert ws.sql("SELECT count(*) FROM mutable.m").fetchall() == [(5,)]


def damages(log):
    """What may happen to a log; wherever it ends, what is left looks like a whole one."""
    size = log.stat().st_size
    frame = 24 + int.from_bytes(log.read_bytes()[8:12])
    middle = 32 + (size - 32) // frame // 2 * frame
    ninety_seven = 32 + int(0.97 * ((size - 32) // frame)) * frame
    return [
        *(lambda at=at: flip(log, at) for at in (17, middle + 9, middle + 100, size - 9)),
        *(
            lambda end=end: os.truncate(log, end)
            for end in (size - frame, ninety_seven, 32 + frame, 32, 0)
        ),
    ]


@pytest.mark.parametrize("number", range(9))
def test_a_log_that_was_damaged_or_cut_is_reported_once(killed, number):
    lab, log = killed()
    damages(log)[number]()
    with jammi_lab.open(lab) as ws:
        [message] = ws.recovery.damaged_log
        assert "log" in message and "lost" in message and message in ws.recovery._repr_html_()
        assert "1 damaged_log" in str(ws.recovery)
    with jammi_lab.open(lab) as ws:
        assert not ws.recovery.damaged_log


def test_a_missing_log_is_reported_with_the_tables_that_the_catalog_lost(killed):
    lab, log = killed()
    os.unlink(log)
    with jammi_lab.open(lab) as ws:
        [name] = ws.recovery.unknown
        assert name.startswith("t__sql") and ws.recovery.damaged_log
        assert "jl.rebuild" in ws.recovery._repr_html_()


def test_a_missing_log_is_reported_when_no_table_is_unknown(killed):
    lab, log = killed(table=False)
    os.unlink(log)
    with jammi_lab.open(lab) as ws:
        assert ws.recovery.damaged_log and not ws.recovery.unknown


def test_a_torn_last_write_is_no_loss(killed):
    lab, log = killed()
    with open(log, "ab") as file:
        file.write(log.read_bytes()[32:50])
    with jammi_lab.open(lab) as ws:
        assert not ws.recovery.damaged_log


def test_an_event_that_a_cut_log_lost_is_reported(tmp_path):
    work = """
import os, signal, jammi_lab, pyarrow as pa
ws = jammi_lab.open("lab")
ws.topics.register("seen", pa.schema([("k", pa.int64())]))
for k in range(3):
    size = os.path.getsize("lab/catalog.sqlite3-wal")
    ws.topics.publish("seen", [{"k": k}])
print(size, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", work]
    done = processes.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (tmp_path / "lab" / "catalog.sqlite3-shm").unlink()
    os.truncate(tmp_path / "lab" / "catalog.sqlite3-wal", int(done.stdout))
    with jammi_lab.open(tmp_path / "lab") as ws:
        assert [event.offset for event in ws.topics.replay("seen")] == [0, 1]
        assert ws.recovery.damaged_log


def test_a_log_that_is_lost_after_its_writer_s_row_reached_the_catalog_is_reported(killed):
    lab, log = killed()
    with jammi_lab.open(lab) as ws:
        services_of(ws).catalog.database.purge()
        assert log.stat().st_size == 0
        ws.sql("INSERT INTO mutable.m VALUES (9, 'late')")
        copy = shutil.copytree(lab, lab.with_name("copy"), ignore=shutil.ignore_patterns("*-[ws]*"))
    with jammi_lab.open(copy) as ws:
        assert ws.recovery.damaged_log


def test_an_older_catalog_that_is_put_back_after_a_clean_close_is_no_loss(tmp_path):
    """Its log is in it, so nothing was lost with a log."""
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 1 AS a")
    shutil.copy(tmp_path / "lab" / "catalog.sqlite3", tmp_path / "older")
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.materialize("u", "SELECT 2 AS a")
    shutil.copy(tmp_path / "older", tmp_path / "lab" / "catalog.sqlite3")
    with jammi_lab.open(tmp_path / "lab") as ws:
        assert ws.recovery.unknown and not ws.recovery.damaged_log


def test_a_backup_that_is_put_back_after_a_kill_is_no_loss(tmp_path, killed):
    lab, log = killed()
    intact = shutil.copytree(lab, tmp_path / "intact")
    with jammi_lab.open(intact) as ws:
        ws.backup(tmp_path / "backup.sqlite3")
    for part in (log, lab / "catalog.sqlite3-commits"):  # as the page about backups says
        part.unlink()
    shutil.copy(tmp_path / "backup.sqlite3", lab / "catalog.sqlite3")
    with jammi_lab.open(lab) as ws:
        assert not ws.recovery.damaged_log


def test_a_log_that_is_lost_after_a_backup_was_put_back_is_reported(tmp_path):
    """A backup goes on counting where it was made."""
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 1 AS a")
        ws.backup(tmp_path / "backup.sqlite3")
    shutil.copy(tmp_path / "backup.sqlite3", tmp_path / "lab" / "catalog.sqlite3")
    with jammi_lab.open(tmp_path / "lab") as ws:
        assert not ws.recovery.damaged_log
        ws.mutable.create("m", {"k": "int64"}, primary_key=["k"]).insert([{"k": 1}])
        killed = shutil.copytree(tmp_path / "lab", tmp_path / "killed")
    for part in ("-wal", "-shm"):
        (killed / f"catalog.sqlite3{part}").unlink()
    with jammi_lab.open(killed) as ws:
        assert ws.recovery.damaged_log and "m" not in ws.mutable


def test_commits_that_nobody_was_told_of_are_not_counted(tmp_path):
    """What is written without a sync a power cut may take, and reading writes nothing."""
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 1 AS a")
        catalog, count = services_of(ws).catalog, tmp_path / "lab" / "catalog.sqlite3-commits"
        before = int(count.read_text())
        ws.sql("SELECT a FROM jammi.t").fetchall()
        with catalog.transaction():
            pass
        with catalog.database.write_without_fsync():
            catalog.metadata.set("x", "y")
        assert int(count.read_text()) == before > 0
        catalog.metadata.set("x", "z")
        assert int(count.read_text()) == before + 1
    assert int(count.read_text()) == 0


@pytest.mark.every_case
@pytest.mark.parametrize("count", [None, "", "0", "not a number"])
def test_without_the_last_count_a_log_that_was_cut_is_not_noticed(killed, count):
    """The limit: after a power cut the count may be older than the catalog."""
    lab, log = killed(table=False)
    os.truncate(log, log.stat().st_size - 24 - int.from_bytes(log.read_bytes()[8:12]))
    file = lab / "catalog.sqlite3-commits"
    file.unlink() if count is None else file.write_text(count)
    with jammi_lab.open(lab) as ws:
        assert not ws.recovery.damaged_log


def test_without_room_for_the_count_commits_succeed(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    with jammi_lab.open(tmp_path / "lab") as ws:
        monkeypatch.setattr(commit_count.os, "pwrite", full)
        ws.materialize("t", "SELECT 1 AS a")
    with jammi_lab.open(tmp_path / "lab") as ws:
        assert not ws.recovery.damaged_log and ws.table("t").row_count == 1


def test_a_commit_that_another_kernel_has_not_finished_is_no_finding(tmp_path):
    """Its frames are in the log before the log's index has them, for as long as a sync lasts, or
    for ever when the kernel is killed meanwhile."""
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 1 AS a")
        log = tmp_path / "lab" / "catalog.sqlite3-wal"
        for name in ("catalog.sqlite3", "catalog.sqlite3-wal"):
            shutil.copy(tmp_path / "lab" / name, tmp_path / name.replace("catalog", "copy"))
        unfinished = next_commit(tmp_path / "copy.sqlite3", log.stat().st_size)
        with open(log, "ab") as file:
            file.write(unfinished)
        with jammi_lab.open(tmp_path / "lab") as other:
            assert not other.recovery.damaged_log
            assert other.sql("SELECT a FROM jammi.t").fetchall() == [(1,)]


def next_commit(catalog, size):
    """The frames that a commit appends to a catalog's log of that size."""
    with contextlib.closing(sqlite3.connect(catalog)) as connection:
        connection.execute("CREATE TABLE unfinished (a)")
        connection.commit()
        frames = Path(f"{catalog}-wal").read_bytes()[size:]
    assert frames
    return frames
