"""Panels that a page shows look again when a cell of their kernel has run, or a panel has made tables: it may have changed what they show.

The look is taken in a thread of its own, so that no cell waits for it; the thread ends when nothing is left to look at.
"""

import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jammi_widgets.panel import Panel

REST = 9
"""So many times as long as the last looks took, none is taken: a workspace that is slow to look at costs a tenth of the kernel's time at most."""

MOMENT = 1.0
"""Seconds: what takes longer to read is not read for a look."""

_panels: "weakref.WeakSet[Panel]" = weakref.WeakSet()
_heard: "weakref.WeakSet[Any]" = weakref.WeakSet()
_lock = threading.Lock()
_waiting: "set[Panel]" = set()
_thread: threading.Thread | None = None
_rested_at = 0.0


def begin(panel: "Panel") -> None:
    """From now on, until it is closed or its workspace is. Where there is no kernel nothing happens."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    with _lock:
        _panels.add(panel)
    if shell is not None and hasattr(shell, "kernel") and shell not in _heard:
        _heard.add(shell)
        shell.events.register("post_run_cell", cell_ran)


def cell_ran(*_: Any) -> None:
    """On `post_run_cell`, and after what a panel has made: what is shown is looked at again, once for all that has run by then."""
    global _thread
    with _lock:
        shown = {panel for panel in _panels if panel._views and panel.follow}
        _waiting.update(shown)
        if shown and _thread is None:
            _thread = threading.Thread(target=_look, name="jammi-panel-follow", daemon=True)
            _thread.start()


def _look() -> None:
    global _thread, _rested_at
    try:
        while True:
            with _lock:
                if not _waiting:
                    _thread = None
                    return
            time.sleep(max(0.0, _rested_at - time.monotonic()))
            with _lock:
                now = set(_waiting)
                _waiting.clear()
            began = time.monotonic()
            for panel in now:
                if panel._views and not panel._look_again():
                    with _lock:
                        _panels.discard(panel)
                panel._later.wait(MOMENT)  # what it began to read is part of the look
            _rested_at = time.monotonic() + REST * (time.monotonic() - began)
    except BaseException:
        with _lock:
            _thread = None
        raise
