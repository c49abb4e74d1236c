"""The specification of a chart as it is stored in a notebook: numbers in as many digits as can be
seen, and no more rows than fit."""

import json
import math
from collections.abc import Sequence
from typing import Any

Rows = list[dict[str, Any]]
_MAX_VISIBLE_STEPS = 10_000
"""Steps from the lowest to the highest value of a column that are told apart: twenty for each pixel
of a chart."""


def stored_specification(spec: dict[str, Any], max_bytes: int) -> dict[str, Any] | None:
    """The specification in at most so many bytes. Of rows that do not fit, an evenly spaced part is
    drawn and the title says so. None if there are no rows that could be left out."""
    stored = {key: part for key, part in spec.items() if key != "$schema"}
    data = stored.get("data")
    data = data if isinstance(data, dict) else {}
    rows = data.get("values")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return stored if _size(stored) <= max_bytes else None
    rounded, count, drawn = _round_rows(rows), len(rows), stored
    while count:
        part = [rounded[at * len(rows) // count] for at in range(count)]
        drawn = {**stored, "data": {**data, "values": part}}
        if count < len(rows):
            drawn["title"] = _with_note(
                spec.get("title"), f"{count:,} of {len(rows):,} rows are drawn"
            )
        if (size := _size(drawn)) <= max_bytes:
            return drawn
        count = min(count - 1, int(count * max_bytes / size))
    return drawn if _size(drawn) <= max_bytes else None


def _size(spec: dict[str, Any]) -> int:
    return len(json.dumps(spec, ensure_ascii=False).encode())


def _with_note(title: Any, note: str) -> dict[str, Any]:
    """A title with a note below it."""
    own = title if isinstance(title, dict) else {"text": title or ""}
    if not own.get("text"):
        return {"fontSize": 11, "fontWeight": "normal", **own, "text": note}
    return {**own, "subtitle": note}


def _round_rows(rows: Rows) -> Rows:
    """The rows with the decimal places by which the values of a column differ visibly."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    places = {name: _decimals([row.get(name) for row in rows]) for name in names}
    return [{name: _round(row.get(name), places[name]) for name in names} for row in rows]


def _decimals(values: Sequence[Any]) -> int:
    numbers = [v for v in values if isinstance(v, float)]
    extent = max(numbers) - min(numbers) if numbers else 0.0
    extent = extent or (abs(numbers[0]) if numbers else 0.0) or 1.0
    return -math.floor(math.log10(extent / _MAX_VISIBLE_STEPS)) if math.isfinite(extent) else 0


def _round(value: Any, places: int) -> Any:
    return round(value, places) if isinstance(value, float) else value
