"""Status changes of result tables. Only `store` imports this module: each transition is one
compare-and-set, and there is a single way to `ready`."""

from collections.abc import Collection, Iterable
from typing import Any

from jammi_lab.catalog import tenant_scope
from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.checks import remove_results_of_table
from jammi_lab.catalog.connection import (
    AllTenantsStatement,
    Connection,
    Statement,
    is_listed,
    text_list,
)
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.lineage import edge_rows
from jammi_lab.catalog.models import require_model
from jammi_lab.catalog.observations import remove_observations_of_table
from jammi_lab.catalog.result_tables import ResultTableRepository
from jammi_lab.catalog.row_mapping import TABLE, VERSION
from jammi_lab.catalog.schema import counters, lineage, manifests, result_tables, versions
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import (
    DuplicateTable,
    LostOwnership,
    TableNotFound,
    invalid_row_error,
)
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import TableRecord, TableStatus, VersionRecord

# --------------------------------------------------------------------------------------------------
# Maintains `versions.newest`: whether a version is the newest ready one of its recipe.
# Whatever changes that calls this module in the same transaction: a version turns ready, is added,
# is removed or is no longer ready. Lineage and the queries for what a name means now then need no
# search among the older versions.

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


# --------------------------------------------------------------------------------------------------
# The status of a table.

_PUBLISHED_COLUMNS = (
    *("row_count", "derived_from", "key_columns", "dimensions", "bytes", "completed_at"),
    *("seconds", "columns", "anchors", "digest", "manifest_digest", "order_sensitive"),
    *("source_id", "model_id", "status", "error"),
)
"""The columns that publishing sets."""
_OWN_TABLE = f"{tenant_scope.owned_by('result_tables')} AND result_tables.table_name = :name"
_OWN_VERSION = (
    f"{tenant_scope.owned_by('versions')} AND versions.recipe_fold = :fold "
    "AND versions.version = :number"
)
_OWN_COUNTER = (
    f"{tenant_scope.owned_by('version_counters')} AND version_counters.recipe_fold = :fold"
)
_OF_WRITER = "result_tables.status = :was AND result_tables.writer_id = :writer"
_VERSION_NUMBERS = Statement(  # one statement instead of five
    f"SELECT (SELECT recipes.name FROM recipes WHERE {tenant_scope.owned_by('recipes')} "
    "AND recipes.name_fold = :fold), "
    f"(SELECT version_counters.recipe FROM version_counters WHERE {_OWN_COUNTER}), "
    f"(SELECT version_counters.last FROM version_counters WHERE {_OWN_COUNTER}), "
    f"(SELECT max(versions.version) FROM versions WHERE {tenant_scope.owned_by('versions')} "
    "AND versions.recipe_fold = :fold), "
    f"(SELECT 1 FROM result_tables WHERE {tenant_scope.visible('result_tables')} "
    "AND result_tables.table_fold = :table_fold)"
)
_PUT_COUNTER = Statement(
    f"{counters.insert} ON CONFLICT (recipe_fold, coalesce(tenant_id, '')) "
    "DO UPDATE SET last = excluded.last"
)
_INSERT_TABLE, _INSERT_VERSION, _INSERT_MANIFEST, _INSERT_EDGE = (
    Statement(table.insert) for table in (result_tables, versions, manifests, lineage)
)
_PUBLISH = AllTenantsStatement(
    f"{result_tables.update(*_PUBLISHED_COLUMNS)} "
    f"WHERE result_tables.table_name = :table_name AND {_OF_WRITER}"
)
_FAIL = AllTenantsStatement(
    f"{result_tables.update('status', 'error', 'completed_at')} "
    f"WHERE result_tables.table_name = :name AND {_OF_WRITER}"
)
_MARK_DAMAGED = Statement(
    f"{result_tables.update('status', 'error')} WHERE {_OWN_TABLE} "
    "AND result_tables.status = 'ready'"
)
_MARK_DELETING = Statement(
    "UPDATE result_tables SET status = 'deleting', writer_id = coalesce(:writer, writer_id) "
    f"WHERE {_OWN_TABLE} AND result_tables.status = :was"
)
_DELETE_TABLE = Statement(f"DELETE FROM result_tables WHERE {_OWN_TABLE}")
_DELETE_EDGES = Statement(
    f"DELETE FROM lineage WHERE {tenant_scope.owned_by('lineage')} AND lineage.derived = :name"
)
_DELETE_MANIFEST = Statement(
    f"DELETE FROM manifests WHERE {tenant_scope.owned_by('manifests')} "
    "AND manifests.table_name = :name"
)
_DELETE_VERSIONS = Statement(
    f"DELETE FROM versions WHERE {tenant_scope.owned_by('versions')} "
    "AND versions.table_name = :name"
)
_DROP_VERSION = Statement(f"DELETE FROM versions WHERE {_OWN_VERSION}")
_UPDATE_PIN = Statement(f"{versions.update('pinned', 'note')} WHERE {_OWN_VERSION}")


class AlreadyBuilding(Exception):
    """This definition is already being built; `record` is the other build's row."""

    def __init__(self, record: TableRecord) -> None:
        super().__init__(record.table_name)
        self.record = record


class AlreadyReady(Exception):
    """A table of this definition turned ready after the caller decided to build one."""


class TableStatusRepository:
    """Status changes in the bound scope."""

    def __init__(
        self,
        database: Database,
        active_scope: TenantPredicate,
        tables: ResultTableRepository,
        clock: Clock,
    ) -> None:
        self._database = database
        self._scope = active_scope
        self._tables = tables
        self._clock = clock

    def begin(
        self,
        record: TableRecord,
        model_key: str | None = None,
        rejected: Collection[str] | None = None,
    ) -> TableRecord:
        """Insert a table as building, with the next version number of its recipe (at least the one
        it has) and the recipe's original spelling; return the inserted record.

        Every kernel sees the row. A power failure may lose it until `Database.start_sync` has
        finished, so no file may get its final name before.

        `model_key`: the registered model in use, which cannot be deleted from now on. `rejected`:
        the ready tables of its definition that the caller has examined and rejected; None to build
        in any case.

        Raises AlreadyBuilding when the table may be waited for and this tenant is building the same
        definition already, AlreadyReady when a table of it outside `rejected` is ready,
        DuplicateTable, TenantForbidden, and ModelNotFound when the model was deleted meanwhile.
        """
        self._scope.check_owner(record.tenant, f"The recipe {record.recipe!r}")
        with self._database.write_without_fsync() as tx:
            self._check_not_made(record, rejected)
            if model_key is not None:
                # in this transaction: a delete either comes before it or sees the row below
                require_model(tx, record.tenant, model_key)
            recipe, number = self._assign_number(
                tx, record.tenant, record.recipe, record.table_name, minimum=record.version
            )
            created = record.created_at or rfc3339(self._clock.now_ns())
            inserted = record.with_values(
                recipe=recipe,
                version=number,
                status=TableStatus.BUILDING,
                created_at=created,
            )
            _INSERT_TABLE.execute(tx, TABLE.encode(inserted))
            _INSERT_VERSION.execute(
                tx,
                VERSION.encode(
                    VersionRecord(
                        recipe=recipe,
                        version=number,
                        table_name=inserted.table_name,
                        tenant=inserted.tenant,
                        created_at=created,
                    )
                ),
            )
        return inserted

    def _check_not_made(self, record: TableRecord, rejected: Collection[str] | None) -> None:
        """Raise AlreadyBuilding or AlreadyReady, as `begin` says."""
        if (
            record.flight
            and record.definition_hash is not None
            and (other := self._find_building(record)) is not None
        ):
            raise AlreadyBuilding(other)
        if rejected is not None and any(
            r.table_name not in rejected
            for r in self._tables.by_definition(record.definition_hash or "")
        ):
            raise AlreadyReady(record.definition_hash)

    def publish(self, record: TableRecord, manifest: bytes) -> TableRecord:
        """Publish a table: its row, a copy of the manifest and the lineage edges of its anchors in
        one transaction.

        Raises LostOwnership, and changes nothing, unless the row is still building and belongs to
        `record.writer_id`.
        """
        completed = record.completed_at or rfc3339(self._clock.now_ns())
        published = record.with_values(status=TableStatus.READY, completed_at=completed, error=None)
        with self._database.write() as tx:
            if not _PUBLISH.execute(tx, _publish_parameters(published, status="ready")):
                raise _lost_ownership_error(record)
            # there are some if it was ready before, and somebody set it to building by hand
            _DELETE_EDGES.execute(tx, _table_key(record))
            _INSERT_EDGE.execute_many(tx, edge_rows(tx, published))
            self._replace_manifest(tx, published, manifest)
            mark_newest_of(tx, [record.table_name])
        return published

    def reuse(self, recipe: str, table_name: str) -> VersionRecord:
        """The version of this tenant's recipe that refers to a ready table: the newest one if it
        does so already, else a new one. Raises TableNotFound unless the table is ready and this
        tenant's own."""
        tenant = self._scope.tenant
        with self._database.write() as tx:
            record = self._tables.get(table_name)
            if record is None or record.tenant != tenant or record.status is not TableStatus.READY:
                raise TableNotFound(f"There is no ready table {table_name!r} to reuse.")
            newest = self._tables.newest_of_owner(tenant, recipe)
            if newest is not None and newest[1].table_name == record.table_name:
                return newest[0]
            recipe_name, number = self._assign_number(tx, tenant, recipe, None)
            version = VersionRecord(
                recipe=recipe_name,
                version=number,
                table_name=record.table_name,
                tenant=tenant,
                created_at=rfc3339(self._clock.now_ns()),
            )
            _INSERT_VERSION.execute(tx, VERSION.encode(version))
            mark_newest(tx, [(tenant or "", fold(recipe_name))])
        return version

    def mark_failed(self, table_name: str, writer_id: str, error: str) -> bool:
        """Mark a building table of that writer as failed; False when its status had changed
        already."""
        with self._database.write() as tx:
            parameters = {"name": table_name, "was": "building", "writer": writer_id}
            failed = {"status": "failed", "error": error}
            failed["completed_at"] = rfc3339(self._clock.now_ns())
            return _FAIL.execute(tx, parameters | failed) == 1

    def reject(self, record: TableRecord, error: str) -> None:
        """Mark a complete table as rejected: its row is filled as if it were published, and no name
        means it. Raises LostOwnership as `publish`."""
        with self._database.write() as tx:
            if not _PUBLISH.execute(
                tx, _publish_parameters(record, status="rejected", error=error)
            ):
                raise _lost_ownership_error(record)

    def mark_damaged(self, table_name: str, error: str) -> bool:
        """Mark a ready table whose bytes cannot be trusted as failed; return whether it was ready.
        Raises TenantForbidden."""
        with self._database.write() as tx:
            record = self._tables.get(table_name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The table {record.table_name!r}")
            failed = {"status": "failed", "error": error}
            marked = _MARK_DAMAGED.execute(tx, _table_key(record) | failed) == 1
            mark_newest_of(tx, [record.table_name])
        return marked

    def drop_version(
        self, recipe: str, number: int, writer_id: str | None = None
    ) -> tuple[str, bool] | None:
        """Remove one version. Return the physical table it referred to, and whether it was the last
        version to refer to it, so that the table is deleting now. None when there is no such
        version or it is being built. Raises TenantForbidden."""
        with self._database.write() as tx:
            match = self._tables.version(recipe, number)
            if match is None or match[1].status is TableStatus.BUILDING:
                return None
            version, record = match
            self._scope.check_owner(version.tenant, f"The recipe {version.recipe!r}")
            _DROP_VERSION.execute(
                tx,
                tenant_scope.name_key(version.tenant, version.recipe) | {"number": number},
            )
            was_last = not self._tables.versions_of_table(record.table_name)
            if was_last and record.status is not TableStatus.DELETING:
                self._mark_deleting(tx, record, writer_id)
            mark_newest(tx, [(version.tenant or "", fold(version.recipe))])
        return record.table_name, was_last

    def remove(self, table_name: str) -> bool:
        """Delete a failed or deleting table whose files are gone from the catalog, with its
        manifest, edges, versions and the observations of its files; return whether that was done.
        Raises TenantForbidden."""
        with self._database.write() as tx:
            record = self._tables.get(table_name)
            if record is None or record.status not in (TableStatus.FAILED, TableStatus.DELETING):
                return False
            self._scope.check_owner(record.tenant, f"The table {record.table_name!r}")
            self._remove_names(tx, record)
            remove_results_of_table(tx, record.tenant, record.table_name)
            remove_observations_of_table(tx, record.table_name)
            for statement in (_DELETE_MANIFEST, _DELETE_TABLE):
                statement.execute(tx, _table_key(record))
        return True

    def replace_manifest(self, table_name: str, manifest: bytes) -> bool:
        """Replace the catalog's copy of a manifest with a verified one. False when the table does
        not exist. Raises TenantForbidden."""
        with self._database.write() as tx:
            record = self._tables.get(table_name)
            if record is None:
                return False
            self._scope.check_owner(record.tenant, f"The table {record.table_name!r}")
            self._replace_manifest(tx, record, manifest)
        return True

    def pin(self, recipe: str, number: int, note: str | None = None) -> bool:
        """Exempt a version from `expire`, with a note; return whether the version exists. Raises
        TenantForbidden."""
        return self._pin(recipe, number, pinned=1, note=note)

    def unpin(self, recipe: str, number: int) -> bool:
        """Undo `pin`; return whether the version exists. Raises TenantForbidden."""
        return self._pin(recipe, number, pinned=0, note=None)

    def _pin(self, recipe: str, number: int, **values: Any) -> bool:
        with self._database.write() as tx:
            match = self._tables.version(recipe, number)
            if match is None:
                return False
            self._scope.check_owner(match[0].tenant, f"The recipe {match[0].recipe!r}")
            key = tenant_scope.name_key(match[0].tenant, recipe) | {"number": number}
            _UPDATE_PIN.execute(tx, key | values)
        return True

    def _find_building(self, record: TableRecord) -> TableRecord | None:
        other = self._tables.building(record.definition_hash or "")
        return other if other is not None and other.tenant == record.tenant else None

    def _assign_number(
        self,
        tx: Connection,
        tenant: str | None,
        recipe: str,
        table_name: str | None,
        minimum: int = 1,
    ) -> tuple[str, int]:
        """Assign the recipe's next version number; return it with the recipe's original spelling.
        Raises DuplicateTable when `table_name` is taken."""
        key = tenant_scope.name_key(tenant, recipe)
        parameters = self._scope.parameters(
            **key, table_fold=None if table_name is None else fold(table_name)
        )
        [(recipe_name, counter_name, last_number, highest_number, table_exists)] = (
            _VERSION_NUMBERS.fetch(tx, parameters)
        )
        if table_exists:
            raise DuplicateTable(f"The table {table_name!r} already exists.")
        name = recipe_name or counter_name or recipe
        row = {"tenant_id": tenant, "recipe": name, "recipe_fold": fold(recipe)}
        try:
            number = max(minimum, 1 + max(last_number or 0, highest_number or 0))
            _PUT_COUNTER.execute(tx, {**row, "last": number})
        except (TypeError, OverflowError):
            raise invalid_row_error() from None
        return name, number

    def _mark_deleting(self, tx: Connection, record: TableRecord, writer_id: str | None) -> None:
        referring = recipes_of(tx, [record.table_name])
        self._remove_names(tx, record)
        change = {"was": str(record.status), "writer": writer_id}
        _MARK_DELETING.execute(tx, _table_key(record) | change)
        mark_newest(tx, referring)

    def _remove_names(self, tx: Connection, record: TableRecord) -> None:
        _DELETE_VERSIONS.execute(tx, _table_key(record))
        _DELETE_EDGES.execute(tx, _table_key(record))

    def _replace_manifest(self, tx: Connection, record: TableRecord, manifest: bytes) -> None:
        _DELETE_MANIFEST.execute(tx, _table_key(record))
        row = {"table_name": record.table_name, "tenant_id": record.tenant}
        _INSERT_MANIFEST.execute(tx, row | {"body": manifest.decode()})


def _lost_ownership_error(record: TableRecord) -> LostOwnership:
    return LostOwnership(
        f"The table {record.table_name!r} was taken over by another kernel while it was being "
        "built; nothing was published.",
        hint="Run it again; the other kernel's table is reused if it is the same.",
    )


def _table_key(record: TableRecord) -> dict[str, Any]:
    return tenant_scope.owner_key(record.tenant, name=record.table_name)


def _publish_parameters(
    record: TableRecord, *, status: str, error: str | None = None
) -> dict[str, Any]:
    """The parameters that turn a building row of the record's writer into another status, with all
    columns known by then."""
    state = {"was": "building", "writer": record.writer_id, "status": status, "error": error}
    return TABLE.encode(record) | state
