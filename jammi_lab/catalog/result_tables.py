"""Result tables and their versions: queries only. Status changes are in `table_status.py`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import CompiledStatement, Database, is_listed, text_list
from jammi_lab.catalog.row_mapping import TABLE, VERSION, DecodedRows
from jammi_lab.catalog.schema import lineage, manifests, recipes, result_tables, versions
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core.identifiers import fold
from jammi_lab.core.recipes import recipe_class
from jammi_lab.core.records import TableRecord, TableStatus, VersionRecord

Version = tuple[VersionRecord, TableRecord]
Versions = list[Version]  # defined here because `list` is a method of the class below
Records = list[TableRecord]


class TableSummary(NamedTuple):
    """The columns of a table that recovery needs."""

    table_name: str
    recipe: str
    path: str


class ReadyTable(NamedTuple):
    """The columns of a ready table that a check of its files needs."""

    table_name: str
    path: str
    has_two_files: bool
    """Whether it consists of two files only: it has a manifest, and no index of vectors or
    words."""


Summaries = list[TableSummary]

_own_recipe = recipes.alias("own")
_own_version = versions.alias("own_version")
_READY = sa.literal_column("'ready'", sa.Text)
_versions_with_tables = versions.join(
    result_tables, result_tables.c.table_name == versions.c.table_name
)


def is_newest(version: Any) -> sa.ColumnElement[bool]:
    """Whether a version is the newest ready one of its recipe."""
    newest: sa.ColumnElement[int] = version.c.newest
    return newest == sa.literal_column("1")


def is_newest_of_table(version: Any) -> sa.ColumnElement[bool]:
    """The same where versions are found by their table: the coalesce keeps SQLite from going over
    all newest versions instead."""
    newest: sa.ColumnElement[int] = sa.func.coalesce(version.c.newest, sa.literal_column("0"))
    return newest == sa.literal_column("1")


def not_hidden(table: Any, name_fold: Any) -> sa.ColumnElement[bool]:
    """Whether a row is what its name means to this reader: own, or shared and not hidden by a
    recipe or ready version of the reader's own."""
    tenant = sa.bindparam("scope_tenant", type_=sa.Text)
    recipe = scope.select(sa.literal_column("1"), tables=_own_recipe).where(
        _own_recipe.c.tenant_id == tenant, _own_recipe.c.name_fold == name_fold
    )
    version = scope.select(sa.literal_column("1"), tables=_own_version).where(
        _own_version.c.tenant_id == tenant,
        _own_version.c.recipe_fold == name_fold,
        is_newest(_own_version),
    )
    return sa.or_(
        tenant.is_(None),
        table.c.tenant_id.is_not(None),
        sa.and_(~recipe.exists(), ~version.exists()),
    )


_version_select = scope.select(
    *VERSION.columns, *TABLE.columns, tables=(versions, result_tables)
).select_from(_versions_with_tables)
_named_version = _version_select.where(
    versions.c.recipe_fold == sa.bindparam("fold"), not_hidden(versions, sa.bindparam("fold"))
)
_named_order = (scope.own_first(versions), versions.c.version.desc())

_GET = CompiledStatement(
    scope.select(*TABLE.columns, tables=result_tables).where(
        result_tables.c.table_fold == sa.bindparam("fold")
    )
)
_NEWEST = CompiledStatement(
    _named_version.where(is_newest(versions)).order_by(scope.own_first(versions)).limit(1)
)
_NEWEST_OF_OWNER = CompiledStatement(
    scope.select_owned_by(*VERSION.columns, *TABLE.columns, tables=versions)
    .select_from(_versions_with_tables)
    .where(versions.c.recipe_fold == sa.bindparam("fold"), is_newest(versions))
)
_VERSIONS = CompiledStatement(_named_version.order_by(*_named_order))
_VERSION = CompiledStatement(
    _named_version.where(versions.c.version == sa.bindparam("number"))
    .order_by(*_named_order)
    .limit(1)
)
_current = _version_select.where(is_newest(versions), not_hidden(versions, versions.c.recipe_fold))
_CURRENT = CompiledStatement(_current)
_CURRENT_NAMED = CompiledStatement(
    _current.where(is_listed(versions.c.recipe_fold, "names")).order_by(
        versions.c.recipe_fold, scope.own_first(versions)
    )
)


def _kinds(*conditions: Any) -> CompiledStatement:
    """The statement for name, kind and newest version of recipes, with conditions on the names of
    the recipes and on those of the versions."""
    of_recipes = scope.select(
        recipes.c.name, recipes.c.kind, sa.cast(sa.null(), sa.BigInteger), tables=recipes
    ).where(not_hidden(recipes, recipes.c.name_fold), *conditions[:1])
    of_versions = (
        scope.select(
            versions.c.recipe,
            result_tables.c.kind,
            versions.c.version,
            tables=(versions, result_tables),
        )
        .select_from(_versions_with_tables)
        .where(
            is_newest(versions),
            not_hidden(versions, versions.c.recipe_fold),
            *conditions[1:],
        )
    )
    return CompiledStatement(sa.union_all(of_recipes, of_versions))


_KINDS = _kinds()
_KINDS_NAMED = _kinds(
    is_listed(recipes.c.name_fold, "names"), is_listed(versions.c.recipe_fold, "names")
)
_REFERRING = CompiledStatement(
    scope.select(*VERSION.columns, tables=versions)
    .where(versions.c.table_name == sa.bindparam("table_name"))
    .order_by(versions.c.created_at, versions.c.recipe_fold)
)
_READY_BY_DEFINITION = CompiledStatement(
    scope.select_own(*TABLE.columns, tables=result_tables)
    .where(
        result_tables.c.definition_hash == sa.bindparam("hash"), result_tables.c.status == _READY
    )
    .order_by(result_tables.c.created_at.desc(), result_tables.c.table_name.desc())
)
_BUILDING = CompiledStatement(
    scope.select_own(*TABLE.columns, tables=result_tables).where(
        result_tables.c.definition_hash == sa.bindparam("hash"),
        result_tables.c.status == sa.literal_column("'building'"),
        result_tables.c.flight == sa.literal_column("1"),
    )
)
_MANIFEST = CompiledStatement(
    scope.select(manifests.c.body, tables=manifests).where(
        manifests.c.table_name == sa.bindparam("table_name")
    )
)
_with_status = (
    scope.select(*TABLE.columns, tables=result_tables)
    .where(result_tables.c.status == sa.bindparam("status"))
    .order_by(result_tables.c.created_at)
)
_WITH_STATUS = CompiledStatement(_with_status)
_WITH_STATUS_OF_WRITER = CompiledStatement(
    _with_status.where(result_tables.c.writer_id == sa.bindparam("writer_id"))
)
_UNSETTLED_SUMMARIES = CompiledStatement(
    scope.select(
        result_tables.c.table_name,
        result_tables.c.recipe,
        result_tables.c.path,
        tables=result_tables,
    )
    .where(
        result_tables.c.status == sa.bindparam("status"),
        result_tables.c.writer_id == sa.bindparam("writer_id"),
    )
    .order_by(result_tables.c.created_at)
)
_READY_SUMMARIES = CompiledStatement(
    scope.select(
        result_tables.c.table_name,
        result_tables.c.path,
        sa.and_(result_tables.c.definition_hash.is_not(None), result_tables.c.dimensions.is_(None)),
        result_tables.c.kind,
        tables=result_tables,
    ).where(result_tables.c.status == _READY)
)
_NEWEST_NUMBERS = CompiledStatement(
    scope.select(
        versions.c.tenant_id, versions.c.recipe_fold, versions.c.version, tables=versions
    ).where(is_newest(versions))
)
_BUILT_FOR = CompiledStatement(
    scope.select(
        versions.c.table_name,
        versions.c.tenant_id,
        versions.c.recipe_fold,
        tables=(versions, result_tables),
    )
    .select_from(_versions_with_tables)
    .where(
        result_tables.c.status == sa.literal_column("'building'"),
        result_tables.c.writer_id == sa.bindparam("writer_id"),
    )
)
_NAMES = CompiledStatement(scope.select(versions.c.recipe, tables=versions).distinct())


class ResultTableRepository:
    """Queries over result tables and versions in the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate) -> None:
        self._database, self._scope = database, active_scope
        self._current = DecodedRows(_decode_versions)

    def get(self, table_name: str) -> TableRecord | None:
        """The table of that physical name, whatever its status. Cached until the next commit."""
        key = self._scope.parameters(fold=fold(table_name))

        def read() -> TableRecord | None:
            rows = self._fetch(_GET, fold=fold(table_name))
            return TABLE.decode(rows[0]) if rows else None

        return self._database.cached(("table", *key.items()), read)

    def newest(self, recipe: str) -> Version | None:
        """The highest ready version of a recipe; a tenant's own name hides a shared one. Cached
        until the next commit."""
        key = self._scope.parameters(fold=fold(recipe))
        return self._database.cached(
            ("newest", *key.items()), lambda: self._fetch_version(_NEWEST, fold=fold(recipe))
        )

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
        names: Iterable[str] | None = None,
        table_names: Iterable[str] | None = None,
    ) -> Versions:
        """The versions that match every filter, newest first. `source` is a source or recipe that
        the table reads directly, `names` are folded names of recipes, `table_names` those of
        tables; None matches all."""
        statement, values = _version_select, {}
        is_selective = any(each is not None for each in (source, names, table_names))
        for column, value in (
            ("status", status),
            ("kind", kind),
            ("model_id", model),
            ("definition_hash", definition),
        ):
            if value is not None:
                element: sa.ColumnElement[str] = result_tables.c[column]
                # the coalesce keeps SQLite from scanning all ready tables by the status index
                # instead of the few that the other filters find
                if column == "status" and is_selective:
                    element = sa.func.coalesce(element, sa.literal_column("''"), type_=sa.Text)
                statement = statement.where(element == sa.bindparam(column))
                values[column] = str(value)
        if source is not None:
            reads = scope.select(lineage.c.derived, tables=lineage).where(
                lineage.c.node_fold == sa.bindparam("source_fold")
            )
            statement = statement.where(result_tables.c.table_name.in_(reads))
            values["source_fold"] = fold(source)
        for listed, parameter, texts in (
            (versions.c.recipe_fold, "names", names),
            (result_tables.c.table_name, "table_names", table_names),
        ):
            if texts is not None:
                statement = statement.where(is_listed(listed, parameter))
                values[parameter] = text_list(texts)
        # not a CompiledStatement: there are many combinations of filters
        with self._database.read() as tx:
            return _newest_first(
                [
                    _version_of_row(row)
                    for row in tx.execute(statement, self._scope.parameters(**values)).all()
                ]
            )

    def by_definition(self, definition_hash: str) -> Records:
        """Ready tables of this tenant (never shared ones) with that definition hash, newest
        first."""
        return [
            TABLE.decode(row) for row in self._fetch(_READY_BY_DEFINITION, hash=definition_hash)
        ]

    def building(self, definition_hash: str) -> TableRecord | None:
        """This tenant's table that is being built from that definition and may be waited for."""
        rows = self._fetch(_BUILDING, hash=definition_hash)
        return TABLE.decode(rows[0]) if rows else None

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
        if writer_id is None:
            return [TABLE.decode(row) for row in self._fetch(_WITH_STATUS, status=str(status))]
        return [
            TABLE.decode(row)
            for row in self._fetch(_WITH_STATUS_OF_WRITER, status=str(status), writer_id=writer_id)
        ]

    def unsettled(self, status: TableStatus, writer_id: str) -> Summaries:
        """Tables of one status and one writer, oldest first, with few columns: a dead writer may
        have left thousands."""
        return [
            TableSummary(*row)
            for row in self._fetch(_UNSETTLED_SUMMARIES, status=str(status), writer_id=writer_id)
        ]

    def ready_tables(self) -> Iterator[ReadyTable]:
        """Every ready table with few columns: recovery checks all of them after a writer died."""
        for name, path, is_plain, kind in self._fetch(_READY_SUMMARIES):
            yield ReadyTable(name, path, bool(is_plain) and not recipe_class(kind).has_words)

    def newest_numbers(self) -> dict[tuple[str | None, str], int]:
        """The number of the newest ready version by owner and folded recipe name; one query."""
        return {(row[0], row[1]): row[2] for row in self._fetch(_NEWEST_NUMBERS)}

    def recipes_being_built(self, writer_id: str) -> dict[str, tuple[str | None, str]]:
        """Owner and current folded recipe name of each table that a writer is building."""
        return {row[0]: (row[1], row[2]) for row in self._fetch(_BUILT_FOR, writer_id=writer_id)}

    def _fetch_version(self, statement: CompiledStatement, **values: Any) -> Version | None:
        rows = self._fetch(statement, **values)
        return _version_of_row(rows[0]) if rows else None

    def _fetch(self, statement: CompiledStatement, **values: Any) -> Sequence[Any]:
        return self._database.fetch(statement, self._scope.parameters(**values))


def _version_of_row(row: Any) -> Version:
    values, width = tuple(row), len(VERSION.columns)
    return VERSION.decode(values[:width]), TABLE.decode(values[width:])


def _decode_versions(rows: Sequence[Sequence[Any]]) -> Versions:
    width = len(VERSION.columns)
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


def _newest_first(versions: Versions) -> Versions:
    """Sort by creation time, descending, but never put a version before a later one of its recipe:
    the clock may have been set back between them."""
    latest: dict[tuple[str | None, str], str] = {}
    keyed: list[tuple[str, int, str, Version]] = []
    for version, record in sorted(versions, key=lambda item: item[0].version):
        name = fold(version.recipe)
        created_at = latest[version.tenant, name] = max(
            latest.get((version.tenant, name), ""), version.created_at
        )
        keyed.append((created_at, version.version, name, (version, record)))
    keyed.sort(key=lambda item: item[2])
    return [item[3] for item in sorted(keyed, key=lambda item: item[:2], reverse=True)]
