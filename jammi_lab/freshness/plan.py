"""Plans: the steps that bring tables up to date, with bounds on their duration."""

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jammi_lab.core.anchors import (
    Anchor,
    FrameOrigin,
    Identity,
    Input,
    MissingFrame,
    Vanished,
    cell_names,
)
from jammi_lab.core.errors import JammiError
from jammi_lab.core.records import Step, TableRecord
from jammi_lab.core.verdicts import (
    Cause,
    Damaged,
    Fresh,
    InputAdvanced,
    InputVanished,
    PossiblyStale,
    Reason,
    Stale,
    Undecidable,
    Verdict,
)
from jammi_lab.engine.sql.append_algebra import NotIncremental
from jammi_lab.freshness.evaluated_graph import EvaluatedGraph, frames_of_tables
from jammi_lab.freshness.recipe_graph import RecipeKey, RecipeNode
from jammi_lab.freshness.service import FreshnessService
from jammi_lab.freshness.table_verdict import State
from jammi_lab.steps.anchor_confirmation import observed_anchors, observed_files
from jammi_lab.steps.build import find_reusable, plan_increment
from jammi_lab.steps.jobs import Job
from jammi_lab.steps.registry import recipe_of

StepReason = Reason | Cause | Damaged | str
_DEFAULT_MERGE_SHARE = 0.1
"""The part of a full run that merging an increment takes, measured."""


class StepKind(enum.Enum):
    """Whether a step will run."""

    CERTAIN = "certain"
    POSSIBLE = "possible"
    REUSED = "reused"
    BLOCKED = "blocked"


_ACTIONS = {StepKind.BLOCKED: "blocked", StepKind.REUSED: "reuse"}
"""The action of a step that computes nothing."""


@dataclass
class PlannedStep:
    """A step with its node and what it rests on."""

    node: RecipeNode
    kind: StepKind
    step: Step
    predecessors: frozenset[RecipeKey] = frozenset()
    """The nearest upstream steps, which must run before it."""
    read_names: tuple[str, ...] = ()
    """The recipes that it reads."""
    basis: Mapping[Identity, object] = field(default_factory=dict)
    """What it rests on, as it was at planning time."""
    planned_at: str = ""
    """When the states were observed that it rests on."""


class Planner:
    """Builds the steps of a plan from the verdicts of one observation pass."""

    def __init__(
        self,
        service: FreshnessService,
        evaluated: EvaluatedGraph,
        names: Sequence[str] | None,
        *,
        ends_holds: bool = True,
        counts_rows: bool = True,
    ) -> None:
        """`ends_holds`: whether naming a held recipe lets it run. `counts_rows`: whether the
        inputs of row maps and embeddings are read, to estimate their steps."""
        self._service, self._evaluated, self._counts_rows = service, evaluated, counts_rows
        graph = evaluated.graph
        requested = [n for name in names or () if (n := graph.find(name, graph.tenant)) is not None]
        self._requested = {n.key for n in (requested if names is not None else [])}
        self.order = graph.topological_order(
            requested if names is not None else graph.visible_nodes, graph.required_inputs
        )
        self._holds = {
            key: hold
            for key, hold in service.ctx.catalog.holds.list().items()
            if not (ends_holds and key in self._requested)
        }
        self.planned: dict[RecipeKey, PlannedStep] = {}
        self.nearest: dict[RecipeKey, frozenset[RecipeKey]] = {}
        """By recipe its step, or the nearest steps upstream of it."""
        self.left_out: list[str] = []
        """Undecidable tables that were not named, parents before children."""
        self._not_reusable: set[RecipeKey] = set()
        """Steps with an input that cannot be pinned; no existing table can be reused for them."""
        self._definitions: dict[RecipeKey, str] = {}
        """The current definition hashes of steps without upstream steps."""
        self._jobs: dict[RecipeKey, Job] = {}
        """The jobs of these steps."""

    def steps(self) -> list[PlannedStep]:
        """All steps, parents before children."""
        for node in self.order:
            verdict = self._evaluated.verdicts[node.key]
            reads = tuple(self._evaluated.graph.required_inputs(node))
            predecessors = frozenset[RecipeKey]().union(*(self.nearest[p.key] for p in reads))
            planned = self._plan_step(node, verdict, reads, predecessors)
            if planned is not None:
                self.planned[node.key] = planned
                self.nearest[node.key] = frozenset({node.key})
                continue
            self.nearest[node.key] = predecessors
            if isinstance(verdict, Undecidable):
                self.left_out.append(node.name)
            elif isinstance(verdict, PossiblyStale):
                self._record_waiting(node, verdict)
        steps = list(self.planned.values())
        self._sequence_equal_definitions(steps)
        return steps

    def _plan_step(
        self,
        node: RecipeNode,
        verdict: Verdict,
        reads: tuple[RecipeNode, ...],
        predecessors: frozenset[RecipeKey],
    ) -> PlannedStep | None:
        """The step of a recipe; None when it need not run."""
        due = self._classify(node, verdict)
        if due is None:
            return None
        kind, reasons = due
        blockers = self._blockers(node, reasons)
        if blockers is not None:
            if isinstance(verdict, Fresh) and kind is StepKind.POSSIBLE:
                return None
            kind, reasons = StepKind.BLOCKED, [*reasons, *blockers]
        elif kind is StepKind.CERTAIN:
            answer = self._classify_reuse(node)
            # the table with the failed rows would answer
            kind = kind if isinstance(verdict, Fresh) else answer
        action = _ACTIONS.get(kind, "recompute")
        last_run_seconds = None if node.record is None else node.record.seconds
        step = Step(name=node.name, action=action, reasons=reasons, seconds=last_run_seconds)
        if action == "recompute":
            step = self._estimated(step, node)
        names = tuple(parent.name for parent in reads)
        basis = self._evaluated.basis(node, names)
        planned_at = self._evaluated.observation.started_at
        return PlannedStep(node, kind, step, predecessors, names, basis, planned_at)

    def _estimated(self, step: Step, node: RecipeNode) -> Step:
        """The step with what it will compute, where its job counts rows and its inputs are
        known."""
        job = self._jobs.get(node.key)
        if job is None:
            return step
        if job.incremental is not None:
            return self._as_increment(step, node, job)
        if job.estimate is None or not self._counts_rows:
            return step
        try:
            with self._service.ctx.scope.use(node.tenant):
                estimate = job.estimate()
        except JammiError:  # the run will report it
            return step
        return step.with_values(estimate=estimate, seconds=estimate.seconds or step.seconds)

    def _as_increment(self, step: Step, node: RecipeNode, job: Job) -> Step:
        """The step as an increment, where one is possible."""
        ctx, observation = self._service.ctx, self._evaluated.observation
        with ctx.scope.use(node.tenant):
            earlier = ctx.catalog.result_tables.by_definition(job.definition)
        full_runs = [record.seconds for record in earlier if record.seconds]
        full_seconds = max(full_runs, default=step.seconds)  # increments are quicker
        try:
            with ctx.scope.use(node.tenant):
                planned = plan_increment(
                    ctx,
                    job,
                    observed_anchors(job, observation, node.tenant),
                    observed_files(job, observation, node.tenant),
                    earlier,
                )
        except JammiError:  # the run will report it
            return step.with_values(seconds=full_seconds)
        except NotIncremental as error:
            return step.with_values(seconds=full_seconds, full_run_reason=str(error))
        share = _DEFAULT_MERGE_SHARE + planned.added.rows / max(planned.added.total_rows, 1)
        return step.with_values(
            action="increment",
            increment=planned.added.extent,
            seconds=None if full_seconds is None else full_seconds * min(share, 1.0),
        )

    def _sequence_equal_definitions(self, steps: Sequence[PlannedStep]) -> None:
        """Put recipes of equal definition in sequence. The table of the first certain one is reused
        by the others, which are therefore only possible."""
        # Calling the others `reused` would promise too much: when the first one fails they are
        # computed, and a plan never runs what it did not name.
        groups: dict[str, list[PlannedStep]] = {}
        for step in steps:
            definition = self._definitions.get(
                step.node.key, self._evaluated.current_definition(step.node)
            )
            runs = step.kind in (StepKind.CERTAIN, StepKind.POSSIBLE)
            if runs and isinstance(definition, str) and step.node.key not in self._not_reusable:
                groups.setdefault(definition, []).append(step)
        for group in groups.values():
            first = next((step for step in group if step.kind is StepKind.CERTAIN), None)
            if first is None:
                continue
            for step in group:
                if step is not first:
                    reuse = f"{first.node.name} has the same definition; its table is reused"
                    step.step = step.step.with_values(reasons=[reuse, *step.step.reasons])
                    step.kind = StepKind.POSSIBLE
                    step.predecessors = step.predecessors | {first.node.key}

    def _record_waiting(self, node: RecipeNode, verdict: PossiblyStale) -> None:
        """Record the node as waiting at each blocked step upstream of it."""
        upstream = [
            self._evaluated.graph.find(name, node.tenant)
            for cause in verdict.causes
            for name in cause.path
        ]
        for key in {parent.key: None for parent in upstream if parent is not None}:
            if key in self.planned and self.planned[key].kind is StepKind.BLOCKED:
                self.planned[key].step.waiting.append(node.name)

    def _classify(
        self, node: RecipeNode, verdict: Verdict
    ) -> tuple[StepKind, list[StepReason]] | None:
        """Whether a recipe must run or may have to, with the reasons; None when it need not."""
        why: list[StepReason] = []
        match verdict:
            case Fresh():
                if failed_rows := self._evaluated.failed_rows(node.record):
                    return StepKind.CERTAIN, [*failed_rows]
                why = [
                    f"{parent.name} is recomputed first"
                    for parent in self._evaluated.graph.recorded_inputs(node)
                    if self._will_run(node, parent.name)
                ]
            case Stale(reasons) | Undecidable(_, reasons) if reasons:
                return self._classify_reasons(node, reasons), [*reasons]
            case PossiblyStale(causes):
                frames = frame_origins(node)
                of_frames = [cause for cause in causes if cause.path[0] in frames]
                tables = {frame: table for table, frame in frames_of_tables(node).items()}
                of_steps = []
                for cause in causes:
                    if self._will_run(node, tables.get(cause.path[0], cause.path[0])):
                        of_steps.append(cause)
                why = [*of_frames, *(cause for cause in of_steps if cause not in of_frames)]
            case Undecidable():
                return (StepKind.POSSIBLE, why) if node.key in self._requested else None
            case Damaged():
                return StepKind.CERTAIN, [verdict]
            case _:
                return StepKind.CERTAIN, why
        return (StepKind.POSSIBLE, why) if why else None

    def _has_fresh_frames(self, node: RecipeNode) -> bool:
        """Whether the frames that a recipe reads were made again, from tables that are fresh."""
        if node.recipe is None:
            return False
        try:
            with self._service.ctx.scope.use(node.tenant):
                job = self._service.recorded_recipes.job(node.name, node.recipe.descriptor)
                anchors = observed_anchors(job, self._evaluated.observation, node.tenant)
        except JammiError:
            return False
        return all(
            isinstance(self._evaluated.origin_verdict(node, anchor.origin), Fresh)
            for anchor in anchors
            if isinstance(anchor.origin, FrameOrigin)
        )

    def _classify_reasons(self, node: RecipeNode, reasons: Iterable[Reason]) -> StepKind:
        """Certain, unless every reason is the change of a recipe that will itself run."""
        via_running_recipe = [
            isinstance(r, InputAdvanced)
            and r.input.kind_class.is_result
            and self._will_run(node, r.input.name)
            for r in reasons
        ]
        return (
            StepKind.POSSIBLE
            if via_running_recipe and all(via_running_recipe)
            else StepKind.CERTAIN
        )

    def _will_run(self, node: RecipeNode, parent: str) -> bool:
        parent_node = self._evaluated.graph.find(parent, node.tenant)
        planned = self.planned.get(parent_node.key) if parent_node else None
        return planned is not None and planned.kind is not StepKind.BLOCKED

    def _blockers(self, node: RecipeNode, reasons: Sequence[StepReason]) -> list[str] | None:
        """Why a step cannot run, as clauses: a hold, frames to be made again, missing
        prerequisites, and inputs that are gone or damaged and that no step restores. What a reason
        names is left out, so that the list may be empty. None when the step can run."""
        hold = self._holds.get(node.key)
        blockers = [] if hold is None else [str(hold)]
        frames = {
            name: origin.cells
            for name, origin in frame_origins(node).items()
            if any(isinstance(r, Cause) and r.path[0] == name for r in reasons)
        }
        # a frame that was not made again would give the same rows
        if frames and not self._has_fresh_frames(node):
            blockers += sorted({f"run {cell_names(cells)} again" for cells in frames.values()})
        blockers += self._missing_prerequisites(
            node, told=[name for name, cells in frames.items() if cells]
        )
        inputs = node.recipe.reads if node.recipe is not None else []
        unavailable = {
            each: problem
            for each in inputs
            if (problem := self._unavailability(node, each)) is not None
        }
        named = {reason.input.identity for reason in reasons if isinstance(reason, InputVanished)}
        blockers += [
            f"{each.label} is {problem}"
            for each, problem in unavailable.items()
            if each.identity not in named
        ]
        is_foreign = node.recipe is None or node.tenant != self._evaluated.graph.tenant
        return blockers if blockers or unavailable or is_foreign else None

    def _missing_prerequisites(self, node: RecipeNode, told: Collection[str]) -> list[str]:
        """Why this kernel cannot compute a step, as clauses: its rows come from outside, or a
        prerequisite or a frame, other than those `told`, is missing. Empty when it can."""
        if node.recipe is None:
            return []
        descriptor = node.recipe.descriptor
        context = self._service.recorded_recipes.bind_context()
        missing = recipe_of(descriptor).missing_requirement(context)
        observe = self._evaluated.observation.observe
        frames = []
        for each in node.recipe.reads:
            if each.kind_class.has_origin and each.name not in told:
                observed = observe(each, node.tenant)
                if isinstance(observed, MissingFrame):
                    frames.append(observed.why)
        return frames if missing is None else [missing, *frames]

    def _unavailability(self, node: RecipeNode, input: Input) -> str | None:
        """`gone` or `damaged` for an input that cannot be read and that no earlier step restores;
        otherwise None."""
        evaluated, name, tenant = self._evaluated, input.name, node.tenant
        if input.kind_class.is_result:
            if self._will_run(node, name):
                return None
            parent = evaluated.graph.find(name, tenant)
            if parent is not None:
                if parent.record is None:
                    return "gone"
                is_damaged = isinstance(evaluated.own_verdicts[parent.key], Damaged)
                return "damaged" if is_damaged else None
        if isinstance(evaluated.observation.observe(input, tenant), Vanished):
            return "gone"
        if input.kind_class.is_result and isinstance(
            evaluated.table_verdict(name, tenant), Damaged
        ):
            return "damaged"
        return None

    def _classify_reuse(self, node: RecipeNode) -> StepKind:
        """Whether an existing table can be reused for a step that must run. Without upstream steps
        this is known. Otherwise a table that fits if the upstream tables return to an earlier state
        makes the step possible."""
        ctx, observation = self._service.ctx, self._evaluated.observation
        assert node.recipe is not None, "a step without a definition is blocked"
        running = {
            p.name
            for p in self._evaluated.graph.required_inputs(node)
            if p.key in self.planned and self.planned[p.key].kind is not StepKind.BLOCKED
        }
        try:
            with ctx.scope.use(node.tenant):
                if not running:
                    job = self._service.recorded_recipes.job(node.name, node.recipe.descriptor)
                    self._jobs[node.key] = job
                    self._definitions[node.key] = job.definition
                    anchors = observed_anchors(job, observation, node.tenant)
                    if not all(anchor.pinned for anchor in anchors):
                        self._not_reusable.add(node.key)
                    reusable = find_reusable(ctx, job.definition, anchors)
                    return self._kind_of_reuse(node, reusable) if reusable else StepKind.CERTAIN
                definition = self._service.recorded_recipes.current_definition(node.recipe)
                candidates = (
                    ctx.catalog.result_tables.by_definition(definition)
                    if isinstance(definition, str)
                    else []
                )
                fitting = [c for c in candidates if self._may_be_reused(node, c)]
                return StepKind.POSSIBLE if fitting else StepKind.CERTAIN
        except JammiError:
            return StepKind.CERTAIN

    def _kind_of_reuse(self, node: RecipeNode, reusable: TableRecord) -> StepKind:
        """The kind of a step for which this table is ready. It is computed anew when the table does
        not pass the checks, which is unknown while one of them has to be run."""
        if node.record is not None and node.record.table_name == reusable.table_name:
            return StepKind.REUSED  # the newest version is not checked again
        passes = self._evaluated.checks.passes(
            reusable.with_values(recipe=node.name), self._evaluated.observation
        )
        if passes is None:
            return StepKind.POSSIBLE
        return StepKind.REUSED if passes else StepKind.CERTAIN

    def _may_be_reused(self, node: RecipeNode, candidate: TableRecord) -> bool:
        """Whether all inputs of the candidate, except result tables that will be recomputed, are in
        the recorded state. If such a result table returns to its recorded columns, the statement
        may read other columns of the other inputs than it does now."""
        current_states = self._evaluated.current_states(node, candidate)
        recomputed = []
        for a in candidate.anchors:
            if a.input.kind_class.is_result and self._will_run(node, a.input.name):
                recomputed.append(a)
        rebound = any(_schema_changed(a, current_states.get(a.input.identity)) for a in recomputed)
        others = [a for a in candidate.anchors if a not in recomputed]
        return rebound or all(
            _is_same_state(a, current_states.get(a.input.identity)) for a in others
        )


def frame_origins(node: RecipeNode) -> dict[str, FrameOrigin]:
    """What the frames that a version was computed from were made from, by the frame's name."""
    anchors = node.record.anchors if node.record is not None else []
    return {a.input.label: a.origin for a in anchors if isinstance(a.origin, FrameOrigin)}


def _is_same_state(recorded: Anchor, state: State | None) -> bool:
    return isinstance(state, Anchor) and recorded.same_state(state)


def _schema_changed(recorded: Anchor, state: State | None) -> bool:
    return not isinstance(state, Anchor) or recorded.schema != state.schema
