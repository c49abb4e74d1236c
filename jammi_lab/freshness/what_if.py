"""What-if: verdicts over hypothetical changes of inputs and definitions. It runs the normal
evaluation on overlaid anchors and definitions."""

from collections.abc import Iterable, Mapping

from jammi_lab.core.anchors import Anchor, Identity, Input, Unknown
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.clock import rfc3339
from jammi_lab.core.errors import InvalidArgument, TableNotFound
from jammi_lab.core.html import Rendered
from jammi_lab.core.identifiers import fold, list_of_names, near_names
from jammi_lab.core.records import TableRecord
from jammi_lab.freshness.evaluated_graph import EvaluatedGraph
from jammi_lab.freshness.recipe_graph import RecipeGraph, RecipeNode
from jammi_lab.freshness.reports import Status, status_board
from jammi_lab.freshness.service import FreshnessService
from jammi_lab.freshness.table_verdict import State
from jammi_lab.inputs.observation import Observation

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
