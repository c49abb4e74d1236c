"""A lock between kernels: one builds the index of a table, the others wait and load its result.

Building an index twice wastes time and is no error. So a failing lock never prevents a build, and
nobody waits for ever for a kernel that was stopped.
"""

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from jammi_lab.core.interrupts import attempts

if TYPE_CHECKING:
    from jammi_lab.catalog.writer_locks import Lock
    from jammi_lab.catalog.writers import Writers

REPORT_SECONDS = 1.0
"""Interval between two progress messages of the builder."""
STALE_BUILDER_SECONDS = 60.0
"""A builder without a message for this long is no longer waited for."""


@contextlib.contextmanager
def exclusive_build(
    locks: "Writers", table_name: str, timeout: float, report_waiting: Callable[[int], None]
) -> Iterator[Callable[[int], None]]:
    """Run a block as the only kernel that builds the index of a table. Yields a callback for the
    number of rows done.

    Another builder is not waited for when it is silent or takes longer than `timeout` seconds; the
    block then runs without the lock. While waiting, `report_waiting` gets the other builder's
    number of rows; an exception that it raises ends the wait. Raises KeyboardInterrupt.
    """
    name = "i" + hashlib.sha256(table_name.encode()).hexdigest()[:32]
    lock = _acquire(locks, name, timeout, report_waiting)
    last_report = -math.inf

    def report_progress(done: int) -> None:
        nonlocal last_report
        if lock is not None and time.monotonic() - last_report >= REPORT_SECONDS:
            last_report = time.monotonic()
            with contextlib.suppress(Exception):  # a full disk, an unreachable server
                lock.write_note(str(done))

    try:
        report_progress(0)
        yield report_progress
    finally:
        if lock is not None:
            lock.release(remove=True)


def _acquire(
    locks: "Writers", name: str, timeout: float, report_waiting: Callable[[int], None]
) -> "Lock | None":
    """Wait for the lock; None when waiting was given up."""
    started_at = time.monotonic()
    for _ in attempts(timeout):
        try:
            lock = locks.try_acquire_named(name)
        except Exception:  # noqa: BLE001  as above
            return None
        if lock is not None:
            return lock
        waited_seconds = time.monotonic() - started_at
        age, note = locks.read_note(name) or (waited_seconds, "")
        report_waiting(int(note) if note.isdecimal() else 0)
        if age >= STALE_BUILDER_SECONDS:
            return None
    return None
