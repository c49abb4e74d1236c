"""What differs between DuckDB 1.5 and 2: settings, and syntax trees and plans, which are brought
into the form of 1.5. The rest of the engine reads that form, and definitions are hashed by it.

DuckDB 2 writes constants, types, arguments and set operations in another way, and has syntax of its
own. What 1.5 has no form for becomes a node that the allowlist refuses, and so does each key that
is not known here.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import duckdb

IS_2 = duckdb.__version__.startswith("2.")

Node = dict[str, Any]
TypeNamed = Callable[[str], str | None]
"""The type that a name stands for; None when there is none."""

SETTINGS: dict[str, bool | str] = (
    {"error_on_division_by_zero": False, "lambda_syntax": "ENABLE_SINGLE_ARROW"} if IS_2 else {}
)
"""What makes DuckDB 2 return the rows that 1.5 returns."""
NEW_OPTIMIZERS = (
    """
    aggregate_function_rewriter aggregate_reuse distinct_aggregate_rewrite grouping_sets
    outer_join_simplification partial_aggregate_pushdown partitioned_execution projection_placement
    projection_pullup redundant_order_keys remote_pushdown scalar_fn_pushdown self_join_aggregate
    type_pushdown window_rewriter
    """.split()
    if IS_2
    else []
)
"""Optimizers that 1.5 does not have. They are off: a scan names all columns that are read, and the
reports about them were not looked through."""

_KEYS = frozenset(
    """
    aggregate_handling aggregates alias aliases arg_orders at_clause case_checks cast_type catalog
    catalog_name child child_type child_types children class collation column column_name_alias
    column_names columns comparison_type condition cte_map cte_name default_expr delim_flipped
    distinct distinct_on_targets duplicate_eliminated_columns else_expr end end_expr entries error
    error_message error_subtype error_type exclude_clause exclude_list expected_names expected_types
    export_state expr expression extension_info filter filter_expr first from_table function
    function_name group_expressions group_sets groups having id identifier ignore_nulls
    include_nulls index input is_null is_operator is_percentage join_type key key_targets left lhs
    limit lower map materialized method modifiers name named_param_map node null_order offset
    offset_expr order_bys orders partitions pivot_enum pivot_expressions pivots position
    qualified_exclude_list qualify query query_location ref_type relation_name rename_list
    replace_list right sample sample_size scale schema schema_name second seed select_list setop_all
    setop_type show_type size source star_expr start start_expr statements subquery subquery_type
    table table_name then_expr try_cast type type_info union_all unit unpivot_names upper
    user_type_modifiers using_columns value values when_expr where_clause width with_ordinality
    literal kind text path type_name
    """.split()
)
"""The keys of 1.5 and, in the last line, those of parts that are turned by the node above."""
_WITHOUT_MEANING = ("query_location_length", "has_ignore_nulls", "is_implicit", "syntax_type")
_USUAL: Node = {
    "is_legacy_function_call": False,
    "payload_aggregates": [],
    "nearest_approx": False,
    "nearest_count": 1,
    "nearest_order_type": "ASCENDING",
    "ranking_expression": None,
    "repeatable": False,
    "sample_rate": -1.0,
    "limit_type": "ROW_COUNT",
}
"""New keys, with what they say of a statement that 1.5 has, too."""
_BOUND_LATER = ("JSON", "ENUM")
"""Types that the parser of 1.5 leaves to the binder."""
_MAX_DIGITS = 38
_OPPOSITES = {
    "COMPARE_EQUAL": "COMPARE_NOTEQUAL",
    "COMPARE_NOTEQUAL": "COMPARE_EQUAL",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHAN",
    "COMPARE_DISTINCT_FROM": "COMPARE_NOT_DISTINCT_FROM",
    "COMPARE_NOT_DISTINCT_FROM": "COMPARE_DISTINCT_FROM",
    "COMPARE_IN": "COMPARE_NOT_IN",
}
_WRITTEN_AS_SYNTAX = frozenset(
    """
    like_escape list_apply list_value map position row struct_extract struct_pack substring timezone
    trim
    """.split()
)
"""Functions that mostly stand for syntax, as `[1, 2]` does. 1.5 names the schema of those."""


def arrow_reader(
    cursor: duckdb.DuckDBPyConnection, sql: str, params: Mapping[str, Any], batch_rows: int
) -> Any:
    """A reader of the batches of a statement, which runs as they are read. DuckDB 2 would keep all
    rows of `execute` first."""
    if IS_2:
        return cursor.sql(sql, params=dict(params) or None).to_arrow_reader(batch_rows)
    return cursor.execute(sql, params or None).to_arrow_reader(batch_rows)


def form_of_1_5(node: Node, type_named: TypeNamed) -> Node:
    """A node of a tree of DuckDB 2 in the form of 1.5. Its children have it already."""
    for key in _WITHOUT_MEANING:
        node.pop(key, None)
    for key, usual in _USUAL.items():
        if node.get(key, ...) == usual:
            del node[key]
    if "literal" in node:
        return _constant(node)
    if "qualified_name" in node:
        _drop_path(node)
    if node.get("type") == "TABLE_FUNCTION" and "query_location" in node:
        node["function"]["query_location"] = node["query_location"]
    if node.pop("limit_type", None) == "PERCENTAGE":
        node["type"] = "LIMIT_PERCENT_MODIFIER"
    if "arguments" in node:
        node["children"] = [_argument(each) for each in node.pop("arguments")]
        if node["function_name"] in _WRITTEN_AS_SYNTAX:
            node["schema"] = node["schema"] or "main"
        if node["type"] in ("WINDOW_LAG", "WINDOW_LEAD"):
            more = [*node["children"][1:], None, None]
            node["children"], node["offset_expr"], node["default_expr"] = (
                node["children"][:1],
                *more[:2],
            )
    if node.get("type") == "LAMBDA" and node["lhs"].get("function_name") == "row":
        node["lhs"]["schema"] = ""
    if node.get("type") == "OPERATOR_NOT":
        node = _negated(node)
    if "star_expr" in node and node["star_expr"] is not None:
        _list_value(node)
    if "query_node" in node:
        node["query"] = {"node": node.pop("query_node"), "named_param_map": []}
    if node.get("type") == "SET_OPERATION_NODE":
        _nest(node)
    if "type_expr" in node:
        node["cast_type"] = _type(node["type_expr"], type_named)
        if node["cast_type"] is not None:
            del node["type_expr"]
    for key in node.keys() - _KEYS:
        node[key] = {"type": key.upper()}
    return node


def plan_form_of_1_5(node: Node) -> Node:
    """A node of a bound plan of DuckDB 2 in the form of 1.5, where casts and comparisons are no
    functions."""
    if "qname" in node:
        node["name"] = node.pop("qname")["path"][-1]
    if node.get("expression_class") == "BOUND_FUNCTION":
        if node["name"] == "__cast":
            [child] = node.pop("children")
            try_cast = node["function_data"]["try_cast"]
            node |= {"expression_class": "BOUND_CAST", "child": child, "try_cast": try_cast}
        elif node["type"].startswith("COMPARE_") and len(node["children"]) == 2:
            left, right = node.pop("children")
            node |= {"expression_class": "BOUND_COMPARISON", "left": left, "right": right}
    return node


PLAN_HOOK = plan_form_of_1_5 if IS_2 else None


def _drop_path(node: Node) -> None:
    """Remove the path of a name that is no longer than catalog, schema and name."""
    prefixes = ("catalog_name", "schema_name", "table_name")
    if "function_name" in node or node.get("class") == "TYPE":
        prefixes = ("catalog", "schema", "function_name" if "function_name" in node else "type_name")
    if node["qualified_name"]["path"] == [node[key] for key in prefixes if node.get(key)]:
        del node["qualified_name"]


def _argument(argument: Node) -> Node:
    """The expression of an argument, whose alias is its name."""
    name, expression = argument.get("name"), argument.get("expression")
    if set(argument) == {"name", "expression"} and name in ("", expression["alias"]):
        return expression
    return {"type": "ARGUMENT"}


def _negated(node: Node) -> Node:
    """NOT over a comparison as the opposite comparison."""
    [child] = node["children"]
    opposite = _OPPOSITES.get(child.get("type", ""))
    return node if opposite is None else child | {"type": opposite, "alias": node["alias"]}


def _list_value(entry: Node) -> None:
    """Write the value or column of an entry of PIVOT or UNPIVOT as a value."""
    expression = entry["star_expr"]
    if expression.get("type") == "VALUE_CONSTANT":
        value = expression["value"]
    elif len(expression.get("column_names") or ()) == 1:
        value = _value("VARCHAR", expression["column_names"][0])
    else:
        return
    entry["star_expr"], entry["values"] = None, [value]


def _nest(node: Node) -> None:
    """Write a set operation over several queries as operations over two."""
    if node.get("left") or len(node.get("children") or ()) < 2:
        return
    first, *others = node.pop("children")

    def halved(queries: list[Node]) -> Node:
        if len(queries) == 1:
            return queries[0]
        middle = (len(queries) + 1) // 2
        halves = {"left": halved(queries[:middle]), "right": halved(queries[middle:])}
        return node | {"modifiers": [], "cte_map": {"map": []}} | halves

    node["right"] = halved(others)
    node["left"] = first


def _value(type_id: str, value: Any, type_info: Node | None = None) -> Node:
    return {"type": {"id": type_id, "type_info": type_info}, "is_null": False, "value": value}


def _constant(node: Node) -> Node:
    """A constant with the type that 1.5 gives it."""
    literal = node.pop("literal")
    kind, text = literal["kind"], literal["text"]
    if kind == "NULL_LITERAL":
        node["value"] = {"type": {"id": "NULL", "type_info": None}, "is_null": True}
    elif kind == "STRING":
        node["value"] = _value("VARCHAR", text)
    elif kind == "BOOLEAN":
        node["value"] = _value("VARCHAR", text[0])
        boolean = {"id": "BOOLEAN", "type_info": None}
        cast = {"class": "CAST", "type": "OPERATOR_CAST", "cast_type": boolean, "try_cast": False}
        position = node["query_location"]
        child = node | {"alias": ""}
        return cast | {"alias": node["alias"], "query_location": position, "child": child}
    elif kind in ("INTEGER", "NUMERIC"):
        node["value"] = _number(text.replace("_", ""))
    else:
        node["type"] = kind
    return node


def _number(text: str) -> Node:
    if re.fullmatch(r"-?\d+", text):
        number = int(text)
        if abs(number) < 2**31:
            return _value("INTEGER", number)
        if -(2**63) <= number < 2**63:
            return _value("BIGINT", number)
        if abs(number) < 2**127:
            parts = {"upper": number >> 64, "lower": number % 2**64}
            return _value("HUGEINT", parts)
    whole, point, fraction = text.lstrip("-").partition(".")
    width = len(whole) + len(fraction)
    if point and (whole + fraction).isdigit() and width <= _MAX_DIGITS:
        sign = -1 if text.startswith("-") else 1
        return _value("DECIMAL", sign * int(whole + fraction), _decimal(width, len(fraction)))
    return _value("DOUBLE", float(text))


def _info(kind: str, **more: Any) -> Node:
    return {"type": f"{kind}_TYPE_INFO", "alias": "", "extension_info": None, **more}


def _decimal(width: int, scale: int) -> Node:
    return _info("DECIMAL", width=width, scale=scale)


def _fields(types: list[tuple[str, Node]]) -> Node:
    fields = [{"first": name, "second": kind} for name, kind in types]
    return _info("STRUCT", child_types=fields)


def _type(node: Node, type_named: TypeNamed) -> Node | None:
    """The type that an expression of DuckDB 2 names, as 1.5 writes it; None for an expression of
    another kind."""
    parts = node.get("children") or []
    values = [part["value"] for part in parts if part.get("type") == "VALUE_CONSTANT"]
    types = [
        (part["alias"], _type(part, type_named)) for part in parts if part.get("class") == "TYPE"
    ]
    is_plain = node.get("class") == "TYPE" and "qualified_name" not in node
    if not is_plain or len(values) + len(types) < len(parts) or None in dict(types).values():
        return None
    typed = str(node["type_name"])
    name = typed.upper()
    if types:
        return _nested_type(name, types, values)
    if name == "DECIMAL" and values:
        width, scale = [*values, _value("INTEGER", 0)][:2]
        return {"id": name, "type_info": _decimal(width["value"], scale["value"])}
    type_id = type_named(name) if re.fullmatch(r"\w+( \w+)*", name) else None
    if type_id is None or name in _BOUND_LATER or (values and name != "VARCHAR"):
        names = {"name": typed, "catalog": node["catalog"], "schema": node["schema"]}
        return {"id": "UNBOUND", "type_info": _info("UNBOUND", **names, user_type_modifiers=values)}
    if type_id.startswith("DECIMAL"):
        return {"id": "DECIMAL", "type_info": _decimal(18, 3)}
    if type_id == "GEOMETRY":
        return {"id": "BLOB", "type_info": _info("GENERIC") | {"alias": type_id}}
    return {"id": type_id, "type_info": None}


def _nested_type(name: str, types: list[tuple[str, Any]], values: list[Node]) -> Node | None:
    """A type with the types of its parts, by their names."""
    first = types[0][1]
    if name == "LIST":
        info = _info("LIST", child_type=first)
    elif name == "ARRAY" and values:
        info = _info("ARRAY", child_type=first, size=values[0]["value"])
    elif name == "MAP" and len(types) == 2:
        entry = _fields([("key", first), ("value", types[1][1])])
        info = _info("LIST", child_type={"id": "STRUCT", "type_info": entry})
    elif name == "STRUCT":
        info = _fields(types)
    elif name == "UNION":
        info = _fields([("", {"id": "UTINYINT", "type_info": None}), *types])
    else:
        return None
    return {"id": name, "type_info": info}
