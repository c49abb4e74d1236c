"""How the badge above a result reaches a front end: at once when it is known within a moment, else filled in when it is.

Only where somebody looks on is anything shown that changes later. Who runs a notebook without a person (nbclient, nbval, `jupyter execute`,
papermill) tells the kernel that nobody can be asked for input; there, and in scripts, a result waits for its badge, and two runs show the same.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jammi_lab.markup import Form, plain, stack
from jammi_lab.values.anchors import InputKind

if TYPE_CHECKING:
    from jammi_kernel_ext.notebook import Notebook
    from jammi_lab.handles import ResultTable
    from jammi_lab.noticing import Later, Notice
    from jammi_lab.result import Result

MOMENT_SECONDS = 0.05
"""How long a result waits for its badge where somebody looks on."""


class Badges:
    """Knows who looks on."""

    def __init__(self, notebook: "Notebook") -> None:
        self._notebook = notebook

    def patience(self) -> float | None:
        """For how many seconds a result waits for its badge; None is until it is known."""
        if self._notebook.setting("cells.badge") == "wait":
            return None
        return MOMENT_SECONDS if self._looked_on() or self._in_a_terminal() else None

    def later(self) -> "Later | None":
        """How a late badge is filled in; a terminal cannot change what it has shown."""
        return _filled_in if self._looked_on() else None

    def _looked_on(self) -> bool:
        kernel = getattr(self._notebook.shell, "kernel", None)
        return self._notebook.loaded and kernel is not None and bool(kernel._allow_stdin)

    def _in_a_terminal(self) -> bool:
        return self._notebook.loaded and hasattr(self._notebook.shell, "pt_app") and sys.stdin.isatty() and sys.stdout.isatty()


def above(notebook: "Notebook", result: "Result") -> None:
    """Say the badge of rows that show themselves: a frame, a chart."""
    _say(result._notice(), notebook.badges.later())


def above_made(notebook: "Notebook", table: "ResultTable") -> "ResultTable":
    """The table, above which is said which of the tables that it was made from are not fresh."""
    names = list(dict.fromkeys(each.name for each in table.inputs if each.kind is InputKind.RESULT))
    if names:
        _say(notebook.workspace._noticing.notice(names), notebook.badges.later())
    return table


def above_reused(table: "ResultTable") -> None:
    """Say that a table was there already, above the frame that it is shown as."""
    _display()(_bundle(plain(f"{table.name}, version {table.version}: reused")), raw=True)


def _say(notice: "Notice | None", later: "Later | None") -> None:
    if notice is None:
        return
    if later is not None and not notice.settled():
        later(None, notice)
    elif (form := notice.form()) is not None:
        _display()(_bundle(form), raw=True)


def _filled_in(body: Form | None, notice: "Notice") -> None:
    """Show rows with the word that they were not checked, and again when they were."""

    def whole() -> dict[str, str]:
        badge = notice.form()
        return _bundle(stack(badge, body)) if badge is not None or body is not None else {}

    handle = _display()(whole(), raw=True, display_id=True)
    notice.then(lambda: handle.update(whole(), raw=True))


def _bundle(form: Form) -> dict[str, str]:
    return {"text/plain": form.text, "text/html": form.html}


def _display() -> Callable[..., Any]:
    from IPython.display import display

    show: Callable[..., Any] = display
    return show
