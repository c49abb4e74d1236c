"""The recursive closure statement of lineage: every reachable node, each once, and the edges that
leave them.

Nodes are joined by UNION, so diamonds and cycles cost nothing. With a depth limit, the distance is
part of a node.
"""

from typing import Any, Literal

import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import CompiledStatement, is_listed
from jammi_lab.catalog.schema import ORDERED, newest_edges, owner

Direction = Literal["up", "down"]
Node = tuple[str, str, str, str]
"""(kind, folded name, table inside it, owner or '')."""

MAX_STARTS = 100
"""Starting nodes per statement."""

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
"""The columns of an edge: the input as it was named, the kind of its anchor, the folded name and
owner of its node, then the reader and its owner."""

_RESULT = sa.literal_column("'result'", sa.Text)
_NOTHING = sa.literal_column("''", sa.Text)
_NODE_COLUMNS = ("kind", "fold", "inner", "owner")
_RESULT_COLUMNS = ("fold", "owner")
"""What distinguishes nodes that are all result tables."""
_statements: dict[tuple[Direction, int, bool, bool], sa.Select[Any]] = {}


def closure_statement(
    direction: Direction, starts: list[Node], depth: int | None
) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The statement and its parameters for the edges that leave any node at most `depth` hops
    (None: no limit) from the starting nodes.

    Upstream traversals start at result tables only: nothing else reads.
    """
    only_results = all(kind == "result" and not inner for kind, _, inner, _ in starts)
    assert only_results or direction == "down", "only result tables have something above them"
    key = (direction, len(starts), depth is not None, only_results)
    if key not in _statements:
        _statements[key] = _build_statement(*key)
    parameters: dict[str, Any] = {} if depth is None else {"depth": depth}
    for i, node in enumerate(starts):
        parameters |= {
            f"{part}{i}": value
            for part, value in zip(_NODE_COLUMNS, node, strict=True)
            if not only_results or part in _RESULT_COLUMNS
        }
    return _statements[key], parameters


def all_edges() -> sa.Select[Any]:
    """The edges of newest ready versions."""
    return scope.select(*EDGE, tables=newest_edges)


def _build_statement(
    direction: Direction, starts: int, has_depth_limit: bool, only_results: bool
) -> sa.Select[Any]:
    """Build the statement. With `only_results`, all nodes are result tables and two columns
    identify them: each column less is noticeable in a traversal of many hops."""
    depth_column: list[Any] = [sa.literal_column("0").label("depth")] if has_depth_limit else []
    parts = _RESULT_COLUMNS if only_results else _NODE_COLUMNS
    seeds: list[Any] = [
        sa.select(
            *(sa.cast(sa.bindparam(f"{part}{i}"), ORDERED).label(part) for part in parts),
            *depth_column,
        )
        for i in range(starts)
    ]
    seed: Any = seeds[0] if starts == 1 else sa.select(sa.union_all(*seeds).subquery())
    reach = seed.cte("reach", recursive=True)
    e = newest_edges.alias("e")
    next_node: dict[str, Any] = {"kind": _RESULT, "inner": _NOTHING}
    next_node |= (
        {"fold": e.c.node_fold, "owner": e.c.node_tenant}
        if direction == "up"
        else {"fold": e.c.recipe_fold, "owner": owner(e)}
    )
    next_columns: list[Any] = [next_node[part] for part in parts] + (
        [reach.c.depth + 1] if has_depth_limit else []
    )
    step = scope.select(*next_columns, tables=e).select_from(
        reach.join(e, _leaves(direction, reach, e, only_results))
    )
    if direction == "up":
        step = step.where(e.c.input_kind == _RESULT)
    if has_depth_limit:
        step = step.where(reach.c.depth < sa.bindparam("depth", type_=sa.BigInteger))
    reached = reach.union(step)
    statement = scope.select(*EDGE, tables=newest_edges).select_from(
        reached.join(newest_edges, _leaves(direction, reached, newest_edges, only_results))
    )
    # with a depth limit a node occurs once for each length of a path to it
    return statement.distinct() if has_depth_limit else statement


def _leaves(direction: Direction, reach: Any, e: Any, only_results: bool) -> sa.ColumnElement[bool]:
    """Whether an edge leaves a node: upstream the node reads, downstream it is read."""
    # the coalesce keeps SQLite from indexing the reached nodes and scanning every edge, so that it
    # uses our index with all its columns
    node = {
        name: sa.func.coalesce(reach.c[name], _NOTHING)
        for name in (_RESULT_COLUMNS if only_results else _NODE_COLUMNS)
    }
    if direction == "up":
        return sa.and_(e.c.recipe_fold == node["fold"], owner(e) == node["owner"])
    kind, inner = (_RESULT, _NOTHING) if only_results else (node["kind"], node["inner"])
    return sa.and_(
        e.c.node_fold == node["fold"],
        e.c.input_kind == kind,
        e.c.input_table == inner,
        e.c.node_tenant == node["owner"],
    )


def _ancestors() -> CompiledStatement:
    """The statement for the folded names of everything upstream of the recipes in `names`: of all
    owners, because what a name means depends on who reads it."""

    def inputs(edges: Any, condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
        return scope.select(edges.c.node_fold, tables=edges).where(
            condition, edges.c.input_kind == _RESULT
        )

    e = newest_edges.alias("e")
    reach = inputs(newest_edges, is_listed(newest_edges.c.recipe_fold, "names")).cte(
        "reach", recursive=True
    )
    # the coalesce: see `_leaves`
    step = inputs(e, e.c.recipe_fold == sa.func.coalesce(reach.c.node_fold, _NOTHING))
    return CompiledStatement(sa.select(reach.union(step.select_from(reach, e)).c.node_fold))


ANCESTORS = _ancestors()
