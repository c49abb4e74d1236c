"""Equal values that are not identical: whether a statement keeps any one of several.

The intervals 30 days and 1 month are equal, and so are 0.0 and -0.0. DISTINCT, GROUP BY, set
operations, `max` and the like keep one of them, which one depends on the order of the rows. Types
come from DuckDB's plan, because such values may arise inside a statement.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from jammi_lab.core.identifiers import ascii_lower, sql_literal
from jammi_lab.engine.sql import float_sums, function_list, releases
from jammi_lab.engine.sql.allowlist import walk_nodes
from jammi_lab.engine.sql.tokens import parameter_offset

Node = dict[str, Any]

_AMBIGUOUS = re.compile(r'"(?:INTERVAL|VARIANT)"')
"""Types with equal values of which a column may contain several forms."""
_FLOAT = re.compile(r'"(?:FLOAT|DOUBLE)"')
_LIMITS = ("LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER")
_PICKING_AGGREGATES = frozenset(
    "histogram histogram_exact max median min quantile quantile_cont quantile_disc".split()
)
"""Of the order-independent aggregates, those that return some of their values."""
_COUNTING_AGGREGATES = frozenset("count count_star count_if countif approx_count_distinct".split())
_ADDING_AGGREGATES = frozenset("avg favg fsum kahan_sum mean sum sumkahan".split())
_ZERO_KEEPING_AGGREGATES = _PICKING_AGGREGATES | {"first", "list", "array_agg"}
_ZERO_KEEPING_FUNCTIONS = frozenset(
    "+ abs greatest least list_value struct_pack struct_extract array_extract epoch".split()
)
"""Functions that return -0.0 only for an argument -0.0."""
_EXACT_NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL|BOOLEAN|FLOAT")
"""Types whose values become no -0.0 when they are cast to DOUBLE, unless they are one."""


@dataclass(frozen=True, slots=True)
class MergedValues:
    """Which equal values a statement may take for one another."""

    ambiguous: bool = False
    """Intervals, variants, or zeros whose sign arises in the statement."""
    stored_floats: bool = False
    """Floating-point numbers of the columns read: relevant if a column contains 0.0 and -0.0."""
    rounds: bool = False
    """Whether it aggregates floating-point numbers, so that last bits depend on their order."""


def merged_values(
    cursor: duckdb.DuckDBPyConnection, sql: str, tree: Node, params: Mapping[str, Any]
) -> tuple[MergedValues, Node | None]:
    """The equal values that a SELECT merges, from its plan on the tables of `cursor`, and that
    plan. When in doubt, ambiguous. None for the plan where none was needed or can be read."""
    if not any(_may_merge(node) for node in walk_nodes(tree)):
        return MergedValues(), None
    try:
        root = bound_plan(cursor, sql, params)
        merged = list(_merged_expressions(root))
        if any(m["type"] in _LIMITS for m in tree.get("modifiers") or ()):
            merged.append((root, _output(root)))
    except (duckdb.Error, ValueError, KeyError, RecursionError):
        return MergedValues(ambiguous=True, rounds=True), None
    kinds = [_types(values) for _, values in merged]
    floats = [entry for entry, kind in zip(merged, kinds, strict=True) if _FLOAT.search(kind)]
    found = MergedValues(
        any(map(_AMBIGUOUS.search, kinds))
        or any(_makes_zero([*values, *_expressions_below(op, root)]) for op, values in floats),
        bool(floats),
        any(map(float_sums.rounds, walk_nodes(root))),
    )
    return found, root


def _may_merge(node: Node) -> bool:
    return bool(
        node.get("type")
        in ("DISTINCT_MODIFIER", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "PIVOT", *_LIMITS)
        or node.get("class") in ("WINDOW", "SUBQUERY")
        or node.get("group_expressions")
        or node.get("aggregate_handling") == "FORCE_AGGREGATES"  # GROUP BY ALL
        or ascii_lower(node.get("function_name") or "") in _uncounting_aggregates()
    )


@functools.cache
def _uncounting_aggregates() -> frozenset[str]:
    return function_list.aggregate_names() - _COUNTING_AGGREGATES


def bound_plan(cursor: duckdb.DuckDBPyConnection, sql: str, params: Mapping[str, Any]) -> Node:
    """The plan of a statement on the tables of `cursor` as it was bound, not optimized. Raises
    duckdb.Error, ValueError, KeyError, RecursionError."""
    text = sql_literal(with_null_parameters(cursor, sql, params))
    plan_query = f"SELECT json_serialize_plan({text}, skip_null := true, optimize := false)"
    [[body]] = cursor.execute(plan_query).fetchall()
    [root] = json.loads(body, object_hook=releases.PLAN_HOOK)["plans"]
    return dict(root)


def with_null_parameters(
    cursor: duckdb.DuckDBPyConnection, sql: str, params: Mapping[str, Any]
) -> str:
    """The statement with NULLs of the parameters' types: a plan with parameters cannot be
    printed."""
    for name, value in params.items():
        [[kind]] = cursor.execute("SELECT typeof($value)", {"value": value}).fetchall()
        null, size = f"CAST(NULL AS {kind})".encode(), len(name.encode()) + 1
        while (offset := parameter_offset(sql, name)) is not None:
            raw = sql.encode()
            sql = (raw[:offset] + null + raw[offset + size :]).decode()
    return sql


def _merged_expressions(root: Node) -> Iterator[tuple[Node, list[Node]]]:
    """Each operator that keeps one of several equal values, with the expressions of these."""
    for op in walk_nodes(root):
        match op.get("type"):
            case "LOGICAL_DISTINCT":
                yield op, op.get("distinct_targets") or _output(op)
            case "LOGICAL_EXCEPT" | "LOGICAL_INTERSECT":
                yield op, _output(op)
            case "LOGICAL_RECURSIVE_CTE" if not op.get("union_all"):
                yield op, _output(op)
            case "LOGICAL_DELIM_JOIN":
                yield op, op.get("duplicate_eliminated_columns") or _output(op)
            case "LOGICAL_AGGREGATE_AND_GROUP_BY" | "LOGICAL_WINDOW":
                yield (
                    op,
                    [*(op.get("groups") or ()), *filter(_is_merging, op.get("expressions") or ())],
                )


def _is_merging(aggregate: Node) -> bool:
    """Whether an aggregate returns one of several equal values, or sees only one of them. `first`
    written by the user is order-sensitive anyway; DuckDB adds it around scalar subqueries."""
    name = ascii_lower(aggregate.get("name") or "")
    if name in _COUNTING_AGGREGATES or name in ("", "first"):
        return False
    if aggregate.get("aggregate_type") == "DISTINCT" or aggregate.get("distinct"):
        return True
    if _AMBIGUOUS.search(_types([aggregate])):
        return name not in _ADDING_AGGREGATES
    return name in _PICKING_AGGREGATES or name not in function_list.ORDER_INDEPENDENT_AGGREGATES


def _output(op: Node) -> list[Node]:
    """The output expressions of an operator: those of the projections below it."""
    if op["type"] == "LOGICAL_PROJECTION":
        return list(op["expressions"])
    children = op.get("children") or ()
    return [expression for child in children for expression in _output(child)] or [op]


def _types(expressions: list[Node]) -> str:
    """The types of expressions, of their direct arguments, and of what an aggregate is ordered by,
    as JSON."""
    kinds = list[Any]()
    for e in expressions:
        kinds.append(e.get("return_type", e.get("returned_types")))
        kinds += map(_type_of, e.get("children") or ())
        orders = (e.get("order_bys") or {}).get("orders") or ()
        kinds += (_type_of(order["expression"]) for order in orders)
    return json.dumps(kinds)


def _type_of(expression: Node) -> Any:
    return expression.get("return_type") or (expression.get("value") or {}).get("type")


def _expressions_below(op: Node, root: Node) -> Iterator[Node]:
    """The expressions whose values an operator may get from the operators below it, and if there is
    a CTE among them, from any operator of the plan."""
    children = op.get("children") or []
    # a correlated subquery is evaluated once for equal values of the outer rows
    outer = children[:1] if op["type"] == "LOGICAL_DELIM_JOIN" else children
    is_cte = any(below.get("type") == "LOGICAL_CTE_REF" for below in walk_nodes(outer))
    for below in walk_nodes(root if is_cte else outer):
        if str(below.get("type")).startswith("LOGICAL_") and below["type"] != "LOGICAL_FILTER":
            yield from below.get("groups") or ()
            yield from below.get("expressions") or ()


def _makes_zero(expressions: list[Any]) -> bool:
    """Whether one of these expressions may return -0.0 for arguments without any."""
    stack = list(expressions)
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            if node.get("name") in _COUNTING_AGGREGATES | _ADDING_AGGREGATES:
                continue
            if _FLOAT.search(json.dumps(node.get("return_type"))) and _is_zero_maker(node):
                return True
            stack += [child for child in node.values() if isinstance(child, dict | list)]
    return False


def _is_zero_maker(expression: Node) -> bool:
    name, arguments = expression.get("name"), expression.get("children") or ()
    match expression.get("expression_class"):
        case "BOUND_FUNCTION":
            return name not in _ZERO_KEEPING_FUNCTIONS and not (name == "-" and len(arguments) == 2)
        case "BOUND_AGGREGATE" | "BOUND_WINDOW":
            return name not in _ZERO_KEEPING_AGGREGATES
        case "BOUND_CAST":
            source = (_type_of(expression.get("child") or {}) or {}).get("id", "")
            return _EXACT_NUMBERS.fullmatch(source) is None or (
                source == "FLOAT" and expression["return_type"]["id"] != "DOUBLE"
            )
    return False
