"""The specification of a chart as it is stored in a notebook: with no more rows than fit."""

import json
from typing import Any


def stored_specification(spec: dict[str, Any], max_bytes: int) -> dict[str, Any] | None:
    """The specification in at most so many bytes. Of rows that do not fit, an evenly spaced part is
    drawn and the title says so. None if there are no rows that could be left out."""
    stored = {key: part for key, part in spec.items() if key != "$schema"}
    data = stored.get("data")
    data = data if isinstance(data, dict) else {}
    rows = data.get("values")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return stored if _size(stored) <= max_bytes else None
    count, drawn = len(rows), stored
    while count:
        part = [rows[at * len(rows) // count] for at in range(count)]
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
