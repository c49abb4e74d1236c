"""Checks for values on a server that DuckDB would read as others: the statement fails and names the
column."""

from collections.abc import Sequence

from jammi_lab.core.identifiers import quote_identifier, sql_literal

MAX_DIGITS = 38
DEFAULT_SCALE = 10
"""Decimals of a number for which the server knows no limit: 28 digits are left before the point,
and products of two such numbers still fit."""


def unreadable_value(label: str, column: str, value: str) -> str:
    """The message for a column of a table with such a value."""
    return f"The column {column!r} of {label} contains a {value}, which DuckDB cannot represent."


def decimal_type(scale: int | None) -> str:
    """The type of an exact number of more than 38 digits, or of any number of them."""
    return f"DECIMAL(38,{DEFAULT_SCALE if scale is None else min(scale, DEFAULT_SCALE)})"


def number_type(digits: int, scale: int) -> str:
    """The type of numbers with at most so many digits before the point and after it; DOUBLE if no
    DECIMAL holds them."""
    wanted = max(scale, min(DEFAULT_SCALE, MAX_DIGITS - digits))
    return f"DECIMAL({MAX_DIGITS},{wanted})" if digits + wanted <= MAX_DIGITS else "DOUBLE"


def number_text(name: str, kind: str) -> str:
    """A column of the server's texts as what a cast to the type of numbers takes: PostgreSQL writes
    lists as `{1,2}`."""
    column = quote_identifier(name)
    if not kind.endswith("[]"):
        return column
    return f"TRY_CAST(translate({column}, '{{}}', '[]') AS VARCHAR[])"


def decimal_from_text(name: str, kind: str, label: str) -> str:
    """A decimal, or a list of them, from the server's text, which fails on one that the type does
    not hold exactly: a cast would round it."""
    column, text = quote_identifier(name), number_text(name, kind)
    one = kind.removesuffix("[]")
    scale = int(one.removesuffix(")").rpartition(",")[2])

    def is_bad(value: str) -> str:
        decimals = f"length(rtrim(split_part({value}, '.', 2), '0'))"
        is_beyond = f"TRY_CAST({value} AS {one}) IS NULL OR {decimals} > {scale}"
        return f"{value} IS NOT NULL AND ({is_beyond})"

    condition = is_bad(column)
    if one != kind:
        bad_ones = f"list_filter({text}, lambda value: {is_bad('value')})"
        condition = f"{column} IS NOT NULL AND len({bad_ones}) IS DISTINCT FROM 0"
    message = unreadable_value(label, name, f"NaN, or a number beyond {kind}")
    return fail_if(condition, message, f"CAST({text} AS {kind})", kind)


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
