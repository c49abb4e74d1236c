"""Plans: the steps that bring tables up to date, with bounds on their duration."""

import enum
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from jammi_lab.core.anchors import (
    Anchor,
    FrameOrigin,
    Input,
    InputKind,
    MissingFrame,
    Snapshot,
    Vanished,
    cell_names,
)
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import count_noun
from jammi_lab.core.identifiers import fold
from jammi_lab.core.manifest import Increment
from jammi_lab.core.records import Hold, RecipeRecord, Step, TableRecord
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
from jammi_lab.freshness.evaluated_graph import EvaluatedGraph
from jammi_lab.freshness.recipe_graph import RecipeKey, RecipeNode
from jammi_lab.freshness.service import FreshnessService
from jammi_lab.freshness.table_verdict import State
from jammi_lab.steps.anchor_confirmation import observed_anchors, observed_files
from jammi_lab.steps.build import find_reusable, plan_increment
from jammi_lab.steps.estimates import predict_seconds, scale_to_rows
from jammi_lab.steps.increment import PlannedIncrement
from jammi_lab.steps.jobs import Job

_DEFAULT_MERGE_SHARE = 0.1
"""The part of a full run that merging takes, where no increment was run yet; measured."""
_MAX_PAST_RUNS = 20
"""Versions whose durations estimate the next run."""


class StepKind(enum.Enum):
    """Whether a step will run."""

    CERTAIN = "certain"
    POSSIBLE = "possible"
    REUSED = "reused"
    BLOCKED = "blocked"


@dataclass
class PlannedStep:
    """A step with its node and the states of its inputs at planning time."""

    node: RecipeNode
    kind: StepKind
    step: Step
    states: dict[tuple[str, str, str], object] = field(default_factory=dict)
    predecessors: frozenset[RecipeKey] = frozenset()
    """The nearest upstream steps, which must run before it."""
    reads: tuple[RecipeNode, ...] = ()
    """The recipes that it reads, as they were at planning time."""


class Planner:
    """Builds the steps of a plan from the verdicts of one observation pass."""

    def __init__(
        self,
        service: FreshnessService,
        evaluated: EvaluatedGraph,
        names: Sequence[str] | None,
        *,
        names_end_holds: bool = True,
        counts_rows: bool = True,
    ) -> None:
        """`names_end_holds`: whether naming a held recipe lets it run. `counts_rows`: whether the
        inputs of row maps and embeddings are read, to estimate their steps."""
        self._service, self._evaluated, self._counts_rows = service, evaluated, counts_rows
        graph = evaluated.graph
        requested = [n for name in names or () if (n := graph.find(name, graph.tenant)) is not None]
        self._requested = {n.key for n in (requested if names is not None else [])}
        self.order = graph.topological_order(
            requested if names is not None else graph.visible_nodes(), graph.required_inputs
        )
        self.is_complete = names is None
        """Whether it is a plan for everything."""
        self._holds = {
            key: hold
            for key, hold in service.ctx.catalog.holds.list().items()
            if not (names_end_holds and key in self._requested)
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
        nearest = self.nearest
        for node in self.order:
            verdict = self._evaluated.verdicts[node.key]
            reads = tuple(self._evaluated.graph.required_inputs(node))
            nearest[node.key] = predecessors = frozenset[RecipeKey]().union(
                *(nearest[p.key] for p in reads)
            )
            if (classified := self._classify(node, verdict)) is not None:
                kind = classified[0]
                reasons = [
                    *classified[1],
                    *(
                        self._blockers(node, classified[1])
                        if classified[0] is StepKind.BLOCKED
                        else ()
                    ),
                ]
                action = {StepKind.BLOCKED: "blocked", StepKind.REUSED: "reuse"}.get(
                    kind, "recompute"
                )
                step = self._estimated(
                    Step(
                        name=node.name,
                        action=action,
                        reasons=reasons,
                        seconds=self._last_run_seconds(node),
                    ),
                    node,
                )
                self.planned[node.key] = PlannedStep(
                    node, kind, step, dict(self._evaluated.states(node)), predecessors, reads
                )
                nearest[node.key] = frozenset({node.key})
            elif isinstance(verdict, Undecidable):
                self.left_out.append(node.name)
            elif isinstance(verdict, PossiblyStale):
                self._record_waiting(node, verdict)
        return self._sequence_equal_definitions(list(self.planned.values()))

    def _estimated(self, step: Step, node: RecipeNode) -> Step:
        """The step with what it will compute, where its job counts rows and its inputs are
        known."""
        job = self._jobs.get(node.key)
        if step.action == "recompute" and job is not None and job.incremental is not None:
            return self._as_increment(step, node, job)
        if (
            step.action != "recompute"
            or job is None
            or job.estimate is None
            or not self._counts_rows
        ):
            return step
        try:
            with self._service.ctx.scope.use(node.tenant):
                estimate = job.estimate()
        except JammiError:  # the run will report it
            return step
        return msgspec.structs.replace(
            step, estimate=estimate, seconds=estimate.seconds or step.seconds
        )

    def _as_increment(self, step: Step, node: RecipeNode, job: Job) -> Step:
        """The step as an increment, where one is possible."""
        ctx, observation = self._service.ctx, self._evaluated.observation
        try:
            with ctx.scope.use(node.tenant):
                planned = plan_increment(
                    ctx,
                    job,
                    observed_anchors(job, observation, node.tenant),
                    observed_files(job, observation, node.tenant),
                    ctx.catalog.result_tables.by_definition(job.definition),
                )
        except (JammiError, NotIncremental):
            return msgspec.structs.replace(step, seconds=self._full_run_seconds(node))
        return msgspec.structs.replace(
            step,
            action="increment",
            increment=planned.added.extent,
            seconds=self._increment_seconds(node, planned),
        )

    def _increment_seconds(self, node: RecipeNode, planned: PlannedIncrement) -> float | None:
        """The duration of an increment by its number of files, from those of earlier increments
        and of the last full run, which read the others."""
        new, total = len(planned.added.delta), planned.added.file_count
        full_seconds = self._full_run_seconds(node)
        runs = [
            (len(increment.delta), seconds)
            for increment, seconds, _ in self._past_runs(node)
            if increment is not None
        ]
        if full_seconds is not None:
            runs.append((max(total - new, new), full_seconds))
        return predict_seconds(new, runs, (full_seconds or 0.0) * _DEFAULT_MERGE_SHARE)

    def _full_run_seconds(self, node: RecipeNode) -> float | None:
        """The duration of the last full run; that of an increment is no estimate of one."""
        full_runs = (run for run in self._past_runs(node) if run[0] is None)
        run = next(full_runs, None)
        return (
            self._last_run_seconds(node) if run is None else self._for_current_rows(node, *run[1:])
        )

    def _last_run_seconds(self, node: RecipeNode) -> float | None:
        """The duration of the last run, for the rows that its inputs have now."""
        record = node.record
        if record is None or record.seconds is None:
            return None
        return self._for_current_rows(node, record.seconds, record)

    def _for_current_rows(self, node: RecipeNode, seconds: float, record: TableRecord) -> float:
        text_bytes = functools.partial(self._evaluated.observation.text_bytes, tenant=node.tenant)
        return scale_to_rows(seconds, record.anchors, self._evaluated.states(node), text_bytes)

    def _past_runs(self, node: RecipeNode) -> list[tuple[Increment | None, float, TableRecord]]:
        """How the newest versions were computed, their durations and records."""
        with self._service.ctx.scope.use(node.tenant):
            versions = self._service.ctx.catalog.result_tables.versions(node.name)
        return [
            (self._evaluated.increment(record), record.seconds, record)
            for _, record in versions[:_MAX_PAST_RUNS]
            if record.seconds
        ]

    def _sequence_equal_definitions(self, steps: list[PlannedStep]) -> list[PlannedStep]:
        """The steps, with recipes of equal definition put in sequence. The table of the first
        certain one is reused by the others, which are therefore only possible."""
        # Calling the others `reused` would promise too much: when the first one fails they are
        # computed, and a plan never runs what it did not name.
        for group in self._groups_of_equal_definition(steps):
            first = next((step for step in group if step.kind is StepKind.CERTAIN), None)
            if first is None:
                continue
            for step in group:
                if step is not first:
                    reuse = f"{first.node.name} has the same definition; its table is reused"
                    step.step = msgspec.structs.replace(
                        step.step, reasons=[reuse, *step.step.reasons]
                    )
                    step.kind = StepKind.POSSIBLE
                    step.predecessors = step.predecessors | {first.node.key}
        return steps

    def _groups_of_equal_definition(self, steps: list[PlannedStep]) -> list[list[PlannedStep]]:
        """Groups of running steps with equal definitions that could reuse one table. Binding is
        expensive, so only steps with an equal column-independent digest are bound and compared."""
        candidates: dict[str, list[tuple[PlannedStep, RecipeRecord]]] = {}
        for step in steps:
            recipe = step.node.recipe
            if (
                step.kind in (StepKind.CERTAIN, StepKind.POSSIBLE)
                and recipe is not None
                and step.node.key not in self._not_reusable
            ):
                candidates.setdefault(_column_independent_digest(recipe), []).append((step, recipe))
        by_definition: dict[str, list[PlannedStep]] = {}
        for group in candidates.values():
            for step, recipe in group if len(group) > 1 else ():
                by_definition.setdefault(self._current_definition(step.node, recipe), []).append(
                    step
                )
        return [*by_definition.values()]

    def _current_definition(self, node: RecipeNode, recipe: RecipeRecord) -> str:
        """The definition hash of a step over today's columns, which `*` may expand to. Upstream
        steps may still change the columns, but then equally for equal statements. A statement that
        does not bind yet is identified by its text."""
        if (definition := self._definitions.get(node.key)) is not None:
            return definition
        try:
            with self._service.ctx.scope.use(node.tenant):
                return self._service.producers.job(recipe.name, recipe.descriptor).definition
        except JammiError:
            return digest_of(
                {key: value for key, value in recipe.descriptor.items() if key != "canonical"}
            )

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
    ) -> tuple[StepKind, list[Reason | Cause | Damaged | str]] | None:
        """The kind of step for a node, with the reasons; None when it need not run."""
        kind: StepKind | None = StepKind.CERTAIN
        why: list[Reason | Cause | Damaged | str] = []
        match verdict:
            case Fresh():
                return self._classify_failed_rows(node)
            case Stale(reasons) | Undecidable(_, reasons) if reasons:
                kind, why = self._classify_reasons(node, reasons), [*reasons]
            case PossiblyStale(causes):
                frames = frame_origins(node)
                why = [c for c in causes if self._will_run(node, c.path[0])]
                if of_frames := [c for c in causes if c.path[0] in frames]:
                    # a frame that was not made again would give the same rows
                    return (
                        StepKind.POSSIBLE if self._has_fresh_frames(node) else StepKind.BLOCKED
                    ), [*of_frames, *(c for c in why if c not in of_frames)]
                kind = StepKind.POSSIBLE if why else None
            case Undecidable():
                kind = StepKind.POSSIBLE if node.key in self._requested else None
            case Damaged():
                why = [verdict]
        if kind is None:
            return None
        if self._hold(node) is not None or self._cannot_run(node):
            return StepKind.BLOCKED, why
        return (self._classify_reuse(node) if kind is StepKind.CERTAIN else kind), why

    def _classify_failed_rows(
        self, node: RecipeNode
    ) -> tuple[StepKind, list[Reason | Cause | Damaged | str]] | None:
        """The step for a fresh table: a row map with errors computes those rows again, and what
        reads it may follow."""
        failed_count = self._evaluated.count_failed_rows(node)
        if failed_count:
            is_blocked = self._hold(node) is not None or self._cannot_run(node)
            if not is_blocked:
                self._classify_reuse(node)  # binds the job, for its estimate
            reason = f"{count_noun(failed_count, 'row')} with an error"
            return StepKind.BLOCKED if is_blocked else StepKind.CERTAIN, [reason]
        parents = [
            parent.name
            for parent in self._evaluated.graph.recorded_inputs(node)
            if self._will_run(node, parent.name)
        ]
        if not parents or self._hold(node) is not None:
            return None
        return StepKind.POSSIBLE, [f"{name} is recomputed first" for name in parents]

    def _hold(self, node: RecipeNode) -> Hold | None:
        """The hold that keeps a recipe as it is."""
        return self._holds.get(node.key)

    def _has_fresh_frames(self, node: RecipeNode) -> bool:
        """Whether the frames that a recipe reads were made again, from tables that are fresh."""
        if node.recipe is None:
            return False
        try:
            with self._service.ctx.scope.use(node.tenant):
                job = self._service.producers.job(node.name, node.recipe.descriptor)
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
            and r.input.kind is InputKind.RESULT
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

    def _blockers(
        self, node: RecipeNode, reasons: Sequence[Reason | Cause | Damaged | str]
    ) -> list[str]:
        """Why a step is blocked, as clauses: missing prerequisites, and inputs that are gone or
        damaged and not named in a reason."""
        named_inputs = {
            reason.input.identity for reason in reasons if isinstance(reason, InputVanished)
        }
        recorded = node.recipe.inputs if node.recipe is not None else []
        unavailable = [
            (Input(InputKind(i[0]), i[1], i[2] or None), problem)
            for i in recorded
            if i not in named_inputs and (problem := self._unavailability(node, i))
        ]
        frames = {
            cell_names(origin.cells)
            for name, origin in frame_origins(node).items()
            if any(isinstance(r, Cause) and r.path[0] == name for r in reasons)
        }
        hold = self._hold(node)
        return [
            *([] if hold is None else [str(hold)]),
            *(f"run {cells} again" for cells in sorted(frames)),
            *self._missing_prerequisites(node),
            *(f"{lost_input.label} is {problem}" for lost_input, problem in unavailable),
        ]

    def _missing_prerequisites(self, node: RecipeNode) -> list[str]:
        """Why this kernel cannot compute a step, as clauses: its rows come from outside, or a
        prerequisite or a frame is missing. Empty when it can."""
        if node.recipe is None:
            return []
        descriptor = node.recipe.descriptor
        missing = self._service.producers.missing_requirement(descriptor)
        frames = [
            name
            for kind, name, _ in node.recipe.inputs
            if kind == InputKind.FRAME and self._is_missing_frame(node, name)
        ]
        return [
            *([] if missing is None else [missing]),
            *(f"the frame {name} is not in this kernel; create it again" for name in frames),
        ]

    def _is_missing_frame(self, node: RecipeNode, name: str) -> bool:
        frame = Input(InputKind.FRAME, name)
        return isinstance(self._evaluated.observation.observe(frame, node.tenant), MissingFrame)

    def _cannot_run(self, node: RecipeNode) -> bool:
        """Whether a step is blocked: external rows, a shared table while a tenant is bound, a
        dropped definition, a missing encoder, or an input that is gone or damaged and that no step
        restores."""
        if (
            node.recipe is None
            or node.tenant != self._evaluated.graph.tenant
            or self._missing_prerequisites(node)
        ):
            return True
        return any(self._unavailability(node, identity) for identity in node.recipe.inputs)

    def _unavailability(self, node: RecipeNode, identity: tuple[str, str, str]) -> str | None:
        """`gone` or `damaged` for an input that cannot be read and that no earlier step restores;
        otherwise None."""
        kind, name, table = identity
        if kind == InputKind.RESULT and self._will_run(node, name):
            return None
        parent = self._evaluated.graph.find(name, node.tenant) if kind == InputKind.RESULT else None
        if parent is not None:
            return (
                "gone"
                if parent.record is None
                else "damaged"
                if isinstance(self._evaluated.own_verdicts[parent.key], Damaged)
                else None
            )
        if isinstance(
            self._evaluated.observation.observe(
                Input(InputKind(kind), name, table or None), node.tenant
            ),
            Vanished,
        ):
            return "gone"
        return (
            "damaged"
            if kind == InputKind.RESULT
            and isinstance(self._evaluated.table_verdict(name, node.tenant), Damaged)
            else None
        )

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
                    job = self._service.producers.job(node.name, node.recipe.descriptor)
                    self._jobs[node.key] = job
                    self._definitions[node.key] = job.definition
                    anchors = observed_anchors(job, observation, node.tenant)
                    if not all(anchor.pinned for anchor in anchors):
                        self._not_reusable.add(node.key)
                    reusable = find_reusable(ctx, job.definition, anchors)
                    return self._kind_of_reuse(node, reusable) if reusable else StepKind.CERTAIN
                definition = self._service.producers.current_definition(node.recipe)
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
            msgspec.structs.replace(reusable, recipe=node.name), self._evaluated.observation
        )
        if passes is None:
            return StepKind.POSSIBLE
        return StepKind.REUSED if passes else StepKind.CERTAIN

    def _may_be_reused(self, node: RecipeNode, candidate: TableRecord) -> bool:
        """Whether all inputs of the candidate, except result tables that will be recomputed, are in
        the recorded state. If such a result table returns to its recorded columns, the statement
        reads the recorded columns of the other inputs, so these are compared then."""
        current_states = self._evaluated.current_states(node, candidate)
        recomputed = [
            a
            for a in candidate.anchors
            if a.input.kind is InputKind.RESULT and self._will_run(node, a.input.name)
        ]
        rebound = any(_schema_changed(a, current_states.get(a.input.identity)) for a in recomputed)
        others = [a for a in candidate.anchors if a not in recomputed]
        return all(
            _is_same_state(a, current_states.get(a.input.identity))
            or (rebound and self._is_recorded_state(node, a))
            for a in others
        )

    def _is_recorded_state(self, node: RecipeNode, recorded: Anchor) -> bool:
        """Whether an input is in its recorded state over the recorded columns."""
        state = self._evaluated.observation.observe(recorded.input, node.tenant)
        return (
            isinstance(state, Snapshot)
            and state.covers(recorded.columns)
            and recorded.same_state(state.anchor(recorded.input, recorded.columns))
        )


def _column_independent_digest(recipe: RecipeRecord) -> str:
    """A digest of the parts of a definition that do not depend on the inputs' columns: input names,
    parameters, key and literals. Recipes of equal definition have equal digests."""
    descriptor = recipe.descriptor
    literals = [
        constant
        for constant in descriptor.get("canonical", {}).get("constants", ())
        if "shape" not in constant
    ]
    return digest_of(
        [
            recipe.kind,
            sorted({fold(name) for _, name, _ in recipe.inputs}),
            descriptor.get("params"),
            descriptor.get("key"),
            literals,
        ]
    )


def frame_origins(node: RecipeNode) -> dict[str, FrameOrigin]:
    """What the frames that a version was computed from were made from, by the frame's name."""
    anchors = node.record.anchors if node.record is not None else []
    return {a.input.label: a.origin for a in anchors if isinstance(a.origin, FrameOrigin)}


def _is_same_state(recorded: Anchor, state: State | None) -> bool:
    return isinstance(state, Anchor) and recorded.same_state(state)


def _schema_changed(recorded: Anchor, state: State | None) -> bool:
    return not isinstance(state, Anchor) or recorded.schema != state.schema
