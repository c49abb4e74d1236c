"""One kernel at a time makes the index of a table; the others wait for it, and take what it made.

Two indexes of one table are waste and no error, so whatever is wrong with the turns keeps nobody from working, and nobody waits for ever for one that
was stopped.
"""

import contextlib
import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

_STEP = 0.05
_PERIOD = 1.0
"""Seconds between two words of whoever is at it."""
_SILENT = 60.0
"""Seconds without a word after which nobody waits any more."""


class Turn(Protocol):
    """A turn that this kernel has; it ends with the kernel."""

    def say(self, word: str) -> None:
        """Leave word for those who wait."""
        ...

    def release(self, *, forget: bool) -> None:
        """End it."""
        ...


class Turns(Protocol):
    """Where turns are had."""

    def turn(self, name: str) -> Turn | None:
        """A turn, or None while another kernel has it."""
        ...

    def heard(self, writer_id: str) -> tuple[float, str] | None:
        """The last word of who has the turn of that name, and how many seconds ago it was left."""
        ...


@contextlib.contextmanager
def alone(turns: Turns, table_name: str, patience: float, waiting: Callable[[int], None]) -> Iterator[Callable[[int], None]]:
    """A block in which no other kernel makes the index of a table, unless that one is silent or takes longer than `patience` seconds. It gives what
    those who wait are to be told: how many rows are in.

    `waiting` is called with what was heard while another kernel is at it. What it raises ends the waiting; KeyboardInterrupt.
    """
    name = "i" + hashlib.sha256(table_name.encode()).hexdigest()[:32]
    turn = _had(turns, name, patience, waiting)
    said = -math.inf

    def tell(done: int) -> None:
        nonlocal said
        if turn is not None and time.monotonic() - said >= _PERIOD:
            said = time.monotonic()
            with contextlib.suppress(Exception):  # a full disk, a server that is gone
                turn.say(str(done))

    try:
        tell(0)
        yield tell
    finally:
        if turn is not None:
            turn.release(forget=True)


def _had(turns: Turns, name: str, patience: float, waiting: Callable[[int], None]) -> Turn | None:
    """The turn; None when it is not waited for any longer."""
    pause, began = threading.Event(), time.monotonic()
    while True:
        try:
            turn = turns.turn(name)
        except Exception:  # noqa: BLE001  as above
            return None
        if turn is not None:
            return turn
        waited = time.monotonic() - began
        age, word = turns.heard(name) or (waited, "")
        waiting(int(word) if word.isdecimal() else 0)
        if age >= _SILENT or waited >= patience:
            return None
        pause.wait(_STEP)
