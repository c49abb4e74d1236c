"""How commands print values: text with hints in the syntax of the shell, or JSON."""

import json
import math
import sys
from decimal import Decimal
from typing import Any

from jammi_lab.commands.shared import Answer
from jammi_lab.commands.words import Values
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.html import escape_invisible
from jammi_lab.core.suggestions import translate_advice

_FIRST_ROWS = 20
"""Rows that are shown of a result without `--limit` or `-k`."""


def print_error(*lines: str) -> None:
    """Print on standard error."""
    print(*lines, sep="\n", file=sys.stderr)


def print_answer(answer: Any, values: Values, path: str) -> None:
    """Print what a command answered: its text with hints translated into shell commands on the
    workspace at a path or, with `--json`, JSON. Nothing for None."""
    as_json = values.get("json", False)
    value = answer.value if isinstance(answer, Answer) else answer
    if hasattr(type(value), "_badge"):  # a Result: its class is imported with the engine only
        limit = values.get("limit", values.get("k"))
        print(_rows_as_json(value, limit) if as_json else _rows_as_text(value, limit, path))
    elif as_json and value is not None:
        is_computed = isinstance(answer, Answer) and answer.json is not None
        print(_to_json(answer.json() if is_computed else value))
    elif value is not None:
        print(translate_advice(str(value), "shell", escape_invisible(path)))
    if isinstance(answer, Answer) and answer.remarks:
        print(
            *map(escape_invisible, answer.remarks),
            sep="\n",
            file=sys.stderr if as_json else sys.stdout,
        )


def _to_json(value: Any) -> str:
    """JSON in which every character can be seen and written. Half of a surrogate pair, as in names
    of files and texts of strangers, has no encoding, and U+202E turns the order of what a terminal
    shows."""
    plain = to_json_value(value)
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    if text.isprintable() and sys.stdout.encoding in (None, "utf-8"):
        return text
    return json.dumps(plain, allow_nan=False)


def to_json_value(value: Any) -> Any:
    """A value of types that JSON has: NaN and infinity as null, a Decimal as a number, bytes as
    hex, objects by `to_dict`, all others as text."""
    match value:
        case str() | int() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: to_json_value(each) for key, each in value.items()}
        case list() | tuple():
            return [to_json_value(each) for each in value]
        case Decimal():
            is_whole = value.is_finite() and value == value.to_integral_value()
            return int(value) if is_whole else to_json_value(float(value))
        case bytes() | bytearray() | memoryview():
            return value.hex()
    return to_json_value(value.to_dict()) if hasattr(value, "to_dict") else str(value)


def _rows_as_json(result: Any, limit: int | None) -> str:
    """The rows as a list of objects. InvalidArgument for columns of the same name."""
    rows = result.arrow() if limit is None else result.preview(limit)
    names = rows.column_names
    if len(set(names)) < len(names):
        raise InvalidArgument(
            "Two columns have the same name, which JSON cannot hold.", hint="Rename one with AS."
        )
    columns = map(_json_column, rows.columns)
    return _to_json([dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)])


def _json_column(column: Any) -> list[Any]:
    """The values of an Arrow column, as Python objects that `to_json_value` can encode."""
    from jammi_lab.core.display_values import to_display

    values = to_display(column)
    if str(column.type) == "float":  # displayed as text, with the digits that distinguish it
        return [None if value is None else float(value) for value in values]
    return values


def _rows_as_text(result: Any, limit: int | None, path: str) -> str:
    result.limit = _FIRST_ROWS if limit is None else limit
    result.preview(result.limit + 1)
    text, notice = str(result), result._badge()
    badge = "" if notice is None or (form := notice.rendering()) is None else form.text
    # Only the badge is translated: a value may look like a hint.
    shell_badge = translate_advice(badge, "shell", path) if text.startswith(badge) else badge
    return shell_badge + text.removeprefix(badge)
