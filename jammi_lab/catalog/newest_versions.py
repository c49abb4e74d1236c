"""Maintains `versions.newest`: whether a version is the newest ready one of its recipe.

Whatever changes that calls this module in the same transaction: a version turns ready, is added, is
removed or is no longer ready. Lineage and the queries for what a name means now then need no search
among the older versions.
"""

from collections.abc import Iterable

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import (
    AllTenantsStatement,
    Connection,
    Statement,
    is_listed,
    text_list,
)

Key = tuple[str, str]
"""(owner or '', folded name of the recipe)."""

_NEWEST_NUMBER = (  # descending along the index until a version is ready
    "SELECT candidate.version FROM versions AS candidate "
    "JOIN result_tables AS its_table ON its_table.table_name = candidate.table_name "
    f"WHERE {scope.owned_by('candidate')} AND candidate.recipe_fold = :fold "
    # the coalesce keeps SQLite from the index over status, which covers nearly every row
    "AND coalesce(its_table.status, '') = 'ready' ORDER BY candidate.version DESC LIMIT 1"
)
_OF_RECIPE = f"{scope.owned_by('versions')} AND versions.recipe_fold = :fold"
# Always decided from the other tables, never handed on: so the only way in which the column can be
# wrong is that nobody called this module.
_CLEAR = Statement(f"UPDATE versions SET newest = 0 WHERE {_OF_RECIPE} AND versions.newest = 1")
_MARK = Statement(
    f"UPDATE versions SET newest = 1 WHERE {_OF_RECIPE} AND versions.version = ({_NEWEST_NUMBER})"
)
_RECIPES_OF = AllTenantsStatement(
    f"SELECT DISTINCT {scope.owner('versions')}, versions.recipe_fold FROM versions "
    f"WHERE {is_listed('versions.table_name', 'names')}"
)


def recipes_of(tx: Connection, tables: Iterable[str]) -> set[Key]:
    """The recipes with a version that refers to one of some physical tables."""
    return {(row[0], row[1]) for row in _RECIPES_OF.fetch(tx, {"names": text_list(tables)})}


def mark_newest(tx: Connection, recipes: Iterable[Key]) -> None:
    """Mark the newest ready version of each recipe, and no other version of it."""
    keys = [{"owner": owner_id, "fold": recipe_fold} for owner_id, recipe_fold in recipes]
    _CLEAR.execute_many(tx, keys)
    _MARK.execute_many(tx, keys)


def mark_newest_of(tx: Connection, tables: Iterable[str]) -> None:
    """The same for the recipes with a version that refers to one of some physical tables."""
    mark_newest(tx, recipes_of(tx, tables))
