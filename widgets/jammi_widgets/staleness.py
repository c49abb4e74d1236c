"""The staleness board: every recipe with its verdict, reasons, age and cost of recomputation."""

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import traitlets

from jammi_lab.core.errors import TableNotFound
from jammi_lab.core.html import Rendered, escape_invisible, format_bytes, format_seconds
from jammi_lab.core.identifiers import near_names
from jammi_lab.core.records import RunStep
from jammi_lab.core.verdicts import Verdict, marked_label
from jammi_lab.freshness import reports
from jammi_lab.freshness.reports import Plan, RunReport
from jammi_widgets import assets, protocol
from jammi_widgets.action_runner import ProgressCallback
from jammi_widgets.board_rows import RecipeRow, build_rows
from jammi_widgets.diff import DiffView
from jammi_widgets.node_details import check_details, step_lines
from jammi_widgets.panel import Panel

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace


MAX_REASONS = 3
"""Maximum number of reasons in a row; the lineage graph shows all of them."""


class StalenessBoard(Panel):
    """All recipes with their verdicts; selected ones can be planned or recomputed.

    `selection` holds the selected recipes; `filter` is searched in names, reasons and verdicts.
    """

    _shows_verdicts = True
    _esm = assets.module("staleness")
    _follows_changes = True

    shown_changes = traitlets.Int(0)
    """How often what the board shows has changed."""

    def __init__(self, ws: "Workspace") -> None:
        self._rows = build_rows(ws, ws.status())
        self._page_request = protocol.Rows(v=1, ask=0)
        super().__init__(ws)
        self.observe(self._on_filter_change, names="filter")

    def _reload(self) -> bool:
        """Load the verdicts; removed recipes leave the selection."""
        previous, self._rows = self._rows, build_rows(self._ws, self._ws.status())
        has_changed = self._rows.displayed_state() != previous.displayed_state()
        self.shown_changes += has_changed
        self.selection = self._selectable_names(self.selection)
        return has_changed

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> list[str]:
        recipe_names = self._rows.names
        for name in proposal["value"]:
            if name not in recipe_names:
                raise TableNotFound(
                    f"There is no recipe {name!r} here.",
                    near=near_names(name, sorted(recipe_names)),
                )
        return list(proposal["value"])

    def _selectable_names(self, names: list[str]) -> list[str]:
        return [name for name in names if name in self._rows.names]

    def _on_filter_change(self, _: Any) -> None:
        self._page_request = msgspec.structs.replace(self._page_request, offset=0)
        self._send_body()

    @property
    def counts(self) -> dict[str, int]:
        """The number of recipes by verdict, the most severe first."""
        return self._rows.counts

    def reveal(self, name: str) -> None:
        """Turn to the page with this row, if the filter leaves it, and scroll to it."""
        offset = self._page_offset(name, self._page_request)
        if offset is None:
            return
        if offset != self._page_request.offset:
            self._page_request = msgspec.structs.replace(self._page_request, offset=offset)
            self._send_body()
        self._send_message({"kind": "reveal", "name": name})

    def _page_offset(self, name: str, request: protocol.Rows) -> int | None:
        """The first row of the page with this row; None if the filter leaves no such row."""
        rows = self._rows.matching_rows(
            self.filter, request.group, request.sort, descending=request.descending
        )
        place = next((at for at, row in enumerate(rows) if row.row.name == name), None)
        return None if place is None else place // request.limit * request.limit

    # -- messages
    # ----------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any] | None:
        match message:
            case protocol.Rows(at_selection=True) if self.selection:
                offset = self._page_offset(self.selection[0], message) or message.offset
                self._page_request = msgspec.structs.replace(message, offset=offset)
                return self._body() | {"reveal": self.selection[0]}
            case protocol.Rows():
                self._page_request = message
            case protocol.ChooseAll():
                matches = self._rows.matching_rows(self.filter, self._page_request.group)
                self.selection = [row.row.name for row in matches if row.verdict_word != "fresh"]
                return {}
            case protocol.ShowDifference(node=name):
                return self._open_inner(DiffView(self._ws, name))
            case protocol.Details(node=name):
                return {"name": name, "checks": check_details(self._ws.table(name).checks)}
        return None

    def _body(self) -> dict[str, Any]:
        """A page of rows as a message, with totals."""
        rows, request = self._rows, self._page_request
        matches = rows.matching_rows(
            self.filter, request.group, request.sort, descending=request.descending
        )
        offset = request.offset if request.offset < len(matches) else 0
        return {
            "rows": [_row_message(row) for row in matches[offset : offset + request.limit]],
            "found": len(matches),
            "total": len(rows.rows),
            "checks": rows.has_checks,
            "offset": offset,
            "sort": request.sort,
            "descending": request.descending,
            "counts": rows.counts,
            "causes": rows.causes(self.filter),
            "group": request.group,
        }

    def _act(self, action: str, names: list[str], report: ProgressCallback) -> dict[str, Any]:
        if missing := [n for n in names if n not in self._rows.names]:
            raise TableNotFound(
                f"The recipe {missing[0]!r} no longer exists.", hint="Refresh the board."
            )
        if action == "plan":
            return _plan_message(self._ws.plan(names, progress=False))
        if action == "recompute":
            began = time.monotonic()
            try:
                run = self._ws.recompute(names, progress=report)
            finally:
                self.refresh()
            unfinished = {*run.failed, *run.rejected}
            self.selection = [name for name in self.selection if name in unfinished]
            return {
                "summary": _run_summary(run, time.monotonic() - began),
                "steps": [_step_cells(step) for step in run.steps],
                "lines": step_lines(run),
                "deviations": [escape_invisible(d) for d in run.deviations],
            }
        return super()._act(action, names, report)

    def _shown_verdicts(self) -> list[tuple[str, int, Verdict]]:
        rows = [each.row for each in self._rows.rows]
        return [(r.name, r.version, r.verdict) for r in rows if r.version is not None]

    def _rendered(self) -> Rendered:
        return reports.status_board([row.row for row in self._rows.rows])


def _row_message(row: RecipeRow) -> dict[str, Any]:
    reasons = row.reasons[:MAX_REASONS] + (
        [f"and {len(row.reasons) - MAX_REASONS:,} more"] if len(row.reasons) > MAX_REASONS else []
    )
    return {
        "name": row.row.name,
        "version": row.row.version,
        "verdict": marked_label(row.row.verdict),
        "reasons": reasons,
        "rows": "" if row.row.rows is None else f"{row.row.rows:,}",
        "size": format_bytes(row.row.bytes),
        "index": f"index {row.row.index}" if row.row.index else "",
        "checks": row.row.checks and {"text": row.row.checks, "status": row.row.check_status},
        "held": row.held,
        "seconds": row.row.age and row.row.age + time.monotonic() - row.seen,
        "cost": format_seconds(row.cost),
    }


def _plan_message(plan: Plan) -> dict[str, Any]:
    parts = []
    for action, steps in plan.by_action.items():
        lines = []
        for step in steps:
            reasons = reports.step_reasons(step, action)
            reasons += [f"increment: {step.increment}"] if step.increment else []
            why = "; ".join(map(escape_invisible, reasons))
            lines.append([step.name, why, reports.duration_bound(step.seconds)])
        if lines:
            parts.append([action, lines])
    return {
        "plan": parts,
        "bounds": reports.estimated_time(plan.seconds_at_least, plan.seconds_at_most),
        "left": list(plan.left_out),
    }


def _run_summary(run: RunReport, seconds: float) -> str:
    """`2 computed, 1 failed in 3.2 s`."""
    outcomes = Counter(step.outcome.replace("_", " ") for step in run.steps)
    counts = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.items())
    return f"{counts} in {format_seconds(seconds)}" if counts else ""


def _step_cells(step: RunStep) -> list[str]:
    """A step as the cells of a row: table, outcome, rows, duration, error."""
    return [
        step.name,
        reports.outcome_text(step),
        "" if step.rows is None else f"{step.rows:,}",
        format_seconds(step.seconds),
        escape_invisible(step.error or ""),
    ]
