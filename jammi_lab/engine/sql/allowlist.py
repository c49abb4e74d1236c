"""The allowlist: a check of a statement's syntax tree. Node types and functions that it does not
know are rejected.

The tree is DuckDB's own (`json_serialize_sql`). Every subtree is checked, except the value of a
constant and the type of a cast.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jammi_lab.core import identifiers
from jammi_lab.core.errors import JammiError, SqlError, StatementNotAllowed
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.core.suggestions import answer_to
from jammi_lab.engine.sql import function_list, releases

Node = dict[str, Any]

_ALLOWED_NODE_TYPES = frozenset(
    """
    SELECT_NODE SET_OPERATION_NODE RECURSIVE_CTE_NODE CTE_NODE BASE_TABLE SUBQUERY JOIN
    TABLE_FUNCTION EXPRESSION_LIST EMPTY PIVOT SHOW_REF COLUMN_DATA DISTINCT_MODIFIER LIMIT_MODIFIER
    LIMIT_PERCENT_MODIFIER ORDER_MODIFIER ASCENDING DESCENDING ORDER_DEFAULT COLUMN_REF STAR
    CONSTANT VALUE_CONSTANT VALUE_PARAMETER FUNCTION CASE_EXPR LAMBDA LAMBDA_REF OPERATOR_CAST
    POSITIONAL_REFERENCE VALUE_DEFAULT COLLATE CONJUNCTION_AND CONJUNCTION_OR ARRAY_EXTRACT
    ARRAY_SLICE STRUCT_EXTRACT ARRAY_CONSTRUCTOR ARROW GROUPING_FUNCTION TYPE REGULAR REGULAR_USING
    NATURAL CROSS POSITIONAL ASOF DEPENDENT ANY EXISTS NOT_EXISTS SCALAR ROW_NUMBER RANK RANK_DENSE
    NTILE PERCENT_RANK CUME_DIST FIRST_VALUE LAST_VALUE NTH_VALUE LEAD LAG FILL
    """.split()
)
_ALLOWED_NODE_FAMILIES = re.compile(r"(COMPARE|OPERATOR|WINDOW|SUBQUERY)_[A-Z_]+")
TABLE_FUNCTIONS = frozenset(
    {"unnest", "range", "generate_series", "repeat", "json_each", "json_tree"}
)
JAMMI_FUNCTIONS = ("jammi_version", "search", "neighbors", "read_parquet", "read_csv", "read_json")
"""Table functions that are substituted before this check; listed here for near names."""
_READING_FUNCTIONS = re.compile(
    r"(?:postgres|pg|mysql|sqlite|delta|iceberg)_\w+|\w+_secrets?|read_\w+|\w*_scan(_\w+)?|scan_\w+"
    r"|glob|sniff_csv|parquet_\w+|st_read\w*|\w+_query|\w+_attach|from_substrait\w*"
)
"""Functions that read external data."""
_SOURCE_HINT = (
    "Add what it reads as a source, ws.sources.add('name', 'location'): FROM name or name.table."
)
_COUNTS_AND_EXTREMES = ("count", "count_star", "min", "max")
_REDUCTIONS = ("list_reduce", "array_reduce", "reduce")
_LIST_AGGREGATES = {"list_aggr", "list_aggregate", "array_aggr", "array_aggregate", "aggregate"}
# Any other prefix of a function is a column: `x.f()` is a method call.
_SYSTEM_SCHEMAS = {"system", "temp", "memory", "pg_catalog", "information_schema"}
_DEFAULT_SCHEMA = "main"
# In some places DuckDB resolves these views before a CTE of the same name.
_SYSTEM_VIEWS = re.compile(r"duckdb_\w+|pragma_\w+|pg_\w+|sqlite_(temp_)?(master|schema)")
_OFFSET = re.compile(r"\d[+-]\d{1,2}(:\d\d){0,2}$")
_UNKNOWN_OFFSET = 2**64 - 1


@dataclass(frozen=True, slots=True)
class TableRef:
    """A table name in FROM that is not a CTE."""

    parts: tuple[str, ...]
    offset: int | None
    """Byte offset in the checked text."""


@dataclass
class StatementReads:
    """The tables, functions and sources of non-determinism of a syntax tree."""

    tables: list[TableRef] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    volatile: set[str] = field(default_factory=set)
    reads_clock: bool = False
    has_zoned_times: bool = False
    """Whether it casts to TIME WITH TIME ZONE."""
    value_words: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    """Column references that may be functions (`current_date`, `user`): the number of occurrences
    and the position of the first."""
    aliases: set[str] = field(default_factory=set)
    """Aliases of expressions and columns, ASCII lower case."""


def character_offset(text: str, byte_offset: int | None) -> int | None:
    """The character offset of a byte offset; None when it is unknown."""
    if byte_offset is None or byte_offset >= _UNKNOWN_OFFSET:
        return None
    return len(text.encode("utf-8", "replace")[:byte_offset].decode(errors="ignore"))


def walk_nodes(tree: Any) -> Iterator[Node]:
    """Every dict of a tree, parents first."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(
                child for child in reversed(node.values()) if isinstance(child, dict | list)
            )
        elif isinstance(node, list):
            stack.extend(reversed(node))


def comparable_form(node: Any) -> Any:
    """A comparable form of an expression, without positions, aliases and the case of names. Within
    one SELECT, expressions with equal forms mean the same."""
    if isinstance(node, dict):
        if node.get("type") == "COLUMN_REF":
            return ("column", tuple(map(ascii_lower, node["column_names"])))
        return tuple(
            (k, comparable_form(v)) for k, v in node.items() if k not in ("query_location", "alias")
        )
    return tuple(comparable_form(v) for v in node) if isinstance(node, list) else node


def _are_one(left: Any, right: Any) -> bool:
    """Whether two expressions, in comparable form, are the same, or may be one column."""
    if left[0] == right[0] == "column":
        names = zip(reversed(left[1]), reversed(right[1]), strict=False)
        return all(name == other for name, other in names)
    return bool(left == right)


def check(tree: Node, text: str) -> StatementReads:
    """Check a syntax tree and collect what it reads and calls. Raises StatementNotAllowed or
    SqlError with a position in `text`."""
    return _Checker(text).run(tree)


class _Checker:
    def __init__(self, text: str) -> None:
        self.text = text
        self.reading = StatementReads()

    def run(self, tree: Node) -> StatementReads:
        # A stack instead of recursion: a deep tree must not end in RecursionError.
        stack: list[tuple[Any, frozenset[str]]] = [(tree, frozenset())]
        while stack:
            node, ctes = stack.pop()
            if isinstance(node, list):
                stack.extend((child, ctes) for child in reversed(node))
            elif isinstance(node, dict):
                stack.extend(reversed(self.check_node(node, ctes)))
        return self.reading

    def not_allowed(
        self,
        message: str,
        node: Mapping[str, Any] | None = None,
        hint: str = "",
        near: Sequence[str] = (),
    ) -> JammiError:
        offset = node.get("query_location") if node else None
        return StatementNotAllowed(message, hint=hint, near=near).with_position(
            self.text, character_offset(self.text, offset)
        )

    def check_node(self, node: Node, ctes: frozenset[str]) -> list[tuple[Any, frozenset[str]]]:
        """Check one node; returns its children, each with the CTE names visible to it."""
        kind = node.get("type")
        if isinstance(kind, str) and not (
            kind in _ALLOWED_NODE_TYPES or _ALLOWED_NODE_FAMILIES.fullmatch(kind)
        ):
            raise self.not_allowed(
                f"{kind.replace('_', ' ').capitalize()} is not supported in statements.", node
            )
        children: list[tuple[Any, frozenset[str]]] = []
        if "cte_map" in node:
            ctes = self.visible_ctes(node, ctes, children)
        if kind == "RECURSIVE_CTE_NODE":
            ctes = ctes | {ascii_lower(node["cte_name"])}
        skipped_keys = {"cte_map"}
        if kind == "BASE_TABLE":
            self.check_table(node, ctes)
        elif kind in ("SHOW_REF", "PIVOT"):
            (self.check_show if kind == "SHOW_REF" else self.check_pivot)(node)
        elif kind == "TABLE_FUNCTION":
            skipped_keys.add("function")
            children += self.check_table_function(node, ctes)
        elif node.get("class") == "FUNCTION" or "function_name" in node:
            self.check_function(node)
        elif kind == "COLUMN_REF":
            self.check_column(node)
        elif kind == "VALUE_CONSTANT":
            skipped_keys.add("value")
        elif kind == "OPERATOR_CAST":
            skipped_keys.add("cast_type")
            if function_list.ZONED_TIME in json.dumps(node["cast_type"]):
                self.check_zoned_time(node["child"])
        if node.get("class") == "WINDOW":
            self.check_window(node)
        if node.get("sample"):
            self.reading.volatile.add("sample")
        if "class" in node and node.get("alias"):
            self.reading.aliases.add(ascii_lower(node["alias"]))
        self.reading.aliases |= {
            ascii_lower(a)
            for key in ("column_name_alias", "aliases")
            for a in node.get(key) or ()
            if isinstance(a, str)
        }
        return children + [(child, ctes) for key, child in node.items() if key not in skipped_keys]

    def visible_ctes(
        self, node: Node, ctes: frozenset[str], children: list[tuple[Any, frozenset[str]]]
    ) -> frozenset[str]:
        """The CTE names visible in a node. A CTE is visible after its definition within its
        node."""
        for entry in node["cte_map"]["map"]:
            name, body = entry["key"], entry["value"]
            if _SYSTEM_VIEWS.fullmatch(ascii_lower(name)):
                raise self.not_allowed(
                    f"A CTE cannot be named {name}: DuckDB has a view of that name.",
                    hint="Rename the CTE.",
                )
            children.append((body["query"]["node"], ctes))
            children.append(({key: value for key, value in body.items() if key != "query"}, ctes))
            ctes = ctes | {ascii_lower(name)}
        return ctes

    def check_table(self, node: Node, ctes: frozenset[str]) -> None:
        if node.get("at_clause"):
            raise self.not_allowed(
                "AT (…) is not available.",
                node,
                "Read FROM jammi_version('name', 1); a version of a source is a source of its own.",
            )
        parts = tuple(
            p for p in (node["catalog_name"], node["schema_name"], node["table_name"]) if p
        )
        if not parts:
            raise self.not_allowed(
                "An empty name in FROM.", node, "Name a source, or a table as jammi.<name>."
            )
        is_cte = ascii_lower(parts[-1]) in ctes and (
            len(parts) == 1 or tuple(map(ascii_lower, parts[:-1])) == ("recurring",)
        )
        if not is_cte:
            offset = node["query_location"]
            self.reading.tables.append(
                TableRef(parts, None if offset >= _UNKNOWN_OFFSET else offset)
            )

    def check_show(self, node: Node) -> None:
        if not node.get("query"):
            raise self.not_allowed(
                "Only SHOW TABLES and SHOW <table> are supported.",
                node,
                "Use SHOW TABLES or DESCRIBE <table>.",
            )

    def check_pivot(self, node: Node) -> None:
        if any(call.get("filter") for call in node.get("aggregates", ())):
            raise self.not_allowed(
                "DuckDB ignores FILTER in PIVOT.",
                node,
                "Filter inside of the call: count(CASE WHEN … THEN x END).",
            )

    def check_table_function(
        self, node: Node, ctes: frozenset[str]
    ) -> list[tuple[Any, frozenset[str]]]:
        call = node["function"]
        name = ascii_lower(call.get("function_name") or "")
        is_unqualified = (
            call["type"] == "FUNCTION"
            and not call.get("catalog")
            and call.get("schema") in ("", None, _DEFAULT_SCHEMA)
        )
        if not is_unqualified or name not in TABLE_FUNCTIONS:
            location = {"query_location": call.get("query_location", node["query_location"])}
            hint, suggestions = _SOURCE_HINT, list[str]()
            if not _READING_FUNCTIONS.fullmatch(name):
                known = [*TABLE_FUNCTIONS, *JAMMI_FUNCTIONS]
                hint = answer_to("read_from", name)
                suggestions = identifiers.near_names(name, known)
            raise self.not_allowed(
                f"{name or 'This'}() cannot be read from.", location, hint, suggestions
            )
        return [(value, ctes) for key, value in call.items() if key not in ("type", "class")]

    def check_function(self, node: Node) -> None:
        name = ascii_lower(node["function_name"])
        schema = ascii_lower(node.get("schema") or "")
        allowed = function_list.allowed_functions().get(name)
        if node.get("catalog") or schema in _SYSTEM_SCHEMAS:
            raise self.not_allowed(
                f"The function {name}() cannot be named with a catalog or schema.",
                node,
                f"Write {name}(x): a column is an argument, and no prefix.",
            )
        if allowed is None:
            raise self.unknown_function_error(name, node)
        if name in _REDUCTIONS and len(node.get("children") or ()) > 2 and not releases.IS_2:
            raise self.not_allowed(
                f"{name}() with an initial value may be wrong in DuckDB 1.5.",
                node,
                "Write the value into a list that is not NULL: list_reduce(list_prepend(0, l), "
                "lambda a, x: …).",
            )
        self.reading.functions.add(name)
        is_volatile = (
            allowed.mark == "volatile"
            or (name == "age" and len(node.get("children") or ()) == 1)
            or self.may_sample(name, node)
        )
        if is_volatile:
            self.reading.volatile.add(name)
        self.reading.reads_clock |= allowed.mark == "clock"

    def check_window(self, node: Node) -> None:
        """Two windows that DuckDB 1.5.5 gives wrong rows: `PARTITION BY a, a` beside `PARTITION BY
        a, b` has the rows of the other one, and of a million ordered partitions as a whole some are
        mixed up."""
        forms = map(comparable_form, node["partitions"])
        if any(_are_one(*pair) for pair in itertools.combinations(forms, 2)):
            raise self.not_allowed(
                "PARTITION BY has an expression twice, for which DuckDB may return other rows.",
                node,
                "Write each expression once.",
            )
        name = ascii_lower(node["function_name"])
        is_whole = (node["start"], node["end"]) == ("UNBOUNDED_PRECEDING", "UNBOUNDED_FOLLOWING")
        has_order = node["type"] == "WINDOW_AGGREGATE" and bool(node["orders"])
        if has_order and is_whole and name not in _COUNTS_AND_EXTREMES:
            raise self.not_allowed(
                f"{name}() over a whole ordered partition may be wrong in DuckDB.",
                node,
                f"Write the order into the call: {name}(… ORDER BY …) OVER (PARTITION BY …).",
            )

    def check_zoned_time(self, value: Node) -> None:
        """The offset of a text or time without one is that of the session's time zone today."""
        self.reading.has_zoned_times = True
        text = str((value.get("value") or {}).get("value") or "")
        if value.get("type") != "VALUE_CONSTANT" or not _OFFSET.search(text):
            self.reading.volatile.add("timetz")

    @staticmethod
    def may_sample(name: str, node: Node) -> bool:
        """Whether a list aggregate may be the sampling `reservoir_quantile`; its function is passed
        as a string, so a non-constant one may be."""
        if name not in _LIST_AGGREGATES:
            return False
        function_argument = (node.get("children") or [{}, {}])[1:2]
        return (
            not function_argument
            or function_argument[0].get("type") != "VALUE_CONSTANT"
            or ascii_lower(str(function_argument[0]["value"].get("value"))) == "reservoir_quantile"
        )

    def unknown_function_error(self, name: str, node: Node) -> JammiError:
        offset = character_offset(self.text, node.get("query_location"))
        error: JammiError = SqlError(f"There is no function {name}().")
        if function_list.is_denied(name):
            error = StatementNotAllowed(
                f"The function {name}() is not available in a workspace.",
                hint=answer_to("denied", name),
            )
        elif "`" in name:  # behind a word it is an operator
            error = SqlError("Names take double quotes, and no backticks.")
        elif meant := answer_to("functions", name):
            error.hint = f"Did you mean {meant}?"
        else:
            error.near = tuple(identifiers.near_names(name, function_list.function_names()))
        return error.with_position(self.text, offset)

    def check_column(self, node: Node) -> None:
        parts = node.get("column_names") or []
        if len(parts) == 1 and (name := ascii_lower(parts[0])) in function_list.VALUE_WORDS:
            count, offset = self.reading.value_words.get(
                name, (0, character_offset(self.text, node.get("query_location")))
            )
            self.reading.value_words[name] = (count + 1, offset)
