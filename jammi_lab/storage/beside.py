"""Work that is done beside what the caller does, on threads that wait for it: waking one takes a tenth of what starting one takes, and on a busy
machine, where a new thread waits for its turn, a hundredth. What a thread has of its own, a connection to the catalog say, is still there for its
next work.

They are daemons: the end of the process waits for none of them, and a forked child has none.
"""

import contextvars
import os
import sys
import threading
from collections.abc import Callable

Work = Callable[[], None]
IDLE = "jammi-idle"
"""What a thread is called that has nothing to do."""
_PATIENCE = 10.0
"""Seconds that a thread waits for its next work before it ends."""


class _Helper(threading.Thread):
    """One such thread, from its first work on."""

    def __init__(self, work: Work, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work: Work | None = work
        self._given = threading.Lock()
        start(self)

    def give(self, work: Work, name: str) -> None:
        """The next work of a thread that was idle."""
        self._work, self.name = work, name
        self._given.release()

    def run(self) -> None:
        """Work until there is none for a while."""
        self._given.acquire()
        while self._work is not None:
            work, self._work = self._work, None
            contextvars.Context().run(work)  # what it raises is told as that of any thread, and ends this one
            del work  # and with it whatever it holds
            self.name = IDLE
            _idle.append(self)
            if not self._given.acquire(timeout=_PATIENCE):
                try:
                    _idle.remove(self)
                except ValueError:
                    self._given.acquire()  # somebody has taken it from the list, and gives it work


_idle: list[_Helper] = []
os.register_at_fork(after_in_child=_idle.clear)


def start(thread: threading.Thread) -> None:
    """Start a thread. RuntimeError when there may be no more of them. KeyboardInterrupt, also where Python's own lock makes a RuntimeError of one
    that comes while it waits for the new thread."""
    try:
        thread.start()
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def begin(work: Work, name: str = "jammi-helper") -> None:
    """Begin a piece of work on another thread, which is called so meanwhile, in a context of its own.

    RuntimeError when there may be no more threads, and when the interpreter is ending: then none runs any more."""
    if sys.is_finalizing():
        raise RuntimeError("the interpreter is ending")
    try:
        helper = _idle.pop()
    except IndexError:
        _Helper(work, name)
    else:
        helper.give(work, name)
