"""Conditions that are one expression, within a statement of ours: positions of their errors, and
those that may use nothing but the columns of a row."""

import contextlib
from collections.abc import Iterator

from jammi_lab.core.errors import JammiError, StatementNotAllowed
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.sql.allowlist import character_offset, walk_nodes
from jammi_lab.engine.sql.tokens import check_expression

_PREFIX = "SELECT 1 WHERE (\n"


@contextlib.contextmanager
def positions_in(where: str, start: int) -> Iterator[None]:
    """A block whose errors are positioned in the condition as the user wrote it; `start` is where
    the statement has it."""
    try:
        yield
    except JammiError as error:
        if error.position is not None:
            error.with_position(where, min(max(error.position - start, 0), len(where)))
        raise


def check_row_condition(engine: Engine, where: str) -> str:
    """The condition, if it reads the columns of a row alone. StatementNotAllowed for a subquery,
    a parameter, or what is not one expression; SqlError for what does not parse."""
    text = f"{_PREFIX}{check_expression(where)}\n)"
    tree = engine.parse_tree(text)
    if tree is None:
        with positions_in(where, len(_PREFIX)):
            engine.parameters(text)  # raises where it does not parse
        raise StatementNotAllowed(f"The condition {where!r} cannot be parsed.")
    for node in walk_nodes(tree["where_clause"]):
        if node.get("class") in ("SUBQUERY", "PARAMETER"):
            offset = character_offset(text, node.get("query_location"))
            raise StatementNotAllowed(
                "This condition may use only the columns of a row, without subqueries and"
                " parameters.",
                hint="ws.sql('SELECT … WHERE …') takes any condition.",
            ).with_position(where, None if offset is None else max(offset - len(_PREFIX), 0))
    return where
