"""The parts of DuckDB's errors: kind, message and position."""

import json
import re
from dataclasses import dataclass
from typing import Any

_ERROR_KIND = re.compile(r"\s*([A-Z][A-Za-z ]*?) (?:Error|exception): ?(.*)", re.S)
PATH_PATTERN = re.compile(r"(?<![\w.])(?:[a-z][a-z0-9+.-]*:/)?/[^\s\"',;)]+")
"""An absolute path or a URL. A slash within a word belongs to a value, such as `n/a` or a date."""
_POSITION_LINES = re.compile(r"\s*\n?LINE \d+:.*", re.S)
_JSON_BODY = re.compile(r'\{"exception_type":.*', re.S)
_SCRATCH_PREFIX = re.compile(r"\b__jammi_\d+\.(?:main\.)?")
"""The scratch database of a statement, which DuckDB prints in front of a table name."""


@dataclass(frozen=True, slots=True)
class DuckDBError:
    """The parsed parts of a DuckDB error."""

    kind: str
    """Parser, Binder, Conversion, IO, Out of Memory …; empty for an error that is not DuckDB's."""
    message: str
    """The message, without the position and DuckDB's own suggestions."""
    position: int | None = None
    """The offset in the executed text: in bytes, for a syntax error in characters."""
    subtype: str = ""
    name: str = ""


def parse_error(error: BaseException) -> DuckDBError:
    """Parse an error of DuckDB, or of pyarrow that wraps one while it streams."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):  # the message repeats bytes that are no text
        text = error.object.decode(errors="replace")
    match = _ERROR_KIND.match(text)
    # Search, not match: an error in the middle of a stream is wrapped into another message.
    json_match = _JSON_BODY.search(text)
    try:
        body: dict[str, Any] = json.loads(json_match[0], strict=False) if json_match else {}
    except (ValueError, RecursionError):
        body = {}
    if not body:
        if match:
            return DuckDBError(match[1], _POSITION_LINES.sub("", _SCRATCH_PREFIX.sub("", match[2])))
        return DuckDBError("", text)
    position = body.get("position")
    message = _SCRATCH_PREFIX.sub("", str(body.get("exception_message", "")))
    offset = int(position) if position else None
    return DuckDBError(
        str(body["exception_type"]),
        message,
        offset,
        str(body.get("error_subtype", "")),
        str(body.get("name", "")),
    )


def is_fatal(error: BaseException) -> bool:
    """Whether the error invalidates the DuckDB instance."""
    return parse_error(error).kind in (
        "FATAL",
        "Fatal",
        "INTERNAL",
        "Internal",
    ) or "database has been invalidated" in str(error)


def invalidates_instance(error: BaseException) -> bool:
    """Whether the error, or the error of DuckDB that it translates, invalidates the instance."""
    return is_fatal(error) or (error.__context__ is not None and is_fatal(error.__context__))


def first_sentence(message: str) -> str:
    """The first line of a message as a sentence."""
    line = message.strip().split("\n")[0].strip()
    if "/" in line and "://" not in line:
        line = PATH_PATTERN.sub(lambda p: p[0].rsplit("/", 1)[-1], line)
    return line[:1].upper() + line[1:] + ("" if line.endswith((".", "!", "?")) or not line else ".")
