"""Parallel tasks: a task starts when its dependencies are done, and an interrupt of the caller
stops all tasks.

The caller's thread dispatches tasks, receives progress and reports it. Tasks that must stay in that
thread (an encoder, a function of the notebook) run there, and so does a task when nothing could run
beside it. An interrupt, or any other exception in the caller's thread, is raised as
KeyboardInterrupt in every busy worker at its next checkpoint (`DeferInterrupts.checkpoint`).
"""

import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jammi_lab.core.errors import shorten_interrupt
from jammi_lab.core.interrupts import (
    DeferInterrupts,
    Signal,
    interrupt_thread,
    raise_interrupts,
    withdraw_interrupt,
)
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.core.thread_pool import start_thread

# A step is mostly DuckDB, Parquet and fsync, which let other threads run; processes would have
# neither the engine nor the frames of the notebook.
MAX_PARALLEL_TASKS = 4
"""Maximum number of tasks that run at the same time."""
POLL_SECONDS = 0.05
REINTERRUPT_SECONDS, STOP_TIMEOUT_SECONDS = 2.0, 6.0
"""Seconds after which a worker that has not stopped is interrupted again, and after which it is
abandoned."""


@dataclass(frozen=True)
class Task:
    """One task."""

    run: Callable[[OnProgress | None], None]
    """Runs the task, given the progress callback. An exception ends the whole run."""
    dependencies: frozenset[int] = frozenset()
    """Indexes of the tasks that must be done before."""
    in_caller_thread: bool = False
    """Whether it must run in the caller's thread."""
    on_start: Callable[[int], None] = lambda _: None
    """Called in the caller's thread just before the task starts, with the number of tasks done."""


@dataclass
class _ProgressEvent:
    """Progress of a task in a worker, with the acknowledgement that the worker waits for."""

    progress: Progress
    context: contextvars.Context
    acknowledged: Signal = field(default_factory=Signal)


@dataclass(frozen=True)
class _Finished:
    """A task has ended, and its worker is free."""

    index: int
    error: BaseException | None


class TaskPool:
    """Runs tasks in at most `width` threads besides the caller's."""

    def __init__(self, tasks: Sequence[Task], width: int, on_progress: OnProgress | None) -> None:
        self._tasks = tasks
        self._width = min(width, MAX_PARALLEL_TASKS)
        self._on_progress = on_progress
        self._unmet = {index: set(task.dependencies) for index, task in enumerate(tasks)}
        self._dependents: dict[int, list[int]] = {}
        for index, task in enumerate(tasks):
            for dependency in task.dependencies:
                self._dependents.setdefault(dependency, []).append(index)
        self._ready = [index for index, dependency in self._unmet.items() if not dependency]
        self._done_count = 0
        self._inbox: queue.SimpleQueue[_ProgressEvent | _Finished] = queue.SimpleQueue()
        self._todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._dispatched: set[int] = set()
        self._lock = threading.Lock()
        self._busy_threads: set[int] = set()
        """Identities of the threads that may be interrupted."""
        self._interrupt_notes: list[str] = []
        """Notes of interrupted tasks about what they left."""
        self._stopping = self._running_own_task = False

    def run(self) -> None:
        """Run all tasks. The first error stops the running tasks, starts no others, and is raised
        here."""
        try:
            self._run_until_done()
        except BaseException as error:
            self._stop(error)
            raise
        finally:
            # One call only, so that no interrupt can come between: each worker passes the end
            # marker on to the next.
            self._todo.put(None)
        for thread in self._threads:
            thread.join(STOP_TIMEOUT_SECONDS)

    def _run_until_done(self) -> None:
        """Dispatch and receive until all tasks are done.

        This loop is not inside the `try` of the caller: CPython 3.13 lets an interrupt between two
        iterations bypass the handlers (python/cpython#130279).
        """
        while self._done_count < len(self._tasks):
            self._dispatch()
            if (index := self._next_own_task()) is not None:
                self._run_own_task(index)
            else:
                self._receive(block=True)

    # -- in the caller's thread

    def _dispatch(self) -> None:
        """Dispatch tasks to free workers. A single task without others beside it is not worth the
        switch and stays in the caller's thread."""
        movable = [index for index in self._ready if not self._tasks[index].in_caller_thread]
        if self._width < 2 or (
            len(self._ready) == 1 and not self._dispatched and not self._running_own_task
        ):
            return
        for index in movable[: self._width - len(self._dispatched)]:
            self._start_task(index)
            if len(self._threads) == len(self._dispatched):
                thread = threading.Thread(
                    target=contextvars.copy_context().run,
                    args=(self._work,),
                    name="jammi-step",
                    daemon=True,
                )
                # Registered before it starts, so that `run` joins it in any case.
                self._threads.append(thread)
                start_thread(thread)
            self._dispatched.add(index)
            self._todo.put(index)

    def _next_own_task(self) -> int | None:
        """The index of the task that the caller's thread runs now, if any."""
        bound_tasks = [index for index in self._ready if self._tasks[index].in_caller_thread]
        return (
            bound_tasks[0]
            if bound_tasks
            else self._ready[0]
            if self._ready and not self._dispatched
            else None
        )

    def _start_task(self, index: int) -> None:
        self._ready.remove(index)
        self._tasks[index].on_start(self._done_count)

    def _run_own_task(self, index: int) -> None:
        self._start_task(index)
        # Beside the last task nothing else runs, so without a callback there is nothing to report.
        is_last = self._on_progress is None and self._done_count + 1 == len(self._tasks)
        self._running_own_task = True
        try:
            self._tasks[index].run(None if is_last else self._report_own_progress)
        finally:
            self._running_own_task = False
        self._mark_done(index)

    def _report_own_progress(self, progress: Progress) -> None:
        """Report progress of a task in the caller's thread. Messages of the workers are handled as
        well."""
        if self._on_progress is not None:
            self._on_progress(progress)
        self._receive(block=False)
        self._dispatch()

    def _receive(self, *, block: bool) -> None:
        """Handle messages of the workers. Waits in short intervals, so that an interrupt
        arrives."""
        while True:
            try:
                with raise_interrupts():
                    event = self._inbox.get(block=block, timeout=POLL_SECONDS)
            except queue.Empty:
                if not block:
                    return
                if not any(t.is_alive() for t in self._threads):
                    raise RuntimeError("all worker threads ended without a result") from None
                continue
            block = False
            if isinstance(event, _ProgressEvent):
                self._report_progress(event)
            else:
                self._dispatched.discard(event.index)
                if event.error is not None:
                    raise event.error
                self._mark_done(event.index)

    def _report_progress(self, event: _ProgressEvent) -> None:
        try:
            if self._on_progress is not None:
                event.context.run(self._on_progress, event.progress)
        except BaseException:
            self._interrupt()  # before the worker is released
            raise
        finally:
            event.acknowledged.set()

    def _mark_done(self, index: int) -> None:
        self._done_count += 1
        for dependent in self._dependents.get(index, ()):
            self._unmet[dependent].discard(index)
            if not self._unmet[dependent]:
                self._ready.append(dependent)
        self._ready.sort()

    def _stop(self, error: BaseException) -> None:
        """Interrupt the workers and wait until they have cleaned up. Notes about what they left are
        added to the error."""
        self._interrupt()
        started_at = time.monotonic()
        reinterrupt_at = started_at + REINTERRUPT_SECONDS
        while (
            self._busy_threads and (current := time.monotonic()) < started_at + STOP_TIMEOUT_SECONDS
        ):
            if current >= reinterrupt_at:
                self._interrupt(repeat=True)
                reinterrupt_at = current + REINTERRUPT_SECONDS
            with contextlib.suppress(queue.Empty):
                event = self._inbox.get(timeout=POLL_SECONDS)
                if isinstance(event, _ProgressEvent):
                    event.acknowledged.set()
        if isinstance(error, KeyboardInterrupt):
            for note in dict.fromkeys(self._interrupt_notes):
                if note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
            shorten_interrupt(error)

    def _interrupt(self, *, repeat: bool = False) -> None:
        """Raise KeyboardInterrupt in every busy worker, only once unless `repeat`. No worker starts
        a task from now on."""
        with self._lock:
            if self._stopping and not repeat:
                return
            self._stopping = True
            for identity in self._busy_threads:
                interrupt_thread(identity)

    # -- in the worker threads

    def _work(self) -> None:
        """Run one task after another until the end marker."""
        while (index := self._todo.get()) is not None:
            self._inbox.put(_Finished(index, self._attempt(index)))
        self._todo.put(None)

    def _attempt(self, index: int) -> BaseException | None:
        """Run a task and return its exception, if any."""
        thread = threading.get_ident()
        try:
            with self._lock:
                if self._stopping:
                    raise KeyboardInterrupt
                self._busy_threads.add(thread)
            self._tasks[index].run(self._send_progress)
        except BaseException as error:  # noqa: BLE001 — raised in the caller's thread
            self._interrupt_notes += (
                getattr(error, "__notes__", ()) if isinstance(error, KeyboardInterrupt) else ()
            )
            return error
        finally:
            with self._lock:
                self._busy_threads.discard(thread)
                withdraw_interrupt(thread)
        return None

    def _send_progress(self, progress: Progress) -> None:
        """Send progress from a worker. The worker continues once it was reported, or at once while
        the caller's thread is busy with a task of its own."""
        if self._on_progress is not None:
            event = _ProgressEvent(progress, contextvars.copy_context())
            self._inbox.put(event)
            while not event.acknowledged.wait(POLL_SECONDS) and not self._running_own_task:
                pass
        DeferInterrupts.checkpoint()
