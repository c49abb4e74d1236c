"""DuckDB's syntax tree of a SELECT, and the text of a tree."""

import json
from typing import Any

import duckdb

from jammi_lab.core.identifiers import sql_literal
from jammi_lab.engine.duckdb_messages import DuckDBError
from jammi_lab.engine.sql.allowlist import walk_nodes


def tree_of(parser: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any] | DuckDBError:
    """The syntax tree of one SELECT, or the parser's error."""
    [[serialized]] = _query_parser(parser, "SELECT json_serialize_sql({}::VARCHAR)", text)
    try:
        body = json.loads(serialized)
    except RecursionError:
        return DuckDBError("Parser", "Max expression depth")
    if body["error"]:
        position = body.get("position")
        return DuckDBError(
            "Parser", body.get("error_message", ""), int(position) if position else None
        )
    if len(body["statements"]) != 1:
        return DuckDBError("Parser", "Exactly one statement is required here.")
    node: dict[str, Any] = body["statements"][0]["node"]
    return node


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
