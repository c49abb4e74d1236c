"""Checks for values on a server that DuckDB would read as others: the statement fails and names the
column."""

from collections.abc import Sequence

from jammi_lab.core.identifiers import sql_literal


def unreadable_value(label: str, column: str, value: str) -> str:
    """The message for a column of a table with such a value."""
    return f"The column {column!r} of {label} contains a {value}, which DuckDB cannot represent."


def fail_if(condition: str, message: str, value: str, kind: str) -> str:
    """An expression of a type that fails with a message if a condition holds."""
    return f"CASE WHEN {condition} THEN error({sql_literal(message)})::{kind} ELSE {value} END"


def first_bad_column(tests: Sequence[str], table: str, needed: str) -> str:
    """A query for a server: the position of the first test that holds for one of the needed rows.
    No row if none does."""
    cases = " ".join(f"WHEN {test} THEN {number}" for number, test in enumerate(tests))
    rows = f"({' OR '.join(tests)})" + (f" AND ({needed})" if needed else "")
    return f"SELECT CASE {cases} END AS bad FROM {table} WHERE {rows} LIMIT 1"


def fail_if_found(server_query: str, messages: Sequence[str]) -> str:
    """A condition that fails with one of the messages if the query for a bad column has a row."""
    texts = ", ".join(map(sql_literal, messages))
    return (
        "(SELECT CASE WHEN max(bad) IS NULL THEN true ELSE "
        f"error([{texts}][max(bad)::BIGINT + 1])::BOOLEAN END FROM {server_query})"
    )
