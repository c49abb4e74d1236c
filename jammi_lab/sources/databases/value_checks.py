"""Values on a server that DuckDB would read as others: the statement fails and names the column."""

import re
from collections.abc import Sequence

from jammi_lab.core.identifiers import quote_identifier, sql_literal

_MAX_DIGITS = 38
_DEFAULT_SCALE = 10
"""Decimals of a number for which the server knows no limit: 28 digits are left before the point,
and products of two such numbers still fit."""


def unreadable_value(label: str, column: str, value: str) -> str:
    """The message for a column of a table with such a value."""
    return f"The column {column!r} of {label} contains a {value}, which DuckDB cannot represent."


def decimal_scale(declared: int | None) -> int:
    """With how many decimals a number of more than 38 digits is read, or of any number of them."""
    return _DEFAULT_SCALE if declared is None else min(declared, _DEFAULT_SCALE)


def scale_of_values(digits: int, scale: int) -> int | None:
    """The decimals with which numbers are read of which none has more digits before the point and
    after it; None if no DECIMAL holds them."""
    wanted = max(scale, min(_DEFAULT_SCALE, _MAX_DIGITS - digits))
    return wanted if digits + wanted <= _MAX_DIGITS else None


def decimal_from_text(name: str, kind: str, label: str) -> str:
    """A decimal from the server's text, which fails on one that the type does not hold exactly: a
    cast would round it."""
    column, scale = quote_identifier(name), int(kind.removesuffix(")").rpartition(",")[2])
    decimals = f"length(rtrim(split_part({column}, '.', 2), '0'))"
    is_bad = f"TRY_CAST({column} AS {kind}) IS NULL OR {decimals} > {scale}"
    message = unreadable_value(label, name, f"NaN, or a number beyond {kind}")
    return fail_if(f"{column} IS NOT NULL AND ({is_bad})", message, column, kind)


Literals = Sequence[tuple[re.Pattern[str], re.Pattern[str]]]
"""Types that a server compares as DuckDB does, with their constants."""


def literal_of(kind: str, value: str, literals: Literals) -> str | None:
    """The literal of a constant of a type; None if the server compares it otherwise."""
    for type_, values in literals:
        if type_.fullmatch(kind) and values.fullmatch(value):
            return sql_literal(value)
    return None


def fail_if(condition: str, message: str, column: str, kind: str) -> str:
    """A column that is cast to a type, and fails with a message if a condition holds."""
    failure = f"error({sql_literal(message)})::{kind}"
    return f"CASE WHEN {condition} THEN {failure} ELSE CAST({column} AS {kind}) END"
