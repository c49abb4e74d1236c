"""What DuckDB's parser reports: the syntax tree of a SELECT, the text of a tree, and SQL types.

Manifests may come from an untrusted results folder, and their type names are inserted into
statements; only names that DuckDB parses as a type are used."""

import functools
import json
from collections.abc import Mapping
from typing import Any

import duckdb

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.core.identifiers import quote_identifier, sql_literal
from jammi_lab.engine.duckdb_instances import with_parser
from jammi_lab.engine.duckdb_messages import DuckDBError
from jammi_lab.engine.sql import releases
from jammi_lab.engine.sql.allowlist import walk_nodes


def tree_of(parser: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any] | DuckDBError:
    """The syntax tree of one SELECT, or the parser's error. Raises MemoryError, duckdb.Error."""
    [[serialized]] = _query_parser(parser, "SELECT json_serialize_sql({}::VARCHAR)", text)
    try:
        body = json.loads(serialized, object_hook=_release_form)
    except RecursionError:
        return DuckDBError("Parser", "Max expression depth")
    if body["error"]:
        if body.get("error_message") == "Allocation failure":
            raise MemoryError
        position = body.get("position")
        return DuckDBError(
            "Parser", body.get("error_message", ""), int(position) if position else None
        )
    if len(body["statements"]) != 1:
        return DuckDBError("Parser", "Exactly one statement is required here.")
    node: dict[str, Any] = body["statements"][0]["node"]
    return node


@functools.lru_cache(maxsize=4096)
def _bound_expression(text: str) -> dict[str, Any]:
    def read(instance: duckdb.DuckDBPyConnection) -> dict[str, Any]:
        template = "SELECT json_serialize_plan('SELECT ' || {}, optimize := false)"
        [[plan]] = _query_parser(instance, template, text)
        body = json.loads(plan)
        if body["error"]:
            raise ValueError(body["error_message"])
        expression: dict[str, Any] = body["plans"][0]["expressions"][0]
        return expression

    return with_parser(read)


def _form_of_1_5(node: dict[str, Any]) -> dict[str, Any]:
    return releases.form_of_1_5(node, _bound_expression)


_release_form = _form_of_1_5 if releases.IS_2 else None


def _query_parser(
    parser: duckdb.DuckDBPyConnection, template: str, text: str
) -> list[tuple[Any, ...]]:
    """The rows of a query about a text. The text is quoted, not bound: the first bound string makes
    DuckDB import pandas, which takes 0.2 s."""
    if "\0" in text:  # a NUL would end the quoted literal
        return parser.cursor().execute(template.format("?"), [text]).fetchall()
    return parser.cursor().execute(template.format(sql_literal(text))).fetchall()


def text_of(parser: duckdb.DuckDBPyConnection, tree: dict[str, Any]) -> str | None:
    """The SQL text that DuckDB prints for a tree; None when it cannot."""
    names = sorted(
        {n["identifier"] for n in walk_nodes(tree) if n.get("type") == "VALUE_PARAMETER"}
    )
    parameter_map = [{"key": name, "value": i} for i, name in enumerate(names, 1)]
    body = json.dumps(
        {"error": False, "statements": [{"node": tree, "named_param_map": parameter_map}]}
    )
    try:
        [[text]] = _query_parser(parser, "SELECT json_deserialize_sql({}::JSON)", body)
    except duckdb.Error:
        return None
    return str(text)


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
