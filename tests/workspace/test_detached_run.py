"""Detached runs: a recompute in a process of its own that outlives the kernel, is shown by the
status of every other, and can be stopped."""

import errno
import os
import signal
import subprocess
import sys

import msgspec
import pytest

import jammi_lab as jl
from jammi_lab.core.interrupts import attempts
from jammi_lab.workspace import detached_run
from jammi_widgets.board_rows import build_rows
from tests.inside import services_of

SLOW = "SELECT sum(hash(i, n)::DOUBLE) AS s, any_value(n) AS n FROM rows, range(3_000_000_000) t(i)"
SETTINGS = {"engine.timezone": "Asia/Tokyo"}
STARTER = """
import os, signal, sys
import jammi_lab as jl
from jammi_lab.workspace import detached_run
ws = jl.open("lab")
print(detached_run.start(ws._services, None), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def write_rows(folder, *numbers):
    (folder / "rows.csv").write_text("n\n" + "".join(f"{n}\n" for n in numbers))


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path, 1)
    with jl.open("lab", settings=SETTINGS) as ws:
        ws.sources.add("rows", "rows.csv")
        ws.materialize("total", "SELECT sum(n) AS n FROM rows")
        yield ws
        detached_run.stop(services_of(ws))


def wait_until(is_so):
    assert any(is_so() for _ in attempts(60))


def wait_until_it_ends(ws):
    wait_until(lambda: detached_run.find(services_of(ws)) is None)


def wait_until_it_builds(ws):
    wait_until(lambda: "slow" in services_of(ws).freshness.builds())


def test_a_run_has_the_settings_of_its_kernel_and_leaves_a_report(lab, tmp_path):
    write_rows(tmp_path, 1, 2)
    lab.materialize("other", "SELECT 1 AS one")
    pid = detached_run.start(services_of(lab), ["total"])
    assert pid != os.getpid()
    wait_until_it_ends(lab)
    assert lab.table("total").arrow()["n"].to_pylist() == [3]
    assert isinstance(lab.staleness("total"), jl.Fresh)
    assert "computed" in (tmp_path / "lab" / detached_run.LOG).read_text()


def test_a_run_outlives_the_kernel_that_started_it(lab, tmp_path):
    write_rows(tmp_path, 1, 2)
    lab.close()
    ended = subprocess.run([sys.executable, "-c", STARTER], capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with jl.open("lab") as ws:
        wait_until_it_ends(ws)
        assert ws.table("total").arrow()["n"].to_pylist() == [3]


def test_every_kernel_sees_a_run_and_ends_it(lab, tmp_path):
    lab.define("slow", SLOW)
    pid = detached_run.start(services_of(lab), None)
    with jl.open("lab", settings=SETTINGS) as other:
        wait_until_it_builds(other)
        assert f"process {pid}" in str(other.status())
        [board_row] = [r for r in build_rows(other, other.status()).rows if r.row.name == "slow"]
        assert board_row.reasons[0] == f"computed by process {pid} now"
        with pytest.raises(jl.errors.InvalidArgument, match=f"in process {pid} on"):
            detached_run.start(services_of(other), None)
        assert detached_run.stop(services_of(other)).pid == pid
        wait_until_it_ends(other)
        assert "process" not in str(other.status())
        assert detached_run.stop(services_of(other)) is None
    assert "Stopped; finished: no table." in (tmp_path / "lab" / detached_run.LOG).read_text()
    assert [table.name for table in lab.tables()] == ["total"]


@pytest.mark.parametrize("make", [os.symlink, os.link, lambda _, log: os.mkfifo(log)])
def test_the_report_is_written_to_a_new_file_whatever_is_in_its_place(lab, tmp_path, make):
    victim, log = tmp_path / "victim", tmp_path / "lab" / detached_run.LOG
    victim.write_text("precious")
    make(victim, log)
    write_rows(tmp_path, 1, 2)
    detached_run.start(services_of(lab), ["total"])
    wait_until_it_ends(lab)
    assert victim.read_text() == "precious"
    assert not log.is_symlink() and "\nRun: " in log.read_text()


def test_where_the_report_cannot_be_written_nothing_begins(lab, tmp_path):
    (tmp_path / "lab" / detached_run.LOG).mkdir()
    with pytest.raises(jl.errors.StepFailed, match=f"ended at once: .*'{detached_run.LOG}'"):
        detached_run.start(services_of(lab), None)
    assert detached_run.find(services_of(lab)) is None


def test_a_second_run_leaves_the_report_of_the_first(lab, tmp_path, monkeypatch):
    lock = services_of(lab).catalog.writers.try_acquire_named("recompute")
    log = tmp_path / "lab" / detached_run.LOG
    log.write_text("the first one's")
    with pytest.raises(jl.errors.StepFailed, match="at once: Another detached run is under way"):
        detached_run.start(services_of(lab), None)
    assert log.read_text() == "the first one's"
    lock.release(remove=True)


@pytest.mark.parametrize("pid", [-1, 0, 1, 1 << 40, None])
def test_no_signal_goes_to_what_a_forged_note_names_instead_of_a_run(lab, monkeypatch, pid):
    lock = services_of(lab).catalog.writers.try_acquire_named("recompute")
    run = detached_run.DetachedRun(os.getpid() if pid is None else pid, "here")
    lock.write_note(msgspec.json.encode(run).decode())
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal"))
    with pytest.raises(jl.errors.InvalidArgument, match="on here and can be stopped only there"):
        detached_run.stop(services_of(lab))
    lock.release(remove=True)


def test_a_run_that_does_not_end_is_not_said_to_be_stopped(lab, monkeypatch):
    monkeypatch.setattr(detached_run, "STOP_SECONDS", 0.2)
    lab.define("slow", SLOW)
    pid = detached_run.start(services_of(lab), None)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(jl.errors.StepFailed, match=f"process {pid}, was told to end and has not"):
        detached_run.stop(services_of(lab))
    os.kill(pid, signal.SIGCONT)
    wait_until_it_ends(lab)


def test_a_run_whose_kernel_ended_before_it_said_what_to_do_ends(tmp_path):
    command = [sys.executable, "-m", detached_run.__name__]
    ended = subprocess.run(command, input=b"", capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"Stopped before it began.\n", b"")


SLOW_ABOVE = SLOW.replace("FROM rows,", "FROM jammi.total AS rows,")


def start_slow(lab, tmp_path):
    """The process of a run that has made `total` and is within `slow`."""
    write_rows(tmp_path, 1, 2)
    lab.define("slow", SLOW_ABOVE)
    pid = detached_run.start(services_of(lab), ["slow"])
    wait_until_it_builds(lab)
    return pid


def test_a_run_that_is_stopped_lists_what_it_finished(lab, tmp_path):
    start_slow(lab, tmp_path)
    detached_run.stop(services_of(lab))
    report = (tmp_path / "lab" / detached_run.LOG).read_text()
    assert "Stopped; finished: total version 2." in report


def test_a_run_that_is_killed_loses_nothing_and_another_goes_on(lab, tmp_path):
    pid = start_slow(lab, tmp_path)
    assert lab.status()["slow"].failed_run is None
    os.kill(pid, signal.SIGKILL)
    wait_until_it_ends(lab)
    said = "its last run failed: its writer exited before it was complete"
    assert lab.status()["slow"].failed_run == said
    with jl.open("lab", settings=SETTINGS) as other:
        assert "process" not in str(other.status())
        assert other.status()["slow"].failed_run == said
        assert isinstance(other.staleness("total"), jl.Fresh)
        assert isinstance(other.staleness("slow"), jl.Stale)
        assert other.table("total").arrow()["n"].to_pylist() == [3]
        report = (tmp_path / "lab" / detached_run.LOG).read_text()
        assert "recompute total: 0 of 2 steps are done" in report
        assert "recompute slow: 1 of 2 steps are done" in report
        other.define("slow", SLOW_ABOVE.replace("range(3_000_000_000)", "range(3)"))
        detached_run.start(services_of(other), None)
        wait_until_it_ends(other)
        assert isinstance(other.staleness("slow"), jl.Fresh)
        assert [v.version for v in other.tables() if v.name == "total"] == [2, 1]
        assert not other.fsck().damaged


def test_what_cannot_begin_says_why(lab, tmp_path, monkeypatch):
    with jl.open("lab", read_only=True) as ws, pytest.raises(jl.errors.WorkspaceReadOnly):
        detached_run.start(services_of(ws), None)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(jl.errors.StepFailed, match="ended at once"):
        detached_run.start(services_of(lab), None)

    def refuse(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(jl.errors.StepFailed, match="can be started: Resource temporarily unavail"):
        detached_run.start(services_of(lab), None)
    monkeypatch.undo()
