"""The files of result tables, listed once, so that looking at many tables costs little more than
looking at few."""

import re

from jammi_lab.storage.files import StoragePath, list_files
from jammi_lab.store import manifests

_TEMPORARY_FILE = re.compile(r"\.[A-Za-z0-9_-]+\..+\.[0-9a-f]{8}\.tmp")
"""Name of a file of a table that is being written."""


def is_temporary(path: str) -> bool:
    """Whether a file is one that is being written, or that its writer left."""
    return _TEMPORARY_FILE.fullmatch(path.rpartition("/")[2]) is not None


def stem_of(path: str) -> str:
    """The path, without suffix, of the table that a file belongs to."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.removeprefix('.').split('.')[0]}"


class FolderListing:
    """The files below `results/` at one moment, by their paths from the workspace's folder. What
    cannot be listed is left out."""

    def __init__(self, root: StoragePath) -> None:
        self.paths: set[str] = set()
        """All but temporary files."""
        self.temporary: dict[str, list[str]] = {}
        """Temporary files, by the stem of their table."""
        for path, _ in list_files(root, "results", lambda *_: None):
            if is_temporary(path):
                self.temporary.setdefault(stem_of(path), []).append(path)
            else:
                self.paths.add(path)

    def has_both_files(self, parquet: str) -> bool:
        """Whether there are a Parquet file and its manifest."""
        return {parquet, manifests.manifest_location(parquet)} <= self.paths

    def sealed_tables(self) -> list[str]:
        """The Parquet files beside a manifest, sorted."""
        return sorted(path for path in self.paths if self.has_both_files(path))
