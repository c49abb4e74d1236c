"""The files in the results folders, listed once per folder, so that checking many tables costs
little more than checking few."""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from jammi_lab.core.errors import JammiError
from jammi_lab.storage import own_files
from jammi_lab.storage.files import StoragePath, fault_point, sync_folder
from jammi_lab.store.manifests import SUFFIX
from jammi_lab.store.result_files import ResultFiles, remove_table_files
from jammi_lab.store.sidecars import SIDECAR_SUFFIXES

_TEMPORARY_FILE_PATTERN = re.compile(
    r"\.([A-Za-z0-9_-]+)\.(?:parquet|materialization\.json)\.[0-9a-f]{8}\.tmp"
)
"""Name of a file that is written before its table is ready."""


_REMOVAL_ORDER = (*reversed(SIDECAR_SUFFIXES), SUFFIX, ".parquet")
"""Suffixes of a table's files, in the order of their removal."""


class StoredTable(Protocol):
    """A table with its path."""

    @property
    def table_name(self) -> str:
        """Its physical name."""
        ...

    @property
    def path(self) -> str:
        """Its Parquet file, as stored in the catalog."""
        ...


class _Folder:
    """The file names in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._prefix = folder, f"{folder}{os.sep}"
        self.names: set[str] = set()
        self.temporary: dict[str, list[str]] = {}
        """Names of temporary files, by the (truncated) final name of each."""
        try:
            with os.scandir(folder) as entries:
                for file in entries:
                    if file.name.startswith(".") and file.name.endswith(".tmp"):
                        self.temporary.setdefault(file.name[1:].rsplit(".", 2)[0], []).append(
                            file.name
                        )
                    else:
                        self.names.add(file.name)
        except (FileNotFoundError, NotADirectoryError):
            pass

    def table_files(self, stem: str) -> list[str]:
        """The paths of all files of one table, in the order of their removal."""
        names = [name for suffix in _REMOVAL_ORDER if (name := stem + suffix) in self.names]
        if self.temporary:
            names[:0] = [
                name
                for suffix in _REMOVAL_ORDER
                for name in self.temporary.get((stem + suffix)[:200], ())
            ]
        return [self._prefix + name for name in names]


class _Deletion(NamedTuple):
    """A table whose files are to be removed."""

    table_name: str
    folder: Path
    paths: list[str]


class FolderListing:
    """The files of result tables at the time when their folder is first requested. Later files of
    live writers are not in it."""

    def __init__(self, results: ResultFiles) -> None:
        self._results = results
        self._folders: dict[str, _Folder | None] = {}

    def has_manifest(self, table: StoredTable) -> bool:
        """Whether a table's manifest exists by name. In an object store this is unknown, hence
        True. Raises JammiError, OSError."""
        folder, name = self._locate(table)
        return folder is None or name + SUFFIX in folder.names

    def has_both_files(self, table: StoredTable) -> bool:
        """Whether Parquet file and manifest of a table exist by name. In an object store this is
        unknown, hence False. Raises JammiError, OSError."""
        folder, name = self._locate(table)
        return (
            folder is not None
            and name + ".parquet" in folder.names
            and name + SUFFIX in folder.names
        )

    def remove_tables(self, tables: Iterable[StoredTable]) -> dict[str, JammiError | OSError]:
        """Remove all files of some tables, with one sync per folder. Returns the error of each
        table that could not be removed, by physical name."""
        errors: dict[str, JammiError | OSError] = {}
        touched: dict[Path, list[str]] = {}
        deletions: list[_Deletion] = []
        for table in tables:
            try:
                listed_folder, name = self._locate(table)
                if listed_folder is None:
                    remove_table_files(self._results.resolve(table.path))
                else:
                    deletions.append(
                        _Deletion(
                            table.table_name, listed_folder.folder, listed_folder.table_files(name)
                        )
                    )
            except (JammiError, OSError) as error:
                errors[table.table_name] = error
        for deletion in deletions:
            removed = _remove_files(deletion.paths)
            if isinstance(removed, OSError):
                errors[deletion.table_name] = removed
            elif removed:
                touched.setdefault(deletion.folder, []).append(deletion.table_name)
        for folder, names in touched.items():
            try:
                sync_folder(folder)
            except OSError as error:
                errors |= dict.fromkeys(names, error)
        return errors

    def remove_temporary_files(self) -> None:
        """Remove temporary files of indexes and restored manifests from the listed folders. Only
        allowed when nobody can be writing one. Raises OSError."""
        for folder in filter(None, self._folders.values()):
            for name in [
                name
                for stem, names in folder.temporary.items()
                if stem.endswith((*SIDECAR_SUFFIXES, SUFFIX))
                for name in names
            ]:
                own_files.discard(f"{folder.folder}/{name}")

    def sealed_tables(self) -> set[str]:
        """The names of all tables that have both files, from all result folders. Empty in an object
        store. Raises OSError."""
        root = self._results.root / "results"
        names: set[str] = set()
        if not isinstance(root, Path) or not root.is_dir():
            return names
        for folder in root.iterdir():
            if folder.is_dir() and not folder.is_symlink():
                location = f"results/{folder.name}"
                listed = self._folders.setdefault(location, _Folder(folder))
                assert listed is not None, "the folder is local"
                names |= {
                    stem
                    for name in listed.names
                    if name.endswith(SUFFIX)
                    and f"{(stem := name.removesuffix(SUFFIX))}.parquet" in listed.names
                }
        return names

    def temporary_files(self) -> list[tuple[str, Path]]:
        """The temporary files of tables in all result folders, each with its table's name. Raises
        OSError."""
        root = self._results.root / "results"
        if not isinstance(root, Path):
            return []
        files: list[tuple[str, Path]] = []
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(root) as folders,
        ):
            for folder in folders:
                if folder.is_dir(follow_symlinks=False):
                    with os.scandir(folder) as entries:
                        # The cheap test first: a folder may hold tens of thousands of files.
                        unfinished = [file for file in entries if file.name.startswith(".")]
                    files += [
                        (match[1], Path(file.path))
                        for file in unfinished
                        if (match := _TEMPORARY_FILE_PATTERN.fullmatch(file.name)) is not None
                    ]
        return files

    def _locate(self, table: StoredTable) -> tuple[_Folder | None, str]:
        """The folder of a table (None in an object store) and the stem of its file names. Raises
        TableDamaged when it is outside the workspace."""
        location, slash, name = table.path.rpartition("/")
        if not slash or not name.endswith(".parquet") or "\0" in name:
            self._results.resolve(table.path)
            return None, name
        if location not in self._folders:
            folder: StoragePath = self._results.resolve_folder(location)
            self._folders[location] = _Folder(folder) if isinstance(folder, Path) else None
        return self._folders[location], name.removesuffix(".parquet")


def _remove_files(paths: list[str]) -> bool | OSError:
    """Remove the files. Returns whether any existed, or the error. The folder is not synced yet. A
    link is removed, not its target."""
    existed = False
    for path in paths:
        fault_point("file.before_unlink")
        try:
            own_files.remove(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            return error
        existed = True
        fault_point("file.after_unlink")
    return existed
