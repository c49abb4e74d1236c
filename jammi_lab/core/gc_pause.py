"""Garbage collection around passes and imports that make many objects and drop few."""

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from jammi_lab.core.interrupts import DeferInterrupts

_lock = threading.Lock()
_running = 0
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
    global _running, _was_enabled
    with _lock:
        if _running == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0 and _was_enabled:
                gc.enable()


@contextmanager
def import_modules() -> Iterator[None]:
    """Import modules in the block: interrupts wait for its end, and no garbage is collected.

    An extension module whose import was interrupted cannot be imported again in this process, and
    the lock of a module can stay held: every other importer would wait for ever. What modules
    define stays as long as they do, and the collector would go through it several times: 100 of
    the 600 ms of a kernel's first query. So it counts as old when the block ends: to freeze objects
    and release them moves them to the oldest generation without a look at any of them. Objects
    that a caller has frozen stay so.
    """
    with DeferInterrupts(), pause_gc():
        known = len(sys.modules)
        yield
        if len(sys.modules) > known and gc.get_freeze_count() == 0:
            gc.freeze()
            gc.unfreeze()
