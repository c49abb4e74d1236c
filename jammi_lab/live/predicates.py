"""Conditions over one row: what `where=` of a topic may say, and which rows of a batch satisfy it.

The condition is judged by its syntax tree, node by node, against a list of what is row-wise; DuckDB evaluates it, with SQL's NULL.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.engine.prepared import Prepared
from jammi_lab.engine.session import Engine
from jammi_lab.engine.tokens import one_expression
from jammi_lab.errors import JammiError, SqlError, StatementNotAllowed
from jammi_lab.names import fold, near
from jammi_lab.sources.base import Relation
from jammi_lab.values.anchors import Input, InputKind

_ROWS = "__jammi_events"
_NUMBER = "__jammi_row"
_OPERATORS = {"COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"}
_FUNCTIONS = {"lower", "upper", "length", "starts_with", "ends_with"}
_LIKE = {"~~", "!~~", "like_escape", "not_like_escape"}
_CLASSES = {"COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "BETWEEN"}
_WORDS = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "CASE": "CASE",
    "CAST": "a cast",
    "STAR": "*",
    "PARAMETER": "a parameter",
    "~~*": "ILIKE",
    "!~~*": "NOT ILIKE",
}
_LANGUAGE = "It may say comparisons, IN lists, BETWEEN, LIKE, IS NULL, AND, OR, NOT, and call lower, upper, length, starts_with, ends_with."

Node = dict[str, Any]


class Predicate:
    """A condition that was judged and bound once; it may be asked about any number of batches of its schema."""

    def __init__(self, engine: Engine, where: str, schema: pa.Schema, tenant: str | None) -> None:
        """Raises StatementNotAllowed for what is not row-wise, SqlError with near columns for what does not parse or bind, InvalidArgument."""
        self._engine, self._where, self._tenant = engine, one_expression(where), tenant
        by_fold = {fold(name): name for name in schema.names}
        self._columns = [by_fold[name] for name in dict.fromkeys(self._named(by_fold))]
        bound = self._prepared("SELECT (", ")", schema.empty_table())
        if bound.output[0][1] != "BOOLEAN":
            raise SqlError(f"A condition is true or false, and this one is {bound.output[0][1]}.", hint=_LANGUAGE).at(self._where, 0)
        self.matching(pa.table([pa.nulls(1, field.type) for field in schema], names=schema.names))  # a constant that is no such value is told now

    def matching(self, rows: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The numbers of the rows that satisfy it, rising. SqlError when a value cannot be compared."""
        before = f"SELECT {_NUMBER} FROM {_ROWS} WHERE ("
        prepared = self._prepared(before, ") ORDER BY 1", rows, whole=True)
        with self._placed(len(before) + 1):
            found = prepared.run().table()
        numbers: np.ndarray[Any, np.dtype[np.int64]] = found.column(0).to_numpy()
        return numbers

    def _prepared(self, before: str, after: str, rows: pa.Table, *, whole: bool = False) -> Prepared:
        given = rows.select(self._columns).combine_chunks()  # DuckDB takes as long for a small batch as for a large one
        given = given.append_column(_NUMBER, pa.array(np.arange(rows.num_rows)))
        text = f"{before}\n{self._where}\n{after}" + ("" if whole else f" FROM {_ROWS}")
        with self._placed(len(before) + 1):
            [prepared] = self._engine.prepare(text, None, tenant=self._tenant, extra=[_Rows(given)])
        return prepared

    @contextlib.contextmanager
    def _placed(self, offset: int) -> Iterator[None]:
        """Errors about the condition, with the place in what the person wrote."""
        try:
            yield
        except JammiError as error:
            if error.position is not None:
                error.at(self._where, min(max(error.position - offset, 0), len(self._where)))
            raise

    def _named(self, by_fold: dict[str, str]) -> Iterator[str]:
        """The folds of the columns that it names."""
        before = "SELECT ("
        text = f"{before}\n{self._where}\n) FROM {_ROWS}"
        tree = self._engine.parse_tree(text)
        if tree is None:
            with self._placed(len(before) + 1):
                self._engine.parameters(text)  # raises where it does not parse
            raise StatementNotAllowed(f"The condition {self._where!r} cannot be read.", hint=_LANGUAGE)
        for node in _nodes(_expression(tree)):
            if node["class"] == "COLUMN_REF":
                name = node["column_names"][0]
                if fold(name) not in by_fold:
                    like = near(name, by_fold.values())
                    raise SqlError(f"There is no column {name}.", near=like, hint="" if like else f"The columns are {', '.join(by_fold.values())}.")
                yield fold(name)


class _Rows:
    """The rows of some events, under a name that nothing else has."""

    def __init__(self, rows: pa.Table) -> None:
        self._relation = Relation(input=Input(InputKind.FRAME, _ROWS), frame=rows)

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        return self._relation if parts == (_ROWS,) else None

    def names(self) -> Sequence[str]:
        return []


def _expression(tree: Node) -> Node:
    """The one expression of `SELECT (…) FROM …`."""
    select = tree.get("statements", [tree])[0]
    select = select.get("node", select)
    listed = select.get("select_list", [])
    if len(listed) != 1 or select.get("from_table", {}).get("table_name") != _ROWS:
        raise StatementNotAllowed("A condition is one SQL expression over one row.", hint=_LANGUAGE)
    expression: Node = listed[0]
    return expression


def _nodes(root: Node) -> Iterator[Node]:
    """Every node, after each was found to be row-wise."""
    stack = [root]
    while stack:
        node = stack.pop()
        children = _children(node)
        yield node
        stack.extend(children)


def _children(node: Node) -> list[Node]:
    """What a node is over. StatementNotAllowed when it is none that looks at one row only."""
    kind, said = node.get("class"), node.get("type")
    if kind == "CAST" and _constant(node):  # DATE '2026-01-01', true
        return []
    if kind == "FUNCTION":
        name = node.get("function_name", "")
        schema = node.get("schema", "")
        plain = not node.get("distinct") and not node.get("filter") and not (node.get("order_bys") or {}).get("orders")
        if plain and ((name in _FUNCTIONS and not schema) or (name in _LIKE and schema in ("", "main"))):
            return list(node["children"])
        raise _refused(f"{name}()" if name.isidentifier() else _WORDS.get(name) or name)
    if kind in _CLASSES or (kind == "OPERATOR" and said in _OPERATORS):
        parts = [node.get(part) for part in ("left", "right", "input", "lower", "upper")]
        return [*(part for part in parts if isinstance(part, dict)), *(node.get("children") or [])]
    raise _refused(_WORDS.get(str(kind), str(said).replace("_", " ").lower()))


def _constant(node: Node) -> bool:
    child = node.get("child")
    return isinstance(child, dict) and (child.get("class") == "CONSTANT" or (child.get("class") == "CAST" and _constant(child)))


def _refused(what: str) -> StatementNotAllowed:
    return StatementNotAllowed(f"A condition on a topic looks at one row and cannot hold {what}.", hint=_LANGUAGE)
