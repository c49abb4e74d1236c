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
    newest_edges.c.tenant_id,
)
"""What an edge is read as: an input as it was named, by what it was anchored, its node's fold and owner, then what reads it and whose that is."""

_RESULT = sa.literal_column("'result'", sa.Text)
_NOTHING = sa.literal_column("''", sa.Text)
_PARTS = ("kind", "fold", "inner", "owner")
_OF_RESULTS = ("fold", "owner")
"""What tells nodes apart that are all result tables."""
_built: dict[tuple[Direction, int, bool, bool], sa.Select[Any]] = {}


def closure(direction: Direction, starts: list[Node], depth: int | None) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The statement, and what to bind, for the edges that leave any node at most `depth` hops (None: any number) from the starting nodes.

    Upwards these are result tables: nothing else reads.
    """
    results = all(kind == "result" and not inner for kind, _, inner, _ in starts)
    assert results or direction == "down", "only result tables have something above them"
    key = (direction, len(starts), depth is not None, results)
    if key not in _built:
        _built[key] = _build(*key)
    bound: dict[str, Any] = {} if depth is None else {"depth": depth}
    for i, node in enumerate(starts):
        bound |= {f"{part}{i}": value for part, value in zip(_PARTS, node, strict=True) if not results or part in _OF_RESULTS}
    return _built[key], bound


def all_edges() -> sa.Select[Any]:
    """The edges of newest ready versions."""
    return scope.select(*EDGE, seen=newest_edges)


def _build(direction: Direction, starts: int, bounded: bool, results: bool) -> sa.Select[Any]:
    """`results`: all nodes are result tables, and two columns tell them apart; each one less is felt in a walk of many hops."""
    zero: list[Any] = [sa.literal_column("0").label("depth")] if bounded else []
    parts = _OF_RESULTS if results else _PARTS
    seeds: list[Any] = [sa.select(*(sa.cast(sa.bindparam(f"{part}{i}"), ORDERED).label(part) for part in parts), *zero) for i in range(starts)]
    seed: Any = seeds[0] if starts == 1 else sa.select(sa.union_all(*seeds).subquery())
    reach = seed.cte("reach", recursive=True)
    e = newest_edges.alias("e")
    there: dict[str, Any] = {"kind": _RESULT, "inner": _NOTHING}
    there |= {"fold": e.c.node_fold, "owner": e.c.node_tenant} if direction == "up" else {"fold": e.c.recipe_fold, "owner": owner(e)}
    onward: list[Any] = [there[part] for part in parts] + ([reach.c.depth + 1] if bounded else [])
    step = scope.select(*onward, seen=e).select_from(reach.join(e, _leaves(direction, reach, e, results)))
    if direction == "up":
        step = step.where(e.c.input_kind == _RESULT)
    if bounded:
        step = step.where(reach.c.depth < sa.bindparam("depth", type_=sa.BigInteger))
    reached = reach.union(step)
    found = scope.select(*EDGE, seen=newest_edges).select_from(reached.join(newest_edges, _leaves(direction, reached, newest_edges, results)))
    return found.distinct() if bounded else found  # a node has a distance for each length of a way to it


def _leaves(direction: Direction, reach: Any, e: Any, results: bool) -> sa.ColumnElement[bool]:
    """Whether an edge leaves a node: upwards the node reads, downwards it is read."""
    # the coalesce keeps SQLite from building an index over the nodes reached and scanning every edge there is, and lets it use the whole of ours
    part = {name: sa.func.coalesce(reach.c[name], _NOTHING) for name in (_OF_RESULTS if results else _PARTS)}
    if direction == "up":
        return sa.and_(e.c.recipe_fold == part["fold"], owner(e) == part["owner"])
    kind, inner = (_RESULT, _NOTHING) if results else (part["kind"], part["inner"])
    return sa.and_(e.c.node_fold == part["fold"], e.c.input_kind == kind, e.c.input_table == inner, e.c.node_tenant == part["owner"])
