"""PostgreSQL's types where DuckDB reads or compares them otherwise."""

import re
from collections.abc import Collection, Mapping

from jammi_lab.core.identifiers import quote_identifier, sql_literal
from jammi_lab.sources.databases.value_checks import decimal_type, fail_if, unreadable_value
from jammi_lab.sources.scan_conditions import without_pushdown

_NUMERIC = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?((?:\[\])*)")
_TEXT_ON_SERVER = re.compile(r'("char"|path)(\[\])*')
"""Types that the extension misreads (1.5.5): an empty `"char"` ends the read, and an open path
equals the closed one."""
TEXT = re.compile(r"text|character varying(?:\(\d+\))?")
_MONEY = "DECIMAL(19,2)"
_INSTANT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?"
_LITERALS: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = tuple(
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
"""Types that the server compares as DuckDB does, with their constants."""
_COMPARED_ALIKE = re.compile(
    "|".join(kind.pattern for kind, _ in _LITERALS)
    + rf"|{TEXT.pattern}|boolean|bytea|real|double precision"
    r"|time(?:\(\d\))? without time zone"
)
_DECIMAL = re.compile(r"numeric\(\d+,\d+\)")
_LATE = "timestamp after the year 294246"


def is_wide_number(kind: str) -> bool:
    """Whether a type is a `numeric` that does not fit DECIMAL(38)."""
    match = _NUMERIC.fullmatch(kind)
    if match is None:
        return False
    return match[1] is None or int(match[1]) > 38 or not 0 <= int(match[2]) <= int(match[1])


def type_as_read(kind: str, *, are_doubles: bool) -> str | None:
    """The type of a number that the extension rounds or reads as text; VARCHAR for what the server
    has to cast to text, because the extension misreads it (NaN as 0, 1.5.5); None for any other.
    """
    if kind == "money":
        return _MONEY
    number = _NUMERIC.fullmatch(kind)
    if number is not None and is_wide_number(kind):
        scale = None if number[2] is None else max(int(number[2]), 0)
        return ("DOUBLE" if are_doubles else decimal_type(scale)) + number[3]
    return "VARCHAR" if _TEXT_ON_SERVER.fullmatch(kind) else None


def text_on_server(quoted: str, kind: str) -> str:
    """The server's text of a value that is read by way of it: of money without its currency."""
    return f"{quoted}::numeric::text" if kind == "money" else f"{quoted}::text"


def scan_expression(name: str, kind: str) -> str:
    """A column in a scan. Its conditions are sent to the server only if it compares as DuckDB does:
    many types are VARCHAR in DuckDB and have an order, or an equality, of their own there."""
    is_alike = _COMPARED_ALIKE.fullmatch(kind) and not is_wide_number(kind)
    return quote_identifier(name) if is_alike else without_pushdown(name)


def literal_on_server(kind: str, value: str | None) -> str | None:
    """The literal of a constant of a type; None if the server compares it otherwise."""
    if value is None:  # a row of NULLs is NULL there
        return "NULL" if "." not in kind else None
    if is_wide_number(kind):  # DuckDB compares its text, or a DOUBLE
        return None
    if TEXT.fullmatch(kind):
        return f'{sql_literal(value)} COLLATE "C"'
    return next(
        (
            sql_literal(value)
            for type_, values in _LITERALS
            if type_.fullmatch(kind) and values.fullmatch(value)
        ),
        None,
    )


def range_conditions(label: str, types: Mapping[str, str], names: Collection[str]) -> list[str]:
    """Conditions that fail on timestamps beyond DuckDB's range, which the extension reads as
    others: they turn up before the first that the server can hold (4714 BC)."""
    return [
        fail_if(
            f"{column} < '10000-01-01 (BC)'::{kind} AND {column} > '-infinity'::{kind}",
            unreadable_value(label, name, _LATE),
            "true",
            "BOOLEAN",
        )
        for name, kind in types.items()
        if name in names and kind in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
        for column in [quote_identifier(name)]
    ]


def server_test(name: str, kind: str) -> tuple[str, str] | None:
    """The server's condition for a value that DuckDB would read as another, and what it is; None if
    there is none, or it is found without the server."""
    column = quote_identifier(name)
    if _DECIMAL.fullmatch(kind):
        return f"{column} = 'NaN'", "NaN"
    if _DECIMAL.fullmatch(kind.rstrip("[]")):
        return f"'NaN' = ANY ({column})", "NaN"
    if kind.startswith("timestamp") and kind.endswith("[]"):
        late = "pg_catalog.isfinite(v) AND v > '294247-01-10 04:00:54.775806'"
        return f"EXISTS (SELECT FROM pg_catalog.unnest({column}) v WHERE {late})", _LATE
    return None


def is_castable(kind: str) -> bool:
    """Whether the text of a type with a test can be cast to its DuckDB type."""
    return _DECIMAL.fullmatch(kind) is not None
