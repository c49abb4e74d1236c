"""Waiting that can be interrupted, and progress that shows only when something takes long."""

import contextlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jammi_lab.errors import brief
from jammi_lab.markup import visible

if TYPE_CHECKING:
    from jammi_lab.values.records import Progress

SILENT_SECONDS = 0.5
"""How long work may take before anything is said about it."""
BETWEEN_SECONDS = 0.2
"""The least time between two changes of what is said."""


@contextlib.contextmanager
def interruptible(what: str = "The statement") -> Iterator[None]:
    """A block in which ■ arrives as a KeyboardInterrupt and is shown as one line that says `what` was stopped; the cell fails, so that Run All stops.

    A cell with a top-level `await` has a handler of the kernel that only cancels the task; while the block runs, Python's own stands in.
    """
    before: Any = None
    if threading.current_thread() is threading.main_thread():
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as stop:
        brief(stop, what)
        raise
    finally:
        if before is not None and before is not signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


class ProgressLine:
    """A callable for `progress=`: one line in the cell, from half a second on, gone at the end.

    A kernel can take back what it has shown (`live`), and so can a `terminal` that somebody sits at, on its error stream; elsewhere nothing is said.
    An output is opened empty and only then filled, so that a comparison of notebooks, which does not see updates, finds nothing in it on slow
    machines either.
    """

    def __init__(self, live: bool, terminal: bool = False) -> None:
        self._live, self._terminal = live or terminal, terminal
        self._handle: Any = None
        self.restart()

    def restart(self) -> None:
        """Count from now, below whatever the cell has shown so far."""
        self.clear()
        self._began = self._said = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        now = time.monotonic()
        if not self._live or now - self._began < SILENT_SECONDS or now - self._said < BETWEEN_SECONDS:
            return
        self._said = now
        self._show({"text/plain": f"{sentence(progress)}, {now - self._began:.0f} s"})

    def _show(self, data: dict[str, str]) -> None:
        if self._terminal:
            self._handle = sys.stderr
            said = visible(data.get("text/plain", ""))[: max(shutil.get_terminal_size().columns - 1, 1)]
            with contextlib.suppress(OSError, ValueError):  # it may be closed by now
                sys.stderr.write(f"\r{said}\033[K")
                sys.stderr.flush()
            return
        from IPython.display import display

        if self._handle is None:
            self._handle = display({}, raw=True, display_id=True)
        self._handle.update(data, raw=True)

    def clear(self) -> None:
        """Take back what was said."""
        if self._handle is not None:
            self._show({})
            self._handle = None


@contextlib.contextmanager
def told(line: ProgressLine) -> Iterator[None]:
    """A block of work that may speak through the line, which is blank again after it; interruptible."""
    line.restart()
    try:
        with interruptible():
            yield
    finally:
        line.clear()


def sentence(progress: "Progress") -> str:
    """What is said of work that goes on: `materialize top_venues: 1,200,000 of 3,000,000 rows (40 %)`."""
    if not progress.done and (progress.unit == "percent" or not progress.total):
        return f"{progress.stage} …"
    if progress.unit == "percent":
        return f"{progress.stage}: {progress.done} %"
    if not progress.total:
        return f"{progress.stage}: {progress.done:,} {progress.unit}"
    share = 100 * progress.done // progress.total
    return f"{progress.stage}: {progress.done:,} of {progress.total:,} {progress.unit} ({share} %)"
