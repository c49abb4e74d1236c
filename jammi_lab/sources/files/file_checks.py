"""Checks of files before DuckDB reads them: for what it would misread, what takes it minutes, and
what ends the process."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import BinaryIO

import numpy as np

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.identifiers import fold, near_names
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.sources.files.text_bytes import BLOCK_BYTES, TextFile, open_content, open_text
from jammi_lab.sources.read_errors import display_name

MAX_COLUMNS = 10_000
"""Binding takes DuckDB time with the square of the number of columns: 25 s for 20 000."""
MAX_JSON_DEPTH = 1_000
"""DuckDB parses nested values by recursion and overflows the stack between 5 000 and 20 000."""
_FLOAT_TYPES = ("DOUBLE", "FLOAT", "REAL")
_LONG_NUMBER = re.compile(r"\d[\d.]{15}")
_KEY_AND_LONG_NUMBER = re.compile(
    r'(?:("(?:[^"\\]|\\.)*")\s*:\s*)?(?<![\w."-])(-?\d[\d.]{15,}(?:[eE][+-]?\d+)?)(?![\w."+-])'
)
"""A number of 16 digits or more, with the key before it."""
_MAX_NUMBER_LENGTH = 1024
_QUOTE, _STRUCTURE = ord('"'), b'"[]{}'
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(_STRUCTURE))


def check_depth(source_files: Sequence[SourceFile]) -> None:
    """Check how deep the values in JSON files are nested. Raises OSError, SourceUnavailable."""
    for source_file in source_files:
        with open_content(source_file) as content:
            _check_json_depth(content, os.path.basename(source_file.path))


def check_column_count(name: str, columns: int) -> None:
    """Raise SourceUnavailable when a file has too many columns."""
    if columns > MAX_COLUMNS:
        raise SourceUnavailable(
            f"{display_name(name)} has {columns:,} columns; at most {MAX_COLUMNS:,} are supported.",
            hint="Write it as rows of (row, column, value), or with fewer columns.",
        )


def check_same_columns(
    place: str, names: Sequence[str], first: str, first_names: Sequence[str]
) -> None:
    """Raise SourceUnavailable unless two files, named as shown, have the same columns, in any
    order."""
    here, there = {fold(name): name for name in names}, {fold(name): name for name in first_names}
    lacking, missing = place, [there[name] for name in there.keys() - here.keys()]
    if not missing:
        lacking, missing = first, [here[name] for name in here.keys() - there.keys()]
    if missing:
        hint = (
            'Give all files the same columns, or set options={"union_by_name": True}, which fills '
            "missing columns with NULL."
        )
        if any(re.fullmatch(r"[\d.,:/-]+", name) for name in (*names, *first_names)):
            hint = 'If the files have no heading: options={"header": False}. Else: ' + hint
        raise SourceUnavailable(
            f"{place} and {first} do not have the same columns: {min(missing)!r} is missing from "
            f"{lacking} (union_by_name fills it with NULL).",
            hint=hint,
        )


def check_numbers(files: Sequence[TextFile]) -> None:
    """Check numbers of JSON, which DuckDB makes DOUBLE before any cast, in columns that are
    declared to hold all their digits. Raises OSError, SourceUnavailable."""
    types: Mapping[str, str] = files[0].options.get("types", {})
    names = {fold(name): name for name, kind in types.items() if kind.upper() not in _FLOAT_TYPES}
    for file in files if names else ():
        for line, block in _numbered_blocks(file):
            if _LONG_NUMBER.search(block):
                _check_long_numbers(file.path, line, block, names)


def _numbered_blocks(file: TextFile) -> Iterator[tuple[int, str]]:
    """The text in blocks, each with the number of its first line. They overlap, so that a number
    is whole in one of them."""
    with open_text(file.source_file, file.encoding) as text:
        line, rest = 1, ""
        while block := text.read(BLOCK_BYTES):
            block = rest + block
            yield line, block
            rest = block[-_MAX_NUMBER_LENGTH:]
            line += block.count("\n", 0, -_MAX_NUMBER_LENGTH)


def _check_long_numbers(path: str, line: int, block: str, names: Mapping[str, str]) -> None:
    """`names`: the columns that hold all digits, by folded name."""
    for match in _KEY_AND_LONG_NUMBER.finditer(block):
        # what is no object is in the column `json`
        key = fold(json.loads(match[1], strict=False)) if match[1] else "json"
        number = match[2]
        if key not in names or number.lstrip("-").isdecimal():
            continue  # integers stay as they are
        read = repr(float(number))
        if Decimal(number) != Decimal(read):
            line += block.count("\n", 0, match.start(2))
            given = json.dumps({"types": {names[key]: "DOUBLE"}}, ensure_ascii=False)
            raise SourceUnavailable(
                f"{display_name(path)}, line {line}: column {names[key]!r} contains {number[:60]}, "
                f"of which only {read} would be read.",
                hint="Write the number as text, in quotation marks, or read DOUBLE: "
                f"options={given}.",
            )


def _check_json_depth(stream: BinaryIO, name: str) -> None:
    """Brackets outside of strings are counted without parsing."""
    depth, is_in_string = 0, 0
    while block := stream.read(BLOCK_BYTES):
        while block.endswith(b"\\") and (following := stream.read(1)):
            block += following
        if b"\\" in block:  # without escaped backslashes, then without escaped quotation marks
            block = block.replace(b"\\\\", b"").replace(b'\\"', b"")
        marks = np.frombuffer(block.translate(None, _ALL_BUT_STRUCTURE), np.uint8)
        if not len(marks):
            continue
        quotes = np.cumsum(marks == _QUOTE) + is_in_string
        # `[` and `{` have the bit 2 of their closing brackets clear
        steps = np.where(marks & 4, -1, 1)
        steps[(quotes % 2 == 1) | (marks == _QUOTE)] = 0
        levels = np.cumsum(steps) + depth
        if (deepest := int(levels.max())) > MAX_JSON_DEPTH:
            raise SourceUnavailable(
                f"{display_name(name)} has values nested {deepest:,} deep or deeper; at most "
                f"{MAX_JSON_DEPTH:,} are supported.",
                hint="Store the nested values as text, or flatten them.",
            )
        depth, is_in_string = int(levels[-1]), int(quotes[-1]) % 2


def check_declared_columns(types: Mapping[str, str], names: Sequence[str]) -> None:
    """Raise SourceUnavailable for a declared type of a column that is not there."""
    folded = {fold(name) for name in names}
    for name in types:
        if fold(name) not in folded:
            raise SourceUnavailable(
                f"The option 'types' names the column {name!r}, which is not in the file.",
                near=near_names(name, names),
                hint="Use the names in the header.",
            )
