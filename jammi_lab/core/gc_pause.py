"""Garbage collection around passes and imports that make many objects and drop few."""

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from jammi_lab.core.interrupts import DeferInterrupts

FORK_WAIT_SECONDS = 10.0
"""How long a fork waits for the imports of other threads."""
_changed = threading.Condition()
_pauses: dict[int, int] = {}
"""How many blocks each thread is in, by identity, during which nothing is collected."""
_imports: dict[int, int] = {}
"""How many of those blocks import modules."""
_was_enabled = False


@contextmanager
def pause_gc() -> Iterator[None]:
    """Do not look for cycles of objects while the block runs.

    A pass over a workspace makes some twenty objects that stay for each table, and no cycles. Each
    time their number has grown by a quarter, the collector would go over all objects of the
    kernel, and find nothing: 40 % of a first status of 20,000 tables. Only a bounded pass runs in
    such a block; memory is still freed by reference counts, as always. The collector is global to
    the process, so the last of several blocks turns it on again; a caller's own `gc.disable()`
    stays.
    """
    global _was_enabled
    with _changed:
        if not _pauses:
            _was_enabled = gc.isenabled()
            gc.disable()
        _enter(_pauses)
    try:
        yield
    finally:
        with _changed:
            _leave(_pauses)
            _resume()


@contextmanager
def import_modules() -> Iterator[None]:
    """Import modules in the block: interrupts wait for its end, and no garbage is collected.

    An extension module whose import was interrupted cannot be imported again in this process, and
    the lock of a module can stay held: every other importer would wait for ever. What modules
    define stays as long as they do, and the collector would go through it several times: 100 of
    the 600 ms of a kernel's first query. So it counts as old when the block ends: to freeze objects
    and release them moves them to the oldest generation without a look at any of them. Objects
    that a caller has frozen stay so. A fork waits for the end of the block: in the child nobody
    would release the locks of its modules.
    """
    with DeferInterrupts(), pause_gc(), _counted_import():
        known = len(sys.modules)
        yield
        if len(sys.modules) > known and gc.get_freeze_count() == 0:
            gc.freeze()
            gc.unfreeze()


@contextmanager
def _counted_import() -> Iterator[None]:
    with _changed:
        _enter(_imports)
    try:
        yield
    finally:
        with _changed:
            _leave(_imports)
            _changed.notify_all()


def _enter(blocks: dict[int, int]) -> None:
    thread = threading.get_ident()
    blocks[thread] = blocks.get(thread, 0) + 1


def _leave(blocks: dict[int, int]) -> None:
    thread = threading.get_ident()
    blocks[thread] -= 1
    if not blocks[thread]:
        del blocks[thread]


def _resume() -> None:
    if not _pauses and _was_enabled:
        gc.enable()


def _before_fork() -> None:
    """Wait until no other thread imports modules, and let none begin before the fork."""
    _changed.acquire()
    own = {threading.get_ident()}
    _changed.wait_for(lambda: _imports.keys() <= own, FORK_WAIT_SECONDS)


def _after_fork_in_parent() -> None:
    _changed.release()


def _after_fork_in_child() -> None:
    """Forget the blocks of other threads in a forked child, where they never end."""
    global _changed
    _changed = threading.Condition()
    own = threading.get_ident()
    for blocks in (_pauses, _imports):
        for thread in [thread for thread in blocks if thread != own]:
            del blocks[thread]
    _resume()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
