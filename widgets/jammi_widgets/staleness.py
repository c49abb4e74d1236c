"""The staleness board: every recipe with its verdict, why, since when, and what mending it costs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import traitlets

from jammi_lab import forms
from jammi_lab.errors import TableNotFound
from jammi_lab.markup import Form, seconds, size, visible
from jammi_lab.names import near
from jammi_lab.sensing.reports import Plan, Status
from jammi_lab.values.records import RunStep, Step
from jammi_widgets import assets, protocol
from jammi_widgets.lines import Line, looked
from jammi_widgets.panel import Panel
from jammi_widgets.watching import Watch
from jammi_widgets.work import Report

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace

MOST_REASONS = 3
"""Reasons that stand in a row; the lineage tells all of them."""


class StalenessBoard(Panel):
    """All recipes with verdicts; chosen ones are planned or recomputed from here.

    `selection` holds the chosen recipes, `filter` what names, reasons and verdicts are searched for. `watch`: seconds between looks that the board
    takes by itself; 0, the default, is none.
    """

    _esm = assets.module("staleness")
    _css = assets.style()
    _kinds: ClassVar[Any] = protocol.Open | protocol.Refresh | protocol.Rows | protocol.ChooseAll | protocol.Act | protocol.Cancel
    _shared = (protocol.Refresh, protocol.Rows)
    _aside = (protocol.Refresh,)

    watch = traitlets.Float(0.0, min=0.0, max=86_400.0).tag(sync=True)
    """Seconds between looks that the board takes by itself; 0 for none."""

    def __init__(self, ws: "Workspace", *, watch: float = 0.0) -> None:
        self._lines = looked(ws, ws.status())
        self._asked = protocol.Rows(v=1, ask=0)
        super().__init__(ws)
        self._watch = Watch(self._look_again)
        self.observe(self._watched, names="watch")
        self.observe(self._filtered, names="filter")
        self.watch = watch

    def refresh(self) -> None:
        """Look again."""
        with self._as_bound():
            self._look()
        self._told()

    def _look(self) -> None:
        """See what there is; what is gone is chosen no more."""
        self._lines = looked(self._ws, self._ws.status())
        if gone := set(self.selection) - self._lines.names:
            self.selection = [name for name in self.selection if name not in gone]

    def _end(self) -> None:
        self._watch.every(0)

    @traitlets.validate("selection")
    def _chosen(self, proposal: dict[str, Any]) -> list[str]:
        there = self._lines.names
        for name in proposal["value"]:
            if name not in there:
                raise TableNotFound(f"There is no recipe {name!r} here.", near=near(name, sorted(there)))
        return list(proposal["value"])

    def _there(self, names: list[str]) -> list[str]:
        return [name for name in names if name in self._lines.names]

    def _watched(self, change: dict[str, Any]) -> None:
        self._watch.every(change["new"])

    def _filtered(self, _: Any) -> None:
        self._asked = msgspec.structs.replace(self._asked, offset=0)
        self._told()

    def _look_quietly(self) -> None:
        before = self._lines.told()
        self._look()
        if self._lines.told() != before:
            self._told()

    def _told(self) -> None:
        self._tell({"kind": "changed", "body": self._page(self._asked)})

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Rows():
                self._asked = message
            case protocol.Refresh():
                self._look()
            case protocol.ChooseAll():
                found = self._lines.found(self.filter, self._asked.group)
                self.selection = [line.row.name for line in found if line.word != "fresh"]
                return {}
        return self._page(self._asked)

    def _page(self, asked: protocol.Rows) -> dict[str, Any]:
        """The rows that a page shows, with what there is in all."""
        lines = self._lines
        found = lines.found(self.filter, asked.group, asked.sort, descending=asked.descending)
        offset = asked.offset if asked.offset < len(found) else 0
        return {
            "rows": [_told_row(line) for line in found[offset : offset + asked.limit]],
            "found": len(found),
            "total": len(lines.all),
            "offset": offset,
            "sort": asked.sort,
            "descending": asked.descending,
            "counts": lines.counts,
            "causes": lines.causes(self.filter),
            "group": asked.group,
        }

    def _act(self, action: str, names: list[str], report: Report) -> dict[str, Any]:
        if gone := [n for n in names if n not in self._lines.names]:
            raise TableNotFound(f"There is no recipe {gone[0]!r} here any more.", hint="Refresh the board.")
        if action == "plan":
            return _planned(self._ws.plan(names, progress=False))
        if action == "recompute":
            try:
                run = self._ws.recompute(names, progress=report)
            finally:
                self.refresh()
            return {"lines": [_ran(step) for step in run.steps] or ["Nothing had to be done."], "deviations": [visible(d) for d in run.deviations]}
        return super()._act(action, names, report)

    def _form(self) -> Form:
        return Status([line.row for line in self._lines.all])._form()


def _told_row(line: Line) -> dict[str, Any]:
    shown = line.reasons[:MOST_REASONS] + ([f"and {len(line.reasons) - MOST_REASONS:,} more"] if len(line.reasons) > MOST_REASONS else [])
    return {
        "name": line.row.name,
        "version": line.row.version,
        "verdict": line.word,
        "reasons": shown,
        "rows": "" if line.row.rows is None else f"{line.row.rows:,}",
        "size": size(line.row.bytes),
        "index": f"index {line.row.index}" if line.row.index else "",
        "age": ago(line.row.age),
        "cost": "" if line.cost is None else seconds(line.cost),
    }


def ago(age: float | None) -> str:
    """How long ago, in the largest unit that is full: `3 h`."""
    if age is None:
        return ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if age >= length:
            return f"{age // length:.0f} {unit}"
    return f"{age:.0f} s"


def _planned(plan: Plan) -> dict[str, Any]:
    def told(steps: Sequence[Step]) -> list[list[str]]:
        return [[s.name, "; ".join(visible(str(r)) for r in s.reasons), "" if s.seconds is None else seconds(s.seconds)] for s in steps]

    bounds = f"{seconds(plan.seconds_at_least)} to {seconds(plan.seconds_at_most)} by past runs"
    parts = [
        ["must run", told(plan.certain)],
        ["run unless what is above comes out equal", told([s for s in plan.possible if s.reasons])],
        ["run because they were chosen, though it cannot be decided whether they hold", told([s for s in plan.possible if not s.reasons])],
        ["answered by a ready table", told(plan.reused)],
    ]
    return {"plan": [p for p in [*parts, ["cannot run from here", told(plan.blocked)]] if p[1]], "bounds": bounds, "left": list(plan.left_out)}


def _ran(step: RunStep) -> str:
    return f"{step.name}: {forms.outcome(step).replace(': ', ', ')}" + (f", {visible(step.error)}" if step.error else "")
