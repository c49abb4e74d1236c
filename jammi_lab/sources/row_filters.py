"""SQL conditions that push a tenant filter down to a server, so that only the tenant's rows are
fetched instead of the whole table.

They select all rows of the tenant and perhaps a few more. The reader then applies the exact
condition before any condition of the statement (`row_security.filtered_select`), which could
otherwise evaluate values of other tenants.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jammi_lab.core.identifiers import quote_identifier, sql_literal

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


def conditions(
    owner_filter: OwnerFilter | None,
    types: Mapping[str, str],
    range_columns: frozenset[str],
    *,
    quote_name: Callable[[str], str] = quote_identifier,
    quote_text: Callable[[str], str] = sql_literal,
    lower: Callable[[str], str],
) -> list[str]:
    """Disjoint conditions that together cover the owner's rows, the first for rows without an
    owner; empty if no condition can be pushed down.

    `types` are DuckDB's column types. `range_columns` are the columns on which the server's range
    from ACME to acme contains every capitalisation of that name; the range lets the server use an
    index and contains other names, too. `quote_name` and `quote_text` quote a name and a string;
    `lower` converts a column to lower case, A to Z at least.
    """
    if owner_filter is None or owner_filter.column not in types:
        return []
    name = quote_name(owner_filter.column)
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
                f"AND {lower(name)} = {lower_name})"
            ),
        ]
    return []


def where_clause(conditions: Sequence[str]) -> str:
    """The WHERE clause of a query for a server, or the empty string."""
    return f" WHERE {' OR '.join(conditions)}" if conditions else ""
