"""Imports of modules that neither an interrupt nor a fork may cut in two."""

import logging  # noqa: F401  see the end
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from jammi_lab.core.interrupts import DeferInterrupts

FORK_WAIT_SECONDS = 10.0
"""How long a fork waits for the imports of other threads."""
_changed = threading.Condition()
_imports = Counter[int]()
"""How many blocks that import modules each thread is in, by identity."""


@contextmanager
def import_modules() -> Iterator[None]:
    """Import modules in the block: interrupts wait for its end.

    An extension module whose import was interrupted cannot be imported again in this process, and
    the lock of a module can stay held: every other importer would wait for ever. A fork waits for
    the end of the block: in the child nobody would release the locks of its modules.
    """
    thread = threading.get_ident()
    with DeferInterrupts():
        with _changed:
            _imports[thread] += 1
        try:
            yield
        finally:
            with _changed:
                _imports[thread] -= 1
                _changed.notify_all()


def _before_fork() -> None:
    """Wait until no other thread imports modules, and let none begin before the fork."""
    _changed.acquire()
    _changed.wait_for(lambda: not _threads_that_import(), FORK_WAIT_SECONDS)


def _threads_that_import() -> list[int]:
    """The other threads in such a block."""
    own = threading.get_ident()
    return [thread for thread, blocks in _imports.items() if blocks and thread != own]


def _after_fork_in_parent() -> None:
    _changed.release()


def _after_fork_in_child() -> None:
    """Forget the blocks of other threads in a forked child, where they never end."""
    global _changed
    _changed = threading.Condition()
    for thread in _threads_that_import():
        del _imports[thread]


# What is registered last runs first. `logging` holds its lock during a fork, too, and a module that
# is imported may want it: so it must have registered before.
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
