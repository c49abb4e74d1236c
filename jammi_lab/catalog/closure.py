"""The recursive statement of lineage: every node that can be reached, each once, and the edges that leave them.

Nodes are joined by UNION, so diamonds and cycles cost nothing; with a bound on the hops, the distance is part of a node.
"""

from typing import Any, Literal

import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.schema import ORDERED, lineage, owner, result_tables, versions
from jammi_lab.catalog.tables import is_newest

Direction = Literal["up", "down"]
Node = tuple[str, str, str, str]
"""(kind, fold of the name, table inside it, owner or '')."""

MOST_STARTS = 100
"""How many starting nodes one statement takes."""

EDGE: tuple[sa.ColumnElement[Any], ...] = (
    lineage.c.input_kind,
    lineage.c.input,
    lineage.c.input_table,
    lineage.c.kind,
    lineage.c.node_fold,
    lineage.c.node_tenant,
    lineage.c.derived,
    versions.c.recipe,
    versions.c.recipe_fold,
    owner(versions).label("derived_owner"),
)
"""What an edge is read as."""

_RESULT = sa.literal_column("'result'", sa.Text)
_NOTHING = sa.literal_column("''", sa.Text)
_READY = sa.literal_column("'ready'", sa.Text)
_built: dict[tuple[Direction, int, bool], sa.Select[Any]] = {}


def closure(direction: Direction, starts: list[Node], depth: int | None) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The statement, and what to bind, for the edges that leave any node at most `depth` hops (None: any number) from the starting nodes."""
    key = (direction, len(starts), depth is not None)
    if key not in _built:
        _built[key] = _build(*key)
    bound: dict[str, Any] = {} if depth is None else {"depth": depth}
    for i, node in enumerate(starts):
        bound |= {f"{part}{i}": value for part, value in zip(("kind", "fold", "inner", "owner"), node, strict=True)}
    return _built[key], bound


def all_edges() -> sa.Select[Any]:
    """The edges of newest ready versions."""
    return _newest(scope.select(*EDGE, seen=(lineage, versions)).select_from(_edges(lineage, versions, result_tables)), versions, result_tables)


def _build(direction: Direction, starts: int, bounded: bool) -> sa.Select[Any]:
    zero: list[Any] = [sa.literal_column("0").label("depth")] if bounded else []
    seeds: list[Any] = [
        sa.select(*(sa.cast(sa.bindparam(f"{part}{i}"), ORDERED).label(part) for part in ("kind", "fold", "inner", "owner")), *zero)
        for i in range(starts)
    ]
    seed: Any = seeds[0] if starts == 1 else sa.select(sa.union_all(*seeds).subquery())
    reach = seed.cte("reach", recursive=True)
    e, v, t = lineage.alias("e"), versions.alias("v"), result_tables.alias("t")
    onward: list[Any] = (
        [e.c.input_kind, e.c.node_fold, e.c.input_table, e.c.node_tenant] if direction == "up" else [_RESULT, v.c.recipe_fold, _NOTHING, owner(v)]
    )
    if bounded:
        onward.append(reach.c.depth + 1)
    step = scope.select(*onward, seen=(e, v)).select_from(reach.join(_edges(e, v, t), _leaves(direction, reach, e, v)))
    step = _newest(step, v, t)
    if bounded:
        step = step.where(reach.c.depth < sa.bindparam("depth", type_=sa.BigInteger))
    reached = reach.union(step)
    joined = reached.join(_edges(lineage, versions, result_tables), _leaves(direction, reached, lineage, versions))
    return _newest(scope.select(*EDGE, seen=(lineage, versions)).select_from(joined), versions, result_tables).distinct()


def _edges(e: Any, v: Any, t: Any) -> Any:
    return e.join(v, v.c.table_name == e.c.derived).join(t, t.c.table_name == e.c.derived)


def _newest(statement: sa.Select[Any], v: Any, t: Any) -> sa.Select[Any]:
    # coalesce keeps the planner from starting at the index over status, which is nearly the whole table; it is to start at the nodes reached
    return statement.where(sa.func.coalesce(t.c.status, _NOTHING) == _READY, is_newest(v))


def _leaves(direction: Direction, reach: Any, e: Any, v: Any) -> sa.ColumnElement[bool]:
    """Whether an edge leaves a node: upwards the node reads, downwards it is read."""
    if direction == "up":
        return sa.and_(reach.c.kind == _RESULT, v.c.recipe_fold == reach.c.fold, owner(v) == reach.c.owner)
    # the coalesce keeps SQLite from building an index over the nodes reached and scanning every edge there is
    kind, fold, inner, of = (sa.func.coalesce(reach.c[part], _NOTHING) for part in ("kind", "fold", "inner", "owner"))
    return sa.and_(e.c.node_fold == fold, e.c.input_kind == kind, e.c.input_table == inner, e.c.node_tenant == of)
