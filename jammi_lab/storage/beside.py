"""Work that is done beside what the caller does, on threads that wait for it: waking one takes a tenth of what starting one takes, and on a busy
machine, where a new thread waits for its turn, a hundredth.

They are no `threading.Thread`s: the end of the process waits for none of them, and a forked child has none.
"""

import _thread
import os
from collections.abc import Callable

Work = Callable[[], None]
_PATIENCE = 10.0
"""Seconds that a thread waits for its next work before it ends."""


class _Helper:
    """One such thread, from its first work on."""

    def __init__(self, work: Work) -> None:
        self._work: Work | None = work
        self._given = _thread.allocate_lock()
        _thread.start_new_thread(self._run, ())

    def give(self, work: Work) -> None:
        """The next work of a thread that was idle."""
        self._work = work
        self._given.release()

    def _run(self) -> None:
        self._given.acquire()
        while self._work is not None:
            work, self._work = self._work, None
            work()  # what it raises is told as that of any thread, and ends this one
            del work  # and with it whatever it holds
            _idle.append(self)
            if not self._given.acquire(timeout=_PATIENCE):
                try:
                    _idle.remove(self)
                except ValueError:
                    self._given.acquire()  # somebody has taken it from the list, and gives it work


_idle: list[_Helper] = []
os.register_at_fork(after_in_child=_idle.clear)


def begin(work: Work) -> None:
    """Begin a piece of work on another thread. RuntimeError when there may be no more threads."""
    try:
        helper = _idle.pop()
    except IndexError:
        _Helper(work)
    else:
        helper.give(work)
