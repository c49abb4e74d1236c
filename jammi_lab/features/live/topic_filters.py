"""`where=` conditions of a topic: which are allowed, and which rows of a batch satisfy one.

The syntax tree of the condition is checked node by node against a list of row-wise constructs;
DuckDB evaluates it, with SQL's semantics of NULL.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.errors import JammiError, SqlError, StatementNotAllowed
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql.tokens import check_expression
from jammi_lab.sources.base import ReadPlan, Relation

_ROWS_NAME = "__jammi_events"
_ROW_COLUMN = "__jammi_row"
_OPERATORS = {
    "COMPARE_IN",
    "COMPARE_NOT_IN",
    "OPERATOR_NOT",
    "OPERATOR_IS_NULL",
    "OPERATOR_IS_NOT_NULL",
}
_FUNCTIONS = {"lower", "upper", "length", "starts_with", "ends_with"}
_LIKE_FUNCTIONS = {"~~", "!~~", "like_escape", "not_like_escape"}
_NODE_CLASSES = {"COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "BETWEEN"}
_DESCRIPTIONS = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "CASE": "CASE",
    "CAST": "a cast",
    "STAR": "*",
    "PARAMETER": "a parameter",
    "~~*": "ILIKE",
    "!~~*": "NOT ILIKE",
}
_SYNTAX_HINT = (
    "Supported: comparisons, IN lists, BETWEEN, LIKE, IS NULL, AND, OR, NOT, and the functions "
    "lower, upper, length, starts_with, ends_with."
)

Node = dict[str, Any]


class Predicate:
    """A condition that is checked and bound once, and can be evaluated on any number of batches of
    its schema."""

    def __init__(self, engine: Engine, where: str, schema: pa.Schema, tenant: str | None) -> None:
        """Raises StatementNotAllowed for constructs that are not row-wise, SqlError with near
        columns for a condition that does not parse or bind, InvalidArgument."""
        self._engine, self._where, self._tenant = engine, check_expression(where), tenant
        by_fold = {fold(name): name for name in schema.names}
        self._columns = [by_fold[name] for name in dict.fromkeys(self._referenced_columns(by_fold))]
        prepared = self._prepare("SELECT (", ")", schema.empty_table())
        if prepared.output[0][1] != "BOOLEAN":
            raise SqlError(
                f"A condition must be BOOLEAN, got {prepared.output[0][1]}.", hint=_SYNTAX_HINT
            ).with_position(self._where, 0)
        # evaluated once on a NULL row, so that an invalid constant is reported now
        self.matching_rows(
            pa.table([pa.nulls(1, field.type) for field in schema], names=schema.names)
        )

    def matching_rows(self, rows: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The numbers of the rows that satisfy the condition, ascending. Raises SqlError when a
        value cannot be compared."""
        prefix = f"SELECT {_ROW_COLUMN} FROM {_ROWS_NAME} WHERE ("
        prepared = self._prepare(prefix, ") ORDER BY 1", rows, is_complete=True)
        with self._locate_errors(len(prefix) + 1):
            result = prepared.run().table()
        numbers: np.ndarray[Any, np.dtype[np.int64]] = result.column(0).to_numpy()
        return numbers

    def _prepare(
        self, prefix: str, suffix: str, rows: pa.Table, *, is_complete: bool = False
    ) -> PreparedStatement:
        # one chunk: DuckDB takes as long for a small batch as for a large one
        frame = rows.select(self._columns).combine_chunks()
        frame = frame.append_column(_ROW_COLUMN, pa.array(np.arange(rows.num_rows)))
        text = f"{prefix}\n{self._where}\n{suffix}" + ("" if is_complete else f" FROM {_ROWS_NAME}")
        with self._locate_errors(len(prefix) + 1):
            [prepared] = self._engine.prepare(
                text, None, tenant=self._tenant, extra_resolvers=[_RowsResolver(frame)]
            )
        return prepared

    @contextlib.contextmanager
    def _locate_errors(self, offset: int) -> Iterator[None]:
        """A block whose errors are positioned in the condition as the user wrote it."""
        try:
            yield
        except JammiError as error:
            if error.position is not None:
                error.with_position(
                    self._where, min(max(error.position - offset, 0), len(self._where))
                )
            raise

    def _referenced_columns(self, by_fold: dict[str, str]) -> Iterator[str]:
        """The folded names of the columns in the condition."""
        prefix = "SELECT ("
        text = f"{prefix}\n{self._where}\n) FROM {_ROWS_NAME}"
        tree = self._engine.parse_tree(text)
        if tree is None:
            with self._locate_errors(len(prefix) + 1):
                self._engine.parameters(text)  # raises where it does not parse
            raise StatementNotAllowed(
                f"The condition {self._where!r} cannot be parsed.", hint=_SYNTAX_HINT
            )
        for node in _checked_nodes(_expression(tree)):
            if node["class"] == "COLUMN_REF":
                name = node["column_names"][0]
                if fold(name) not in by_fold:
                    suggestions = near_names(name, by_fold.values())
                    raise SqlError(
                        f"There is no column {name}.",
                        near=suggestions,
                        hint=""
                        if suggestions
                        else f"The columns are {', '.join(by_fold.values())}.",
                    )
                yield fold(name)


class _RowsResolver:
    """The rows of some events as a relation with a name that cannot clash."""

    def __init__(self, rows: pa.Table) -> None:
        self._relation = Relation(Input(InputKind.FRAME, _ROWS_NAME), ReadPlan(frame=rows))

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        return self._relation if parts == (_ROWS_NAME,) else None

    def names(self) -> Sequence[str]:
        return []


def _expression(tree: Node) -> Node:
    """The single expression of `SELECT (…) FROM …`."""
    select = tree.get("statements", [tree])[0]
    select = select.get("node", select)
    select_list = select.get("select_list", [])
    if len(select_list) != 1 or select.get("from_table", {}).get("table_name") != _ROWS_NAME:
        raise StatementNotAllowed(
            "A condition must be one SQL expression over one row.", hint=_SYNTAX_HINT
        )
    expression: Node = select_list[0]
    return expression


def _checked_nodes(root: Node) -> Iterator[Node]:
    """Every node of the tree; each is checked to be row-wise first."""
    stack = [root]
    while stack:
        node = stack.pop()
        children = _children(node)
        yield node
        stack.extend(children)


def _children(node: Node) -> list[Node]:
    """The operands of a node. Raises StatementNotAllowed unless the node is row-wise."""
    kind, node_type = node.get("class"), node.get("type")
    if kind == "CAST" and _is_constant(node):  # DATE '2026-01-01', true
        return []
    if kind == "FUNCTION":
        name = node.get("function_name", "")
        schema = node.get("schema", "")
        is_simple_call = (
            not node.get("distinct")
            and not node.get("filter")
            and not (node.get("order_bys") or {}).get("orders")
        )
        if is_simple_call and (
            (name in _FUNCTIONS and not schema)
            or (name in _LIKE_FUNCTIONS and schema in ("", "main"))
        ):
            return list(node["children"])
        raise _not_allowed_error(
            f"{name}()" if name.isidentifier() else _DESCRIPTIONS.get(name) or name
        )
    if kind in _NODE_CLASSES or (kind == "OPERATOR" and node_type in _OPERATORS):
        parts = [node.get(part) for part in ("left", "right", "input", "lower", "upper")]
        return [*(part for part in parts if isinstance(part, dict)), *(node.get("children") or [])]
    raise _not_allowed_error(_DESCRIPTIONS.get(str(kind), str(node_type).replace("_", " ").lower()))


def _is_constant(node: Node) -> bool:
    child = node.get("child")
    return isinstance(child, dict) and (
        child.get("class") == "CONSTANT" or (child.get("class") == "CAST" and _is_constant(child))
    )


def _not_allowed_error(construct: str) -> StatementNotAllowed:
    return StatementNotAllowed(
        f"A condition on a topic is evaluated per row and cannot contain {construct}.",
        hint=_SYNTAX_HINT,
    )
