"""How commands print values: text with hints in the syntax of the shell, or JSON."""

import json
import math
from decimal import Decimal
from typing import Any

import click

from jammi_lab.core.suggestions import translate_advice


def print_result(displayed: Any, value: Any, as_json: bool, path: str = "") -> None:
    """Print the text or, with `as_json`, the JSON of the value. With `path`, hints in the text are
    translated into shell commands on that workspace."""
    click.echo(
        _to_json(value)
        if as_json
        else translate_advice(str(displayed), "shell", path)
        if path
        else str(displayed)
    )


def _to_json(value: Any) -> str:
    """Encode as JSON; NaN and infinity become null."""
    try:
        return json.dumps(value, default=to_json_value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(
            _replace_non_finite(value),
            default=lambda each: _replace_non_finite(to_json_value(each)),
            ensure_ascii=False,
            allow_nan=False,
        )


def to_json_value(value: Any) -> Any:
    """Convert a value that JSON cannot encode: by `to_dict`, a Decimal as a number, bytes as hex,
    others as text."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)


def _json_column(column: Any) -> list[Any]:
    """The values of an Arrow column, as Python objects that `to_json_value` can encode."""
    from jammi_lab.core.display_values import to_display

    values = to_display(column)
    if str(column.type) == "float":  # displayed as text, with the digits that distinguish it
        return [None if value is None else float(value) for value in values]
    return values


def _replace_non_finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _replace_non_finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_replace_non_finite(each) for each in value]
    return value


def print_rows(result: Any, limit: int | None, as_json: bool, path: str) -> None:
    """Print the rows of a Result as a table, or with `as_json` as a list of objects."""
    if as_json:
        rows = result.arrow() if limit is None else result.preview(limit)
        names = rows.column_names
        if len(set(names)) < len(names):
            raise click.UsageError("Two columns have the same name; rename one with AS.")
        columns = map(_json_column, rows.columns)
        values = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        print_result(None, values, as_json=True)
        return
    result.limit = 20 if limit is None else limit
    result.preview(result.limit + 1)
    text, notice = str(result), result._badge()
    badge = "" if notice is None or (form := notice.rendering()) is None else form.text
    # Only the badge is translated: a value may look like a hint.
    shell_badge = translate_advice(badge, "shell", path) if text.startswith(badge) else badge
    click.echo(shell_badge + text.removeprefix(badge))
