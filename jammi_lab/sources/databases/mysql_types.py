"""MySQL's types where DuckDB reads or compares them otherwise."""

import re

from jammi_lab.core.identifiers import quote_identifier
from jammi_lab.sources.databases.value_checks import (
    decimal_from_text,
    decimal_scale,
    fail_if,
    literal_of,
    unreadable_value,
)

TEXT = re.compile(r"(tiny|medium|long)?text|(var)?char|enum|set|json")
_READ_AS_TEXT = re.compile(rf"(?:{TEXT.pattern}|uuid|inet[46])\b")
"""Types of which a query returns bytes where their collation is a binary one."""
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\).*")
_DATE = re.compile("date|timestamp")
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


def _wide_scale(kind: str) -> int | None:
    """The declared decimals of a decimal that does not fit DECIMAL(38); None for any other."""
    match = _DECIMAL.fullmatch(kind)
    return int(match[2]) if match is not None and int(match[1]) > 38 else None


def type_as_read(kind: str, described: str) -> str:
    """The type of a column that DuckDB describes as `described` in a query."""
    if (scale := _wide_scale(kind)) is not None:
        return f"DECIMAL(38,{decimal_scale(scale)})"
    if _TIME.fullmatch(kind):
        return "TIME"
    return "VARCHAR" if _READ_AS_TEXT.match(kind) else described


def is_sent_as_text(kind: str, type_as_read: str) -> bool:
    """Whether the text of a column is fetched: of dates, because the extension reads one with a
    zero as month or day as NULL (1.5.5)."""
    is_text = type_as_read in ("VARCHAR", "TIME") or _DATE.match(kind) is not None
    return is_text or _wide_scale(kind) is not None


def value_as_read(name: str, kind: str, type_as_read: str, label: str) -> str:
    """The value of a column from what the server sends of it, which fails on one that DuckDB would
    read as another. A time may also be a duration, negative or of up to 838 hours."""
    quoted = quote_identifier(name)
    if not is_sent_as_text(kind, type_as_read) or type_as_read == "VARCHAR":
        return f"CAST({quoted} AS {type_as_read})"
    if type_as_read.startswith("DECIMAL"):
        return decimal_from_text(name, type_as_read, label)
    is_bad = f"{quoted} IS NOT NULL AND TRY_CAST({quoted} AS {type_as_read}) IS NULL"
    what = "date with a zero as year, month or day"
    if type_as_read == "TIME":
        is_bad += f" OR {quoted} LIKE '24:%'"
        what = "time that is none of a day"
    return fail_if(is_bad, unreadable_value(label, name, what), quoted, type_as_read)


def literal_on_server(kind: str, value: str | None) -> str | None:
    """The literal of a constant of a type; None if the server compares it otherwise."""
    if value is None:
        # A date with a zero is refused; the server finds some of them by `IS NULL`, too.
        return None if _DATE.match(kind) else "NULL"
    if _wide_scale(kind) is not None:
        return None
    return literal_of(kind, value, _LITERALS)
