"""Plan execution: one step after another, each re-evaluated before it runs; unchanged results cut
off the steps below them, and deviations from the plan are reported."""

import contextlib
import graphlib
from collections.abc import Sequence

from jammi_lab.core.anchors import Identity, result_input
from jammi_lab.core.errors import CheckFailed, JammiError, SessionClosed, advice_of
from jammi_lab.core.records import (
    OnProgress,
    Progress,
    RecipeRecord,
    RunStep,
    TableRecord,
    TableStatus,
)
from jammi_lab.core.verdicts import Damaged, Fresh
from jammi_lab.freshness.evaluated_graph import (
    EvaluatedGraph,
    is_same_basis,
    state_of_recipe,
)
from jammi_lab.freshness.plan import PlannedStep, StepKind
from jammi_lab.freshness.recipe_graph import RecipeKey, RecipeNode
from jammi_lab.freshness.service import FreshnessService
from jammi_lab.steps.build import Outcome, RecipeRedefined, produce
from jammi_lab.store.publish import AlreadyBuilding
from jammi_lab.store.sidecars import SidecarRequest

_CHANGED_MESSAGE = "{} changed after the plan was made"
_NOT_REUSED_MESSAGE = "the table to be reused for {} no longer exists or no longer matches"


class PlanRunner:
    """Executes a plan. Evaluates each step again before running it, and skips steps whose inputs
    came out unchanged (early cutoff)."""

    def __init__(
        self,
        service: FreshnessService,
        steps: Sequence[PlannedStep],
        on_progress: OnProgress | None,
    ) -> None:
        self._service = service
        self._clock = service.ctx.clock
        self._steps = steps
        self._on_progress = on_progress
        self._outcomes: dict[RecipeKey, RunStep] = {}
        self.deviations: list[str] = []
        """The deviations from the plan, in the order in which its steps ran."""
        self._blocked_recipes: set[RecipeKey] = set()
        self._left: dict[Identity, object] = {}
        """The states in which this run left the recipes that it processed."""

    @property
    def outcomes(self) -> list[RunStep]:
        """The outcome of each step, in the plan's order."""
        keys = [planned.node.key for planned in self._steps]
        return [self._outcomes[key] for key in keys if key in self._outcomes]

    def run(self) -> None:
        """Run the steps one after another, each after its upstream steps. A failing step stops only
        its downstream steps. After an interrupt finished tables stay ready and the others are
        unchanged."""
        steps = {planned.node.key: planned for planned in self._steps}
        order = graphlib.TopologicalSorter({key: steps[key].predecessors for key in steps})
        for key in order.static_order():
            if self._on_progress is not None:
                self._on_progress(
                    Progress(
                        stage=f"recompute {steps[key].node.name}",
                        done=len(self._outcomes),
                        total=len(steps),
                        unit="steps",
                    )
                )
            self._outcomes[key] = self._run_step(steps[key])

    def _run_step(self, planned: PlannedStep) -> RunStep:
        name = planned.node.name
        if planned.kind is StepKind.BLOCKED:
            # With an existing version, downstream steps can still be computed from that.
            if planned.node.record is None:
                self._blocked_recipes.add(planned.node.key)
            why = "; ".join(map(str, planned.step.reasons)) or None
            return RunStep(name=name, outcome="blocked", error=why, waiting=planned.step.waiting)
        started = self._clock.monotonic()
        try:
            return self._execute_step(planned, started)
        except RecipeRedefined:
            self._blocked_recipes.add(planned.node.key)
            self.deviations.append(_CHANGED_MESSAGE.format(name))
            return RunStep(
                name=name, outcome="skipped", error="its definition was changed during the run"
            )
        except SessionClosed:
            raise
        except JammiError as error:
            # Also a rejected step: what reads it would be computed from rows known to be stale.
            self._blocked_recipes.add(planned.node.key)
            if planned.kind is StepKind.REUSED:
                self.deviations.append(_NOT_REUSED_MESSAGE.format(name))
            return RunStep(
                name=name,
                outcome="rejected" if isinstance(error, CheckFailed) else "failed",
                seconds=self._clock.monotonic() - started,
                error=str(error).split("\n")[0],
                hint=" ".join(advice_of(error)),
            )

    def _record_failure(self, recipe: RecipeRecord, error: JammiError) -> None:
        """Record a run that failed before its build began, because the recipe could not be bound to
        its inputs, as a failed version."""
        unbuilt = TableRecord(
            table_name="",
            kind=recipe.kind,
            status=TableStatus.BUILDING,
            recipe=recipe.name,
            version=0,
            definition_hash=recipe.definition_hash,
            flight=False,
        )
        with (
            contextlib.suppress(JammiError, AlreadyBuilding),
            self._service.ctx.publisher.build_row(unbuilt, recipe.name),
        ):
            raise error

    def _execute_step(self, planned: PlannedStep, started: float) -> RunStep:
        """Run one step that is not blocked. Raises RecipeRedefined, and the JammiError of a failed
        computation."""
        name, ctx, recorded = planned.node.name, self._service.ctx, self._service.recorded_recipes
        evaluated = self._service.evaluate([name])
        node = evaluated.graph.find(name, planned.node.tenant)
        # A shared recipe of the same name is another recipe, with another identity.
        if node is None or node.recipe is None or node.key != planned.node.key:
            self.deviations.append(_CHANGED_MESSAGE.format(name))
            return RunStep(name=name, outcome="skipped", error="the recipe no longer exists")
        if any(p.key in self._blocked_recipes for p in evaluated.graph.required_inputs(node)):
            self._blocked_recipes.add(node.key)
            return RunStep(name=name, outcome="skipped", error="a table it reads was not computed")
        self._report_changes(planned, evaluated)
        is_fresh = isinstance(evaluated.own_verdicts[node.key], Fresh)
        if is_fresh and not evaluated.failed_rows(node.record):
            self._left[result_input(name).identity] = state_of_recipe(node)
            return _cut_off_step(planned, node, self.deviations)
        try:
            job = recorded.job(node.name, node.recipe.descriptor)
        except JammiError as error:
            self._record_failure(node.recipe, error)
            raise
        outcome = produce(
            ctx,
            node.name,
            job,
            bypass_cache=is_fresh,  # the table with the errors would answer
            on_progress=self._on_progress,
            expected_hash=node.recipe.definition_hash,
        )
        made = outcome.record
        self._left[result_input(name).identity] = node.key, made.definition_hash, made.digest
        _report_unplanned_reuse(planned, outcome, self.deviations)
        sidecar = ctx.results.sidecar(outcome.record)
        sidecar.build(outcome.record, SidecarRequest(), self._on_progress)
        return RunStep(
            name=name,
            outcome=outcome.outcome,
            seconds=self._clock.monotonic() - started,
            rows=outcome.record.row_count,
            table_name=outcome.record.table_name,
            reuse=outcome.reuse,
        )

    def _report_changes(self, planned: PlannedStep, evaluated: EvaluatedGraph) -> None:
        """Report what a step rests on that differs from its state at planning time, or from the
        state in which this run left it."""
        current = evaluated.basis(planned.node, planned.read_names)
        for identity, former in planned.basis.items():
            if not is_same_basis(self._left.get(identity, former), current.get(identity)):
                self.deviations.append(_CHANGED_MESSAGE.format(identity[1]))


def _report_unplanned_reuse(planned: PlannedStep, outcome: Outcome, deviations: list[str]) -> None:
    """Report a step that ran although reuse was planned, or the reverse; the plan's time bounds do
    not hold then."""
    name = planned.node.name
    # Steps that run before it may lead back to inputs of which a table was made long ago.
    is_new = not planned.predecessors or (outcome.record.completed_at or "") > planned.planned_at
    if planned.kind is StepKind.CERTAIN and outcome.outcome == "reused" and is_new:
        deviations.append(f"{name} reused a table that became ready after the plan was made")
    if planned.kind is StepKind.REUSED and outcome.outcome == "computed":
        deviations.append(_NOT_REUSED_MESSAGE.format(name))
    if planned.step.action == "increment" and outcome.full_run_reason:
        deviations.append(f"{name} was computed in full: {outcome.full_run_reason}")
    # Otherwise the estimate of the plan counts these rows.
    if not any(isinstance(reason, Damaged) for reason in planned.step.reasons):
        deviations += [
            f"{name} took no rows over from version {version}, which is damaged"
            for version in outcome.damaged_versions
        ]


def _cut_off_step(planned: PlannedStep, node: RecipeNode, deviations: list[str]) -> RunStep:
    """The outcome of a step whose table is already fresh. Within this run that is expected only for
    a possible step whose table is unchanged; otherwise the table was updated outside of it."""
    planned_record, current_record = planned.node.record, node.record
    meanwhile = planned.kind is not StepKind.POSSIBLE or (
        planned_record and planned_record.table_name
    ) != (current_record and current_record.table_name)
    if meanwhile:
        deviations.append(_CHANGED_MESSAGE.format(node.name))
    return RunStep(
        name=node.name,
        outcome="cut_off",
        meanwhile=meanwhile,
        rows=node.record.row_count if node.record else None,
        table_name=node.record.table_name if node.record else None,
    )
