"""Maintenance of a workspace: recovery, expiry, file checks, backup, dropping and renaming recipes,
status and recomputation."""

import datetime
import os
import warnings
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_lab.core.clock import to_seconds
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.html import count_noun
from jammi_lab.core.identifiers import check_recipe_name, fold, list_of_names, near_or_all
from jammi_lab.core.records import ProgressOption, RecipeRecord
from jammi_lab.engine.sql import credential_check
from jammi_lab.sources.locations import resolve_output_path
from jammi_lab.store.reports import FsckReport, RecoveryReport, visible_recovery
from jammi_lab.store.storage_errors import copy_error, translate_storage_errors

if TYPE_CHECKING:
    from jammi_lab.freshness.reports import Plan, RunReport, Status
    from jammi_lab.workspace.assembly import Services


class Maintenance:
    """Maintains the versions, files and catalog of a workspace."""

    def __init__(self, services: "Services") -> None:
        self._services, self._catalog = services, services.catalog
        self._lookup, self._check_writable = services.lookup, services.check_writable

    def recovery_at_open(self) -> RecoveryReport:
        """The recovery report of opening the workspace, filtered for the bound tenant."""
        return visible_recovery(self._services.recovery_at_open, self._catalog)

    def recover(self, progress: ProgressOption) -> RecoveryReport:
        """Repair what terminated writers left and check every ready table. WorkspaceReadOnly."""
        self._check_writable()
        on_progress = self._services.progress.callback(progress)
        report = self._services.recover(ready_too=True, on_progress=on_progress)
        return visible_recovery(report, self._catalog)

    def expire(self, name: str, keep: int) -> list[str]:
        """Remove old versions of a recipe. Returns the physical names that were removed.
        TableNotFound, InvalidArgument, TenantForbidden."""
        self._check_writable()
        [recipe] = self._lookup.check_recipes([name])
        return self._services.retention.expire(recipe, keep)

    def fsck(
        self,
        *,
        repair: bool,
        deep: bool,
        grace: float | datetime.timedelta,
        progress: ProgressOption,
    ) -> FsckReport:
        """Compare catalog and files. InvalidArgument; WorkspaceReadOnly for a repair."""
        if repair:
            self._check_writable()
        report = self._services.recovery.fsck(
            repair=repair,
            deep=deep,
            grace=to_seconds(grace, "grace"),
            on_progress=self._services.progress.callback(progress) if deep else None,
        )
        self._services.observation_cache.flush()
        return report

    def backup(self, path: str | os.PathLike[str]) -> Path:
        """Copy the catalog to one SQLite file. InvalidArgument, ResourceExhausted,
        TenantForbidden."""
        target = resolve_output_path(path, self._services.results.root)
        self._services.observation_cache.flush()
        with translate_storage_errors(str(target), copy_error):
            self._catalog.backup(target)
        return target

    # -- recipes
    # ----------------------------------------------------------------------------------------------

    def drop(self, name: str, *, if_exists: bool, force: bool) -> None:
        """Remove a recipe and its versions. TableNotFound; InvalidArgument while ready tables
        derive from it or checks on other tables read it; TenantForbidden."""
        self._check_writable()
        catalog = self._catalog
        record = catalog.recipes.get(name) or next(
            (version for version, _ in catalog.result_tables.versions(name)), None
        )
        if record is None:
            if if_exists:
                return
            raise self._lookup.not_found(name)
        # Checked first, because only the owner may learn how many tables derive from it.
        catalog.scope.check_owner(record.tenant, f"The recipe {name!r}")
        readers = catalog.lineage.readers(name, record.tenant)
        if readers and not force:
            raise InvalidArgument(
                f"{name!r} cannot be dropped while {self._reader_names(readers)} "
                f"derive{'s' if len(readers) == 1 else ''} from it.",
                hint="Drop those first, or pass force=True; they become stale because their input "
                "is gone.",
            )
        if (checks := self._reading_checks(name)) and not force:
            raise InvalidArgument(
                f"{name!r} cannot be dropped while {count_noun(len(checks), 'check')} on other "
                f"tables read{'s' if len(checks) == 1 else ''} it: {', '.join(checks)}.",
                hint="Remove those first, or pass force=True; those checks can no longer run, and "
                "blocking ones reject every new version.",
            )
        self._services.removal.remove_recipe(name)

    def _reading_checks(self, recipe: str) -> list[str]:
        """The names of the checks on other tables that read a recipe."""
        return [
            check.name
            for check in self._catalog.checks.list()
            if not check.is_on(recipe)
            and fold(recipe)
            in [
                fold(self._lookup.resolve_alias(each.name))
                for each in self._catalog.checks.inputs(check)
            ]
        ]

    def rename(self, old: str, new: str) -> None:
        """Rename a recipe; the old name becomes an alias. NameInvalid, TableNotFound,
        DuplicateTable, TenantForbidden; DependencyCycle when the recipe would read itself."""
        self._check_writable()
        check_recipe_name(new)
        if self._catalog.recipes.get(old) is None:
            raise self._lookup.not_found(old)
        self._catalog.recipes.rename(old, new)

    def unalias(self, old: str) -> None:
        """Remove an alias. A RuntimeWarning names the recipes that still read it. TableNotFound,
        TenantForbidden."""
        self._check_writable()
        target = self._lookup.resolve_alias(old)
        self._catalog.aliases.remove(old)
        if readers := self._catalog.lineage.readers(old, self._services.scope.current):
            is_single = len(readers) == 1
            warnings.warn(
                f"{self._reader_names(readers)} still read{'s' if is_single else ''} {old!r}, "
                f"which no longer exists: redefine {'it' if is_single else 'them'} to read "
                f"{target!r}.",
                RuntimeWarning,
                stacklevel=4,  # the caller of `ws.unalias`, above its wrapper
            )

    def hold(self, name: str, note: str) -> None:
        """Hold a recipe. TableNotFound, TenantForbidden; StatementNotAllowed for a password in the
        note."""
        self._check_writable()
        credential_check.check_text("The note of a held recipe", note)
        recipe = self._recipe(name)
        self._catalog.holds.put(recipe.tenant, recipe.name, note)

    def unhold(self, name: str) -> None:
        """End the hold of a recipe. TableNotFound, TenantForbidden, InvalidArgument."""
        self._check_writable()
        recipe = self._recipe(name)
        if not self._catalog.holds.remove(recipe.tenant, recipe.name):
            held = [name for _, name in self._catalog.holds.list()]
            raise InvalidArgument(
                f"{recipe.name!r} is not held.",
                **near_or_all(recipe.name, held, "Tables that are held:"),
            )

    def _recipe(self, name: str) -> RecipeRecord:
        [current_name] = self._lookup.check_recipes([name])
        recipe = self._catalog.recipes.get(current_name)
        if recipe is None:
            raise self._lookup.not_found(name)
        return recipe

    def _reader_names(self, readers: Collection[tuple[str | None, str]]) -> str:
        """The readers of a recipe: names in the bound scope, and the number of other tenants'."""
        names = sorted(
            recipe for tenant, recipe in readers if tenant == self._services.scope.current
        )
        other_count = len(readers) - len(names)
        return ", ".join(
            [
                *names,
                *([f"{count_noun(other_count, 'table')} of other tenants"] if other_count else []),
            ]
        )


class Recomputation:
    """Status, plans and runs, with the progress reports of the workspace."""

    def __init__(self, services: "Services") -> None:
        self._services, self._catalog = services, services.catalog
        self._freshness, self._lookup = services.freshness, services.lookup

    def status(self, *, deep: bool = False, progress: ProgressOption = None) -> "Status":
        """Every recipe with its verdict. DependencyCycle."""
        on_progress = self._services.progress.callback(progress)
        return self._freshness.status(deep=deep, on_progress=on_progress if deep else None)

    def plan(self, names: str | Iterable[str] | None, progress: ProgressOption) -> "Plan":
        """Plan what must be recomputed, without running it. TableNotFound; DependencyCycle."""
        return self._plan(names, progress, counts_rows=True)

    def _plan(
        self, names: str | Iterable[str] | None, progress: ProgressOption, *, counts_rows: bool
    ) -> "Plan":
        recipes = None if names is None else self._lookup.check_recipes(list_of_names(names))
        callback = self._services.progress.callback(progress)
        return self._freshness.plan(recipes, self._apply, callback, counts_rows=counts_rows)

    def recompute(self, names: str | Iterable[str] | None, progress: ProgressOption) -> "RunReport":
        """Plan and apply. NotRecomputable for rows that were computed elsewhere."""
        self._services.check_writable()
        self._end_holds(names)
        plan = self._plan(names, progress, counts_rows=False)
        self._check_recomputable(names, plan)
        return plan.apply(progress)

    def _end_holds(self, names: str | Iterable[str] | None) -> None:
        """End the holds of the bound tenant's recipes that are named."""
        for name in [] if names is None else self._lookup.check_recipes(list_of_names(names)):
            recipe = self._catalog.recipes.get(name)
            if recipe is not None and recipe.tenant == self._catalog.scope.tenant:
                self._catalog.holds.remove(recipe.tenant, recipe.name)

    def _apply(
        self, steps: Sequence[Any], checks: Sequence[str], progress: ProgressOption
    ) -> "RunReport":
        self._services.check_writable()
        report = self._freshness.apply(steps, self._services.progress.callback(progress))
        computed = [step.name for step in report.steps if step.outcome == "computed"]
        report.steps += self._services.check_service.run_steps(checks, computed)
        return report

    def _check_recomputable(self, names: str | Iterable[str] | None, plan: "Plan") -> None:
        """Raise NotRecomputable when a named table holds rows that were computed elsewhere and is
        stale or the only one named."""
        names_by_fold = {fold(n): n for n in list_of_names(names)}
        blocked = {fold(step.name) for step in plan.blocked}
        for folded, name in names_by_fold.items():
            if folded not in blocked and len(names_by_fold) > 1:
                continue
            recipe = self._catalog.recipes.get(name)
            if recipe is not None and recipe.recipe_class.resupply_hint:
                self._services.recorded_recipes.job(recipe.name, recipe.descriptor)
