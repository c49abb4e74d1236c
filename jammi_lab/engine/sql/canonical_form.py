"""The canonical form of a statement: equal for texts that differ only in ways that cannot affect
the rows. It is hashed, never run.

It is DuckDB's syntax tree without positions, with the inputs by their addresses, and beside it
names and types of the output. Layout, comments, quotes, redundant parentheses and the case of
keywords are not in the tree. The alias of an input is replaced by a number where its name means
nothing else in the statement; columns that are read lose their case where they name no column of a
subquery, and the name of the only table. Everything else counts as typed.

A false difference costs one recomputation. A false match would report a changed result as
unchanged, so every doubt counts as a difference.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.definitions import CanonicalStatement
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.name_resolution import ResolvedNames
from jammi_lab.engine.sql.allowlist import walk_nodes
from jammi_lab.engine.sql.parse import ParsedStatement, StatementKind
from jammi_lab.sources.base import Relation

Node = dict[str, Any]
Schemas = Mapping[tuple[str, ...], Mapping[str, str]]
"""Column → SQL type, by the name of the input as typed. Of the columns that are read: another one
that an input gains does not change the form."""

SCHEME_VERSION = 2
_NAMING_FUNCTIONS = ("alias",)
"""Functions that return the name of their argument."""
_NAME_KEYS = ("catalog_name", "schema_name", "table_name")


def canonicalize(
    parsed: ParsedStatement,
    relations: ResolvedNames,
    columns_read: Schemas,
    output: Sequence[tuple[str, str]],
) -> CanonicalStatement:
    """The canonical form of a checked statement."""
    addresses = [_address_of(relation) for relation in relations.values()]
    scheme, digest = "text", digest_of([parsed.text, addresses])
    if parsed.kind in (StatementKind.SELECT, StatementKind.DESCRIBE):
        with contextlib.suppress(RecursionError):
            tree = _Canonicalizer(relations, columns_read).canonical_tree(parsed.tree)
            scheme, digest = "tree", digest_of([tree, addresses])
    return CanonicalStatement(f"{scheme}-{SCHEME_VERSION}", digest, list(output))


class _Canonicalizer:
    """Makes the tree of one statement independent of how it was written."""

    def __init__(self, relations: ResolvedNames, columns_read: Schemas) -> None:
        self._columns_read = columns_read
        self._names = list(relations)
        self._numbers = {_fold_names(parts): number for number, parts in enumerate(relations)}
        self._inputs: list[Node] = []
        """The copied nodes of inputs."""

    def canonical_tree(self, tree: Node) -> Node:
        """The tree with the numbers of its inputs. Raises RecursionError."""
        copied: Node = self._copy(tree, frozenset())
        nodes = list(walk_nodes(copied))
        if not any(node.get("function_name") in _NAMING_FUNCTIONS for node in nodes):
            headings = {id(node) for node in _heading_nodes(copied)}
            self._number_aliases(copied, nodes, headings)
            _fold_columns(copied, nodes, headings)
        return copied

    def _copy(self, node: Any, ctes: frozenset[str]) -> Any:
        """A copy without positions, in which inputs have numbers."""
        if isinstance(node, list):
            return [self._copy(child, ctes) for child in node]
        if not isinstance(node, dict):
            return node
        if "cte_map" in node:
            ctes = ctes | {ascii_lower(entry["key"]) for entry in node["cte_map"]["map"]}
        copied = {
            key: self._copy(child, ctes) for key, child in node.items() if key != "query_location"
        }
        if node.get("type") == "BASE_TABLE":
            self._number_input(copied, ctes)
        return copied

    def _number_input(self, node: Node, ctes: frozenset[str]) -> None:
        """Replace the name of an input by its number; what it was called becomes the alias, so that
        qualified columns still mean it."""
        names = [node[key] for key in _NAME_KEYS if node[key]]
        number = self._numbers.get(_fold_names(names))
        if number is None or (len(names) == 1 and ascii_lower(names[0]) in ctes):
            return
        node["input"] = number
        node["alias"] = node["alias"] or ascii_lower(names[-1])
        for key in _NAME_KEYS:
            del node[key]
        self._inputs.append(node)

    def _number_aliases(self, tree: Node, nodes: Sequence[Node], headings: set[int]) -> None:
        """Replace aliases of inputs by their numbers, in the tree and in columns that they qualify.
        Left are those whose name occurs elsewhere in the statement, or as a column or in a type
        that it reads: there it could mean a field of a struct. The only table of a statement
        qualifies no column, unless an output has its name."""
        columns_read = [list(columns.items()) for columns in self._columns_read.values()]
        words = Counter(re.findall(r"\w+", json.dumps([tree, columns_read]).lower()))
        is_one_query = not any(n is not tree and "from_table" in n for n in nodes)
        items = tree.get("select_list") or []
        renamed = {ascii_lower(item["alias"]) for item in items if item.get("alias")}
        for number, node in enumerate(self._inputs):
            alias = ascii_lower(node["alias"])
            columns = set(_fold_names(self._columns_read[self._names[node["input"]]]))
            uses = [
                use
                for use in nodes
                if id(use) not in headings and _is_qualified(use, alias, columns)
            ]
            if not alias.isidentifier() or words[alias] != len(uses) + 1:
                continue
            node["alias"] = number
            is_only = is_one_query and tree.get("from_table") is node
            for use in uses:
                if use["type"] == "STAR":
                    use["relation_name"] = number
                    continue
                names = use["column_names"][1:]
                is_plain = is_only and ascii_lower(names[0]) not in renamed
                use["column_names"] = names if is_plain else [number, *names]


def _fold_columns(tree: Node, nodes: Sequence[Node], headings: set[int]) -> None:
    """Drop the case of columns that are read, but of those that name a column of a subquery, which
    functions that write JSON show."""
    named = headings | {
        id(item) for node in nodes if node is not tree for item in node.get("select_list") or ()
    }
    for node in nodes:
        names = node.get("column_names") or []
        if len(names) == 1 and id(node) not in named:
            node["column_names"] = [ascii_lower(names[0])]


def _heading_nodes(tree: Node) -> Iterator[Node]:
    """The nodes of expressions whose texts may become names of columns within the statement."""
    for node in walk_nodes(tree):
        if node.get("type") in ("LAMBDA", "STAR", "PIVOT"):
            yield from walk_nodes(list(node.values()))
        if node is not tree:
            for item in node.get("select_list") or ():
                if not item.get("alias") and item.get("type") not in ("COLUMN_REF", "STAR"):
                    yield from walk_nodes(item)


def _is_qualified(node: Node, alias: str, columns: set[str]) -> bool:
    """Whether a node is a column of a table, or all of them, qualified by the table's alias."""
    if node.get("type") == "STAR":
        return ascii_lower(node.get("relation_name") or "") == alias
    names = _fold_names(map(str, node.get("column_names") or ()))
    return len(names) > 1 and names[0] == alias and names[1] in columns


def _fold_names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(ascii_lower, names))


def _address_of(relation: Relation) -> list[Any]:
    """The identity of an input, and the definition of a computed one."""
    computed = relation.read.computed
    return [*relation.input.identity, None if computed is None else computed.definition]
