"""The canonical form of a statement: what it says, without what cannot change its rows. Used for hashing only, never run.

Three parts stand guard over each other. The *text* is DuckDB's own parse and print, its names qualified and its table aliases numbered by
sqlglot; it carries the names of columns. The *constants* carry every typed literal of DuckDB's tree, and a digest of the tree's *shape*: all of
it except places, table aliases and the names of columns that are read, so that nothing sqlglot prints alike can hide a difference. The *output*
carries names and types. A name that could surface as a value (an alias, a field of a struct, a heading inside a subquery) is part of the shape as
it was typed.

Where sqlglot cannot qualify a statement the tree itself is the text (`tree-1`); where there is no tree, the text as written (`text-1`).
A false difference costs a recomputation; a false sameness would be a lie.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.canonical import digest_of
from jammi_lab.engine.gate import nodes
from jammi_lab.engine.resolve import Found
from jammi_lab.engine.statements import Form, Parsed
from jammi_lab.interrupts import HeldBack
from jammi_lab.names import ascii_lower
from jammi_lab.sources.base import Relation
from jammi_lab.values.descriptors import Canonical

if TYPE_CHECKING:
    from jammi_lab.engine.session import Engine

Node = dict[str, Any]
Schemas = Mapping[str, Mapping[str, str]]
"""Column → SQL type, by the address of what is read."""

_SCHEME = 1
_LONG = 50_000
"""Characters beyond which sqlglot would take more than a second."""
_KEPT = 32
"""Canonical forms that are kept: a statement is asked for its own more than once, before its inputs are observed and after."""
_ALIAS_MATTERS = frozenset({"alias"})
"""Functions whose value is the name of what they are given."""


def canonical(engine: "Engine", parsed: Parsed, found: Found, schemas: Schemas, output: Sequence[tuple[str, str]]) -> Canonical:
    """The canonical form of a gated statement.

    The same for texts that differ only in white space, comments, the case of keywords and of names that are read, quoting, table aliases,
    qualification and redundant brackets; different for whatever could change a row, a name or a type."""
    if parsed.form in (Form.PIVOT, Form.SHOW_TABLES, Form.EXPLAIN):
        return Canonical(f"text-{_SCHEME}", parsed.text, [_addresses(parsed, found)], list(output))
    known = (parsed.text, tuple((parts, address_of(relation)) for parts, relation in found.items()), digest_of(_columns(schemas)), tuple(output))
    with _lock:
        if (made := _made.get(known)) is not None:
            _made.move_to_end(known)
            return made
    made = _canonical(engine, parsed, found, schemas, output)
    with _lock:
        _made[known] = made
        while len(_made) > _KEPT:
            _made.popitem(last=False)
    return made


_made: "OrderedDict[Any, Canonical]" = OrderedDict()
_lock = threading.Lock()


def _columns(schemas: Schemas) -> list[Any]:
    return [[address, [[name, kind] for name, kind in schema.items()]] for address, schema in schemas.items()]


def _canonical(engine: "Engine", parsed: Parsed, found: Found, schemas: Schemas, output: Sequence[tuple[str, str]]) -> Canonical:
    try:
        tree = _addressed(_positional(parsed.tree), found)
        constants = [*_constants(tree), {"shape": digest_of(_Shape(tree, schemas).of(tree))}]
        printed = _printed(engine, tree, found, schemas)
        if printed is not None:
            return Canonical(f"ast-{_SCHEME}", printed, constants, list(output))
        return Canonical(f"tree-{_SCHEME}", json.dumps(_bare(tree), sort_keys=True, ensure_ascii=False), constants, list(output))
    except RecursionError:
        return Canonical(f"text-{_SCHEME}", parsed.text, [_addresses(parsed, found)], list(output))


def _addresses(parsed: Parsed, found: Found) -> list[Any]:
    by_name = {tuple(map(ascii_lower, parts)): relation for parts, relation in found.items()}
    read = [by_name[tuple(map(ascii_lower, named.parts))] for named in parsed.reading.tables]
    return [[*relation.input.identity, *([relation.computed.says] if relation.computed else [])] for relation in read]


def _constants(tree: Node) -> list[Any]:
    """Every typed literal in the order of the tree; NULL is a literal too."""
    return [
        {"type": _type_name(node["type"]), "value": None if node["is_null"] else _exactly(node.get("value"))}
        for node in nodes(tree)
        if isinstance(node.get("type"), dict) and "is_null" in node
    ]


def _exactly(value: Any) -> Any:
    return repr(value) if isinstance(value, float) else value


def _type_name(kind: Node) -> Any:
    return kind["id"] if not kind.get("type_info") else kind


# -- the tree, made independent of how it was written ---------------------------------------------------------------------------------------


def _positional(tree: Any) -> Any:
    """The tree with GROUP BY 1 and ORDER BY 1 written out, where the select list before them has no star and they would still mean the same."""
    if isinstance(tree, list):
        return [_positional(child) for child in tree]
    if not isinstance(tree, dict) or tree.get("type") == "VALUE_CONSTANT":
        return tree
    node = {key: _positional(child) for key, child in tree.items()}
    if node.get("type") == "SELECT_NODE":
        select = node["select_list"]
        node["group_expressions"] = [_written_out(e, select) for e in node["group_expressions"]]
        for modifier in node["modifiers"]:
            for order in modifier.get("orders") or ():
                order["expression"] = _written_out(order["expression"], select)
    return node


def _written_out(expression: Node, select: Sequence[Node]) -> Node:
    value = expression.get("value") if expression.get("type") == "VALUE_CONSTANT" else None
    at = value.get("value") if isinstance(value, dict) and value["type"]["id"] in ("INTEGER", "BIGINT") else None
    if not isinstance(at, int) or not 0 < at <= len(select) or any(n.get("type") == "STAR" for n in nodes(list(select[:at]))):
        return expression
    meant = select[at - 1]
    aliases = {ascii_lower(item["alias"]) for item in select if item.get("alias") and item is not meant}
    if any(n.get("type") == "COLUMN_REF" and ascii_lower(n["column_names"][0]) in aliases for n in nodes(meant)):
        return expression  # written out, the name would mean the alias
    return {**meant, "alias": ""}


def _addressed(tree: Any, found: Found) -> Any:
    """The tree with each input named by its address; the name as typed becomes its alias, so that qualified columns still bind."""
    by_name = {tuple(map(ascii_lower, parts)): relation for parts, relation in found.items()}
    prefixes = {tuple(map(ascii_lower, parts[-2:])) for parts in found if len(parts) > 1}

    def copied(node: Any, ctes: frozenset[str]) -> Any:
        if isinstance(node, list):
            return [copied(child, ctes) for child in node]
        if not isinstance(node, dict) or node.get("type") == "VALUE_CONSTANT":
            return node
        if "cte_map" in node:
            ctes = ctes | {ascii_lower(entry["key"]) for entry in node["cte_map"]["map"]}
        kind = node.get("type")
        if kind == "BASE_TABLE":
            typed = tuple(p for p in (node["catalog_name"], node["schema_name"], node["table_name"]) if p)
            relation = by_name.get(tuple(map(ascii_lower, typed)))
            if relation is not None and not (len(typed) == 1 and ascii_lower(typed[0]) in ctes):
                alias = node["alias"] or typed[-1]
                return {**node, "catalog_name": "", "schema_name": "", "table_name": address_of(relation), "alias": alias}
        if kind == "COLUMN_REF" and len(node["column_names"]) > 2 and tuple(map(ascii_lower, node["column_names"][:2])) in prefixes:
            return {**node, "column_names": node["column_names"][1:]}
        return {key: copied(child, ctes) for key, child in node.items()}

    return copied(tree, frozenset())


def address_of(relation: Relation) -> str:
    """How the canonical text names what is read: the input's kind, its registered name, the table inside, and what is computed of it."""
    kind, name, table = (_plain(part) for part in relation.input.identity)
    computed = "" if relation.computed is None else f"?{digest_of(relation.computed.says)}"
    return f"{kind}:{name}" + (f"#{table}" if table else "") + computed


def _plain(name: str) -> str:
    """A name without the signs that part an address: a source `a#b` is not the table `b` of a source `a`."""
    return name.replace("%", "%25").replace("#", "%23").replace("?", "%3F")


class _Shape:
    """The tree without places, table aliases and the names of columns read; with them wherever they could surface in a row."""

    def __init__(self, tree: Node, schemas: Schemas) -> None:
        self.aliases = {ascii_lower(n["alias"]) for n in nodes(tree) if "class" in n and n.get("alias")}
        self.tables = {ascii_lower(name) for n in nodes(tree) for name in (n.get("alias"), n.get("table_name")) if name and "class" not in n}
        self.columns = {ascii_lower(c) for schema in schemas.values() for c in schema}
        # A column of a FULL JOIN is called as USING has it, or who reads it; other joins give the left one.
        full = any(n.get("join_type") == "FULL" for n in nodes(tree))
        made = {ascii_lower(name) for n in nodes(tree) if full or not n.get("using_columns") for name in _listed(n)}
        self.names = self.columns | self.aliases | made
        """Whatever may be the name of a column somewhere in the statement."""
        joined = full and any(n.get("ref_type") == "NATURAL" for n in nodes(tree))
        self.sure = set() if joined else self.columns - self.aliases - self.tables - made
        """Names that can only be those of columns of inputs; read by such a name, a column is called as the input calls it, however it was typed."""
        self.exact = any(ascii_lower(n.get("function_name") or "") in _ALIAS_MATTERS for n in nodes(tree))
        self.root = tree

    def of(self, node: Any, named: bool = False) -> Any:
        """`named`: inside an expression whose text becomes the heading of a subquery's column."""
        if isinstance(node, list):
            return [self.of(child, named) for child in node]
        if not isinstance(node, dict):
            return node
        kind = node.get("type")
        if kind == "VALUE_CONSTANT":
            return {key: child for key, child in node.items() if key != "query_location"}
        if kind == "COLUMN_REF":
            return self.reference(node, named)
        if kind in ("LAMBDA", "STAR", "PIVOT"):
            named = True
        skip = {"query_location"}
        shaped: dict[str, Any] = {}
        if kind in ("BASE_TABLE", "SUBQUERY", "TABLE_FUNCTION", "JOIN", "EXPRESSION_LIST", "PIVOT") and "class" not in node:
            skip |= set() if self.exact else {"alias"}
            if kind == "BASE_TABLE":
                skip |= {"catalog_name", "schema_name", "table_name"}
        if kind == "SELECT_NODE":
            skip.add("select_list")
            inner = node is not self.root
            shaped["select_list"] = [
                self.of(item, inner and not item.get("alias") and item.get("type") != "COLUMN_REF") for item in node["select_list"]
            ]
        if node.get("using_columns"):
            skip.add("using_columns")
            shaped["using_columns"] = list(map(ascii_lower, node["using_columns"]))
        shaped.update({key: self.of(child, named) for key, child in node.items() if key not in skip})
        return shaped

    def reference(self, node: Node, named: bool) -> Any:
        parts = node["column_names"]
        lower = [ascii_lower(p) for p in parts]
        alias = node.get("alias") or ""
        if named or self.exact:
            return ["column", alias, parts]
        # A table's name before a column is only qualification; any other dotted name may be a field, and called as it was typed.
        dotted = len(parts) == 2 and lower[0] in self.tables and lower[0] not in self.names and lower[1] in self.columns
        plain = dotted or (len(parts) == 1 and lower[0] in self.sure)
        if plain:
            return ["column", alias, *(p for p in parts if not p.isascii())]
        # Any other bare name may be an alias, a whole row or a joined column: then it is called as it was typed.
        return ["column", alias, lower[:-1], parts[-1]]


def _listed(node: Node) -> list[str]:
    """Names in the lists of a node, such as the columns behind a table's alias."""
    return [name for key, child in node.items() if isinstance(child, list) and key != "column_names" for name in child if isinstance(name, str)]


def _bare(node: Any) -> Any:
    """The whole tree with the case of names read folded: the text where sqlglot cannot follow."""
    if isinstance(node, list):
        return [_bare(child) for child in node]
    if not isinstance(node, dict):
        return node
    bare = {key: _bare(child) for key, child in node.items() if key != "query_location"}
    if node.get("type") == "COLUMN_REF":
        bare["column_names"] = [ascii_lower(p) for p in node["column_names"]]
    return bare


# -- sqlglot --------------------------------------------------------------------------------------------------------------------------------


def _printed(engine: "Engine", addressed: Node, found: Found, schemas: Schemas) -> str | None:
    """DuckDB's print of the tree, qualified by sqlglot; None when either cannot."""
    if any(n.get("type") in ("PIVOT", "SHOW_REF", "RECURSIVE_CTE_NODE") for n in nodes(addressed)):
        return None
    plain = engine.deparse(addressed)
    if plain is None or len(plain) > _LONG:
        return None
    with HeldBack():  # a thread that is interrupted while it imports can leave the module locked, and all others would wait for it
        import sqlglot
        from sqlglot import exp
        from sqlglot.optimizer.qualify import qualify
        from sqlglot.schema import MappingSchema

    schema = MappingSchema(dialect="duckdb")
    for relation in found.values():
        address = address_of(relation)
        table = exp.Table(this=exp.to_identifier(address, quoted=True))
        schema.add_table(table, dict.fromkeys(schemas[address], "INT"), dialect="duckdb", match_depth=False)
    for expand in (False, True):
        try:
            tree = sqlglot.parse_one(plain, read="duckdb")
            qualified = qualify(tree, dialect="duckdb", schema=schema, expand_alias_refs=False, expand_stars=expand, canonicalize_table_aliases=True)
            return qualified.sql("duckdb", comments=False)
        except Exception:  # noqa: BLE001, S112 — whatever sqlglot trips over (it asserts, too), the tree takes its place
            continue
    return None
