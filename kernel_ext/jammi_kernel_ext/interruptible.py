"""Interruptible blocks, and a progress line that appears only for slow work."""

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import shorten_interrupt
from jammi_lab.core.interrupts import raise_interrupts

if TYPE_CHECKING:
    from jammi_lab.core.records import Progress

PROGRESS_DELAY_SECONDS = 0.5
"""Delay before progress is shown."""
UPDATE_INTERVAL_SECONDS = 0.2
"""Minimum time between two updates of the progress line."""


@contextlib.contextmanager
def interruptible(what: str = "The statement") -> Iterator[None]:
    """A block in which an interrupt (■) raises KeyboardInterrupt, shown as one line that says
    `what` was stopped. The cell fails, so that Run All stops."""
    try:
        with raise_interrupts():
            yield
    except KeyboardInterrupt as stop:
        shorten_interrupt(stop, what)
        raise


class ProgressLine:
    """A callable for `progress=`: one line in the cell, shown after half a second and cleared at
    the end.

    Progress is shown only where it can be removed again: in a kernel (`live`) and on the error
    stream of an interactive `terminal`. An output is created empty and then updated, because tools
    that compare notebooks ignore updates: slow machines produce the same outputs.
    """

    def __init__(self, live: bool, terminal: bool = False) -> None:
        self._live, self._terminal = live or terminal, terminal
        self._handle: Any = None
        self._expected_messages = _sent_messages() if live else 0
        self.restart()

    def restart(self) -> None:
        """Restart the timer, and place the line below the cell's output so far."""
        self.clear()
        self._started_at = self._updated_at = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        now = time.monotonic()
        if (
            not self._live
            or now - self._started_at < PROGRESS_DELAY_SECONDS
            or now - self._updated_at < UPDATE_INTERVAL_SECONDS
        ):
            return
        self._updated_at = now
        self._show({"text/plain": f"{progress_sentence(progress)}, {now - self._started_at:.0f} s"})

    def announce(self, text: str) -> None:
        """Show at once what begins, where progress is shown."""
        if self._live:
            self._show({"text/plain": text})

    def _show(self, data: dict[str, str]) -> None:
        if self._terminal:
            from jammi_lab.core.html import escape_invisible  # 5 ms of each `%load_ext`

            self._handle = sys.stderr
            text = escape_invisible(data.get("text/plain", ""))[
                : max(shutil.get_terminal_size().columns - 1, 1)
            ]
            with contextlib.suppress(OSError, ValueError):  # the stream may be closed
                sys.stderr.write(f"\r{text}\033[K")
                sys.stderr.flush()
            return
        if self._handle is None:
            self._handle = display_output({}, raw=True, display_id=True)
            self._expected_messages += 1
        self._handle.update(data, raw=True)
        self._expected_messages += 1

    def clear(self) -> None:
        """Clear the progress line. Its output goes where the cell has no other, and is empty
        elsewhere: a front end can only clear all outputs of a cell."""
        if self._handle is None:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        if self._terminal or self._expected_messages != _sent_messages():
            self._show({})
        else:
            from IPython.display import clear_output

            clear_output()
            self._expected_messages += 1
        self._handle = None


def display_output(value: Any, **options: Any) -> Any:
    """Display a value as an output of the running cell. Returns its handle, for a `display_id`."""
    from IPython.display import display  # 5 ms of each `%load_ext`

    return display(value, **options)


def _sent_messages() -> int:
    """The number of messages that the kernel has sent."""
    from IPython import get_ipython

    return int(get_ipython().kernel.session.message_count)


@contextlib.contextmanager
def interruptible_progress(line: ProgressLine) -> Iterator[None]:
    """An interruptible block that reports progress on the line, which is cleared afterwards."""
    line.restart()
    try:
        with interruptible():
            yield
    finally:
        line.clear()


def progress_sentence(progress: "Progress") -> str:
    """Format progress as text: `materialize top_venues: 1,200,000 of 3,000,000 rows (40 %)`."""
    if not progress.done and (progress.unit == "percent" or not progress.total):
        return f"{progress.stage} …"
    if progress.unit == "percent":
        return f"{progress.stage}: {progress.done} %"
    if not progress.total:
        return f"{progress.stage}: {progress.done:,} {progress.unit}"
    share = 100 * progress.done // progress.total
    return f"{progress.stage}: {progress.done:,} of {progress.total:,} {progress.unit} ({share} %)"
