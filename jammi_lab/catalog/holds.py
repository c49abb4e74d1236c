"""Holds: recipes that a recompute of everything leaves as they are."""

import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import Statement
from jammi_lab.catalog.repository import DatedRepository
from jammi_lab.core.clock import rfc3339
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import Hold

_LIST = Statement(
    f"SELECT {scope.owner('recipes')}, recipes.name_fold, recipes.held_at, recipes.held_by, "
    f"recipes.held_note FROM recipes WHERE {scope.visible('recipes')} "
    "AND recipes.held_at IS NOT NULL"
)
_OWN = f"{scope.owned_by('recipes')} AND recipes.name_fold = :fold"
_HOLD = Statement(
    "UPDATE recipes SET held_at = coalesce(held_at, :now), held_by = :by, held_note = :note "
    f"WHERE {_OWN}"
)
_RELEASE = Statement(
    "UPDATE recipes SET held_at = NULL, held_by = NULL, held_note = NULL "
    f"WHERE {_OWN} AND recipes.held_at IS NOT NULL"
)


def _current_user() -> str:
    """User and host, for messages."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _by_key(rows: Iterable[Any]) -> Mapping[tuple[str | None, str], Hold]:
    return {
        (owner_id or None, name_fold): Hold(since=since, by=by, note=note)
        for owner_id, name_fold, since, by, note in rows
    }


class HoldRepository(DatedRepository):
    """The held recipes of the bound scope."""

    def list(self) -> Mapping[tuple[str | None, str], Hold]:
        """Every visible hold, by tenant and folded name of the recipe. Cached until the next
        commit."""
        return self._database.fetch_cached(_LIST, self._scope.parameters(), _by_key)

    def put(self, tenant: str | None, recipe: str, note: str) -> None:
        """Hold a recipe, from now on. A recipe that is held keeps its time. TenantForbidden."""
        self._scope.check_owner(tenant, f"The recipe {recipe!r}")
        held = {"now": rfc3339(self._clock.now_ns()), "by": _current_user(), "note": note}
        with self._database.write() as tx:
            _HOLD.execute(tx, scope.name_key(tenant, recipe) | held)

    def remove(self, tenant: str | None, recipe: str) -> bool:
        """End the hold of a recipe; return whether there was one. TenantForbidden."""
        self._scope.check_owner(tenant, f"The recipe {recipe!r}")
        if (tenant, fold(recipe)) not in self.list():
            return False
        with self._database.write() as tx:
            return _RELEASE.execute(tx, scope.name_key(tenant, recipe)) > 0
