"""What the catalog knows about result tables and their versions: reads only."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.direct import Direct
from jammi_lab.catalog.rows import TABLE, VERSION, table_record, version_record
from jammi_lab.catalog.schema import lineage, manifests, owner, recipes, result_tables, versions
from jammi_lab.catalog.scope import Scope
from jammi_lab.names import fold
from jammi_lab.values.records import TableKind, TableRecord, TableStatus, VersionRecord

Version = tuple[VersionRecord, TableRecord]
Versions = list[Version]  # named here, because `list` is a method below
Records = list[TableRecord]


class Unsettled(NamedTuple):
    """A table as far as it takes to settle it."""

    table_name: str
    recipe: str
    path: str


class Ready(NamedTuple):
    """A ready table as far as it takes to see whether its files are there."""

    table_name: str
    path: str
    plain: bool
    """Whether two files are all that it has: it is attested, and has no vectors."""


Short = list[Unsettled]

_later, _later_table, _own = versions.alias("later"), result_tables.alias("later_table"), recipes.alias("own")
_own_version, _own_table = versions.alias("own_version"), result_tables.alias("own_table")
_READY = sa.literal_column("'ready'", sa.Text)
_joined = versions.join(result_tables, result_tables.c.table_name == versions.c.table_name)


def not_hidden(table: Any, name_fold: Any) -> sa.ColumnElement[bool]:
    """Whether a row is what its name means to this reader: own, or shared and not hidden by a recipe or ready version of the reader's own."""
    mine = sa.bindparam("scope_tenant", type_=sa.Text)
    recipe = scope.select(sa.literal_column("1"), seen=_own).where(_own.c.tenant_id == mine, _own.c.name_fold == name_fold)
    version = (
        scope.select(sa.literal_column("1"), seen=_own_version)
        .join(_own_table, _own_table.c.table_name == _own_version.c.table_name)
        .where(_own_version.c.tenant_id == mine, _own_version.c.recipe_fold == name_fold, _own_table.c.status == _READY)
    )
    return sa.or_(mine.is_(None), table.c.tenant_id.is_not(None), sa.and_(~recipe.exists(), ~version.exists()))


def is_newest(v: Any) -> sa.ColumnElement[bool]:
    """Whether no higher version of the row's recipe is ready."""
    later = (
        scope.select(sa.literal_column("1"), seen=_later)
        .join(_later_table, _later_table.c.table_name == _later.c.table_name)
        .where(_later.c.recipe_fold == v.c.recipe_fold, owner(_later) == owner(v), _later.c.version > v.c.version, _later_table.c.status == _READY)
    )
    return ~later.exists()


_version = scope.select(*VERSION, *TABLE, seen=(versions, result_tables)).select_from(_joined)
_named = _version.where(versions.c.recipe_fold == sa.bindparam("fold"), not_hidden(versions, sa.bindparam("fold")))
_named_first = (scope.own_first(versions), versions.c.version.desc())

_GET = Direct(scope.select(*TABLE, seen=result_tables).where(result_tables.c.table_fold == sa.bindparam("fold")))
_NEWEST = Direct(_named.where(result_tables.c.status == _READY).order_by(*_named_first).limit(1))
_NEWEST_OF = Direct(
    scope.select_of(*VERSION, *TABLE, seen=versions)
    .select_from(_joined)
    .where(versions.c.recipe_fold == sa.bindparam("fold"), result_tables.c.status == _READY)
    .order_by(versions.c.version.desc())
    .limit(1)
)
_VERSIONS = Direct(_named.order_by(*_named_first))
_VERSION = Direct(_named.where(versions.c.version == sa.bindparam("number")).order_by(*_named_first).limit(1))
_CURRENT = Direct(
    _version.where(result_tables.c.status == _READY, is_newest(versions), not_hidden(versions, versions.c.recipe_fold)).order_by(
        versions.c.recipe_fold, scope.own_first(versions)
    )
)
_REFERRING = Direct(
    scope.select(*VERSION, seen=versions)
    .where(versions.c.table_name == sa.bindparam("table_name"))
    .order_by(versions.c.created_at, versions.c.recipe_fold)
)
_READY_BY_DEFINITION = Direct(
    scope.select_mine(*TABLE, seen=result_tables)
    .where(result_tables.c.definition_hash == sa.bindparam("hash"), result_tables.c.status == _READY)
    .order_by(result_tables.c.created_at.desc(), result_tables.c.table_name.desc())
)
_BUILDING = Direct(
    scope.select_mine(*TABLE, seen=result_tables).where(
        result_tables.c.definition_hash == sa.bindparam("hash"),
        result_tables.c.status == sa.literal_column("'building'"),
        result_tables.c.flight == sa.literal_column("1"),
    )
)
_MANIFEST = Direct(scope.select(manifests.c.body, seen=manifests).where(manifests.c.table_name == sa.bindparam("table_name")))
_with_status = scope.select(*TABLE, seen=result_tables).where(result_tables.c.status == sa.bindparam("status")).order_by(result_tables.c.created_at)
_WITH_STATUS = Direct(_with_status)
_WITH_STATUS_OF_WRITER = Direct(_with_status.where(result_tables.c.writer_id == sa.bindparam("writer_id")))
_UNSETTLED = Direct(
    scope.select(result_tables.c.table_name, result_tables.c.recipe, result_tables.c.path, seen=result_tables)
    .where(result_tables.c.status == sa.bindparam("status"), result_tables.c.writer_id == sa.bindparam("writer_id"))
    .order_by(result_tables.c.created_at)
)
_READY_IN_SHORT = Direct(
    scope.select(
        result_tables.c.table_name,
        result_tables.c.path,
        sa.and_(result_tables.c.definition_hash.is_not(None), result_tables.c.dimensions.is_(None)),
        seen=result_tables,
    ).where(result_tables.c.status == _READY)
)
_NEWEST_NUMBERS = Direct(
    scope.select(versions.c.tenant_id, versions.c.recipe_fold, sa.func.max(versions.c.version), seen=(versions, result_tables))
    .select_from(_joined)
    .where(result_tables.c.status == _READY)
    .group_by(versions.c.tenant_id, versions.c.recipe_fold)
)
_BUILT_FOR = Direct(
    scope.select(versions.c.table_name, versions.c.tenant_id, versions.c.recipe_fold, seen=(versions, result_tables))
    .select_from(_joined)
    .where(result_tables.c.status == sa.literal_column("'building'"), result_tables.c.writer_id == sa.bindparam("writer_id"))
)
_NAMES = Direct(scope.select(versions.c.recipe, seen=versions).distinct())


class Tables:
    """Reads over result tables and versions, in the scope that is bound."""

    def __init__(self, database: Database, bound: Scope) -> None:
        self._database, self._scope = database, bound

    def get(self, table_name: str) -> TableRecord | None:
        """The table of that physical name, whatever its status."""
        rows = self._rows(_GET, fold=fold(table_name))
        return table_record(rows[0]) if rows else None

    def newest(self, recipe: str) -> Version | None:
        """The highest ready version of a recipe; a tenant's own name hides a shared one."""
        named = self._scope.params(fold=fold(recipe))
        return self._database.kept(("newest", *named.items()), lambda: self._one(_NEWEST, fold=fold(recipe)))

    def newest_of(self, tenant: str | None, recipe: str) -> Version | None:
        """The highest ready version of one owner's recipe, whoever is bound (for recovery, which works over all tenants)."""
        return self._one(_NEWEST_OF, fold=fold(recipe), owner=tenant or "")

    def version(self, recipe: str, number: int) -> Version | None:
        """One version of a recipe, whatever its status."""
        if not 0 < number < 1 << 63:  # no version has such a number, and a database cannot be asked for a larger one
            return None
        return self._one(_VERSION, fold=fold(recipe), number=number)

    def versions(self, recipe: str) -> Versions:
        """All versions of a recipe, newest first, whatever their status."""
        return [_pair(row) for row in self._rows(_VERSIONS, fold=fold(recipe))]

    def referring(self, table_name: str) -> Sequence[VersionRecord]:
        """The versions that refer to a physical table, oldest first."""
        return [version_record(row) for row in self._rows(_REFERRING, table_name=table_name)]

    def list(
        self,
        status: TableStatus | str | None = TableStatus.READY,
        kind: TableKind | str | None = None,
        source: str | None = None,
        model: str | None = None,
        definition: str | None = None,
    ) -> Versions:
        """One entry per version, newest first; `source` is a source or recipe that the table reads directly. None means any."""
        statement, values = _version, {}
        for column, value in (("status", status), ("kind", kind), ("model_id", model), ("definition_hash", definition)):
            if value is not None:
                told: sa.ColumnElement[str] = result_tables.c[column]
                if column == "status" and source is not None:  # else SQLite goes over all that are ready, and not over the few that read the source
                    told = sa.func.coalesce(told, sa.literal_column("''"), type_=sa.Text)
                statement = statement.where(told == sa.bindparam(column))
                values[column] = str(value)
        if source is not None:
            reads = scope.select(lineage.c.derived, seen=lineage).where(lineage.c.node_fold == sa.bindparam("source_fold"))
            statement = statement.where(result_tables.c.table_name.in_(reads))
            values["source_fold"] = fold(source)
        with self._database.read() as tx:  # of many combinations each is compiled when it is asked for
            return _newest_first([_pair(row) for row in tx.execute(statement, self._scope.params(**values)).all()])

    def by_definition(self, definition_hash: str) -> Records:
        """Ready tables of this tenant (never shared ones beside them) with that definition, newest first."""
        return [table_record(row) for row in self._rows(_READY_BY_DEFINITION, hash=definition_hash)]

    def building(self, definition_hash: str) -> TableRecord | None:
        """This tenant's table that is being built from that definition and may be waited for."""
        rows = self._rows(_BUILDING, hash=definition_hash)
        return table_record(rows[0]) if rows else None

    def current(self) -> Versions:
        """The newest ready version of every recipe, by name; one query."""
        return [_pair(row) for row in self._rows(_CURRENT)]

    def names(self) -> Sequence[str]:
        """Every recipe that has a version, in any status; for near names and completion."""
        return sorted(row[0] for row in self._rows(_NAMES))

    def manifest(self, table_name: str) -> bytes | None:
        """The catalog's copy of a table's manifest, byte for byte."""
        rows = self._rows(_MANIFEST, table_name=table_name)
        return str(rows[0][0]).encode() if rows else None

    def with_status(self, status: TableStatus, writer_id: str | None = None) -> Records:
        """Tables of one status, oldest first; of one writer, when given."""
        if writer_id is None:
            return [table_record(row) for row in self._rows(_WITH_STATUS, status=str(status))]
        return [table_record(row) for row in self._rows(_WITH_STATUS_OF_WRITER, status=str(status), writer_id=writer_id)]

    def unsettled(self, status: TableStatus, writer_id: str) -> Short:
        """What there is of one status of one writer, oldest first, in short: a dead one may have left thousands."""
        return [Unsettled(*row) for row in self._rows(_UNSETTLED, status=str(status), writer_id=writer_id)]

    def ready_in_short(self) -> Iterator[Ready]:
        """Every ready table, in short: all are looked after when a writer died."""
        return (Ready(row[0], row[1], bool(row[2])) for row in self._rows(_READY_IN_SHORT))

    def newest_numbers(self) -> dict[tuple[str | None, str], int]:
        """The number of the newest ready version by owner and recipe, folded; one query."""
        return {(row[0], row[1]): row[2] for row in self._rows(_NEWEST_NUMBERS)}

    def built_for(self, writer_id: str) -> dict[str, tuple[str | None, str]]:
        """The owner and the recipe, folded, as it is called now, that each table which a writer is building will be a version of."""
        return {row[0]: (row[1], row[2]) for row in self._rows(_BUILT_FOR, writer_id=writer_id)}

    def _one(self, statement: Direct, **values: Any) -> Version | None:
        rows = self._rows(statement, **values)
        return _pair(rows[0]) if rows else None

    def _rows(self, statement: Direct, **values: Any) -> Sequence[Any]:
        with self._database.read() as tx:
            return statement.rows(tx, self._scope.params(**values))


def _pair(row: Any) -> Version:
    fields = tuple(row)
    return version_record(fields[:7]), table_record(fields[7:])


def _newest_first(found: Versions) -> Versions:
    """By the time when each was made, but no version before a later one of its recipe: the clock may have gone back between them."""
    made: dict[tuple[str | None, str], str] = {}
    placed: list[tuple[str, int, str, Version]] = []
    for version, record in sorted(found, key=lambda each: each[0].version):
        name = fold(version.recipe)
        at = made[version.tenant, name] = max(made.get((version.tenant, name), ""), version.created_at)
        placed.append((at, version.version, name, (version, record)))
    placed.sort(key=lambda each: each[2])
    return [each[3] for each in sorted(placed, key=lambda each: each[:2], reverse=True)]
