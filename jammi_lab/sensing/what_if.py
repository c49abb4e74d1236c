"""What if: the verdicts as they would be if inputs changed or recipes were redefined. The same evaluator over overlaid anchors and definitions."""

import dataclasses
from collections.abc import Iterable, Mapping

import msgspec

from jammi_lab import forms
from jammi_lab.canonical import digest_of
from jammi_lab.clock import rfc3339
from jammi_lab.errors import InvalidArgument, TableNotFound
from jammi_lab.markup import Form
from jammi_lab.names import fold, near
from jammi_lab.observing.look import Look
from jammi_lab.sensing import models
from jammi_lab.sensing.graph import Graph, Node, Sensed
from jammi_lab.sensing.plan import Sensor
from jammi_lab.sensing.reports import Status
from jammi_lab.sensing.verdict import Facts, State
from jammi_lab.values.anchors import Anchor, Input
from jammi_lab.values.records import TableKind, TableRecord

METHOD = "what if"
"""The method of an anchor that nobody observed."""


class Imagined(Status):
    """The board as it would be."""

    def _form(self) -> Form:
        return forms.status(list(self), note="as it would be; nothing was changed")


class Overlaid(Sensed):
    """The verdicts of one look, with some inputs taken for changed. What the look saw is not kept."""

    def __init__(self, sensor: Sensor, look: Look, graph: Graph, changed: frozenset[str]) -> None:
        super().__init__(sensor.kitchen.catalog, sensor.kitchen.scope, sensor.producers, look, graph)
        self._changed = changed

    def _now(self, node: Node, record: TableRecord) -> dict[tuple[str, str, str], State]:
        now = super()._now(node, record)
        return now | {a.input.identity: _moved(a) for a in record.anchors if a.pinned and called(a.input) & self._changed}

    def facts(self, node: Node, record: TableRecord | None) -> Facts:
        facts = super().facts(node, record)
        if record is None or record.kind is not TableKind.EMBEDDING or fold(record.model_id or "") not in self._changed:
            return facts
        return dataclasses.replace(facts, current=digest_of([METHOD, record.definition_hash]))  # a model is part of what a table's definition says

    def _keep(self) -> None:
        """Nothing: a question that is only imagined leaves no trace."""


def imagine(sensor: Sensor, look: Look, changed: Iterable[str], redefine: Mapping[str, str]) -> Sensed:
    """The verdicts on every visible recipe with the overlays. TableNotFound, with near names; InvalidArgument for a recipe that is not SQL; what
    binding a statement raises; DependencyCycle."""
    graph = Graph(sensor.kitchen.catalog, sensor.kitchen.scope)
    names = _names(sensor, graph, changed)
    for name, statement in redefine.items():
        _redefine(sensor, graph, name, statement)
    sensed = Overlaid(sensor, look, graph, names)
    sensed.judge_all(graph.visible())
    return sensed


def called(input: Input) -> frozenset[str]:
    """The names, folded, by which people may mean an input."""
    return frozenset({fold(input.name), fold(input.label)})


def _names(sensor: Sensor, graph: Graph, changed: Iterable[str]) -> frozenset[str]:
    """The folds of the names, each of which something is called."""
    wanted = [*changed] if isinstance(changed, Iterable) and not isinstance(changed, str) else [changed]
    if wrong := [n for n in wanted if not isinstance(n, str)]:
        raise InvalidArgument(f"What changes is named by texts, not by a value of type {type(wrong[0]).__name__}.")
    read = [a.input for node in graph.nodes.values() if node.record for a in node.record.anchors]
    known = {s.name for s in sensor.kitchen.catalog.sources.list()} | {n.name for n in graph.visible()}
    known |= {m.name for m in sensor.kitchen.catalog.mutables.list()} | {use.model for use in models.uses(sensor.kitchen.catalog, hidden=True)}
    known |= {name for each in read for name in (each.name, each.label)}
    folded = {fold(name) for name in known}
    for name in wanted:
        if fold(name) not in folded:
            raise TableNotFound(
                f"There is no source, mutable table, recipe or model {name!r} that could change.",
                near=near(name, sorted(known)),
                hint="ws.sources, ws.mutable and ws.recipes() list what there is.",
            )
    return frozenset(map(fold, wanted))


def _redefine(sensor: Sensor, graph: Graph, name: str, statement: str) -> None:
    node = graph.find(name, graph.tenant)
    if node is None or node.recipe is None:
        raise TableNotFound(f"There is no recipe {name!r} to redefine.", near=near(name, [n.name for n in graph.visible()]))
    if node.recipe.kind is not TableKind.SQL:
        raise InvalidArgument(f"{node.name!r} is of kind {node.recipe.kind}; only a recipe of SQL can be imagined otherwise.")
    if not isinstance(statement, str):
        raise InvalidArgument(f"A definition is one SQL statement as text, not a {type(statement).__name__}.")
    job = sensor.producers.redefined(node.recipe.descriptor, statement)
    node.recipe = job.recipe(node.name, node.tenant, rfc3339(sensor.kitchen.clock.now_ns()))


def _moved(anchor: Anchor) -> Anchor:
    """Another state of the same input."""
    return msgspec.structs.replace(anchor, value=digest_of([METHOD, anchor.value]), method=METHOD)
