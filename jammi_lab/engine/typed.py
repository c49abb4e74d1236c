"""SQL types as texts. A results folder may come from anywhere, and what it calls a type is put into statements: only what DuckDB reads as one is."""

import functools
from collections.abc import Mapping

import duckdb

from jammi_lab.engine.parser import parsing
from jammi_lab.errors import SchemaMismatch
from jammi_lab.names import quote

_NONE = (duckdb.InvalidInputException, duckdb.CatalogException, duckdb.BinderException, duckdb.ParserException)
"""What DuckDB raises for a text that is no type."""
_COMMON = frozenset({"BOOLEAN", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR", "DATE", "TIMESTAMP"})
"""Types for which nobody need be asked."""


@functools.lru_cache(maxsize=4096)
def sql_type(text: str) -> str | None:
    """The type that a text begins with, as DuckDB writes it: the very text, when it is a type as `DESCRIBE` tells it. None when it names none."""
    if text in _COMMON:
        return text

    def read(instance: duckdb.DuckDBPyConnection) -> str:
        with instance.cursor() as cursor:
            return str(cursor.type(text))

    try:
        return parsing(read)
    except _NONE:
        return None


def declared(columns: Mapping[str, str]) -> str:
    """Columns and their types as CREATE TABLE takes them, in DuckDB's own words. SchemaMismatch for what is no type."""
    parts = []
    for column, kind in columns.items():
        known = sql_type(kind)
        if known is None:
            said = f"Column {column!r} is said to be {kind[:100]!r}, which is no SQL type."
            raise SchemaMismatch(said, column=column, expected="an SQL type", actual=kind[:100])
        parts.append(f"{quote(column)} {known}")
    return ", ".join(parts)
