"""Maintains `versions.newest`: whether a version is the newest ready one of its recipe.

Whatever changes that calls this module in the same transaction: a version turns ready, is added, is
removed or is no longer ready. Lineage and the queries for what a name means now then need no search
among the older versions.
"""

from collections.abc import Iterable

import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import CompiledStatement, is_listed, text_list
from jammi_lab.catalog.schema import owner, result_tables, versions

Key = tuple[str, str]
"""(owner or '', folded name of the recipe)."""

_candidate, _table = versions.alias("candidate"), result_tables.alias("its_table")
_fold = sa.bindparam("fold", type_=sa.Text)
_newest_number = (  # descending along the index until a version is ready
    scope.select_owned_by(_candidate.c.version, tables=_candidate)
    .join_from(_candidate, _table, _table.c.table_name == _candidate.c.table_name)
    .where(
        _candidate.c.recipe_fold == _fold,
        # the coalesce keeps SQLite from the index over status, which covers nearly every row
        sa.func.coalesce(_table.c.status, sa.literal_column("''"), type_=sa.Text)
        == sa.literal_column("'ready'"),
    )
    .order_by(_candidate.c.version.desc())
    .limit(1)
    .scalar_subquery()
)
_of_recipe = scope.update_owned_by(versions).where(versions.c.recipe_fold == _fold)
# Always decided from the other tables, never handed on: so the only way in which the column can be
# wrong is that nobody called this module.
_CLEAR = CompiledStatement(
    _of_recipe.where(versions.c.newest == sa.literal_column("1")).values(
        newest=sa.literal_column("0")
    )
)
_MARK = CompiledStatement(
    _of_recipe.where(versions.c.version == _newest_number).values(newest=sa.literal_column("1"))
)
_RECIPES_OF = CompiledStatement(
    scope.select_all_tenants(owner(versions), versions.c.recipe_fold)
    .where(is_listed(versions.c.table_name, "names"))
    .distinct()
)


def recipes_of(tx: sa.Connection, tables: Iterable[str]) -> set[Key]:
    """The recipes with a version that refers to one of some physical tables."""
    return {(row[0], row[1]) for row in _RECIPES_OF.fetch(tx, {"names": text_list(tables)})}


def mark_newest(tx: sa.Connection, recipes: Iterable[Key]) -> None:
    """Mark the newest ready version of each recipe, and no other version of it."""
    keys = [{"owner": owner_id, "fold": recipe_fold} for owner_id, recipe_fold in recipes]
    _CLEAR.execute_many(tx, keys)
    _MARK.execute_many(tx, keys)


def mark_newest_of(tx: sa.Connection, tables: Iterable[str]) -> None:
    """The same for the recipes with a version that refers to one of some physical tables."""
    mark_newest(tx, recipes_of(tx, tables))
