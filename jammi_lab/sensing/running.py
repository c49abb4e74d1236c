"""Carrying a plan out: a look before each step, independent steps side by side, early cutoff, and what moved meanwhile told."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from jammi_lab.clock import Clock
from jammi_lab.errors import JammiError, SessionClosed, TableNotFound
from jammi_lab.names import fold
from jammi_lab.producers.base import Made, OnProgress, produce
from jammi_lab.producers.claim import Redefined
from jammi_lab.sensing.graph import Node, Place, Sensed, otherwise_said
from jammi_lab.sensing.lanes import MOST, Lanes, Task
from jammi_lab.sensing.plan import Planned, Sensor, Sort
from jammi_lab.store.sidecars import Wish
from jammi_lab.values.anchors import Anchor, InputKind, Snapshot
from jammi_lab.values.records import Progress, RunStep, TableKind
from jammi_lab.values.verdicts import Fresh

_MOVABLE = frozenset({TableKind.SQL})
"""What may run in a thread of its own: kinds whose work is the engine's. Encoders and functions of the notebook stay in the caller's thread."""

_GONE = "{} was renamed or dropped after the plan was made"
_UNANSWERED = "no ready table answered {} any more"


class Runner:
    """Carries a plan out: looks again before each step and stops early below a table that came out equal."""

    def __init__(self, sensor: Sensor, clock: Clock, steps: Sequence[Planned], on_progress: OnProgress | None) -> None:
        self._sensor, self._clock, self._steps, self._on_progress = sensor, clock, steps, on_progress
        self._done: dict[int, RunStep] = {}
        self._moved: dict[int, list[str]] = {}
        self._stopped: set[Place] = set()
        self._left: dict[Place, _State] = {}
        """What this run has left of the recipes that it went through."""

    @property
    def done(self) -> list[RunStep]:
        """How each step went, in the plan's order."""
        return [self._done[at] for at in sorted(self._done)]

    @property
    def deviations(self) -> list[str]:
        """What moved meanwhile, in the plan's order."""
        return [each for at in sorted(self._moved) for each in self._moved[at]]

    def run(self) -> None:
        """All steps, each after those above it and otherwise side by side. A failing one stops only what derives from it; an interrupt stops those
        that run, leaves finished tables ready and the rest as they were."""
        places = {planned.node.place: at for at, planned in enumerate(self._steps)}
        tasks = [self._task(at, planned, frozenset(places[p] for p in planned.after)) for at, planned in enumerate(self._steps)]
        Lanes(tasks, self._width(), self._on_progress).run()

    def _width(self) -> int:
        threads = self._sensor.kitchen.settings["engine.threads"] or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()) or 1
        return min(int(threads), MOST)

    def _task(self, at: int, planned: Planned, after: frozenset[int]) -> Task:
        def run(on_progress: OnProgress | None) -> None:
            self._done[at] = self._one(planned, self._moved.setdefault(at, []), on_progress)

        def starts(done: int) -> None:
            if self._on_progress:
                self._on_progress(Progress(stage=f"recompute {planned.node.name}", done=done, total=len(self._steps), unit="steps"))

        return Task(run, after, here=planned.node.recipe is None or planned.node.recipe.kind not in _MOVABLE, starts=starts)

    def _one(self, planned: Planned, moved: list[str], on_progress: OnProgress | None) -> RunStep:
        name = planned.node.name
        if planned.sort is Sort.BLOCKED:
            if planned.node.record is None:  # else what derives from it is made over it as it is
                self._stopped.add(planned.node.place)
            why = "; ".join(map(str, planned.step.reasons)) or None
            return RunStep(name=name, outcome="blocked", error=why, waiting=planned.step.waiting)
        started = self._clock.monotonic()
        try:
            return self._step(planned, moved, on_progress, started)
        except Redefined:
            self._stopped.add(planned.node.place)
            moved.append(f"{name} was redefined or dropped while the plan was carried out")
            return RunStep(name=name, outcome="skipped", error="its definition was changed meanwhile")
        except SessionClosed:
            raise
        except JammiError as error:
            self._stopped.add(planned.node.place)
            if planned.sort is Sort.REUSED:
                moved.append(_UNANSWERED.format(name))
            said = _absent_frame(planned.node, error) or str(error).split("\n")[0]
            return RunStep(name=name, outcome="failed", seconds=self._clock.monotonic() - started, error=said)

    def _step(self, planned: Planned, moved: list[str], on_progress: OnProgress | None, started: float) -> RunStep:
        """One step that is not blocked. Redefined; JammiError as making the table raises it."""
        name, kitchen, producers = planned.node.name, self._sensor.kitchen, self._sensor.producers
        sensed = self._sensor.sense([name])
        node = sensed.graph.find(name, planned.node.tenant)
        if node is None or node.recipe is None or node.place != planned.node.place:  # a shared one of that name is another recipe
            moved.append(_GONE.format(name))
            return RunStep(name=name, outcome="skipped", error="the recipe is gone")
        if any(p.place in self._stopped for p in sensed.graph.needs(node)):
            self._stopped.add(node.place)
            return RunStep(name=name, outcome="skipped", error="a table it reads could not be made")
        _compare(planned, sensed, node, moved)
        self._compare_tables(planned, sensed, moved)
        if isinstance(sensed.own[node.place], Fresh):
            self._left[node.place] = _state(node)
            return _cut_off(planned, node, moved)
        job = producers.job(node.name, node.recipe.descriptor)
        made = produce(kitchen, node.name, job, bypass=False, on_progress=on_progress, instead_of=node.recipe.definition_hash)
        self._left[node.place] = _State(made.record.definition_hash, made.record.digest)
        _answered_otherwise(planned, made, moved)
        kitchen.results.sidecars.follow(made.record, Wish(), on_progress)
        return RunStep(
            name=name,
            outcome=made.outcome,
            seconds=self._clock.monotonic() - started,
            rows=made.record.row_count,
            table_name=made.record.table_name,
            reuse=made.reuse,
        )

    def _compare_tables(self, planned: Planned, sensed: Sensed, moved: list[str]) -> None:
        """Note which of the recipes that a step reads are not what they were when the plan was made, or what this run has left of them."""
        for parent in planned.reads:
            now, before = sensed.graph.find(parent.name, planned.node.tenant), self._left.get(parent.place) or _state(parent)
            if now is None or (now.recipe is None and parent.recipe is not None):
                moved.append(_GONE.format(parent.name))
            elif now.place != parent.place or _state(now).definition != before.definition:
                moved.append(f"{parent.name} was redefined after the plan was made")
            elif _state(now).digest != before.digest:
                moved.append(f"{parent.name} was made anew by another call after the plan was made")


@dataclass(frozen=True)
class _State:
    """What a recipe said and held at one moment."""

    definition: str | None
    digest: str | None


def _state(node: Node) -> _State:
    return _State(node.recipe.definition_hash if node.recipe else None, node.record.digest if node.record else None)


def _answered_otherwise(planned: Planned, made: Made, moved: list[str]) -> None:
    """Note that a step ran which a table was to answer, or the other way round: the plan's bounds do not hold then."""
    name = planned.node.name
    if planned.sort is Sort.CERTAIN and made.outcome == "reused":
        whose = "" if fold(made.record.recipe) == fold(name) else f" of {made.record.recipe}"
        moved.append(f"{name} was answered by a table{whose} that was ready by then")
    if planned.sort is Sort.REUSED and made.outcome == "computed":
        moved.append(_UNANSWERED.format(name))


def _cut_off(planned: Planned, node: Node, moved: list[str]) -> RunStep:
    """A step that is true. What this plan has made can only leave a table true that it already was: any other one is another's doing."""
    before, now = planned.node.record, node.record
    meanwhile = planned.sort is not Sort.POSSIBLE or (before and before.table_name) != (now and now.table_name)
    if meanwhile:
        moved.append(f"{node.name} was made true meanwhile")
    return RunStep(
        name=node.name,
        outcome="cut_off",
        meanwhile=meanwhile,
        rows=node.record.row_count if node.record else None,
        table_name=node.record.table_name if node.record else None,
    )


def _compare(planned: Planned, sensed: Sensed, node: Node, moved: list[str]) -> None:
    """Note what moved since the plan was made, other than through the plan itself."""
    was, now = planned.node.recipe, node.recipe
    if was and now and was.definition_hash != now.definition_hash:
        moved.append(f"{node.name} was redefined after the plan was made")
    for identity, before in planned.states.items():
        after = sensed.states[node.place].get(identity)
        if after is None or _is_recipe(identity, planned, sensed):
            continue
        same = _unmoved(before, after, sensed, node) if isinstance(before, Anchor) and isinstance(after, Anchor) else type(before) is type(after)
        if not same:
            moved.append(_GONE.format(identity[1]) if identity[0] == InputKind.RESULT else f"{identity[1]} changed after the plan was made")


def _is_recipe(identity: tuple[str, str, str], planned: Planned, sensed: Sensed) -> bool:
    """Whether an input is a recipe, now or when the plan was made, and no exact table: what the plan itself makes of it is no move."""
    kind, name, _ = identity
    known = {fold(parent.name) for parent in planned.reads}
    return kind == InputKind.RESULT and (fold(name) in known or sensed.graph.find(name, planned.node.tenant) is not None)


def _unmoved(before: Anchor, after: Anchor, sensed: Sensed, node: Node) -> bool:
    """Whether an input is as it was. A table that the plan itself has made may have other columns, so that the statement now reads others of this
    input too, or says something else: then what was read of it when the plan was made is compared."""
    if before.same_state(after):
        return True
    seen = sensed.look.observe(before.input, node.tenant)
    if not isinstance(seen, Snapshot) or not seen.knows(before.columns):
        return False
    again = seen.anchor(before.input, before.columns)
    return before.schema == again.schema and (before.same_state(again) or before.same_state(otherwise_said(again)))


def _absent_frame(node: Node, error: JammiError) -> str:
    """What to say when a table that is not found was a frame in a variable of the notebook."""
    frames = [name for kind, name, _ in (node.recipe.inputs if node.recipe else []) if kind == InputKind.FRAME]
    if not isinstance(error, TableNotFound) or not frames:
        return ""
    return f"The frame {frames[0]} is not in this kernel; make it again."
