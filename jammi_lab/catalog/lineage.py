"""Lineage: the edges of ready tables, read by recipe, and their closure.

A node is (kind, fold of the name, table inside it, owner). An edge row holds the node of its input as it was resolved when the table was made: an own
recipe or source before a shared one, a physical name by the recipe that it belongs to. A recipe's edges are those of its newest ready version.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.closure import EDGE, MOST_STARTS, Direction, Node, all_edges, closure
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.rows import Words
from jammi_lab.catalog.schema import lineage, newest_edges, owner, recipes, result_tables, sources, versions
from jammi_lab.catalog.scope import Scope
from jammi_lab.catalog.tables import is_newest, not_hidden
from jammi_lab.names import fold
from jammi_lab.values.anchors import AnchorKind, Input, InputKind
from jammi_lab.values.base import Value
from jammi_lab.values.records import Edge, TableKind, TableRecord

Row = Sequence[Any]
"""An edge as it was read: the columns of `EDGE`."""


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


class Use(Value, frozen=True):
    """That the rows of a recipe's newest version were made by a model."""

    model: str
    """The model's name as its table has it."""
    derived: str
    """The recipe."""
    derived_table: str
    """The physical table."""
    kind: TableKind
    """What made the table."""
    node: Node
    """The recipe as a node."""

    def of(self, model: str) -> "Use":
        """The same with the model's name spelt otherwise."""
        return msgspec.structs.replace(self, model=model)


_KINDS = Words(InputKind)
_ANCHORS = Words(AnchorKind)
_fold: sa.BindParameter[str] = sa.bindparam("fold")
_FAR = 1 << 62
"""Hops that no way has: a database cannot count much further."""
_one: sa.ColumnElement[int] = sa.literal_column("1")
_RESULT, _SOURCE, _TABLE, _NO = (sa.literal_column(f"'{text}'", sa.Text) for text in ("result", "source", "table", ""))
_ALL = (
    all_edges()
    .where(not_hidden(newest_edges, newest_edges.c.recipe_fold))
    .order_by(*(newest_edges.c[name] for name in ("recipe_fold", "input_kind", "node_fold", "input_table", "input")))
)
_OF_TABLE = (
    scope.select(
        *(lineage.c[c.name] for c in EDGE[:7]),
        result_tables.c.table_name,
        result_tables.c.table_fold,
        result_tables.c.tenant_id,
        seen=(lineage, result_tables),
    )
    .join(result_tables, result_tables.c.table_name == lineage.c.derived)
    .where(lineage.c.derived == sa.bindparam("table_name"))
    .order_by(lineage.c.input_kind, lineage.c.node_fold)
)
_USES = (
    scope.select(
        result_tables.c.model_id,
        versions.c.recipe,
        result_tables.c.table_name,
        result_tables.c.kind,
        versions.c.recipe_fold,
        owner(versions),
        seen=(versions, result_tables),
    )
    .join_from(result_tables, versions, versions.c.table_name == result_tables.c.table_name)
    .where(
        result_tables.c.model_id.is_not(None),
        result_tables.c.kind.in_([sa.literal_column(f"'{kind}'", sa.Text) for kind in (TableKind.EMBEDDING, TableKind.IMPORTED)]),
        result_tables.c.status == sa.literal_column("'ready'"),
        is_newest(versions),
    )
    .order_by(versions.c.recipe_fold)
)
_USES_SHOWN = _USES.where(not_hidden(versions, versions.c.recipe_fold))
_READERS = (
    scope.select_reaching(newest_edges.c.tenant_id, newest_edges.c.recipe, seen=newest_edges)
    .where(newest_edges.c.node_fold == _fold, newest_edges.c.node_tenant == sa.bindparam("owner"), newest_edges.c.input_kind == _RESULT)
    .where(sa.or_(newest_edges.c.recipe_fold != _fold, owner(newest_edges) != sa.bindparam("owner")))
    .distinct()
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
_read = scope.select(lineage.c.input_kind, lineage.c.input_table, _NO, lineage.c.node_tenant, seen=lineage).where(lineage.c.node_fold == _fold)
_READ_AS = _read.distinct()
_CALLED = sa.union_all(  # in one statement, because a walk of many hops takes hardly longer than each of these
    scope.select(_TABLE, result_tables.c.table_name, result_tables.c.recipe, owner(result_tables), seen=result_tables).where(
        result_tables.c.table_fold == _fold
    ),
    scope.select(_RESULT, _NO, _NO, owner(versions), seen=versions).where(versions.c.recipe_fold == _fold).distinct(),
    scope.select(_RESULT, _NO, _NO, owner(recipes), seen=recipes).where(recipes.c.name_fold == _fold),
    scope.select(_SOURCE, _NO, _NO, owner(sources), seen=sources).where(sources.c.name_fold == _fold),
    _READ_AS,
)
"""What has a name, or was read under it: its kind, the table inside it, for a physical table its recipe, and whose it is."""
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
            return [_link(row, _origin(row), _reader(row)) for row in _plain(tx, _ALL, self._scope.params())]

    def uses(self, *, hidden: bool = False) -> list[Use]:
        """The newest ready versions that a model made, by name; with `hidden` also shared ones that own ones hide. One query."""
        with self._database.read() as tx:
            rows = tx.execute(_USES if hidden else _USES_SHOWN, self._scope.params()).all()
        return [Use(model, recipe, table, TableKind(kind), ("result", recipe_fold, "", of)) for model, recipe, table, kind, recipe_fold, of in rows]

    def meant(self, name: str) -> tuple[set[Node], str | None]:
        """The nodes that a name means, and the physical table, when it is one that is not its recipe's newest."""
        with self._database.read() as tx:
            return self._starts(tx, name, None)

    def of_table(self, table_name: str) -> list[Link]:
        """The edges of one physical table, whatever version it is; `derived` is its physical name."""
        with self._database.read() as tx:
            return [_link(row, _origin(row), _reader(row, "table")) for row in _plain(tx, _OF_TABLE, self._scope.params(table_name=table_name))]

    def knows(self, name: str) -> bool:
        """Whether anything visible is called that, or was read under that name."""
        with self._database.read() as tx:
            return bool(self._starts(tx, name, None)[0])

    def readers(self, name: str, tenant: str | None) -> set[tuple[str | None, str]]:
        """Whose the other recipes are, and their names, that read a tenant's recipe in their newest version, by its name or an exact table of it.

        Those of a shared one are everybody's, whoever is bound: other tenants' names are not to be shown.
        """
        with self._database.read() as tx:
            return {(of, recipe) for of, recipe in tx.execute(_READERS, {"fold": fold(name), "owner": tenant or ""}).all()}

    def closure(self, name: str, direction: Direction, depth: int | None = None, kind: InputKind | None = None) -> list[Link]:
        """Every edge on a way from `name`, once each, nearest first; `depth` bounds the hops.

        `name` is a recipe, a source (or `source.table`), a physical table, or whatever else was read; `kind` says which when one name is several
        things. A way ends where it meets itself.
        """
        if depth is not None and depth < 1:
            return []
        if depth is not None and depth >= _FAR:
            depth = None
        with self._database.read() as tx:
            starts, exact = self._starts(tx, name, kind)
            if exact is None or direction == "down":
                return _by_distance(self._walk(tx, starts, direction, depth), starts, direction)
            first = _plain(tx, _OF_TABLE, self._scope.params(table_name=exact))
            further: Sequence[Row] = ()
            if depth != 1:
                further = self._walk(tx, {_origin(row) for row in first}, direction, None if depth is None else depth - 1)
        return _by_distance(further, {_reader(row, "table") for row in first}, direction, first)

    def _walk(self, tx: sa.Connection, starts: set[Node], direction: Direction, depth: int | None) -> Sequence[Row]:
        ordered, rows = sorted(node for node in starts if direction == "down" or node[0] == "result"), list[Row]()
        for at in range(0, len(ordered), MOST_STARTS):
            statement, bound = closure(direction, ordered[at : at + MOST_STARTS], None if depth is None else depth - 1)
            rows += _plain(tx, statement, self._scope.params(**bound))
        return rows if len(ordered) <= MOST_STARTS else list(dict.fromkeys(rows))

    def _starts(self, tx: sa.Connection, name: str, kind: InputKind | None) -> tuple[set[Node], str | None]:
        """The nodes that a name means; and the physical table, when it is one that is not its recipe's newest."""
        folded, found = fold(name), set[Node]()
        called = tx.execute(_CALLED, self._scope.params(fold=folded)).all()
        if (physical := next((row for row in called if row[0] == "table"), None)) is not None and kind in (None, InputKind.RESULT):
            _, table_name, recipe, of = physical
            bound = self._scope.params(table_name=table_name)
            if newest := tx.execute(_NEWEST_OF, bound).all():
                return {("result", row[0], "", row[1]) for row in newest}, None
            belongs = [tuple(row) for row in tx.execute(_BELONGS, bound).all()] or [(fold(recipe), of)]
            return {("result", belonging, "", whose) for belonging, whose in belongs}, table_name
        found |= {(row[0], folded, row[1], row[3]) for row in called if row[0] != "table"}
        for before, table in _splits(name):
            read = tx.execute(_READ_AS, self._scope.params(fold=fold(before))).all()
            found |= {(row[0], fold(before), row[1], row[3]) for row in read if row[1] == table}
        return self._meant({node for node in found if kind is None or node[0] == str(kind)}), None

    def _meant(self, nodes: set[Node]) -> set[Node]:
        """The nodes left when own ones hide shared ones of the same kind and name."""
        own = {(n[0], n[1]) for n in nodes if n[3]}
        return {n for n in nodes if n[3] or self._scope.lifted or (n[0], n[1]) not in own}


def _splits(name: str) -> list[tuple[str, str]]:
    """`a.b` as table b of a."""
    return [(name[:at], name[at + 1 :]) for at, letter in enumerate(name) if letter == "." and at]


def _plain(tx: sa.Connection, statement: sa.Select[Any], bound: Mapping[str, Any]) -> list[Row]:
    """The rows as the driver gives them, which are all texts: a walk reads ten fields of each, and of SQLAlchemy's rows that takes thrice as long."""
    with tx.execute(statement, bound) as result:
        assert result.cursor is not None
        return list(result.cursor.fetchall())


def _origin(row: Row) -> Node:
    """What was read by an edge."""
    return (row[0], row[4], row[2], row[5])


def _reader(row: Row, kind: str = "result") -> Node:
    """What reads it."""
    return (kind, row[8], "", row[9] or "")


def _link(row: Row, source: Node, target: Node, depth: int = 1) -> Link:
    kind, name, table, anchored, _, _, derived_table, derived, _, _ = row
    return Link(Input(_KINDS[kind], name, table or None), derived, derived_table, _ANCHORS[anchored], source, target, depth)


def _shown(row: Row) -> tuple[str, str]:
    """By what edges of one node are ordered: the label of the input and what reads it."""
    return (f"{row[1]}.{row[2]}" if row[2] else row[1], row[7])


def _by_distance(edges: Sequence[Row], starts: Iterable[Node], direction: Direction, of_table: Sequence[Row] = ()) -> list[Link]:
    """The edges in the order in which a walk from `starts` meets them, each once, with its distance; `of_table` are those of a physical table."""
    down = direction == "down"
    leaving: dict[Node, list[Row]] = {}
    for row in of_table:
        leaving.setdefault(_reader(row, "table"), []).append(row)
    for row in edges:  # here and below without calls: what is done for each edge is a good part of a closure's time
        near: Node = (row[0], row[4], row[2], row[5]) if down else ("result", row[8], "", row[9] or "")
        leaving.setdefault(near, []).append(row)
    ordered, queue = list[Link](), [(node, 1) for node in sorted(starts)]
    for node, depth in queue:
        met = leaving.pop(node, ())
        for row in sorted(met, key=_shown) if len(met) > 1 else met:
            far: Node = ("result", row[8], "", row[9] or "") if down else (row[0], row[4], row[2], row[5])
            source, target = (node, far) if down else (far, node)
            ordered.append(Link(Input(_KINDS[row[0]], row[1], row[2] or None), row[7], row[6], _ANCHORS[row[3]], source, target, depth))
            queue.append((far, depth + 1))
    return ordered
