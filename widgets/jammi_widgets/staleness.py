"""The staleness board: every recipe with its verdict, why, since when, and what mending it costs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from jammi_lab.errors import JammiError, TableNotFound
from jammi_lab.markup import Form, seconds, size, visible
from jammi_lab.names import near
from jammi_lab.sensing.reports import Plan, Status, StatusRow
from jammi_lab.values.records import RunStep, Step
from jammi_lab.values.verdicts import (
    DefinitionChanged,
    Fresh,
    InputAdvanced,
    InputVanished,
    PossiblyStale,
    Stale,
    Undecidable,
    Verdict,
    reasons_of,
    word,
)
from jammi_widgets import assets, protocol
from jammi_widgets.panel import Panel
from jammi_widgets.watching import Watch
from jammi_widgets.work import Report

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace

MOST_REASONS = 3
"""Reasons that stand in a row; the lineage tells all of them."""
_WORST = ("damaged", "stale", "possibly stale", "undecidable", "missing manifest", "fresh")


@dataclass(frozen=True)
class Line:
    """A recipe on the board."""

    row: StatusRow
    word: str
    reasons: list[str]
    causes: list[str]
    """What it is stale because of, as groups are named."""
    cost: float | None
    """Seconds that its newest version took; None when not known."""


class StalenessBoard(Panel):
    """All recipes with verdicts; chosen ones are planned or recomputed from here.

    `selection` holds the chosen recipes, `filter` what names, reasons and verdicts are searched for. `watch`: seconds between looks that the board
    takes by itself; 0, the default, is none.
    """

    _esm = assets.module("staleness")
    _css = assets.style()
    _kinds: ClassVar[Any] = protocol.Open | protocol.Refresh | protocol.Rows | protocol.Act | protocol.Cancel

    watch = traitlets.Float(0.0, min=0.0, max=86_400.0).tag(sync=True)
    """Seconds between looks that the board takes by itself; 0 for none."""

    def __init__(self, ws: "Workspace", *, watch: float = 0.0) -> None:
        self._lines = _lines(ws, ws.status())
        self._asked = protocol.Rows(v=1, ask=0)
        super().__init__(ws)
        self._watch = Watch(self._look_quietly)
        self.observe(self._watched, names="watch")
        self.observe(lambda _: self._told(), names="filter")
        self.watch = watch

    def refresh(self) -> None:
        """Look again."""
        with self._as_bound():
            self._lines = _lines(self._ws, self._ws.status())
        self._told()

    def close(self) -> None:
        """Stop looking, and let go of the page."""
        self._watch.every(0)
        super().close()

    @traitlets.validate("selection")
    def _chosen(self, proposal: dict[str, Any]) -> list[str]:
        there = {line.row.name for line in self._lines}
        for name in proposal["value"]:
            if name not in there:
                raise TableNotFound(f"There is no recipe {name!r} here.", near=near(name, sorted(there)))
        return list(proposal["value"])

    def _watched(self, change: dict[str, Any]) -> None:
        self._watch.every(change["new"])

    def _look_quietly(self) -> bool:
        """One look of the watch; False ends it: the workspace is closed."""
        before = [(line.row.name, line.word, line.reasons) for line in self._lines]
        try:
            with self._as_bound():
                self._lines = _lines(self._ws, self._ws.status())
        except JammiError:
            return False
        if [(line.row.name, line.word, line.reasons) for line in self._lines] != before:
            self._told()
        return True

    def _told(self) -> None:
        self._tell({"kind": "changed", "body": self._page(self._asked)})

    # -- messages ------------------------------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> dict[str, Any]:
        match message:
            case protocol.Rows():
                self._asked = message
            case protocol.Refresh():
                self._lines = _lines(self._ws, self._ws.status())
        return self._page(self._asked)

    def _page(self, asked: protocol.Rows) -> dict[str, Any]:
        """The rows that a page shows, with what there is in all."""
        wanted = self.filter.strip().casefold()
        found = [line for line in self._lines if not wanted or _matches(line, wanted)]
        causes = Counter(cause for line in found for cause in line.causes)
        if asked.group:
            found = [line for line in found if asked.group in line.causes]
        found.sort(key=_sorting(asked.sort), reverse=asked.descending)
        part = found[asked.offset : asked.offset + asked.limit]
        return {
            "rows": [_told_row(line) for line in part],
            "found": len(found),
            "total": len(self._lines),
            "offset": asked.offset,
            "names": [line.row.name for line in found if line.word != "fresh"][:100_000],
            "counts": dict(Counter(line.word for line in self._lines)),
            "causes": causes.most_common(12),
            "group": asked.group,
        }

    def _act(self, action: str, names: list[str], report: Report) -> dict[str, Any]:
        there = {line.row.name for line in self._lines}
        known = [n for n in names if n in there]
        if len(known) < len(names):
            raise TableNotFound(f"There is no recipe {next(n for n in names if n not in there)!r} here any more.", hint="Refresh the board.")
        if action == "plan":
            return _planned(self._ws.plan(known))
        if action == "recompute":
            try:
                run = self._ws.recompute(known, progress=report)
            finally:
                self.refresh()
            return {"lines": [_ran(step) for step in run.steps] or ["Nothing had to be done."], "deviations": [visible(d) for d in run.deviations]}
        return super()._act(action, names, report)

    def _form(self) -> Form:
        return Status([line.row for line in self._lines])._form()


def _lines(ws: "Workspace", status: Status) -> list[Line]:
    took = {t.name: t.seconds for t in reversed(ws.tables())}
    return [Line(r, word(r.verdict), [visible(x) for x in reasons_of(r.verdict)], _causes(r.verdict), took.get(r.name)) for r in status]


def _causes(verdict: Verdict) -> list[str]:
    """What a verdict comes from: `papers.csv changed`, each once."""
    match verdict:
        case Stale(reasons):
            found = [_cause(reason, "") for reason in reasons]
        case PossiblyStale(causes):
            found = [_cause(cause.reason, cause.path[-1]) for cause in causes]
        case Undecidable(doubts, reasons):
            found = [_cause(reason, "") for reason in reasons] + [f"{doubt.input.label} cannot be decided" for doubt in doubts]
        case Fresh():
            found = []
        case _:
            found = [word(verdict)]
    return list(dict.fromkeys(visible(f) for f in found))


def _cause(reason: object, at: str) -> str:
    match reason:
        case InputAdvanced(given):
            return f"{given.label} changed"
        case InputVanished(given):
            return f"{given.label} is gone"
        case DefinitionChanged(recorded, _):
            return f"the definition{f' of {at}' if at else ''} changed" if recorded is not None else f"{at or 'it'} was never computed"
        case _:
            return f"{at} is damaged"


def _matches(line: Line, wanted: str) -> bool:
    return wanted == line.word or wanted in line.row.name.casefold() or any(wanted in r.casefold() for r in line.reasons)


def _sorting(by: str) -> Any:
    def key(line: Line) -> Any:
        name = line.row.name.casefold()
        match by:
            case "name":
                return name
            case "age":
                return (line.row.age is None, line.row.age or 0.0, name)
            case "rows":
                return (line.row.rows is None, line.row.rows or 0, name)
            case "size":
                return (line.row.bytes is None, line.row.bytes or 0, name)
            case "cost":
                return (line.cost is None, line.cost or 0.0, name)
            case _:
                return (_WORST.index(line.word), name)

    return key


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
        ["run unless what is above comes out equal", told(plan.possible)],
        ["answered by a ready table", told(plan.reused)],
    ]
    return {"plan": [p for p in [*parts, ["cannot run from here", told(plan.blocked)]] if p[1]], "bounds": bounds, "left": list(plan.left_out)}


def _ran(step: RunStep) -> str:
    said = {"cut_off": "not needed, its inputs came out equal"}.get(step.outcome, step.outcome)
    return f"{step.name}: {said}" + (f", {visible(step.error)}" if step.error else "")
