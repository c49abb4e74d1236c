"""Freshness badges in front ends: shown at once when the verdict is known within 50 ms, else filled
in later. Outputs change later only in an interactive session. Tools that run notebooks unattended
(nbclient, nbval, `jupyter execute`, papermill) tell the kernel that it cannot request input; there,
and in scripts, a result waits for its badge, so that two runs produce the same output."""

import sys
from typing import TYPE_CHECKING, Any, Protocol

from jammi_kernel_ext.interruptible import display_output
from jammi_lab.core.html import Rendered, vstack

if TYPE_CHECKING:
    from jammi_lab.features.outputs.badge import Metadata, PendingBadge, UpdateDisplay
    from jammi_lab.workspace.result import Result
    from jammi_lab.workspace.result_table import ResultTable
    from jammi_lab.workspace.workspace import Workspace

MOMENT_SECONDS = 0.05
"""How long a result waits for its badge in an interactive session."""


class Host(Protocol):
    """What badges need of the notebook, whose module uses this one."""

    shell: Any
    loaded: bool

    @property
    def workspace(self) -> "Workspace":
        """The open workspace."""
        ...

    def setting(self, key: str) -> Any:
        """A cell setting."""
        ...


class Badges:
    """How long results wait for badges, and how late badges are displayed."""

    def __init__(self, notebook: Host) -> None:
        self._notebook = notebook

    def timeout(self) -> float | None:
        """How many seconds a result waits for its badge; None waits until it is known."""
        if self._notebook.setting("cells.badge") == "wait":
            return None
        return MOMENT_SECONDS if self.is_interactive() or self._is_terminal() else None

    def update_display(self) -> "UpdateDisplay | None":
        """The function that fills in a late badge; None where outputs cannot be updated, as in a
        terminal."""
        return _display_and_update if self.is_interactive() else None

    def show(self, result: "Result") -> None:
        """Display the badge above rows that display themselves: a frame or a chart."""
        self._show_pending(result._badge())

    def show_inputs(self, table: "ResultTable") -> "ResultTable":
        """Display which inputs of a table are not fresh, and return the table."""
        names = list(dict.fromkeys(each.name for each in table.inputs if each.kind_class.is_result))
        if names:
            self._show_pending(self._notebook.workspace._services.badges.request(names))
        return table

    def _show_pending(self, pending: "PendingBadge | None") -> None:
        if pending is None:
            return
        if (update_display := self.update_display()) is not None and not pending.wait():
            update_display(None, pending, lambda _: {})
        elif (form := pending.dated_rendering()) is not None:
            display_output(form.data, raw=True)

    def is_interactive(self) -> bool:
        """Whether a person looks at the outputs, which can be updated."""
        kernel = getattr(self._notebook.shell, "kernel", None)
        return self._notebook.loaded and kernel is not None and bool(kernel._allow_stdin)

    def _is_terminal(self) -> bool:
        return (
            self._notebook.loaded
            and hasattr(self._notebook.shell, "pt_app")
            and sys.stdin.isatty()
            and sys.stdout.isatty()
        )


def _display_and_update(
    body: Rendered | None, pending: "PendingBadge", metadata: "Metadata"
) -> None:
    """Display rows with a provisional badge, and update the output when the badge is known."""

    def current_bundle() -> dict[str, str]:
        badge = pending.dated_rendering()
        return vstack(badge, body).data if badge is not None or body is not None else {}

    shown = current_bundle()
    handle = display_output(shown, metadata=metadata(shown), raw=True, display_id=True)

    def update() -> None:
        shown = current_bundle()
        handle.update(shown, metadata=metadata(shown), raw=True)

    pending.add_done_callback(update)
