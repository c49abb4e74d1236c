"""The statement by which producers read the key and the text columns of a source."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.core.identifiers import fold, quote_identifier
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.engine.sql.tokens import all_tokens, check_expression

UNORDERED_TYPES = re.compile(r"\]$|^(STRUCT|MAP|UNION|INTERVAL|VARIANT|BIT\b)")
"""SQL types that cannot be a key: they have no order, or do not survive Parquet."""
_TEXT_TYPES = re.compile(r"VARCHAR$|ENUM\(")


def text_statement(from_sql: str, key: str, text: Sequence[str], where: str | None) -> str:
    """The SELECT of key and texts, in key order. StatementNotAllowed for a condition that is not
    one."""
    columns = ", ".join(map(quote_identifier, _selected_columns(key, text)))
    condition = "" if where is None else f"\nWHERE (\n{check_expression(where)}\n)"
    # ORDER BY is explicit: a plan that keeps the order of its input would not sort by the key
    return f"SELECT {columns} FROM {from_sql}{condition}\nORDER BY {quote_identifier(key)}"


def recorded_from_text(descriptor: Mapping[str, Any]) -> str:
    """The FROM text in the statement of a recorded definition."""
    columns = ", ".join(
        map(quote_identifier, _selected_columns(descriptor["key"], descriptor["text"]))
    )
    from_and_order = str(descriptor["statement"]).removeprefix(f"SELECT {columns} FROM ")
    if not from_and_order.startswith("("):
        name_match = re.match(r'"(?:[^"]|"")*"(?:\."(?:[^"]|"")*")*', from_and_order)
        return name_match[0] if name_match else from_and_order
    depth = 0
    for position, token in all_tokens(from_and_order):
        depth += (token[:1] == b"(") - (token[:1] == b")")
        if depth == 0:
            return from_and_order.encode()[: position + 1].decode()
    return from_and_order


def check_text_columns(
    key: str, text: Sequence[str], what: str, noun: str = "text", argument: str = "text"
) -> None:
    """Check the names of the key and of the columns read, of `what`. `noun` and `argument` name
    these columns in messages. InvalidArgument."""
    if not isinstance(key, str) or not key:
        raise InvalidArgument(
            f"The key of {what} must be one column name, got {key!r}.",
            hint="Combine several columns in SQL: SELECT a || '/' || b AS id, … FROM …",
        )
    if not text:
        raise InvalidArgument(
            f"{what.capitalize()} needs at least one {noun} column.",
            hint=f'For example: {argument}=["title"].',
        )
    if invalid := [t for t in text if not isinstance(t, str) or not t]:
        article = "An" if noun[0] in "aeiou" else "A"
        raise InvalidArgument(f"{article} {noun} column must be a column name, got {invalid[0]!r}.")


def _selected_columns(key: str, text: Sequence[str]) -> list[str]:
    """The columns that the statement reads, each once, the key first."""
    by_folded_name = {fold(key): key}
    for column in text:
        by_folded_name.setdefault(fold(column), column)
    return list(by_folded_name.values())


def column_positions(
    prepared: PreparedStatement, key: str, columns: Sequence[str], *, are_texts: bool
) -> list[int]:
    """The output positions of the columns read. Raises SchemaMismatch for a key whose type has no
    order, and for a column that is not text where all are."""
    positions = {
        fold(column): position for position, column in enumerate(_selected_columns(key, columns))
    }
    name, kind = prepared.output[0]
    if UNORDERED_TYPES.search(kind):
        raise SchemaMismatch(
            f"The key {name!r} is {kind}, which cannot be a key.",
            column=name,
            expected="a type with an order, such as a number, text or date",
            actual=kind,
        )
    found = [positions[fold(column)] for column in columns]
    for position in found if are_texts else ():
        name, kind = prepared.output[position]
        if not _TEXT_TYPES.match(kind):
            raise SchemaMismatch(
                f"The text column {name!r} has type {kind}, not text.",
                column=name,
                expected="VARCHAR",
                actual=kind,
                hint=f"Cast it in SQL: SELECT …, {quote_identifier(name)}::VARCHAR AS "
                f"{quote_identifier(name)} FROM …",
            )
    return found
