"""Holds: recipes that a recompute of everything leaves as they are."""

import os
import socket
from collections.abc import Mapping

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import Connection, Statement
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.schema import holds
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import Hold

_LIST = Statement(
    f"SELECT {scope.owner('holds')}, holds.recipe_fold, holds.held_at, holds.held_by, holds.note "
    f"FROM holds WHERE {scope.visible('holds')}"
)
_INSERT = Statement(holds.insert)
_DELETE = Statement(
    f"DELETE FROM holds WHERE {scope.owned_by('holds')} AND holds.recipe_fold = :fold"
)
_RENAME = Statement(
    f"UPDATE holds SET recipe_fold = :new_fold WHERE {scope.owned_by('holds')} "
    "AND holds.recipe_fold = :fold"
)


def remove_hold(tx: Connection, tenant: str | None, recipe: str) -> bool:
    """End the hold of a recipe; return whether there was one."""
    return _DELETE.execute(tx, {"owner": tenant or "", "fold": fold(recipe)}) > 0


def rename_hold(tx: Connection, tenant: str | None, old: str, new: str) -> None:
    """Let the hold follow a recipe to its new name."""
    _RENAME.execute(tx, {"owner": tenant or "", "fold": fold(old), "new_fold": fold(new)})


def _current_user() -> str:
    """User and host, for messages."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class HoldRepository:
    """The held recipes of the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, active_scope, clock

    def list(self) -> Mapping[tuple[str | None, str], Hold]:
        """Every visible hold, by tenant and folded name of the recipe. Cached until the next
        commit."""
        parameters = self._scope.parameters()

        def read() -> Mapping[tuple[str | None, str], Hold]:
            return {
                (owner_id or None, name_fold): Hold(since=since, by=by, note=note)
                for owner_id, name_fold, since, by, note in self._database.fetch(_LIST, parameters)
            }

        return self._database.cached(("holds", *parameters.items()), read)

    def put(self, tenant: str | None, recipe: str, note: str) -> None:
        """Hold a recipe, from now on. A recipe that is held keeps its time. TenantForbidden."""
        self._scope.check_owner(tenant, f"The recipe {recipe!r}")
        since = rfc3339(self._clock.now_ns())
        with self._database.write() as tx:
            held = self.list().get((tenant, fold(recipe)))
            remove_hold(tx, tenant, recipe)
            row = {"tenant_id": tenant, "recipe_fold": fold(recipe), "held_by": _current_user()}
            row |= {"held_at": held.since if held else since, "note": note}
            _INSERT.execute(tx, row)

    def remove(self, tenant: str | None, recipe: str) -> bool:
        """End the hold of a recipe; return whether there was one. TenantForbidden."""
        self._scope.check_owner(tenant, f"The recipe {recipe!r}")
        if (tenant, fold(recipe)) not in self.list():
            return False
        with self._database.write() as tx:
            return remove_hold(tx, tenant, recipe)
