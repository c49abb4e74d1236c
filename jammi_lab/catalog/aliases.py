"""Aliases: former names of renamed recipes. An alias ends when a recipe takes the name, when it is
removed, or with its recipe.

A reader keeps the name in its statement and in its anchors; its lineage edges point to the recipe.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import CompiledStatement, Database
from jammi_lab.catalog.schema import aliases, lineage, owner, recipes
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.errors import TableNotFound
from jammi_lab.core.identifiers import fold

RecipeKey = tuple[str, str]
"""(owner or '', folded name)."""

_fold, _target = sa.bindparam("fold", type_=sa.Text), sa.bindparam("target", type_=sa.Text)
_LIST = CompiledStatement(
    scope.select(owner(aliases), aliases.c.name_fold, aliases.c.target, tables=aliases)
)
_OF_OWNER = CompiledStatement(
    scope.select_owned_by(aliases.c.target, tables=aliases).where(aliases.c.name_fold == _fold)
)
_OF_TARGET = CompiledStatement(
    scope.select_owned_by(aliases.c.name_fold, tables=aliases).where(
        aliases.c.target_fold == _target
    )
)
_OWN_RECIPE = CompiledStatement(
    scope.select_owned_by(recipes.c.name, tables=recipes).where(recipes.c.name_fold == _fold)
)
_RETARGET = scope.update_owned_by(aliases).where(aliases.c.target_fold == _fold)
_DELETE = scope.delete_owned_by(aliases).where(aliases.c.name_fold == _fold)
_NAMED_EDGES = (
    lineage.c.node_fold == _target,
    lineage.c.node_tenant == sa.bindparam("owner"),
    lineage.c.input_kind == sa.literal_column("'result'"),
    lineage.c.input_physical == sa.literal_column("0"),
)
_READERS_BY_NAME = scope.select_all_tenants(lineage.c.input).where(*_NAMED_EDGES).distinct()
_RELEASE_EDGES = scope.update_any_owner(lineage).where(
    *_NAMED_EDGES, lineage.c.input == sa.bindparam("spelling", type_=sa.Text)
)


def owned_aliases(tx: sa.Connection, parameters: Mapping[str, Any]) -> dict[RecipeKey, str]:
    """Every alias that a scope sees, by owner and folded name, with the name of its recipe."""
    return _by_key(_LIST.fetch(tx, parameters))


def _by_key(rows: Iterable[Any]) -> dict[RecipeKey, str]:
    return {(row[0], row[1]): row[2] for row in rows}


def alias_target(tx: sa.Connection, owner_id: str, name: str) -> str | None:
    """The recipe that an owner's alias means now."""
    rows = _OF_OWNER.fetch(tx, {"owner": owner_id, "fold": fold(name)})
    return str(rows[0][0]) if rows else None


def add_alias(tx: sa.Connection, tenant: str | None, old: str, new: str) -> None:
    """Make `old` an alias of `new`, and let the aliases of `old` mean `new`."""
    key = {"owner": tenant or "", "fold": fold(old)}
    tx.execute(_RETARGET.values(target=new, target_fold=fold(new)), key)
    row = {"tenant_id": tenant, "name": old, "name_fold": fold(old)}
    tx.execute(sa.insert(aliases), row | {"target": new, "target_fold": fold(new)})


def release_alias(tx: sa.Connection, tenant: str | None, name: str) -> bool:
    """Remove an alias; readers that use this name then read what has it. Returns whether there was
    one."""
    key: dict[str, Any] = {"owner": tenant or "", "fold": fold(name)}
    if (target := alias_target(tx, key["owner"], name)) is None:
        return False
    key["target"] = fold(target)
    for (spelling,) in tx.execute(_READERS_BY_NAME, key).all():
        if fold(spelling) == key["fold"]:
            renamed = _RELEASE_EDGES.values(node_fold=fold(name))
            tx.execute(renamed, key | {"spelling": spelling})
    tx.execute(_DELETE, key)
    return True


def release_aliases_of(tx: sa.Connection, tenant: str | None, recipe: str) -> None:
    """Remove the aliases of a recipe that is dropped."""
    key = {"owner": tenant or "", "target": fold(recipe)}
    for (name,) in _OF_TARGET.fetch(tx, key):
        release_alias(tx, tenant, name)


class AliasRepository:
    """The aliases of the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate) -> None:
        self._database, self._scope = database, active_scope

    def targets(self) -> Mapping[RecipeKey, str]:
        """Every visible alias, by owner and folded name, with the name of its recipe. Cached until
        the next commit."""
        parameters = self._scope.parameters()

        def read() -> Mapping[RecipeKey, str]:
            return _by_key(self._database.fetch(_LIST, parameters))

        return self._database.cached(("aliases", *parameters.items()), read)

    def resolve(self, name: str) -> str:
        """The recipe that an alias means, own before shared; any other name unchanged."""
        if not (targets := self.targets()):
            return name
        owner_id, name_fold = self._scope.tenant or "", fold(name)
        if (target := targets.get((owner_id, name_fold))) is not None:
            return target
        if (target := targets.get(("", name_fold))) is None:
            return name
        # an own recipe hides what is shared
        own = self._database.fetch(_OWN_RECIPE, {"owner": owner_id, "fold": name_fold})
        return name if own else target

    def remove(self, name: str) -> None:
        """Remove an own alias. Raises TableNotFound; TenantForbidden for a shared one under a
        tenant."""
        with self._database.write() as tx:
            if not release_alias(tx, self._scope.tenant, name):
                if ("", fold(name)) in self.targets():
                    self._scope.check_owner(None, f"The alias {name!r}")
                raise TableNotFound(
                    f"There is no alias {name!r}.",
                    hint="ws.rename(old, new) leaves the old name as an alias.",
                )
