"""The canonical form of a statement: equal for texts that differ only in ways that cannot affect
the rows. It is hashed, never run.

Its three parts complement each other. The *text* is printed by DuckDB from its parse; sqlglot then
qualifies the names and numbers the table aliases. It contains the column names. The *constants*
contain every typed literal of DuckDB's tree and a digest of the tree's *shape*: the tree without
positions, table aliases and the names of columns that are read. The shape catches differences that
sqlglot prints alike. The *output* contains names and types. A name that can become visible in a
result (an alias, a field of a struct, a column heading in a subquery) is part of the shape exactly
as typed.

If sqlglot cannot qualify a statement, the tree itself is the text (`tree-1`); if there is no tree,
the text as written (`text-1`). A false difference costs one recomputation. A false match would
report a changed result as unchanged, so every doubt counts as a difference.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.definitions import CanonicalStatement
from jammi_lab.core.gc_pause import import_modules
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.name_resolution import ResolvedNames
from jammi_lab.engine.sql.allowlist import walk_nodes
from jammi_lab.engine.sql.parse import ParsedStatement, StatementKind
from jammi_lab.sources.base import Relation

Node = dict[str, Any]
Deparser = Callable[[Node], str | None]
"""Prints the SQL text of a syntax tree; None when it cannot."""
Schemas = Mapping[str, Mapping[str, str]]
"""Column → SQL type, by the address of the input."""

SCHEME_VERSION = 1
MAX_TEXT_LENGTH = 50_000
"""Maximum text length for sqlglot, in characters; beyond it sqlglot takes more than a second."""
MAX_CACHED_FORMS = 256
"""Maximum number of cached canonical forms, of a few kilobytes. Each is needed at least twice:
before its inputs are observed and after."""
_ALIAS_DEPENDENT_FUNCTIONS = frozenset({"alias"})
"""Functions that return the name of their argument."""


def canonicalize(
    deparse: Deparser,
    parsed: ParsedStatement,
    relations: ResolvedNames,
    schemas: Schemas,
    output: Sequence[tuple[str, str]],
) -> CanonicalStatement:
    """The canonical form of a checked statement.

    It is equal for texts that differ only in white space, comments, the case of keywords and of
    names that are read, quoting, table aliases, qualification and redundant parentheses. It differs
    for everything that could change a row, a name or a type."""
    if parsed.kind in (StatementKind.PIVOT, StatementKind.SHOW_TABLES, StatementKind.EXPLAIN):
        return CanonicalStatement(
            f"text-{SCHEME_VERSION}",
            parsed.text,
            [_input_addresses(parsed, relations)],
            list(output),
        )
    key = (
        parsed.text,
        tuple((parts, address_of(relation)) for parts, relation in relations.items()),
        digest_of(_columns_by_address(schemas)),
        tuple(output),
    )
    form = _cache.get(key)
    if form is None:
        form = _canonicalize(deparse, parsed, relations, schemas, output)
        _cache.put(key, form)
    return form


_cache = BoundedCache[Any, CanonicalStatement](MAX_CACHED_FORMS)


def _columns_by_address(schemas: Schemas) -> list[Any]:
    return [
        [address, [[name, kind] for name, kind in schema.items()]]
        for address, schema in schemas.items()
    ]


def _canonicalize(
    deparse: Deparser,
    parsed: ParsedStatement,
    relations: ResolvedNames,
    schemas: Schemas,
    output: Sequence[tuple[str, str]],
) -> CanonicalStatement:
    try:
        tree = _with_addresses(_resolve_ordinals(parsed.tree), relations)
        constants = [*_constants(tree), {"shape": digest_of(_Shape(tree, schemas).shape_of(tree))}]
        printed = _qualified_text(deparse, tree, relations, schemas)
        if printed is not None:
            return CanonicalStatement(f"ast-{SCHEME_VERSION}", printed, constants, list(output))
        return CanonicalStatement(
            f"tree-{SCHEME_VERSION}",
            json.dumps(_without_positions(tree), sort_keys=True, ensure_ascii=False),
            constants,
            list(output),
        )
    except RecursionError:
        return CanonicalStatement(
            f"text-{SCHEME_VERSION}",
            parsed.text,
            [_input_addresses(parsed, relations)],
            list(output),
        )


def _input_addresses(parsed: ParsedStatement, relations: ResolvedNames) -> list[Any]:
    by_name = {tuple(map(ascii_lower, parts)): relation for parts, relation in relations.items()}
    read = [by_name[tuple(map(ascii_lower, table.parts))] for table in parsed.reads.tables]
    return [
        [
            *relation.input.identity,
            *([relation.read.computed.definition] if relation.read.computed else []),
        ]
        for relation in read
    ]


def _constants(tree: Node) -> list[Any]:
    """Every typed literal in tree order, NULL included."""
    return [
        {
            "type": _type_name(node["type"]),
            "value": None if node["is_null"] else _exact_value(node.get("value")),
        }
        for node in walk_nodes(tree)
        if isinstance(node.get("type"), dict) and "is_null" in node
    ]


def _exact_value(value: Any) -> Any:
    return repr(value) if isinstance(value, float) else value


def _type_name(kind: Node) -> Any:
    return kind["id"] if not kind.get("type_info") else kind


# -- the tree, made independent of how it was written


def _resolve_ordinals(tree: Any) -> Any:
    """The tree with the ordinals of GROUP BY 1 and ORDER BY 1 replaced by the expressions they
    refer to, where that keeps the meaning."""
    if isinstance(tree, list):
        return [_resolve_ordinals(child) for child in tree]
    if not isinstance(tree, dict) or tree.get("type") == "VALUE_CONSTANT":
        return tree
    node = {key: _resolve_ordinals(child) for key, child in tree.items()}
    if node.get("type") == "SELECT_NODE":
        select = node["select_list"]
        node["group_expressions"] = [_resolve_ordinal(e, select) for e in node["group_expressions"]]
        for modifier in node["modifiers"]:
            for order in modifier.get("orders") or ():
                order["expression"] = _resolve_ordinal(order["expression"], select)
    return node


def _resolve_ordinal(expression: Node, select: Sequence[Node]) -> Node:
    value = expression.get("value") if expression.get("type") == "VALUE_CONSTANT" else None
    position = (
        value.get("value")
        if isinstance(value, dict) and value["type"]["id"] in ("INTEGER", "BIGINT")
        else None
    )
    if (
        not isinstance(position, int)
        or not 0 < position <= len(select)
        or any(n.get("type") == "STAR" for n in walk_nodes(list(select[:position])))
    ):
        return expression
    target = select[position - 1]
    aliases = {
        ascii_lower(item["alias"]) for item in select if item.get("alias") and item is not target
    }
    if any(
        n.get("type") == "COLUMN_REF" and ascii_lower(n["column_names"][0]) in aliases
        for n in walk_nodes(target)
    ):
        return expression  # in ORDER BY, the column name would refer to the alias
    return {**target, "alias": ""}


def _with_addresses(tree: Any, relations: ResolvedNames) -> Any:
    """The tree with each input named by its address. The name as typed becomes the alias, so that
    qualified columns still bind."""
    # Only texts: `copy` refers to itself, and would keep the leases of relations until it is
    # collected.
    addresses = {
        tuple(map(ascii_lower, parts)): address_of(relation)
        for parts, relation in relations.items()
    }
    prefixes = {tuple(map(ascii_lower, parts[-2:])) for parts in relations if len(parts) > 1}

    def copy(node: Any, ctes: frozenset[str]) -> Any:
        if isinstance(node, list):
            return [copy(child, ctes) for child in node]
        if not isinstance(node, dict) or node.get("type") == "VALUE_CONSTANT":
            return node
        if "cte_map" in node:
            ctes = ctes | {ascii_lower(entry["key"]) for entry in node["cte_map"]["map"]}
        kind = node.get("type")
        if kind == "BASE_TABLE":
            parts = tuple(
                p for p in (node["catalog_name"], node["schema_name"], node["table_name"]) if p
            )
            address = addresses.get(tuple(map(ascii_lower, parts)))
            if address is not None and not (len(parts) == 1 and ascii_lower(parts[0]) in ctes):
                alias = node["alias"] or parts[-1]
                return {
                    **node,
                    "catalog_name": "",
                    "schema_name": "",
                    "table_name": address,
                    "alias": alias,
                }
        if (
            kind == "COLUMN_REF"
            and len(node["column_names"]) > 2
            and tuple(map(ascii_lower, node["column_names"][:2])) in prefixes
        ):
            return {**node, "column_names": node["column_names"][1:]}
        return {key: copy(child, ctes) for key, child in node.items()}

    return copy(tree, frozenset())


def address_of(relation: Relation) -> str:
    """The name of an input in the canonical text: kind, registered name, table within the source,
    and the digest of a computed relation."""
    kind, name, table = (_escaped(part) for part in relation.input.identity)
    suffix = (
        "" if relation.read.computed is None else f"?{digest_of(relation.read.computed.definition)}"
    )
    return f"{kind}:{name}" + (f"#{table}" if table else "") + suffix


def _escaped(name: str) -> str:
    """A name with the separators of an address escaped: the source `a#b` is not the table `b` of
    the source `a`."""
    return name.replace("%", "%25").replace("#", "%23").replace("?", "%3F")


class _Shape:
    """The shape of a tree: without positions, table aliases and the names of columns read, except
    where a name could become visible in a result."""

    def __init__(self, tree: Node, schemas: Schemas) -> None:
        nodes = list(walk_nodes(tree))
        self.aliases = {ascii_lower(n["alias"]) for n in nodes if "class" in n and n.get("alias")}
        self.tables = {
            ascii_lower(name)
            for n in nodes
            for name in (n.get("alias"), n.get("table_name"))
            if name and "class" not in n
        }
        self.columns = {ascii_lower(c) for schema in schemas.values() for c in schema}
        # A USING column of a FULL JOIN is named as written in USING or in the reference to it; in
        # other joins it has the name in the left table.
        has_full_join = any(n.get("join_type") == "FULL" for n in nodes)
        listed_names = {
            ascii_lower(name)
            for n in nodes
            if has_full_join or not n.get("using_columns")
            for name in _names_in_lists(n)
        }
        self.names = self.columns | self.aliases | listed_names
        """All names that may be column names somewhere in the statement."""
        has_full_natural_join = has_full_join and any(n.get("ref_type") == "NATURAL" for n in nodes)
        self.unambiguous = (
            set()
            if has_full_natural_join
            else self.columns - self.aliases - self.tables - listed_names
        )
        """Names that can only be input columns. A column read by such a name keeps the input's
        spelling, however it was typed."""
        self.keep_spelling = any(
            ascii_lower(n.get("function_name") or "") in _ALIAS_DEPENDENT_FUNCTIONS for n in nodes
        )
        self.root = tree

    def shape_of(self, node: Any, in_heading: bool = False) -> Any:
        """The shape of a node. `in_heading`: inside an expression whose text becomes a subquery's
        column heading."""
        if isinstance(node, list):
            return [self.shape_of(child, in_heading) for child in node]
        if not isinstance(node, dict):
            return node
        kind = node.get("type")
        if kind == "VALUE_CONSTANT":
            return {key: child for key, child in node.items() if key != "query_location"}
        if kind == "COLUMN_REF":
            return self.reference_shape(node, in_heading)
        if kind in ("LAMBDA", "STAR", "PIVOT"):
            in_heading = True
        skip = {"query_location"}
        shaped: dict[str, Any] = {}
        if (
            kind in ("BASE_TABLE", "SUBQUERY", "TABLE_FUNCTION", "JOIN", "EXPRESSION_LIST", "PIVOT")
            and "class" not in node
        ):
            skip |= set() if self.keep_spelling else {"alias"}
            if kind == "BASE_TABLE":
                skip |= {"catalog_name", "schema_name", "table_name"}
        if kind == "SELECT_NODE":
            skip.add("select_list")
            inner = node is not self.root
            shaped["select_list"] = [
                self.shape_of(
                    item, inner and not item.get("alias") and item.get("type") != "COLUMN_REF"
                )
                for item in node["select_list"]
            ]
        if node.get("using_columns"):
            skip.add("using_columns")
            shaped["using_columns"] = list(map(ascii_lower, node["using_columns"]))
        shaped.update(
            {
                key: self.shape_of(child, in_heading)
                for key, child in node.items()
                if key not in skip
            }
        )
        return shaped

    def reference_shape(self, node: Node, in_heading: bool) -> Any:
        parts = node["column_names"]
        lower = [ascii_lower(p) for p in parts]
        alias = node.get("alias") or ""
        if in_heading or self.keep_spelling:
            return ["column", alias, parts]
        # A table name in front of a column only qualifies it. Any other dotted name may be a struct
        # field, whose column heading is the name as typed.
        is_qualified = (
            len(parts) == 2
            and lower[0] in self.tables
            and lower[0] not in self.names
            and lower[1] in self.columns
        )
        is_plain_column = is_qualified or (len(parts) == 1 and lower[0] in self.unambiguous)
        if is_plain_column:
            return ["column", alias, *(p for p in parts if not p.isascii())]
        # Any other bare name may be an alias, a whole row or a joined column, which are named as
        # typed.
        return ["column", alias, lower[:-1], parts[-1]]


def _names_in_lists(node: Node) -> list[str]:
    """Names in a node's lists, such as the column aliases after a table alias."""
    return [
        name
        for key, child in node.items()
        if isinstance(child, list) and key != "column_names"
        for name in child
        if isinstance(name, str)
    ]


def _without_positions(node: Any) -> Any:
    """The whole tree with the names of read columns in lower case: the text for statements that
    sqlglot cannot qualify."""
    if isinstance(node, list):
        return [_without_positions(child) for child in node]
    if not isinstance(node, dict):
        return node
    bare = {
        key: _without_positions(child) for key, child in node.items() if key != "query_location"
    }
    if node.get("type") == "COLUMN_REF":
        bare["column_names"] = [ascii_lower(p) for p in node["column_names"]]
    return bare


# -- sqlglot


def _qualified_text(
    deparse: Deparser, addressed: Node, relations: ResolvedNames, schemas: Schemas
) -> str | None:
    """DuckDB's print of the tree, qualified by sqlglot; None when either cannot."""
    if any(
        n.get("type") in ("PIVOT", "SHOW_REF", "RECURSIVE_CTE_NODE") for n in walk_nodes(addressed)
    ):
        return None
    text = deparse(addressed)
    if text is None or len(text) > MAX_TEXT_LENGTH:
        return None
    with import_modules():
        import sqlglot
        from sqlglot import exp
        from sqlglot.optimizer.qualify import qualify
        from sqlglot.schema import MappingSchema

    schema = MappingSchema(dialect="duckdb")
    for relation in relations.values():
        address = address_of(relation)
        table = exp.Table(this=exp.to_identifier(address, quoted=True))
        schema.add_table(
            table, dict.fromkeys(schemas[address], "INT"), dialect="duckdb", match_depth=False
        )
    for expand in (False, True):
        try:
            tree = sqlglot.parse_one(text, read="duckdb")
            qualified = qualify(
                tree,
                dialect="duckdb",
                schema=schema,
                expand_alias_refs=False,
                expand_stars=expand,
                canonicalize_table_aliases=True,
            )
            # what sqlglot cannot print in full must not make two statements look alike
            return qualified.sql(
                "duckdb", copy=False, comments=False, unsupported_level=sqlglot.ErrorLevel.RAISE
            )
        except Exception:  # noqa: BLE001, S112  sqlglot may raise anything, AssertionError too; the tree is used instead
            continue
    return None
