"""Closing lets go of everything, whatever state the disk is in, and what it stopped says so."""

import shutil

import pytest

import jammi_lab as jl
from tests.sizes import sized

FULL = """
import os, resource, signal, sys, threading
import jammi_lab as jl

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ws = jl.open("lab")
ws.materialize("one", "SELECT 1 AS x")
stream = ws.sql("SELECT * FROM range(100000000)").batches()
next(stream)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # from now on no file of this process can grow
ws.close()
open_ = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]
print("THREADS", [t.name for t in threading.enumerate() if t is not threading.main_thread() and t.name != "jammi-idle"])
print("OPEN", [p for p in open_ if "/lab/" in p])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with jl.open("lab") as again:  # the very process can open it again, and finds its own former writer dead
    print("RECOVERY", again.recovery)
    print("HOLDS", again.table("one").verify(), len(os.listdir("lab/writers")))
"""


def test_closing_on_a_full_disk_lets_go_of_threads_files_and_the_lock(run_python):
    said = run_python(FULL).stdout.splitlines()
    assert said[:2] == ["THREADS []", "OPEN []"]
    assert said[2].startswith("RECOVERY recovery: nothing to do") and said[3].endswith(" 1")


ENDING = """
import sys
import jammi_lab as jl

class Last:
    def __init__(self, ws):
        self.ws, self.print, self.sys = ws, print, sys

    def __del__(self):
        self.print(self.sys.is_finalizing(), flush=True)
        try:
            self.ws.sql("SELECT 1 AS x").arrow()
        except RuntimeError as error:
            self.print(error, flush=True)
        self.ws.close()
        self.print("closed", flush=True)

ws = jl.open("lab")
ws.materialize("one", "SELECT 1 AS x")
last = Last(ws)
"""


@pytest.mark.only_soak
def test_a_workspace_that_is_asked_and_closed_when_the_interpreter_ends_does_not_wait_for_threads_that_run_no_more(
    run_python,
):
    assert run_python(ENDING, start=True).stdout.splitlines() == [
        "True",
        "the interpreter is shutting down",
        "closed",
    ]


AT_EXIT = """
import atexit, sys
import jammi_lab as jl
from jammi_lab.core import thread_pool as beside

@atexit.register
def close():  # as a kernel that ends does
    if "alone" in sys.argv:
        beside.idle_workers.clear()  # so that every piece of work would need a thread of its own
    ws.close()
    print("closed", flush=True)

ws = jl.open("lab")
print(ws.recovery, flush=True)
ws.materialize("one", "SELECT 1 AS x")
"""


@pytest.mark.parametrize("alone", ["", "alone"])
def test_a_workspace_is_closed_when_the_interpreter_starts_no_thread_any_more(run_python, alone):
    """Python 3.12 starts none for what runs at exit."""
    for _ in range(sized(1, 2)):
        child = run_python(AT_EXIT, alone, start=True)
        assert child.stdout.splitlines() == ["recovery: nothing to do", "closed"]
        assert not child.stderr


@pytest.mark.parametrize("when", ["opening", "closing"])
def test_an_interrupt_while_a_workspace_is_opened_or_closed_leaves_no_writer_and_no_file_open(
    tmp_path, monkeypatch, when
):
    from jammi_lab.features.outputs import badge
    from jammi_lab.workspace import assembly

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    ws = jl.open(tmp_path / "lab") if when == "closing" else None
    monkeypatch.setattr(
        *(badge.BadgeService, "close") if ws else (assembly.Services, "recover"), interrupted
    )
    if ws:
        ws.sql("SELECT 1").fetchall()  # from here on there are badges
    with pytest.raises(KeyboardInterrupt):
        ws.close() if ws else jl.open(tmp_path / "lab")
    monkeypatch.undo()
    with jl.open(tmp_path / "lab") as again:
        assert [
            row[0]
            for row in again.sql("SELECT alive FROM jammi_catalog.writers WHERE alive").fetchall()
        ] == [True]


def test_closing_a_workspace_whose_files_were_removed_leaves_nothing_in_its_folder(tmp_path):
    ws = jl.open(tmp_path / "lab")
    ws.materialize("t", "SELECT 1 AS n")
    shutil.rmtree(tmp_path / "lab")
    (tmp_path / "lab").mkdir()
    ws.close()
    assert list((tmp_path / "lab").iterdir()) == []
