"""Plans: what must be recomputed to make tables true, with bounds."""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from jammi_lab.canonical import digest_of
from jammi_lab.errors import JammiError
from jammi_lab.names import fold
from jammi_lab.observing.look import Look
from jammi_lab.producers.base import Kitchen, anchors_of, find_reusable
from jammi_lab.producers.registry import Producers
from jammi_lab.sensing.graph import Graph, Node, Place, Sensed
from jammi_lab.sensing.verdict import State
from jammi_lab.values.anchors import Anchor, Input, InputKind, Snapshot, Vanished
from jammi_lab.values.records import RecipeRecord, Step, TableKind, TableRecord
from jammi_lab.values.verdicts import (
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
    after: frozenset[Place] = frozenset()
    """The nearest steps above it; what is further up comes before those."""
    reads: tuple[Node, ...] = ()
    """The recipes that computing it reads, as they were when it was planned."""


class Planner:
    """Sorts the tables of one look into steps."""

    def __init__(self, sensor: Sensor, sensed: Sensed, names: Sequence[str] | None) -> None:
        self._sensor, self._sensed = sensor, sensed
        graph = sensed.graph
        named = [n for name in names or () if (n := graph.find(name, graph.tenant)) is not None]
        self._wanted = {n.place for n in (named if names is not None else [])}
        self._order = graph.upwards(named if names is not None else graph.visible(), graph.needs)
        self.planned: dict[Place, Planned] = {}
        self.left_out: list[str] = []
        """Undecidable tables that nobody named, parents before children."""
        self._never_answered: set[Place] = set()
        """Steps with an input that cannot be pinned: no table ever answers them."""
        self._definitions: dict[Place, str] = {}
        """What steps on which nothing runs are defined as, bound to their inputs as these are."""

    def steps(self) -> list[Planned]:
        """All steps, parents before children."""
        nearest: dict[Place, frozenset[Place]] = {}
        for node in self._order:
            verdict = self._sensed.verdicts[node.place]
            reads = tuple(self._sensed.graph.needs(node))
            nearest[node.place] = above = frozenset[Place]().union(*(nearest[p.place] for p in reads))
            if (found := self._sort(node, verdict)) is not None:
                sort, reasons = found[0], [*found[1], *(self._hindrances(node, found[1]) if found[0] is Sort.BLOCKED else ())]
                action = {Sort.BLOCKED: "blocked", Sort.REUSED: "reuse"}.get(sort, "recompute")
                step = Step(name=node.name, action=action, reasons=reasons, seconds=node.record.seconds if node.record else None)
                self.planned[node.place] = Planned(node, sort, step, dict(self._sensed.states[node.place]), above, reads)
                nearest[node.place] = frozenset({node.place})
            elif isinstance(verdict, Undecidable):
                self.left_out.append(node.name)
            elif isinstance(verdict, PossiblyStale):
                self._wait(node, verdict)
        return self._twins_in_turn(list(self.planned.values()))

    def _twins_in_turn(self, steps: list[Planned]) -> list[Planned]:
        """The steps, with recipes of one definition one after the other: what a certain one makes answers the others, so these are possible only."""
        for twins in self._alike(steps):
            first = next((each for each in twins if each.sort is Sort.CERTAIN), None)
            if first is None:
                continue
            for each in twins:
                if each is not first:
                    said = f"{first.node.name} has the same definition, and what it makes is taken"
                    each.step = msgspec.structs.replace(each.step, reasons=[said, *each.step.reasons])
                    each.sort, each.after = Sort.POSSIBLE, each.after | {first.node.place}
        return steps

    def _alike(self, steps: list[Planned]) -> list[list[Planned]]:
        """The steps that run and have one definition, if a table of it may answer them. Those that have in common what no column changes are bound to
        see."""
        near: dict[str, list[tuple[Planned, RecipeRecord]]] = {}
        for each in steps:
            recipe = each.node.recipe
            if each.sort in (Sort.CERTAIN, Sort.POSSIBLE) and recipe is not None and each.node.place not in self._never_answered:
                near.setdefault(_whatever_the_columns(recipe), []).append((each, recipe))
        alike: dict[str, list[Planned]] = {}
        for group in near.values():
            for each, recipe in group if len(group) > 1 else ():
                alike.setdefault(self._bound_as_it_is(each.node, recipe), []).append(each)
        return [*alike.values()]

    def _bound_as_it_is(self, node: Node, recipe: RecipeRecord) -> str:
        """What a step is defined as over the columns of today: `*` may mean others than it did. What runs before may change them, and does so alike
        for steps that say the same; one that cannot be bound until then is known by what was written."""
        if (known := self._definitions.get(node.place)) is not None:
            return known
        try:
            with self._sensor.kitchen.scope.use(node.tenant):
                return self._sensor.producers.job(recipe.name, recipe.descriptor).definition
        except JammiError:
            return digest_of({key: value for key, value in recipe.descriptor.items() if key != "canonical"})

    def _wait(self, node: Node, verdict: PossiblyStale) -> None:
        """Note at each blocked step above it that the node waits for it."""
        above = [self._sensed.graph.find(name, node.tenant) for cause in verdict.causes for name in cause.path]
        for place in {found.place: None for found in above if found is not None}:
            if place in self.planned and self.planned[place].sort is Sort.BLOCKED:
                self.planned[place].step.waiting.append(node.name)

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
                sort = Sort.POSSIBLE if node.place in self._wanted else None
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

    def _hindrances(self, node: Node, told: Sequence[Reason | Cause | Damaged]) -> list[str]:
        """Why a step is blocked, as clauses: what it lacks, and which inputs are gone or damaged that no reason names."""
        named = {reason.input.identity for reason in told if isinstance(reason, InputVanished)}
        recorded = node.recipe.inputs if node.recipe is not None else []
        lost = [(Input(InputKind(i[0]), i[1], i[2] or None), how) for i in recorded if i not in named and (how := self._lost(node, i))]
        return [*self._lacks(node), *(f"{each.label} is {how}" for each, how in lost)]

    def _lacks(self, node: Node) -> list[str]:
        """Who alone makes a step's rows, or what this kernel lacks to make them, as a clause; none when that is not why it is blocked."""
        if node.recipe is None:
            return []
        said = node.recipe.descriptor
        if node.recipe.kind is TableKind.EXTERNAL:
            return [f"made outside, by {said['producer_id']}"]
        if node.recipe.kind is TableKind.IMPORTED:
            return [f"imported, as vectors of {said['model_id']}"]
        lacks = self._sensor.producers.hindrance(said)
        return [] if lacks is None else [lacks]

    def _cannot_run(self, node: Node) -> bool:
        """Rows from outside, a shared table under a bound tenant, a lost definition, an encoder that is not here, or an
        input that is gone or damaged and will not come back."""
        if node.recipe is None or node.tenant != self._sensed.graph.tenant or self._lacks(node):
            return True
        return any(self._lost(node, identity) for identity in node.recipe.inputs)

    def _lost(self, node: Node, identity: tuple[str, str, str]) -> str | None:
        """Why an input cannot be read and no step before makes it again: gone, or damaged; None when neither is so."""
        kind, name, table = identity
        if kind == InputKind.RESULT and self._runs_on(node, name):
            return None
        parent = self._sensed.graph.find(name, node.tenant) if kind == InputKind.RESULT else None
        if parent is not None:
            return "gone" if parent.record is None else "damaged" if isinstance(self._sensed.own[parent.place], Damaged) else None
        if isinstance(self._sensed.look.observe(Input(InputKind(kind), name, table or None), node.tenant), Vanished):
            return "gone"
        return "damaged" if kind == InputKind.RESULT and isinstance(self._sensed.exact(name, node.tenant), Damaged) else None

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
                    self._definitions[node.place] = job.definition
                    anchors = anchors_of(job, look, node.tenant)
                    if not all(anchor.pinned for anchor in anchors):
                        self._never_answered.add(node.place)
                    return Sort.REUSED if find_reusable(kitchen, job.definition, anchors) else Sort.CERTAIN
                definition = self._sensor.producers.definition_today(node.recipe)
                known = kitchen.catalog.tables.by_definition(definition) if isinstance(definition, str) else []
                fits = [c for c in known if self._may_fit(node, c)]
                return Sort.POSSIBLE if fits else Sort.CERTAIN
        except JammiError:
            return Sort.CERTAIN

    def _may_fit(self, node: Node, candidate: TableRecord) -> bool:
        """Whether everything that the candidate read, other than result tables that will be made, is again as it was then. Once one of these that has
        other columns now, or is gone, is as it was then, the statement reads the same of the others as it did then: so that is what counts."""
        now = self._sensed.facts(node, candidate).now
        made = [a for a in candidate.anchors if a.input.kind is InputKind.RESULT and self._runs_on(node, a.input.name)]
        rebound = any(_columns_moved(a, now.get(a.input.identity)) for a in made)
        others = [a for a in candidate.anchors if a not in made]
        return all(_as_then(a, now.get(a.input.identity)) or (rebound and self._read_then(node, a)) for a in others)

    def _read_then(self, node: Node, recorded: Anchor) -> bool:
        """Whether the very columns that were read of an input hold what they held."""
        seen = self._sensed.look.observe(recorded.input, node.tenant)
        return isinstance(seen, Snapshot) and seen.knows(recorded.columns) and recorded.same_state(seen.anchor(recorded.input, recorded.columns))


def _whatever_the_columns(recipe: RecipeRecord) -> str:
    """A digest of what recipes of one definition share, whichever columns their inputs have or had: the names of these, values and literals."""
    said = recipe.descriptor
    literals = [each for each in said.get("canonical", {}).get("constants", ()) if "shape" not in each]
    return digest_of([recipe.kind, sorted({fold(name) for _, name, _ in recipe.inputs}), said.get("params"), said.get("key"), literals])


def _as_then(recorded: Anchor, state: State | None) -> bool:
    return isinstance(state, Anchor) and recorded.same_state(state)


def _columns_moved(recorded: Anchor, state: State | None) -> bool:
    return not isinstance(state, Anchor) or recorded.schema != state.schema
