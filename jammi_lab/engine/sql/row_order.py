"""Row order of a statement: whether the plan keeps one, whether the rows depend on it, which
columns a GROUP BY makes unique, and a rewritten text with a total order.

`ordered`: the result is one input (or a VALUES list) that is only filtered, projected or limited.
DuckDB then keeps the input's order, whatever the number of threads.

`order_sensitive`: inputs with the same rows in another order may give other rows. When in doubt,
True. A top-level LIMIT is not order-sensitive when `add_total_order` sorts before it, because rows
that are identical in all output columns are interchangeable. The last
bits of floating-point aggregates are the subject of `float_sums`, values that are equal and not
identical that of `equal_values`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jammi_lab.core import identifiers
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.sql import function_list, tokens
from jammi_lab.engine.sql.allowlist import comparable_form, walk_nodes

Node = dict[str, Any]

_ORDER_KEEPING_OPERATORS = frozenset(
    {
        "SEQ_SCAN",
        "TABLE_SCAN",
        "FILTER",
        "PROJECTION",
        "LIMIT",
        "STREAMING_LIMIT",
        "DUMMY_SCAN",
        "COLUMN_DATA_SCAN",
        "EMPTY_RESULT",
        "EXPRESSION_SCAN",
        "UNNEST",
    }
)
_SCAN_OPERATORS = frozenset(
    {"SEQ_SCAN", "TABLE_SCAN", "COLUMN_DATA_SCAN", "DUMMY_SCAN", "EXPRESSION_SCAN", "EMPTY_RESULT"}
)
_LIMIT_MODIFIERS = ("LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER")
_PEER_WINDOW_FUNCTIONS = {
    "WINDOW_RANK",
    "WINDOW_RANK_DENSE",
    "WINDOW_DENSE_RANK",
    "WINDOW_PERCENT_RANK",
    "WINDOW_CUME_DIST",
}
_SORT_FUNCTIONS = {"list_sort", "array_sort", "list_reverse_sort", "array_reverse_sort"}
_LIST_AGGREGATES = {"list", "array_agg"}
"""Aggregates that return all their values, so that a sorted list of them depends on no order.
DuckDB's parser rewrites `list(x ORDER BY x)` to `list_sort(list(x))`."""
_TEXT_AGGREGATES = {"string_agg", "group_concat", "listagg"}
_PAIR_AGGREGATES = re.compile(r"corr|covar_\w+|regr_\w+|weighted_avg|wavg")
"""Order-independent aggregates of several values of each row. The later arguments of the others are
taken from any one row."""
_LIMIT_KEYWORDS = ("limit", "offset", "fetch")
_GROUP_BY_ALL = "FORCE_AGGREGATES"


def keeps_input_order(tree: Node, operators: Sequence[str]) -> bool:
    """Whether the plan keeps the order of its one input and the statement has no ORDER BY."""
    scans = [o for o in operators if o in _SCAN_OPERATORS]
    has_order_by = any(m["type"] == "ORDER_MODIFIER" for m in tree.get("modifiers") or ())
    return (
        not has_order_by
        and len(scans) == 1
        and all(o in _ORDER_KEEPING_OPERATORS for o in operators)
        and all(_is_order_keeping(n) for n in walk_nodes(tree))
    )


def _is_order_keeping(node: Node) -> bool:
    kind, cls = node.get("type"), node.get("class")
    if kind in (
        "JOIN",
        "SET_OPERATION_NODE",
        "RECURSIVE_CTE_NODE",
        "PIVOT",
        "SHOW_REF",
        "DISTINCT_MODIFIER",
    ) or cls in ("WINDOW", "SUBQUERY"):
        return False
    return not (
        cls == "FUNCTION" and ascii_lower(node["function_name"]) in function_list.aggregate_names()
    ) and not node.get("sample")


def has_limit(tree: Node) -> bool:
    """Whether the statement as a whole has a LIMIT or OFFSET."""
    return any(m["type"] in _LIMIT_MODIFIERS for m in tree.get("modifiers") or ())


def is_order_sensitive(tree: Node, sorts_before_limit: bool) -> bool:
    """Whether the rows may depend on the order of the inputs' rows. `sorts_before_limit` when the
    executed text has a total order before its LIMIT."""
    sorted_lists = {id(n) for n in map(_sorted_list, walk_nodes(tree)) if n is not None}
    for node in walk_nodes(tree):
        if id(node) not in sorted_lists and _is_sensitive_node(node):
            return True
        for modifier in node.get("modifiers") or ():
            if modifier["type"] in _LIMIT_MODIFIERS and (
                node is not tree or not sorts_before_limit
            ):
                return True
    return False


def _sorted_list(node: Node) -> Node | None:
    """The aggregate whose list this call sorts; None for any other node."""
    if ascii_lower(node.get("function_name") or "") not in _SORT_FUNCTIONS:
        return None
    first = (node.get("children") or [{}])[0]
    is_list = first.get("class") == "FUNCTION" and _function_name(first) in _LIST_AGGREGATES
    return first if is_list else None


# A digest of a server's table tells a bag of rows, so their order is not part of what the anchor
# proves: after VACUUM FULL the server gives them otherwise. Sorted by all columns that are read,
# what comes out depends on the bag alone. Queries that are not kept show rows as they come.
def select_in_total_order(
    body: str, schema: Mapping[str, str], columns_read: Collection[str]
) -> str:
    """A SELECT of an input, ordered by all columns read. Types whose equal values may differ are
    also ordered by their text."""
    terms = [identifiers.quote_identifier(column) for column in schema if column in columns_read]
    terms += [
        f"{identifiers.quote_identifier(c)}::VARCHAR"
        for c, kind in schema.items()
        if c in columns_read and re.search("INTERVAL|FLOAT|DOUBLE|TIME WITH", kind)
    ]
    return f"SELECT * FROM ({body}) ORDER BY {', '.join(terms)}" if terms else body


def _is_sensitive_node(node: Node) -> bool:
    kind, cls = node.get("type"), node.get("class")
    if kind == "DISTINCT_MODIFIER":
        return bool(node.get("distinct_on_targets"))
    if kind == "JOIN":
        return node.get("ref_type") in ("POSITIONAL", "ASOF")
    if kind == "COLLATE":
        return True  # different texts may compare as equal, also in a total order
    if kind == "SHOW_REF":
        return node.get("show_type") == "SUMMARY"
    if kind == "RECURSIVE_CTE_NODE":
        return bool(node.get("key_targets"))
    if kind == "TABLE_FUNCTION":
        return node.get("with_ordinality") == "WITH_ORDINALITY"
    if node.get("sample"):
        return True
    if cls == "WINDOW":
        return _is_sensitive_window(node)
    if cls == "FUNCTION":
        return _is_sensitive_aggregate(node)
    return False


def _is_sensitive_window(node: Node) -> bool:
    rows = any("ROWS" in str(node.get(side)) for side in ("start", "end"))
    if node["type"] in _PEER_WINDOW_FUNCTIONS:
        return rows and bool(node.get("arg_orders"))  # with an order of its own it reads the frame
    if node["type"] != "WINDOW_AGGREGATE":
        return True
    return rows or not _is_order_independent(node)


def _is_sensitive_aggregate(node: Node) -> bool:
    name = _function_name(node)
    if name not in function_list.aggregate_names() or _is_order_independent(node):
        return False
    if name not in _LIST_AGGREGATES | _TEXT_AGGREGATES:
        return True
    arguments = [comparable_form(c) for c in node.get("children") or ()]
    orders = [
        comparable_form(o["expression"]) for o in (node.get("order_bys") or {}).get("orders") or ()
    ]
    # list(a ORDER BY a): elements that compare as equal are interchangeable.
    return not arguments or arguments[0] not in orders


def _is_order_independent(node: Node) -> bool:
    """Whether an aggregate gives the same value for its rows in any order. `max(x, n)` does not: it
    returns the n largest, with the `n` of the first row (DuckDB 1.5.5)."""
    name = _function_name(node)
    if name not in function_list.ORDER_INDEPENDENT_AGGREGATES:
        return False
    if _PAIR_AGGREGATES.fullmatch(name):
        return True
    later_arguments = (node.get("children") or [])[1:]
    return not any(
        n.get("class") in ("COLUMN_REF", "POSITIONAL_REFERENCE", "SUBQUERY")
        for n in walk_nodes(later_arguments)
    )


def _function_name(node: Node) -> str:
    return ascii_lower(node["function_name"])


# -- the key that GROUP BY gives


_ABOVE_GROUPS = frozenset(
    "LOGICAL_PROJECTION LOGICAL_FILTER LOGICAL_ORDER_BY LOGICAL_LIMIT LOGICAL_TOP_N "
    "LOGICAL_DISTINCT LOGICAL_WINDOW LOGICAL_CROSS_PRODUCT LOGICAL_MATERIALIZED_CTE".split()
)
"""Operators between a SELECT and its groups that make no rows of a row. But for a projection, the
columns of what they read come first."""


def infer_key(tree: Node, plan: Node, output: Sequence[tuple[str, str]]) -> list[str]:
    """The output columns that are exactly the GROUP BY expressions of a SELECT, by its bound plan;
    empty unless all of these are in the output."""
    is_grouped = tree.get("group_expressions") or tree.get("aggregate_handling") == _GROUP_BY_ALL
    has_one_name_each = len({ascii_lower(name) for name, _ in output}) == len(output)
    if tree.get("type") != "SELECT_NODE" or not is_grouped or not has_one_name_each:
        return []
    columns: list[int | None] = list(range(len(output)))
    while plan["type"] in _ABOVE_GROUPS:
        if plan["type"] == "LOGICAL_PROJECTION":
            selected = [e.get("index") for e in plan["expressions"]]
            columns = [None if column is None else selected[column] for column in columns]
        is_cte = plan["type"] == "LOGICAL_MATERIALIZED_CTE"
        plan = plan["children"][-1 if is_cte else 0]
    groups = list(range(len(plan.get("groups") or ())))
    if plan.get("grouping_sets") not in ([], [groups]) or not set(groups).issubset(columns):
        return []
    return [output[columns.index(group)][0] for group in groups]


# -- a total order


def total_order_positions(
    output: Sequence[tuple[str, str]], key: Sequence[str], unique: Sequence[str]
) -> list[int]:
    """The positions (from 1) of the key columns, then of all others; of the key columns alone when
    they include all of `unique`. Both are named as in the output (`steps/key_check.py`)."""
    names = [name for name, _ in output]
    positions = [names.index(name) + 1 for name in key]
    if not unique or not set(unique) <= set(key):
        positions += range(1, len(names) + 1)
    return list(dict.fromkeys(positions))


def add_total_order(sql: str, tree: Node, positions: Sequence[int]) -> str | None:
    """The statement with its ORDER BY extended by these positions, or with an ORDER BY inserted
    before LIMIT; None when the text has no unique place for it.

    The text is split at keywords outside brackets. The caller must parse the result and compare the
    trees (`is_extension`) before using it.
    """
    if not positions:
        return sql
    raw, top_level_tokens = sql.encode(), tokens.top_level_tokens(sql)
    added = ", ".join(map(str, positions))
    orders = [m for m in tree.get("modifiers") or () if m["type"] == "ORDER_MODIFIER"]
    if any(o["expression"]["type"] == "STAR" for m in orders for o in m["orders"]):
        return sql
    order_by_indexes = []
    for i in range(len(top_level_tokens) - 1):
        if top_level_tokens[i].text == "order" and top_level_tokens[i + 1].text == "by":
            order_by_indexes.append(i)
    if len(order_by_indexes) > 1 or bool(order_by_indexes) != bool(orders):
        return None
    begin = order_by_indexes[0] if order_by_indexes else 0
    limit_offsets = [t.offset for t in top_level_tokens[begin:] if t.text in _LIMIT_KEYWORDS]
    insert_offset = min(limit_offsets) if limit_offsets else len(raw)
    clause = f"\n, {added} " if order_by_indexes else f"\nORDER BY {added} "
    return (raw[:insert_offset] + clause.encode() + raw[insert_offset:]).decode()


def is_extension(original: Node, extended: Node, positions: Sequence[int]) -> bool:
    """Whether the tree `extended` is `original` with exactly these positions appended to its ORDER
    BY."""
    old_terms = [
        o
        for m in original.get("modifiers") or ()
        if m["type"] == "ORDER_MODIFIER"
        for o in m["orders"]
    ]
    new_terms = [
        o
        for m in extended.get("modifiers") or ()
        if m["type"] == "ORDER_MODIFIER"
        for o in m["orders"]
    ]
    added = [o["expression"].get("value", {}).get("value") for o in new_terms[len(old_terms) :]]
    without_order = [
        {**t, "modifiers": [m for m in t.get("modifiers") or () if m["type"] != "ORDER_MODIFIER"]}
        for t in (original, extended)
    ]
    return (
        added == list(positions)
        and without_positions(old_terms) == without_positions(new_terms[: len(old_terms)])
        and without_positions(without_order[0]) == without_positions(without_order[1])
    )


def without_positions(node: Any) -> Any:
    """A tree without the positions in the text. Of equal ones the texts mean the same."""
    if isinstance(node, dict):
        return {k: without_positions(v) for k, v in node.items() if k != "query_location"}
    return [without_positions(v) for v in node] if isinstance(node, list) else node
