"""The collector stands still during a pass or an import, and runs as before afterwards."""

import gc
import json

import pytest

from jammi_lab.core.gc_pause import pause_gc


def test_nothing_is_collected_within_and_everything_is_as_before_afterwards():
    with pause_gc():
        assert not gc.isenabled()
        with pause_gc():
            pass
        assert not gc.isenabled(), "the outer block still runs"
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), pause_gc():
        _ = 1 / 0
    assert gc.isenabled()


def test_a_collector_that_was_turned_off_stays_off():
    gc.disable()
    try:
        with pause_gc():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


IMPORTS = """
import gc, importlib, json
import jammi_lab as jl
from jammi_lab.core.gc_pause import import_modules
looks = [each["collections"] for each in gc.get_stats()]
jl.Workspace
looked = sum(each["collections"] - before for each, before in zip(gc.get_stats(), looks))
old = len(gc.get_objects(generation=2))
with import_modules():
    import sqlite3.dump
    made = [[number] for number in range(5_000)]
    enabled = gc.isenabled()
aged = len(gc.get_objects(generation=2)) - old
gc.collect()
old = len(gc.get_objects(generation=2))
young = [[number] for number in range(600)]
jl.Workspace
aged_by_nothing = len(gc.get_objects(generation=2)) - old
try:
    with import_modules():
        importlib.import_module("no_such_module")
except ModuleNotFoundError:
    after_a_failure = gc.isenabled()
thawed = gc.get_freeze_count()
gc.freeze()
frozen = gc.get_freeze_count()
with import_modules():
    pass
print(json.dumps({
    "looked": looked, "enabled": enabled, "aged": aged,
    "aged_by_nothing": aged_by_nothing, "after_a_failure": after_a_failure, "thawed": thawed,
    "frozen": gc.get_freeze_count() == frozen,
}))
"""


def test_what_an_import_makes_is_old_at_once_and_what_was_frozen_stays_frozen(run_python):
    measured = json.loads(run_python(IMPORTS, start=True).stdout)
    assert measured.pop("looked") <= 5, "importing the engine runs collections"
    assert measured.pop("aged") >= 5_000
    assert measured.pop("aged_by_nothing") < 100, "a module that is there makes objects old"
    assert measured == {"enabled": False, "after_a_failure": True, "thawed": 0, "frozen": True}


FORKED = """
import gc, os, threading
from jammi_lab.core.gc_pause import import_modules, pause_gc

def hold():
    with pause_gc():
        entered.set()
        leave.wait()

entered, leave = threading.Event(), threading.Event()
thread = threading.Thread(target=hold)
thread.start()
entered.wait()
for block in (pause_gc, import_modules):  # of the thread that forks
    with block():
        if (child := os.fork()) == 0:
            within = gc.isenabled()
    if child == 0:
        print(within, gc.isenabled(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
leave.set()
thread.join()
print(gc.isenabled())
"""


def test_a_forked_child_knows_only_the_blocks_of_its_own_thread(run_python):
    said = run_python(FORKED, start=True).stdout.split()
    assert said == ["False", "True", "False", "True", "True"]
