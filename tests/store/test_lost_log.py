"""A catalog whose write-ahead log was damaged or lost after a kill."""

import contextlib
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

import jammi_lab
from tests import processes

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


def killed(tmp_path, *, table=True):
    done = processes.run(
        [sys.executable, "-c", WORK.format(table=table)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    return tmp_path / "lab", tmp_path / "lab" / "catalog.sqlite3-wal"


def flip(log, offset):
    data = bytearray(log.read_bytes())
    data[offset] ^= 1
    log.write_bytes(data)


def test_an_intact_log_is_no_finding(tmp_path):
    lab, log = killed(tmp_path)
    assert log.stat().st_size > 0
    with jammi_lab.open(lab) as ws:
        assert not ws.recovery.damaged_log and not ws.recovery.unknown
        assert ws.sql("SELECT count(*) FROM mutable.m").fetchall() == [(5,)]


@pytest.mark.sampled
@pytest.mark.parametrize("where", ["header", "frame header", "middle", "last frame"])
def test_a_flipped_bit_in_the_log_is_reported(tmp_path, where):
    lab, log = killed(tmp_path)
    size = log.stat().st_size
    frame = 24 + int.from_bytes(log.read_bytes()[8:12])
    middle = 32 + (size - 32) // frame // 2 * frame
    flip(
        log, {"header": 17, "frame header": middle + 9, "middle": middle + 100}.get(where, size - 9)
    )
    with jammi_lab.open(lab) as ws:
        [message] = ws.recovery.damaged_log
        assert "log" in message and "lost" in message and message in ws.recovery._repr_html_()
        assert "1 damaged_log" in str(ws.recovery)
    with jammi_lab.open(lab) as ws:
        assert not ws.recovery.damaged_log


def test_a_missing_log_is_reported_with_the_tables_that_the_catalog_lost(tmp_path):
    lab, log = killed(tmp_path)
    os.unlink(log)
    with jammi_lab.open(lab) as ws:
        [name] = ws.recovery.unknown
        assert name.startswith("t__sql") and ws.recovery.damaged_log
        assert "jl.rebuild" in ws.recovery._repr_html_()


def test_a_missing_log_is_reported_when_no_table_is_unknown(tmp_path):
    lab, log = killed(tmp_path, table=False)
    os.unlink(log)
    with jammi_lab.open(lab) as ws:
        assert ws.recovery.damaged_log and not ws.recovery.unknown


def test_a_torn_last_write_is_no_loss(tmp_path):
    lab, log = killed(tmp_path)
    with open(log, "ab") as file:
        file.write(log.read_bytes()[32:50])
    with jammi_lab.open(lab) as ws:
        assert not ws.recovery.damaged_log


@pytest.mark.sampled
@pytest.mark.parametrize("left", ["all but a frame", "97 %", "a frame", "header", "nothing"])
def test_a_log_that_was_cut_is_reported(tmp_path, left):
    """Wherever it ends, what is left looks like a whole log."""
    lab, log = killed(tmp_path)
    size = log.stat().st_size
    frame = 24 + int.from_bytes(log.read_bytes()[8:12])
    os.truncate(
        log,
        {
            "all but a frame": size - frame,
            "97 %": 32 + int(0.97 * ((size - 32) // frame)) * frame,
            "a frame": 32 + frame,
            "header": 32,
            "nothing": 0,
        }[left],
    )
    with jammi_lab.open(lab) as ws:
        assert ws.recovery.damaged_log
    with jammi_lab.open(lab) as ws:
        assert not ws.recovery.damaged_log


def test_the_index_of_a_log_from_before_a_power_cut_says_nothing(tmp_path):
    """It is written to the disk whenever the system likes, so it may be older than the database."""
    lab, log = killed(tmp_path)
    index = log.with_name("catalog.sqlite3-shm")
    before = index.read_bytes()
    jammi_lab.open(lab).close()
    index.write_bytes(before)
    os.utime(index, (1, 1))
    with jammi_lab.open(lab) as ws:
        assert not ws.recovery.damaged_log


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_another_handle_takes_no_lock_of_the_log_s_index_away(tmp_path):
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 1 AS a")
        held = index_locks(tmp_path / "lab")
        assert held
        jammi_lab.open(tmp_path / "lab").close()
        assert index_locks(tmp_path / "lab") == held


def index_locks(lab):
    """The locks of this process on the index of a catalog's log."""
    index = f":{(lab / 'catalog.sqlite3-shm').stat().st_ino} "
    locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return [line.split(":", 1)[1] for line in locks if f" {os.getpid()} " in line and index in line]


def test_another_handle_on_a_live_log_finds_nothing(tmp_path):
    with jammi_lab.open(tmp_path / "lab") as ws:
        ws.materialize("t", "SELECT 1 AS a")
        with jammi_lab.open(tmp_path / "lab") as other:
            assert not other.recovery


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
