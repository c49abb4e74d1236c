"""Errors for unreadable files: one sentence with the file's name, the line if known, and a hint."""

import os
import re

import duckdb
import pyarrow as pa

from jammi_lab.core.errors import JammiError, SourceUnavailable, too_many_open_files
from jammi_lab.core.identifiers import near_names
from jammi_lab.sources.locations import (
    Unreachable,
    base_of,
    display_location,
    literal_path,
    scheme_of,
)

SOURCE_ERRORS = (JammiError, OSError, duckdb.Error, pa.ArrowException)
"""What reading a source can raise."""
_FILE_PATTERNS = (
    re.compile(r"^\s*file ?= ?(.+)$", re.M),
    re.compile(r'file "([^"\n]+)"', re.I),
    re.compile(r"file '([^'\n]+)'", re.I),
    re.compile(r'pattern "([^"\n]+)"'),
)
_LINE = re.compile(r"CSV Error on Line: (\d+)")
_COUNTS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_VALUE = re.compile(
    r"""Error when converting column "(.*?)"\. Could not convert string "(.*?)" to '(.*?)'""", re.S
)
_NO_COLUMN = re.compile(r'COLUMN_TYPES error: Columns with names: "(.*?)"')
_JSON = re.compile(
    r'Malformed JSON in file "(.*?)", at byte (\d+) in (line|record/value) (\d+)', re.S
)
_SCHEMA_MISMATCHES = (
    re.compile(
        r"Schema mismatch between globbed files.*?schema: (?P<first>[^\n]+)\nCurrent file: "
        r'(?P<other>[^\n]+)\nColumn with name: "(?P<column>[^"]*)"',
        re.S,
    ),
    re.compile(
        r'schema mismatch in glob: column "(?P<column>[^"]*)" was read from the original file '
        r'"(?P<first>[^"]*)", but .*? in file "(?P<other>[^"]*)"'
    ),
)
_LINE_ENDINGS = {"\r\n": "\\r\\n", "\n": "\\n", "\r": "\\r"}
_DAMAGED = re.compile(
    r"decompress|GZIP stream|corrupted|don't know what type|deserialize "
    r"thrift|flatbuffers|IPC stream",
    re.I,
)
_TRUNCATED_MESSAGES = (
    "No magic bytes found",
    "too small to be a Parquet file",
    "Footer length",
    "footer",
    "Thrift",
    "TProtocolException",
    "Invalid Parquet",
)


def display_name(name: str) -> str:
    """A file name without its folder and with non-printable characters escaped, so that a message
    stays on one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in os.path.basename(name))


def missing_error(pattern: str) -> SourceUnavailable:
    """The error for a location without files."""
    if scheme_of(pattern) is not None:
        return SourceUnavailable(
            f"There is no file at {display_location(pattern)}.", hint="Check the URL."
        )
    path = literal_path(pattern)
    folder = os.path.dirname(path) if path is not None else base_of(pattern)
    if folder and not os.path.isdir(folder):
        parent = os.path.dirname(folder)
        return SourceUnavailable(
            f"There is no folder {folder!r}.",
            near=near_names(os.path.basename(folder), _visible_names(parent)),
            hint="Check the path.",
        )
    if path is None:
        return SourceUnavailable(
            f"No file matches {display_location(pattern)!r}.",
            near=near_names(os.path.basename(pattern), _visible_names(folder)),
            hint="Check the pattern.",
        )
    if os.path.isdir(path):
        return SourceUnavailable(
            f"The folder {path!r} contains no file that can be read as a table.",
            hint="Add data files to it, or use another folder.",
        )
    return SourceUnavailable(
        f"There is no file {os.path.basename(path)!r} in {folder!r}.",
        near=near_names(os.path.basename(path), _visible_names(folder)),
        hint="Check the path.",
    )


def _visible_names(folder: str) -> list[str]:
    try:
        return [
            display_name(name) for name in os.listdir(folder or ".") if not name.startswith(".")
        ]
    except OSError:
        return []


def unreadable_error(name: str, error: OSError) -> JammiError:
    """The error for an existing file that cannot be read."""
    if exhausted := too_many_open_files(error, display_name(name)):
        return exhausted
    if isinstance(error, PermissionError):
        return SourceUnavailable(
            f"{display_name(name)} cannot be read: permission denied.",
            hint="Ask its owner for read permission.",
        )
    if isinstance(error, Unreachable):
        return SourceUnavailable(
            f"{display_location(name)} cannot be reached: {error}.",
            hint="Check the URL, the server and the credentials.",
        )
    return SourceUnavailable(
        f"{display_name(name)} cannot be read: {(error.strerror or str(error)).lower()}."
    )


def not_parquet_error(name: str) -> SourceUnavailable:
    """The error for an incomplete or other file in place of a Parquet file."""
    return SourceUnavailable(
        f"{display_name(name)} is not a complete Parquet file.",
        hint="It may be truncated or incomplete: write it again, or set kind=.",
    )


def is_damage(text: str) -> bool:
    """Whether a DuckDB message reports corrupt bytes in a Parquet file."""
    return _DAMAGED.search(text) is not None


def damaged_error(name: str) -> SourceUnavailable:
    """The error for a Parquet file with a valid footer and corrupt data."""
    return SourceUnavailable(
        f"{display_name(name)} is damaged: its rows cannot be read.",
        hint="Write it again, or restore it from a backup.",
    )


def not_arrow_error(name: str) -> SourceUnavailable:
    """The error for an incomplete or other file in place of an Arrow or Feather file."""
    return SourceUnavailable(
        f"{display_name(name)} is not a complete Arrow or Feather file.",
        hint="It may be truncated or incomplete: write it again.",
    )


def empty_error(location: str, kind: str) -> SourceUnavailable:
    """The error for text files that are all empty."""
    message = f"{display_name(display_location(location).rstrip('/'))} is empty."
    return SourceUnavailable(
        message, hint="Add a header line and rows." if kind in ("csv", "tsv") else "Add rows."
    )


def truncated_compressed_error(name: str) -> SourceUnavailable:
    """The error for an incomplete compressed text file."""
    codec = "gzip" if name.lower().endswith(".gz") else "zstd"
    return SourceUnavailable(
        f"{display_name(name)} is not a complete {codec} file.",
        hint="It may be truncated or incomplete: write it again.",
    )


def utf16_error(name: str, kind: str) -> SourceUnavailable:
    """The error for UTF-16 text that is read as UTF-8."""
    hint = (
        'Set options={"encoding": "utf-16"}.'
        if kind in ("csv", "tsv")
        else "Write the file again as UTF-8."
    )
    return SourceUnavailable(f"{display_name(name)} is UTF-16, not UTF-8.", hint=hint)


def ragged_error(
    name: str, line: int | None, expected: int | None = None, actual: int | None = None
) -> SourceUnavailable:
    """The error for a CSV line with too many or too few values; `line` is None if unknown."""
    position = f"{display_name(name)}, line {line}" if line else display_name(name)
    if expected and actual:
        message = (
            f"{position}: {actual} value{'s' if actual != 1 else ''} where {expected} are expected."
        )
    else:
        message = f"{position}: the lines do not all have the same number of values."
    return SourceUnavailable(
        message, hint='Correct that line, or set the delimiter: options={"delimiter": ";"}.'
    )


def unclosed_quote_error(name: str, line: int) -> SourceUnavailable:
    """The error for a CSV value with an unclosed quotation mark."""
    return SourceUnavailable(
        f"{display_name(name)}, line {line}: a quotation mark is not closed.",
        hint="Correct that line.",
    )


def line_ending_error(name: str, line: int, first: str, other: str) -> SourceUnavailable:
    """The error for a CSV file with mixed line endings."""
    message = (
        f"{display_name(name)}, line {line}: it ends in {_LINE_ENDINGS.get(other, other)}, the "
        f"lines before it end in {_LINE_ENDINGS.get(first, first)}."
    )
    return SourceUnavailable(
        message,
        hint="Write the file again with one line ending; Python's csv module writes \\r\\n unless "
        "lineterminator='\\n' is set.",
    )


def column_mismatch_error(text: str) -> SourceUnavailable | None:
    """The error for a file whose columns differ from the first file's; None if the message is
    about something else."""
    match = next(
        (
            candidate
            for pattern in _SCHEMA_MISMATCHES
            if (candidate := pattern.search(text)) is not None
        ),
        None,
    )
    if match is None:
        return None
    message = (
        f"{display_name(match['other'])} and {display_name(match['first'])} do not have the same "
        f"columns: {match['column']!r} is missing from {display_name(match['other'])}"
    )
    types = re.search(r"expected to have type: (\S+) But has type: (\S+)", text)
    if types is not None:
        former, latter = types[2].lower(), types[1].lower()
        message = (
            f"{display_name(match['other'])} and {display_name(match['first'])} differ: "
            f"{match['column']!r} is {former} in the first and {latter} in the second"
        )
    return SourceUnavailable(
        f"{message}.",
        hint="Give all files the same columns, or set options={"
        '"union_by_name": True}, which fills missing columns with NULL.',
    )


def value_error(text: str) -> SourceUnavailable | None:
    """The error for a value that does not fit the type inferred from the rows before it; None if
    the message is about something else."""
    value, line = _VALUE.search(text), _LINE.search(text)
    if value is None or line is None:
        return None
    column, text_value, kind = value.groups()
    if text_value == column:
        message = (
            f"{_file_name(text)}, line {line[1]}: the header is not on the first line "
            f"({text_value[:60]!r} is not a {kind})."
        )
        return SourceUnavailable(
            message, hint="Remove the lines before it: the header must be the first line."
        )
    message = (
        f"{_file_name(text)}, line {line[1]}: column {column!r} contains {text_value[:60]!r}, "
        f"which is not a {kind}."
    )
    return SourceUnavailable(
        message,
        hint=f'Correct the value, read it as NULL: options={{"null": "{text_value[:20]}"}}, or '
        f"read "
        f'text: {{"types": {{"{column}": "VARCHAR"}}}}.',
    )


def read_error(text: str) -> JammiError | None:
    """The error for a DuckDB message about a file; None if the message is about something else."""
    name = _file_name(text)
    line = int(line_match[1]) if (line_match := _LINE.search(text)) else None
    if counts := _COUNTS.search(text):
        return ragged_error(name, line, int(counts[1]), int(counts[2]))
    if (error := value_error(text) or column_mismatch_error(text)) is not None:
        return error
    if absent := _NO_COLUMN.search(text):
        return SourceUnavailable(
            f"The option 'types' names the column {absent[1]!r}, which is not in the file.",
            hint="Use the names in the header.",
        )
    if "not utf-8 encoded" in text or "Invalid unicode" in text:
        return SourceUnavailable(
            f"{name} is not UTF-8.",
            hint='Set options={"encoding": "latin-1"} or options={"encoding": "utf-16"}.',
        )
    if malformed := _JSON.search(
        text
    ):  # DuckDB counts one too many, and values where they are not one to a line
        position = f"{'line' if malformed[3] == 'line' else 'value'} {int(malformed[4]) - 1}"
        return SourceUnavailable(
            f"{display_name(malformed[1])}, {position}: this is not JSON.",
            hint="Correct the file, or set kind=.",
        )
    if "when sniffing file" in text:
        return ragged_error(name, None)
    if "No files found that match" in text or "No such file" in text:
        return SourceUnavailable(
            f"{name} no longer exists.", hint="Restore the file, or remove the source."
        )
    if any(word in text for word in _TRUNCATED_MESSAGES):
        return not_parquet_error(name)
    if "Permission denied" in text:
        return unreadable_error(name, PermissionError())
    if _LINE.search(text) or (
        name != "A file"
        and text.startswith(("IO Error", "Invalid Input Error", "Conversion Error"))
    ):
        return SourceUnavailable(
            f"{name} cannot be read: {text.splitlines()[0].split(': ', 1)[-1].rstrip('.')}."
        )
    return None


_REMOTE = re.compile(
    r"HTTP "
    r"(?:GET|HEAD|PUT|POST)|\b(?:Unreachable|FileNotFoundError|PermissionError|TimeoutError|jammimount\d+)\b"
)
_DENIED = re.compile(r"HTTP 40[13]|PermissionError|permission denied", re.I)
_MISSING = re.compile(r"HTTP 404|FileNotFoundError")


def remote_error(location: str, text: str) -> SourceUnavailable | None:
    """The error for a DuckDB message about remote files; None if the message is about something
    else."""
    if not _REMOTE.search(text):
        return None
    if _DENIED.search(text):
        return SourceUnavailable(
            f"{location} cannot be read: permission denied.", hint="Check the credentials."
        )
    if _MISSING.search(text):
        return SourceUnavailable(
            f"{location} or one of its files no longer exists.",
            hint="Restore the file, or remove the source.",
        )
    return SourceUnavailable(
        f"{location} became unreachable during the read.",
        hint="Check the URL, the server and the credentials.",
    )


def _file_name(text: str) -> str:
    for pattern in _FILE_PATTERNS:
        if match := pattern.search(text):
            return display_name(match[1].strip())
    return "A file"


def reason_of(error: BaseException) -> str:
    """One clause about a failed observation."""
    if isinstance(error, JammiError):
        return error.message.rstrip(".")
    if isinstance(error, OSError):
        if isinstance(error, Unreachable):
            return str(error)
        return unreadable_error(
            os.path.basename(str(error.filename or "")) or "a file", error
        ).message.rstrip(".")
    return str(error).splitlines()[0][:200].rstrip(".")
