"""Tasks side by side: in order where one needs another, never too many at once, and all of them
stopped by one interrupt."""

import contextvars
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from jammi_lab.core.interrupts import DeferInterrupts
from jammi_lab.core.parallel_tasks import Task, TaskPool
from jammi_lab.core.records import Progress
from jammi_lab.core.thread_pool import start_thread

SOON = 20.0
"""Seconds after which something that should have happened is taken not to happen."""


def tick(stage: str) -> Progress:
    return Progress(stage=stage, done=0, total=None, unit="steps")


def busy() -> Iterator[None]:
    """Work in Python that goes on until it is interrupted."""
    until = time.monotonic() + SOON
    while time.monotonic() < until:
        DeferInterrupts.checkpoint()
        yield


def test_two_tasks_that_need_nothing_of_each_other_run_at_the_same_time():
    meet = threading.Barrier(2, timeout=SOON)
    met: list[int] = []
    TaskPool(
        [Task(lambda _: met.append(meet.wait())), Task(lambda _: met.append(meet.wait()))], 2, None
    ).run()
    assert sorted(met) == [0, 1] and not meet.broken


@pytest.mark.parametrize("seed", range(20))
def test_a_task_starts_when_all_before_it_are_done_and_not_earlier(seed):
    chance = random.Random(seed)
    done: list[int] = []
    running, most = [0], [0]
    lock = threading.Lock()

    def task(place: int) -> Task:
        after = frozenset(chance.sample(range(place), chance.randrange(min(place, 3) + 1)))

        def run(_: object) -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
                assert after <= set(done)
            time.sleep(chance.random() * 0.002)
            with lock:
                running[0] -= 1
                done.append(place)

        return Task(run, after, in_caller_thread=chance.random() < 0.2)

    tasks = [task(place) for place in range(30)]
    TaskPool(tasks, 3, None).run()
    assert sorted(done) == list(range(30))
    assert 1 < most[0] <= 4  # three lanes, and the caller's own thread


def test_a_width_of_one_keeps_everything_in_the_callers_thread():
    threads: list[threading.Thread] = []
    TaskPool(
        [Task(lambda _: threads.append(threading.current_thread())) for _ in range(5)], 1, None
    ).run()
    assert threads == [threading.current_thread()] * 5


def test_a_task_that_nothing_can_run_beside_is_done_in_the_callers_thread():
    threads: list[threading.Thread] = []
    TaskPool(
        [
            Task(lambda _: threads.append(threading.current_thread()), frozenset({n - 1} - {-1}))
            for n in range(4)
        ],
        4,
        None,
    ).run()
    assert threads == [threading.current_thread()] * 4


def test_a_task_that_must_not_leave_the_callers_thread_runs_there_while_others_run_beside_it():
    meet, threads = threading.Barrier(2, timeout=SOON), {}

    def run(name: str) -> Callable[[object], None]:
        def work(_: object) -> None:
            threads[name] = threading.current_thread()
            meet.wait()

        return work

    TaskPool([Task(run("here"), in_caller_thread=True), Task(run("beside"))], 2, None).run()
    assert threads["here"] is threading.current_thread() is not threads["beside"]


def test_lanes_go_on_while_the_callers_thread_is_busy_with_a_task_that_tells_its_progress():
    last = threading.Event()

    def here(tell: Callable[[Progress], None]) -> None:
        until = time.monotonic() + SOON
        while not last.is_set():
            assert time.monotonic() < until, "the chain beside it stands still"
            tell(tick("here"))
            time.sleep(0.005)

    chain = [
        Task(lambda _: None),
        Task(lambda _: None, frozenset({1})),
        Task(lambda _: last.set(), frozenset({2})),
    ]
    TaskPool([Task(here, in_caller_thread=True), *chain], 2, None).run()
    assert last.is_set()


def test_progress_comes_in_the_callers_thread_and_before_the_task_goes_on():
    seen: list[tuple[str, threading.Thread]] = []

    def run(name: str) -> Callable[[Callable[[Progress], None]], None]:
        def work(tell: Callable[[Progress], None]) -> None:
            tell(tick(name))
            assert name in [stage for stage, _ in seen]

        return work

    TaskPool(
        [Task(run("a")), Task(run("b")), Task(run("c"))],
        2,
        lambda p: seen.append((p.stage, threading.current_thread())),
    ).run()
    assert sorted(stage for stage, _ in seen) == ["a", "b", "c"]
    assert {thread for _, thread in seen} == {threading.current_thread()}


def test_what_is_bound_in_the_callers_context_is_bound_in_the_lanes_and_in_progress():
    bound = contextvars.ContextVar("bound", default="nothing")
    bound.set("something")
    found: list[str] = []
    tasks = [Task(lambda tell: (found.append(bound.get()), tell(tick("")))) for _ in range(3)]
    TaskPool(tasks, 2, lambda _: found.append(bound.get())).run()
    assert found == ["something"] * 6


def test_an_interrupt_stops_every_lane_and_nothing_new_is_begun():
    begun, stopped, never = threading.Semaphore(0), [], []

    def work(_: object) -> None:
        begun.release()
        try:
            for _ in busy():
                pass
        except KeyboardInterrupt as stop:
            stop.add_note("put away")
            stopped.append(threading.current_thread())
            raise

    def interrupt() -> None:
        begun.acquire(timeout=SOON), begun.acquire(timeout=SOON)
        signal.raise_signal(signal.SIGINT)

    knock = threading.Thread(target=interrupt)
    knock.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        TaskPool([Task(work), Task(work), Task(lambda _: never.append(1))], 2, None).run()
    knock.join()
    assert len(stopped) == 2 and not never
    assert time.monotonic() - began < SOON / 4
    assert caught.value.__notes__ == ["put away"]


def test_an_interrupt_raised_by_progress_reaches_the_lane_that_told_it():
    after: list[str] = []

    def work(tell: Callable[[Progress], None]) -> None:
        tell(tick("now"))
        after.append("went on")

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TaskPool([Task(work), Task(work)], 2, stop).run()
    assert not after


def test_an_error_in_one_lane_is_raised_and_stops_the_others():
    begun, stopped = threading.Event(), []

    def other(_: object) -> None:
        begun.set()
        try:
            for _ in busy():
                pass
        except KeyboardInterrupt:
            stopped.append(1)
            raise

    def fail(_: object) -> None:
        begun.wait(SOON)
        raise ZeroDivisionError("a mistake of ours")

    with pytest.raises(ZeroDivisionError, match="of ours"):
        TaskPool([Task(other), Task(fail)], 2, None).run()
    assert stopped == [1]


def test_a_lane_that_swallows_one_interrupt_gets_another(monkeypatch):
    monkeypatch.setattr("jammi_lab.core.parallel_tasks.REINTERRUPT_SECONDS", 0.1)
    begun, swallowed = threading.Event(), []

    def stubborn(_: object) -> None:
        begun.set()
        for _ in range(2):
            try:
                for _ in busy():
                    pass
            except KeyboardInterrupt:
                swallowed.append(1)

    def fail(_: object) -> None:
        begun.wait(SOON)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        TaskPool([Task(stubborn), Task(fail)], 2, None).run()
    assert swallowed == [1, 1]


def test_interrupts_at_any_moment_leave_no_thread_and_lose_no_lane():
    for turn in range(40):
        tasks = [Task(lambda _: time.sleep(0.001)) for _ in range(50)]
        knock = threading.Timer(0.0005 * turn, signal.raise_signal, [signal.SIGINT])
        began = time.monotonic()
        try:
            start_thread(knock)
            TaskPool(tasks, 2, None).run()
            knock.join()
            time.sleep(0.01)  # so that an interrupt that came too late arrives here
        except KeyboardInterrupt:
            pass
        knock.join()
        assert time.monotonic() - began < SOON / 4
