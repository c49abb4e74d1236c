"""From the names that people give to recipes and tables, and what may be done under a name."""

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from jammi_lab.catalog.tables import Version
from jammi_lab.clock import rfc3339
from jammi_lab.errors import InvalidArgument, TableNotFound
from jammi_lab.handles import ResultTable
from jammi_lab.markup import count
from jammi_lab.names import check_recipe_name, fold, near
from jammi_lab.producers.base import Job, anchors_of, find_reusable
from jammi_lab.sensing import models
from jammi_lab.sensing.reports import Plan
from jammi_lab.store.verify import verify
from jammi_lab.values.anchors import InputKind
from jammi_lab.values.records import Progress, TableKind, TableRecord, TableStatus, VersionRecord
from jammi_lab.values.verdicts import Verification

if TYPE_CHECKING:
    from jammi_lab.wiring import Rooms
    from jammi_lab.workspace import Workspace


def gone(record: TableRecord) -> TableNotFound:
    """The error of a handle whose table is not there, for those who hold it now."""
    return TableNotFound(
        f"Version {record.version} of {record.recipe!r} is not there any more.", hint=f"ws.table({record.recipe!r}) is the newest one."
    )


class Naming:
    """Looks names up for a workspace, in the bound tenant's scope."""

    def __init__(self, rooms: "Rooms", workspace: "Workspace") -> None:
        self._rooms, self._workspace = rooms, workspace

    def table(self, name: str | ResultTable, version: int | None = None) -> ResultTable:
        """The newest ready version of a recipe, one version of it, or a physical table. TableNotFound, with near names."""
        if isinstance(name, ResultTable):
            self._workspace._require_seen(name._record)
            return name
        if not isinstance(name, str):
            raise _no_name(name)
        tables = self._rooms.catalog.tables
        if version is not None:
            if not isinstance(version, int) or isinstance(version, bool):
                raise InvalidArgument(
                    f"A version is a whole number, not of type {type(version).__name__}.", hint="ResultTable.version is that of a table."
                )
            found = tables.version(name, version)
            if found is None or found[1].status is not TableStatus.READY:
                there = [v.version for v, r in tables.versions(name) if r.status is TableStatus.READY]
                if not there:
                    raise self._missing(name)
                raise TableNotFound(f"{name!r} has no ready version {version}; it has {', '.join(map(str, there))}.")
        else:
            found = tables.newest(name) or self._physical(name)
        if found is None:
            raise self._missing(name)
        return ResultTable(self._workspace, *found)

    def _physical(self, name: str) -> tuple[VersionRecord, TableRecord] | None:
        record = self._rooms.catalog.tables.get(name)
        if record is None or record.status is not TableStatus.READY:
            return None
        versions = self._rooms.catalog.tables.referring(record.table_name)
        return (versions[-1], record) if versions else None

    def _missing(self, name: str) -> TableNotFound:
        if self._rooms.catalog.recipes.get(name) is not None:
            return TableNotFound(f"The recipe {name!r} has no ready version yet.", hint=f"ws.recompute({name!r}) makes one.")
        known = [r.name for r in self._rooms.catalog.recipes.list()]
        sources = [r.name for r in self._rooms.catalog.sources.list()]
        if fold(name) in map(fold, sources):
            return TableNotFound(
                f"{name!r} is a source, not a recipe or result table.", hint="Sources are what tables are made from; ws.sources[name] shows one."
            )
        return TableNotFound(
            f"There is no recipe or result table {name!r}.",
            near=near(name, known),
            hint=f"ws.{'recipes() lists what there is' if known else 'materialize(name, sql) makes one'}.",
        )

    def judged(self, name: str | ResultTable) -> tuple[str, TableRecord | None]:
        """What a verdict is about: a recipe (and no record: its newest version), or one table with the recipe that it belongs to. TableNotFound."""
        if isinstance(name, str):
            recipe = self._rooms.catalog.recipes.get(name)
            if recipe is not None:
                return recipe.name, None
        table = self.table(name)
        self._still(table._record)
        return self._called(table._version).recipe, table._record

    def _called(self, held: VersionRecord) -> VersionRecord:
        """A version that was fetched some time ago as it is called now: its recipe may have been renamed since, and another one have the name. As it
        was, when no version refers to its table any more."""

        def likeness(there: VersionRecord) -> tuple[bool, bool]:
            return (there.version, there.created_at) == (held.version, held.created_at), fold(there.recipe) == fold(held.recipe)

        return max(reversed(self._rooms.catalog.tables.referring(held.table_name)), key=likeness, default=held)

    def beside(self, held: VersionRecord) -> list[Version]:
        """The ready versions of the recipe that a version is of, newest first; of its own tenant's, whatever the bound one means by the name."""
        recipe = self._called(held).recipe
        with self._rooms.scope.use(held.tenant):
            return [each for each in self._rooms.catalog.tables.versions(recipe) if each[1].status is TableStatus.READY]

    def other(self, held: VersionRecord, number: int | None) -> ResultTable:
        """The version of the same recipe that a version is compared with: that of a number, else the ready one before it. TableNotFound."""
        version = self._called(held)
        with self._rooms.scope.use(version.tenant):
            if number is None:
                before = self._rooms.upkeep.before(version)
                if before is None:
                    raise TableNotFound(f"{version.recipe!r} has no ready version before version {version.version} to compare with.")
                number = before[0].version
            return self._workspace.table(version.recipe, number)

    def _still(self, record: TableRecord) -> None:
        if self._rooms.catalog.tables.get(record.table_name) is None:
            raise gone(record)

    def known(self, names: Sequence[str]) -> list[str]:
        """The names, all of them recipes. TableNotFound, with near names."""
        for name in names:
            if self._rooms.catalog.recipes.get(name) is None:
                raise self._missing(name)
        return list(names)

    def spelt(self, name: str | ResultTable | None) -> str | None:
        """The name to ask the lineage for. TableNotFound for one that nothing knows."""
        if name is None:
            return None
        if isinstance(name, ResultTable):
            self._workspace._require_seen(name._record)
            recipe = self._called(name._version).recipe
            newest = self._rooms.catalog.tables.newest(recipe)
            return recipe if newest and newest[1].table_name == name.table_name else name.table_name
        if not isinstance(name, str):
            raise _no_name(name)
        family, _, rest = name.partition(".")
        for known in (name, rest) if family in ("jammi", "mutable", "topics") and rest else (name,):
            if self._leads(known):
                return known
        raise self._missing(name)

    def _leads(self, name: str) -> bool:
        """Whether there is something of that name that could lead to tables."""
        catalog = self._rooms.catalog
        asked: tuple[Callable[[], object], ...] = (
            lambda: catalog.sources.get(name),
            lambda: catalog.mutables.get(name),
            lambda: catalog.topics.get(name),
            lambda: models.known(catalog, name),
        )
        return catalog.lineage.knows(name) or any(ask() is not None for ask in asked)

    def check(self, name: str, job: Job) -> None:
        """Nothing, when the job may become the recipe's definition. NameInvalid, NameTooLong; DependencyCycle."""
        check_recipe_name(name)
        parents = [b.relation.input.name for b in job.inputs if b.relation.input.kind is InputKind.RESULT]
        self._rooms.catalog.recipes.refuse_circle(name, self._rooms.scope.current, parents)

    def define(self, name: str, job: Job) -> None:
        """Make the job the recipe's definition. Raises as `check`."""
        self.check(name, job)
        self._rooms.catalog.recipes.define(job.recipe(name, self._rooms.scope.current, rfc3339(self._rooms.clock.now_ns())))

    def lookup(self, job: Job) -> ResultTable | None:
        """The ready table that answers the job as things are; None when none does."""
        look = self._rooms.look(True)
        found = find_reusable(self._rooms.kitchen, job.definition, anchors_of(job, look, self._rooms.scope.current))
        look.close()
        if found is None or (there := self._physical(found.table_name)) is None:
            return None
        return ResultTable(self._workspace, *there, outcome="reused")

    def verify(self, table: ResultTable, expected: str | None, on_progress: Callable[[Progress], None] | None) -> Verification:
        """Whether a table is as attested. ManifestUnsupported; TableNotFound for a handle whose table was removed."""
        self._still(table._record)
        return verify(self._rooms.results, table._record, expected, on_progress)

    def drop(self, name: str, *, if_exists: bool, force: bool) -> None:
        """Remove a recipe and its versions. TableNotFound; InvalidArgument while ready tables derive from it; TenantForbidden."""
        catalog = self._rooms.catalog
        there = catalog.recipes.get(name) or next((version for version, _ in catalog.tables.versions(name)), None)
        if there is None:
            if if_exists:
                return
            raise self._missing(name)
        catalog.scope.check_owner(there.tenant, f"The recipe {name!r}")  # first: how many derive from it is told to its owner alone
        readers = catalog.lineage.readers(name, there.tenant)
        if readers and not force:
            raise InvalidArgument(
                f"{name!r} cannot be dropped while {self._told(readers)} derive{'s' if len(readers) == 1 else ''} from it.",
                hint="Drop those first, or pass force=True: they are then stale, because their input is gone.",
            )
        self._rooms.removal.recipe(name)

    def rename(self, old: str, new: str) -> None:
        """Give a recipe another name; a RuntimeWarning names whoever still reads the old one. NameInvalid, TableNotFound, DuplicateTable,
        TenantForbidden; DependencyCycle when it would read itself."""
        check_recipe_name(new)
        recipe = self._rooms.catalog.recipes.get(old)
        if recipe is None:
            raise self._missing(old)
        lineage = self._rooms.catalog.lineage
        before = lineage.readers(old, recipe.tenant)
        self._rooms.catalog.recipes.rename(old, new)
        if readers := before - lineage.readers(new, recipe.tenant):  # who names the very table goes with it
            told = f"{self._told(readers)} still read{'s' if len(readers) == 1 else ''} {recipe.name!r}, which is gone: define"
            warnings.warn(f"{told} {'it' if len(readers) == 1 else 'them'} anew over {new!r}.", RuntimeWarning, stacklevel=3)

    def _told(self, readers: Collection[tuple[str | None, str]]) -> str:
        """Who reads a recipe: by name in the bound scope, of other tenants how many."""
        names = sorted(recipe for tenant, recipe in readers if tenant == self._rooms.scope.current)
        others = len(readers) - len(names)
        return ", ".join([*names, *([f"{count(others, 'table')} of other tenants"] if others else [])])

    def refuse_external(self, names: str | Iterable[str] | None, plan: Plan) -> None:
        """NotRecomputable when a table that was asked for by name was made outside, and is stale or the only one that was asked for."""
        wanted = {fold(n): n for n in ([names] if isinstance(names, str) else names or ())}
        blocked = {fold(step.name) for step in plan.blocked}
        for folded, name in wanted.items():
            recipe = self._rooms.catalog.recipes.get(name) if folded in blocked or len(wanted) == 1 else None
            if recipe is not None and recipe.kind in (TableKind.EXTERNAL, TableKind.IMPORTED):
                self._rooms.producers.job(recipe.name, recipe.descriptor)


def _no_name(given: object) -> InvalidArgument:
    return InvalidArgument(f"A table is named by a text or given as a ResultTable, not by a value of type {type(given).__name__}.")
