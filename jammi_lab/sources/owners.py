"""Which rows of a table on a server one owner may see: conditions that the server decides, so that these rows are fetched and not the table.

The rows that meet them are all that are wanted, and perhaps a few more; whoever reads them decides by the exact condition, before anything else
that a statement asks is looked at (`tenants.barred`): it would meet the values of others otherwise.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jammi_lab.names import literal, quote

_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_NUMBER = re.compile(r"0|[1-9]\d{0,17}")
_PLAIN = re.compile(r"[A-Za-z0-9_.@:+ -]+")
"""Names that no server reads as anything but themselves."""


class Owner(NamedTuple):
    """Whose rows are wanted: those in which the column names the tenant, in whatever case, and those in which it is NULL."""

    column: str
    tenant: str | None


def conditions(
    owner: Owner | None,
    types: Mapping[str, str],
    ranged: frozenset[str],
    *,
    quoted: Callable[[str], str] = quote,
    text: Callable[[str], str] = literal,
    lower: Callable[[str], str],
) -> list[str]:
    """Conditions of which every wanted row meets exactly one, first that it has no owner; empty where nothing can be sent.

    `types` are DuckDB's types of the columns, `ranged` the columns of which the server finds, between ACME and acme, every way to write that name in
    capital and small letters. `lower` makes small letters of a column, of A to Z at least. The range is for an index; it holds other names, too."""
    if owner is None or owner.column not in types:
        return []
    name, kind, tenant = quoted(owner.column), types[owner.column], owner.tenant
    if tenant is None:
        return [f"{name} IS NULL"]
    if kind in _WHOLE:
        return [f"{name} IS NULL", *([f"{name} = {tenant}"] if _NUMBER.fullmatch(tenant) else [])]
    if kind == "VARCHAR" and owner.column in ranged and _PLAIN.fullmatch(tenant) and tenant.strip() == tenant:
        small = text(tenant.lower())
        return [f"{name} IS NULL", f"({name} >= {text(tenant.upper())} AND {name} <= {small} AND {lower(name)} = {small})"]
    return []


def sent(conditions: Sequence[str]) -> str:
    """The end of a query that a server runs."""
    return f" WHERE {' OR '.join(conditions)}" if conditions else ""
