"""Freshness queries of a workspace: staleness, status, plan, lineage. Each uses one observation
pass."""

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from jammi_lab.catalog.lineage import Link
from jammi_lab.core.anchors import Anchor, Identity, Input, Unknown
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.checks import CheckMark
from jammi_lab.core.clock import rfc3339, seconds_since
from jammi_lab.core.errors import InvalidArgument, JammiError, TableNotFound, invalid_row_error
from jammi_lab.core.html import Rendered, count_noun, escape_invisible
from jammi_lab.core.identifiers import (
    check_choice,
    check_count,
    fold,
    list_of_names,
    near_names,
)
from jammi_lab.core.input_kinds import MODEL_KIND, input_kind
from jammi_lab.core.records import (
    OnProgress,
    ProgressOption,
    Step,
    TableRecord,
    TableStatus,
)
from jammi_lab.core.verdicts import Fresh, Verdict, marked_label
from jammi_lab.freshness.evaluated_graph import EvaluatedGraph
from jammi_lab.freshness.explain import Why, explain
from jammi_lab.freshness.lineage import LineagePart, Node, topological_nodes
from jammi_lab.freshness.node_states import NodeStates, change_text, is_derived, root_causes
from jammi_lab.freshness.plan import PlannedStep, Planner
from jammi_lab.freshness.plan_runner import PlanRunner
from jammi_lab.freshness.recipe_graph import RecipeGraph, RecipeKey, RecipeNode
from jammi_lab.freshness.reports import Plan, RunReport, Status, StatusRow, status_board
from jammi_lab.freshness.service import FreshnessService
from jammi_lab.freshness.table_column_lineage import ColumnEdge, ColumnLineage
from jammi_lab.freshness.table_verdict import State
from jammi_lab.inputs.observation import Observation
from jammi_lab.steps.jobs import Job

# --------------------------------------------------------------------------------------------------
# What-if: verdicts over hypothetical changes of inputs and definitions. It runs the normal
# evaluation on overlaid anchors and definitions.

_METHOD = "what if"
"""The method of a hypothetical anchor."""


class WhatIfStatus(Status):
    """A hypothetical Status."""

    def _rendered(self) -> Rendered:
        return status_board(list(self), note="hypothetical; nothing was changed")


class Overlay(EvaluatedGraph):
    """The verdicts of one observation pass, with some inputs assumed to have changed. Observations
    are not persisted."""

    def __init__(
        self,
        service: FreshnessService,
        observation: Observation,
        graph: RecipeGraph,
        changed: frozenset[str],
    ) -> None:
        super().__init__(service.ctx, service.recorded_recipes, observation, graph, service.checks)
        self._changed = changed

    def current_states(self, node: RecipeNode, record: TableRecord) -> dict[Identity, State]:
        states = super().current_states(node, record)
        return states | {
            a.input.identity: _changed_anchor(a)
            for a in record.anchors
            if a.pinned and _names_of_input(a.input) & self._changed
        }

    def _is_unchanged(self, _node: RecipeNode, _definition: str | Unknown | None) -> bool:
        """False: every table is evaluated."""
        return False

    def _persist(self) -> None:
        """Do nothing: hypothetical results must not be persisted."""


def evaluate_changes(
    service: FreshnessService,
    observation: Observation,
    changed: str | Iterable[str],
    redefine: Mapping[str, str],
) -> EvaluatedGraph:
    """The hypothetical verdicts on every visible recipe.

    Raises TableNotFound (with near names), InvalidArgument for redefining a recipe that is not SQL,
    the errors of binding a statement, and DependencyCycle."""
    graph = RecipeGraph(service.ctx.catalog, service.ctx.scope)
    names = _check_names(service, graph, changed)
    for name, statement in redefine.items():
        _redefine(service, graph, name, statement)
    evaluated = Overlay(service, observation, graph, names)
    evaluated.evaluate_all()
    return evaluated


def _names_of_input(input: Input) -> frozenset[str]:
    """The folded names that refer to an input."""
    return frozenset({fold(input.name), fold(input.label)})


def _check_names(
    service: FreshnessService, graph: RecipeGraph, changed: str | Iterable[str]
) -> frozenset[str]:
    """The folded names, after checking that each exists."""
    names = list_of_names(changed)
    folded_names = frozenset(map(fold, names))
    existing = {s.name for s in service.ctx.catalog.sources.list()}
    existing |= {m.name for m in service.ctx.catalog.mutable_tables.list()}
    existing |= {node.name for node in graph.visible_nodes}
    for node in graph.nodes.values():
        for anchor in node.record.anchors if node.record else ():
            existing |= {anchor.input.name, anchor.input.label}
    missing = folded_names - set(map(fold, existing))
    for name in (name for name in names if fold(name) in missing):
        raise TableNotFound(
            f"There is no source, mutable table or recipe {name!r}.",
            near=near_names(name, sorted(existing)),
            hint="ws.sources, ws.mutable and ws.recipes() list the existing names.",
        )
    return folded_names


def _redefine(service: FreshnessService, graph: RecipeGraph, name: str, statement: str) -> None:
    node = graph.find(name, graph.tenant)
    if node is None or node.recipe is None:
        raise TableNotFound(
            f"There is no recipe {name!r} to redefine.",
            near=near_names(name, [n.name for n in graph.visible_nodes]),
        )
    if not node.recipe.recipe_class.is_statement:
        raise InvalidArgument(
            f"{node.name!r} is of kind {node.recipe.kind}; only SQL recipes can be redefined here."
        )
    if not isinstance(statement, str):
        raise InvalidArgument(
            f"redefine must map names to SQL strings, got {type(statement).__name__}."
        )
    with service.recorded_recipes.reading_unbuilt():
        job = service.recorded_recipes.job_with_statement(node.recipe.descriptor, statement)
    node.recipe = job.recipe(node.name, node.tenant, rfc3339(service.ctx.clock.now_ns()))


def _changed_anchor(anchor: Anchor) -> Anchor:
    """A different state of the same input."""
    return anchor.with_values(value=digest_of([_METHOD, anchor.value]), method=_METHOD)


# --------------------------------------------------------------------------------------------------
# The queries.

Apply = Callable[[Sequence[PlannedStep], Sequence[str], ProgressOption], RunReport]
"""Executes planned steps, then the checks of these names."""


class ReportedChecks(Protocol):
    """What reports and plans tell about checks. Runs none."""

    def mark(self, node: RecipeNode, look: EvaluatedGraph) -> CheckMark | None:
        """How the checks on the newest version of a recipe stand; None without any."""

    def order(
        self,
        steps: list[PlannedStep],
        graph: RecipeGraph,
        nearest: Mapping[RecipeKey, frozenset[RecipeKey]],
    ) -> list[PlannedStep]:
        """The steps, each after those that make what its checks read. `nearest` has the step that
        makes each recipe, or those upstream of it."""

    def due(self, evaluated: EvaluatedGraph, planner: Planner) -> list[Step]:
        """The steps for checks, after those for tables."""


class FreshnessQueries:
    """Verdicts, status, plans and lineage for the bound tenant."""

    def __init__(
        self,
        service: FreshnessService,
        new_observation: Callable[[bool], Observation],
        columns: ColumnLineage,
        checks: ReportedChecks,
    ) -> None:
        self._service, self._new_observation = service, new_observation
        self._catalog, self._scope = service.ctx.catalog, service.ctx.scope
        self._columns, self._checks = columns, checks

    def _observation(self, deep: bool, on_progress: OnProgress | None) -> Observation:
        observation = self._new_observation(deep)
        observation.on_progress = on_progress
        return observation

    def staleness(
        self, name: str, record: TableRecord | None, on_progress: OnProgress | None = None
    ) -> Verdict:
        """The verdict on a recipe's newest version, or on one of its tables, from a deep pass."""
        return self._evaluate_one(name, record, on_progress)[2]

    def why(
        self, name: str, record: TableRecord | None, on_progress: OnProgress | None = None
    ) -> Why:
        """The verdict with the tree of its reasons."""
        evaluated, node, verdict = self._evaluate_one(name, record, on_progress)
        title = node.name if record is None else f"{node.name}, version {record.version}"
        return explain(evaluated, node, verdict, title)

    def _evaluate_one(
        self, name: str, record: TableRecord | None, on_progress: OnProgress | None
    ) -> tuple[EvaluatedGraph, RecipeNode, Verdict]:
        """The verdict on a recipe's newest version, or on one of its tables, with the node of that
        version. A table belongs to the recipe of its own tenant, which may differ from the bound
        tenant's recipe of that name."""
        observation = self._observation(True, on_progress)
        if record is None:
            evaluated = self._service.evaluate([name], observation)
            node = evaluated.graph.find(name, self._scope.current)
            if node is None:  # its name and the folded one differ
                raise invalid_row_error()
            return evaluated, node, evaluated.verdicts[node.key]
        graph = RecipeGraph(self._catalog, self._scope, [name])
        newest = graph.nodes.get((record.tenant, fold(name)))
        if newest is None:
            newest = RecipeNode(name, record.tenant, None)
        node = RecipeNode(newest.name, newest.tenant, newest.recipe, newest.version, record)
        evaluated = self._service.evaluated_graph(graph, observation)
        return evaluated, node, evaluated.evaluate_version(node)

    def current_verdicts(
        self, names: Sequence[str], cancelled: threading.Event | None = None
    ) -> Mapping[str, Verdict]:
        """The verdicts on some recipes, from a shallow pass that is cancelled when `cancelled` is
        set. Names of physical tables are ignored: nothing supersedes them."""
        if not names:
            return {}
        observation = self._new_observation(False)
        observation.cancelled = cancelled
        evaluated = self._service.evaluate(names, observation)
        nodes = []
        for n in names:
            if (node := evaluated.graph.find(n, self._scope.current)) is not None:
                nodes.append((n, node))
        return {name: self._checked_verdict(evaluated, node) for name, node in nodes}

    def _checked_verdict(self, evaluated: EvaluatedGraph, node: RecipeNode) -> Verdict:
        """The verdict on a recipe; a fresh one says how many checks do not pass."""
        verdict = evaluated.verdicts[node.key]
        if not isinstance(verdict, Fresh) or node.version is None or node.record is None:
            return verdict
        mark = self._checks.mark(node, evaluated)
        if mark is None or not mark.failed:
            return verdict
        failing = f"{count_noun(mark.failed, 'check')} fail{'s' * (mark.failed == 1)}"
        return Fresh(verdict.grounds, [failing, *verdict.notes])

    def status(
        self,
        *,
        deep: bool,
        on_progress: OnProgress | None = None,
    ) -> Status:
        """Every visible recipe with its verdict."""
        observation = self._observation(deep, on_progress)
        return Status(self._status_rows(self._service.evaluate(None, observation)))

    def builds(self) -> dict[str, str]:
        """Which recipes are being computed, by folded name, with the process that does."""
        writers, found = self._catalog.writers, dict[str, str]()
        for _, record in self._catalog.result_tables.unfinished():
            if record.status is not TableStatus.BUILDING:
                continue
            writer = writers.get(record.writer_id)
            if writer is not None and writers.is_alive(record.writer_id):
                found[fold(record.recipe)] = f"process {writer.pid}"
        return found

    def what_if(self, changed: Iterable[str], redefine: Mapping[str, str]) -> Status:
        """Every visible recipe with its hypothetical verdict."""
        return WhatIfStatus(
            self._status_rows(
                evaluate_changes(self._service, self._new_observation(False), changed, redefine)
            )
        )

    def _status_rows(self, evaluated: EvaluatedGraph) -> list[StatusRow]:
        current_time = self._service.ctx.clock.now_ns() / 1e9
        rows, has_checks = [], bool(self._catalog.checks.list())
        sidecar = self._service.ctx.results.sidecar
        holds, builds = self._catalog.holds.list(), self.builds()
        for node in evaluated.graph.visible_nodes:
            checks = self._checks.mark(node, evaluated) if has_checks else None
            record = node.record
            completed_at = None if record is None else record.completed_at
            rows.append(
                StatusRow(
                    node.name,
                    None if node.version is None else node.version.version,
                    evaluated.verdicts[node.key],
                    None if record is None else record.row_count,
                    None if record is None else record.bytes,
                    seconds_since(completed_at, current_time) if completed_at else None,
                    None if record is None else sidecar(record).describe(record),
                    None if checks is None else checks.text,
                    None if checks is None else checks.status,
                    evaluated.failed_run(node),
                    holds.get(node.key),
                    builds.get(node.key[1], ""),
                )
            )
        return rows

    def plan(
        self,
        names: Sequence[str] | None,
        apply: Apply,
        on_progress: OnProgress | None = None,
        *,
        counts_rows: bool = True,
        ends_holds: bool = True,
    ) -> Plan:
        """The plan for some recipes and their upstream recipes, or for all. `counts_rows` and
        `ends_holds` as in `Planner`."""
        evaluated = self._service.evaluate(names, self._observation(True, on_progress))
        planner = Planner(
            self._service, evaluated, names, ends_holds=ends_holds, counts_rows=counts_rows
        )
        run = functools.partial(self._apply_for_tenant, evaluated.graph.tenant, apply)
        steps = self._checks.order(planner.steps(), evaluated.graph, planner.nearest)
        checks = self._checks.due(evaluated, planner)
        return Plan(steps, checks, sorted(planner.left_out, key=fold), run, names)

    def _apply_for_tenant(
        self,
        tenant: str | None,
        apply: Apply,
        planned: Sequence[PlannedStep],
        checks: Sequence[str],
        progress: ProgressOption,
    ) -> RunReport:
        """Execute a plan for the tenant that it was made for, because names mean other recipes to
        other tenants. The progress callback runs under the tenant that is bound by the caller."""
        callback = (
            self._scope.use(self._scope.current)(progress) if callable(progress) else progress
        )
        with self._scope.use(tenant):
            return apply(planned, checks, callback)

    def apply(self, planned: Sequence[PlannedStep], on_progress: OnProgress | None) -> RunReport:
        """Execute planned steps."""
        runner = PlanRunner(self._service, planned, on_progress)
        runner.run()
        return RunReport(runner.outcomes, runner.deviations)

    def update_inputs(self, job: Job, on_progress: OnProgress | None) -> None:
        """Update the recipes that a job reads. JammiError when one of them fails or is blocked."""
        names = [b.relation.input.name for b in job.inputs if b.relation.input.kind_class.is_result]
        plan = self.plan(
            names,
            lambda steps, _checks, _progress: self.apply(steps, on_progress),
            counts_rows=False,
            ends_holds=False,
        )
        report = plan.apply()
        problems = [s for s in report.steps if s.outcome in ("failed", "rejected", "blocked")]
        if problems:
            raise JammiError(
                f"The input {problems[0].name!r} could not be updated: "
                f"{escape_invisible(problems[0].error or problems[0].outcome)}.",
                hint="Fix it first, or omit refresh=.",
            )

    def lineage(
        self, name: str | None, direction: str, depth: int | None, *, columns: bool = False
    ) -> LineagePart:
        """The lineage graph around a name, or the whole graph. InvalidArgument; DependencyCycle of
        recipes that swapped names, until they are recomputed."""
        check_choice("direction", direction, ("both", "up", "down"))
        if depth is not None:
            depth = check_count("depth", depth, 1)
        links = self._links_around(name, direction, depth)
        tables, exact = self._catalog.result_tables, dict[str, tuple[str, int | None]]()
        if name is not None and (physical := tables.get(name)) is not None:
            newest = tables.newest(physical.recipe)
            if newest and newest[1].table_name == name:
                name = physical.recipe
            else:
                exact[name] = (physical.kind, physical.version)
        kinds = tables.kinds(_folded_names(name, links)) | exact
        known = [*kinds, *(link.input.label for link in links)]
        focus = next((k for k in known if name is not None and fold(k) == fold(name)), name)
        focus, kind_if_isolated = (
            (focus, "result") if focus is None or focus in known else self._describe_node(focus)
        )
        nodes = topological_nodes(links, kinds, focus, kind_if_isolated)
        if name is None:
            derived = {node.name for node in nodes if is_derived(node)}
            isolated = [r for r in self._catalog.recipes.list() if r.name not in derived]
            for recipe in isolated:
                kind, version = kinds.get(recipe.name, (recipe.kind, None))
                nodes.append(Node(kind, recipe.name, version))
        edges = list(dict.fromkeys(link.edge for link in links))
        return LineagePart(
            nodes,
            edges,
            focus,
            lambda: self._node_states(nodes),
            self._column_edges(links) if columns else None,
        )

    def _describe_node(self, name: str) -> tuple[str, str]:
        """The canonical name and the kind of a node that is not a recipe."""
        registered = self._catalog.find_input(name)
        if registered is not None and not input_kind(registered[0]).is_stored:
            kind, registered_name = registered
            return registered_name, kind
        model = self._catalog.models.get(name)
        nodes, _ = self._catalog.lineage.nodes_named(name)
        if model is None and not any(kind == MODEL_KIND for kind, *_ in nodes):
            return name, "source"
        return name if model is None else model.name, MODEL_KIND

    def _links_around(self, name: str | None, direction: str, depth: int | None) -> list[Link]:
        """The links around a name, or all of them."""
        lineage = self._catalog.lineage
        if name is None:
            return lineage.all_edges()
        links = list[Link]()
        if direction != "down":
            links += lineage.closure(name, "up", depth)
        if direction != "up":
            links += lineage.closure(name, "down", depth)
        return links

    def _column_edges(self, links: Sequence[Link]) -> list[ColumnEdge]:
        """The column edges along the links."""
        linked = {(link.input.label, link.derived) for link in links}
        tables = {link.derived_table: link.derived for link in links}
        records = []
        for table, name in tables.items():
            if (r := self._catalog.result_tables.get(table)) is not None:
                records.append((name, r))
        resolve = self._catalog.aliases.resolve
        edges = [
            edge if name_now == edge.input else edge.with_values(input=name_now)
            for name, record in records
            for edge in self._columns.edges(name, record)
            if (name_now := resolve(edge.input), edge.derived) in linked
        ]
        self._columns.flush()
        return edges

    def _node_states(self, displayed: Sequence[Node]) -> NodeStates:
        """The states of the displayed nodes, from a shallow pass. A graph may be displayed again
        later, so recipes with a newer version by now are left out."""
        versions = {(node.name, node.version) for node in displayed}
        names = sorted({node.name for node in displayed})
        evaluated = self._service.evaluate(names, self._new_observation(False))
        current = {
            name: node
            for name in names
            if (node := evaluated.graph.find(name, self._scope.current)) is not None
            and (name, node.version.version if node.version else None) in versions
        }
        verdicts = {name: evaluated.verdicts[node.key] for name, node in current.items()}
        words = {
            node: marked_label(verdicts[node.name])
            for node in displayed
            if is_derived(node) and node.name in verdicts
        }
        holds = {name: str(hold) for (_, name), hold in self._catalog.holds.list().items()}
        held = {
            node: hold
            for node in (displayed if holds else ())
            if is_derived(node) and (hold := holds.get(fold(node.name)))
        }
        causes = root_causes(displayed, verdicts)
        changes = {displayed[index]: change_text(of) for index, of in causes.items()}
        if not self._catalog.checks.list():
            return NodeStates(words, held=held, changes=changes)
        marks = {name: self._checks.mark(node, evaluated) for name, node in current.items()}
        checks = {
            node: mark
            for node in displayed
            if is_derived(node) and (mark := marks.get(node.name)) is not None
        }
        return NodeStates(words, checks, held, changes)


def _folded_names(name: str | None, links: Sequence[Link]) -> set[str] | None:
    """The names of a graph around a name; None for those of all recipes."""
    if name is None:
        return None
    linked = {part for link in links for part in (link.input.name, link.derived)}
    return {fold(part) for part in {name, *linked}}
