"""Lineage: the edges of ready tables, read by recipe, and their closure.

A node is (kind, fold of the name, table inside it, owner). An edge row holds the node of its input as it was resolved when the table was made: an own
recipe or source before a shared one, a physical name by the recipe that it belongs to. A recipe's edges are those of its newest ready version.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.closure import EDGE, MOST_STARTS, Direction, Node, all_edges, closure
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.schema import lineage, newest_edges, owner, recipes, result_tables, sources, versions
from jammi_lab.catalog.scope import Scope
from jammi_lab.catalog.tables import is_newest, not_hidden
from jammi_lab.names import fold
from jammi_lab.values.anchors import AnchorKind, Input, InputKind
from jammi_lab.values.base import Value
from jammi_lab.values.records import Edge, TableRecord


class Link(Value, frozen=True):
    """One edge with what it takes to walk on from it."""

    input: Input
    """What was read, as it was named; without columns."""
    derived: str
    """The recipe that reads it; a physical name when an exact table was asked for that is not its recipe's newest."""
    derived_table: str
    """The physical table that reads it."""
    kind: AnchorKind
    """By what the input was anchored."""
    source: Node
    """The node that was read."""
    target: Node
    """The node that reads it."""
    depth: int = 1
    """Hops from where the walk began, from 1."""

    @property
    def edge(self) -> Edge:
        """The edge in names."""
        return Edge(input=self.input.label, derived=self.derived, kind=str(self.kind))


_KINDS = {str(k): k for k in InputKind}
_ANCHORS = {str(k): k for k in AnchorKind}
_fold: sa.BindParameter[str] = sa.bindparam("fold")
_one: sa.ColumnElement[int] = sa.literal_column("1")
_ALL = (
    all_edges()
    .where(not_hidden(newest_edges, newest_edges.c.recipe_fold))
    .order_by(*(newest_edges.c[name] for name in ("recipe_fold", "input_kind", "node_fold", "input_table", "input")))
)
_EXACT = sa.literal_column("'table'", sa.Text)
_OF_TABLE = (
    scope.select(
        *(lineage.c[c.name] for c in EDGE[:7]),
        result_tables.c.table_name,
        result_tables.c.table_fold,
        owner(result_tables),
        _EXACT,
        seen=(lineage, result_tables),
    )
    .join(result_tables, result_tables.c.table_name == lineage.c.derived)
    .where(lineage.c.derived == sa.bindparam("table_name"))
    .order_by(lineage.c.input_kind, lineage.c.node_fold)
)
_PHYSICAL = scope.select(result_tables.c.table_name, result_tables.c.recipe, owner(result_tables), seen=result_tables).where(
    result_tables.c.table_fold == _fold
)
_BELONGS = scope.select(versions.c.recipe_fold, owner(versions), seen=versions).where(versions.c.table_name == sa.bindparam("table_name"))
_NEWEST_OF = (
    _BELONGS.add_columns(versions.c.recipe)
    .join(result_tables, result_tables.c.table_name == versions.c.table_name)
    .where(result_tables.c.status == sa.literal_column("'ready'"), is_newest(versions))
)
_VERSION_OWNERS = scope.select(owner(versions), seen=versions).where(versions.c.recipe_fold == _fold).distinct()
_RECIPE_OWNERS = scope.select(owner(recipes), seen=recipes).where(recipes.c.name_fold == _fold)
_SOURCE_OWNERS = scope.select(owner(sources), seen=sources).where(sources.c.name_fold == _fold)
_READ_AS = (
    scope.select(lineage.c.input_kind, lineage.c.input_table, lineage.c.node_tenant, seen=lineage).where(lineage.c.node_fold == _fold).distinct()
)
_OWN_RECIPE = scope.select_of(_one, seen=recipes).where(recipes.c.name_fold == _fold).limit(1)
_OWN_VERSION = scope.select_of(_one, seen=versions).where(versions.c.recipe_fold == _fold).limit(1)
_OWN_SOURCE = scope.select_of(_one, seen=sources).where(sources.c.name_fold == _fold).limit(1)


def edge_rows(tx: sa.Connection, record: TableRecord, edges: Sequence[tuple[tuple[str, str, str], AnchorKind]]) -> list[dict[str, Any]]:
    """The rows of a table's edges, each input resolved to its node; one row per input."""
    rows = {}
    for (kind, name, table), anchored in edges:
        physical, node_fold, node_tenant = _resolve(tx, kind, name, record.tenant)
        rows[kind, fold(name), table] = {
            "tenant_id": record.tenant,
            "input": name,
            "derived": record.table_name,
            "kind": str(anchored),
            "input_kind": str(kind),
            "input_table": table,
            "input_physical": physical,
            "node_fold": node_fold,
            "node_tenant": node_tenant,
        }
    return list(rows.values())


def _resolve(tx: sa.Connection, kind: str, name: str, tenant: str | None) -> tuple[int, str, str]:
    key = {"fold": fold(name), "owner": tenant or ""}
    if kind == InputKind.RESULT:
        if (physical := tx.execute(_PHYSICAL, scope.as_tenant(tenant, fold=fold(name))).first()) is not None:
            belongs = tx.execute(
                _BELONGS, scope.as_tenant(tenant, table_name=physical[0])
            ).first()  # a rename moves versions, not the name a table was first made for
            return (1, belongs[0], belongs[1]) if belongs else (1, fold(physical[1]), physical[2])
        own = any(tx.execute(statement, key).first() is not None for statement in (_OWN_RECIPE, _OWN_VERSION))
    else:
        own = kind == InputKind.SOURCE and tx.execute(_OWN_SOURCE, key).first() is not None
    return 0, fold(name), key["owner"] if own else ""


class Lineage:
    """Edges and closures over what is visible in the bound scope."""

    def __init__(self, database: Database, bound: Scope) -> None:
        self._database, self._scope = database, bound

    def all(self) -> list[Link]:
        """The edges of the newest ready version of every recipe, by name; one query."""
        with self._database.read() as tx:
            return [_link(row) for row in tx.execute(_ALL, self._scope.params()).all()]

    def of_table(self, table_name: str) -> list[Link]:
        """The edges of one physical table, whatever version it is; `derived` is its physical name."""
        with self._database.read() as tx:
            return [_link(row) for row in tx.execute(_OF_TABLE, self._scope.params(table_name=table_name)).all()]

    def edges(self, direction: Direction, name: str) -> list[Link]:
        """One hop: what `name` reads (up) or what reads it (down). A name that nothing knows has no edges; see `knows`."""
        return self.closure(name, direction, depth=1)

    def knows(self, name: str) -> bool:
        """Whether anything visible is called that, or was read under that name."""
        with self._database.read() as tx:
            return bool(self._starts(tx, name, None)[0])

    def closure(self, name: str, direction: Direction, depth: int | None = None, kind: InputKind | None = None) -> list[Link]:
        """Every edge on a way from `name`, once each, nearest first; `depth` bounds the hops.

        `name` is a recipe, a source (or `source.table`), a physical table, or whatever else was read; `kind` says which when one name is several
        things. A way ends where it meets itself.
        """
        if depth is not None and depth < 1:
            return []
        with self._database.read() as tx:
            starts, exact = self._starts(tx, name, kind)
            if exact is None or direction == "down":
                return _by_distance(self._walk(tx, starts, direction, depth), starts, direction)
            first = tx.execute(_OF_TABLE, self._scope.params(table_name=exact)).all()
            links = [_link(row) for row in first]
            if depth == 1:
                return links
            further = self._walk(tx, {link.source for link in links}, direction, None if depth is None else depth - 1)
        return _by_distance([*first, *further], {link.target for link in links}, direction)

    def _walk(self, tx: sa.Connection, starts: set[Node], direction: Direction, depth: int | None) -> Sequence[Any]:
        ordered, rows = sorted(starts), list[Any]()
        for at in range(0, len(ordered), MOST_STARTS):
            statement, bound = closure(direction, ordered[at : at + MOST_STARTS], None if depth is None else depth - 1)
            rows += tx.execute(statement, self._scope.params(**bound)).all()
        return rows if len(ordered) <= MOST_STARTS else list(dict.fromkeys(rows))

    def _starts(self, tx: sa.Connection, name: str, kind: InputKind | None) -> tuple[set[Node], str | None]:
        """The nodes that a name means; and the physical table, when it is one that is not its recipe's newest."""
        key = self._scope.params(fold=fold(name))
        if kind in (None, InputKind.RESULT) and (physical := tx.execute(_PHYSICAL, key).first()) is not None:
            bound = self._scope.params(table_name=physical[0])
            if newest := tx.execute(_NEWEST_OF, bound).all():
                return {("result", row[0], "", row[1]) for row in newest}, None
            belongs = [tuple(row) for row in tx.execute(_BELONGS, bound).all()] or [(fold(physical[1]), physical[2])]
            return {("result", recipe, "", of) for recipe, of in belongs}, physical[0]
        found = {("result", fold(name), "", row[0]) for statement in (_VERSION_OWNERS, _RECIPE_OWNERS) for row in tx.execute(statement, key).all()}
        found |= {("source", fold(name), "", row[0]) for row in tx.execute(_SOURCE_OWNERS, key).all()}
        for before, table in _splits(name):
            for read in tx.execute(_READ_AS, self._scope.params(fold=fold(before))).all():
                if table is None or read[1] == table:
                    found.add((read[0], fold(before), read[1], read[2]))
        return self._meant({node for node in found if kind is None or node[0] == str(kind)}), None

    def _meant(self, nodes: set[Node]) -> set[Node]:
        """The nodes left when own ones hide shared ones of the same kind and name."""
        own = {(n[0], n[1]) for n in nodes if n[3]}
        return {n for n in nodes if n[3] or self._scope.lifted or (n[0], n[1]) not in own}


def _splits(name: str) -> list[tuple[str, str | None]]:
    """`a.b` as a name, and as table b of a."""
    return [(name, None)] + [(name[:at], name[at + 1 :]) for at, letter in enumerate(name) if letter == "." and at]


def _link(row: Sequence[Any], depth: int = 1) -> Link:
    kind, name, table, anchored, node_fold, node_tenant, derived, recipe, recipe_fold, recipe_owner, derived_kind = row
    return Link(
        Input(_KINDS[kind], name, table or None),
        recipe,
        derived,
        _ANCHORS[anchored],
        (kind, node_fold, table, node_tenant),
        (derived_kind, recipe_fold, "", recipe_owner),
        depth,
    )


def _shown(row: Sequence[Any]) -> tuple[str, str]:
    """By what edges of one node are ordered: the label of the input and what reads it."""
    return (f"{row[1]}.{row[2]}" if row[2] else row[1], row[7])


def _by_distance(rows: Iterable[Sequence[Any]], starts: set[Node], direction: Direction) -> list[Link]:
    """The edges in the order in which a walk from `starts` meets them, each once, with its distance."""
    down = direction == "down"
    leaving: dict[Node, list[Sequence[Any]]] = defaultdict(list)
    for row in rows:
        leaving[(row[0], row[4], row[2], row[5]) if down else (row[10], row[8], "", row[9])].append(row)
    ordered, seen, queue = [], set(starts), deque((node, 1) for node in sorted(starts))
    while queue:
        node, depth = queue.popleft()
        for row in sorted(leaving.pop(node, ()), key=_shown):
            ordered.append(link := _link(row, depth))
            onward = link.target if down else link.source
            if onward not in seen:
                seen.add(onward)
                queue.append((onward, depth + 1))
    return ordered
