"""Status, Plan and RunReport: the reports of freshness queries, displayed as tables and convertible
to frames."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from jammi_lab.core import reprs
from jammi_lab.core.checks import CheckStatus
from jammi_lab.core.command_hints import cell_or_python, command
from jammi_lab.core.dataframes import ArrowExportMixin, to_arrow
from jammi_lab.core.errors import JammiError, TableNotFound
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import (
    Rendered,
    ReprMixin,
    bullet_list,
    count_noun,
    details,
    dim_text,
    escape_invisible,
    format_bytes,
    format_seconds,
    plain_text,
    round_down_duration,
    round_up_duration,
    verdict_icon,
    vstack,
)
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.panel_selection import PanelSelection
from jammi_lab.core.records import Hold, ProgressOption, RunStep, Step
from jammi_lab.core.value import Value
from jammi_lab.core.verdicts import (
    MOVED,
    Fresh,
    InputVanished,
    Verdict,
    causes_of,
    grounds_of,
    marked_label,
    reasons_of,
    remarks_on,
    verdict_code,
)
from jammi_lab.freshness.plan import PlannedStep, StepKind

if TYPE_CHECKING:
    import pyarrow as pa


class StatusRow(Value, frozen=True):
    """One recipe of a Status."""

    _volatile_fields = ("age", "held", "computed_by")

    name: str
    version: int | None
    """Newest ready version; None when there is none."""
    verdict: Verdict
    rows: int | None
    bytes: int | None
    age: float | None
    """Seconds since the version was completed."""
    index: str | None = None
    """For a table with vectors: the precision or state of its index, and the share of indexed
    rows."""
    checks: str | None = None
    """What the checks on the version found: `3 pass`, `1 of 3 fails`; None without checks."""
    check_status: CheckStatus | None = None
    """The worst of them."""
    failed_run: str | None = None
    """The error of the last run as a clause, if it failed; None when a version came later."""
    held: Hold | None = None
    """Its hold."""
    computed_by: str = ""
    """The process that computes it now."""

    def _repr_html_(self) -> str:
        return status_board([self]).html

    @property
    def reasons(self) -> list[str]:
        """The reasons as clauses."""
        return list(reasons_of(self.verdict))

    @property
    def grounds(self) -> list[str]:
        """What a fresh verdict relies on, as clauses."""
        return list(grounds_of(self.verdict))

    @property
    def remarks(self) -> list[str]:
        """What is said beside the verdict's word, as clauses: a failed run, then reasons, or
        grounds and notes."""
        failed = [] if self.failed_run is None else [self.failed_run]
        return [*failed, *remarks_on(self.verdict)]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_N = TypeVar("_N", bound=_Named)


class NamedRows(Generic[_N]):
    """Rows with names: iterable, with `len()` and `in`, by name or position."""

    _rows: list[_N]

    def __iter__(self) -> Iterator[_N]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, item: object) -> bool:
        names = [fold(row.name) for row in self._rows]
        return fold(item) in names if isinstance(item, str) else item in self._rows

    def __getitem__(self, name_or_position: int | str) -> _N:
        """The row of that name or position. A KeyError, with near names; IndexError."""
        if not isinstance(name_or_position, str):
            return self._rows[name_or_position]
        for row in self._rows:
            if fold(row.name) == fold(name_or_position):
                return row
        near = near_names(name_or_position, [row.name for row in self._rows])
        raise self._missing_error(name_or_position, near)

    def _missing_error(self, name: str, near: list[str]) -> JammiError:
        return TableNotFound(
            f"There is no recipe {name!r} here.",
            near=near,
            hint="Its rows are recipes; ws.sources[name] shows a source.",
        )


class Status(PanelSelection, NamedRows[StatusRow], ReprMixin, ArrowExportMixin):
    """All recipes with their verdicts, from one observation pass: `status["name"]`, iterable,
    `len()`."""

    def __init__(self, rows: Sequence[StatusRow], counted: Sequence[StatusRow] = ()) -> None:
        """`counted`: the rows that its heading counts, if they are not those alone."""
        self._rows = list(rows)
        self._counted = counted

    def __bool__(self) -> bool:
        return True

    def arrow(self) -> "pa.Table":
        """Columns name, version, verdict, reasons, rows, bytes, age_seconds, index, checks,
        grounds, failed_run."""
        return to_arrow(
            [
                (
                    row.name,
                    row.version,
                    verdict_code(row.verdict),
                    row.reasons,
                    row.rows,
                    row.bytes,
                    row.age,
                    row.index,
                    row.checks,
                    row.grounds,
                    row.failed_run,
                )
                for row in self._rows
            ],
            name="string",
            version="int64",
            verdict="string",
            reasons="texts",
            rows="int64",
            bytes="int64",
            age_seconds="float64",
            index="string",
            checks="string",
            grounds="texts",
            failed_run="string",
        )

    def _rendered(self) -> Rendered:
        return status_board(self._rows, counted=self._counted)


_OUTCOME_ICONS = {
    "computed": "fresh",
    "reused": "fresh",
    "cut_off": "fresh",
    "failed": "damaged",
    "rejected": "damaged",
    "blocked": "undecidable",
    "skipped": "missing manifest",
    **reprs.CHECK_ICONS,
}
_MAX_CAUSE_LINES = 5
"""Causes of a row in a text table. Further ones are counted."""
_SLOW_SECONDS = 10.0
"""A plan says of steps that take longer why they are no increments."""


class RunReport(NamedRows[RunStep], ReprMixin):
    """The report of an executed plan: its `.steps`, and `.deviations` from the plan."""

    def __init__(self, steps: Sequence[RunStep], deviations: Sequence[str]) -> None:
        self.steps = self._rows = list(steps)
        self.deviations = list(dict.fromkeys(deviations))
        self.left_out: list[str] = []
        """Undecidable tables that were not named."""

    @property
    def executed(self) -> list[str]:
        """The names of steps that were computed, rejected or failed."""
        return [s.name for s in self.steps if s.outcome in ("computed", "rejected", "failed")]

    @property
    def failed(self) -> list[str]:
        """The names of failed steps."""
        return [s.name for s in self.steps if s.outcome == "failed"]

    @property
    def rejected(self) -> list[str]:
        """The names of steps whose rows did not pass a blocking check."""
        return [s.name for s in self.steps if s.outcome == "rejected"]

    def _rendered(self) -> Rendered:
        skipped = _skipped_note(self.left_out)
        skipped_note = dim_text(skipped) if skipped else None
        if not self.steps:
            return vstack(verdict_icon("fresh", "Nothing to do."), skipped_note)
        lines = [
            (
                step.name,
                verdict_icon(_OUTCOME_ICONS.get(step.outcome, ""), outcome_text(step)),
                reprs.format_row_count(step.rows),
                None if step.reuse is None else str(step.reuse),
                step.error,
                format_seconds(step.seconds),
            )
            for step in self.steps
        ]
        outcomes = Counter(step.outcome for step in self.steps)
        grid = listing_table(
            ["name", "outcome", "rows", "of them", "error", "took"],
            lines,
            aligned="llrlll",
            optional=("of them", "error"),
            caption="Run: "
            + ", ".join(
                f"{n:,} {outcome.replace('cut_off', 'not needed')}"
                for outcome, n in outcomes.items()
            ),
        )
        deviations = vstack(dim_text("Changed meanwhile:"), bullet_list(self.deviations))
        return vstack(
            grid,
            _waiting_note(self.steps),
            deviations if self.deviations else None,
            skipped_note,
        )


class Plan(NamedRows[Step], ReprMixin):
    """A plan (dry run), of which each item is a step; `.apply()` executes it."""

    def __init__(
        self,
        planned: Sequence[PlannedStep],
        checks: Sequence[Step],
        undecided: Sequence[str],
        run: Callable[[Sequence[PlannedStep], Sequence[str], ProgressOption], RunReport],
        names: Sequence[str] | None = None,
    ) -> None:
        """`names`: the recipes that were named."""
        self._planned, self._run, self._names = list(planned), run, names
        self._rows = [each.step for each in self._planned]
        self.checks = list(checks)
        """The checks that are due, or may be after the other steps. Those of a table that is
        certain to be made are part of its step."""
        self.left_out = list(undecided)
        """Undecidable tables that were not named."""

    @property
    def steps(self) -> list[Step]:
        """All steps, in the order in which they would run; blocked ones among them."""
        return [*self._rows]

    @property
    def certain(self) -> list[Step]:
        """Steps that must run."""
        return self._steps_of_kind(StepKind.CERTAIN)

    @property
    def possible(self) -> list[Step]:
        """Steps that run unless their upstream tables come out unchanged."""
        return self._steps_of_kind(StepKind.POSSIBLE)

    @property
    def reused(self) -> list[Step]:
        """Steps for which an existing table is reused."""
        return self._steps_of_kind(StepKind.REUSED)

    @property
    def blocked(self) -> list[Step]:
        """Steps that cannot run in this workspace."""
        return self._steps_of_kind(StepKind.BLOCKED)

    @property
    def seconds_at_least(self) -> float:
        """The estimated duration of the certain steps."""
        return sum(s.seconds or 0.0 for s in self.certain)

    @property
    def seconds_at_most(self) -> float:
        """The estimated duration of the certain and possible steps."""
        return self.seconds_at_least + sum(s.seconds or 0.0 for s in self.possible)

    def apply(self, progress: ProgressOption = None) -> RunReport:
        """Execute the plan, for the tenant that it was made for. After an interrupt finished tables
        stay ready and the others are unchanged."""
        report = self._run(self._planned, [step.name for step in self.checks], progress)
        report.left_out = self.left_out
        return report

    def __bool__(self) -> bool:
        return bool(self._planned or self.checks)

    @property
    def by_action(self) -> dict[str, list[Step]]:
        """The steps by what is done with them: recompute, recompute if needed, reuse, blocked,
        check."""
        return {
            "recompute": self.certain,
            "recompute if needed": self.possible,
            "reuse": self.reused,
            "blocked": self.blocked,
            "check": self.checks,
        }

    def _steps_of_kind(self, kind: StepKind) -> list[Step]:
        return [p.step for p in self._planned if p.kind is kind]

    def _rendered(self) -> Rendered:
        skipped = _skipped_note(self.left_out)
        actions = {action: steps for action, steps in self.by_action.items() if steps}
        lines = [
            (
                step.name,
                f"increment: {step.increment}" if step.increment else action,
                _causes(step_reasons(step, action)),
                duration_bound(step.seconds) or "never ran",
            )
            for action, steps in actions.items()
            for step in steps
        ]
        if not lines:
            sentence = "Nothing to do: no table is known to be stale."
            if self._names:
                named = ", ".join(self._names)
                sentence = f"Nothing to do: nothing of {named} is known to be stale."
            return vstack(
                verdict_icon("fresh", sentence),
                dim_text(skipped) if skipped else None,
            )
        grid = listing_table(
            ["name", "action", "why", "estimate"],
            lines,
            aligned="llll",
            caption="Plan: "
            + ", ".join(
                f"{len(steps):,} {'' if action == 'blocked' else 'to '}{action}"
                for action, steps in actions.items()
            ),
            note=skipped,
        )
        to_run = [*self.certain, *self.possible]
        estimates = [dim_text(note) for step in to_run for note in _notes(step)]
        bounds = ""
        if any(step.seconds is not None for step in to_run):
            bounds = f"{estimated_time(self.seconds_at_least, self.seconds_at_most)}. "
        verb = cell_or_python(".apply() or %jammi recompute", ".apply()")
        runs = f"{bounds}Dry run; use {verb} to execute."
        if actions.keys() == {"blocked"}:
            runs = "None of these steps can be run here."
        return vstack(grid, *estimates, _waiting_note(self.blocked), dim_text(runs))


def count_recipes(rows: Sequence[StatusRow]) -> str:
    """`3 recipes: 2 fresh, 1 stale`."""
    verdicts = reprs.tally(marked_label(row.verdict) for row in rows)
    return count_noun(len(rows), "recipe") + (f": {verdicts}" if rows else "")


def status_board(
    rows: Sequence[StatusRow], note: str = "", counted: Sequence[StatusRow] = ()
) -> Rendered:
    """The status board: one line per recipe with verdict and reason, and the next command unless
    all are fresh. `counted`: the rows that the heading counts, if they are not those alone."""
    if not rows:
        return plain_text(f"No recipes yet: {reprs.materialize_command()} creates one.")
    columns: dict[str, tuple[str, list[Any]]] = {
        "name": ("l", [row.name for row in rows]),
        "version": ("r", [row.version for row in rows]),
        "verdict": ("l", [verdict_icon(marked_label(row.verdict)) for row in rows]),
        "rows": ("r", [reprs.format_row_count(row.rows) for row in rows]),
        "size": ("r", [format_bytes(row.bytes) for row in rows]),
        "index": ("l", [row.index for row in rows]),
        "checks": ("l", [row.checks for row in rows]),
        "held": ("l", ["" if row.held is None else row.held.summary for row in rows]),
        "computed by": ("l", [row.computed_by for row in rows]),
        "why": ("l", [_causes(row.remarks) for row in rows]),
    }
    optional = ["index", "checks", "held", "computed by"]
    not_fresh = [r for r in rows if not isinstance(r.verdict, Fresh)]
    if not not_fresh:
        if not any(row.remarks for row in rows):
            optional.append("why")
    elif not note and (skipped := _held_alone(not_fresh)):
        computing, ending = command("recompute", skipped), command("unhold", skipped)
        note = f"{computing} computes it nevertheless, {ending} ends its hold"
    elif not note and any(reprs.is_repairable(r.verdict) for r in not_fresh):
        note = f"Run {command('plan')} to preview, {command('recompute')} to update"
        reasons = [cause.reason for row in not_fresh for cause in causes_of(row.verdict)]
        if any(isinstance(r, InputVanished) and r.input.kind == "source" for r in reasons):
            note = f"A source is gone; {MOVED}. {note}"
    elif not note:
        note = f"{command('why', not_fresh[0].name)} shows details"

    def list_columns(names: Sequence[str]) -> Rendered:
        return listing_table(
            names,
            zip(*(columns[name][1] for name in names), strict=True),
            aligned="".join(columns[name][0] for name in names),
            optional=optional,
            caption=count_recipes(counted or rows),
            note=note,
        )

    # A narrow page shows the first columns; lines of text are as long as what stands last.
    seen_first = ["name", "verdict", "why"]
    others = [name for name in columns if name not in seen_first]
    return Rendered(list_columns([*seen_first, *others]).html, list_columns([*columns]).text)


def _held_alone(rows: Sequence[StatusRow]) -> str:
    """The first recipe of those that are not fresh, if all that can be repaired are held."""
    repairable = [row for row in rows if reprs.is_repairable(row.verdict)]
    return repairable[0].name if repairable and all(row.held for row in repairable) else ""


def _causes(reasons: Sequence[str]) -> Rendered:
    """The reasons of a row: the first one, which expands to all of them; as text one line each."""
    if len(reasons) <= 1:
        return plain_text(reasons[0] if reasons else "")
    expandable = details(
        plain_text(f"{reasons[0]}, and {len(reasons) - 1} more"), bullet_list(reasons[1:])
    )
    hidden_count = len(reasons) - _MAX_CAUSE_LINES
    lines = [*map(escape_invisible, reasons[:_MAX_CAUSE_LINES])]
    if hidden_count > 0:
        lines.append(f"and {hidden_count:,} more")
    return Rendered(expandable.html, "\n".join(lines))


def estimated_time(at_least: float, at_most: float) -> str:
    """The duration of a plan, coarse enough to be equal from run to run: `Estimated time: 0 s to 5
    s`."""
    low, high = round_down_duration(at_least), round_up_duration(at_most)
    return f"Estimated time: {low} to {high}"


def step_reasons(step: Step, action: str) -> list[str]:
    """The reasons of a step. A step without reasons was requested by name although its state is
    undecidable."""
    if not step.reasons and action.startswith("recompute"):
        return ["requested by name; its freshness cannot be decided"]
    return [str(reason) for reason in step.reasons]


def _skipped_note(names: Sequence[str]) -> str:
    return f"undecidable, skipped unless requested by name: {', '.join(names)}" if names else ""


def duration_bound(seconds: float | None) -> str:
    """A coarse upper bound, equal from run to run. The exact duration is in the step itself."""
    return "" if seconds is None else f"within {round_up_duration(seconds)}"


def _notes(step: Step) -> Iterator[str]:
    """What is said of a step below the plan, as sentences."""
    if step.estimate:
        yield f"{step.name}: {step.estimate}."
    if step.full_run_reason and (step.seconds or 0.0) >= _SLOW_SECONDS:
        yield f"{step.name} is computed in full: {step.full_run_reason}."


def _waiting_note(steps: Iterable[Step | RunStep]) -> Rendered | None:
    """The tables that remain possibly stale because of blocked steps."""
    notes = []
    for s in steps:
        if s.waiting:
            notes.append(
                f"{', '.join(s.waiting)} remain{'s' if len(s.waiting) == 1 else ''} possibly stale "
                f"because of {s.name}"
            )
    return dim_text("; ".join(notes)) if notes else None


def outcome_text(step: RunStep) -> str:
    """The outcome of a step, as text."""
    if step.outcome != "cut_off":
        return step.outcome
    return (
        "not needed: already up to date" if step.meanwhile else "not needed: inputs came out equal"
    )
