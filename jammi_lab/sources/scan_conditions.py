"""What a statement needs of the rows of one table, so that a server can leave the others out.

A scan by DuckDB's extension sends such conditions itself; a body that a server runs as a query has
to contain them.
"""

from collections.abc import Callable
from typing import NamedTuple

from jammi_lab.core.identifiers import quote_identifier


class ColumnComparison(NamedTuple):
    """A comparison of a column with constants of its type, or several of which one holds."""

    column: str
    operator: str
    """`=`, `<>`, `<`, `<=`, `>`, `>=`, `IN`, `IS NULL` or `IS NOT NULL`."""
    values: tuple[str, ...] = ()
    """The constants as DuckDB prints them, without quotes."""
    others: "tuple[ColumnComparison, ...]" = ()
    """Comparisons of which one may hold instead."""


class ScanConditions(NamedTuple):
    """Conditions on the rows that are needed of a table."""

    scans: tuple[tuple[ColumnComparison, ...], ...] = ()
    """For each scan of the table, comparisons that hold for all rows that it needs."""
    limit: int | None = None
    """How many of the rows for which all comparisons hold are enough, whichever they are."""


ALL_ROWS = ScanConditions()
"""No condition."""
LiteralOnServer = Callable[[str, str | None], str | None]
"""The server's literal for a constant of a column, or NULL for None; None if the server compares
the column otherwise than DuckDB."""
ConditionsOfScan = Callable[[], ScanConditions]
"""Determines the conditions, when a body needs them."""


def condition_on_server(
    conditions: ScanConditions, literal: LiteralOnServer, quote_name: Callable[[str], str]
) -> tuple[str, int | None]:
    """The SQL condition for all rows that are needed, empty for all rows; and the number of rows
    that is enough, if the condition is complete."""
    alternatives, is_complete = list[str](), True
    for comparisons in conditions.scans:
        terms = [_term(comparison, literal, quote_name) for comparison in comparisons]
        is_complete = is_complete and None not in terms
        alternatives.append(" AND ".join(term for term in terms if term is not None))
    limit = conditions.limit if is_complete and len(alternatives) == 1 else None
    if not all(alternatives):
        return "", limit
    return " OR ".join(f"({text})" for text in dict.fromkeys(alternatives)), limit


def _term(
    comparison: ColumnComparison, literal: LiteralOnServer, quote_name: Callable[[str], str]
) -> str | None:
    if comparison.others:
        alone = comparison._replace(others=())
        terms = [_term(each, literal, quote_name) for each in (alone, *comparison.others)]
        known = [term for term in terms if term is not None]
        return f"({' OR '.join(known)})" if len(known) == len(terms) else None
    name = quote_name(comparison.column)
    if not comparison.values:
        return f"{name} {comparison.operator}" if literal(comparison.column, None) else None
    values = [literal(comparison.column, value) for value in comparison.values]
    texts = [value for value in values if value]
    if len(texts) < len(values):
        return None
    if comparison.operator == "IN":
        return f"{name} IN ({', '.join(texts)})"
    return f"{name} {comparison.operator} {texts[0]}"


def without_pushdown(name: str) -> str:
    """A column in a SELECT whose conditions DuckDB tests itself: `least` of one value is that
    value, costs nothing, and stops the pushdown (1.5.5)."""
    quoted = quote_identifier(name)
    return f"least({quoted}) AS {quoted}"
