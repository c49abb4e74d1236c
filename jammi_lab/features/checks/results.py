"""The results of checks, displayed as a table and convertible to frames."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from jammi_lab.core import reprs
from jammi_lab.core.checks import CheckOutcome, CheckStatus
from jammi_lab.core.dataframes import ArrowExportMixin, to_arrow
from jammi_lab.core.errors import CheckNotFound, JammiError
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import Rendered, ReprMixin, count_noun, plain_text, verdict_icon, vstack
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.junit import Case
from jammi_lab.core.verdicts import Fresh, Verdict, verdict_code
from jammi_lab.sources.scratch_duckdb import shown_types

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_SHOWN_CHECKS = 3
"""How many failing checks are displayed with their first rows."""


@dataclass(frozen=True)
class CheckRow:
    """What one check found in one version of a table."""

    check: str
    """Its name."""
    rule: str
    """The rule in words, else its statement."""
    table: str
    """The recipe that was checked."""
    version: int
    """The version that was checked."""
    severity: str
    """block or warn."""
    outcome: str
    """pass, fail or error."""
    failing: int | None
    """Number of failing rows; None after an error."""
    verdict: Verdict
    """Whether the result still holds."""
    error: str | None = None
    """Why it could not be run."""
    seconds: float = field(default=0.0, compare=False)
    """How long its statement ran when the result was found."""
    table_name: str = field(default="", compare=False)
    """The physical table."""
    checked_at: str = field(default="", compare=False)
    """When its statement was run, RFC 3339."""
    find_previous: "Callable[[], str] | None" = field(default=None, repr=False, compare=False)
    """Returns `previous`."""
    find_rows: "Callable[[int], pa.Table] | None" = field(default=None, repr=False, compare=False)
    """Returns the first failing rows."""

    def rows(self, limit: int = 5) -> "pa.Table":
        """The first failing rows, at most `limit`. Raises what the statement raises."""
        return cast("Callable[[int], pa.Table]", self.find_rows)(limit)

    @property
    def previous(self) -> str:
        """What it found in the version before, and whether the data or the rule changed since;
        empty where both passed."""
        return self.find_previous() if self.find_previous is not None else ""

    @property
    def note(self) -> str:
        """Why it could not be run, what it found in the version before, and why the result does not
        hold any more; empty without any of these."""
        outdated = "" if self.error or isinstance(self.verdict, Fresh) else str(self.verdict)
        return "; ".join(filter(None, [self.error, self.previous, outdated]))

    @property
    def summary(self) -> str:
        """The rule with what was found, as a sentence without a stop."""
        if self.failing is None:
            return f"{self.rule}: could not be run: {self.error}"
        verb = "fails" if self.failing == 1 else "fail"
        outcome = f"{count_noun(self.failing, 'row')} {verb}" if self.failing else "all rows pass"
        return f"{self.rule}: {outcome}"

    @property
    def passes(self) -> bool:
        """Whether no row fails."""
        return self.outcome == CheckOutcome.PASS

    @property
    def status(self) -> CheckStatus:
        """Fail after failing rows or an error, due when it passed on what is there no more, else
        pass."""
        if not self.passes:
            return CheckStatus.FAIL
        return CheckStatus.PASS if isinstance(self.verdict, Fresh) else CheckStatus.DUE


class CheckResults(ReprMixin, ArrowExportMixin):
    """The results of several checks: `results["check"]`, iterable, `len()`."""

    def __init__(self, rows: Sequence[CheckRow], not_run: str = "") -> None:
        """`not_run`: which checks have no result, and why, as a clause."""
        self._rows, self._not_run = list(rows), not_run

    def __iter__(self) -> Iterator[CheckRow]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> CheckRow:
        """The result of a check. CheckNotFound, with near names."""
        for row in self._rows:
            if fold(row.check) == fold(name):
                return row
        raise CheckNotFound(
            f"There is no check {name!r} in this report.",
            near=near_names(name, [row.check for row in self._rows]),
        )

    @property
    def failed(self) -> list[CheckRow]:
        """The checks that did not pass: failing rows, or an error."""
        return [row for row in self._rows if not row.passes]

    def arrow(self) -> "pa.Table":
        """Columns check, table, version, severity, outcome, failing, verdict."""
        return to_arrow(
            [
                (
                    row.check,
                    row.table,
                    row.version,
                    row.severity,
                    row.outcome,
                    row.failing,
                    verdict_code(row.verdict),
                )
                for row in self._rows
            ],
            check="string",
            table="string",
            version="int64",
            severity="string",
            outcome="string",
            failing="int64",
            verdict="string",
        )

    def _rendered(self) -> Rendered:
        shown = [row for row in self._rows if row.failing][:_MAX_SHOWN_CHECKS]
        results = _results_table(self._rows, self._not_run)
        return vstack(results, *map(_first_rows, shown))


def junit_case(row: CheckRow) -> Case:
    """The result of a check as a test: a failure for rows that fail, with the first of them, and an
    error for a check that could not be run."""
    if row.passes:
        return Case(row.table, row.check, row.seconds)
    lines = [row.previous] if row.previous else []
    if row.failing:
        try:
            lines += map(str, row.rows().to_pylist())
        except JammiError as error:
            lines.append(error.message)
    problem = "failure" if row.failing else "error"
    return Case(
        row.table, row.check, row.seconds, problem, row.severity, row.summary, "\n".join(lines)
    )


def _first_rows(row: CheckRow) -> Rendered | None:
    """The first failing rows of a check; None when they cannot be read."""
    try:
        rows = row.rows()
        caption = f"{row.check}: {row.rule}"
        return reprs.rows_preview(rows, shown_types(rows.schema), row.failing, caption)
    except JammiError:
        return None


def _results_table(rows: Sequence[CheckRow], not_run: str) -> Rendered:
    """Results of checks, one line each. `not_run`: which checks have none."""
    if not rows:
        no_checks = "No checks: ws.checks.add(name, rule, on=table) adds one"
        return plain_text(f"{not_run or no_checks}.")
    lines = [
        [
            row.check,
            f"{row.table} version {row.version}",
            row.severity,
            verdict_icon(reprs.CHECK_ICONS[row.outcome], row.outcome),
            reprs.format_row_count(row.failing),
            row.rule,
            row.note,
        ]
        for row in rows
    ]
    failed = [row for row in rows if row.failing]
    caption = f"{count_noun(len(rows), 'check')}: {reprs.tally(row.outcome for row in rows)}"
    notes = [
        f"ws.checks[{row.check!r}].rows({row.version}) shows the failing rows" for row in failed[:1]
    ]
    note = ". ".join([*notes, *filter(None, [not_run])])
    return listing_table(
        ["check", "table", "severity", "outcome", "failing rows", "rule", "note"],
        lines,
        aligned="llllrll",
        optional=["note"],
        caption=caption,
        note=note,
    )
