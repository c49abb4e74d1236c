"""Row order: whether the plan promises one, whether rows depend on it, which columns a GROUP BY makes unique, and a text with a total order.

`ordered`: the result is one input (or a list of values) filtered, projected, cut: DuckDB keeps the input's order whatever the number of threads.

`order_sensitive`: inputs that are equal as bags of rows may give other rows. When in doubt, yes. Two decisions: a top-level LIMIT is not
sensitive when `total_order` sorts before it cuts, because rows that are equal in every output column can stand for each other; and
floating-point aggregates count as free of order, although their last bits, and the sign of a zero, are not.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from jammi_lab import names
from jammi_lab.engine import functions, tokens
from jammi_lab.engine.gate import nodes
from jammi_lab.errors import SchemaMismatch
from jammi_lab.names import ascii_lower

Node = dict[str, Any]

_KEEPS_ORDER = frozenset(
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
_SCANS = frozenset({"SEQ_SCAN", "TABLE_SCAN", "COLUMN_DATA_SCAN", "DUMMY_SCAN", "EXPRESSION_SCAN", "EMPTY_RESULT"})
_LIMITS = ("LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER")
_PEERS_ONLY = {"WINDOW_RANK", "WINDOW_RANK_DENSE", "WINDOW_DENSE_RANK", "WINDOW_PERCENT_RANK", "WINDOW_CUME_DIST"}
_SORTS = {"list_sort", "array_sort", "list_reverse_sort", "array_reverse_sort"}
"""Their first argument may be a list in any order; DuckDB's parser makes one of them of `list(x ORDER BY x)`."""
_CUT = ("limit", "offset", "fetch")


def ordered(tree: Node, operators: Sequence[str]) -> bool:
    """Whether the plan keeps the order of the one thing it reads and the statement has no ORDER BY of its own."""
    scans = [o for o in operators if o in _SCANS]
    own = any(m["type"] == "ORDER_MODIFIER" for m in tree.get("modifiers") or ())
    return not own and len(scans) == 1 and all(o in _KEEPS_ORDER for o in operators) and all(_plain(n) for n in nodes(tree))


def _plain(node: Node) -> bool:
    kind, cls = node.get("type"), node.get("class")
    if kind in ("JOIN", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "PIVOT", "SHOW_REF", "DISTINCT_MODIFIER") or cls in ("WINDOW", "SUBQUERY"):
        return False
    return not (cls == "FUNCTION" and ascii_lower(node["function_name"]) in functions.aggregates()) and not node.get("sample")


def is_cut(tree: Node) -> bool:
    """Whether the statement as a whole has a LIMIT or OFFSET."""
    return any(m["type"] in _LIMITS for m in tree.get("modifiers") or ())


def order_sensitive(tree: Node, sorts_before_cut: bool) -> bool:
    """Whether the rows may depend on the order of the inputs' rows; `sorts_before_cut`: it is run by a text with a total order before its LIMIT."""
    sorted_lists = {id(n["children"][0]) for n in nodes(tree) if ascii_lower(n.get("function_name") or "") in _SORTS and n.get("children")}
    for node in nodes(tree):
        if id(node) not in sorted_lists and _sensitive(node):
            return True
        for modifier in node.get("modifiers") or ():
            if modifier["type"] in _LIMITS and (node is not tree or not sorts_before_cut):
                return True
    return False


def takes_one_for_another(tree: Node, kinds: Iterable[str]) -> bool:
    """Whether one of several equal values stands for all of them, where equal ones differ: 30 days and 1 month. `kinds`: types of what is read."""
    return any("INTERVAL" in kind for kind in kinds) and any(
        node.get("type") in ("DISTINCT_MODIFIER", "SET_OPERATION_NODE")
        or node.get("group_expressions")
        or (node.get("class") == "FUNCTION" and ascii_lower(node["function_name"]) in functions.aggregates())
        for node in nodes(tree)
    )


def in_total_order(body: str, schema: Mapping[str, str], read: Collection[str]) -> str:
    """A SELECT of an input, with its rows ordered by all columns that are read; by the text, too, of values that may be equal and not the same."""
    terms = [names.quote(column) for column in schema if column in read]
    terms += [f"{names.quote(c)}::VARCHAR" for c, kind in schema.items() if c in read and re.search("INTERVAL|FLOAT|DOUBLE|TIME WITH", kind)]
    return f"SELECT * FROM ({body}) ORDER BY {', '.join(terms)}" if terms else body


def _sensitive(node: Node) -> bool:
    kind, cls = node.get("type"), node.get("class")
    if kind == "DISTINCT_MODIFIER":
        return bool(node.get("distinct_on_targets"))
    if kind == "JOIN":
        return node.get("ref_type") in ("POSITIONAL", "ASOF")
    if kind == "COLLATE":
        return True  # texts that differ may tie, and the ordinals of a total order tie with them
    if kind == "SHOW_REF":
        return node.get("show_type") == "SUMMARY"
    if kind == "RECURSIVE_CTE_NODE":
        return bool(node.get("key_targets"))
    if kind == "TABLE_FUNCTION":
        return node.get("with_ordinality") == "WITH_ORDINALITY"
    if node.get("sample"):
        return True
    if cls == "WINDOW":
        return _window(node)
    if cls == "FUNCTION":
        return _aggregate(node)
    return False


def _window(node: Node) -> bool:
    if node["type"] in _PEERS_ONLY:
        return False
    if node["type"] != "WINDOW_AGGREGATE":
        return True
    rows = any("ROWS" in str(node.get(side)) for side in ("start", "end"))
    return rows or not _order_free(node)


def _aggregate(node: Node) -> bool:
    name = ascii_lower(node["function_name"])
    if name not in functions.aggregates() or _order_free(node):
        return False
    arguments = [bare(c) for c in node.get("children") or ()]
    orders = [bare(o["expression"]) for o in (node.get("order_bys") or {}).get("orders") or ()]
    # list(a ORDER BY a): elements that tie are equal.
    return not (
        orders and arguments and arguments[0] in orders and name in ("list", "array_agg", "string_agg", "group_concat", "listagg", "first", "last")
    )


def _order_free(node: Node) -> bool:
    """Whether a function of a group or window gives the same for its rows in any order. `max(x, n)` gives the n largest, where DuckDB 1.5.5 takes the
    `n` of the first row."""
    several = any(child.get("type") != "VALUE_CONSTANT" for child in (node.get("children") or [])[1:])
    return ascii_lower(node["function_name"]) in functions.ORDER_FREE and not (several and ascii_lower(node["function_name"]) in ("max", "min"))


def bare(node: Any) -> Any:
    """An expression without places, aliases and the case of names: equal ones mean the same in one SELECT."""
    if isinstance(node, dict):
        if node.get("type") == "COLUMN_REF":
            return ("column", tuple(map(ascii_lower, node["column_names"])))
        return tuple((k, bare(v)) for k, v in node.items() if k not in ("query_location", "alias"))
    return tuple(bare(v) for v in node) if isinstance(node, list) else node


# -- the key that GROUP BY gives -----------------------------------------------------------------------------------------------------------


def inferred_key(tree: Node, output: Sequence[tuple[str, str]]) -> list[str]:
    """The output columns that are exactly the GROUP BY expressions, when all of them are put out; else nothing."""
    select = tree.get("select_list") or []
    if tree.get("type") != "SELECT_NODE" or len(select) != len(output) or len({ascii_lower(n) for n, _ in output}) != len(output):
        return []
    if any(n.get("type") == "STAR" or ascii_lower(n.get("function_name") or "") in ("unnest", "generate_subscripts") for n in nodes(select)):
        return []
    if tree.get("aggregate_handling") == "FORCE_AGGREGATES":
        places = [i for i, item in enumerate(select) if not _aggregates(item)]
        return [output[i][0] for i in places] if len(places) < len(select) else []
    groups = tree.get("group_expressions") or []
    if not groups or len(tree.get("group_sets") or [[]]) > 1:
        return []
    found = [_place_of(group, select) for group in groups]
    return [output[i][0] for i in dict.fromkeys(found) if i is not None] if None not in found else []


def _aggregates(item: Node) -> bool:
    return any(n.get("class") == "FUNCTION" and ascii_lower(n["function_name"]) in functions.aggregates() for n in nodes(item))


def _place_of(group: Node, select: Sequence[Node]) -> int | None:
    if group.get("type") == "VALUE_CONSTANT":
        at = group["value"].get("value")
        return at - 1 if isinstance(at, int) and 0 < at <= len(select) else None
    wanted = bare(group)
    for i, item in enumerate(select):
        if bare(item) == wanted or _same_column(item, group):
            return i
    if group.get("type") == "COLUMN_REF" and len(group["column_names"]) == 1:
        name = ascii_lower(group["column_names"][0])
        return next((i for i, item in enumerate(select) if ascii_lower(item.get("alias") or "") == name), None)
    return None


def _same_column(one: Node, other: Node) -> bool:
    """`venue` and `p.venue`: the bare one is not ambiguous, or the statement would not bind."""
    if one.get("type") != "COLUMN_REF" or other.get("type") != "COLUMN_REF":
        return False
    a, b = (list(map(ascii_lower, n["column_names"])) for n in (one, other))
    return a[-1] == b[-1] and 1 in (len(a), len(b)) and max(len(a), len(b)) <= 2


# -- a total order -------------------------------------------------------------------------------------------------------------------------


def ordinals(output: Sequence[tuple[str, str]], key: Sequence[str], unique: Sequence[str]) -> list[int]:
    """Positions of the key, then of every other column; only of the key when it holds all of `unique`. SchemaMismatch for an unknown key column."""
    by_name = {ascii_lower(name): i for i, (name, _) in reversed(list(enumerate(output, 1)))}
    exact = {name: i for i, (name, _) in reversed(list(enumerate(output, 1)))}
    places: list[int] = []
    for name in key:
        at = exact.get(name) or by_name.get(ascii_lower(name))
        if at is None:
            near = names.near(name, exact)
            raise SchemaMismatch(f"The key column {name} is not in the result" + (f"; near: {', '.join(near)}." if near else "."), column=name)
        places.append(at)
    if unique and {ascii_lower(n) for n in unique} <= {ascii_lower(n) for n in key}:
        return list(dict.fromkeys(places))
    return list(dict.fromkeys([*places, *range(1, len(output) + 1)]))


def total_order(sql: str, tree: Node, places: Sequence[int]) -> str | None:
    """The statement with its own ORDER BY extended, or one put in before LIMIT; None when the text has no such place.

    Made by cutting at words outside brackets; the caller parses the answer and compares trees before trusting it.
    """
    if not places:
        return sql
    raw, words = sql.encode(), tokens.top_level(sql)
    added = ", ".join(map(str, places))
    orders = [m for m in tree.get("modifiers") or () if m["type"] == "ORDER_MODIFIER"]
    if any(o["expression"]["type"] == "STAR" for m in orders for o in m["orders"]):
        return sql
    by = [i for i in range(len(words) - 1) if words[i].word == "order" and words[i + 1].word == "by"]
    if len(by) > 1 or bool(by) != bool(orders):
        return None
    begin = by[0] if by else 0
    cuts = [t.at for t in words[begin:] if t.word in _CUT]
    at = min(cuts) if cuts else len(raw)
    clause = f"\n, {added} " if by else f"\nORDER BY {added} "
    return (raw[:at] + clause.encode() + raw[at:]).decode()


def is_extension(before: Node, after: Node, places: Sequence[int]) -> bool:
    """Whether `after` is `before` with exactly these ordinals at the end of its ORDER BY."""
    old = [o for m in before.get("modifiers") or () if m["type"] == "ORDER_MODIFIER" for o in m["orders"]]
    new = [o for m in after.get("modifiers") or () if m["type"] == "ORDER_MODIFIER" for o in m["orders"]]
    added = [o["expression"].get("value", {}).get("value") for o in new[len(old) :]]
    rest = [{**t, "modifiers": [m for m in t.get("modifiers") or () if m["type"] != "ORDER_MODIFIER"]} for t in (before, after)]
    return added == list(places) and _unplaced(old) == _unplaced(new[: len(old)]) and _unplaced(rest[0]) == _unplaced(rest[1])


def _unplaced(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _unplaced(v) for k, v in node.items() if k != "query_location"}
    return [_unplaced(v) for v in node] if isinstance(node, list) else node
