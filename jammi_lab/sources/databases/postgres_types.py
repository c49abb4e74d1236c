"""PostgreSQL's types where DuckDB reads or compares them otherwise."""

import re

from jammi_lab.core.identifiers import quote_identifier, sql_literal
from jammi_lab.sources.databases.value_checks import literal_of, unreadable_value

_NUMERIC = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?")
TEXT = re.compile(r"text|character varying(?:\(\d+\))?")
_INSTANT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?"
_LITERALS = tuple(
    (re.compile(kind), re.compile(value))
    for kind, value in (
        (r"smallint|integer|bigint|oid", r"-?\d{1,19}"),
        (r"numeric\(\d+,\d+\)", r"-?\d{1,38}(?:\.\d+)?"),
        (r"date", r"\d{4}-\d\d-\d\d"),
        (r"timestamp(?:\(\d\))? without time zone", _INSTANT),
        (r"timestamp(?:\(\d\))? with time zone", rf"{_INSTANT}[+-]\d\d(?::\d\d)?"),
        (r"uuid", r"[0-9a-f-]{36}"),
    )
)
_CASTS = {"money": "numeric(19,2)", "oid": "bigint", '"char"': "text", "path": "text"}
"""Types that are sent as others: the extension reads an oid as text, ends at an empty `"char"`, and
takes an open path for a closed one (1.5.5)."""
_LATE = "timestamp after the year 294246"


def is_wide_number(kind: str) -> bool:
    """Whether a type is a `numeric` that does not fit DECIMAL(38)."""
    match = _NUMERIC.fullmatch(kind)
    if match is None:
        return False
    return match[1] is None or int(match[1]) > 38 or not 0 <= int(match[2]) <= int(match[1])


def declared_scale(kind: str) -> int | None:
    """The decimals of a `numeric`; None if it has any number of them."""
    match = _NUMERIC.fullmatch(kind)
    return None if match is None or match[2] is None else max(int(match[2]), 0)


def value_on_server(name: str, kind: str, scale: int | None, label: str) -> str:
    """The server's expression for a column of the table `label`: what DuckDB reads exactly. It
    fails, with the column's name, at a value that DuckDB would read as another.

    `scale` is how many decimals a number that does not fit DECIMAL(38) is read with; with None it
    is a DOUBLE.
    """
    column, one = quote_identifier(name), kind.removesuffix("[]")
    if "." in kind:  # of the database's own
        return f"{column}::text"
    cast, bad, what = _CASTS.get(one, ""), "", ""
    if is_wide_number(one):
        cast = "double precision"
        if scale is not None:
            cast = f"numeric(38,{scale})"
            bad = f"v = 'NaN' OR v <> pg_catalog.round(v, {scale}) OR pg_catalog.abs(v) >= "
            bad += f"1e{38 - scale}"
            what = f"NaN, or a number beyond DECIMAL(38,{scale}){kind.removeprefix(one)}"
    elif _NUMERIC.fullmatch(one):
        cast, bad, what = one, "v = 'NaN'", "NaN"  # a domain does not tell its digits
    elif one.startswith("timestamp"):
        bad = "pg_catalog.isfinite(v) AND v > '294247-01-10 04:00:54.775806'"
        what = _LATE
    is_list = one != kind
    value = f"{column}::{cast}{'[]' if is_list else ''}" if cast else column
    if is_list:
        rows = f"EXISTS (SELECT FROM pg_catalog.unnest({column}) v WHERE {bad})" if bad else "false"
        bad = f"pg_catalog.array_ndims({column}) > 1 OR {rows}"
        what = f"{what}{', or a ' if what else ''}list of several dimensions"
    if not bad:
        return value
    if not is_list:
        bad = re.sub(r"\bv\b", lambda _: column, bad)
    # A cast of a constant would fail when the server plans the query.
    message = sql_literal(unreadable_value(label, name, what))
    failure = f"({message} || pg_catalog.left({column}::text, 0))::{kind}"
    return f"CASE WHEN {bad} THEN {failure} ELSE {column} END" + value.removeprefix(column)


def literal_on_server(kind: str, value: str | None) -> str | None:
    """The literal of a constant of a type; None if the server compares it otherwise."""
    if value is None:  # a row of NULLs is NULL there
        return "NULL" if "." not in kind else None
    if is_wide_number(kind):
        return None
    if TEXT.fullmatch(kind):
        return f'{sql_literal(value)} COLLATE "C"'
    return literal_of(kind, value, _LITERALS)
