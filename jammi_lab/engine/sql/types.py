"""Validation of SQL type names. Manifests may come from an untrusted results folder, and their type
names are inserted into statements; only names that DuckDB parses as a type are used."""

import functools
from collections.abc import Mapping

import duckdb

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.core.identifiers import quote_identifier
from jammi_lab.engine.duckdb_instances import with_parser

_NOT_A_TYPE_ERRORS = (
    duckdb.InvalidInputException,
    duckdb.CatalogException,
    duckdb.BinderException,
    duckdb.ParserException,
)
"""The errors of DuckDB for a text that is not a type."""
_COMMON_TYPES = frozenset(
    {"BOOLEAN", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR", "DATE", "TIMESTAMP"}
)
"""Types that are accepted without asking DuckDB."""


@functools.lru_cache(maxsize=4096)
def sql_type(text: str) -> str | None:
    """The type that a text begins with, as DuckDB prints it; None when there is none. A type
    printed by `DESCRIBE` is returned unchanged."""
    if text in _COMMON_TYPES:
        return text

    def read(instance: duckdb.DuckDBPyConnection) -> str:
        with instance.cursor() as cursor:
            return str(cursor.type(text))

    try:
        return with_parser(read)
    except _NOT_A_TYPE_ERRORS:
        return None


def column_definitions(columns: Mapping[str, str]) -> str:
    """The column list of a CREATE TABLE, with types as DuckDB prints them. SchemaMismatch for an
    invalid type."""
    parts = []
    for column, kind in columns.items():
        type_name = sql_type(kind)
        if type_name is None:
            message = f"Column {column!r} has the type {kind[:100]!r}, which is not an SQL type."
            raise SchemaMismatch(message, column=column, expected="an SQL type", actual=kind[:100])

        parts.append(f"{quote_identifier(column)} {type_name}")
    return ", ".join(parts)
