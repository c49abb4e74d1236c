"""MySQL's types where DuckDB reads or compares them otherwise."""

import re
from collections.abc import Collection, Mapping

from jammi_lab.core.identifiers import quote_identifier
from jammi_lab.sources.databases.value_checks import decimal_type, fail_if, unreadable_value
from jammi_lab.sources.scan_conditions import without_pushdown

_DATES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
_WIDE_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\).*")
_INCOMPLETE = re.compile("date|timestamp")
_TIME = re.compile(r"time(?:\(\d\))?")
_LITERALS = tuple(
    (re.compile(kind), re.compile(value))
    for kind, value in (
        (r"(?:tiny|small|medium|big)?int(?: unsigned)?|year.*", r"-?\d{1,20}"),
        (r"decimal\(\d+,\d+\)(?: unsigned)?", r"-?\d{1,38}(?:\.\d+)?"),
        (r"date", r"\d{4}-\d\d-\d\d"),
        (r"(?:datetime|timestamp)(?:\(\d\))?", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?"),
    )
)
"""Types that the server compares as DuckDB does, with their constants."""


def is_wide_decimal(kind: str) -> bool:
    """Whether a type is a decimal that does not fit DECIMAL(38)."""
    return wide_decimal_type(kind) is not None


def wide_decimal_type(kind: str) -> str | None:
    """How a decimal is read that does not fit DECIMAL(38): exactly or refused; None for others."""
    match = _WIDE_DECIMAL.fullmatch(kind)
    return decimal_type(int(match[2])) if match is not None and int(match[1]) > 38 else None


def is_time(kind: str) -> bool:
    """Whether a type is a time, which may also be a duration, negative or of up to 838 hours."""
    return _TIME.fullmatch(kind) is not None


def scan_expression(name: str, duckdb_type: str, label: str) -> str:
    """A column in a scan. Its conditions are sent to the server only if it compares as DuckDB
    does."""
    if duckdb_type == "TIME":
        return date_from_text(name, duckdb_type, label)
    if duckdb_type in ("VARCHAR", "BLOB", "FLOAT", "DOUBLE"):
        return without_pushdown(name)
    return quote_identifier(name)


def literal_on_server(kind: str, value: str | None) -> str | None:
    """The literal of a constant of a type; None if the server compares it otherwise."""
    if value is None:
        # DuckDB reads dates with a zero as NULL; the server finds some of them by `IS NULL`, too.
        return None if _INCOMPLETE.match(kind) else "NULL"
    if is_wide_decimal(kind):
        return None
    return next(
        (
            f"'{value}'"
            for type_, values in _LITERALS
            if type_.fullmatch(kind) and values.fullmatch(value)
        ),
        None,
    )


def date_columns(types: Mapping[str, str], columns: Collection[str]) -> list[str]:
    """The columns that may contain dates with a zero as year, month or day, of those read."""
    return [name for name, kind in types.items() if name in columns and kind in _DATES]


def incomplete_date(quoted: str) -> str:
    """The server's condition for a date with a zero as month or day, which `0000-00-00` has, too.
    The extension reads that as NULL (1.5.5)."""
    return f"(MONTH({quoted}) = 0 OR DAYOFMONTH({quoted}) = 0)"


def date_from_text(name: str, kind: str, label: str) -> str:
    """A date or time from the server's text, which fails on one that DuckDB cannot hold."""
    quoted = quote_identifier(name)
    is_bad = f"{quoted} IS NOT NULL AND TRY_CAST({quoted} AS {kind}) IS NULL"
    message = unreadable_date(label, name)
    if kind == "TIME":
        is_bad += f" OR {quoted} LIKE '24:%'"
        message = unreadable_value(label, name, "time that is none of a day")
    return f"{fail_if(is_bad, message, f'CAST({quoted} AS {kind})', kind)} AS {quoted}"


def unreadable_date(label: str, column: str) -> str:
    """The message for a column with an incomplete date."""
    return unreadable_value(label, column, "date with a zero as year, month or day")
