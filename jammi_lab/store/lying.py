"""What lies in the results folders, by one listing of each: so many tables are looked after at the price of few."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from jammi_lab.errors import JammiError
from jammi_lab.storage.files import Place, fault_point, sync_folder
from jammi_lab.store.manifests import SUFFIX
from jammi_lab.store.results import Results, clear
from jammi_lab.vectors.index_files import SUFFIXES


class Filed(Protocol):
    """A table by its place."""

    @property
    def table_name(self) -> str:
        """Its physical name."""
        ...

    @property
    def path(self) -> str:
        """Its Parquet file, as it is stored."""
        ...


class _Folder:
    """The names in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: set[str] = set()
        self.temporary: dict[str, list[str]] = {}
        """Names that writers gave to unfinished files, by the beginning of the name that such a file was to have."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                        self.temporary.setdefault(entry.name[1:].rsplit(".", 2)[0], []).append(entry.name)
                    else:
                        self.names.add(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            pass


class Lying:
    """The files of result tables as they are when their folder is first asked for. What writers that live have made since is not known to it."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._folders: dict[str, _Folder | None] = {}

    def manifest(self, table: Filed) -> bool:
        """Whether something has the name of a table's manifest; not known, and therefore True, in a store. JammiError, OSError."""
        there, name = self._of(table)
        return there is None or name + SUFFIX in there.names

    def whole(self, table: Filed) -> bool:
        """Whether the Parquet file and the manifest of a table are there, as far as names say; not known, and therefore False, in a store.
        JammiError, OSError."""
        there, name = self._of(table)
        return there is not None and name + ".parquet" in there.names and name + SUFFIX in there.names

    def clear(self, tables: Iterable[Filed]) -> dict[str, JammiError | OSError]:
        """Remove all that lies there of some tables, each folder synced once; by physical name, for which that failed, and why."""
        wrong: dict[str, JammiError | OSError] = {}
        touched: dict[Path, list[str]] = {}
        for table in tables:
            try:
                there, name = self._of(table)
                if there is None:
                    clear(self._results.place(table.path))
                elif self._remove(there, name):
                    touched.setdefault(there.folder, []).append(table.table_name)
            except (JammiError, OSError) as error:
                wrong[table.table_name] = error
        for folder, names in touched.items():
            try:
                sync_folder(folder)
            except OSError as error:
                wrong |= dict.fromkeys(names, error)
        return wrong

    def clear_unfinished_indexes(self) -> None:
        """Remove what was left of indexes of ready tables, in the folders that were asked for. Only when nobody can be writing one. OSError."""
        for there in filter(None, self._folders.values()):
            for name in [name for stem, names in there.temporary.items() if stem.endswith(SUFFIXES) for name in names]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{there.folder}/{name}")

    def _of(self, table: Filed) -> tuple[_Folder | None, str]:
        """The folder of a table (None in a store) and what the names of its files begin with. TableDamaged when it leads out of the workspace."""
        location, slash, name = table.path.rpartition("/")
        if not slash or not name.endswith(".parquet") or "\0" in name:
            self._results.place(table.path)
            return None, name
        if location not in self._folders:
            folder: Place = self._results.folder(location)
            self._folders[location] = _Folder(folder) if isinstance(folder, Path) else None
        return self._folders[location], name.removesuffix(".parquet")

    @staticmethod
    def _remove(there: _Folder, stem: str) -> bool:
        """Whether anything of one table was there and is gone; the folder is not synced yet. A link goes, not what it leads to."""
        names = (*(stem + suffix for suffix in reversed(SUFFIXES)), stem + SUFFIX, stem + ".parquet")
        gone = False
        for name in [*(t for n in names for t in there.temporary.get(n[:200], ())), *(n for n in names if n in there.names)]:
            fault_point("file.before_unlink")
            try:
                os.unlink(f"{there.folder}/{name}")
            except FileNotFoundError:
                continue
            gone = True
            fault_point("file.after_unlink")
        return gone
