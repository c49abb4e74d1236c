"""Maintains `newest_edges`: the edges of the newest ready version of each recipe.

Whatever changes which version that is, or its edges, calls this module in the same transaction: a
version turns ready, is added, is removed or is no longer ready. A lineage traversal then reads one
table, by an index that covers all its columns.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import CompiledStatement
from jammi_lab.catalog.schema import lineage, newest_edges, owner, result_tables, versions
from jammi_lab.core.identifiers import fold

Key = tuple[str, str]
"""(owner or '', folded name of the recipe)."""

_n, _v, _referring = newest_edges, versions, versions.alias("told")
_NOTHING, _READY = (sa.literal_column(text, sa.Text) for text in ("''", "'ready'"))
_COLUMNS = tuple(c.name for c in _n.c)
_name_in = _referring.c.table_name.in_(sa.bindparam("names", expanding=True))
_name_is = _referring.c.table_name == sa.bindparam("name", type_=sa.Text)
_KEYS = (
    scope.select_all_tenants(owner(_referring), _referring.c.recipe_fold).where(_name_is).distinct()
)


def _insert_edges(
    owner_id: sa.ColumnElement[str], recipe_fold: sa.ColumnElement[str], edges: sa.Select[Any]
) -> sa.Insert:
    """The INSERT of the edges of the newest ready version of a recipe."""
    candidate, candidate_table = versions.alias("other"), result_tables.alias("its_table")
    newest = (  # descending along the index until a version is ready
        scope.select_all_tenants(candidate.c.version)
        .join_from(
            candidate, candidate_table, candidate_table.c.table_name == candidate.c.table_name
        )
        # the coalesce keeps SQLite from the index over status, which covers nearly every row
        .where(
            candidate.c.recipe_fold == recipe_fold,
            owner(candidate) == owner_id,
            sa.func.coalesce(candidate_table.c.status, _NOTHING) == _READY,
        )
        .order_by(candidate.c.version.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = edges.where(
        _v.c.recipe_fold == recipe_fold,
        owner(_v) == owner_id,
        _v.c.version == newest,
        lineage.c.derived == _v.c.table_name,
    )
    return sa.insert(_n).from_select(_COLUMNS, rows)


# Edges are always recomputed from the other tables, never added or taken away one by one: so the
# only way in which this table can be wrong is that nobody called this module.
_edges = scope.select_all_tenants(
    *((lineage if name in lineage.c and name != "tenant_id" else _v).c[name] for name in _COLUMNS)
)
_fold, _owner = sa.bindparam("fold", type_=sa.Text), sa.bindparam("owner", type_=sa.Text)
_DELETE_EDGES = scope.delete_owned_by(_n).where(_n.c.recipe_fold == _fold)
_INSERT_EDGES = _insert_edges(_owner, _fold, _edges)


def _rebuild_statements(condition: sa.ColumnElement[bool]) -> tuple[sa.Delete, sa.Insert]:
    """The statements that recompute the edges of the recipes that refer to some physical tables."""
    referring_recipes = scope.select_all_tenants(
        _referring.c.recipe_fold, owner(_referring).label("owner")
    ).where(condition)
    keys = referring_recipes.distinct().subquery("keys")
    return (
        scope.delete_any_owner(_n).where(
            sa.tuple_(_n.c.recipe_fold, owner(_n)).in_(referring_recipes)
        ),
        _insert_edges(keys.c.owner, keys.c.recipe_fold, _edges.select_from(keys)),
    )


_REBUILD_ONE = tuple(CompiledStatement(each) for each in _rebuild_statements(_name_is))
_REBUILD_MANY = _rebuild_statements(_name_in)
_UPDATE_INPUT_NAME = scope.update_any_owner(_n).where(
    _n.c.node_fold == _fold,
    _n.c.node_tenant == _owner,
    _n.c.input_kind == sa.literal_column("'result'"),
)
_MAX_NAMES = 500
"""Names per statement."""


def recipes_of(tx: sa.Connection, table_name: str) -> set[Key]:
    """The recipes with a version that refers to a physical table."""
    return {(row[0], row[1]) for row in tx.execute(_KEYS, {"name": table_name}).all()}


def rebuild_edges(tx: sa.Connection, recipes: Iterable[Key]) -> None:
    """Recompute the edges of some recipes from the other tables."""
    if keys := [{"owner": owner_id, "fold": recipe_fold} for owner_id, recipe_fold in recipes]:
        tx.execute(_DELETE_EDGES, keys)
        tx.execute(_INSERT_EDGES, keys)


def rebuild_edges_of_tables(tx: sa.Connection, names: Sequence[str]) -> None:
    """Recompute the edges of the recipes that refer to some physical tables."""
    if len(names) == 1:
        for rebuild in _REBUILD_ONE:
            rebuild.execute(tx, {"name": names[0]})
    else:
        for start in range(0, len(names), _MAX_NAMES):
            for statement in _REBUILD_MANY:
                tx.execute(statement, {"names": names[start : start + _MAX_NAMES]})


def rename_recipe(tx: sa.Connection, tenant: str | None, old: str, new: str) -> None:
    """Update the edges after a recipe, with all its versions, was renamed: its own, and those of
    its readers."""
    tx.execute(
        _UPDATE_INPUT_NAME.values(node_fold=fold(new)), {"owner": tenant or "", "fold": fold(old)}
    )
    rebuild_edges(tx, {(tenant or "", fold(name)) for name in (old, new)})
