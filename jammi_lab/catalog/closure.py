"""The recursive statement of lineage: every node that can be reached, each once, and the edges that leave them.

Nodes are joined by UNION, so diamonds and cycles cost nothing; with a bound on the hops, the distance is part of a node.
"""

from typing import Any, Literal

import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.schema import ORDERED, newest_edges, owner

Direction = Literal["up", "down"]
Node = tuple[str, str, str, str]
"""(kind, fold of the name, table inside it, owner or '')."""

MOST_STARTS = 100
"""How many starting nodes one statement takes."""

EDGE: tuple[sa.ColumnElement[Any], ...] = (
    newest_edges.c.input_kind,
    newest_edges.c.input,
    newest_edges.c.input_table,
    newest_edges.c.kind,
    newest_edges.c.node_fold,
    newest_edges.c.node_tenant,
    newest_edges.c.derived,
    newest_edges.c.recipe,
    newest_edges.c.recipe_fold,
    owner(newest_edges).label("derived_owner"),
    sa.literal_column("'result'", sa.Text).label("derived_kind"),
)
"""What an edge is read as: an input as it was named, by what it was anchored, its node's fold and owner, then what reads it."""

_RESULT = sa.literal_column("'result'", sa.Text)
_NOTHING = sa.literal_column("''", sa.Text)
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
    return scope.select(*EDGE, seen=newest_edges)


def _build(direction: Direction, starts: int, bounded: bool) -> sa.Select[Any]:
    zero: list[Any] = [sa.literal_column("0").label("depth")] if bounded else []
    seeds: list[Any] = [
        sa.select(*(sa.cast(sa.bindparam(f"{part}{i}"), ORDERED).label(part) for part in ("kind", "fold", "inner", "owner")), *zero)
        for i in range(starts)
    ]
    seed: Any = seeds[0] if starts == 1 else sa.select(sa.union_all(*seeds).subquery())
    reach = seed.cte("reach", recursive=True)
    e = newest_edges.alias("e")
    onward: list[Any] = (
        [e.c.input_kind, e.c.node_fold, e.c.input_table, e.c.node_tenant] if direction == "up" else [_RESULT, e.c.recipe_fold, _NOTHING, owner(e)]
    )
    if bounded:
        onward.append(reach.c.depth + 1)
    step = scope.select(*onward, seen=e).select_from(reach.join(e, _leaves(direction, reach, e)))
    if bounded:
        step = step.where(reach.c.depth < sa.bindparam("depth", type_=sa.BigInteger))
    reached = reach.union(step)
    found = scope.select(*EDGE, seen=newest_edges).select_from(reached.join(newest_edges, _leaves(direction, reached, newest_edges)))
    return found.distinct() if bounded else found  # a node has a distance for each length of a way to it


def _leaves(direction: Direction, reach: Any, e: Any) -> sa.ColumnElement[bool]:
    """Whether an edge leaves a node: upwards the node reads, downwards it is read."""
    if direction == "up":
        return sa.and_(reach.c.kind == _RESULT, e.c.recipe_fold == reach.c.fold, owner(e) == reach.c.owner)
    # the coalesce keeps SQLite from building an index over the nodes reached and scanning every edge there is
    kind, fold, inner, of = (sa.func.coalesce(reach.c[part], _NOTHING) for part in ("kind", "fold", "inner", "owner"))
    return sa.and_(e.c.node_fold == fold, e.c.input_kind == kind, e.c.input_table == inner, e.c.node_tenant == of)
