"""Parts of a workspace are built when they are first used, once."""

import time

import pytest

import jammi_lab as jl
from jammi_lab.steps.single_flight import SingleFlight
from jammi_lab.store.publish import Publisher
from tests.waiting import in_threads


def test_several_threads_that_ask_first_get_one_part(ws, monkeypatch):
    built = []
    build = SingleFlight.__init__

    def build_slowly(self, *arguments):
        built.append(self)
        time.sleep(0.02)
        build(self, *arguments)

    monkeypatch.setattr(SingleFlight, "__init__", build_slowly)
    tables = in_threads(lambda _: ws.materialize("t", "SELECT 1 AS a"), range(4))
    assert len(built) == 1
    assert [each.version for each in tables] == [1] * 4


def test_a_workspace_that_ran_nothing_closes(tmp_path):
    for read_only in (False, True):
        jl.open(tmp_path / "lab", read_only=read_only).close()
    with jl.open(tmp_path / "lab") as ws:
        assert ws.sql("SELECT count(*) FROM jammi_catalog.writers WHERE alive").fetchall() == [(1,)]


FORKED = """
import os, signal, sys, threading, time
import jammi_lab as jl

class Pause:
    def find_spec(self, name, *_):
        if name == "jammi_lab.freshness.queries":
            sys.meta_path.remove(self)
            importing.set()
            time.sleep(0.3)

importing = threading.Event()
ws = jl.open("lab")
sys.meta_path.insert(0, Pause())
thread = threading.Thread(target=ws.status)
thread.start()
importing.wait()
if (child := os.fork()) == 0:
    signal.alarm(20)
    try:
        with jl.open("other") as own:
            print(own.status(), flush=True)
        try:
            ws.status()
        except jl.JammiError as error:
            print(type(error).__name__, flush=True)
    finally:
        os._exit(0)
os.waitpid(child, 0)
thread.join()
ws.close()
"""


def test_a_child_that_was_forked_during_a_first_use_can_use_the_same_parts(run_python):
    *status, error = run_python(FORKED, start=True).stdout.splitlines()
    assert status == ["No recipes yet: ws.materialize(name, sql) creates one."]
    assert error == "ForkedWorkspace"


FORKED_MEANWHILE = """
import os, signal, sqlite3, threading
import jammi_lab as jl

def read():
    while not ended.is_set():
        ws.tables()

ended = threading.Event()
ws = jl.open("lab")
threads = [threading.Thread(target=read) for _ in range(2)]
for thread in threads:
    thread.start()
statuses = set()
for _ in range(25):
    if (child := os.fork()) == 0:
        signal.alarm(10)
        sqlite3.connect(":memory:").close()
        os._exit(0)
    statuses.add(os.waitpid(child, 0)[1])
    if statuses != {0}:
        break
print(statuses)
ended.set()
for thread in threads:
    thread.join()
ws.close()
"""


def test_a_child_that_was_forked_while_threads_read_the_catalog_can_open_a_database(run_python):
    """A lock of SQLite's memory that another thread held at the fork would stay locked in it."""
    assert run_python(FORKED_MEANWHILE, start=True).stdout == "{0}\n"


UNREADABLE = """
import sys
import jammi_lab as jl

class Exhausted:
    def find_spec(self, name, *_):
        raise OSError(24, "Too many open files")

with jl.open("lab") as ws:
    sys.meta_path.insert(0, Exhausted())
    try:
        eval(sys.argv[1])
    except jl.ResourceExhausted as error:
        print(error.message)
    del sys.meta_path[0]
    eval(sys.argv[1])
"""


@pytest.mark.parametrize(
    "verb", ["ws.status()", "ws.recipes()", "ws.define('t', 'SELECT 1')", "ws.recordings"]
)
def test_a_part_that_cannot_be_loaded_is_named_and_loads_later(run_python, verb):
    said = run_python(UNREADABLE, verb, start=True).stdout
    assert said == "A part of jammi_lab cannot be loaded: Too many open files.\n"


def test_no_build_begins_while_a_workspace_is_being_closed(tmp_path, monkeypatch):
    ws = jl.open(tmp_path / "lab")
    errors = []

    def materialize_meanwhile(publisher):
        stop(publisher)
        try:
            ws.materialize("t", "SELECT 1 AS a")
        except jl.JammiError as error:
            errors.append(error)

    stop = Publisher.stop
    monkeypatch.setattr(Publisher, "stop", materialize_meanwhile)
    ws.close()
    [error] = errors
    assert isinstance(error, jl.SessionClosed)
    assert error.message == "The workspace is closed."
    monkeypatch.undo()
    with jl.open(tmp_path / "lab") as again:
        assert not list(again.recipes())
        assert str(again.recovery) == "recovery: nothing to do"
