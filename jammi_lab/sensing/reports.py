"""What sensing hands to people: Status, Plan, RunReport. Each reads as a table and turns into frames."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from jammi_lab import forms
from jammi_lab.errors import InvalidArgument, TableNotFound
from jammi_lab.framed import Framed
from jammi_lab.markup import Form, Shown
from jammi_lab.names import fold, near
from jammi_lab.sensing.plan import Planned, Sort
from jammi_lab.values.records import Progress, RunStep, Step
from jammi_lab.values.verdicts import Verdict, code, reasons_of

OnProgress = bool | Callable[[Progress], None] | None
"""True or a callable: progress goes there; False: nowhere; None: where the workspace says."""

if TYPE_CHECKING:
    import pyarrow as pa


def teller(progress: OnProgress, default: Callable[[Progress], None] | None = None) -> Callable[[Progress], None] | None:
    """Who is told of progress by a caller's `progress=`; `default` is where the workspace says. InvalidArgument for what cannot be called."""
    if callable(progress):
        return progress
    if not (progress is None or isinstance(progress, bool)):
        raise InvalidArgument(f"progress= is True, False, None or something to call with each step, not {progress!r}.")
    return None if progress is False else default or (_to_terminal if progress else None)


def _to_terminal(progress: Progress) -> None:
    total = f" of {progress.total:,}" if progress.total is not None else ""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"\r{progress.stage}: {progress.done:,}{total} {progress.unit}\033[K")
        sys.stderr.flush()


@dataclass(frozen=True)
class StatusRow:
    """One recipe on the board."""

    name: str
    version: int | None
    """Newest ready version; None when there is none."""
    verdict: Verdict
    rows: int | None
    bytes: int | None
    age: float | None = field(repr=False)
    """Seconds since the version was completed."""
    index: str | None = None
    """Of a table with vectors: the precision of its index, or in what state that is, and the share of the rows that are in it."""

    def _repr_html_(self) -> str:
        return forms.status([self]).html

    @property
    def reasons(self) -> list[str]:
        """Each reason as a clause."""
        return list(reasons_of(self.verdict))


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_N = TypeVar("_N", bound=_Named)


def called(name: str, rows: Sequence[_N]) -> _N:
    """What is listed of a recipe. TableNotFound, with near names."""
    for row in rows:
        if fold(row.name) == fold(name):
            return row
    raise TableNotFound(f"There is no recipe {name!r} here.", near=near(name, [row.name for row in rows]))


def is_among(what: object, rows: Sequence[_Named]) -> bool:
    """Whether a recipe, or what is listed of it, is there."""
    return any(fold(row.name) == fold(what) for row in rows) if isinstance(what, str) else what in rows


class Status(Shown, Framed):
    """All recipes with their verdicts, from one look: `status["name"]`, iterable, `len()`."""

    def __init__(self, rows: Sequence[StatusRow]) -> None:
        self._rows = list(rows)

    def __iter__(self) -> Iterator[StatusRow]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, what: object) -> bool:
        return is_among(what, self._rows)

    def __getitem__(self, name: str) -> StatusRow:
        """The row of a recipe. TableNotFound, with near names."""
        return called(name, self._rows)

    def arrow(self) -> "pa.Table":
        """Columns name, version, verdict, reasons, rows, bytes, age_seconds, index."""
        import pyarrow as pa

        columns: dict[str, tuple[Any, pa.DataType]] = {
            "name": ([r.name for r in self._rows], pa.string()),
            "version": ([r.version for r in self._rows], pa.int64()),
            "verdict": ([code(r.verdict) for r in self._rows], pa.string()),
            "reasons": ([r.reasons for r in self._rows], pa.list_(pa.string())),
            "rows": ([r.rows for r in self._rows], pa.int64()),
            "bytes": ([r.bytes for r in self._rows], pa.int64()),
            "age_seconds": ([r.age for r in self._rows], pa.float64()),
            "index": ([r.index for r in self._rows], pa.string()),
        }
        return pa.table({name: pa.array(values, kind) for name, (values, kind) in columns.items()})

    def _form(self) -> Form:
        return forms.status(self._rows)


class RunReport(Shown):
    """How a plan went: `.steps`, and `.deviations` of what moved meanwhile."""

    def __init__(self, steps: Sequence[RunStep], deviations: Sequence[str]) -> None:
        self.steps, self.deviations = list(steps), list(dict.fromkeys(deviations))
        self.left_out: list[str] = []
        """Undecidable tables that nobody named."""

    @property
    def executed(self) -> list[str]:
        """Names that were computed, or failed."""
        return [s.name for s in self.steps if s.outcome in ("computed", "failed")]

    @property
    def failed(self) -> list[str]:
        """Names that failed."""
        return [s.name for s in self.steps if s.outcome == "failed"]

    def _form(self) -> Form:
        return forms.run_report(self.steps, self.deviations, left_out=self.left_out)


class Plan(Shown):
    """A dry run: nothing has been done yet. `.apply()` does it."""

    def __init__(self, planned: Sequence[Planned], undecided: Sequence[str], run: Callable[[Sequence[Planned], OnProgress], RunReport]) -> None:
        self._planned, self._run = list(planned), run
        self.left_out = list(undecided)
        """Undecidable tables that nobody named."""

    @property
    def certain(self) -> list[Step]:
        """Steps that must run."""
        return self._of(Sort.CERTAIN)

    @property
    def possible(self) -> list[Step]:
        """Steps that run unless what is above them comes out equal."""
        return self._of(Sort.POSSIBLE)

    @property
    def reused(self) -> list[Step]:
        """Steps that a ready table answers."""
        return self._of(Sort.REUSED)

    @property
    def blocked(self) -> list[Step]:
        """Steps that cannot run from here."""
        return self._of(Sort.BLOCKED)

    @property
    def seconds_at_least(self) -> float:
        """What the certain steps took when they last ran."""
        return sum(s.seconds or 0.0 for s in self.certain)

    @property
    def seconds_at_most(self) -> float:
        """What the certain and the possible steps took when they last ran."""
        return self.seconds_at_least + sum(s.seconds or 0.0 for s in self.possible)

    def apply(self, progress: OnProgress = None) -> RunReport:
        """Carry the plan out, for the tenant that it was made for. Interrupted, finished steps stay ready and the rest is as it was."""
        report = self._run(self._planned, progress)
        report.left_out = self.left_out
        return report

    def __bool__(self) -> bool:
        return bool(self._planned)

    def _of(self, sort: Sort) -> list[Step]:
        return [p.step for p in self._planned if p.sort is sort]

    def _form(self) -> Form:
        return forms.plan(
            self.certain,
            self.possible,
            self.reused,
            self.blocked,
            at_least=self.seconds_at_least,
            at_most=self.seconds_at_most,
            left_out=self.left_out,
        )
