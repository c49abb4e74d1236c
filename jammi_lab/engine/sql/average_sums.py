"""A statement extended by the sum and the count behind each `avg` that it selects.

The text is extended in front of FROM, and used only when DuckDB's parser finds in it the tree of
the statement with exactly these columns at the end of its select list. Each of them is the call of
`avg` with another name, so that it is bound to the same argument and the same FILTER.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.averages import AveragedType
from jammi_lab.engine.sql import tokens
from jammi_lab.engine.sql.row_order import without_positions
from jammi_lab.engine.sql.syntax_tree import text_of, tree_of

Node = dict[str, Any]
_PREFIX = "__jammi_"
_SELECT = "SELECT "


@dataclass(frozen=True)
class Average:
    """An output column that is the average of an exact number."""

    position: int
    """The index of the column."""
    kind: AveragedType

    @property
    def sums(self) -> list[tuple[str, str]]:
        """The columns, with their SQL types, of the sum and the count behind it."""
        return [
            (f"{_PREFIX}sum_{self.position}", self.kind.sum_type),
            (f"{_PREFIX}count_{self.position}", "BIGINT"),
        ]


@dataclass(frozen=True)
class ExtendedStatement:
    """A statement with further columns at its end."""

    text: str
    tree: Node
    offset: int
    """The byte offset at which the text was extended."""
    length: int
    """By how many bytes."""


def with_sums(
    parser: duckdb.DuckDBPyConnection,
    text: str,
    tree: Node,
    output: Sequence[tuple[str, str]],
    averages: Sequence[Average],
) -> ExtendedStatement | None:
    """The statement with the columns `Average.sums` at its end; None when its select list is not
    one that can be extended."""
    select = tree.get("select_list") or []
    if (
        tree.get("type") != "SELECT_NODE"
        or len(select) != len(output)
        or not all(is_average(select[average.position]) for average in averages)
        or any(ascii_lower(name).startswith(_PREFIX) for name, _ in output)
    ):
        return None
    columns = [node for average in averages for node in _sum_nodes(parser, select, average)]
    added = text_of(parser, _select_of(parser, columns))
    if added is None or not added.startswith(_SELECT):
        return None
    insertion = f", {added.removeprefix(_SELECT)} ".encode()
    expected = without_positions({**tree, "select_list": [*select, *columns]})
    raw = text.encode()
    for token in tokens.top_level_tokens(text):
        if token.text == "from":
            extended = (raw[: token.offset] + insertion + raw[token.offset :]).decode()
            found = tree_of(parser, extended)
            if isinstance(found, dict) and without_positions(found) == expected:
                return ExtendedStatement(extended, found, token.offset, len(insertion))
    return None


def is_average(node: Mapping[str, Any]) -> bool:
    """Whether an item of a select list is the call of an average."""
    return node.get("class") == "FUNCTION" and ascii_lower(node["function_name"]) in ("avg", "mean")


def _sum_nodes(
    parser: duckdb.DuckDBPyConnection, select: Sequence[Node], average: Average
) -> list[Node]:
    call = select[average.position]
    (sum_name, sum_type), (count_name, _) = average.sums
    [cast] = _select(parser, f"SELECT CAST(NULL AS {sum_type})")["select_list"]
    return [
        {**cast, "alias": sum_name, "child": {**call, "function_name": "sum", "alias": ""}},
        {**call, "function_name": "count", "alias": count_name},
    ]


def _select_of(parser: duckdb.DuckDBPyConnection, columns: Sequence[Node]) -> Node:
    return {**_select(parser, "SELECT NULL"), "select_list": list(columns)}


def _select(parser: duckdb.DuckDBPyConnection, text: str) -> Node:
    tree = tree_of(parser, text)
    assert isinstance(tree, dict), "the library wrote it"
    return tree
