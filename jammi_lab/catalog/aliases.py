"""Aliases: former names of renamed recipes. An alias ends when a recipe takes the name, when it is
removed, or with its recipe.

A reader keeps the name in its statement and in its anchors; its lineage edges point to the recipe.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import AllTenantsStatement, Connection, Statement
from jammi_lab.catalog.repository import ScopedRepository
from jammi_lab.catalog.schema import aliases
from jammi_lab.core.errors import TableNotFound
from jammi_lab.core.identifiers import fold

RecipeKey = tuple[str, str]
"""(owner or '', folded name)."""

_LIST = Statement(
    f"SELECT {scope.owner('aliases')}, aliases.name_fold, aliases.target FROM aliases "
    f"WHERE {scope.visible('aliases')}"
)
_OF_OWNER = Statement(
    f"SELECT aliases.target FROM aliases WHERE {scope.owned_by('aliases')} "
    "AND aliases.name_fold = :fold"
)
_OF_TARGET = Statement(
    f"SELECT aliases.name_fold FROM aliases WHERE {scope.owned_by('aliases')} "
    "AND aliases.target_fold = :target"
)
_OWN_RECIPE = Statement(
    f"SELECT recipes.name FROM recipes WHERE {scope.owned_by('recipes')} "
    "AND recipes.name_fold = :fold"
)
_INSERT = Statement(aliases.insert)
_RETARGET = Statement(
    "UPDATE aliases SET target = :target, target_fold = :target_fold "
    f"WHERE {scope.owned_by('aliases')} AND aliases.target_fold = :fold"
)
_DELETE = Statement(
    f"DELETE FROM aliases WHERE {scope.owned_by('aliases')} AND aliases.name_fold = :fold"
)
_NAMED_EDGES = (
    "lineage.node_fold = :target AND lineage.node_tenant = :owner "
    "AND lineage.input_kind = 'result' AND lineage.input_physical = 0"
)
_READERS_BY_NAME = AllTenantsStatement(
    f"SELECT DISTINCT lineage.input FROM lineage WHERE {_NAMED_EDGES}"
)
_RELEASE_EDGES = AllTenantsStatement(
    f"UPDATE lineage SET node_fold = :fold WHERE {_NAMED_EDGES} AND lineage.input = :spelling"
)


def owned_aliases(tx: Connection, parameters: Mapping[str, Any]) -> dict[RecipeKey, str]:
    """Every alias that a scope sees, by owner and folded name, with the name of its recipe."""
    return _by_key(_LIST.fetch(tx, parameters))


def _by_key(rows: Iterable[Any]) -> dict[RecipeKey, str]:
    return {(row[0], row[1]): row[2] for row in rows}


def alias_target(tx: Connection, owner_id: str, name: str) -> str | None:
    """The recipe that an owner's alias means now."""
    rows = _OF_OWNER.fetch(tx, {"owner": owner_id, "fold": fold(name)})
    return str(rows[0][0]) if rows else None


def add_alias(tx: Connection, tenant: str | None, old: str, new: str) -> None:
    """Make `old` an alias of `new`, and let the aliases of `old` mean `new`."""
    target = {"target": new, "target_fold": fold(new)}
    _RETARGET.execute(tx, scope.name_key(tenant, old) | target)
    _INSERT.execute(tx, {"tenant_id": tenant, "name": old, "name_fold": fold(old)} | target)


def release_alias(tx: Connection, tenant: str | None, name: str) -> bool:
    """Remove an alias; readers that use this name then read what has it. Returns whether there was
    one."""
    key = scope.name_key(tenant, name)
    if (target := alias_target(tx, key["owner"], name)) is None:
        return False
    key["target"] = fold(target)
    for (spelling,) in _READERS_BY_NAME.fetch(tx, key):
        if fold(spelling) == key["fold"]:
            _RELEASE_EDGES.execute(tx, key | {"spelling": spelling})
    _DELETE.execute(tx, key)
    return True


def release_aliases_of(tx: Connection, tenant: str | None, recipe: str) -> None:
    """Remove the aliases of a recipe that is dropped."""
    key = scope.owner_key(tenant, target=fold(recipe))
    for (name,) in _OF_TARGET.fetch(tx, key):
        release_alias(tx, tenant, name)


class AliasRepository(ScopedRepository):
    """The aliases of the bound scope."""

    def targets(self) -> Mapping[RecipeKey, str]:
        """Every visible alias, by owner and folded name, with the name of its recipe. Cached until
        the next commit."""
        return self._database.fetch_cached(_LIST, self._scope.parameters(), _by_key)

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
