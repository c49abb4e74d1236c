"""Lineage: the edges of ready tables by recipe, and their transitive closure.

A node is (kind, folded name, table inside it, owner). An edge row holds the node of its input as it
was resolved when the table was computed: an own recipe or source before a shared one, a physical
name by the recipe it belongs to. A recipe's edges are those of its newest ready version. The model
that made the vectors of a table is an input of it here, though not in its anchors.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.aliases import AliasRepository, alias_target
from jammi_lab.catalog.connection import Connection, Statement, is_listed, text_list
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.result_tables import is_newest, is_newest_of_table, not_hidden
from jammi_lab.catalog.row_mapping import EnumColumn
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.anchors import AnchorKind, Identity, Input, origin_inputs
from jammi_lab.core.identifiers import fold
from jammi_lab.core.input_kinds import MODEL_KIND
from jammi_lab.core.records import Edge, TableRecord
from jammi_lab.core.value import Value

Direction = Literal["up", "down"]
Node = tuple[str, str, str, str]
"""(kind, folded name, table inside it, owner or '')."""
Row = Sequence[Any]
"""One edge as read from the database: the columns of `_EDGE`."""


class Link(Value, frozen=True):
    """One edge with what a traversal needs to continue from it."""

    input: Input
    """The input by the name under which it was read, without columns."""
    derived: str
    """The recipe that reads it; a physical name when an exact table was queried that is not its
    recipe's newest."""
    derived_table: str
    """The physical table that reads it."""
    kind: AnchorKind
    """The kind of the input's anchor."""
    source: Node
    """The node of the input."""
    target: Node
    """The node that reads the input."""
    depth: int = 1
    """Hops from the start of the traversal, counted from 1."""

    @property
    def edge(self) -> Edge:
        """The edge with names instead of nodes."""
        return Edge(input=self.input.label, derived=self.derived, kind=str(self.kind))


_ANCHOR_KINDS = EnumColumn(AnchorKind)
_EDGE = (
    "lineage.input_kind, lineage.input, lineage.input_table, lineage.kind, lineage.node_fold, "
    "lineage.node_tenant, lineage.derived, versions.recipe, versions.recipe_fold, "
    "versions.tenant_id"
)
"""The columns of an edge: the input as it was named, the kind of its anchor, the folded name and
owner of its node, then the reader and its owner."""
_READERS_AND_EDGES = "versions JOIN lineage ON lineage.derived = versions.table_name"
_OF_READERS = f"{scope.visible('versions')} AND {is_newest('versions')}"
_OF_INPUTS = f"{scope.visible('versions')} AND {is_newest_of_table('versions')}"
_IS_VISIBLE = not_hidden("versions", "versions.recipe_fold")
_EDGES_OF = f"SELECT {_EDGE} FROM {_READERS_AND_EDGES} WHERE"
_ALL_EDGES = Statement(
    f"{_EDGES_OF} {_OF_READERS} AND {_IS_VISIBLE} ORDER BY versions.recipe_fold, "
    "lineage.input_kind, lineage.node_fold, lineage.input_table, lineage.input"
)
_EDGES_OF_TABLE = Statement(
    "SELECT lineage.input_kind, lineage.input, lineage.input_table, lineage.kind, "
    "lineage.node_fold, lineage.node_tenant, lineage.derived, result_tables.table_name, "
    "result_tables.table_fold, result_tables.tenant_id FROM lineage "
    "JOIN result_tables ON result_tables.table_name = lineage.derived "
    f"WHERE {scope.visible('lineage')} AND {scope.visible('result_tables')} "
    "AND lineage.derived = :table_name ORDER BY lineage.input_kind, lineage.node_fold"
)


def _closure(condition: str, near: str, far: str) -> Statement:
    """The statement for every edge on a path from the nodes of some folded names, and from nodes
    of other owners or kinds that have the same names: `near` is the end of an edge at which a path
    comes in, `far` the one at which it goes on. Names are joined by UNION, so diamonds and cycles
    cost nothing."""
    # the coalesce keeps SQLite from indexing the names that were met and scanning all edges
    onward = f"{_READERS_AND_EDGES} JOIN reach ON {near} = coalesce(reach.node, '')"
    return Statement(
        f"WITH RECURSIVE reach(node) AS (SELECT {near} FROM {_READERS_AND_EDGES} "
        f"WHERE {condition} AND {is_listed(near, 'names')} "
        f"UNION SELECT {far} FROM {onward} WHERE {condition}) "
        f"SELECT {_EDGE} FROM {onward} WHERE {condition}",
        columns=_EDGE,
    )


_CLOSURES: Mapping[Direction, Statement] = {
    "up": _closure(_OF_READERS, "versions.recipe_fold", "lineage.node_fold"),
    "down": _closure(_OF_INPUTS, "lineage.node_fold", "versions.recipe_fold"),
}
_MODEL_NAMES = Statement(
    f"SELECT models.name FROM models WHERE {scope.visible('models')} AND models.name_fold = :fold"
)
_READERS = Statement(
    f"SELECT DISTINCT versions.tenant_id, versions.recipe FROM {_READERS_AND_EDGES} "
    f"WHERE {scope.referring('versions')} AND {is_newest('versions')} "
    "AND lineage.node_fold = :fold AND lineage.node_tenant = :owner "
    "AND lineage.input_kind = 'result' "
    f"AND (versions.recipe_fold <> :fold OR {scope.owner('versions')} <> :owner)"
)
_TABLE_BY_NAME = Statement(
    f"SELECT result_tables.table_name, result_tables.recipe, {scope.owner('result_tables')} "
    f"FROM result_tables WHERE {scope.visible('result_tables')} "
    "AND result_tables.table_fold = :fold"
)
_RECIPES_OF_TABLE = Statement(
    f"SELECT versions.recipe_fold, {scope.owner('versions')} FROM versions "
    f"WHERE {scope.visible('versions')} AND versions.table_name = :table_name"
)
_NEWEST_RECIPES_OF_TABLE = Statement(f"{_RECIPES_OF_TABLE.text} AND {is_newest('versions')}")
_INPUTS_BY_NAME = Statement(
    "SELECT DISTINCT lineage.input_kind, lineage.input_table, '', lineage.node_tenant "
    f"FROM lineage WHERE {scope.visible('lineage')} AND lineage.node_fold = :fold"
)
# one statement, because each of these parts alone costs about as much as a traversal of many hops
_NODES_BY_NAME = Statement(
    f"SELECT 'table', {_TABLE_BY_NAME.text.removeprefix('SELECT ')} UNION ALL "
    f"SELECT DISTINCT 'result', '', '', {scope.owner('versions')} FROM versions "
    f"WHERE {scope.visible('versions')} AND versions.recipe_fold = :fold UNION ALL "
    f"SELECT 'result', '', '', {scope.owner('recipes')} FROM recipes "
    f"WHERE {scope.visible('recipes')} AND recipes.name_fold = :fold UNION ALL "
    f"SELECT 'source', '', '', {scope.owner('sources')} FROM sources "
    f"WHERE {scope.visible('sources')} AND sources.name_fold = :fold UNION ALL "
    f"{_INPUTS_BY_NAME.text}"
)
"""Whatever has a name, or was read under it: its kind, the table inside it, the recipe of a
physical table, and the owner."""
_OWN = {
    table: Statement(
        f"SELECT 1 FROM {table} WHERE {scope.owned_by(table)} AND {table}.{column} = :fold LIMIT 1"
    )
    for table, column in (
        ("recipes", "name_fold"),
        ("versions", "recipe_fold"),
        ("sources", "name_fold"),
    )
}


def edge_rows(tx: Connection, record: TableRecord) -> list[dict[str, Any]]:
    """The rows of a table's edges, one per input, each input resolved to its node."""
    rows = {}
    edges = _edges_of(record) | _model_edge(tx, record)
    for (kind, name, table), anchor_kind in edges.items():
        physical, node_fold, node_tenant = _resolve_node(tx, kind, name, record.tenant)
        rows[kind, fold(name), table] = {
            "tenant_id": record.tenant,
            "input": name,
            "derived": record.table_name,
            "kind": str(anchor_kind),
            "input_kind": str(kind),
            "input_table": table,
            "input_physical": physical,
            "node_fold": node_fold,
            "node_tenant": node_tenant,
        }
    return list(rows.values())


def _model_edge(tx: Connection, record: TableRecord) -> dict[Identity, AnchorKind]:
    """The edge from the model of a table. That of imported vectors is one if it is registered."""
    if record.model_id is None or record.recipe_class.combines_vectors:
        return {}
    parameters = scope.tenant_parameters(record.tenant, fold=fold(record.model_id))
    names = [name for (name,) in _MODEL_NAMES.fetch(tx, parameters)]
    if record.recipe_class.has_encoder:
        names.append(record.model_id)  # of a model that is not registered
    return {(MODEL_KIND, name, ""): AnchorKind.MODEL for name in names[:1]}


def _resolve_node(tx: Connection, kind: str, name: str, tenant: str | None) -> tuple[int, str, str]:
    key = scope.name_key(tenant, name)
    if kind == "result":
        parameters = scope.tenant_parameters(tenant, fold=fold(name))
        for table_name, recipe, table_owner in _TABLE_BY_NAME.fetch(tx, parameters)[:1]:
            # by the version: a rename changes versions, not the recipe name in the table's row
            parameters = scope.tenant_parameters(tenant, table_name=table_name)
            versions_of_table = _RECIPES_OF_TABLE.fetch(tx, parameters)
            return (1, *(versions_of_table or [(fold(recipe), table_owner)])[0])
        is_own = any(statement.fetch(tx, key) for statement in (_OWN["recipes"], _OWN["versions"]))
        for owner_id in () if is_own else dict.fromkeys((key["owner"], "")):
            if (target := alias_target(tx, owner_id, name)) is not None:
                return 0, fold(target), owner_id
    else:
        is_own = kind == "source" and bool(_OWN["sources"].fetch(tx, key))
    return 0, fold(name), key["owner"] if is_own else ""


class LineageRepository:
    """Edges and closures over what is visible in the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate) -> None:
        self._database, self._scope = database, active_scope
        self._aliases = AliasRepository(database, active_scope)

    def all_edges(self) -> list[Link]:
        """The edges of the newest ready version of every recipe, by name; one query."""
        rows = self._database.fetch(_ALL_EDGES, self._scope.parameters())
        return self._with_current_names(list(map(_link, rows)))

    def nodes_named(self, name: str) -> tuple[set[Node], str | None]:
        """The nodes that a name refers to, and the physical table when the name is that of a table
        which is not its recipe's newest."""
        with self._database.read() as tx:
            return self._start_nodes(tx, name, None)

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """The folded names of everything that the newest versions of some recipes (by folded name)
        were computed from, at any distance; one query."""
        with self._database.read() as tx:
            edges = self._traverse(tx, names, "up")
        return {row[4] for row in edges if row[0] == "result"}

    def readers(self, name: str, tenant: str | None) -> set[tuple[str | None, str]]:
        """Owner and name of the other recipes whose newest version reads a tenant's recipe, by its
        name or by an exact table of it.

        The readers of a shared recipe belong to all tenants, whoever is bound; names of other
        tenants must not be shown.
        """
        with self._database.read() as tx:
            return {
                (tenant_id, recipe)
                for tenant_id, recipe in _READERS.fetch(tx, scope.name_key(tenant, name))
            }

    def closure(
        self,
        name: str,
        direction: Direction,
        depth: int | None = None,
        kind: str | None = None,
    ) -> list[Link]:
        """Every edge on a path from `name`, once each, nearest first; `depth` limits the hops.

        `name` is a recipe, a source (or `source.table`), a physical table, or any other name that
        was read; `kind` selects one meaning when a name has several. Cycles are cut where they
        close.
        """
        if depth is not None and depth < 1:
            return []
        with self._database.read() as tx:
            starts, physical_table = self._start_nodes(tx, name, kind)
            table_edges: Sequence[Row] = ()
            if physical_table is not None and direction == "up":
                parameters = self._scope.parameters(table_name=physical_table)
                table_edges = _EDGES_OF_TABLE.fetch(tx, parameters)
                starts = set()
            begin = {row[4] for row in table_edges} or {node[1] for node in starts}
            edges = self._traverse(tx, begin, direction)
        links = _sort_by_distance(edges, starts, direction, depth, table_edges)
        return self._with_current_names(links)

    def _with_current_names(self, links: list[Link]) -> list[Link]:
        """The links, with aliases replaced by the names of their recipes."""
        if not (targets := self._aliases.targets()):
            return links
        names = [targets.get((link.source[3], fold(link.input.name))) for link in links]
        return [
            link.with_values(input=Input(link.input.kind, name))
            if name is not None and link.source[0] == "result"
            else link
            for link, name in zip(links, names, strict=True)
        ]

    def _traverse(
        self, tx: Connection, folds: Iterable[str], direction: Direction
    ) -> Sequence[Row]:
        """The edges on all paths from nodes of these folded names, and some others."""
        return _CLOSURES[direction].fetch(tx, self._scope.parameters(names=text_list(folds)))

    def _start_nodes(
        self, tx: Connection, name: str, kind: str | None
    ) -> tuple[set[Node], str | None]:
        """The nodes that a name refers to, and the physical table when the name is that of a table
        which is not its recipe's newest."""
        if kind in (None, "result"):
            name = self._aliases.resolve(name)
        name_fold, nodes = fold(name), set[Node]()
        matches = _NODES_BY_NAME.fetch(tx, self._scope.parameters(fold=name_fold))
        physical = next((row for row in matches if row[0] == "table"), None)
        if physical is not None and kind in (None, "result"):
            _, table_name, recipe, tenant = physical
            parameters = self._scope.parameters(table_name=table_name)
            if newest := _NEWEST_RECIPES_OF_TABLE.fetch(tx, parameters):
                return {("result", row[0], "", row[1]) for row in newest}, None
            recipes_of_table = _RECIPES_OF_TABLE.fetch(tx, parameters) or [(fold(recipe), tenant)]
            return {
                ("result", recipe_fold, "", recipe_owner)
                for recipe_fold, recipe_owner in recipes_of_table
            }, table_name
        nodes |= {(row[0], name_fold, row[1], row[3]) for row in matches if row[0] != "table"}
        for outer_name, table in _split_dotted(name):
            inputs = _INPUTS_BY_NAME.fetch(tx, self._scope.parameters(fold=fold(outer_name)))
            nodes |= {
                (row[0], fold(outer_name), row[1], row[3]) for row in inputs if row[1] == table
            }
        return self._without_hidden({node for node in nodes if kind in (None, node[0])}), None

    def _without_hidden(self, nodes: set[Node]) -> set[Node]:
        """The nodes without the shared ones that own ones of the same kind and name hide."""
        own = {(n[0], n[1]) for n in nodes if n[3]}
        return {n for n in nodes if n[3] or self._scope.is_unrestricted or (n[0], n[1]) not in own}


def _edges_of(record: TableRecord) -> dict[Identity, AnchorKind]:
    """The lineage edges of a table: one per input, with the inputs of its frames. A frame that was
    made from an earlier version of the same recipe adds no edge."""
    edges: dict[Identity, AnchorKind] = {}
    own = ("result", fold(record.recipe), "")
    for anchor in record.anchors:
        edges[anchor.input.identity] = anchor.kind
        for source in origin_inputs(anchor):
            kind, name, table = source.input.identity
            if (kind, fold(name), table) != own:
                edges.setdefault(source.input.identity, source.kind)
    return edges


def _split_dotted(name: str) -> list[tuple[str, str]]:
    """Each reading of a dotted name as a table inside of something: `a.b` is table b of a."""
    return [
        (name[:position], name[position + 1 :])
        for position, letter in enumerate(name)
        if letter == "." and position
    ]


def _input_node(row: Row) -> Node:
    """The node of an edge's input."""
    return (row[0], row[4], row[2], row[5])


def _reader_node(row: Row, kind: str = "result") -> Node:
    """The node that reads an edge's input."""
    return (kind, row[8], "", row[9] or "")


def _link(row: Row, depth: int = 1, reader: str = "result") -> Link:
    """The link of an edge; `reader`: the kind of the node that reads it."""
    return Link(
        Input(row[0], row[1], row[2] or None),
        row[7],
        row[6],
        _ANCHOR_KINDS[row[3]],
        _input_node(row),
        _reader_node(row, reader),
        depth,
    )


def _sort_key(row: Row) -> tuple[str, str]:
    """The sort key among edges of one node: the label of the input and its reader."""
    return (f"{row[1]}.{row[2]}" if row[2] else row[1], row[7])


def _sort_by_distance(
    edges: Sequence[Row],
    starts: Iterable[Node],
    direction: Direction,
    limit: int | None,
    table_edges: Sequence[Row] = (),
) -> list[Link]:
    """The edges in breadth-first order from `starts`, each once, with its distance, which is at
    most `limit`; `table_edges` are those of a physical table."""
    near, far = (_input_node, _reader_node) if direction == "down" else (_reader_node, _input_node)
    edges_by_node: dict[Node, list[Row]] = {}
    for row in edges:
        edges_by_node.setdefault(near(row), []).append(row)
    ordered, queue = list[Link](), [(node, 1) for node in sorted(starts)]
    for row in sorted(table_edges, key=_sort_key):
        ordered.append(_link(row, 1, "table"))
        if limit != 1:
            queue.append((_input_node(row), 2))
    for node, depth in queue:
        for row in sorted(edges_by_node.pop(node, ()), key=_sort_key):
            ordered.append(_link(row, depth))
            if depth != limit:
                queue.append((far(row), depth + 1))
    return ordered
