"""Rules about the rows of a table, for `ws.checks.add`: each becomes a SELECT of the rows that
break it, with its values bound as parameters."""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import quote_identifier, quoted_name, sql_literal

__all__ = ["Rule", "accepted", "between", "not_null", "references", "row_count", "unique"]


@dataclass(frozen=True)
class Rule:
    """A rule about the rows of one table."""

    words: str
    """The rule in words."""
    select: tuple[str, str]
    """The SELECT of the rows that break it, before and after the name of the table."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Values of its `$names`."""

    def statement(self, *table: str) -> str:
        """The SELECT of the rows of a table, given as the parts of its name, that break the
        rule."""
        return quoted_name(*table).join(self.select)

    def __str__(self) -> str:
        return self.words


def leading_comment(statement: str) -> str:
    """The comment lines at the beginning of a statement, as one line; empty without any."""
    lines = [line.strip() for line in statement.strip().splitlines()]
    comment = itertools.takewhile(lambda line: line.startswith("--"), lines)
    return " ".join(line.lstrip("-").strip() for line in comment).strip()


def unique(*columns: str) -> Rule:
    """No two rows have equal values in these columns. Rows with a NULL among them are not
    compared."""
    quoted = _quoted_columns(columns)
    is_set = " AND ".join(f"{column} IS NOT NULL" for column in quoted)
    return Rule(
        f"{', '.join(columns)} {'is' if len(columns) == 1 else 'are together'} unique",
        (
            "SELECT * FROM ",
            f" WHERE {is_set} QUALIFY count(*) OVER (PARTITION BY {', '.join(quoted)}) > 1",
        ),
    )


def not_null(*columns: str) -> Rule:
    """None of these columns is NULL in any row."""
    is_null = " OR ".join(f"{column} IS NULL" for column in _quoted_columns(columns))
    return Rule(f"{', '.join(columns)} is never NULL", ("SELECT * FROM ", f" WHERE {is_null}"))


def in_range(column: str, low: Any = None, high: Any = None) -> Rule:
    """The column is from `low` to `high`, both included; None leaves a side open. NULL passes."""
    [quoted] = _quoted_columns([column])
    breaks, params = _range_violation(quoted, low, high)
    return Rule(
        f"{column} is {_range_words(low, high)}", ("SELECT * FROM ", f" WHERE {breaks}"), params
    )


between = in_range  # the name that SQL has for it


def accepted(column: str, values: Sequence[Any]) -> Rule:
    """The column has one of these values. NULL passes."""
    accepted_values = [] if isinstance(values, str) else [v for v in values if v is not None]
    if not accepted_values:
        raise InvalidArgument(
            "values must be a list of the accepted values.",
            hint=f'jl.checks.accepted({column!r}, ["a", "b"])',
        )
    params = {f"value_{number}": _exact(value) for number, value in enumerate(accepted_values, 1)}
    names = ", ".join(f"${name}" for name in params)
    return Rule(
        f"{column} is one of {', '.join(map(repr, accepted_values))}",
        ("SELECT * FROM ", f" WHERE {_comparable(column, accepted_values)} NOT IN ({names})"),
        params,
    )


def references(column: str, table: str, other_column: str | None = None) -> Rule:
    """Each value of the column occurs in a column of another table, by default the one of the same
    name. `table` is a name as in FROM: "jammi.customers". NULL passes."""
    [quoted, other] = _quoted_columns([column, column if other_column is None else other_column])
    return Rule(
        f"{column} occurs in {table}.{column if other_column is None else other_column}",
        (
            "SELECT __checked.* FROM ",
            (
                f" AS __checked WHERE __checked.{quoted} IS NOT NULL AND NOT EXISTS "
                f"(SELECT 1 FROM {table} AS __other WHERE __other.{other} = __checked.{quoted})"
            ),
        ),
    )


def row_count(min: int | None = None, max: int | None = None) -> Rule:
    """The table has at least `min` and at most `max` rows; None leaves a side open."""
    for bound in (min, max):
        if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool)):
            raise InvalidArgument(f"A number of rows must be an integer, got {bound!r}.")
    breaks, params = _range_violation("row_count", min, max)
    words = _range_words(min, max)
    return Rule(
        f"the table has {words} {'row' if words.endswith(' 1') else 'rows'}",
        ("SELECT row_count FROM (SELECT count(*) AS row_count FROM ", f") WHERE {breaks}"),
        params,
    )


def _range_violation(expression: str, low: Any, high: Any) -> tuple[str, dict[str, Any]]:
    if low is None and high is None:
        raise InvalidArgument("A range needs a lower or an upper bound.")
    with contextlib.suppress(TypeError):  # values that Python does not compare, the engine may
        if low is not None and high is not None and low > high:
            raise InvalidArgument(f"The lower bound {low} is above the upper bound {high}.")
    bounds = (("low", low), ("high", high))
    params = {name: _exact(bound) for name, bound in bounds if bound is not None}
    comparisons = {"low": f"{expression} < $low", "high": f"{expression} > $high"}
    return " OR ".join(comparisons[name] for name in params), params


def _comparable(column: str, values: Sequence[Any]) -> str:
    """The column, to be looked up among these values. DuckDB would look up a text among numbers as
    a number, and '1' and '01' are one number."""
    [quoted] = _quoted_columns([column])
    if not any(isinstance(v, int | float | Decimal) and not isinstance(v, bool) for v in values):
        return quoted
    message = f"the column {column} is VARCHAR: give the accepted values as texts"
    refusal = f"error({sql_literal(message)})"
    return f"CASE WHEN typeof({quoted}) = 'VARCHAR' THEN {refusal} ELSE {quoted} END"


def _exact(value: Any) -> Any:
    """A whole number as an integer: DuckDB compares large integers with a DOUBLE by the nearest
    DOUBLE."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _MAX_INTEGER
    return int(value) if is_whole else value


_MAX_INTEGER = 2.0**127
"""The limit of DuckDB's integers."""


def _range_words(low: Any, high: Any) -> str:
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"between {low} and {high}"


def _quoted_columns(columns: Sequence[str]) -> list[str]:
    if not columns or not all(isinstance(column, str) and column for column in columns):
        raise InvalidArgument("A rule needs the names of its columns, as strings.")
    return [quote_identifier(column) for column in columns]
