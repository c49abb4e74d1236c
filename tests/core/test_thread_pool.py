import functools
import os
import sys
import threading
import time

import pytest

from jammi_lab.core import thread_pool as beside
from jammi_lab.core.thread_pool import ThreadPool, submit
from jammi_lab.storage import files
from tests.waiting import until


@pytest.fixture(autouse=True)
def nobody_waits():
    """No thread of another test takes the work of this one."""
    before, beside.idle_workers[:] = beside.idle_workers[:], []
    yield
    beside.idle_workers[:] = before + beside.idle_workers


def done_by(count: int = 1) -> list[int]:
    """The threads that do so many pieces of work at once, when each has done its own and waits for
    the next."""
    by, go, over = [], threading.Event(), threading.Barrier(count + 1)

    def work():
        by.append(threading.get_native_id())
        go.wait()
        over.wait()

    waiting = len(beside.idle_workers)
    for _ in range(count):
        submit(work)
    go.set()
    over.wait()
    until(lambda: len(beside.idle_workers) >= max(count, waiting), 20)
    return by


def test_work_is_done_on_another_thread_and_the_next_on_the_same():
    [first] = done_by()
    assert first != threading.get_native_id() and done_by() == [first]


def test_work_that_is_given_at_once_is_done_at_once():
    by = done_by(4)
    assert len(set(by)) == 4 and set(done_by(3)) < set(by)


def test_a_thread_that_is_needed_just_when_its_patience_ends_does_the_work(monkeypatch):
    monkeypatch.setattr(beside, "IDLE_TIMEOUT_SECONDS", 0.05)
    done_by()
    helper = beside.idle_workers.pop()  # as `begin` takes it, which then takes its time
    time.sleep(0.3)
    did = threading.Event()
    helper.assign(did.set, "jammi-helper")
    assert did.wait(20)


def test_work_that_fails_ends_its_thread_and_is_told_of_and_the_next_is_done(monkeypatch):
    told, failed = [], threading.Event()

    def fail():
        raise MemoryError("no room")

    monkeypatch.setattr(
        "threading.excepthook", lambda said: (told.append(said.exc_value), failed.set())
    )
    submit(fail)
    assert failed.wait(20) and isinstance(told[0], MemoryError) and not beside.idle_workers
    assert done_by()


def test_a_forked_child_waits_for_no_thread_of_its_parent():
    done_by(2)
    child = os.fork()
    if child == 0:
        did = threading.Event()
        submit(did.set)
        os._exit(0 if did.wait(20) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_is_synced_also_where_there_may_be_no_more_threads(tmp_path, monkeypatch):
    def none(*_):
        raise RuntimeError("can't start new thread")

    synced = []
    monkeypatch.setattr(beside.Worker, "start", none)
    monkeypatch.setattr(files, "sync_file", synced.append)
    files.sync_in_background(tmp_path / "log").wait()
    assert synced == [tmp_path / "log"]


def test_nothing_is_begun_when_the_interpreter_is_ending(monkeypatch):
    monkeypatch.setattr(beside.sys, "is_finalizing", lambda: True)
    with pytest.raises(RuntimeError, match="shutting down"):
        submit(lambda: None)


def test_an_interrupt_while_a_thread_is_started_is_one_and_nobody_joins_that_thread(monkeypatch):
    def interrupted(*_: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(beside._Started, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        beside.start_thread(threading.Thread(daemon=True))
    beside.join_thread(threading.Thread())


@pytest.mark.parametrize("start", [beside.start_thread, lambda thread: submit(thread.run)])
def test_a_thread_that_ends_before_its_first_line_is_given_up(monkeypatch, start):
    monkeypatch.setattr(beside, "START_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    monkeypatch.setattr(threading.Thread, "_bootstrap", functools.partial(int, "not a frame"))
    thread, threads = threading.Thread(target=list), threading.active_count()
    with pytest.raises(MemoryError, match="a thread could not start"):
        start(thread)
    assert not thread.is_alive() and threading.active_count() == threads


def test_a_pool_without_memory_for_a_thread_raises(monkeypatch):
    monkeypatch.setattr(beside, "START_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with ThreadPool(1, "jammi-test") as pool:
        monkeypatch.setattr(threading.Thread, "_bootstrap", functools.partial(int, "not a frame"))
        with pytest.raises(MemoryError):
            pool.submit(list)


def test_a_thread_that_was_given_up_does_nothing_later(monkeypatch):
    monkeypatch.setattr(beside, "START_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # threading misses the thread
    begin, real, done = threading.Event(), threading.Thread._bootstrap, []

    def slow(thread):
        begin.wait()
        real(thread)

    monkeypatch.setattr(threading.Thread, "_bootstrap", slow)
    with pytest.raises(MemoryError):
        beside.start_thread(threading.Thread(target=done.append, args=[1]))
    begin.set()
    time.sleep(0.2)
    assert done == []


def test_a_pool_runs_calls_at_once_gives_errors_and_cancels_the_rest():
    go, at_once = threading.Event(), threading.Barrier(3)
    with ThreadPool(2, "jammi-test") as pool:
        both = [pool.submit(at_once.wait, 20) for _ in range(2)]
        at_once.wait(20)
        assert sorted(future.result() for future in both) != [0, 0]
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        assert list(pool.map(str.upper, ["a", "b"])) == ["A", "B"]
        running = [pool.submit(go.wait, 20) for _ in range(2)]
        waiting = pool.submit(list)
        while not all(future.running() for future in running):
            time.sleep(0.001)
        pool.shutdown(wait=False, cancel_futures=True)
        assert waiting.cancelled()
        go.set()
        assert [future.result() for future in running] == [True, True]
