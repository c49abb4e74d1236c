"""The gate: an allow-list over the syntax tree of a statement. What it cannot walk, it refuses.

The tree is DuckDB's own (`json_serialize_sql`). No subtree is skipped by its key; only the payload of a constant and the type of a cast are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jammi_lab import names
from jammi_lab.engine import functions
from jammi_lab.errors import JammiError, SqlError, StatementNotAllowed
from jammi_lab.names import ascii_lower

Node = dict[str, Any]

_NODES = frozenset(
    """SELECT_NODE SET_OPERATION_NODE RECURSIVE_CTE_NODE CTE_NODE  BASE_TABLE SUBQUERY JOIN TABLE_FUNCTION EXPRESSION_LIST EMPTY PIVOT SHOW_REF
    COLUMN_DATA  DISTINCT_MODIFIER LIMIT_MODIFIER LIMIT_PERCENT_MODIFIER ORDER_MODIFIER  ASCENDING DESCENDING ORDER_DEFAULT  COLUMN_REF STAR CONSTANT
    VALUE_CONSTANT VALUE_PARAMETER FUNCTION CASE_EXPR LAMBDA LAMBDA_REF OPERATOR_CAST POSITIONAL_REFERENCE VALUE_DEFAULT COLLATE  CONJUNCTION_AND
    CONJUNCTION_OR ARRAY_EXTRACT ARRAY_SLICE STRUCT_EXTRACT ARRAY_CONSTRUCTOR ARROW GROUPING_FUNCTION TYPE  REGULAR REGULAR_USING NATURAL CROSS
    POSITIONAL ASOF DEPENDENT  ANY EXISTS NOT_EXISTS SCALAR  ROW_NUMBER RANK RANK_DENSE NTILE PERCENT_RANK CUME_DIST FIRST_VALUE LAST_VALUE NTH_VALUE
    LEAD LAG FILL""".split()
)
_FAMILIES = re.compile(r"(COMPARE|OPERATOR|WINDOW|SUBQUERY)_[A-Z_]+")
TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "repeat", "json_each", "json_tree"})
OUR_FUNCTIONS = ("jammi_version", "search", "neighbors", "read_parquet", "read_csv", "read_json")
"""Those that are answered before a statement gets here; known here to be suggested."""
_FILE_FUNCTIONS = re.compile(r"read_\w+|\w*_scan(_\w+)?|scan_\w+|glob|sniff_csv|parquet_\w+|st_read\w*|\w+_query|\w+_attach|from_substrait\w*")
_INSTEAD = (
    (re.compile(r"(?:postgres|pg)_\w+|\w+_secrets?"), "crm", "'postgresql://user@host/database', secret='NAME_OF_A_VARIABLE'", ".customers"),
    (re.compile(r"mysql_\w+"), "crm", "'mysql://user@host/database', secret='NAME_OF_A_VARIABLE'", ".customers"),
    (re.compile(r"sqlite_\w+"), "crm", "'sqlite:///crm.db'", ".customers"),
    (re.compile(r"duckdb_scan|duckdb_attach"), "crm", "'duckdb:///crm.duckdb'", ".customers"),
    (re.compile(r"delta_\w+"), "lake", "'the/table', kind='delta'", ""),
    (re.compile(r"iceberg_\w+"), "lake", "'the/table', kind='iceberg'", ""),
    (re.compile(r"read_xlsx"), "prices", "'prices.xlsx'", ""),
    (_FILE_FUNCTIONS, "papers", "'papers.csv'", ""),
)
"""For functions that would read from outside: what to add as a source instead, under which name, and what of it to read."""
_LIST_AGGREGATES = {"list_aggr", "list_aggregate", "array_aggr", "array_aggregate", "aggregate"}
# A schema before a function names a column (`x.f()` is a method call), unless it is one of these.
_SCHEMAS = {"system", "temp", "memory", "pg_catalog", "information_schema"}
_OWN_SCHEMA = "main"
# DuckDB looks these up before a CTE of the name in some places.
_SYSTEM_VIEWS = re.compile(r"duckdb_\w+|pragma_\w+|pg_\w+|sqlite_(temp_)?(master|schema)")
_NOWHERE = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Named:
    """A name in FROM that is no CTE."""

    parts: tuple[str, ...]
    at: int | None
    """Byte offset into the text that was walked."""


@dataclass
class Reading:
    """What the tree says."""

    tables: list[Named] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    volatile: set[str] = field(default_factory=set)
    clock: bool = False
    words: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    """Column references that may be functions (`current_date`, `user`): how often, and where first."""
    aliases: set[str] = field(default_factory=set)
    """Aliases of expressions and of columns, ASCII-lower."""


def offset_in(text: str, at: int | None) -> int | None:
    """The character at a byte offset."""
    return None if at is None or at >= _NOWHERE else len(text.encode("utf-8", "replace")[:at].decode(errors="ignore"))


def nodes(tree: Any) -> Iterator[Node]:
    """Every dict of a tree, parents first."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(child for child in reversed(node.values()) if isinstance(child, dict | list))
        elif isinstance(node, list):
            stack.extend(reversed(node))


def _instead_of(function: str) -> str:
    """What to do instead of reading from a function that is refused."""
    said = next(((name, location, table) for words, name, location, table in _INSTEAD if words.fullmatch(function)), None)
    return "" if said is None else f"Add it as a source, ws.sources.add('{said[0]}', {said[1]}), and read FROM {said[0]}{said[2]}."


def walk(tree: Node, text: str) -> Reading:
    """What a statement reads and calls. StatementNotAllowed or SqlError, placed in `text`, for what it may not hold."""
    return _Walk(text).run(tree)


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.reading = Reading()

    def run(self, tree: Node) -> Reading:
        # A stack instead of recursion: a deep tree must not end in RecursionError.
        stack: list[tuple[Any, frozenset[str]]] = [(tree, frozenset())]
        while stack:
            node, ctes = stack.pop()
            if isinstance(node, list):
                stack.extend((child, ctes) for child in reversed(node))
            elif isinstance(node, dict):
                stack.extend(reversed(self.enter(node, ctes)))
        return self.reading

    def refuse(self, message: str, node: Mapping[str, Any] | None = None, hint: str = "", near: Sequence[str] = ()) -> JammiError:
        at = node.get("query_location") if node else None
        return StatementNotAllowed(message, hint=hint, near=near).at(self.text, offset_in(self.text, at))

    def enter(self, node: Node, ctes: frozenset[str]) -> list[tuple[Any, frozenset[str]]]:
        """Judge one node; its children with the CTE names that each may see."""
        kind = node.get("type")
        if isinstance(kind, str) and not (kind in _NODES or _FAMILIES.fullmatch(kind)):
            raise self.refuse(f"{kind.replace('_', ' ').capitalize()} is not something that a statement of a workspace may hold.", node)
        todo: list[tuple[Any, frozenset[str]]] = []
        if "cte_map" in node:
            ctes = self.with_clause(node, ctes, todo)
        if kind == "RECURSIVE_CTE_NODE":
            ctes = ctes | {ascii_lower(node["cte_name"])}
        skip = {"cte_map"}
        if kind == "BASE_TABLE":
            self.base_table(node, ctes)
        elif kind == "SHOW_REF" and not node.get("query"):
            raise self.refuse("Only SHOW TABLES and SHOW <table> are answered here.", node, "Write SHOW TABLES, or DESCRIBE <table>.")
        elif kind == "TABLE_FUNCTION":
            skip.add("function")
            todo += self.table_function(node, ctes)
        elif node.get("class") == "FUNCTION" or "function_name" in node:
            self.function(node)
        elif kind == "COLUMN_REF":
            self.column_ref(node)
        elif kind == "VALUE_CONSTANT":
            skip.add("value")
        elif kind == "OPERATOR_CAST":
            skip.add("cast_type")
        if node.get("sample"):
            self.reading.volatile.add("sample")
        if "class" in node and node.get("alias"):
            self.reading.aliases.add(ascii_lower(node["alias"]))
        self.reading.aliases |= {ascii_lower(a) for key in ("column_name_alias", "aliases") for a in node.get(key) or () if isinstance(a, str)}
        return todo + [(child, ctes) for key, child in node.items() if key not in skip]

    def with_clause(self, node: Node, ctes: frozenset[str], todo: list[tuple[Any, frozenset[str]]]) -> frozenset[str]:
        """A CTE is visible after its own definition, inside its own node, and nowhere else."""
        for entry in node["cte_map"]["map"]:
            name, body = entry["key"], entry["value"]
            if _SYSTEM_VIEWS.fullmatch(ascii_lower(name)):
                raise self.refuse(f"A CTE cannot be called {name}: DuckDB has a view of that name.", hint="Give the CTE another name.")
            todo.append((body["query"]["node"], ctes))
            todo.append(({key: value for key, value in body.items() if key != "query"}, ctes))
            ctes = ctes | {ascii_lower(name)}
        return ctes

    def base_table(self, node: Node, ctes: frozenset[str]) -> None:
        if node.get("at_clause"):
            raise self.refuse("AT (…) is not available.", node, "Add the version that you want as a source of its own.")
        parts = tuple(p for p in (node["catalog_name"], node["schema_name"], node["table_name"]) if p)
        if not parts:
            raise self.refuse("An empty name in FROM.", node, "Name a source, or a table as jammi.<name>.")
        own = ascii_lower(parts[-1]) in ctes and (len(parts) == 1 or tuple(map(ascii_lower, parts[:-1])) == ("recurring",))
        if not own:
            at = node["query_location"]
            self.reading.tables.append(Named(parts, None if at >= _NOWHERE else at))

    def table_function(self, node: Node, ctes: frozenset[str]) -> list[tuple[Any, frozenset[str]]]:
        call = node["function"]
        name = ascii_lower(call.get("function_name") or "")
        plain = call["type"] == "FUNCTION" and not call.get("catalog") and call.get("schema") in ("", None, _OWN_SCHEMA)
        if not plain or name not in TABLE_FUNCTIONS:
            place = {"query_location": call.get("query_location", node["query_location"])}
            near = [] if (hint := _instead_of(name)) else names.near(name, [*TABLE_FUNCTIONS, *OUR_FUNCTIONS])
            raise self.refuse(f"{name or 'This'}() cannot be read from.", place, hint, near)
        return [(value, ctes) for key, value in call.items() if key not in ("type", "class")]

    def function(self, node: Node) -> None:
        name = ascii_lower(node["function_name"])
        schema = ascii_lower(node.get("schema") or "")
        known = functions.allowed().get(name)
        if node.get("catalog") or schema in _SCHEMAS:
            raise self.refuse(f"The function {name}() cannot be named with a catalog or schema.", node, "Leave out what stands before its name.")
        if known is None:
            raise self.unknown_function(name, node)
        self.reading.functions.add(name)
        shaky = known.mark == "volatile" or (name == "age" and len(node.get("children") or ()) == 1) or self.sampling(name, node)
        if shaky:
            self.reading.volatile.add(name)
        self.reading.clock |= known.mark == "clock"

    @staticmethod
    def sampling(name: str, node: Node) -> bool:
        """Whether a list aggregate, whose function is given as a text, may be the one that samples."""
        if name not in _LIST_AGGREGATES:
            return False
        how = (node.get("children") or [{}, {}])[1:2]
        return not how or how[0].get("type") != "VALUE_CONSTANT" or ascii_lower(str(how[0]["value"].get("value"))) == "reservoir_quantile"

    def unknown_function(self, name: str, node: Node) -> JammiError:
        at = offset_in(self.text, node.get("query_location"))
        if functions.exists(name):
            return StatementNotAllowed(f"The function {name}() is not available in a workspace.").at(self.text, at)
        return SqlError(f"There is no function {name}().", near=names.near(name, functions.named())).at(self.text, at)

    def column_ref(self, node: Node) -> None:
        parts = node.get("column_names") or []
        if len(parts) == 1 and (word := ascii_lower(parts[0])) in functions.VALUE_WORDS:
            count, at = self.reading.words.get(word, (0, offset_in(self.text, node.get("query_location"))))
            self.reading.words[word] = (count + 1, at)
