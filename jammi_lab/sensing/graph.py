"""What a look sees of a whole workspace: the newest version of every recipe as a graph, each with its verdict."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from jammi_lab.canonical import digest_of
from jammi_lab.catalog.catalog import Catalog
from jammi_lab.errors import DependencyCycle, JammiError
from jammi_lab.names import fold
from jammi_lab.observing.look import Look
from jammi_lab.producers.registry import Producers
from jammi_lab.sensing.verdict import Facts, State, judge
from jammi_lab.store import manifests
from jammi_lab.store.results import snapshot_of
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Anchor, InputKind, Observed, Snapshot, Unknown, Vanished, schema_digest
from jammi_lab.values.records import RecipeRecord, TableRecord, TableStatus, VersionRecord
from jammi_lab.values.verdicts import Verdict

Place = tuple[str | None, str]
"""A recipe's identity: its tenant and the fold of its name."""


@dataclass
class Node:
    """A recipe with its newest ready version, where it has one."""

    name: str
    tenant: str | None
    recipe: RecipeRecord | None
    version: VersionRecord | None = None
    record: TableRecord | None = None

    @property
    def place(self) -> Place:
        """Its identity."""
        return (self.tenant, fold(self.name))


class Graph:
    """Every recipe that the bound tenant sees, with the edges between them; in memory, from a bounded number of queries."""

    def __init__(self, catalog: Catalog, scope: TenantScope) -> None:
        self.nodes: dict[Place, Node] = {}
        self.tenant = scope.current
        if self.tenant is not None:
            with scope.use(None):  # a shared table reads the shared recipe of a name, also where an own one hides it
                self._load(catalog)
        self._load(catalog)

    def _load(self, catalog: Catalog) -> None:
        for recipe in catalog.recipes.list():
            node = Node(recipe.name, recipe.tenant, recipe)
            self.nodes[node.place] = node
        for version, record in catalog.tables.current():
            place = (version.tenant, fold(version.recipe))
            node = self.nodes.setdefault(place, Node(version.recipe, version.tenant, None))
            node.version, node.record = version, record

    def find(self, name: str, tenant: str | None) -> Node | None:
        """The recipe that a tenant means by a name: its own before the shared one."""
        folded = fold(name)
        return self.nodes.get((tenant, folded)) or self.nodes.get((None, folded))

    def needs(self, node: Node) -> list[Node]:
        """The recipes that computing a node reads: by its definition, or by the anchors of its version when it has none any more."""
        if node.recipe is None:
            return self._recorded(node)
        return self._found(node, [name for kind, name, _ in node.recipe.inputs if kind == InputKind.RESULT])

    def parents(self, node: Node) -> list[Node]:
        """The recipes that its newest version was made from, without those that derive from it by now."""
        former = {p.place for p in self._former(node)}
        return [p for p in self._recorded(node) if p.place not in former]

    def _former(self, node: Node) -> list[Node]:
        """Of the recipes that its newest version was made from, those that were redefined since to read this very node, and that its definition does
        not read any more: its version is older than the circle, and the node is stale anyway."""
        needed = {p.place for p in self.needs(node)}
        return [p for p in self._recorded(node) if p.place not in needed and self._reaches(p, node)]

    def former_edges(self) -> frozenset[tuple[Place, Place]]:
        """Input and reader of each edge that closes a circle of names, though no table ever was made from itself."""
        return frozenset((parent.place, node.place) for node in self.nodes.values() for parent in self._former(node))

    def _recorded(self, node: Node) -> list[Node]:
        anchors = node.record.anchors if node.record is not None else []
        return self._found(node, [a.input.name for a in anchors if a.input.kind is InputKind.RESULT])

    def _found(self, node: Node, names: Iterable[str]) -> list[Node]:
        return list({p.place: p for n in names if (p := self.find(n, node.tenant)) is not None}.values())

    def _reaches(self, start: Node, goal: Node) -> bool:
        """Whether the start derives from the goal, by definition or by what was recorded."""
        seen, stack = {start.place}, [start]
        while stack:
            node = stack.pop()
            if node.place == goal.place:
                return True
            for each in (*self.needs(node), *self._recorded(node)):
                if each.place not in seen:
                    seen.add(each.place)
                    stack.append(each)
        return False

    def above(self, node: Node) -> list[Node]:
        """All that must be judged before a node: what it needs and what it was made from."""
        return list({p.place: p for p in (*self.needs(node), *self.parents(node))}.values())

    def visible(self) -> list[Node]:
        """Nodes by name, without shared ones that an own recipe hides."""
        hidden = {folded for tenant, folded in self.nodes if tenant is not None}
        return sorted((n for p, n in self.nodes.items() if p[0] is not None or p[1] not in hidden), key=lambda n: fold(n.name))

    def upwards(self, starts: Iterable[Node], above: Callable[[Node], list[Node]]) -> list[Node]:
        """The nodes and everything above them (`graph.needs` or `graph.above`), parents before children. DependencyCycle with its path."""
        done: dict[Place, Node] = {}
        for start in starts:
            stack: list[tuple[Node, list[Node]]] = [(start, above(start))]
            path = {start.place: None}
            while stack:
                node, waiting = stack[-1]
                if node.place in done:
                    waiting.clear()
                if waiting:
                    parent = waiting.pop()
                    if parent.place in path:
                        names = [n.name for n, _ in stack] + [parent.name]
                        raise DependencyCycle("Tables derive from each other in a circle: " + " ← ".join(names) + ".", path=names)
                    if parent.place not in done:
                        path[parent.place] = None
                        stack.append((parent, above(parent)))
                    continue
                stack.pop()
                path.pop(node.place, None)
                done[node.place] = node
        return list(done.values())


class Sensed:
    """The verdicts of one look."""

    def __init__(self, catalog: Catalog, scope: TenantScope, producers: Producers, look: Look, graph: Graph) -> None:
        self.graph, self.look, self._scope = graph, look, scope
        self._catalog, self._producers = catalog, producers
        self.verdicts: dict[Place, Verdict] = {}
        self.own: dict[Place, Verdict] = {}
        """Verdicts that leave out what is inherited."""
        self.states: dict[Place, dict[tuple[str, str, str], State]] = {}

    def judge_all(self, starts: Iterable[Node]) -> None:
        """Judge the nodes and everything above them. DependencyCycle."""
        order = self.graph.upwards(starts, self.graph.above)
        self.look.observe_all(
            (node.tenant, a.input) for node in order if node.record for a in node.record.anchors if a.pinned and a.input.kind is not InputKind.RESULT
        )
        for node in order:
            facts = self.facts(node, node.record)
            self.states[node.place] = dict(facts.now)
            self.own[node.place] = judge(facts)
            self.verdicts[node.place] = judge(facts, self._inherited(node))
        self._keep()

    def judge_version(self, node: Node, record: TableRecord) -> Verdict:
        """The verdict on any version of a recipe, judged by the recipe's current definition and the inputs' present state."""
        former = Node(node.name, node.tenant, node.recipe, node.version, record)
        self.judge_all(self.graph.parents(former))
        verdict = judge(self.facts(former, record), self._inherited(former))
        self._keep()
        return verdict

    def failure(self, recipe: str, definition: str | None) -> str | None:
        """Why the last run of a recipe by a definition failed; None when none did."""
        failed = self._catalog.tables.list(status=TableStatus.FAILED, definition=definition) if definition else []
        return next((record.error for version, record in failed if fold(version.recipe) == fold(recipe)), None)

    def _keep(self) -> None:
        """Let later looks know what this one saw."""
        self.look.close()

    def _inherited(self, node: Node) -> list[tuple[str, Verdict]]:
        """The verdicts on what a version was made from: recipes by name, and exact tables, of which only their own bytes matter."""
        recipes = [(p.name, self.verdicts[p.place]) for p in self.graph.parents(node)]
        anchors = node.record.anchors if node.record is not None else []
        exact = [a.input.name for a in anchors if a.input.kind is InputKind.RESULT and self.graph.find(a.input.name, node.tenant) is None]
        return recipes + [(name, verdict) for name in exact if (verdict := self.exact(name, node.tenant)) is not None]

    def exact(self, name: str, tenant: str | None) -> Verdict | None:
        """The verdict on the bytes of one physical table; None when it is gone."""
        with self._scope.use(tenant):
            record = self._catalog.tables.get(name)
        if record is None:
            return None
        hash_ = record.definition_hash
        return judge(Facts(recorded=hash_, current=hash_, damage=self.look.damage(record), instant=self.look.instant))

    def facts(self, node: Node, record: TableRecord | None) -> Facts:
        """What is recorded of one table and what the look sees of it."""
        current = self._producers.definition_today(node.recipe, deep=self.look.deep) if node.recipe else None
        if record is None:
            return Facts(recorded=None, current=current, ready=False)
        now = self._now(node, record)
        return Facts(
            recorded=record.definition_hash,
            current=current,
            anchors=tuple(record.anchors),
            now=now,
            damage=self.look.damage(record),
            instant=self.look.instant,
            grounds=(*self._grounds(node), *(state.note for state in now.values() if isinstance(state, Anchor) and state.note)),
        )

    def _grounds(self, node: Node) -> tuple[str, ...]:
        said = self._producers.grounds(node.recipe.descriptor) if node.recipe is not None else ""
        return (said,) if said else ()

    def _now(self, node: Node, record: TableRecord) -> dict[tuple[str, str, str], State]:
        """The present state of each pinned input over the columns that the definition reads today."""
        seen = {a.input.identity: self._observe(a, node.tenant) for a in record.anchors if a.pinned}
        moved = any(
            isinstance(seen[a.input.identity], Snapshot) and self._schema_moved(a, seen[a.input.identity]) for a in record.anchors if a.pinned
        )
        columns, same = self._read_today(node, record) if moved else ({}, True)
        now: dict[tuple[str, str, str], State] = {}
        for anchor in record.anchors:
            match seen.get(anchor.input.identity):
                case Snapshot() as snapshot if self._schema_moved(anchor, snapshot):
                    today = columns.get(anchor.input.identity)
                    if not snapshot.knows(today):
                        again = self._observe_over(anchor, today, node.tenant)
                        if not isinstance(again, Snapshot):
                            now[anchor.input.identity] = again
                            continue
                        snapshot = again
                    rebound = _rebound(anchor, snapshot.anchor(anchor.input, today), same)
                    now[anchor.input.identity] = self._compared(anchor, rebound, node, record) if same else rebound
                case Snapshot() as snapshot:
                    now[anchor.input.identity] = self._compared(anchor, snapshot.anchor(anchor.input, anchor.columns), node, record)
                case Vanished() | Unknown() as state:
                    now[anchor.input.identity] = state
        return now

    def _compared(self, recorded: Anchor, now: Anchor, node: Node, record: TableRecord) -> State:
        """The present state; the recorded one when an input moved, and the rows that are read of it did not. Bags do for statements that do not
        depend on the order of rows, and say the same where the input has other columns beside those that are read."""
        if recorded.same_state(now) or record.order_sensitive or (recorded.columns, recorded.types) != (now.columns, now.types):
            return now
        if recorded.input.kind is InputKind.RESULT and recorded.schema:
            answer: bool | Unknown = self._same_result(recorded, node.tenant)
        else:
            answer = self.look.same_rows(recorded, node.tenant)
        if isinstance(answer, Unknown):
            return answer
        return msgspec.structs.replace(recorded, note=f"{recorded.input.label} has other bytes and equal rows") if answer else now

    def _same_result(self, recorded: Anchor, tenant: str | None) -> bool:
        """Whether the version that was read and the newest one hold the same rows over the columns read."""
        parent = self.graph.find(recorded.input.name, tenant)
        if parent is None or parent.record is None or recorded.version is None:
            return False
        with self._scope.use(parent.tenant):
            found = self._catalog.tables.version(parent.name, recorded.version)
        if found is None or not snapshot_of(found[1], recorded.version).anchor(recorded.input, recorded.columns).same_state(recorded):
            return False  # what is called that now is not what was read
        return self.look.same_result(found[1], parent.record, recorded.columns)

    @staticmethod
    def _schema_moved(anchor: Anchor, seen: Observed) -> bool:
        """Whether the statement is to be bound again. Not over rows that cannot be read: it binds to nothing there."""
        return isinstance(seen, Snapshot) and not seen.fault and bool(anchor.schema) and schema_digest(seen.columns) != anchor.schema

    def _observe(self, anchor: Anchor, tenant: str | None) -> Observed:
        """Result tables are known from the graph; everything else was observed by the look."""
        if anchor.input.kind is InputKind.RESULT:
            node = self.graph.find(anchor.input.name, tenant)
            if node is not None:
                return snapshot_of(node.record, node.version.version) if node.record and node.version else Vanished()
        return self.look.observe(anchor.input, tenant)

    def _observe_over(self, anchor: Anchor, columns: tuple[str, ...] | None, tenant: str | None) -> Observed:
        """The same over columns that nobody asked for before."""
        what = msgspec.structs.replace(anchor.input, columns=tuple(sorted(columns or ())))
        return self.look.observe(what, tenant, everything=columns is None)

    def _read_today(self, node: Node, record: TableRecord) -> tuple[dict[tuple[str, str, str], tuple[str, ...] | None], bool]:
        """The columns that the table's own definition reads now that an input has other columns than before (None means all of them), and whether
        it still says the same over them. A definition that does not bind any more reads, to be safe, everything."""
        descriptor = node.recipe.descriptor if node.recipe and node.recipe.definition_hash == record.definition_hash else None
        everything: dict[tuple[str, str, str], tuple[str, ...] | None] = {a.input.identity: None for a in record.anchors}
        try:
            if descriptor is None:
                manifest = manifests.parse(self._catalog.tables.manifest(record.table_name))
                if manifest is None:
                    return everything, False
                descriptor = manifest.descriptor
            with self._scope.use(node.tenant):
                today = self._producers.bound_today(descriptor)
        except (JammiError, ValueError):
            return everything, False
        if today is None:
            return everything, True
        bound, same = today
        united: dict[tuple[str, str, str], set[str]] = {}
        for each in bound:
            united.setdefault(each.relation.input.identity, set()).update(each.columns)
        return everything | {identity: tuple(sorted(columns)) for identity, columns in united.items()}, same


def _rebound(recorded: Anchor, now: Anchor, same: bool) -> Anchor:
    """The anchor of an input with other columns than before; never the recorded state when the statement now says something else, or nothing."""
    if same or not recorded.same_state(now):
        return now
    return otherwise_said(now)


def otherwise_said(now: Anchor) -> Anchor:
    """The anchor of an input that is what it was under a statement that says something else over it."""
    return msgspec.structs.replace(now, value=digest_of([now.value, now.schema]))
