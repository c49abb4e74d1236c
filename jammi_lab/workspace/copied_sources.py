"""Sources of a copied workspace: files outside its folder stay those of the original."""

import filecmp
import glob
from collections.abc import Iterator
from pathlib import Path

from jammi_lab.core.records import SourceRecord
from jammi_lab.store.rebuild import CATALOG_FILE

_MAX_PARENTS = 3
"""Folders above a workspace that are compared with those of its original."""


def why_not_of_this_copy(folder: Path, record: SourceRecord) -> str | None:
    """Why the file of a source does not tell about this copy of a workspace, as a clause: the file
    stands beside the original, and a differing one at the same place beside the copy. None when it
    is the file that counts."""
    location = Path(record.location)
    if not location.is_absolute() or location.is_relative_to(folder):
        return None
    for own in _same_places(folder, location):
        if glob.glob(str(own)) and not _is_same_content(own, location):
            return (
                f"the workspace is a copy, and its source is still {location}, not {own}; only "
                "files inside a workspace's folder are copied with it"
            )
    return None


def _same_places(folder: Path, location: Path) -> Iterator[Path]:
    """Yield where the file would be beside the copy, if a workspace stands at the same place beside
    the file."""
    for root in folder.parents[:_MAX_PARENTS]:
        inside = folder.relative_to(root)
        for original in location.parents:
            if original != root and (original / inside / CATALOG_FILE).is_file():
                yield root / location.relative_to(original)


def _is_same_content(first: Path, second: Path) -> bool:
    """Whether both are one file, or files with equal bytes. Folders and globs are not compared."""
    try:
        return first.samefile(second) or (
            first.is_file() and second.is_file() and filecmp.cmp(first, second, shallow=False)
        )
    except OSError:
        return False
