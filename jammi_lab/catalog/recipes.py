"""Recipes: logical names and their current definitions."""

from __future__ import annotations

import builtins
import functools
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jammi_lab.catalog import tenant_scope
from jammi_lab.catalog.aliases import (
    RecipeKey,
    add_alias,
    owned_aliases,
    release_alias,
    release_aliases_of,
)
from jammi_lab.catalog.checks import remove_checks_of_recipe, rename_checked_recipe
from jammi_lab.catalog.connection import (
    AllTenantsStatement,
    Connection,
    Statement,
    is_listed,
    text_list,
)
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.repository import DatedRepository
from jammi_lab.catalog.row_mapping import RECIPE, RECIPE_INPUTS, DecodedRows
from jammi_lab.catalog.schema import recipes
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import DependencyCycle, DuplicateTable, TableNotFound
from jammi_lab.core.identifiers import fold
from jammi_lab.core.input_kinds import input_kind
from jammi_lab.core.records import Hold, RecipeRecord

_OWN = f"{tenant_scope.owned_by('recipes')} AND recipes.name_fold = :fold"
_OWN_VERSION = f"{tenant_scope.owned_by('versions')} AND versions.recipe_fold = :fold"
_OWN_COUNTER = (
    f"{tenant_scope.owned_by('version_counters')} AND version_counters.recipe_fold = :fold"
)
_SELECT = f"SELECT {RECIPE.columns} FROM recipes WHERE {tenant_scope.visible('recipes')}"
_BY_NAME = f"ORDER BY recipes.name_fold, {tenant_scope.own_first('recipes')}"
_GET = Statement(
    f"{_SELECT} AND recipes.name_fold = :fold ORDER BY {tenant_scope.own_first('recipes')} LIMIT 1"
)
_GET_OF_OWNER = Statement(f"SELECT {RECIPE.columns} FROM recipes WHERE {_OWN}")
_INSERT = Statement(recipes.insert)
_LIST = Statement(f"{_SELECT} {_BY_NAME}")
_LIST_NAMED = Statement(f"{_SELECT} AND {is_listed('recipes.name_fold', 'names')} {_BY_NAME}")
_NAMES = Statement(
    f"SELECT recipes.name FROM recipes WHERE {tenant_scope.visible('recipes')} "
    "ORDER BY recipes.name_fold"
)
_INPUTS = Statement(
    "SELECT recipes.tenant_id, recipes.name, recipes.inputs FROM recipes "
    f"WHERE {tenant_scope.visible('recipes')} AND recipes.name_fold = :fold"
)
_UPDATE = Statement(
    recipes.update(*(column for column in recipes.columns if not column.startswith("held_")))
    + f" WHERE {_OWN}"
)
_DELETE = Statement(f"DELETE FROM recipes WHERE {_OWN}")
_DELETE_COUNTER = Statement(f"DELETE FROM version_counters WHERE {_OWN_COUNTER}")
_HAS_VERSION = Statement(f"SELECT 1 FROM versions WHERE {_OWN_VERSION} LIMIT 1")
_HAS_LIVE_VERSION = Statement(
    "SELECT 1 FROM versions JOIN result_tables "
    f"ON result_tables.table_name = versions.table_name WHERE {_OWN_VERSION} "
    "AND result_tables.status IN ('building', 'ready', 'rejected') LIMIT 1"
)
_RENAME = (
    Statement(
        f"UPDATE recipes SET name = :new, name_fold = :new_fold, updated_at = :now WHERE {_OWN}"
    ),
    Statement(f"UPDATE versions SET recipe = :new, recipe_fold = :new_fold WHERE {_OWN_VERSION}"),
    Statement(
        f"UPDATE version_counters SET recipe = :new, recipe_fold = :new_fold WHERE {_OWN_COUNTER}"
    ),
    # readers of the old name, or of one of its tables by physical name, follow the rename
    AllTenantsStatement(
        "UPDATE lineage SET node_fold = :new_fold WHERE lineage.node_fold = :fold "
        "AND lineage.node_tenant = :owner AND lineage.input_kind = 'result'"
    ),
)


class RecipeRepository:
    """The recipes of the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, active_scope, clock
        self._listed = DecodedRows(RECIPE.decode_many)

    def put(self, record: RecipeRecord) -> RecipeRecord:
        """Create a recipe or give it this definition; return the stored record. An existing recipe
        keeps its spelling and creation time, and stays unchanged when the definition is equal.
        Raises TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The recipe {record.name!r}")
        key = tenant_scope.name_key(record.tenant, record.name)
        now = rfc3339(self._clock.now_ns())
        with self._database.write() as tx:
            rows = _GET_OF_OWNER.fetch(tx, key)
            if not rows:
                new_record = record.with_values(
                    created_at=record.created_at or now, updated_at=record.updated_at or now
                )
                release_alias(tx, record.tenant, record.name)  # a recipe takes the name
                _INSERT.execute(tx, RECIPE.encode(new_record))
                return new_record
            existing = RECIPE.decode(rows[0])
            new_record = record.with_values(
                name=existing.name,
                created_at=existing.created_at,
                updated_at=existing.updated_at,
            )
            if new_record != existing:
                new_record = new_record.with_values(updated_at=now)
                _UPDATE.execute(tx, RECIPE.encode(new_record) | key)
        return new_record

    def define(
        self,
        record: RecipeRecord,
        *,
        expected_hash: str | None = None,
        create_missing: bool = True,
        is_durable: bool = True,
    ) -> RecipeRecord | None:
        """As `put`, with checks in the same transaction.

        Raises DependencyCycle when the recipe would derive from itself through definitions that
        others have made meanwhile. With `expected_hash`, an expected definition hash, it returns
        None and changes nothing when the recipe has neither that definition nor this one; nor when
        it is gone, unless `create_missing`. Unless `is_durable`, a power failure may undo it
        until a later commit or `Database.start_sync` is durable.
        """
        write = self._database.write if is_durable else self._database.write_without_fsync
        with write() as tx:
            key = tenant_scope.name_key(record.tenant, record.name)
            existing = RECIPE.first(_GET_OF_OWNER.fetch(tx, key))
            if expected_hash is not None and (
                not create_missing
                if existing is None
                else existing.definition_hash not in (expected_hash, record.definition_hash)
            ):
                return None
            if existing is None or list(existing.inputs) != list(record.inputs):
                self.check_acyclic(record.name, record.tenant, record.parents)
            return self.put(record)

    def check_acyclic(self, name: str, tenant: str | None, parents: Iterable[str]) -> None:
        """Raise DependencyCycle, with the path, if a tenant's recipe would derive from itself by
        reading these names."""
        if not (parents := list(parents)):
            return
        with self._database.read() as tx:
            self._check_acyclic(tx, name, (tenant or "", fold(name)), parents)

    def _check_acyclic(
        self, tx: Connection, name: str, start: RecipeKey, parents: Sequence[str]
    ) -> None:
        targets = owned_aliases(tx, self._scope.parameters())
        targets.pop(start, None)  # it takes this name

        @functools.cache
        def recipes_named(name_fold: str) -> dict[RecipeKey, tuple[str, str]]:
            # only what it would derive from is read: a workspace may have 100 000 recipes
            rows = _INPUTS.fetch(tx, self._scope.parameters(fold=name_fold))
            found = {(row[0] or "", name_fold): (row[1], row[2]) for row in rows}
            return found | ({start: (name, "[]")} if start[1] == name_fold else {})

        seen = set[RecipeKey]()
        stack: list[tuple[str, str, tuple[str, ...]]]
        stack = [(start[0], parent, (name,)) for parent in reversed(parents)]
        while stack:
            owner_id, input_name, path = stack.pop()
            for key in ((owner_id, fold(input_name)), ("", fold(input_name))):
                node = (key[0], fold(targets.get(key, key[1])))
                if node in recipes_named(node[1]):
                    break
            else:
                continue
            if node == start:
                raise _cycle_error((*path, name))
            if node not in seen:
                seen.add(node)
                recipe_name, inputs = recipes_named(node[1])[node]
                stack += [
                    (node[0], parent, (*path, recipe_name))
                    for kind, parent, _ in reversed(RECIPE_INPUTS.decode(inputs))
                    if input_kind(kind).is_result
                ]

    def get(self, name: str) -> RecipeRecord | None:
        """The recipe of that name, own before shared."""
        return RECIPE.first(self._database.fetch(_GET, self._scope.parameters(fold=fold(name))))

    def list(self, names: Iterable[str] | None = None) -> list[RecipeRecord]:
        """Every recipe, or those of some folded names, by name, without shared ones that own ones
        hide."""
        scope = self._scope.parameters()
        with self._database.read() as tx:
            records = (
                self._listed.decode(_LIST.fetch(tx, scope), scope)
                if names is None
                else [
                    RECIPE.decode(row)
                    for row in _LIST_NAMED.fetch(tx, self._scope.parameters(names=text_list(names)))
                ]
            )
        return self._scope.without_hidden(records)

    def names(self) -> builtins.list[str]:
        """The names of all recipes, in order and without duplicates; cheap for ten thousand."""
        rows = self._database.fetch(_NAMES, self._scope.parameters())
        return list(dict.fromkeys(name for (name,) in rows))

    def remove(self, name: str) -> bool:
        """Delete a recipe with its checks; return whether it existed. Its versions stay until they
        are dropped. Raises TenantForbidden for a shared one under a tenant."""
        with self._database.write() as tx:
            record = self.get(name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The recipe {record.name!r}")
            key = tenant_scope.name_key(record.tenant, name)
            _DELETE.execute(tx, key)
            remove_checks_of_recipe(tx, record.tenant, name)
            release_aliases_of(tx, record.tenant, name)
            if not _HAS_VERSION.fetch(tx, key):
                # without versions, a later recipe of this name may count from 1
                _DELETE_COUNTER.execute(tx, key)
        return True

    def remove_unbuilt(self, name: str, definition: str) -> bool:
        """Delete an own recipe with that definition, unless it has a ready or rejected version or
        one that is being built; return whether it was deleted."""
        with self._database.write() as tx:
            key = tenant_scope.name_key(self._scope.tenant, name)
            rows = _GET_OF_OWNER.fetch(tx, key)
            if (
                not rows
                or RECIPE.decode(rows[0]).definition_hash != definition
                or _HAS_LIVE_VERSION.fetch(tx, key)
            ):
                return False
            return self.remove(name)

    def rename(self, old: str, new: str) -> None:
        """Rename an own recipe with all its versions (or change the spelling). The old name becomes
        an alias. Raises TableNotFound, DuplicateTable, TenantForbidden."""
        with self._database.write() as tx:
            record = self.get(old)
            if record is None:
                raise TableNotFound(f"The recipe {old!r} does not exist.")
            self._scope.check_owner(record.tenant, f"The recipe {record.name!r}")
            key = tenant_scope.name_key(record.tenant, old)
            new_key = tenant_scope.name_key(record.tenant, new)
            if new_key != key and any(
                statement.fetch(tx, new_key) for statement in (_GET_OF_OWNER, _HAS_VERSION)
            ):
                raise DuplicateTable(
                    f"The recipe {new!r} already exists.",
                    hint=f"Choose another name, or remove it: ws.drop({new!r}).",
                )
            if new_key != key:
                self.check_acyclic(new, record.tenant, record.parents)
                release_alias(tx, record.tenant, new)
                add_alias(tx, record.tenant, record.name, new)
                _DELETE_COUNTER.execute(tx, new_key)  # a leftover of dropped versions
            names = {"new": new, "new_fold": fold(new), "now": rfc3339(self._clock.now_ns())}
            for statement in _RENAME:
                statement.execute(tx, key | names)
            rename_checked_recipe(tx, record.tenant, old, new)


def _cycle_error(path: Sequence[str]) -> DependencyCycle:
    """The error for a recipe that would be both ends of a path."""
    return DependencyCycle(
        f"{path[0]!r} would derive from itself: {' ← '.join(path)}.",
        path=list(path),
        hint='To build on an exact earlier version, name it: FROM jammi."<physical name>".',
    )


# --------------------------------------------------------------------------------------------------
# Holds: recipes that a recompute of everything leaves as they are.

_HELD = Statement(
    f"SELECT {tenant_scope.owner('recipes')}, recipes.name_fold, recipes.held_at, recipes.held_by, "
    f"recipes.held_note FROM recipes WHERE {tenant_scope.visible('recipes')} "
    "AND recipes.held_at IS NOT NULL"
)
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
    """The held recipes of the bound tenant_scope."""

    def list(self) -> Mapping[tuple[str | None, str], Hold]:
        """Every visible hold, by tenant and folded name of the recipe. Cached until the next
        commit."""
        return self._database.fetch_cached(_HELD, self._scope.parameters(), _by_key)

    def put(self, tenant: str | None, recipe: str, note: str) -> None:
        """Hold a recipe, from now on. A recipe that is held keeps its time. TenantForbidden."""
        self._scope.check_owner(tenant, f"The recipe {recipe!r}")
        held = {"now": rfc3339(self._clock.now_ns()), "by": _current_user(), "note": note}
        with self._database.write() as tx:
            _HOLD.execute(tx, tenant_scope.name_key(tenant, recipe) | held)

    def remove(self, tenant: str | None, recipe: str) -> bool:
        """End the hold of a recipe; return whether there was one. TenantForbidden."""
        self._scope.check_owner(tenant, f"The recipe {recipe!r}")
        if (tenant, fold(recipe)) not in self.list():
            return False
        with self._database.write() as tx:
            return _RELEASE.execute(tx, tenant_scope.name_key(tenant, recipe)) > 0
