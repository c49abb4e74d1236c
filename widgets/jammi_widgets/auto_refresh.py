"""Automatic refresh of visible panels after a cell has run in their kernel, or after a panel has
changed tables.

The refresh runs in a thread of its own, so that no cell waits for it.
"""

import threading
import time
import weakref
from typing import Any, Protocol

from jammi_lab.core.thread_pool import JobQueue
from jammi_widgets.saved_form import current_shell

REST_FACTOR = 3
"""Pause after a refresh, as a multiple of its duration. It bounds the cost of a slow workspace to a
quarter of the time, and lets a second change show soon after the first."""

MAX_READ_WAIT_SECONDS = 1.0
"""Maximum wait for the reads that a panel has queued during its refresh."""


class Refreshable(Protocol):
    """A panel that is refreshed automatically."""

    @property
    def is_followed(self) -> bool:
        """Whether a page shows the panel, which is to follow the workspace."""
        ...

    def refresh_quietly(self) -> bool:
        """Refresh, and show an error on the page. Returns False when the workspace is closed."""
        ...

    def wait_for_reads(self, timeout: float) -> None:
        """Wait until queued reads are done, at most that many seconds."""
        ...


_panels: weakref.WeakSet[Refreshable] = weakref.WeakSet()
_hooked_shells: weakref.WeakSet[Any] = weakref.WeakSet()
_lock = threading.Lock()
_pending: set[Refreshable] = set()
_queue = JobQueue("jammi-panel-follow")
_next_refresh_at = 0.0


def register_panel(panel: Refreshable) -> None:
    """Refresh the panel automatically until it or its workspace is closed. Without a kernel this
    has no effect."""
    shell = current_shell()
    with _lock:
        _panels.add(panel)
    if shell is not None and hasattr(shell, "kernel") and shell not in _hooked_shells:
        _hooked_shells.add(shell)
        shell.events.register("post_run_cell", schedule_refresh)


def schedule_refresh(*_: Any) -> None:
    """Schedule a refresh of all visible panels; several calls are combined into one refresh.
    Registered for `post_run_cell` and called after panel actions that change tables."""
    with _lock:
        visible = {panel for panel in _panels if panel.is_followed}
        if visible and not _pending:
            _queue.put(_refresh_pending)
        _pending.update(visible)


def _refresh_pending() -> None:
    global _next_refresh_at
    time.sleep(max(0.0, _next_refresh_at - time.monotonic()))
    with _lock:
        batch = set(_pending)
        _pending.clear()
    started = time.monotonic()
    for panel in batch:
        if panel.is_followed and not panel.refresh_quietly():
            with _lock:
                _panels.discard(panel)
        # reads it has queued count towards the duration
        panel.wait_for_reads(MAX_READ_WAIT_SECONDS)
    _next_refresh_at = time.monotonic() + REST_FACTOR * (time.monotonic() - started)
