"""The sensing verbs of a workspace, each over one look."""

import functools
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.catalog.lineage import Link
from jammi_lab.clock import Clock, seconds_since
from jammi_lab.errors import DependencyCycle, InvalidArgument, JammiError
from jammi_lab.markup import visible
from jammi_lab.names import fold
from jammi_lab.observing.look import Look
from jammi_lab.producers.base import Job, OnProgress
from jammi_lab.sensing import models, reports
from jammi_lab.sensing.columns import ColumnEdge, ColumnLineage
from jammi_lab.sensing.graph import Graph, Node, Place, Sensed
from jammi_lab.sensing.lineage import Lineage, in_order, still_met
from jammi_lab.sensing.openlineage import Events, made_by_versions, send
from jammi_lab.sensing.plan import Planned, Planner, Sensor
from jammi_lab.sensing.reports import Plan, RunReport, Status, StatusRow
from jammi_lab.sensing.running import Runner
from jammi_lab.sensing.what_if import Imagined, imagine
from jammi_lab.sensing.why import Why, why_now, why_version
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import InputKind
from jammi_lab.values.records import Edge, TableRecord
from jammi_lab.values.verdicts import Verdict, word

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

Apply = Callable[[Sequence[Planned], reports.OnProgress], RunReport]


class Questions:
    """Verdicts, status, plans and lineage for the bound tenant."""

    def __init__(
        self,
        sensor: Sensor,
        catalog: Catalog,
        look: Callable[[bool], Look],
        scope: TenantScope,
        clock: Clock,
        columns: ColumnLineage,
        folder: Path | None,
    ) -> None:
        self._sensor, self._catalog, self._look, self._scope, self._clock, self._columns = sensor, catalog, look, scope, clock, columns
        self._folder = folder

    def _looking(self, deep: bool, on_progress: OnProgress | None) -> Look:
        look = self._look(deep)
        look.on_progress = on_progress
        return look

    def staleness(self, name: str, record: TableRecord | None, on_progress: OnProgress | None = None) -> Verdict:
        """The verdict on a recipe's newest version, or on one given table of it; deep."""
        look = self._looking(True, on_progress)
        if record is None:
            sensed = self._sensor.sense([name], look)
            node = sensed.graph.find(name, self._scope.current)
            assert node is not None, "the name was looked up just now"
            return sensed.verdicts[node.place]
        sensed, node = self._around_table(name, record, look)
        return sensed.judge_version(node, record)

    def why(self, name: str, record: TableRecord | None, on_progress: OnProgress | None = None) -> Why:
        """The same with the tree of its reasons."""
        look = self._looking(True, on_progress)
        if record is None:
            sensed = self._sensor.sense([name], look)
            node = sensed.graph.find(name, self._scope.current)
            assert node is not None, "the name was looked up just now"
            return why_now(sensed, node, node.name)
        sensed, node = self._around_table(name, record, look)
        return why_version(sensed, node, record, sensed.judge_version(node, record))

    def _around_table(self, name: str, record: TableRecord, look: Look) -> tuple[Sensed, Node]:
        """What one table is judged by, and its recipe: that of its own tenant, though the bound one may mean another by the name."""
        graph = Graph(self._catalog, self._scope)
        node = graph.nodes.get((record.tenant, fold(name))) or Node(name, record.tenant, None)
        return Sensed(self._catalog, self._scope, self._sensor.producers, look, graph), node

    def verdicts_now(self, names: Sequence[str], stopped: threading.Event | None = None) -> Mapping[str, Verdict]:
        """The verdicts on some recipes, from a shallow look, which gives up when `stopped` is set. Exact tables that were named are left out:
        nothing supersedes them."""
        if not names:
            return {}
        look = self._look(False)
        look.stopped = stopped
        sensed = self._sensor.sense(names, look)
        found = [(n, node) for n in names if (node := sensed.graph.find(n, self._scope.current)) is not None]
        return {name: sensed.verdicts[node.place] for name, node in found}

    def status(self, *, deep: bool, on_progress: OnProgress | None = None) -> Status:
        """Every visible recipe with its verdict."""
        return Status(self._board(self._sensor.sense(None, self._looking(deep, on_progress))))

    def what_if(self, changed: Iterable[str], redefine: Mapping[str, str]) -> Status:
        """Every visible recipe with the verdict that it would have. Raises as `imagine`."""
        return Imagined(self._board(imagine(self._sensor, self._look(False), changed, redefine)))

    def _board(self, sensed: Sensed) -> list[StatusRow]:
        now = self._clock.now_ns() / 1e9
        rows = []
        for node in sensed.graph.visible():
            record, verdict = node.record, sensed.verdicts[node.place]
            age = seconds_since(record.completed_at, now) if record and record.completed_at else None
            version = node.version.version if node.version else None
            index = self._sensor.kitchen.results.sidecars.told(record) if record else None
            rows.append(StatusRow(node.name, version, verdict, record.row_count if record else None, record.bytes if record else None, age, index))
        return rows

    def plan(self, names: Sequence[str] | None, apply: Apply, on_progress: OnProgress | None = None) -> Plan:
        """The steps for some recipes and what they need, or for everything."""
        sensed = self._sensor.sense(names, self._looking(True, on_progress))
        planner = Planner(self._sensor, sensed, names)
        run = functools.partial(self._bound, sensed.graph.tenant, apply)
        return Plan(planner.steps(), sorted(planner.left_out, key=fold), run)

    def _bound(self, tenant: str | None, apply: Apply, planned: Sequence[Planned], progress: reports.OnProgress) -> RunReport:
        """Carry a plan out for the tenant that it was made for, whoever is bound by now: the names mean other recipes to others. Who listens is told
        under the tenant that is bound outside."""
        told = self._scope.use(self._scope.current)(progress) if callable(progress) else progress
        with self._scope.use(tenant):
            return apply(planned, told)

    def apply(self, planned: Sequence[Planned], on_progress: OnProgress | None) -> RunReport:
        """Carry planned steps out."""
        runner = Runner(self._sensor, self._clock, planned, on_progress)
        runner.run()
        return RunReport(runner.done, runner.deviations)

    def refresh(self, job: Job, on_progress: OnProgress | None) -> None:
        """Make the recipes that a job reads true first. JammiError when one of them cannot be."""
        names = [b.relation.input.name for b in job.inputs if b.relation.input.kind is InputKind.RESULT]
        sensed = self._sensor.sense(names)
        known = [n for n in names if sensed.graph.find(n, self._scope.current) is not None]
        report = self.apply(Planner(self._sensor, sensed, known).steps(), on_progress)
        bad = [s for s in report.steps if s.outcome in ("failed", "blocked")]
        if bad:
            raise JammiError(
                f"The input {bad[0].name!r} could not be made true: {visible(bad[0].error or bad[0].outcome)}.",
                hint="Mend it first, or leave out refresh=.",
            )

    def lineage(self, name: str | None, direction: str, depth: int | None, *, columns: bool = False) -> Lineage:
        """The graph around a name, or all of it. InvalidArgument."""
        if direction not in ("both", "up", "down"):
            raise InvalidArgument(f'direction is "both", "up" or "down", not {direction!r}.')
        if depth is not None and (not isinstance(depth, int) or depth < 1):
            raise InvalidArgument(f"depth is a whole number from 1, not {depth!r}.")
        try:
            return self._lineage(name, direction, depth, columns, frozenset())
        except DependencyCycle:
            if not (former := Graph(self._catalog, self._scope).former_edges()):
                raise
            return self._lineage(name, direction, depth, columns, former)

    def _lineage(self, name: str | None, direction: str, depth: int | None, columns: bool, left_out: frozenset[tuple[Place, Place]]) -> Lineage:
        links, of_models = self._around(name, direction, depth, left_out)
        recipes = {r.name: (r.kind.value, None) for r in self._catalog.recipes.list()}
        kinds = recipes | {v.recipe: (r.kind.value, v.version) for v, r in self._catalog.tables.current()}
        if name is not None and (physical := self._catalog.tables.get(name)) is not None:
            newest = self._catalog.tables.newest(physical.recipe)
            if newest and newest[1].table_name == name:
                name = physical.recipe
            else:
                kinds[name] = (physical.kind.value, physical.version)
        focus = next((k for k in kinds if name is not None and fold(k) == fold(name)), name)
        focus, alone = (focus, InputKind.RESULT.value) if focus is None or focus in kinds else self._what(focus)
        nodes = in_order(links, of_models, kinds, focus, alone)
        edges = list(dict.fromkeys([*(link.edge for link in links), *of_models]))
        return Lineage(
            nodes,
            edges,
            focus,
            lambda: self._words({(n.name, n.version) for n in nodes}),
            self._by_column(links) if columns else None,
            lambda: self._newest_runs({n.name for n in nodes if n.version is not None}),
        )

    def _what(self, name: str) -> tuple[str, str]:
        """How something that is no recipe is called in a graph, and as what it stands there by itself."""
        if self._catalog.sources.get(name) is None:
            if (mutable := self._catalog.mutables.get(name)) is not None:
                return mutable.name, InputKind.MUTABLE.value
            if (topic := self._catalog.topics.get(name)) is not None:
                return topic.name, InputKind.TOPIC.value
        model = models.known(self._catalog, name)
        return (name, InputKind.SOURCE.value) if model is None else (model, models.MODEL)

    def _around(self, name: str | None, direction: str, depth: int | None, left_out: frozenset[tuple[Place, Place]]) -> tuple[list[Link], list[Edge]]:
        """The edges around a name, or all of them: those of inputs, and those of models."""
        lineage = self._catalog.lineage
        if name is None:
            return still_met(lineage.all(), "down", left_out), [models.edge_of(use) for use in models.uses(self._catalog)]
        links, of_models = list[Link](), list[Edge]()
        if direction != "down":
            links += still_met(lineage.closure(name, "up", depth), "up", left_out)
            of_models += models.above(self._catalog, name, links, depth)
        if direction != "up":
            made, further = models.below(self._catalog, name, depth, lambda found: still_met(found, "down", left_out))
            links += [*still_met(lineage.closure(name, "down", depth), "down", left_out), *further]
            of_models += made
        return links, of_models

    def _newest_runs(self, names: Collection[str]) -> "list[RunEvent]":
        newest = [(v.recipe, record) for v, record in self._catalog.tables.current() if v.recipe in names]
        return Events(self._catalog, self._columns, self._folder).of(newest)

    def export(self, target: str | os.PathLike[str], namespace: str, api_key: str | None) -> int:
        """Send the events of all runs of visible tables; how many."""
        made = made_by_versions(self._catalog.tables.list(status=None))
        events = Events(self._catalog, self._columns, self._folder, namespace).of(made)
        self._columns.flush()
        send(events, target, api_key)
        return len(events)

    def _by_column(self, links: Sequence[Link]) -> list[ColumnEdge]:
        """The columns along the links, each table asked once."""
        wanted = {(link.input.label, link.derived) for link in links}
        tables = {link.derived_table: link.derived for link in links}
        records = [(name, r) for table, name in tables.items() if (r := self._catalog.tables.get(table)) is not None]
        edges = [edge for name, record in records for edge in self._columns.edges(name, record) if (edge.input, edge.derived) in wanted]
        self._columns.flush()
        return edges

    def _words(self, shown: Collection[tuple[str, int | None]]) -> dict[str, str]:
        """The verdict word of each recipe that is shown in its newest version, from a shallow look; a graph may be shown again when it is old."""
        names = sorted({name for name, _ in shown})
        sensed = self._sensor.sense(names, self._look(False))
        found = [(n, node) for n in names if (node := sensed.graph.find(n, self._scope.current)) is not None]
        current = [(n, node) for n, node in found if (n, node.version.version if node.version else None) in shown]
        return {name: word(sensed.verdicts[node.place]) for name, node in current}
