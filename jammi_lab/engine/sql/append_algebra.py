"""Append algebra: whether the rows of a statement over an input that only gained rows follow from
its former rows and its rows over the new rows alone, and how the two are merged.

The decision is made on DuckDB's unoptimized plan over empty replicas, by an allowlist of operators:
anything that is not listed refuses the statement. A part of a plan is *linear* when its rows over
`old + new` are its rows over `old` plus its rows over `new`.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb

from jammi_lab.core.identifiers import quote_identifier
from jammi_lab.engine.sql import float_sums
from jammi_lab.engine.sql.allowlist import walk_nodes
from jammi_lab.engine.sql.equal_values import bound_plan
from jammi_lab.engine.sql.parse import ParsedStatement
from jammi_lab.engine.sql.read_set import InputSchemas, replica_tables

Node = dict[str, Any]
BASE = "__jammi_base"
"""The name of the former rows in a merging statement."""
PARTIAL_COLUMN = "__jammi_partial_"
"""The names of columns of partial sums begin so; the position of the sum follows."""

_ROW_EXPRESSIONS = frozenset(
    f"BOUND_{name}"
    for name in "REF COLUMN_REF CONSTANT CAST COMPARISON CONJUNCTION FUNCTION OPERATOR CASE "
    "BETWEEN".split()
)
_DISTINCT_TYPE = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG)INT|U?INTEGER|HUGEINT|DECIMAL(\(\d+,\d+\))?|VARCHAR|DATE|TIME|"
    r"TIMESTAMP(_S|_MS|_NS| WITH TIME ZONE)?|UUID|BLOB"
)
"""Types whose equal values are identical, so that it does not matter which of them is kept. Not
among them: floating point (0.0 and -0.0), intervals, and everything nested."""
_PLAIN_TYPE = re.compile(_DISTINCT_TYPE.pattern + "|FLOAT|DOUBLE")
"""Types that a result table gives back as the engine computed them."""
_FLOAT = re.compile("FLOAT|DOUBLE")
_EXACT_NUMBER = re.compile(r"BOOLEAN|U?(TINY|SMALL|BIG)INT|U?INTEGER|HUGEINT|DECIMAL(\(\d+,\d+\))?")
_MERGING_FUNCTIONS = {
    "count": "sum",
    "count_star": "sum",
    "sum": "sum",
    "min": "min",
    "max": "max",
    "bool_and": "bool_and",
    "bool_or": "bool_or",
}
"""The aggregate that merges partial values of an aggregate."""
_FLOAT_MERGING_FUNCTIONS = {
    "sum": float_sums.SUM,
    "avg": float_sums.AVERAGE,
    "mean": float_sums.AVERAGE,
    "min": float_sums.MINIMUM,
    "max": float_sums.MAXIMUM,
}
"""The same for floating-point numbers. Of sums and averages, partial sums are merged."""


class NotIncremental(Exception):
    """The statement is not in the algebra; the argument says why, as one clause."""


@dataclass(frozen=True)
class AppendRule:
    """How former rows and rows over the new input rows are merged."""

    kind: Literal["rows in order", "rows", "distinct", "group by"]
    functions: tuple[str | None, ...] = ()
    """For `group by`: by output column the merging aggregate, None for a grouping column."""

    @property
    def has_floats(self) -> bool:
        """Whether the statement must be run in its exact form (`float_sums`)."""
        return any(f in _FLOAT_MERGING_FUNCTIONS.values() for f in self.functions)

    @property
    def partial_columns(self) -> list[int]:
        """The positions of columns of which partial sums are merged."""
        partial = (float_sums.SUM, float_sums.AVERAGE)
        return [i for i, function in enumerate(self.functions) if function in partial]

    def partial_output(self, output: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The columns of the rows that are merged: partial sums in place of sums and averages."""
        partial = self.partial_columns
        return [
            (name, float_sums.PARTIAL_TYPE if i in partial else kind)
            for i, (name, kind) in enumerate(output)
        ]

    def total_statement(self, output: Sequence[tuple[str, str]], rows: str) -> str:
        """The SELECT of the output columns from that of `partial_output`, whose partial sums follow
        them."""
        partial = self.partial_columns
        names = [quote_identifier(name) for name, _ in output]
        columns = [
            f"{self.functions[i]}_of({name}) AS {name}" if i in partial else name
            for i, name in enumerate(names)
        ]
        columns += [f"{names[i]} AS {PARTIAL_COLUMN}{i}" for i in partial]
        return f"SELECT {', '.join(columns)} FROM {_rows_of(rows, output)}"

    @property
    def keeps_order(self) -> bool:
        """Whether the former rows come first, unsorted. The new rows must then be the last."""
        return self.kind == "rows in order"

    def merging_statement(self, output: Sequence[tuple[str, str]], delta: str) -> str:
        """The SELECT that merges the rows of `BASE` with those of the SELECT `delta`, without an
        order. Both have the columns `output`, as has the result."""
        names = [quote_identifier(name) for name, _ in output]
        new_rows = f"SELECT {_cast_columns(output)} FROM {_rows_of(delta, output)}"
        rows = f"{base_statement(output)} UNION ALL {new_rows}"
        if self.kind == "distinct":
            return f"SELECT DISTINCT * FROM ({rows})"
        if self.kind != "group by":
            return rows
        merged = ", ".join(
            _merged_column(name, function, kind)
            for name, function, (_, kind) in zip(names, self.functions, output, strict=True)
        )
        groups = [n for n, function in zip(names, self.functions, strict=True) if function is None]
        suffix = f" GROUP BY {', '.join(groups)}" if groups else ""
        return f"SELECT {merged} FROM ({rows}){suffix}"


def _rows_of(statement: str, output: Sequence[tuple[str, str]]) -> str:
    return f"(\n{statement}\n) AS t({', '.join(quote_identifier(name) for name, _ in output)})"


def _merged_column(name: str, function: str | None, kind: str) -> str:
    if function is None:
        return name
    if kind == float_sums.PARTIAL_TYPE:
        return f"{float_sums.PARTIAL}_of({name}) AS {name}"
    return f"CAST({function}({name}) AS {kind}) AS {name}"


def _cast_columns(output: Sequence[tuple[str, str]]) -> str:
    return ", ".join(
        f"CAST({name} AS {kind}) AS {name}"
        for name, kind in ((quote_identifier(name), kind) for name, kind in output)
    )


def base_statement(output: Sequence[tuple[str, str]]) -> str:
    """The SELECT of `BASE` with the types of the statement."""
    return f"SELECT {_cast_columns(output)} FROM {BASE}"


def append_rule(
    replicas: duckdb.DuckDBPyConnection,
    parsed: ParsedStatement,
    schemas: InputSchemas,
    params: Mapping[str, Any],
    output: Sequence[tuple[str, str]],
    appended: Collection[tuple[str, ...]],
    *,
    keeps_order: bool,
) -> AppendRule:
    """The rule for a SELECT when only the inputs named in `appended` gained rows. `keeps_order`:
    the statement only filters and projects one input, in its order. Raises NotIncremental."""
    with replica_tables(replicas, schemas) as (cursor, _, tables):
        growing = {name.rpartition(".")[2] for name, p in tables.items() if p in appended}
        root = _plan(cursor, parsed.probe, params)
    for part in walk_nodes(root):
        expression = part.get("expression_class")
        if expression is not None and expression not in _ROW_EXPRESSIONS | {"BOUND_AGGREGATE"}:
            raise NotIncremental(f"{_words(expression.removeprefix('BOUND_'))} in the statement")
    rule = _Algebra(growing).rule(root)
    if rule.kind == "rows" and keeps_order:
        rule = AppendRule("rows in order")
    _check_types(rule, output)
    return rule


def _plan(cursor: duckdb.DuckDBPyConnection, sql: str, params: Mapping[str, Any]) -> Node:
    try:
        return bound_plan(cursor, sql, params)
    except (duckdb.Error, ValueError, KeyError, RecursionError):
        raise NotIncremental("its plan cannot be read") from None


def _check_types(rule: AppendRule, output: Sequence[tuple[str, str]]) -> None:
    for i, (name, kind) in enumerate(output):
        is_settled = rule.keeps_order or (rule.functions and rule.functions[i] is not None)
        allowed = _PLAIN_TYPE if is_settled else _DISTINCT_TYPE
        if allowed.fullmatch(kind) is None:
            raise NotIncremental(f"column {name} has the type {kind}")


def _words(name: str) -> str:
    return name.replace("_", " ")


class _Algebra:
    """The evaluation of one plan. `growing` are the replicas of the inputs that gained rows."""

    def __init__(self, growing: Collection[str]) -> None:
        self._growing = growing
        self._is_linear_cte: dict[int, bool] = {}

    def rule(self, root: Node) -> AppendRule:
        """The rule of a whole plan. Raises NotIncremental."""
        while root["type"] == "LOGICAL_MATERIALIZED_CTE":
            root = self._enter_cte(root)
        if root["type"] == "LOGICAL_DISTINCT":
            if root.get("distinct_type") != "DISTINCT":
                raise NotIncremental("DISTINCT ON in the statement")
            [rows] = root["children"]
            self._require_linear(rows, below_distinct=True)
            return AppendRule("distinct")
        indexes, below = _followed_projections(root)
        if below["type"] == "LOGICAL_AGGREGATE_AND_GROUP_BY" and indexes is not None:
            return self._group_by(below, indexes)
        self._require_linear(root)
        return AppendRule("rows")

    def _enter_cte(self, node: Node) -> Node:
        definition, body = node["children"]
        self._is_linear_cte[node["table_index"]] = self._is_linear(definition)
        return dict(body)

    def _group_by(self, node: Node, indexes: Sequence[int]) -> AppendRule:
        groups, aggregates = node.get("groups") or [], node.get("expressions") or []
        if node.get("grouping_sets") not in ([], [list(range(len(groups)))]):
            raise NotIncremental("several grouping sets in the statement")
        if set(range(len(groups))) - set(indexes):
            raise NotIncremental("a grouping column is not in the output")
        for group in groups:
            if _DISTINCT_TYPE.fullmatch(_type_of(group)) is None:
                raise NotIncremental(f"GROUP BY a {_type_of(group)}")
        if any(_contains_aggregate(part) for part in (*groups, *_inner(aggregates))):
            raise NotIncremental("nested aggregates")
        self._require_linear(node["children"][0])
        columns = [None if i < len(groups) else aggregates[i - len(groups)] for i in indexes]
        return AppendRule("group by", tuple(c and _merging_function(c) for c in columns))

    def _require_linear(self, node: Node, *, below_distinct: bool = False) -> None:
        if below_distinct and node["type"] == "LOGICAL_UNION":
            node = {**node, "setop_all": True}  # DISTINCT makes UNION and UNION ALL the same
        if not self._is_linear(node):
            raise NotIncremental("a part of the statement does not read that input")

    def _is_linear(self, node: Node) -> bool:
        """Whether the rows are linear in the growing inputs; False when they do not depend on them.
        Raises NotIncremental when they depend on them in another way, and for every operator that
        is not listed."""
        kind, children = node["type"], node.get("children") or []
        if kind != "LOGICAL_AGGREGATE_AND_GROUP_BY" and any(
            _contains_aggregate(e) for e in node.get("expressions") or ()
        ):
            raise NotIncremental("an aggregate below the statement")
        match kind:
            case "LOGICAL_GET" if node.get("name") == "seq_scan":
                return node["function_data"]["table"] in self._growing
            case "LOGICAL_CTE_REF" if node["cte_index"] in self._is_linear_cte:
                return self._is_linear_cte[node["cte_index"]]
            case "LOGICAL_MATERIALIZED_CTE":
                return self._is_linear(self._enter_cte(node))
            case "LOGICAL_PROJECTION" | "LOGICAL_FILTER":
                return self._is_linear(children[0])
            case "LOGICAL_COMPARISON_JOIN" | "LOGICAL_ANY_JOIN" | "LOGICAL_CROSS_PRODUCT":
                return self._is_linear_join(node)
            case "LOGICAL_UNION" if node.get("setop_all"):
                linear = [self._is_linear(child) for child in children]
                if any(linear) != all(linear):
                    raise NotIncremental("a part of a UNION ALL does not read that input")
                return all(linear)
        raise NotIncremental(f"{_words(kind.removeprefix('LOGICAL_'))} in the statement")

    def _is_linear_join(self, node: Node) -> bool:
        if node.get("join_type", "INNER") != "INNER":
            raise NotIncremental(f"{node['join_type']} JOIN in the statement")
        left, right = (self._is_linear(child) for child in node["children"])
        if left and right:
            raise NotIncremental("a join of an input with itself")
        return left or right


def _followed_projections(node: Node) -> tuple[list[int] | None, Node]:
    """The node below projections that only select columns, with the positions of its columns;
    None when a projection computes something, or there is none."""
    indexes: list[int] | None = None
    while node["type"] == "LOGICAL_PROJECTION":
        expressions = node["expressions"]
        if any(e["expression_class"] != "BOUND_REF" for e in expressions):
            return None, node
        selected = [e["index"] for e in expressions]
        indexes = selected if indexes is None else [selected[i] for i in indexes]
        [node] = node["children"]
    return indexes, node


def _merging_function(aggregate: Node) -> str:
    name, arguments = aggregate["name"], [_type_of(a) for a in aggregate.get("children") or ()]
    if name not in (*_MERGING_FUNCTIONS, *_FLOAT_MERGING_FUNCTIONS) or len(arguments) > 1:
        raise NotIncremental(f"{name}() in the statement")
    if aggregate.get("aggregate_type") != "NON_DISTINCT":
        raise NotIncremental(f"{name}(DISTINCT …) in the statement")
    if aggregate.get("order_bys"):
        raise NotIncremental(f"{name}(… ORDER BY …) in the statement")
    if name in _FLOAT_MERGING_FUNCTIONS and arguments and _FLOAT.fullmatch(arguments[0]):
        return _FLOAT_MERGING_FUNCTIONS[name]
    if name == "sum" and not all(map(_EXACT_NUMBER.fullmatch, arguments)):
        raise NotIncremental(f"sum() of a {arguments[0]}")
    if name in ("min", "max") and not all(map(_DISTINCT_TYPE.fullmatch, arguments)):
        raise NotIncremental(f"{name}() of a {arguments[0]}")
    if name not in _MERGING_FUNCTIONS:
        raise NotIncremental(f"{name}() of a {arguments[0]}")
    return _MERGING_FUNCTIONS[name]


def _type_of(expression: Node) -> str:
    sql_type = expression.get("return_type") or (expression.get("value") or {}).get("type") or {}
    info = sql_type.get("type_info") or {}
    if info.get("alias") or info.get("collation"):
        return f"{sql_type.get('id')} {info}"  # JSON is a VARCHAR with an alias
    return str(sql_type.get("id"))


def _inner(aggregates: Sequence[Node]) -> Iterator[Any]:
    for aggregate in aggregates:
        yield aggregate.get("children")
        yield aggregate.get("filter")


def _contains_aggregate(expression: Any) -> bool:
    return any(n.get("expression_class") == "BOUND_AGGREGATE" for n in walk_nodes(expression))
