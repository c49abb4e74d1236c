"""The recipe of an as-of join."""

import datetime
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal

from jammi_lab.core.definitions import StepInput, decode_param, encode_param
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import list_of_names
from jammi_lab.core.recipes import Stored, Table, is_number
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.steps.recipe import BindContext, RunnableRecipe, check_choices

if TYPE_CHECKING:
    from jammi_lab.engine.sql.column_lineage import ColumnReads
    from jammi_lab.features.asof.asof_rows import JoinPlan
    from jammi_lab.steps.input_tables import InputTable
    from jammi_lab.steps.jobs import Job, RunningJob


@dataclass(frozen=True)
class AsofJoin(RunnableRecipe):
    """Each row of a spine with the facts that were known at its time."""

    kind = "asof_join"
    reads_sql = True
    stored_as = {
        "spine": Stored(type=StepInput),
        "facts": Stored(type=StepInput),
        "by": Stored(type=list[tuple[str, str]]),
        "tolerance": Stored(type=Any, write=encode_param, read=decode_param),
        "project": Stored(type=list[str] | None),
    }

    spine: Table
    """A table, source or SQL; all of its rows stay."""
    facts: Table
    """A table, source or SQL."""
    _: KW_ONLY
    spine_time: str
    """The column of times in the spine."""
    facts_time: str
    """The column of times in the facts."""
    by: str | Sequence[str | tuple[str, str]] = ()
    """Columns that must be equal: common names or (spine, facts) pairs."""
    direction: Literal["backward", "forward", "nearest"] = "backward"
    """In which direction from the spine's time a fact is searched."""
    boundary: Literal["inclusive", "exclusive"] = "inclusive"
    """Whether a fact of the very same time counts."""
    tolerance: datetime.timedelta | int | None = None
    """The maximum distance in time."""
    tie_break: str | None = None
    """The column whose greatest value decides among facts of one time."""
    project: str | Sequence[str] | None = None
    """The columns of the facts; all but `by` when None."""

    def bind(self, ctx: BindContext) -> "Job":
        """Raises TableNotFound, SchemaMismatch, InvalidArgument."""
        from jammi_lab.features.asof.asof_rows import JoinPlan, spine_key

        check_choices(
            self,
            direction=("backward", "forward", "nearest"),
            boundary=("inclusive", "exclusive"),
        )
        by = [_parse_by(each) for each in list_of_names(self.by)]
        tolerance = _check_tolerance(self.tolerance)
        project = None if self.project is None else list_of_names(self.project)
        columns = None
        if project is not None:
            ties = [] if self.tie_break is None else [self.tie_break]
            columns = [*(fact for _, fact in by), self.facts_time, *ties, *project]
        spine = ctx.load_table(self.spine)
        facts = ctx.load_table(self.facts, columns)
        written = self.with_values(by=by, tolerance=tolerance, project=project)
        plan = JoinPlan(spine, facts, written)
        recipe = written.with_values(
            spine=spine.step_input,
            facts=facts.step_input,
            spine_time=plan.times[0],
            facts_time=plan.times[1],
            by=plan.by,
            tie_break=plan.tie_break,
            project=None if project is None else [*plan.output_names],
        )
        return ctx.job(
            recipe,
            [spine.prepared, facts.prepared],
            start=lambda on_progress: _start(ctx, spine, facts, plan, on_progress),
            key=spine_key(spine),
            columns=plan.output_types,
            order_sensitive=True,  # the rows come in the order of the spine
        )

    def column_reads(
        self, names: Sequence[str], inputs: "Sequence[Sequence[ColumnReads]]"
    ) -> "list[ColumnReads] | None":
        """Spine columns depend on the spine alone; fact columns also on the columns that select the
        fact."""
        from jammi_lab.engine.sql.column_lineage import combine_reads, select_reads

        spine, facts = inputs
        spine_by = [each[0] for each in self.by]
        facts_by = [each[1] for each in self.by]
        ties = [] if self.tie_break is None else [self.tie_break]
        match_columns = [
            *select_reads(spine, [self.spine_time, *spine_by]),
            *select_reads(facts, [self.facts_time, *facts_by, *ties]),
        ]
        if self.project is None:
            projected = [fact for fact in facts if fact.column not in facts_by]
        else:
            projected = select_reads(facts, self.project)
        if len(spine) + len(projected) != len(names):
            return None
        return [
            *(
                combine_reads(name, [column], [])
                for name, column in zip(names, spine, strict=False)
            ),
            *(
                combine_reads(name, [column], match_columns)
                for name, column in zip(names[len(spine) :], projected, strict=True)
            ),
        ]


def _start(
    ctx: BindContext,
    spine: "InputTable",
    facts: "InputTable",
    plan: "JoinPlan",
    on_progress: OnProgress | None,
) -> "RunningJob":
    from jammi_lab.features.asof.asof_rows import JoinedRows
    from jammi_lab.steps.jobs import RunningJob

    if on_progress:
        on_progress(Progress(stage=f"read facts of {ctx.name}", done=0, total=None, unit="rows"))
    return RunningJob(JoinedRows(spine, facts, plan))


def _parse_by(element: Any) -> tuple[str, str]:
    """The spine column and the facts column of one `by` element. Raises InvalidArgument."""
    pair = (element, element) if isinstance(element, str) else element
    if (
        not isinstance(pair, list | tuple)
        or len(pair) != 2
        or not all(isinstance(name, str) and name for name in pair)
    ):
        raise InvalidArgument(
            "by= takes column names that both have, or (spine, facts) pairs of names, got "
            f"{element!r}."
        )
    return pair[0], pair[1]


def _check_tolerance(tolerance: Any) -> datetime.timedelta | int | None:
    """A validated tolerance. Raises InvalidArgument unless it is None, a duration or a number of
    steps, and at least zero."""
    if tolerance is None:
        return None
    is_duration = isinstance(tolerance, datetime.timedelta)
    if not is_duration and not is_number(tolerance, whole=True):
        raise InvalidArgument(
            "tolerance must be a timedelta (for times), an integer (for integer times) or None, "
            f"got {tolerance!r}."
        )
    # pandas.Timedelta counts nanoseconds; a definition records Python's timedelta, which does not
    if getattr(tolerance, "nanoseconds", 0):
        raise InvalidArgument(f"tolerance must be in whole microseconds, got {tolerance!r}.")
    if (tolerance.days if is_duration else tolerance) < 0:
        raise InvalidArgument(f"tolerance must be at least zero, got {tolerance!r}.")
    if is_duration:
        return datetime.timedelta(tolerance.days, tolerance.seconds, tolerance.microseconds)
    return int(tolerance)
