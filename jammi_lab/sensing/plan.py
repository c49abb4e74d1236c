"""Plans: what must be recomputed to make tables true, with bounds, and carrying it out with early cutoff."""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jammi_lab.clock import Clock
from jammi_lab.errors import JammiError, TableNotFound
from jammi_lab.observing.look import Look
from jammi_lab.producers.base import Kitchen, OnProgress, anchors_of, find_reusable, produce
from jammi_lab.producers.registry import Producers
from jammi_lab.sensing.graph import Graph, Node, Place, Sensed
from jammi_lab.values.anchors import Anchor, Input, InputKind, Vanished
from jammi_lab.values.records import Progress, RunStep, Step, TableKind, TableRecord
from jammi_lab.values.verdicts import (
    Cause,
    Damaged,
    Fresh,
    InputAdvanced,
    PossiblyStale,
    Reason,
    Stale,
    Undecidable,
    Verdict,
)


class Sort(enum.Enum):
    """How sure a step is."""

    CERTAIN = "certain"
    POSSIBLE = "possible"
    REUSED = "reused"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Sensor:
    """What looking at a workspace needs."""

    kitchen: Kitchen
    producers: Producers

    def sense(self, names: Sequence[str] | None = None, look: Look | None = None) -> Sensed:
        """The verdicts on the named recipes and all above them, or on all, from one look (a deep one unless given). Unknown names are left out."""
        graph = Graph(self.kitchen.catalog, self.kitchen.scope)
        sensed = Sensed(self.kitchen.catalog, self.kitchen.scope, self.producers, look or self.kitchen.look(), graph)
        starts = graph.visible() if names is None else [n for name in names if (n := graph.find(name, graph.tenant)) is not None]
        sensed.judge_all(starts)
        return sensed


@dataclass
class Planned:
    """A step with the node it is about and the inputs' states when it was planned."""

    node: Node
    sort: Sort
    step: Step
    states: dict[tuple[str, str, str], object] = field(default_factory=dict)


class Planner:
    """Sorts the tables of one look into steps."""

    def __init__(self, sensor: Sensor, sensed: Sensed, names: Sequence[str] | None) -> None:
        self._sensor, self._sensed = sensor, sensed
        graph = sensed.graph
        named = [n for name in names or () if (n := graph.find(name, graph.tenant)) is not None]
        self._wanted = {n.place for n in (named if names is not None else [])}
        self._order = graph.upwards(named if names is not None else graph.visible(), graph.needs)
        self.planned: dict[Place, Planned] = {}

    def steps(self) -> list[Planned]:
        """All steps, parents before children."""
        for node in self._order:
            verdict = self._sensed.verdicts[node.place]
            if (found := self._sort(node, verdict)) is not None:
                sort, reasons = found
                action = {Sort.BLOCKED: "blocked", Sort.REUSED: "reuse"}.get(sort, "recompute")
                step = Step(name=node.name, action=action, reasons=reasons, seconds=node.record.seconds if node.record else None)
                self.planned[node.place] = Planned(node, sort, step, dict(self._sensed.states[node.place]))
        return list(self.planned.values())

    def _sort(self, node: Node, verdict: Verdict) -> tuple[Sort, list[Reason | Cause | Damaged]] | None:
        """How sure it is that the node must run, and why; None when it is no step."""
        sort: Sort | None = Sort.CERTAIN
        why: list[Reason | Cause | Damaged] = []
        match verdict:
            case Fresh():
                sort = None
            case Stale(reasons) | Undecidable(_, reasons) if reasons:
                sort, why = self._sort_reasons(node, reasons), [*reasons]
            case PossiblyStale(causes):
                why = [c for c in causes if self._runs_on(node, c.path[0])]
                sort = Sort.POSSIBLE if why else None
            case Undecidable():
                sort = Sort.POSSIBLE if self._wanted else None
            case Damaged():
                why = [verdict]
        if sort is None:
            return None
        if self._cannot_run(node):
            return Sort.BLOCKED, why
        return (self._answered(node) if sort is Sort.CERTAIN else sort), why

    def _sort_reasons(self, node: Node, reasons: Iterable[Reason]) -> Sort:
        """Certain, unless every reason comes through a recipe that is itself going to run."""
        through = [isinstance(r, InputAdvanced) and r.input.kind is InputKind.RESULT and self._runs_on(node, r.input.name) for r in reasons]
        return Sort.POSSIBLE if through and all(through) else Sort.CERTAIN

    def _runs_on(self, node: Node, parent: str) -> bool:
        found = self._sensed.graph.find(parent, node.tenant)
        planned = self.planned.get(found.place) if found else None
        return planned is not None and planned.sort is not Sort.BLOCKED

    def _cannot_run(self, node: Node) -> bool:
        """Rows from outside, a shared table under a bound tenant, a lost definition, an encoder that is not here, or an
        input that is gone and will not come back."""
        if node.recipe is None or node.recipe.kind in (TableKind.EXTERNAL, TableKind.IMPORTED) or node.tenant != self._sensed.graph.tenant:
            return True
        if self._sensor.producers.hindrance(node.recipe.descriptor) is not None:
            return True
        return any(self._gone(node, identity) for identity in node.recipe.inputs)

    def _gone(self, node: Node, identity: tuple[str, str, str]) -> bool:
        kind, name, table = identity
        parent = self._sensed.graph.find(name, node.tenant) if kind == InputKind.RESULT else None
        if parent is not None:
            return parent.record is None and not self._runs_on(node, name)
        return isinstance(self._sensed.look.observe(Input(InputKind(kind), name, table or None), node.tenant), Vanished)

    def _answered(self, node: Node) -> Sort:
        """Whether a ready table will answer a step that must run. It is known when nothing above runs; else a table that would fit if what is above
        comes out as it once was makes the step possible only."""
        kitchen, look = self._sensor.kitchen, self._sensed.look
        assert node.recipe is not None, "a step without a definition is blocked"
        running = {p.name for p in self._sensed.graph.needs(node) if p.place in self.planned and self.planned[p.place].sort is not Sort.BLOCKED}
        try:
            with kitchen.scope.use(node.tenant):
                if not running:
                    job = self._sensor.producers.job(node.name, node.recipe.descriptor)
                    return Sort.REUSED if find_reusable(kitchen, job.definition, anchors_of(job, look, node.tenant)) else Sort.CERTAIN
                definition = self._sensor.producers.definition_today(node.recipe)
                fits = [c for c in kitchen.catalog.tables.by_definition(definition) if self._may_fit(node, c)]
                return Sort.POSSIBLE if fits else Sort.CERTAIN
        except JammiError:
            return Sort.CERTAIN

    def _may_fit(self, node: Node, candidate: TableRecord) -> bool:
        """Whether everything that the candidate read, other than result tables, is again as it was then."""
        now = self._sensed.facts(node, candidate).now
        states = [(a, now.get(a.input.identity)) for a in candidate.anchors if a.input.kind is not InputKind.RESULT]
        return all(isinstance(state, Anchor) and anchor.same_state(state) for anchor, state in states)


class Runner:
    """Carries a plan out: looks again before each step and stops early below a table that came out equal."""

    def __init__(self, sensor: Sensor, clock: Clock, steps: Sequence[Planned], on_progress: OnProgress | None) -> None:
        self._sensor, self._clock, self._steps, self._on_progress = sensor, clock, steps, on_progress
        self.deviations: list[str] = []
        self.done: list[RunStep] = []
        self._stopped: set[Place] = set()

    def run(self) -> None:
        """All steps in order. A failing one stops only what derives from it; an interrupt leaves finished tables ready and the rest as they were."""
        for at, planned in enumerate(self._steps):
            if self._on_progress:
                self._on_progress(Progress(stage=f"recompute {planned.node.name}", done=at, total=len(self._steps), unit="steps"))
            self.done.append(self._one(planned))

    def _one(self, planned: Planned) -> RunStep:
        name = planned.node.name
        if planned.sort is Sort.BLOCKED:
            self._stopped.add(planned.node.place)
            why = [str(r) for r in planned.step.reasons]
            if planned.node.recipe is not None and (lacks := self._sensor.producers.hindrance(planned.node.recipe.descriptor)) is not None:
                why.append(lacks)
            return RunStep(name=name, outcome="blocked", error="; ".join(why) or None)
        sensed = self._sensor.sense([name])
        node = sensed.graph.find(name, planned.node.tenant)
        if node is None:
            self.deviations.append(f"{name} was dropped")
            return RunStep(name=name, outcome="skipped", error="the recipe is gone")
        if any(p.place in self._stopped for p in sensed.graph.needs(node)):
            self._stopped.add(node.place)
            return RunStep(name=name, outcome="skipped", error="a table it reads could not be made")
        self._compare(planned, sensed, node)
        if isinstance(sensed.own[node.place], Fresh):
            return self._cut_off(planned, node)
        return self._make(node, self._sensor.producers)

    def _cut_off(self, planned: Planned, node: Node) -> RunStep:
        if planned.sort is Sort.CERTAIN:
            self.deviations.append(f"{node.name} was made true meanwhile")
        return RunStep(
            name=node.name,
            outcome="cut_off",
            rows=node.record.row_count if node.record else None,
            table_name=node.record.table_name if node.record else None,
        )

    def _compare(self, planned: Planned, sensed: Sensed, node: Node) -> None:
        """Note what moved since the plan was made, other than through the plan itself."""
        was, now = planned.node.recipe, node.recipe
        if was and now and was.definition_hash != now.definition_hash:
            self.deviations.append(f"{node.name} was redefined after the plan was made")
        for identity, before in planned.states.items():
            after = sensed.states[node.place].get(identity)
            if identity[0] == InputKind.RESULT or after is None:
                continue
            same = before.same_state(after) if isinstance(before, Anchor) and isinstance(after, Anchor) else type(before) is type(after)
            if not same:
                self.deviations.append(f"{identity[1]} changed after the plan was made")

    @staticmethod
    def _absent_frame(node: Node, error: JammiError) -> str:
        """What to say when a table that is not found was a frame in a variable of the notebook."""
        frames = [name for kind, name, _ in (node.recipe.inputs if node.recipe else []) if kind == InputKind.FRAME]
        if not isinstance(error, TableNotFound) or not frames:
            return ""
        return f"The frame {frames[0]} is not in this kernel; make it again."

    def _make(self, node: Node, producers: Producers) -> RunStep:
        kitchen, started = self._sensor.kitchen, self._clock.monotonic()
        assert node.recipe is not None, "a step without a definition is blocked"
        try:
            made = produce(kitchen, node.name, producers.job(node.name, node.recipe.descriptor), bypass=False, on_progress=self._on_progress)
        except JammiError as error:
            self._stopped.add(node.place)
            said = self._absent_frame(node, error) or str(error).split("\n")[0]
            return RunStep(name=node.name, outcome="failed", seconds=self._clock.monotonic() - started, error=said)
        return RunStep(
            name=node.name,
            outcome=made.outcome,
            seconds=self._clock.monotonic() - started,
            rows=made.record.row_count,
            table_name=made.record.table_name,
        )
