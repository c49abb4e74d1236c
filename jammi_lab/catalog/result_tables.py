"""Result tables and their versions: queries only. Status changes are in `table_status.py`."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import Statement, is_listed, text_list
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.row_mapping import TABLE, VERSION, DecodedRows
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.identifiers import fold
from jammi_lab.core.records import TableRecord, TableStatus, VersionRecord

Version = tuple[VersionRecord, TableRecord]
Versions = list[Version]  # defined here because `list` is a method of the class below
Records = list[TableRecord]


_WITH_TABLES = "versions JOIN result_tables ON result_tables.table_name = versions.table_name"
_VISIBLE = f"{scope.visible('versions')} AND {scope.visible('result_tables')}"


def is_newest(version: str) -> str:
    """Whether a version is the newest ready one of its recipe."""
    return f"{version}.newest = 1"


def is_newest_of_table(version: str) -> str:
    """The same where versions are found by their table: the coalesce keeps SQLite from going over
    all newest versions instead."""
    return f"coalesce({version}.newest, 0) = 1"


def not_hidden(table: str, name_fold: str) -> str:
    """Whether a row is what its name means to this reader: own, or shared and not hidden by a
    recipe or ready version of the reader's own."""
    return (
        f"(CAST(:scope_tenant AS TEXT) IS NULL OR {table}.tenant_id IS NOT NULL OR "
        "NOT EXISTS (SELECT 1 FROM recipes AS own WHERE own.tenant_id = :scope_tenant "
        f"AND own.name_fold = {name_fold}) AND "
        "NOT EXISTS (SELECT 1 FROM versions AS own_version "
        "WHERE own_version.tenant_id = :scope_tenant "
        f"AND own_version.recipe_fold = {name_fold} AND {is_newest('own_version')}))"
    )


_TABLES = f"SELECT {TABLE.columns} FROM result_tables WHERE"
_VERSIONS_WITH_TABLES = f"SELECT {VERSION.columns}, {TABLE.columns} FROM {_WITH_TABLES} WHERE"
_NAMED = (
    f"{_VERSIONS_WITH_TABLES} {_VISIBLE} AND versions.recipe_fold = :fold "
    f"AND {not_hidden('versions', ':fold')}"
)
_NAMED_ORDER = f"ORDER BY {scope.own_first('versions')}, versions.version DESC"
_GET = Statement(f"{_TABLES} {scope.visible('result_tables')} AND result_tables.table_fold = :fold")
_NEWEST = Statement(
    f"{_NAMED} AND {is_newest('versions')} ORDER BY {scope.own_first('versions')} LIMIT 1"
)
_NEWEST_OF_OWNER = Statement(
    f"{_VERSIONS_WITH_TABLES} {scope.owned_by('versions')} AND versions.recipe_fold = :fold "
    f"AND {is_newest('versions')}"
)
_VERSIONS = Statement(f"{_NAMED} {_NAMED_ORDER}")
_VERSION = Statement(f"{_NAMED} AND versions.version = :number {_NAMED_ORDER} LIMIT 1")
_CURRENT = Statement(
    f"{_VERSIONS_WITH_TABLES} {_VISIBLE} AND {is_newest('versions')} "
    f"AND {not_hidden('versions', 'versions.recipe_fold')}"
)
_CURRENT_NAMED = Statement(
    f"{_CURRENT.text} AND {is_listed('versions.recipe_fold', 'names')} "
    f"ORDER BY versions.recipe_fold, {scope.own_first('versions')}"
)


def _kinds(of_recipes: str = "", of_versions: str = "") -> Statement:
    """The statement for name, kind and newest version of recipes, with conditions on the names of
    the recipes and on those of the versions."""
    return Statement(
        "SELECT recipes.name, recipes.kind, CAST(NULL AS BIGINT) FROM recipes "
        f"WHERE {scope.visible('recipes')} AND {not_hidden('recipes', 'recipes.name_fold')} "
        f"{of_recipes} UNION ALL "
        f"SELECT versions.recipe, result_tables.kind, versions.version FROM {_WITH_TABLES} "
        f"WHERE {_VISIBLE} AND {is_newest('versions')} "
        f"AND {not_hidden('versions', 'versions.recipe_fold')} {of_versions}"
    )


_KINDS = _kinds()
_KINDS_NAMED = _kinds(
    f"AND {is_listed('recipes.name_fold', 'names')}",
    f"AND {is_listed('versions.recipe_fold', 'names')}",
)
_REFERRING = Statement(
    f"SELECT {VERSION.columns} FROM versions WHERE {scope.visible('versions')} "
    "AND versions.table_name = :table_name ORDER BY versions.created_at, versions.recipe_fold"
)
_OF_DEFINITION = (
    f"{_TABLES} {scope.owned_by_reader('result_tables')} AND result_tables.definition_hash = :hash"
)
_READY_BY_DEFINITION = Statement(
    f"{_OF_DEFINITION} AND result_tables.status = 'ready' "
    "ORDER BY result_tables.created_at DESC, result_tables.table_name DESC"
)
_BUILDING = Statement(
    f"{_OF_DEFINITION} AND result_tables.status = 'building' AND result_tables.flight = 1"
)
_MANIFEST = Statement(
    f"SELECT manifests.body FROM manifests WHERE {scope.visible('manifests')} "
    "AND manifests.table_name = :table_name"
)
_WITH_STATUS = Statement(
    f"{_TABLES} {scope.visible('result_tables')} AND result_tables.status = :status "
    "AND (CAST(:writer_id AS TEXT) IS NULL OR result_tables.writer_id = :writer_id) "
    "ORDER BY result_tables.created_at"
)
_UNFINISHED = Statement(
    f"{_VERSIONS_WITH_TABLES} {_VISIBLE} "
    "AND result_tables.status IN ('building', 'failed', 'rejected')"
)
_NAMES = Statement(
    f"SELECT DISTINCT versions.recipe FROM versions WHERE {scope.visible('versions')}"
)
_FILTERS = {
    "status": "result_tables.status = :status",
    "kind": "result_tables.kind = :kind",
    "model": "result_tables.model_id = :model",
    "definition": "result_tables.definition_hash = :definition",
    "source": "result_tables.table_name IN (SELECT lineage.derived FROM lineage "
    f"WHERE {scope.visible('lineage')} AND lineage.node_fold = :source "
    "AND lineage.input_kind <> 'model')",
}


@functools.cache
def _listing(filters: tuple[str, ...]) -> Statement:
    """The statement for the versions that match some filters of `ResultTableRepository.list`."""
    conditions = [_FILTERS[name] for name in filters]
    if {"status", "source"}.issubset(filters):
        # the coalesce keeps SQLite from scanning all ready tables by the status index instead of
        # the few that read the source
        conditions[filters.index("status")] = "coalesce(result_tables.status, '') = :status"
    matching = " AND ".join([f"{_VERSIONS_WITH_TABLES} {_VISIBLE}", *conditions])
    return Statement(
        f"{matching} ORDER BY versions.created_at DESC, versions.version DESC, versions.recipe_fold"
    )


class ResultTableRepository:
    """Queries over result tables and versions in the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate) -> None:
        self._database, self._scope = database, active_scope
        self._current = DecodedRows(_decode_versions)

    def get(self, table_name: str) -> TableRecord | None:
        """The table of that physical name, whatever its status. Cached until the next commit."""
        key = self._scope.parameters(fold=fold(table_name))
        return self._database.fetch_cached(_GET, key, TABLE.first)

    def newest(self, recipe: str) -> Version | None:
        """The highest ready version of a recipe; a tenant's own name hides a shared one. Cached
        until the next commit."""
        key = self._scope.parameters(fold=fold(recipe))
        return self._database.fetch_cached(_NEWEST, key, _first_version)

    def newest_of_owner(self, tenant: str | None, recipe: str) -> Version | None:
        """The highest ready version of one owner's recipe, whoever is bound. For recovery, which
        covers all tenants."""
        return self._fetch_version(_NEWEST_OF_OWNER, fold=fold(recipe), owner=tenant or "")

    def version(self, recipe: str, number: int) -> Version | None:
        """One version of a recipe, whatever its status."""
        # beyond 63 bits, binding the number would fail in the database
        if not 0 < number < 1 << 63:
            return None
        return self._fetch_version(_VERSION, fold=fold(recipe), number=number)

    def versions(self, recipe: str) -> Versions:
        """All versions of a recipe, newest first, whatever their status."""
        return [_version_of_row(row) for row in self._fetch(_VERSIONS, fold=fold(recipe))]

    def versions_of_table(self, table_name: str) -> Sequence[VersionRecord]:
        """The versions that refer to a physical table, oldest first."""
        return [VERSION.decode(row) for row in self._fetch(_REFERRING, table_name=table_name)]

    def list(
        self,
        status: TableStatus | str | None = TableStatus.READY,
        kind: str | None = None,
        source: str | None = None,
        model: str | None = None,
        definition: str | None = None,
    ) -> Versions:
        """The versions that match every filter, newest first. `source` is a source or recipe that
        the table reads directly; None matches all."""
        given = {
            "status": None if status is None else str(status),
            "kind": kind,
            "model": model,
            "definition": definition,
            "source": None if source is None else fold(source),
        }
        values = {name: value for name, value in given.items() if value is not None}
        return _decode_versions(self._fetch(_listing(tuple(values)), **values))

    def unfinished(self) -> Versions:
        """The versions that are being built or whose run failed or was rejected. Cached until the
        next commit."""
        key = self._scope.parameters()
        return self._database.fetch_cached(_UNFINISHED, key, _decode_versions)

    def by_definition(self, definition_hash: str) -> Records:
        """Ready tables of this tenant (never shared ones) with that definition hash, newest
        first."""
        return [
            TABLE.decode(row) for row in self._fetch(_READY_BY_DEFINITION, hash=definition_hash)
        ]

    def building(self, definition_hash: str) -> TableRecord | None:
        """This tenant's table that is being built from that definition and may be waited for."""
        return TABLE.first(self._fetch(_BUILDING, hash=definition_hash))

    def current(self, names: Iterable[str] | None = None) -> Versions:
        """The newest ready version of every recipe, or of those of some folded names, by name; one
        query."""
        if names is None:
            found = self._current.decode(self._fetch(_CURRENT), self._scope.parameters())
            # rows with all columns take the database several times as long to sort
            return sorted(found, key=lambda pair: _by_name_own_first(pair[0], self._scope.tenant))
        rows = self._fetch(_CURRENT_NAMED, names=text_list(names))
        return [_version_of_row(row) for row in rows]

    def kinds(self, names: Iterable[str] | None) -> dict[str, tuple[str, int | None]]:
        """The kind of recipes, all or those of some folded names, with the number of the newest
        ready version: of that version, else of the definition; one query."""
        rows = (
            self._fetch(_KINDS)
            if names is None
            else self._fetch(_KINDS_NAMED, names=text_list(names))
        )
        ordered = sorted(rows, key=lambda row: row[2] is not None)
        return {name: (kind, version) for name, kind, version in ordered}

    def names(self) -> Sequence[str]:
        """Every recipe that has a version, whatever its status; for near names and completion."""
        return sorted(row[0] for row in self._fetch(_NAMES))

    def manifest(self, table_name: str) -> bytes | None:
        """The catalog's copy of a table's manifest, byte for byte."""
        rows = self._fetch(_MANIFEST, table_name=table_name)
        return str(rows[0][0]).encode() if rows else None

    def with_status(self, status: TableStatus, writer_id: str | None = None) -> Records:
        """Tables of one status, oldest first; with `writer_id` only those of that writer."""
        rows = self._fetch(_WITH_STATUS, status=str(status), writer_id=writer_id)
        return TABLE.decode_many(rows)

    def _fetch_version(self, statement: Statement, **values: Any) -> Version | None:
        return _first_version(self._fetch(statement, **values))

    def _fetch(self, statement: Statement, **values: Any) -> Sequence[Any]:
        return self._database.fetch(statement, self._scope.parameters(**values))


def _version_of_row(row: Any) -> Version:
    return VERSION.decode(row[: VERSION.width]), TABLE.decode(row[VERSION.width :])


def _first_version(rows: Sequence[Any]) -> Version | None:
    return _version_of_row(rows[0]) if rows else None


def _decode_versions(rows: Sequence[Sequence[Any]]) -> Versions:
    width = VERSION.width
    return list(
        zip(
            VERSION.decode_many([row[:width] for row in rows]),
            TABLE.decode_many([row[width:] for row in rows]),
            strict=True,
        )
    )


def _by_name_own_first(version: VersionRecord, tenant: str | None) -> tuple[str, int, str]:
    owner = version.tenant
    rank = 1 if owner is None else 0 if owner == tenant else 2
    return fold(version.recipe), rank, owner or ""
