"""Daemon threads: reusable workers, and queues whose jobs run in order of arrival.

Waking an idle thread takes a tenth of the time of starting one, and a hundredth on a busy machine,
where a new thread waits to be scheduled. Thread-local resources, such as a connection to the
catalog, are kept for the next piece of work.

The threads are daemons: the process does not wait for them at exit, and a forked child has none.
"""

import concurrent.futures
import contextlib
import contextvars
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from jammi_lab.core.interrupts import Signal

Work = Callable[[], object]
IDLE_THREAD_NAME = "jammi-idle"
"""Name of an idle thread."""
IDLE_TIMEOUT_SECONDS = 10.0
"""How long a thread waits for more work before it ends."""
START_TIMEOUT_SECONDS = 20.0
"""How long a new thread may take until it runs. Without memory for it, it never does."""


class Worker(threading.Thread):
    """One worker thread, from its first piece of work on."""

    def __init__(self, work: Work, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work: Work | None = work
        self._work_ready = threading.Lock()
        start_thread(self)

    def assign(self, work: Work, name: str) -> None:
        """Assign the next piece of work to this idle thread."""
        self._work, self.name = work, name
        self._work_ready.release()

    def run(self) -> None:
        """Run work until none arrives in time."""
        self._work_ready.acquire()
        while self._work is not None:
            work, self._work = self._work, None
            # An exception is reported by `threading.excepthook` and ends this thread.
            contextvars.Context().run(work)
            del work  # an idle thread must not keep objects alive
            self.name = IDLE_THREAD_NAME
            idle_workers.append(self)
            if not self._work_ready.acquire(timeout=IDLE_TIMEOUT_SECONDS):
                try:
                    idle_workers.remove(self)
                except ValueError:
                    self._work_ready.acquire()  # already taken from the list: work is on its way


idle_workers: list[Worker] = []
# A forked child has none of these threads.
os.register_at_fork(after_in_child=idle_workers.clear)


def start_thread(thread: threading.Thread) -> None:
    """Start a thread. Raises RuntimeError when no more threads are allowed, MemoryError when there
    is no memory for one.

    It runs also when an interrupt comes while the caller waits for its start. One that ends before
    its first line of Python, for which `threading` would wait for ever, is given up after some
    seconds, and does nothing if it was only slow.
    """
    started = thread._started = _Started()  # type: ignore[attr-defined]
    thread.start()
    if started.first_comer.acquire(blocking=False):  # else the thread has it
        getattr(threading, "_limbo", {}).pop(thread, None)
        raise MemoryError("a thread could not start")


def start_daemon(work: Work, name: str) -> threading.Thread:
    """A thread of its own for some work. Raises as `start_thread`."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    start_thread(thread)
    return thread


class _Started(Signal):
    """Set by a thread that has begun. `threading` waits for it without a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.first_comer = threading.Lock()
        """Taken by the thread that begins, or by the caller that gives it up."""

    def set(self) -> None:
        """End this thread if it was given up."""
        if not (self.is_set() or self.first_comer.acquire(blocking=False)):
            raise SystemExit
        super().set()

    def wait(self, seconds: float = -1) -> bool:
        return super().wait(START_TIMEOUT_SECONDS if seconds < 0 else seconds)

    def _at_fork_reinit(self) -> None:
        """Called by `threading` in a forked child, where nobody waits."""


def submit(work: Work, name: str = "jammi-helper") -> None:
    """Run a piece of work on a worker thread, which has this name meanwhile, in an empty context.

    Raises RuntimeError when no more threads are allowed, and when the interpreter is shutting down,
    because no thread runs any more then.
    """
    if sys.is_finalizing():
        raise RuntimeError("the interpreter is shutting down")
    try:
        worker = idle_workers.pop()
    except IndexError:
        Worker(work, name)
    else:
        worker.assign(work, name)


def join_thread(thread: threading.Thread, seconds: float | None = None) -> None:
    """Wait for the end of a thread, at most `seconds`; not for one whose start was interrupted, and
    not while the interpreter shuts down: no thread runs any more then, and Python 3.13 would wait
    for ever."""
    if not sys.is_finalizing():
        with contextlib.suppress(RuntimeError):  # it was not started
            thread.join(None if seconds is None else max(0.0, seconds))


class JobQueue:
    """Runs jobs in order of arrival, each in the context of its caller, on threads of its own that
    exist only while there are jobs."""

    def __init__(self, name: str, max_threads: int = 1) -> None:
        self._name, self._max_threads = name, max_threads
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], object]] = deque()
        self._threads: set[threading.Thread] = set()

    @property
    def busy(self) -> bool:
        """Whether a job is running or waiting."""
        return bool(self._threads)

    def put(self, job: Callable[[], object]) -> None:
        """Append a job. Raises RuntimeError when no more threads are allowed."""
        run = contextvars.copy_context().run
        with self._lock:
            self._start_thread()
            self._jobs.append(lambda: run(job))

    def clear(self) -> None:
        """Drop the jobs that have not started."""
        with self._lock:
            self._jobs.clear()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the threads that run now have no job left, at most `seconds`. A job that calls
        this does not wait for itself."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._lock:
            threads = self._threads - {threading.current_thread()}
        for thread in threads:
            join_thread(thread, None if deadline is None else deadline - time.monotonic())

    def _start_thread(self) -> None:
        # A forked child has none of the parent's threads, and an exception ends a thread.
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        if len(self._threads) < self._max_threads:
            try:
                self._threads.add(start_daemon(self._run_jobs, self._name))
            except (RuntimeError, MemoryError):  # fewer threads do the work, too
                if not self._threads:
                    raise

    def _run_jobs(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._threads.discard(threading.current_thread())
                    return
                job = self._jobs.popleft()
            try:
                job()
            except BaseException:  # this thread ends; a new one runs the remaining jobs
                with self._lock:
                    self._threads.discard(threading.current_thread())
                    if self._jobs:
                        self._start_thread()
                raise


P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool(concurrent.futures.Executor):
    """At most `max_threads` threads of this name, which end when there is no more work."""

    def __init__(self, max_threads: int, name: str) -> None:
        self._queue = JobQueue(name, max_threads)
        self._futures: set[concurrent.futures.Future[Any]] = set()

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """As in the base class. Raises as `start_thread`."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  the caller's to handle
                future.set_exception(error)

        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        self._queue.put(run)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As in the base class."""
        if cancel_futures:
            for future in list(self._futures):
                future.cancel()
        if wait:
            self._queue.wait()
