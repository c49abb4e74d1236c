"""Running tasks side by side: a task starts when those before it are done, and an interrupt of the caller stops every one of them.

The caller's thread hands out, listens and passes on. What must not leave it (an encoder, a function of the notebook) it runs itself, and so it does
with a task that nothing could run beside. An interrupt, or whatever else is raised in the caller's thread, is raised in every busy lane as
KeyboardInterrupt, at the next bytecode, but not within a transaction of the catalog: to a task it is what ^C is to a call in the main thread. Why so:
docs/decisions/011-steps-side-by-side.md
"""

import contextlib
import contextvars
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jammi_lab.errors import brief
from jammi_lab.interrupts import raise_in
from jammi_lab.storage.beside import start
from jammi_lab.values.records import Progress

OnProgress = Callable[[Progress], None]
MOST = 4
"""Tasks that run at the same time, at most."""
_STEP = 0.05
_AGAIN, _PATIENCE = 2.0, 6.0
"""After how many seconds a lane that has not ended is interrupted again, and after how many it is left to end by itself."""


@dataclass(frozen=True)
class Task:
    """Something to do once."""

    run: Callable[[OnProgress | None], None]
    """Does it; takes where progress goes. What it raises ends the whole run."""
    after: frozenset[int] = frozenset()
    """The places of the tasks that must be done before."""
    here: bool = False
    """Whether it must run in the caller's thread."""
    starts: Callable[[int], None] = lambda _: None
    """Called in the caller's thread just before, with how many tasks are done."""


@dataclass
class _Told:
    """Progress of a task in a lane, and the answer that the lane waits for."""

    progress: Progress
    context: contextvars.Context
    taken: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class _Ended:
    """A lane is free again."""

    place: int
    error: BaseException | None


class Lanes:
    """Runs tasks in at most `width` threads beside the caller's."""

    def __init__(self, tasks: Sequence[Task], width: int, on_progress: OnProgress | None) -> None:
        self._tasks, self._width, self._on_progress = tasks, min(width, MOST), on_progress
        self._left = {place: set(task.after) for place, task in enumerate(tasks)}
        self._next: dict[int, list[int]] = {}
        for place, task in enumerate(tasks):
            for before in task.after:
                self._next.setdefault(before, []).append(place)
        self._ready = [place for place, before in self._left.items() if not before]
        self._done = 0
        self._inbox: queue.SimpleQueue[_Told | _Ended] = queue.SimpleQueue()
        self._todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._in_lanes: set[int] = set()
        self._lock = threading.Lock()
        self._at_work: set[int] = set()  # identities of the threads that an interrupt may be raised in
        self._undone: list[str] = []
        """What interrupted tasks say of what they left."""
        self._stopping = self._away = False

    def run(self) -> None:
        """All tasks. The first error ends it: what runs is stopped, what has not begun stays so, and the error is raised here."""
        try:
            self._turns()
        except BaseException as error:
            self._stop(error)
            raise
        finally:
            self._todo.put(None)  # a single call, so that no interrupt comes before it: one lane tells the other
        for each in self._threads:
            each.join(_PATIENCE)

    def _turns(self) -> None:
        """Not a loop inside `try`: CPython 3.13 takes an interrupt between two turns past the handlers (python/cpython#130279)."""
        while self._done < len(self._tasks):
            self._hand_out()
            if (place := self._own()) is not None:
                self._run_here(place)
            else:
                self._listen(block=True)

    # -- the caller's thread -----------------------------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give tasks that may leave this thread to free lanes; a single one, with nothing beside it, is not worth the way."""
        movable = [place for place in self._ready if not self._tasks[place].here]
        if self._width < 2 or (len(self._ready) == 1 and not self._in_lanes and not self._away):
            return
        for place in movable[: self._width - len(self._in_lanes)]:
            self._start(place)
            if len(self._threads) == len(self._in_lanes):
                thread = threading.Thread(target=contextvars.copy_context().run, args=(self._lane,), name="jammi-step", daemon=True)
                self._threads.append(thread)  # before it runs: whoever is in here is told when it is over
                start(thread)
            self._in_lanes.add(place)
            self._todo.put(place)

    def _own(self) -> int | None:
        """The task that this thread does itself now."""
        here = [place for place in self._ready if self._tasks[place].here]
        return here[0] if here else self._ready[0] if self._ready and not self._in_lanes else None

    def _start(self, place: int) -> None:
        self._ready.remove(place)
        self._tasks[place].starts(self._done)

    def _run_here(self, place: int) -> None:
        self._start(place)
        alone = self._on_progress is None and self._done + 1 == len(self._tasks)
        self._away = True
        try:
            self._tasks[place].run(None if alone else self._tell)
        finally:
            self._away = False
        self._finished(place)

    def _tell(self, progress: Progress) -> None:
        """Progress of this thread's own task; the lanes get their turn as well."""
        if self._on_progress is not None:
            self._on_progress(progress)
        self._listen(block=False)
        self._hand_out()

    def _listen(self, *, block: bool) -> None:
        """Take what the lanes say. Waits in small steps, so that an interrupt arrives."""
        while True:
            try:
                said = self._inbox.get(timeout=_STEP) if block else self._inbox.get_nowait()
            except queue.Empty:
                if not block:
                    return
                if not any(t.is_alive() for t in self._threads):
                    raise RuntimeError("the threads that ran the steps have ended without a word") from None
                continue
            block = False
            if isinstance(said, _Told):
                self._pass_on(said)
            else:
                self._in_lanes.discard(said.place)
                if said.error is not None:
                    raise said.error
                self._finished(said.place)

    def _pass_on(self, told: _Told) -> None:
        try:
            if self._on_progress is not None:
                told.context.run(self._on_progress, told.progress)
        except BaseException:
            self._interrupt()  # before the lane goes on
            raise
        finally:
            told.taken.set()

    def _finished(self, place: int) -> None:
        self._done += 1
        for after in self._next.get(place, ()):
            self._left[after].discard(place)
            if not self._left[after]:
                self._ready.append(after)
        self._ready.sort()

    def _stop(self, error: BaseException) -> None:
        """Interrupt the lanes and wait until they have put away what they were at. The error says what they left undone."""
        self._interrupt()
        began = time.monotonic()
        again = began + _AGAIN
        while self._at_work and (now := time.monotonic()) < began + _PATIENCE:
            if now >= again:
                self._interrupt(again=True)
                again = now + _AGAIN
            with contextlib.suppress(queue.Empty):
                said = self._inbox.get(timeout=_STEP)
                if isinstance(said, _Told):
                    said.taken.set()
        if isinstance(error, KeyboardInterrupt):
            for note in dict.fromkeys(self._undone):
                if note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
            brief(error)

    def _interrupt(self, *, again: bool = False) -> None:
        """Raise KeyboardInterrupt in every lane that is at work, once unless `again`; none begins anything from now on."""
        with self._lock:
            if self._stopping and not again:
                return
            self._stopping = True
            for identity in self._at_work:
                _raise_in(identity, KeyboardInterrupt)

    # -- the lanes ---------------------------------------------------------------------------------------------------------------------------

    def _lane(self) -> None:
        """One task after the other, until there is none."""
        while (place := self._todo.get()) is not None:
            self._inbox.put(_Ended(place, self._attempt(place)))
        self._todo.put(None)

    def _attempt(self, place: int) -> BaseException | None:
        """Do a task; what it raised."""
        try:
            self._enter()
            try:
                self._tasks[place].run(self._ask if self._on_progress is not None else None)
            finally:
                self._leave()
        except BaseException as raised:  # noqa: BLE001 — carried to the caller's thread, which raises it
            self._undone += getattr(raised, "__notes__", ()) if isinstance(raised, KeyboardInterrupt) else ()
            self._leave()  # the interrupt may have come just before it was done
            return raised
        return None

    def _enter(self) -> None:
        """From now on an interrupt may be raised in this lane."""
        with self._lock:
            if self._stopping:
                raise KeyboardInterrupt
            self._at_work.add(threading.get_ident())

    def _leave(self) -> None:
        """From now on nothing is raised in this lane: what was to be raised is not, although it may still be raised in here.

        An exception that is on its way is not taken back, but replaced by one that is awaited: once one was taken back, CPython 3.11 looks for it
        for ever, and under a profiler or debugger does nothing else.
        """
        while True:
            try:
                with self._lock:
                    self._at_work.discard(threading.get_ident())
                    if not self._stopping:
                        return
                while True:  # Python drops what is raised while a weak reference is cleared
                    _raise_in(threading.get_ident(), _Last)
                    time.sleep(0)
            except KeyboardInterrupt:
                continue
            except _Last:
                return

    def _ask(self, progress: Progress) -> None:
        """Progress from a lane. The lane goes on when it was passed on, and at once while the caller's thread is busy with a task of its own."""
        told = _Told(progress, contextvars.copy_context())
        self._inbox.put(told)
        while not told.taken.wait(_STEP) and not self._away:
            pass


class _Last(BaseException):
    """What a lane raises in itself, so that nothing else is on its way."""


def _raise_in(identity: int, what: type[BaseException]) -> None:
    """Have a thread raise an exception at its next bytecode, instead of one that it has not raised yet."""
    while True:
        with getattr(threading, "_active_limbo_lock", _none):
            if not _starting():
                raise_in(identity, what)
                return
        time.sleep(0)


_none = threading.Lock()
"""Where `threading` has no such lock there is nothing to wait for."""
_seen: dict[threading.Thread, float] = {}
"""Since when threads are known to be in the making. No weak references: what is raised while one is cleared is lost."""
_MAKING = 1.0
"""Seconds that a thread may take for it. One whose `start` was interrupted is said to be in the making for ever."""


def _starting() -> bool:
    """Whether any thread is in the making that CPython 3.11 knows, until it runs, by the identity of the one that makes it: an exception would end
    it before it has begun, and its maker would wait for it for ever."""
    if sys.version_info >= (3, 12):
        return False
    now = time.monotonic()
    making = {thread: _seen.get(thread, now) for thread in getattr(threading, "_limbo", ())}
    _seen.clear()
    _seen.update(making)
    return any(now - since < _MAKING for since in making.values())
