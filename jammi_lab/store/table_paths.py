"""Which table a file below `results/` belongs to, and whether it is unfinished, by its name."""

import re
from collections.abc import Iterable

_TEMPORARY_FILE = re.compile(r"\.[A-Za-z0-9_-]+\..+\.[0-9a-f]{8}\.tmp")
"""Name of a file of a table that is being written."""


def is_temporary(path: str) -> bool:
    """Whether a file is one that is being written, or that its writer left."""
    return _TEMPORARY_FILE.fullmatch(path.rpartition("/")[2]) is not None


def stem_of(path: str) -> str:
    """The path, without suffix, of the table that a file belongs to."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.removeprefix('.').split('.')[0]}"


def temporary_files(paths: Iterable[str]) -> dict[str, list[str]]:
    """The temporary files among some, by the stem of their table."""
    by_stem: dict[str, list[str]] = {}
    for path in filter(is_temporary, paths):
        by_stem.setdefault(stem_of(path), []).append(path)
    return by_stem
