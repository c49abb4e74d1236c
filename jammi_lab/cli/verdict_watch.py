"""The command `watch`: a line for each verdict that changes while it runs."""

import contextlib
import json
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jammi_lab.cli.printing import print_error
from jammi_lab.core.clock import SystemClock, rfc3339
from jammi_lab.core.errors import JammiError, WorkspaceNotFound
from jammi_lab.core.html import escape_invisible
from jammi_lab.core.verdicts import Fresh, grounds_of, marked_label, verdict_code
from jammi_lab.freshness.reports import count_recipes

if TYPE_CHECKING:
    from jammi_lab.freshness.reports import StatusRow

MIN_INTERVAL_SECONDS = 0.2
_NEW, _REMOVED = "new", "removed"


@dataclass(frozen=True)
class VerdictChange:
    """The verdict of one recipe before and after a change. A recipe is new or removed when one of
    them is missing."""

    before: "StatusRow | None"
    after: "StatusRow | None"
    at: str
    """When it was noticed, RFC 3339 with seconds."""

    @property
    def name(self) -> str:
        """The recipe."""
        row = self.after or self.before
        return "" if row is None else row.name

    @property
    def _clauses(self) -> list[str]:
        return [] if self.after is None else self.after.reasons or self.after.grounds

    def __str__(self) -> str:
        before, after = _word(self.before) or _NEW, _word(self.after) or _REMOVED
        because = f": {'; '.join(self._clauses)}" if self._clauses else ""
        return escape_invisible(f"{self.at} {self.name}: {before} → {after}{because}")

    def to_dict(self) -> dict[str, Any]:
        """The fields of a line of JSON; a verdict is None for a new or removed recipe."""
        before, after = self.before, self.after
        return {
            "at": self.at,
            "name": self.name,
            "before": None if before is None else verdict_code(before.verdict),
            "verdict": None if after is None else verdict_code(after.verdict),
            "version": None if after is None else after.version,
            "reasons": [] if after is None else after.reasons,
            "grounds": [] if after is None else after.grounds,
        }


class VerdictWatch:
    """The verdicts of a workspace, and how they change."""

    def __init__(self, ws: Any) -> None:
        self._ws, self._identity = ws, ws._services.file_identity()
        self._rows: dict[str, StatusRow] = {row.name: row for row in ws.status()}

    def changes(self) -> list[VerdictChange]:
        """The changes since the last call. JammiError, after which the next call finds them.
        WorkspaceNotFound when the workspace was removed or replaced."""
        try:
            rows = {row.name: row for row in self._ws.status()}
        finally:
            if self._ws._services.file_identity() != self._identity:
                raise WorkspaceNotFound(
                    f"The workspace {self._ws.path!r} was removed, moved or replaced."
                )
        earlier, self._rows = self._rows, rows
        at = rfc3339(SystemClock().now_ns())[:19] + "Z"
        return [
            VerdictChange(earlier.get(name), rows.get(name), at)
            for name in sorted(earlier.keys() | rows.keys())
            if _word(earlier.get(name)) != _word(rows.get(name))
        ]

    def has_problem(self, *, strict: bool) -> bool:
        """Whether a verdict is not fresh, or with `strict` relies on grounds."""
        verdicts = [row.verdict for row in self._rows.values()]
        return any(not isinstance(v, Fresh) or (strict and grounds_of(v)) for v in verdicts)

    def __str__(self) -> str:
        return count_recipes([*self._rows.values()])


def _word(row: "StatusRow | None") -> str | None:
    return None if row is None else marked_label(row.verdict)


def watch_verdicts(
    ws: Any, interval_seconds: float, *, as_json: bool, fail: bool, strict: bool
) -> bool:
    """Print each change until a signal ends it. With `fail` or `strict` until a verdict fails;
    returns whether one does. WorkspaceNotFound when the workspace was removed or replaced."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the workspace is closed first
    with contextlib.suppress(KeyboardInterrupt):
        watch = VerdictWatch(ws)
        print_error(f"Watching {ws.path}: {watch}. Ctrl+C ends it.")
        problem = ""
        while not ((fail or strict) and watch.has_problem(strict=strict)):
            time.sleep(max(interval_seconds, MIN_INTERVAL_SECONDS))
            try:
                changes, message = watch.changes(), ""
            except WorkspaceNotFound:
                raise
            except JammiError as error:  # the catalog is busy or unreachable: it may return
                changes, message = [], error.message
            if message and message != problem:
                print_error(message)
            problem = message
            for change in changes:
                text = json.dumps(change.to_dict(), ensure_ascii=False) if as_json else str(change)
                print(text, flush=True)
        return True
    return False
