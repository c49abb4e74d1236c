"""Checks of files before DuckDB reads them: for what it would misread, what takes it minutes, and
what ends the process."""

import os
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.sources.files.file_sets import FileSet, SourceFile
from jammi_lab.sources.files.text_bytes import BLOCK_BYTES, decompressed, is_nonempty
from jammi_lab.sources.read_errors import display_name
from jammi_lab.storage.files import Stat

MAX_COLUMNS = 10_000
"""Binding takes DuckDB time with the square of the number of columns: 25 s for 20 000."""
MAX_JSON_DEPTH = 1_000
"""DuckDB parses nested values by recursion and overflows the stack between 5 000 and 20 000."""
_QUOTE, _STRUCTURE = ord('"'), b'"[]{}'
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(_STRUCTURE))
_MAX_CHECKED_FILES = 10_000
_checked_files = BoundedCache[tuple[str, str, Stat, str | None, str], bool](_MAX_CHECKED_FILES)
"""Files that passed the check, by location, stat and kind."""


def check_files(kind: str, file_set: FileSet, source_files: Sequence[SourceFile]) -> None:
    """Check text files, once per content as proved by their stat. Raises OSError, and
    SourceUnavailable for too deep JSON."""
    for source_file in source_files:
        key = (file_set.realm, source_file.path, source_file.stat, source_file.mark, kind)
        if _checked_files.get(key):
            continue
        name = os.path.basename(source_file.path)
        if kind in ("json", "ndjson") and is_nonempty(file_set, source_file):
            with file_set.open(source_file) as file:
                _check_json_depth(decompressed(file, source_file), name)
        _checked_files.put(key, True)


def check_column_count(name: str, columns: int) -> None:
    """Raise SourceUnavailable when a file has too many columns."""
    if columns > MAX_COLUMNS:
        raise SourceUnavailable(
            f"{display_name(name)} has {columns:,} columns; at most {MAX_COLUMNS:,} are supported.",
            hint="Write it as rows of (row, column, value), or with fewer columns.",
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
