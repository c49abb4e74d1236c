"""Status, Plan and RunReport: the reports of freshness queries, displayed as tables and convertible
to frames."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from jammi_lab.core import reprs
from jammi_lab.core.checks import CheckStatus
from jammi_lab.core.dataframes import ArrowExportMixin
from jammi_lab.core.errors import TableNotFound
from jammi_lab.core.html import Rendered, ReprMixin
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.core.panel_selection import PanelSelection
from jammi_lab.core.records import ProgressOption, RunStep, Step
from jammi_lab.core.value import Value
from jammi_lab.core.verdicts import Verdict, grounds_of, reasons_of, verdict_code
from jammi_lab.freshness.plan import PlannedStep, StepKind

if TYPE_CHECKING:
    import pyarrow as pa


class StatusRow(Value, frozen=True):
    """One recipe of a Status."""

    _volatile_fields = ("age",)

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

    def _repr_html_(self) -> str:
        return reprs.status([self]).html

    @property
    def reasons(self) -> list[str]:
        """The reasons as clauses."""
        return list(reasons_of(self.verdict))

    @property
    def grounds(self) -> list[str]:
        """What a fresh verdict relies on, as clauses."""
        return list(grounds_of(self.verdict))


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_N = TypeVar("_N", bound=_Named)


def find_row(name: str, rows: Sequence[_N]) -> _N:
    """The row of a recipe. TableNotFound, with near names."""
    for row in rows:
        if fold(row.name) == fold(name):
            return row
    raise TableNotFound(
        f"There is no recipe {name!r} in this report.",
        near=near_names(name, [row.name for row in rows]),
    )


def contains_row(item: object, rows: Sequence[_Named]) -> bool:
    """Whether a recipe (by name) or a row is among the rows."""
    return (
        any(fold(row.name) == fold(item) for row in rows) if isinstance(item, str) else item in rows
    )


class Status(PanelSelection, ReprMixin, ArrowExportMixin):
    """All recipes with their verdicts, from one observation pass: `status["name"]`, iterable,
    `len()`."""

    def __init__(self, rows: Sequence[StatusRow], holds: Mapping[str, str] | None = None) -> None:
        self._rows = list(rows)
        self._holds = dict(holds or {})
        """Since when and why recipes are held, by folded name."""

    def __iter__(self) -> Iterator[StatusRow]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, item: object) -> bool:
        return contains_row(item, self._rows)

    def __getitem__(self, name: str) -> StatusRow:
        """The row of a recipe. TableNotFound, with near names."""
        return find_row(name, self._rows)

    def arrow(self) -> "pa.Table":
        """Columns name, version, verdict, reasons, rows, bytes, age_seconds, index, checks,
        grounds."""
        import pyarrow as pa

        columns: dict[str, tuple[Any, pa.DataType]] = {
            "name": ([r.name for r in self._rows], pa.string()),
            "version": ([r.version for r in self._rows], pa.int64()),
            "verdict": ([verdict_code(r.verdict) for r in self._rows], pa.string()),
            "reasons": ([r.reasons for r in self._rows], pa.list_(pa.string())),
            "rows": ([r.rows for r in self._rows], pa.int64()),
            "bytes": ([r.bytes for r in self._rows], pa.int64()),
            "age_seconds": ([r.age for r in self._rows], pa.float64()),
            "index": ([r.index for r in self._rows], pa.string()),
            "checks": ([r.checks for r in self._rows], pa.string()),
            "grounds": ([r.grounds for r in self._rows], pa.list_(pa.string())),
        }
        return pa.table({name: pa.array(values, kind) for name, (values, kind) in columns.items()})

    def _rendered(self) -> Rendered:
        held = {r.name: h for r in self._rows if (h := self._holds.get(fold(r.name)))}
        return reprs.status(self._rows, held=held)


MAX_COMPARED_STEPS = 50
"""Of a longer run only so many tables are compared with their versions before."""


class RunReport(ReprMixin):
    """The report of an executed plan: `.steps`, `.changes`, and `.deviations` from the plan."""

    def __init__(
        self,
        steps: Sequence[RunStep],
        deviations: Sequence[str],
        describe_changes: Callable[[RunStep], str] = lambda _: "",
    ) -> None:
        self.steps, self.deviations = list(steps), list(dict.fromkeys(deviations))
        self._describe_changes = describe_changes
        self._changes: dict[str, str] | None = None
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

    @property
    def changes(self) -> dict[str, str]:
        """What the run changed in the rows of its tables, by name: `price: 3 of 200,000 rows`.
        Determined on first use; tables beyond the first fifty and large ones are left out."""
        if self._changes is None:
            computed = [step for step in self.steps if step.outcome == "computed"]
            texts = {s.name: self._describe_changes(s) for s in computed[:MAX_COMPARED_STEPS]}
            self._changes = {name: text for name, text in texts.items() if text}
        return self._changes

    def _rendered(self) -> Rendered:
        return reprs.run_report(
            self.steps, self.deviations, skipped=self.left_out, changes=self.changes
        )


class Plan(ReprMixin):
    """A plan (dry run); `.apply()` executes it."""

    def __init__(
        self,
        planned: Sequence[PlannedStep],
        checks: Sequence[Step],
        undecided: Sequence[str],
        run: Callable[[Sequence[PlannedStep], Sequence[str], ProgressOption], RunReport],
    ) -> None:
        self._planned, self._run = list(planned), run
        self.checks = list(checks)
        """The checks that are due, or may be after the other steps. Those of a table that is
        certain to be made are part of its step."""
        self.left_out = list(undecided)
        """Undecidable tables that were not named."""

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

    def _steps_of_kind(self, kind: StepKind) -> list[Step]:
        return [p.step for p in self._planned if p.kind is kind]

    def _rendered(self) -> Rendered:
        return reprs.plan(
            self.certain,
            self.possible,
            self.reused,
            self.blocked,
            self.checks,
            at_least=self.seconds_at_least,
            at_most=self.seconds_at_most,
            skipped=self.left_out,
        )
