"""The words of marks as a line below a cell, for front ends that draw no marks: VS Code and editors
of its kind, Colab. The line names outputs of earlier cells of the session that no longer hold; it
is displayed when it changes."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jammi_kernel_ext.display import Note
from jammi_kernel_ext.interruptible import display_output
from jammi_lab.core.errors import JammiError
from jammi_lab.core.thread_pool import JobQueue

if TYPE_CHECKING:
    from jammi_lab.features.outputs.stamps import Stamp
    from jammi_lab.workspace.workspace import Workspace

MAX_NAMED_CELLS = 3
CHECK_SECONDS = 0.5
"""How long a cell waits for the check; a line that comes later is displayed below a later cell."""


class MarksLine:
    """The outputs of a session, and the line about them."""

    def __init__(self) -> None:
        self._outputs: dict[str, dict[tuple[str, ...], Stamp]] = {}
        """The stamps by the digest of the text of their cell and by their tables."""
        self._cells: dict[object, str] = {}
        self._numbers: dict[str, int] = {}
        self._line = self._displayed = ""
        self._queue = JobQueue("jammi-marks-line")

    def cell_begins(self, cell: object, number: int, code: str) -> None:
        """Forget what a cell displayed when it ran before."""
        self._outputs.pop(self._cells.get(cell, code), None)
        self._outputs.pop(code, None)
        self._cells[cell], self._numbers[code] = code, number

    def note(self, stamp: "Stamp") -> None:
        """Remember an output."""
        tables = tuple(table.name for table in stamp.tables)
        if stamp.code in self._numbers:
            own = stamp.with_values(cell="")  # the line names the cell
            self._outputs.setdefault(stamp.code, {})[tables] = own

    def cell_ends(self, ws: "Workspace", code: str) -> None:
        """Display the line when it is another one than before."""
        stamps = [
            stamp
            for own, outputs in [*self._outputs.items()]
            if own != code
            for stamp in [*outputs.values()]
        ]

        def check() -> None:
            with contextlib.suppress(JammiError):  # the workspace is closed, or its catalog busy
                self._line = _line_of([*self._reasons(ws, stamps)])

        if not self._queue.busy:
            self._queue.put(check)
        self._queue.wait(CHECK_SECONDS)
        if self._line != self._displayed:
            self._displayed = self._line
            if self._line:
                display_output(Note(self._line))

    def _reasons(self, ws: "Workspace", stamps: "Sequence[Stamp]") -> Iterator[tuple[int, str]]:
        """The number of each cell whose outputs no longer hold, with the first reason."""
        from pathlib import Path

        from jammi_kernel_ext.marks import StampedOutput, changed_reasons
        from jammi_lab.workspace.stamp_checks import Shown, StampJudge, Workspaces

        judge = StampJudge(ws._services, lambda: None)
        stamps = [each for each in stamps if each.workspace == judge.workspace_id]
        shown = [Shown(Path(), None, stamp, stamp.rows) for stamp in stamps]
        found = Workspaces.with_judge(judge).check_each(shown)
        for each, entries, stamp in zip(shown, found, stamps, strict=True):
            output = StampedOutput("", each, ["*"])
            reason = next(changed_reasons(output, entries, judge), None)
            if reason is not None:
                yield self._numbers[stamp.code], reason.partition(". Run ")[0]


def _line_of(reasons: Sequence[tuple[int, str]]) -> str:
    cells = dict(reversed(reasons))
    named = [f"cell [{number}] ({cells[number]})" for number in sorted(cells)]
    if hidden := len(named) - MAX_NAMED_CELLS:
        named = [*named[:MAX_NAMED_CELLS], *([f"{hidden} more"] if hidden > 0 else [])]
    return f"≠ Out of date: {', '.join(named)}." if named else ""
