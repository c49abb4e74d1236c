"""What is particular to releases of DuckDB: optimizers that return wrong rows, of which
docs/engine-faults.md lists the reports, and what differs between 1.5 and 2. The syntax trees and
plans of 2 are brought into the form of 1.5, which the rest of the engine reads, and by which
definitions are hashed.

DuckDB 2 writes constants, types, arguments and set operations in another way, and has syntax of its
own. What 1.5 has no form for becomes a node that the allowlist refuses, and so does each key that
is not known here.
"""

import contextlib
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import duckdb

from jammi_lab.core.errors import ExtensionMissing
from jammi_lab.core.identifiers import quote_identifier, sql_literal

IS_2 = duckdb.__version__.startswith("2.")
if IS_2:  # of rows that are few, or have to be complete before the first is used
    warnings.filterwarnings("ignore", "Arrow output on a DB-API result", module=r"jammi_lab\.")

Node = dict[str, Any]
BoundExpression = Callable[[str], Node]
"""An expression without columns as DuckDB binds it. Raises ValueError."""

SETTINGS: dict[str, bool | str] = (
    {"error_on_division_by_zero": False, "lambda_syntax": "ENABLE_SINGLE_ARROW"} if IS_2 else {}
)
"""What makes DuckDB 2 return the rows that 1.5 returns."""
ENVIRONMENT: dict[str, str] = (
    {"release": ".".join(duckdb.__version__.split(".")[:2])} if IS_2 else {}
)
"""The part of every definition by which tables of another release are computed again. It is not by
function: `mean` of decimals, `quantile_cont`, `mad` and some 30 others return other values in 2.0,
many another type."""
_OPTIMIZERS = frozenset(
    """
    build_side_probe_side column_lifetime common_aggregate common_subexpressions common_subplan
    compressed_materialization cte_filter_pusher cte_inlining deliminator duplicate_groups
    empty_result_pullup expression_rewriter extension filter_pullup filter_pushdown in_clause
    join_elimination join_filter_pushdown join_order late_materialization limit_pushdown
    materialized_cte regex_range reorder_filter row_group_pruner sampling_pushdown
    statistics_propagation sum_rewriter top_n top_n_window_elimination unnest_rewriter
    unused_columns window_self_join
    """.split()
)
"""Those of 1.5."""


def _new_optimizers() -> list[str]:
    with duckdb.connect(config={"threads": 1}) as connection:
        names = connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()
    return sorted(name for (name,) in names if name not in _OPTIMIZERS)


NEW_OPTIMIZERS = _new_optimizers() if IS_2 else []
"""Optimizers that 1.5 does not have. They are off: a scan names all columns that are read, and most
reports of wrong rows are about them."""

ALWAYS_OFF = ("common_subplan", "top_n_window_elimination")
"""Off for all statements, which are hardly slower."""
OPTION = "disabled_optimizers"
OFF = ",".join((*ALWAYS_OFF, "deliminator", "join_filter_pushdown", *NEW_OPTIMIZERS))
"""The value of the option for statements to which a fault may apply: others take up to forty times
as long with it."""
_LIMITS = ("LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER")

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
_NAME_KEYS = (
    "catalog_name",
    "catalog",
    "schema_name",
    "schema",
    "table_name",
    "function_name",
    "type_name",
)
_UNKNOWN_OFFSET = 2**64 - 1
_TYPE_NAME = re.compile(r"\w+( \w+)*")
_WRITTEN_AS_SYNTAX = frozenset(
    """
    like_escape list_apply list_value map position struct_extract struct_pack substring timezone
    trim
    """.split()
)
"""Functions that mostly stand for syntax, as `[1, 2]` does. 1.5 names the schema of those."""


def check_release() -> None:
    """Raise ExtensionMissing for a DuckDB that definitions and verdicts were not tried with."""
    if not duckdb.__version__.startswith(("1.5.", "2.")):
        raise ExtensionMissing(
            f"jammi_lab runs on DuckDB 1.5 and 2, and DuckDB {duckdb.__version__} is installed.",
            hint='Run: pip install "duckdb>=1.5.5,<3".',
        )


def arrow_reader(
    cursor: duckdb.DuckDBPyConnection, sql: str, params: Mapping[str, Any], batch_rows: int
) -> Any:
    """A reader of the batches of a statement, which runs as they are read. DuckDB 2 would keep all
    rows of `execute` first."""
    if IS_2:
        return cursor.sql(sql, params=dict(params) or None).to_arrow_reader(batch_rows)
    return cursor.execute(sql, params or None).to_arrow_reader(batch_rows)


def form_of_1_5(node: Node, bound: BoundExpression) -> Node:
    """A node of a tree of DuckDB 2 in the form of 1.5. Its children have it already."""
    for key in _WITHOUT_MEANING:
        node.pop(key, None)
    for key, usual in _USUAL.items():
        if node.get(key, ...) == usual:
            del node[key]
    if "literal" in node:
        return _constant(node, bound)
    if "qualified_name" in node:
        _drop_path(node)
    if node.get("type") == "TABLE_FUNCTION":
        node["function"]["query_location"] = node["query_location"]
    if node.pop("limit_type", None) == "PERCENTAGE":
        node["type"] = "LIMIT_PERCENT_MODIFIER"
    if "arguments" in node:
        _list_arguments(node)
    if "query_node" in node:
        node["query"] = {"node": node.pop("query_node"), "named_param_map": []}
    if node.get("type") == "SET_OPERATION_NODE":
        _nest(node)
    if "type_expr" in node:
        node["cast_type"] = _type(node["type_expr"], bound)
        if node["cast_type"] is not None:
            del node["type_expr"]
    for key in node.keys() - _KEYS:
        node[key] = {"type": key.upper()}
    return node


def plan_form_of_1_5(node: Node) -> Node:
    """A node of a bound plan of DuckDB 2 with the name of its function where 1.5 has it, casts that
    are no functions, and quantiles that are no arguments."""
    if "qname" in node:
        node["name"] = node.pop("qname")["path"][-1]
    if node.get("type") == "OPERATOR_CAST" and "children" in node:
        node["expression_class"] = "BOUND_CAST"
        [node["child"]] = node.pop("children")
    if node.get("type") == "BOUND_AGGREGATE" and "quantiles" in node.get("function_data", ()):
        del node["children"][1:]
    return node


PLAN_HOOK = plan_form_of_1_5 if IS_2 else None


def _drop_path(node: Node) -> None:
    """Remove the path of a name that is no longer than catalog, schema and name."""
    if node["qualified_name"]["path"] == [node[key] for key in _NAME_KEYS if node.get(key)]:
        del node["qualified_name"]


def _list_arguments(call: Node) -> None:
    call["children"] = [_argument(each) for each in call.pop("arguments")]
    if call["function_name"] in _WRITTEN_AS_SYNTAX:
        call["schema"] = call["schema"] or "main"


def _argument(argument: Node) -> Node:
    """The expression of an argument, whose alias is its name."""
    expression: Node = argument["expression"]
    name = argument["name"] or expression["alias"]
    if len(argument) == 2 and expression["alias"] in ("", name):
        return expression | {"alias": name}
    return {"type": "ARGUMENT"}


def _nest(node: Node) -> None:
    """Write a set operation over several queries as operations over two."""
    first, *others = node.pop("children")

    def halved(queries: list[Node]) -> Node:
        if len(queries) == 1:
            return queries[0]
        middle = (len(queries) + 1) // 2
        halves = {"left": halved(queries[:middle]), "right": halved(queries[middle:])}
        return node | {"modifiers": [], "cte_map": {"map": []}} | halves

    node["right"] = halved(others)
    node["left"] = first


def _constant(node: Node, bound: BoundExpression) -> Node:
    """A constant with the type that its text has in SQL."""
    literal = node.pop("literal")
    if literal["kind"] in ("STRING", "BOOLEAN"):
        kind = {"id": "VARCHAR", "type_info": None}
        node["value"] = {"type": kind, "is_null": False, "value": literal["text"]}
    elif literal["kind"] in ("INTEGER", "NUMERIC", "NULL_LITERAL"):
        with contextlib.suppress(ValueError):  # 1e999 has no plan in JSON
            node["value"] = bound(literal["text"] or "NULL")["value"]
    if literal["kind"] == "BOOLEAN":
        node["value"]["value"] = literal["text"].lower()[0]
        return {
            "class": "CAST",
            "type": "OPERATOR_CAST",
            "alias": node["alias"],
            "query_location": _UNKNOWN_OFFSET,
            "child": node | {"alias": ""},
            "cast_type": {"id": "BOOLEAN", "type_info": None},
            "try_cast": False,
        }
    if "value" not in node:
        node["type"] = literal["kind"]
    return node


def _type(node: Node, bound: BoundExpression) -> Node | None:
    """The type that an expression of DuckDB 2 names; None for an expression of another kind."""
    text = _type_text(node)
    if text is None:
        return None
    try:
        found: Node = bound(f"CAST(NULL AS {text})")["return_type"]
    except ValueError:  # there is none, which the binder says with its place
        found = {"id": text, "type_info": None}
    return found


def _type_text(node: Node) -> str | None:
    """The text of a type; None for an expression that is none."""
    if node.get("type") == "VALUE_CONSTANT":
        value = node["value"].get("value")
        return sql_literal(value) if isinstance(value, str) else str(value)
    name = node.get("type_name", "")
    if node.get("class") != "TYPE" or node["schema"] or not _TYPE_NAME.fullmatch(name):
        return None
    parts = [_type_text(part) for part in node["children"]]
    if None in parts:
        return None
    if name == "list":
        return f"{parts[0]}[]"
    if name == "array":
        return f"{parts[0]}[{parts[1]}]"
    aliases = [part["alias"] for part in node["children"]]
    fields = [
        f"{quote_identifier(alias)} {part}" if alias else str(part)
        for alias, part in zip(aliases, parts, strict=True)
    ]
    return f"{name}({', '.join(fields)})" if fields else name


def may_apply(tree: Node) -> bool:
    """Whether a statement has what the faults of the other optimizers need: a query inside of it
    with a LIMIT, below which `join_filter_pushdown` filters, or a query in FROM inside of another
    one inside of it, from which `deliminator` removes outer columns."""
    parts: list[tuple[Any, bool]] = [(tree, False)]  # with whether each is inside of another query
    while parts:
        part, is_inside = parts.pop()
        if isinstance(part, list):
            parts.extend((each, is_inside) for each in part)
        elif isinstance(part, dict):
            if part is not tree and any(m["type"] in _LIMITS for m in part.get("modifiers") or ()):
                return True
            if is_inside and _is_in_from(part):
                return True
            parts.extend((each, is_inside or key == "subquery") for key, each in part.items())
    return False


def _is_in_from(node: Node) -> bool:
    """Whether a node is a query in FROM, or a name that a WITH gives to one."""
    return (node.get("type") == "SUBQUERY" and "class" not in node) or bool(
        (node.get("cte_map") or {}).get("map")
    )
