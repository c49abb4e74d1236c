"""Recipes: logical names and their current definitions."""

import builtins
from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import newest, scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.rows import RECIPE, inputs_of, recipe_record, recipe_row
from jammi_lab.catalog.schema import counters, lineage, recipes, result_tables, versions
from jammi_lab.catalog.scope import Scope
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import DependencyCycle, DuplicateTable, TableNotFound
from jammi_lab.names import fold
from jammi_lab.values.anchors import InputKind
from jammi_lab.values.records import RecipeRecord

_fold: sa.BindParameter[str] = sa.bindparam("fold")
_GET = scope.select(*RECIPE, seen=recipes).where(recipes.c.name_fold == _fold).order_by(scope.own_first(recipes)).limit(1)
_GET_OF = scope.select_of(*RECIPE, seen=recipes).where(recipes.c.name_fold == _fold)
_LIST = scope.select(*RECIPE, seen=recipes).order_by(recipes.c.name_fold, scope.own_first(recipes))
_NAMES = scope.select(recipes.c.name, seen=recipes).order_by(recipes.c.name_fold)
_READS = scope.select(recipes.c.tenant_id, recipes.c.name, recipes.c.inputs, seen=recipes)
_UPDATE = scope.update_of(recipes).where(recipes.c.name_fold == _fold)
_DELETE = scope.delete_of(recipes).where(recipes.c.name_fold == _fold)
_DELETE_COUNTER = scope.delete_of(counters).where(counters.c.recipe_fold == _fold)
_USED = scope.select_of(sa.literal_column("1"), seen=versions).where(versions.c.recipe_fold == _fold).limit(1)
_MADE = (
    scope.select_of(sa.literal_column("1"), seen=versions)
    .join(result_tables, result_tables.c.table_name == versions.c.table_name)
    .where(versions.c.recipe_fold == _fold, result_tables.c.status.in_(["building", "ready"]))
    .limit(1)
)
_COUNTED = scope.select_of(sa.literal_column("1"), seen=counters).where(counters.c.recipe_fold == _fold).limit(1)


class Recipes:
    """The recipes of the bound scope."""

    def __init__(self, database: Database, bound: Scope, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, bound, clock

    def put(self, record: RecipeRecord) -> RecipeRecord:
        """The recipe as it is now in the catalog: made, or given this definition. A recipe that was there keeps its spelling and its age, and all of
        it when the definition is equal. TenantForbidden."""
        self._scope.check_owner(record.tenant, f"The recipe {record.name!r}")
        key = {"owner": record.tenant or "", "fold": fold(record.name)}
        now = rfc3339(self._clock.now_ns())
        with self._database.write() as tx:
            row = tx.execute(_GET_OF, key).first()
            if row is None:
                kept = msgspec.structs.replace(record, created_at=record.created_at or now, updated_at=record.updated_at or now)
                tx.execute(sa.insert(recipes), recipe_row(kept))
                return kept
            old = recipe_record(row)
            kept = msgspec.structs.replace(record, name=old.name, created_at=old.created_at, updated_at=old.updated_at)
            if kept != old:
                kept = msgspec.structs.replace(kept, updated_at=now)
                tx.execute(_UPDATE.values(**recipe_row(kept)), key)
        return kept

    def define(self, record: RecipeRecord, *, instead_of: str | None = None, anew: bool = True) -> RecipeRecord | None:
        """As `put`, when nothing speaks against it in the very transaction: DependencyCycle when the recipe would derive from itself by what others
        have defined meanwhile. With `instead_of`, a definition hash: None, and nothing is changed, when the recipe has neither that definition nor
        this one; nor, unless `anew`, when it is gone."""
        with self._database.write() as tx:
            row = tx.execute(_GET_OF, {"owner": record.tenant or "", "fold": fold(record.name)}).first()
            old = None if row is None else recipe_record(row)
            if instead_of is not None and (not anew if old is None else old.definition_hash not in (instead_of, record.definition_hash)):
                return None
            if old is None or list(old.inputs) != list(record.inputs):
                self.refuse_circle(record.name, record.tenant, [name for kind, name, _ in record.inputs if kind == InputKind.RESULT])
            return self.put(record)

    def refuse_circle(self, name: str, tenant: str | None, parents: Iterable[str]) -> None:
        """Nothing, unless a recipe of that tenant's would derive from itself if it read these names: DependencyCycle with the way."""
        if not (parents := list(parents)):
            return
        start = (tenant or "", fold(name))
        with self._database.read() as tx:
            rows = tx.execute(_READS, self._scope.params()).all()
        reads = {(of or "", fold(each)): (each, inputs) for of, each, inputs in rows} | {start: (name, "[]")}
        came: dict[tuple[str, str], tuple[str, str]] = {}
        stack = [(start, parent) for parent in reversed(parents)]
        while stack:
            reader, read = stack.pop()
            at = next((place for place in ((reader[0], fold(read)), ("", fold(read))) if place in reads), None)
            if at == start:
                path = [read]
                while reader != start:
                    path.append(reads[reader][0])
                    reader = came[reader]
                path = [name, *reversed(path[1:]), name]
                raise DependencyCycle(
                    f"{name!r} would derive from itself: {' ← '.join(path)}.",
                    path=path,
                    hint='To build on an exact earlier version, name it: FROM jammi."<physical name>".',
                )
            if at is not None and at not in came:
                came[at] = reader
                stack += [(at, parent) for kind, parent, _ in reversed(inputs_of(reads[at][1])) if kind == InputKind.RESULT]

    def get(self, name: str) -> RecipeRecord | None:
        """The recipe of that name, own before shared."""
        with self._database.read() as tx:
            row = tx.execute(_GET, self._scope.params(fold=fold(name))).first()
        return None if row is None else recipe_record(row)

    def list(self) -> list[RecipeRecord]:
        """Every recipe, by name; a shared one that an own one hides is left out."""
        with self._database.read() as tx:
            found = [recipe_record(row) for row in tx.execute(_LIST, self._scope.params()).all()]
        if self._scope.lifted:
            return found
        own = {fold(r.name) for r in found if r.tenant is not None}
        return [r for r in found if r.tenant is not None or fold(r.name) not in own]

    def names(self) -> builtins.list[str]:
        """What recipes are called, by name, each once; for those who need nothing else of ten thousand."""
        with self._database.read() as tx:
            return list(dict.fromkeys(tx.execute(_NAMES, self._scope.params()).scalars()))

    def remove(self, name: str) -> bool:
        """Whether the recipe was there and is gone; its versions stay until they are dropped. TenantForbidden for a shared one under a tenant."""
        with self._database.write() as tx:
            record = self.get(name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The recipe {record.name!r}")
            key = {"owner": record.tenant or "", "fold": fold(name)}
            tx.execute(_DELETE, key)
            if tx.execute(_USED, key).first() is None:
                tx.execute(_DELETE_COUNTER, key)  # a recipe that comes later under this name counts from 1
        return True

    def remove_unmade(self, name: str, definition: str) -> bool:
        """Whether the own recipe was there with that definition, and is gone: not one that has a ready version or one that is being built."""
        with self._database.write() as tx:
            key = {"owner": self._scope.tenant or "", "fold": fold(name)}
            row = tx.execute(_GET_OF, key).first()
            if row is None or recipe_record(row).definition_hash != definition or tx.execute(_MADE, key).first() is not None:
                return False
            return self.remove(name)

    def rename(self, old: str, new: str) -> None:
        """Give an own recipe, with all its versions, another name (or another spelling). TableNotFound, DuplicateTable, TenantForbidden."""
        with self._database.write() as tx:
            record = self.get(old)
            if record is None:
                raise TableNotFound(f"There is no recipe {old!r}.")
            self._scope.check_owner(record.tenant, f"The recipe {record.name!r}")
            key: dict[str, Any] = {"owner": record.tenant or "", "fold": fold(old)}
            taken = {"owner": record.tenant or "", "fold": fold(new)}
            if taken != key and any(tx.execute(statement, taken).first() is not None for statement in (_GET_OF, _USED)):
                raise DuplicateTable(f"There is a recipe {new!r} already.")
            if taken != key:
                self.refuse_circle(new, record.tenant, [name for kind, name, _ in record.inputs if kind == InputKind.RESULT])
            if taken != key and tx.execute(_COUNTED, taken).first() is not None:
                tx.execute(_DELETE_COUNTER, taken)  # left by versions that are gone
            tx.execute(_UPDATE.values(name=new, name_fold=fold(new), updated_at=rfc3339(self._clock.now_ns())), key)
            for table in (versions, counters):
                tx.execute(scope.update_of(table).where(table.c.recipe_fold == _fold).values(recipe=new, recipe_fold=fold(new)), key)
            # who reads the old name reads a name that is gone; who reads one of its tables by physical name goes with it
            moved = scope.update_all(lineage).where(
                lineage.c.node_fold == _fold,
                lineage.c.node_tenant == sa.bindparam("owner"),
                lineage.c.input_kind == sa.literal_column("'result'"),
                lineage.c.input_physical == sa.literal_column("1"),
            )
            tx.execute(moved.values(node_fold=fold(new)), key)
            newest.renamed(tx, record.tenant, old, new)
