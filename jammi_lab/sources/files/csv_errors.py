"""Errors for CSV files: one sentence with the file, the line and its text, and one thing to do that
is not done yet."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.sources.read_errors import display_name

_LINE = re.compile(r"CSV Error on Line: (\d+)\nOriginal Line: ([^\n]*)")
_COUNTS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_VALUE = re.compile(
    r"""Error when converting column "(.*?)"\. Could not convert string "(.*?)" to '(.*?)'""", re.S
)
_LINE_SIZE = re.compile(r"Maximum line size of \d+ bytes exceeded. Actual Size:(\d+)")
_MAX_SHOWN = 60


def _shown_text(text: str) -> str:
    text = text.rstrip("\r\n")
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…")


def place_in(path: str, line: int | None, unit: str = "line") -> str:
    """A file with the number of a line, or of what `unit` says, for display."""
    return display_name(path) + (f", {unit} {line:d}" if line else "")


class Misfit(Exception):
    """A value that is not of the type declared for its column."""

    def __init__(self, column: str, kind: str, value: str) -> None:
        super().__init__(column)
        self.column, self.kind, self.value = column, kind, value

    def error_at(self, place: str) -> SourceUnavailable:
        """The error for this value at a place: a line, record or cell of a file."""
        return SourceUnavailable(
            f"{place}: column {self.column!r} contains {_shown_text(self.value)}, which is not a "
            f"{self.kind}.",
            hint="Correct the value, or read text: "
            f'options={{"types": {{"{self.column}": "VARCHAR"}}}}.',
        )


def delimiter_error(path: str, line: str) -> SourceUnavailable:
    """The error for a file whose name does not tell its delimiter, with its first line."""
    likely = max("\t|;,", key=line.count)
    if likely not in line:
        likely = " "
    return SourceUnavailable(
        f"{display_name(path)}: the name does not tell what separates the values.",
        hint=f'Set options={{"delim": {json.dumps(likely)}}}, or kind="text" to read whole texts.',
    )


def ambiguous_delimiter_error(path: str, delimiters: Sequence[str]) -> SourceUnavailable:
    """The error for a file that several delimiters divide into equally long lines."""
    return SourceUnavailable(
        f"{display_name(path)} can be divided at {' and at '.join(map(repr, delimiters))}.",
        hint=f'Choose: options={{"delim": {delimiters[0]!r}}}.',
    )


def binary_error(path: str) -> SourceUnavailable:
    """The error for bytes that are no text."""
    return SourceUnavailable(
        f"{display_name(path)} is not text: its first line contains NUL characters.",
        hint='Set kind=, or the encoding: options={"encoding": "utf-16-le"}.',
    )


def preamble_error(path: str, line: int, text: str) -> SourceUnavailable:
    """The error for lines above the heading."""
    return SourceUnavailable(
        f"{place_in(path, line)}: {_shown_text(text)} has more values than the lines above it.",
        hint=f'Skip the lines above the heading: options={{"skip": {line - 1}}}. If there is one '
        'column: options={"delim": ","}.',
    )


def heading_error(path: str, first: str, *, has_heading: bool) -> SourceUnavailable:
    """The error for a file with a heading beside one without, or the other way round."""
    has = ("has a heading", "has none") if has_heading else ("has no heading", "has one")
    return SourceUnavailable(
        f"{display_name(path)} {has[0]} on its first line, and {display_name(first)} {has[1]}.",
        hint='Give all files a heading, or say that none has one: options={"header": False}.',
    )


def partition_name_error(path: str, key: str) -> SourceUnavailable:
    """The error for a column of a file that is also the key of its folder."""
    return SourceUnavailable(
        f"{display_name(path)} has a column {key!r} and lies in a folder {key}=….",
        hint="Rename the column, or the folders.",
    )


def line_end_error(path: str, line: int, first: str, other: str, width: int) -> SourceUnavailable:
    """The error for a file with mixed line ends. `width`: number of values in that line."""
    hint = 'Set options={"strict_mode": False}, which takes any line end.'
    return SourceUnavailable(
        f"{place_in(path, line)}: it ends in {repr(other)[1:-1]}, the lines before it end in "
        f"{repr(first)[1:-1]}.",
        hint=hint if width > 1 else "Write the file again with one kind of line end.",
    )


def comment_error(path: str, line: int, text: str) -> SourceUnavailable:
    """The error for a line that would be cut where a comment seems to begin."""
    return SourceUnavailable(
        f"{place_in(path, line)}: the character of comments stands inside: {_shown_text(text)}.",
        hint="Leave out the option comment; skip is the number of lines above the heading.",
    )


def last_line_error(path: str, longest: int) -> SourceUnavailable:
    """The error for a last line that is longer than lines may be."""
    return SourceUnavailable(
        f"{display_name(path)}: the last line has more than {longest:,} bytes.",
        hint='Set options={"max_line_size": …} to the bytes of the longest line.',
    )


def quote_error(path: str, line: int, text: str, options: Mapping[str, Any]) -> SourceUnavailable:
    """The error for a quotation mark that is not closed, or is followed by more text."""
    hint = "Correct that line."
    if '\\"' in text and "escape" not in options:
        hint = r'If \" is a quotation mark inside of a value, set options={"escape": "\\"}.'
    elif options.get("quote") != "":
        hint = 'If quotation marks are part of the text, set options={"quote": ""}.'
    return SourceUnavailable(
        f"{place_in(path, line)}: a quotation mark is not closed, or stands inside a value: "
        f"{_shown_text(text)}.",
        hint=hint,
    )


def csv_error(
    message: str, path: str, skipped: int, options: Mapping[str, Any]
) -> SourceUnavailable | None:
    """The error for a DuckDB message about a line of a file, of which it did not see the first
    lines; None if the message is about something else."""
    match = _LINE.search(message)
    if match is None:
        return None
    line, text = int(match[1]) + skipped, match[2]
    if size := _LINE_SIZE.search(message):
        return SourceUnavailable(
            f"{place_in(path, line)}: the line has {int(size[1]):,} bytes: {_shown_text(text)}.",
            hint=f'Set options={{"max_line_size": {2 * int(size[1])}}}.',
        )
    if counts := _COUNTS.search(message):
        return _ragged_error(path, line, text, int(counts[1]), int(counts[2]), options)
    if "unterminated quote" in message:
        return quote_error(path, line, text, options)
    if value := _VALUE.search(message):
        return Misfit(value[1], value[3], value[2]).error_at(place_in(path, line))
    return None


def _ragged_error(
    path: str, line: int, text: str, expected: int, actual: int, options: Mapping[str, Any]
) -> SourceUnavailable:
    hint = "Correct that line; a value that contains the delimiter stands in quotation marks."
    if "'" in text and "quote" not in options:
        hint = """If values stand in single quotation marks, set options={"quote": "'"}."""
    elif actual < expected and not options.get("null_padding"):
        hint = 'Correct that line, or fill up with NULL: options={"null_padding": True}.'
    elif actual > expected == 1 and "delim" not in options:
        hint = 'Correct that line, or set the delimiter: options={"delim": ";"}.'
    elif actual > expected and "names" not in options:
        hint += ' To read all values: options={"names": […], "header": True, "null_padding": True}.'
        if line < 10:
            hint += f' If the lines above are no heading: options={{"skip": {line - 1}}}.'
    return SourceUnavailable(
        f"{place_in(path, line)}: {actual} value{'s' if actual != 1 else ''} where {expected} are "
        f"expected: {_shown_text(text)}.",
        hint=hint,
    )
