"""Connector for DuckDB files, attached read-only for one statement or observation so that their
owner can write in between.

A file may contain SQL that DuckDB would bind with our privileges: views, macros, expressions of
generated columns. Tables and digests are therefore read in a temporary instance that can open this
file alone. Statements read tables by name, and only views that the allow-list accepts.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import duckdb
import pyarrow as pa

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.identifiers import fold, quote_identifier, sql_literal
from jammi_lab.sources.base import ObservationContext, Relation, ViewReferences
from jammi_lab.sources.databases.database_file import (
    DatabaseFileConnector,
    FileTable,
    TableContent,
    plain_text,
)
from jammi_lab.sources.scratch_duckdb import open_bare
from jammi_lab.storage.arrow_digests import reader_digests

_INEXACT_ARROW_TYPES = (
    "HUGEINT",
    "BIT",
    "INTERVAL",
    "TIME WITH TIME ZONE",
    "BIGNUM",
    "VARINT",
    "GEOMETRY",
    "JSON",
    "UUID",
    "TIME_NS",
)
"""Types that Arrow cannot represent exactly; their text is digested instead."""
_view_checks: list[Callable[[str], ViewReferences | None]] = []


def register_view_check(check: Callable[[str], ViewReferences | None]) -> None:
    """Register the allow-list check for the SQL of views; until then no view is readable.

    The engine registers it, because this package may not import the engine.
    """
    _view_checks[:] = [check]


def check_view(sql: str) -> ViewReferences | None:
    """What a view refers to; None when it refers to more than plain parts of its file."""
    return _view_checks[0](sql) if _view_checks else None


class DuckdbConnector(DatabaseFileConnector):
    """A registered DuckDB file."""

    engine = "DuckDB"
    messages = "duckdb_file"
    log_suffixes = (".wal",)

    def read_tables(self) -> list[FileTable]:
        """All tables and views. Raises SourceUnavailable."""
        with self._connect() as connection:
            tables = connection.execute(
                "SELECT schema_name, table_name, coalesce(sql, '') FROM duckdb_tables() "
                "WHERE database_name = 'it' AND NOT internal ORDER BY 1, 2"
            ).fetchall()
            views = connection.execute(
                "SELECT schema_name, view_name, coalesce(sql, '') FROM duckdb_views() WHERE "
                "database_name = 'it' AND NOT internal ORDER BY 1, 2"
            ).fetchall()
            file_tables = []
            for schema, name, sql in tables:
                unreadable_because = (
                    "it has generated columns" if "GENERATED ALWAYS AS" in sql else ""
                )
                file_tables.append(
                    FileTable(
                        schema,
                        name,
                        () if unreadable_because else self._columns(connection, schema, name),
                        unreadable_because=unreadable_because,
                    )
                )
            readable = {(t.schema, t.name) for t in file_tables if not t.unreadable_because}
            file_tables += self._views(connection, views, readable)
            if not any("collate" in fold(sql) for _, _, sql in tables + views):
                return file_tables
            return list(map(_without_collation, file_tables))

    def _views(
        self,
        connection: duckdb.DuckDBPyConnection,
        views: list[tuple[str, str, str]],
        tables: set[tuple[str, str]],
    ) -> list[FileTable]:
        """The views of the file. A view is readable if the allow-list accepts it, it reads only
        tables and readable views of the file, and it calls no macro of the file."""
        macros = {
            fold(name)
            for (name,) in connection.execute(
                "SELECT function_name FROM duckdb_functions() WHERE database_name = 'it' "
                "AND NOT internal"
            ).fetchall()
        }
        references = {(schema, name): check_view(sql) for schema, name, sql in views}
        accepted: set[tuple[str, str]] = set()
        while True:
            newly_accepted = {
                key
                for key, used in references.items()
                if key not in accepted
                and used is not None
                and not macros & {fold(name) for name in used.functions}
                and all(
                    len(parts) < 3 and (key[0], *parts)[-2:] in tables | accepted
                    for parts in used.tables
                )
            }
            if not newly_accepted:
                break
            accepted |= newly_accepted
        unreadable_because = "it uses tables or functions that are not allowed in a view, or LIMIT"
        return [
            FileTable(
                schema,
                name,
                self._columns(connection, schema, name) if (schema, name) in accepted else (),
                True,
                "" if (schema, name) in accepted else unreadable_because,
            )
            for schema, name, _ in views
        ]

    def table_relation(self, info: FileTable) -> Relation:
        """A SELECT of one table of the attached file."""
        attachment = self._attachment(self.path)
        table = f"{attachment.alias}.{quote_identifier(info.schema)}.{quote_identifier(info.name)}"
        # Statements are analyzed on types, which do not tell collations.
        columns = [plain_text(quote_identifier(name)) for name in info.collated]
        replaced = f" REPLACE ({', '.join(columns)})" if columns else ""
        return self._relation_of(info, f"SELECT *{replaced} FROM {table}", attachment)

    def digest_table(self, info: FileTable, ctx: ObservationContext) -> TableContent:  # noqa: ARG002  signature of the base class
        """Column digests in row order. Raises SourceUnavailable."""
        columns = ", ".join(_exact_expression(name, kind) for name, kind in info.columns)
        with self._connect() as connection:
            if info.is_view:  # the day of an instant, as a statement sees it
                connection.execute(f"SET TimeZone = {sql_literal(self.context.time_zone)}")
            reader = connection.execute(
                f"SELECT {columns} FROM "
                f"it.{quote_identifier(info.schema)}.{quote_identifier(info.name)}"
            ).to_arrow_reader(65_536)
            digests, rows = reader_digests(reader)
        return TableContent(digests, rows)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A temporary DuckDB instance that can open this file alone. Raises SourceUnavailable."""
        paths = [self.path, os.path.realpath(self.path), *self.logs]
        with open_bare() as connection:
            try:
                connection.execute(
                    "SET TimeZone = 'UTC'; SET allowed_paths = "
                    f"[{', '.join(map(sql_literal, paths))}]; SET enable_external_access = "
                    "false"
                )
                connection.execute(f"ATTACH {sql_literal(self.path)} AS it (READ_ONLY)")
                yield connection
            except duckdb.Error as error:
                raise self._read_error(str(error)) from None
            except pa.ArrowException as error:
                raise SourceUnavailable(f"{self._name} cannot be read: {error}.") from None

    @staticmethod
    def _columns(
        connection: duckdb.DuckDBPyConnection, schema: str, name: str
    ) -> tuple[tuple[str, str], ...]:
        return tuple(
            (row[0], row[1])
            for row in connection.execute(
                f"DESCRIBE it.{quote_identifier(schema)}.{quote_identifier(name)}"
            ).fetchall()
        )


def _without_collation(info: FileTable) -> FileTable:
    """A table of a file with collations, any of whose texts may have one. Of nested texts there is
    no query that shows it."""
    texts = [(name, kind) for name, kind in info.columns if "VARCHAR" in kind]
    if all(kind == "VARCHAR" for _, kind in texts):
        return replace(info, collated=tuple(name for name, _ in texts))
    return replace(info, unreadable_because="it has nested texts, and its file has collations")


def _exact_expression(name: str, kind: str) -> str:
    """An expression of the column whose Arrow values differ wherever the column's values do. Raises
    SourceUnavailable for a type without one."""
    column = quote_identifier(name)
    if kind.startswith("UNION(") and kind.count("UNION(") == 1:  # equal text, different members
        return (
            f"concat(union_tag({column})::VARCHAR, CASE WHEN {column}::VARCHAR IS NULL THEN '-' "
            f"ELSE '+' || {column}::VARCHAR END) AS {column}"
        )
    if "UNION(" in kind or "VARIANT" in kind:
        raise SourceUnavailable(
            f"Column {name!r} has type {kind}, which has no digest that separates all values.",
            hint="Anchor on another column.",
        )
    return (
        f"{column}::VARCHAR AS {column}"
        if any(word in kind for word in _INEXACT_ARROW_TYPES)
        else column
    )
