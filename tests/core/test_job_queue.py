"""Jobs of a queue run in order of arrival, on threads that exist only while there are jobs."""

import contextvars
import threading

import pytest

from jammi_lab.core.thread_pool import JobQueue

word = contextvars.ContextVar("word", default="none")


def test_jobs_run_in_order_and_in_the_context_of_their_callers():
    queue, results = JobQueue("jammi-test"), []
    for each in ("a", "b", "c"):
        token = word.set(each)
        queue.put(lambda: results.append((word.get(), threading.current_thread().name)))
        word.reset(token)
    queue.wait(10)
    assert results == [("a", "jammi-test"), ("b", "jammi-test"), ("c", "jammi-test")]
    assert not queue.busy


def test_no_more_jobs_run_at_once_than_there_may_be_threads():
    queue, gate, running = JobQueue("jammi-test", max_threads=2), threading.Event(), []

    def work():
        running.append(None)
        gate.wait(10)

    for _ in range(5):
        queue.put(work)
    queue.wait(0.1)
    assert queue.busy and len(running) <= 2
    gate.set()
    queue.wait(10)
    assert len(running) == 5


def test_where_no_further_thread_can_be_started_those_there_are_do_the_work(monkeypatch):
    queue, gate, results = JobQueue("jammi-test", max_threads=2), threading.Event(), []

    def fail(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            queue.put(lambda: results.append("refused"))
    queue.put(lambda: gate.wait(10))
    monkeypatch.setattr(threading.Thread, "start", fail)
    queue.put(lambda: results.append("done"))
    gate.set()
    queue.wait(10)
    assert results == ["done"]


def test_dropped_jobs_do_not_run():
    queue, gate, results = JobQueue("jammi-test"), threading.Event(), []
    queue.put(lambda: gate.wait(10))
    queue.put(lambda: results.append("dropped"))
    queue.clear()
    gate.set()
    queue.wait(10)
    assert results == []


def test_a_job_that_fails_is_reported_and_does_not_stop_the_others(monkeypatch):
    queue, done, reported = JobQueue("jammi-test"), threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: reported.set())
    queue.put(lambda: 1 / 0)
    queue.put(done.set)
    assert done.wait(10) and reported.wait(10)


def test_a_job_that_waits_for_its_queue_does_not_wait_for_itself():
    queue, done = JobQueue("jammi-test"), threading.Event()

    def work():
        queue.wait()
        done.set()

    queue.put(work)
    assert done.wait(10)
