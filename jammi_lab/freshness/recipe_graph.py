"""The graph of recipes with their newest versions."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor, FrameOrigin, Input, origin_inputs
from jammi_lab.core.errors import DependencyCycle
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import RecipeRecord, TableRecord, VersionRecord
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.inputs.result_names import find_recorded_version

RecipeKey = tuple[str | None, str]
"""A recipe's identity: its tenant and the fold of its name."""
_NamesOf = Callable[["RecipeNode"], Sequence[str]]
"""The names of the recipes that a node reads in one of three ways."""


@dataclass
class RecipeNode:
    """A recipe with its newest ready version, if it has one."""

    name: str
    tenant: str | None
    recipe: RecipeRecord | None
    version: VersionRecord | None = None
    record: TableRecord | None = None
    inputs: dict[_NamesOf, Sequence["RecipeNode"]] = field(default_factory=dict, repr=False)
    """The recipes that it reads, by what names them, as the graph found them."""
    superseded: Sequence[RecipeKey] | None = field(default=None, repr=False)
    """The inputs that the graph found to be superseded."""
    key: RecipeKey = field(init=False)
    """Its identity."""

    def __post_init__(self) -> None:
        self.key = (self.tenant, fold(self.name))


class RecipeGraph:
    """The recipes visible to the bound tenant, with the edges between them: those with some names
    and everything upstream of them, or all. Either is loaded with a fixed number of queries; what a
    definition reads and no table was computed from yet is loaded when it is asked for."""

    def __init__(
        self, catalog: Catalog, scope: TenantScope, names: Iterable[str] | None = None
    ) -> None:
        self.nodes: dict[RecipeKey, RecipeNode] = {}
        self.tenant = scope.current
        self._catalog, self._scope = catalog, scope
        self._targets = catalog.aliases.targets()
        self._loaded: set[str] | None = set()
        """Folded names of which everything is loaded; None: all are."""
        self._load(None if names is None else {fold(name) for name in names})

    def _load(self, names: set[str] | None) -> None:
        with self._scope.use(self.tenant), self._catalog.snapshot():
            if self._loaded is None or names is None:
                self._loaded = missing = None
            else:
                missing = (names | self._catalog.lineage.ancestors(names)) - self._loaded
                self._loaded |= missing
            if self.tenant is not None:
                # Shared recipes are loaded even if a tenant's own recipe of that name hides them:
                # shared tables read them.
                with self._scope.use(None):
                    self._add_nodes(missing)
            self._add_nodes(missing)

    def _add_nodes(self, names: set[str] | None) -> None:
        for recipe in self._catalog.recipes.list(names):
            node = RecipeNode(recipe.name, recipe.tenant, recipe)
            self.nodes.setdefault(node.key, node).recipe = recipe
        for version, record in self._catalog.result_tables.current(names):
            key = (version.tenant, fold(version.recipe))
            if key not in self.nodes:  # its definition was dropped
                self.nodes[key] = RecipeNode(version.recipe, version.tenant, None)
            self.nodes[key].version, self.nodes[key].record = version, record

    def _require(self, names: Iterable[str]) -> None:
        if self._loaded is not None and (missing := set(names) - self._loaded):
            self._load(missing)

    def find(self, name: str, tenant: str | None) -> RecipeNode | None:
        """The recipe of a name for a tenant: its own, else the shared one."""
        folded_name = fold(name)
        self._require([folded_name])
        for owner in dict.fromkeys((tenant, None)):
            target = self._targets.get((owner or "", folded_name))
            if target is not None:
                self._require([fold(target)])
            if node := self.nodes.get((owner, fold(target or folded_name))):
                return node
        return None

    def required_inputs(self, node: RecipeNode) -> Sequence[RecipeNode]:
        """The recipes that computing a node reads: from its definition, or from the anchors of its
        version if the definition was dropped."""
        return self._find_inputs(node, _anchored_names if node.recipe is None else _required_names)

    def recorded_inputs(self, node: RecipeNode) -> Sequence[RecipeNode]:
        """The recipes that the newest version was computed from, without those that depend on the
        node by now."""
        return self._without_superseded(node, self._find_inputs(node, _anchored_names))

    def frame_inputs(self, node: RecipeNode) -> Sequence[RecipeNode]:
        """The recipes that the frames of the newest version were made from, without those that
        depend on the node by now, and without the node itself."""
        return self._without_superseded(node, self._find_inputs(node, _framed_names))

    def is_made_from(self, node: RecipeNode, table: Input) -> bool:
        """Whether a table that a frame of the node was made from was made from the node in turn."""
        parent = self._find_parent(node, table)
        return parent is not None and parent.key not in {p.key for p in self.frame_inputs(node)}

    def _find_parent(self, node: RecipeNode, table: Input) -> RecipeNode | None:
        is_result = table.kind_class.is_result
        return self.find(table.name, node.tenant) if is_result else None

    def sources_of_frame(
        self, node: RecipeNode, origin: FrameOrigin
    ) -> tuple[list[Anchor], list[Anchor]]:
        """The states that a frame of the node rests on, and those of them that are judged before
        the node."""
        sources, judged = dict[tuple[str, ...], Anchor](), list[Anchor]()
        pending = [(source, self.is_made_from(node, source.input)) for source in origin.inputs]
        while pending:
            source, is_circular = pending.pop()
            key = (*source.input.identity, source.value)
            if key in sources:
                continue
            sources[key] = source
            if not is_circular:
                judged.append(source)
                continue
            with self._scope.use(node.tenant):
                record = find_recorded_version(self._catalog, source.input.name, source)
            for anchor in [] if record is None else record.anchors:
                pending += [
                    (each, self._table_reaches(node, each.input))
                    for each in origin_inputs(anchor) or [anchor]
                    if each.pinned and not each.input.kind_class.has_origin
                ]
        own = [key for key, a in sources.items() if self._find_parent(node, a.input) is node]
        return [a for key, a in sources.items() if key not in own], judged

    def _table_reaches(self, node: RecipeNode, table: Input) -> bool:
        parent = self._find_parent(node, table)
        return parent is not None and self.reaches(parent, node)

    def _without_superseded(
        self, node: RecipeNode, recipes: Sequence[RecipeNode]
    ) -> Sequence[RecipeNode]:
        superseded = self._superseded_inputs(node) if recipes else []
        return [p for p in recipes if p.key not in superseded] if superseded else recipes

    def _superseded_inputs(self, node: RecipeNode) -> Sequence[RecipeKey]:
        """The recorded inputs that were redefined to read this node, and that its own definition no
        longer reads. The version is older than this apparent cycle, and the node is stale anyway,
        so these edges can be dropped."""
        if node.superseded is None:
            needed = {p.key for p in self.required_inputs(node)}
            node.superseded = [
                p.key
                for p in (
                    *self._find_inputs(node, _anchored_names),
                    *self._find_inputs(node, _framed_names),
                )
                if p.key not in needed and self.reaches(p, node)
            ]
        return node.superseded

    def _find_inputs(self, node: RecipeNode, names_of: _NamesOf) -> Sequence[RecipeNode]:
        known = node.inputs.get(names_of)
        if known is None:
            if names := names_of(node):
                self._require(map(fold, names))
            found = (self.find(name, node.tenant) for name in names)
            known = node.inputs[names_of] = [*{p.key: p for p in found if p is not None}.values()]
        return known

    def reaches(self, start: RecipeNode, goal: RecipeNode) -> bool:
        """Whether the start depends on the goal, by definition or by recorded anchors."""
        visited, stack = {start.key}, [start]
        while stack:
            node = stack.pop()
            if node.key == goal.key:
                return True
            for parent in (
                *self.required_inputs(node),
                *self._find_inputs(node, _anchored_names),
                *self._find_inputs(node, _framed_names),
            ):
                if parent.key not in visited:
                    visited.add(parent.key)
                    stack.append(parent)
        return False

    def dependencies(self, node: RecipeNode) -> Sequence[RecipeNode]:
        """All recipes to evaluate before a node: those it reads and those it was computed from."""
        if not _reads_recipes(node):  # most tables of a large workspace read files alone
            return []
        return list(
            {
                p.key: p
                for p in (
                    *self.required_inputs(node),
                    *self.recorded_inputs(node),
                    *self.frame_inputs(node),
                )
            }.values()
        )

    @functools.cached_property
    def visible_nodes(self) -> Sequence[RecipeNode]:
        """The nodes of a graph of all recipes by name, without shared ones that a tenant's own
        recipe hides."""
        hidden_names = {folded_name for tenant, folded_name in self.nodes if tenant is not None}
        visible = [n for p, n in self.nodes.items() if p[0] is not None or p[1] not in hidden_names]
        return sorted(visible, key=lambda n: n.key[1])

    @functools.cached_property
    def visible_in_order(self) -> Sequence[RecipeNode]:
        """The nodes of a graph of all recipes that are visible or upstream of visible ones, inputs
        first. DependencyCycle with its path."""
        return self.topological_order(self.visible_nodes, self.dependencies)

    @functools.cached_property
    def outside_inputs(self) -> frozenset[tuple[str | None, Input]]:
        """What has to be observed to evaluate all of `visible_in_order`."""
        return outside_inputs(self.visible_in_order)

    def topological_order(
        self, starts: Iterable[RecipeNode], parents_of: Callable[[RecipeNode], Sequence[RecipeNode]]
    ) -> list[RecipeNode]:
        """The nodes and everything upstream of them, parents before children. `parents_of` is
        `dependencies` or `required_inputs`. DependencyCycle with its path."""
        ordered: dict[RecipeKey, RecipeNode] = {}
        for start in starts:
            if not (parents := parents_of(start)):
                ordered[start.key] = start
                continue
            stack: list[tuple[RecipeNode, list[RecipeNode]]] = [(start, [*parents])]
            path = {start.key: None}
            while stack:
                node, pending = stack[-1]
                if node.key in ordered:
                    pending.clear()
                if pending:
                    parent = pending.pop()
                    if parent.key in path:
                        names = [n.name for n, _ in stack] + [parent.name]
                        raise DependencyCycle(
                            "Tables depend on each other in a cycle: " + " ← ".join(names) + ".",
                            path=names,
                        )
                    if parent.key not in ordered:
                        path[parent.key] = None
                        stack.append((parent, [*parents_of(parent)]))
                    continue
                stack.pop()
                path.pop(node.key, None)
                ordered[node.key] = node
        return list(ordered.values())


def outside_inputs(nodes: Iterable[RecipeNode]) -> frozenset[tuple[str | None, Input]]:
    """What has to be observed to evaluate some nodes: all inputs but result tables."""
    return frozenset(
        (node.tenant, a.input)
        for node in nodes
        if node.record
        for anchor in node.record.anchors
        for a in (anchor, *origin_inputs(anchor))
        if a.pinned and not a.is_given and not a.input.kind_class.is_result
    )


def _reads_recipes(node: RecipeNode) -> bool:
    """Whether a recipe or its newest version may have been computed from another recipe."""
    if node.recipe is not None and node.recipe.parents:
        return True
    if node.record is not None:
        for anchor in node.record.anchors:
            if anchor.input.kind_class.is_result or origin_inputs(anchor):
                return True
    return False


def _required_names(node: RecipeNode) -> Sequence[str]:
    return node.recipe.parents if node.recipe is not None else []


def _anchored_names(node: RecipeNode) -> Sequence[str]:
    anchors = node.record.anchors if node.record is not None else []
    return [a.input.name for a in anchors if a.input.kind_class.is_result]


def _framed_names(node: RecipeNode) -> Sequence[str]:
    anchors = node.record.anchors if node.record is not None else []
    return [
        source.input.name
        for anchor in anchors
        for source in origin_inputs(anchor)
        if source.input.kind_class.is_result
    ]
