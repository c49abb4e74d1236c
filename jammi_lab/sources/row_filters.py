"""SQL conditions that push a tenant filter down to a server, so that only the tenant's rows are
fetched instead of the whole table.

They select all rows of the tenant and perhaps a few more. The reader then applies the exact
condition before any condition of the statement (`row_security.filtered_select`), which could
otherwise evaluate values of other tenants.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

_INTEGER_TYPES = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)
_INTEGER_TEXT = re.compile(r"0|[1-9]\d{0,17}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.@:+ -]+")
"""Tenant names whose comparison does not depend on the server's collation."""


class OwnerFilter(NamedTuple):
    """Selects the rows whose column contains the tenant's name, ignoring case, or NULL."""

    column: str
    tenant: str | None


class ServerDialect(NamedTuple):
    """How a kind of server writes SQL, and what it says."""

    quote_name: Callable[[str], str]
    """Quotes a name."""
    quote_text: Callable[[str], str]
    """Quotes a text, which is compared by its bytes if the server can."""
    lower: Callable[[str], str]
    """Converts a column to lower case, A to Z at least."""
    literal: Callable[[str, str | None], str | None]
    """The literal for a constant of a column of one of the server's types, or NULL for None; None
    if the server compares the type otherwise than DuckDB."""
    text_type: str
    """The type of text in a CAST."""
    messages: re.Pattern[str]
    """How messages of the extension, the client library and the server begin."""
    reason: re.Pattern[str]
    """Finds the reason in such a message."""


def conditions(
    owner_filter: OwnerFilter | None,
    types: Mapping[str, str],
    range_columns: frozenset[str],
    dialect: ServerDialect,
) -> list[str]:
    """Disjoint conditions that together cover the owner's rows, the first for rows without an
    owner; empty if no condition can be pushed down.

    `types` are DuckDB's column types. `range_columns` are the columns on which the server's range
    from ACME to acme contains every capitalisation of that name; the range lets the server use an
    index and contains other names, too.
    """
    if owner_filter is None or owner_filter.column not in types:
        return []
    name, quote_text = dialect.quote_name(owner_filter.column), dialect.quote_text
    kind = types[owner_filter.column]
    tenant = owner_filter.tenant
    if tenant is None:
        return [f"{name} IS NULL"]
    if kind in _INTEGER_TYPES:
        return [
            f"{name} IS NULL",
            *([f"{name} = {tenant}"] if _INTEGER_TEXT.fullmatch(tenant) else []),
        ]
    if (
        kind == "VARCHAR"
        and owner_filter.column in range_columns
        and _PLAIN_NAME.fullmatch(tenant)
        and tenant.strip() == tenant
    ):
        lower_name = quote_text(tenant.lower())
        return [
            f"{name} IS NULL",
            (
                f"({name} >= {quote_text(tenant.upper())} AND {name} <= {lower_name} "
                f"AND {dialect.lower(name)} = {lower_name})"
            ),
        ]
    return []


def where_clause(conditions: Sequence[str]) -> str:
    """The WHERE clause of a query for a server, or the empty string."""
    return f" WHERE {' OR '.join(conditions)}" if conditions else ""
