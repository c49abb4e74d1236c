"""Resolves names of recipes, versions and tables in the bound tenant's scope."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.errors import AmbiguousMatch, InvalidArgument, TableDamaged, TableNotFound
from jammi_lab.core.identifiers import check_choice, fold, near_names
from jammi_lab.core.input_kinds import schemas
from jammi_lab.core.recipes import recipe_classes
from jammi_lab.core.records import (
    READABLE_STATUSES,
    TableRecord,
    TableStatus,
    TableVersion,
    VersionRecord,
)
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.store.removal import missing_version_error
from jammi_lab.store.retention import VersionRetention
from jammi_lab.store.workspace_identity import workspaces_near


def unwrap_table(table: object) -> object:
    """The version of a ResultTable; anything else, such as a name, unchanged."""
    return getattr(table, "_table_version", table)


class TableLookup:
    """Resolves names and versions to catalog records."""

    def __init__(
        self,
        catalog: Catalog,
        scope: TenantScope,
        retention: VersionRetention,
        local_folder: Path | None,
    ) -> None:
        self._catalog, self._scope, self._retention = catalog, scope, retention
        self._local_folder = local_folder

    # -- tables
    # ----------------------------------------------------------------------------------------------

    def find(self, name: object, version: int | None = None) -> TableVersion:
        """The newest ready version of a recipe, one version of it (ready or rejected), or a ready
        physical table. TableNotFound, with near names."""
        name = unwrap_table(name)
        if isinstance(name, TableVersion):
            self.check_visible(name.record)
            return name
        if not isinstance(name, str):
            raise _not_a_name(name)
        name = self.resolve_alias(name)
        if version is not None:
            return self._find_version(name, version)
        newest = self._catalog.result_tables.newest(name)
        match = self.find_physical(name) if newest is None else TableVersion(*newest)
        if match is None:
            raise self.not_found(name)
        return match

    def has_ready_version(self, name: str) -> bool:
        """Whether a recipe, or the one of an alias, has a ready version."""
        return self._catalog.result_tables.newest(self.resolve_alias(name)) is not None

    def find_searchable(self, name: object, *, by_words: bool) -> TableVersion:
        """As `find`; the name of a source or frame means the one table that was made from its rows
        and has vectors or, with `by_words`, also words. TableNotFound; AmbiguousMatch when there
        are several."""
        try:
            return self.find(name)
        except TableNotFound as error:
            if not isinstance(name, str):
                raise
            tables = self.tables_of_source(name)
            if not tables and self._catalog.sources.get(name) is None:
                if error.message.startswith("There is no recipe"):
                    error.hint = f"{error.hint.rstrip('.')}; ws.embed makes one to search."
                raise
        matches = []
        for match in tables:
            if not match.record.recipe_class.combines_vectors and (
                by_words or match.record.recipe_class.has_vectors
            ):
                matches.append(match)
        if len(matches) == 1:
            return matches[0]
        if not matches:
            raise TableNotFound(
                f"No table with this kind of search exists for the source {name!r}.",
                hint=f"ws.embed(name, {name!r}, key=…, text=…) creates one to search by meaning, "
                "ws.lexical(…) one to search by words.",
            )
        names = ", ".join(repr(match.version.recipe) for match in matches)
        raise AmbiguousMatch(
            f"Several tables search the source {name!r}: {names}.",
            hint="Name one of them; words= searches an embedding table and a lexical table "
            "together.",
        )

    def tables_of_source(self, source: str) -> list[TableVersion]:
        """The newest versions that can be searched and whose rows are those of a source, by
        name."""
        tables = self._catalog.result_tables
        matches = []
        for version, record in tables.list(source=source):
            if (
                (record.recipe_class.has_vectors or record.recipe_class.has_words)
                and fold(record.source_id or "") == fold(source)
                and tables.newest(version.recipe) == (version, record)
            ):
                matches.append(TableVersion(version, record))
        return sorted(matches, key=lambda match: match.version.recipe)

    def resolve_alias(self, name: str) -> str:
        """The recipe that an alias means; any other name unchanged."""
        return self._catalog.aliases.resolve(name)

    def _find_version(self, name: str, version: int) -> TableVersion:
        if not isinstance(version, int) or isinstance(version, bool):
            raise InvalidArgument(
                f"version must be an integer, got {type(version).__name__}.",
                hint="ResultTable.version is the version of a table.",
            )
        tables = self._catalog.result_tables
        row = tables.version(name, version)
        if row is not None and row[1].status in READABLE_STATUSES:
            return TableVersion(*row)
        ready = [v.version for v, r in tables.versions(name) if r.status is TableStatus.READY]
        if not ready:
            raise self.not_found(name)
        raise TableNotFound(
            f"{name!r} has no ready version {version}; it has {', '.join(map(str, ready))}."
        )

    def find_physical(self, name: str) -> TableVersion | None:
        """A ready table by its physical name, with the newest version that refers to it."""
        record = self._catalog.result_tables.get(name)
        if record is None or record.status is not TableStatus.READY:
            return None
        versions = self._catalog.result_tables.versions_of_table(record.table_name)
        return TableVersion(versions[-1], record) if versions else None

    def list_tables(
        self,
        kind: str | None,
        status: str | None,
        source: str | None,
        model: str | None,
        definition: str | None,
    ) -> list[TableVersion]:
        """One entry per version, newest first. InvalidArgument for an unknown kind or status."""
        if kind is not None:
            check_choice("kind", kind, recipe_classes(), "For one table: ws.table(name).")
        if status is not None:
            check_choice("status", status, TableStatus)
        rows = self._catalog.result_tables.list(
            status=status, kind=kind, source=source, model=model, definition=definition
        )
        return [TableVersion(*row) for row in rows]

    def check_visible(self, record: TableRecord) -> None:
        """Raise TableNotFound while another tenant than the table's own is bound."""
        if record.tenant not in (None, self._scope.current):
            raise missing_version_error(record)

    def require_exists(self, record: TableRecord) -> None:
        """Raise TableNotFound when the catalog has no row of the table."""
        if self._catalog.result_tables.get(record.table_name) is None:
            raise missing_version_error(record)

    def require_readable(self, *records: TableRecord) -> None:
        """Raise TableNotFound when one of the tables is no longer ready or rejected."""
        for record in records:
            current = self._catalog.result_tables.get(record.table_name)
            if current is None or current.status not in READABLE_STATUSES:
                raise missing_version_error(record) from None

    @contextlib.contextmanager
    def translate_missing(self, *records: TableRecord) -> Iterator[None]:
        """Context manager around reads of handles: when a table was dropped meanwhile, raise
        TableNotFound instead of TableDamaged."""
        try:
            yield
        except (TableDamaged, TableNotFound):
            self.require_readable(*records)
            raise

    # -- recipes and their versions
    # ----------------------------------------------------------------------------------------------

    def check_recipes(self, names: Sequence[str]) -> list[str]:
        """The current names, after checking that each is a recipe. TableNotFound, with near
        names."""
        current_names = [self.resolve_alias(name) for name in names]
        for name in current_names:
            if self._catalog.recipes.get(name) is None:
                raise self.not_found(name)
        return current_names

    def verdict_subject(self, name: object) -> tuple[str, TableRecord | None]:
        """The recipe that a verdict is about, and the table: None for the newest version of the
        recipe. TableNotFound."""
        if isinstance(name, str):
            recipe = self._catalog.recipes.get(self.resolve_alias(name))
            if recipe is not None:
                return recipe.name, None
        table = self.find(name)
        self.require_exists(table.record)
        return self.current_name(table.version).recipe, table.record

    def lineage_name(self, name: object) -> str | None:
        """The name of a table, source or recipe in the lineage: a handle's recipe for its newest
        version, else the physical name. TableNotFound for an unknown one."""
        name = unwrap_table(name)
        if name is None:
            return None
        if isinstance(name, TableVersion):
            self.check_visible(name.record)
            recipe, physical = self.current_name(name.version).recipe, name.record.table_name
            newest = self._catalog.result_tables.newest(recipe)
            return recipe if newest and newest[1].table_name == physical else physical
        if not isinstance(name, str):
            raise _not_a_name(name)
        name = self.resolve_alias(name)
        namespace, _, rest = name.partition(".")
        candidates = (name, rest) if namespace in schemas() and rest else (name,)
        for candidate in candidates:
            if self._has_lineage(candidate):
                return candidate
        raise self.not_found(name)

    def _has_lineage(self, name: str) -> bool:
        """Whether the name can be a node of the lineage."""
        catalog = self._catalog
        return (
            bool(catalog.lineage.nodes_named(name)[0])
            or catalog.find_input(name) is not None
            or catalog.models.get(name) is not None
        )

    def current_name(self, version: VersionRecord) -> VersionRecord:
        """The version with the current name of its recipe, which may have been renamed, and whose
        old name may belong to another recipe by now. Unchanged when no version refers to the table
        any more."""

        def likeness(row: VersionRecord) -> tuple[bool, bool]:
            same_version = (row.version, row.created_at) == (version.version, version.created_at)
            return same_version, fold(row.recipe) == fold(version.recipe)

        return max(
            reversed(self._catalog.result_tables.versions_of_table(version.table_name)),
            key=likeness,
            default=version,
        )

    def ready_versions(self, version: VersionRecord) -> list[TableVersion]:
        """The ready versions of the recipe of a version, newest first. The name is resolved in the
        scope of the version's tenant, not of the bound one."""
        recipe = self.current_name(version).recipe
        with self._scope.use(version.tenant):
            return [
                TableVersion(*row)
                for row in self._catalog.result_tables.versions(recipe)
                if row[1].status is TableStatus.READY
            ]

    def all_versions(self, name: str) -> list[TableVersion]:
        """The versions of a recipe that can be read, newest first: the ready and the rejected ones.
        TableNotFound."""
        current, tables = fold(self.resolve_alias(name)), self._catalog.result_tables
        rejected = []
        for row in tables.list(status=TableStatus.REJECTED):
            if fold(row[0].recipe) == current:
                rejected.append(TableVersion(*row))
        if rejected and not self.has_ready_version(name):
            return sorted(rejected, key=lambda table: -table.version.version)
        newest = self.find(name)
        own = [table for table in rejected if table.record.tenant == newest.record.tenant]
        versions = [*self.ready_versions(newest.version), *own]
        return sorted(versions, key=lambda table: -table.version.version)

    def version_to_compare(self, version: VersionRecord, number: int | None) -> TableVersion:
        """The version of the same recipe to compare with: the numbered one, else the previous ready
        one. TableNotFound."""
        current = self.current_name(version)
        with self._scope.use(current.tenant):
            if number is None:
                previous = self._retention.previous_version(current)
                if previous is None:
                    raise TableNotFound(
                        f"{current.recipe!r} has no ready version before version "
                        f"{current.version} to compare with."
                    )
                number = previous[0].version
            return self.find(current.recipe, number)

    def not_found(self, name: str) -> TableNotFound:
        """The error for an unknown name, with near names and a hint."""
        if self._catalog.recipes.get(name) is not None:
            return TableNotFound(
                f"The recipe {name!r} has no ready version yet.",
                hint=f"ws.recompute({name!r}) computes one.",
            )
        if (target := self.resolve_alias(name)) != name:
            return TableNotFound(
                f"{name!r} is an alias of the recipe {target!r}.",
                hint=f"Use {target!r}; ws.unalias({name!r}) removes the alias.",
            )
        recipe_names = [r.name for r in self._catalog.recipes.list()]
        sources = [r.name for r in self._catalog.sources.list()]
        if fold(name) in map(fold, sources):
            return TableNotFound(
                f"{name!r} is a source, not a recipe or result table.",
                hint="ws.sources[name] shows a source, ws.status() what it makes stale, "
                "ws.sources.remove(name) removes it.",
            )
        return TableNotFound(
            f"There is no recipe or result table {name!r}.",
            near=near_names(name, recipe_names),
            hint="ws.recipes() lists the recipes."
            if recipe_names
            else f"ws.materialize(name, sql) creates one. {self.others_near()}".rstrip(),
        )

    def others_near(self) -> str:
        """A sentence with the workspaces near this one, which may be meant when it is empty; empty
        when there are none."""
        near = [] if self._local_folder is None else workspaces_near(self._local_folder)
        return f"Other workspaces near this empty one: {', '.join(near)}." if near else ""


def _not_a_name(name: object) -> InvalidArgument:
    return InvalidArgument(
        f"A table must be a name (string) or a ResultTable, got {type(name).__name__}."
    )
