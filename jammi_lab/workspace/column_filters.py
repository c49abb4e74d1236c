"""Filters on the columns of a result, and the SQL that says the same."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.forms import is_numeric_type
from jammi_lab.core.identifiers import sql_literal

ColumnFilter = tuple[Any, Any] | list[Any]
"""A tuple (low, high) keeps values from `low` up to but not including `high`; None leaves a side
open. A list keeps the values in it; None stands for NULL."""
_TIME_TYPES = ("DATE", "TIME")
_MAX_SHOWN_VALUES = 3
_NAME = r'(?:\w+|"(?:[^"]|"")+")'
_WHOLE_TABLE = re.compile(rf"SELECT\s+\*\s+FROM\s+({_NAME}(?:\.{_NAME})*)", re.IGNORECASE)


def is_time_type(sql_type: str) -> bool:
    """Whether it is DATE or a TIMESTAMP."""
    return sql_type == "DATE" or sql_type.startswith("TIMESTAMP")


def check_filter(wanted: object) -> ColumnFilter:
    """The filter. InvalidArgument if it is neither a pair nor a list."""
    if isinstance(wanted, list) or (isinstance(wanted, tuple) and len(wanted) == 2):
        return wanted
    raise InvalidArgument(
        f"A filter must be a tuple (low, high) or a list of values, got {wanted!r}.",
        hint="(10, 20) keeps values from 10 up to 20; ['a', None] keeps 'a' and NULL.",
    )


def condition(name: str, sql_type: str, wanted: ColumnFilter) -> str:
    """The condition on a column whose SQL name is `name`. InvalidArgument for a value that is no
    number in a column of numbers."""
    if isinstance(wanted, tuple):
        bounds = []
        for sign, bound in zip((">=", "<"), wanted, strict=True):
            if bound is not None:
                bounds.append(f"{name} {sign} {_literal(bound, sql_type)}")
        return " AND ".join(bounds) or f"{name} IS NOT NULL"
    texts = [_literal(value, sql_type) for value in wanted if value is not None]
    is_scaled = is_numeric_type(sql_type) or sql_type.startswith(_TIME_TYPES)
    is_plain = is_scaled or sql_type in ("VARCHAR", "BOOLEAN")
    operand = name if is_plain else f"{name}::VARCHAR"
    parts = (
        [f"{operand} IN ({', '.join(texts)})" if len(texts) > 1 else f"{operand} = {texts[0]}"]
        if texts
        else []
    )
    parts += [f"{name} IS NULL"] if None in wanted else []
    return " OR ".join(parts).join("()") if len(parts) > 1 else "".join(parts) or "false"


def _literal(value: Any, sql_type: str) -> str:
    text = str(value)
    if is_numeric_type(sql_type):
        try:
            finite = Decimal(text).is_finite()
        except InvalidOperation:
            raise InvalidArgument(
                f"A column of {sql_type} cannot be compared to {text!r}."
            ) from None
        return text if finite else f"'{text}'::DOUBLE"
    if sql_type == "BOOLEAN" and text.lower() in ("true", "false"):
        return text.lower()
    if not sql_type.startswith(_TIME_TYPES):
        return sql_literal(text)
    return f"{sql_literal(text)}::{sql_type}"


def describe(wanted: ColumnFilter) -> str:
    """The filter in words."""
    if isinstance(wanted, tuple):
        low, high = wanted
        if high is None:
            return f"from {low}"
        if low is None:
            return f"below {high}"
        return f"{low} – {high}"
    texts = ["NULL" if value is None else str(value) for value in wanted[:_MAX_SHOWN_VALUES]]
    more = len(wanted) - len(texts)
    return ", ".join(texts) + (f" and {more:,} more" if more else "")


def contains_text(names: Mapping[str, str], text: str) -> str:
    """The condition that a column has the text, whatever its case; `names` gives the SQL types of
    the columns by their SQL names. Lists and structs are not searched."""
    pattern = text
    for sign in "\\%_":
        pattern = pattern.replace(sign, f"\\{sign}")
    escape = " ESCAPE '\\'" if pattern != text else ""
    test = f" ILIKE {sql_literal(f'%{pattern}%')}{escape}"
    tests = []
    for name, kind in names.items():
        if not kind.endswith("]") and not kind.startswith(("STRUCT", "MAP", "UNION", "BLOB")):
            tests.append(name + ("" if kind == "VARCHAR" else "::VARCHAR") + test)
    return f"({' OR '.join(tests)})" if tests else "false"


def filtered_statement(statement: str, conditions: Sequence[str], order: str) -> str:
    """The statement with conditions on its rows, and ordered by `order` if it is not empty."""
    statement = statement.strip().rstrip(";")
    if not conditions and not order:
        return statement
    whole_table = _WHOLE_TABLE.fullmatch(statement)
    lines = [
        f"SELECT * FROM {whole_table[1] if whole_table else f'({chr(10)}{statement}{chr(10)})'}"
    ]
    lines += ["WHERE " + "\n  AND ".join(conditions)] if conditions else []
    return "\n".join([*lines, *([f"ORDER BY {order}"] if order else [])])
