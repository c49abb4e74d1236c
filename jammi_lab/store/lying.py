"""What lies in the results folders, by one listing of each: so many tables are looked after at the price of few."""

import concurrent.futures
import contextlib
import errno
import os
import re
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from jammi_lab.errors import JammiError
from jammi_lab.storage.beside import begin
from jammi_lab.storage.files import Place, fault_point
from jammi_lab.storage.syncing import sync_folder
from jammi_lab.store.manifests import SUFFIX
from jammi_lab.store.results import Results, clear
from jammi_lab.vectors.index_files import SUFFIXES

_UNBEGUN = re.compile(r"\.([A-Za-z0-9_-]+)\.(?:parquet|materialization\.json)\.[0-9a-f]{8}\.tmp")
"""How a file is called that is written before its table is ready."""


_PARTS = (*reversed(SUFFIXES), SUFFIX, ".parquet")
"""What the names of a table's files end with, in the order in which they go."""
_HELD = 4096
"""The number of a descriptor from which no more removed files are held open."""
_AT_ONCE = 8
"""How many files are removed at once when not all can be held: each waits for the file system's journal, and they wait together."""


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
        self.folder, self._below = folder, f"{folder}{os.sep}"
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

    def files_of(self, stem: str) -> list[str]:
        """The paths of all that lies there of one table, in the order in which they go."""
        found = [name for part in _PARTS if (name := stem + part) in self.names]
        if self.temporary:
            found[:0] = [name for part in _PARTS for name in self.temporary.get((stem + part)[:200], ())]
        return [self._below + name for name in found]


class _Going(NamedTuple):
    """A table whose files are to be removed."""

    table_name: str
    folder: Path
    paths: list[str]


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
        here: list[_Going] = []
        for table in tables:
            try:
                there, name = self._of(table)
                if there is None:
                    clear(self._results.place(table.path))
                else:
                    here.append(_Going(table.table_name, there.folder, there.files_of(name)))
            except (JammiError, OSError) as error:
                wrong[table.table_name] = error
        for going, gone in _each(here):
            if isinstance(gone, OSError):
                wrong[going.table_name] = gone
            elif gone:
                touched.setdefault(going.folder, []).append(going.table_name)
        for folder, names in touched.items():
            try:
                sync_folder(folder)
            except OSError as error:
                wrong |= dict.fromkeys(names, error)
        return wrong

    def clear_unfinished(self) -> None:
        """Remove what was left of indexes and healed manifests, in the folders that were asked for. Only when nobody can be writing one. OSError."""
        for there in filter(None, self._folders.values()):
            for name in [name for stem, names in there.temporary.items() if stem.endswith((*SUFFIXES, SUFFIX)) for name in names]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{there.folder}/{name}")

    def unbegun(self) -> list[tuple[str, Path]]:
        """The unfinished files of tables in all result folders, each with its table's name. OSError."""
        root = self._results.root / "results"
        if not isinstance(root, Path):
            return []
        found: list[tuple[str, Path]] = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(root) as folders:
            for folder in folders:
                if folder.is_dir(follow_symlinks=False):
                    with os.scandir(folder) as entries:
                        unfinished = [each for each in entries if each.name.startswith(".")]  # of tens of thousands
                    found += [(named[1], Path(each.path)) for each in unfinished if (named := _UNBEGUN.fullmatch(each.name)) is not None]
        return found

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


class _Held:
    """Descriptors of files that are being removed. The file system frees the bytes when the last one goes, which takes ten times as long as
    to take the name away; so that is done later, on another thread."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        may, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._below = _HELD if may == resource.RLIM_INFINITY else min(_HELD, may // 2)  # numbers are given from below: the upper half stays free
        self.room = hasattr(os, "O_PATH")
        """Whether another one can be held."""

    def hold(self, path: str) -> None:
        """Hold a file that is about to be removed, if it is there and there is room."""
        try:
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            self.room = error.errno == errno.ENOENT
            return
        self._descriptors.append(descriptor)
        self.room = descriptor < self._below

    def let_go(self) -> None:
        """Close them all."""
        if self._descriptors:
            try:
                begin(self._close, "jammi-clear")
            except RuntimeError:  # there may be no more threads
                self._close()

    def _close(self) -> None:
        for each in self._descriptors:
            os.close(each)


def _each(tables: list[_Going]) -> Iterator[tuple[_Going, bool | OSError]]:
    """Of each table whether anything of it was there and is gone, or why not."""
    held = _Held()
    left = iter(tables)
    try:
        while held.room and (going := next(left, None)) is not None:
            yield going, _gone(going.paths, held)
        if rest := list(left):
            with concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "jammi-clear") as helpers:
                for done in helpers.map(_removed, [rest[k::_AT_ONCE] for k in range(_AT_ONCE)]):
                    yield from done
    finally:
        held.let_go()


def _removed(tables: list[_Going]) -> list[tuple[_Going, bool | OSError]]:
    return [(going, _gone(going.paths)) for going in tables]


def _gone(paths: list[str], held: _Held | None = None) -> bool | OSError:
    """Whether any of the files was there and is gone, or why not; the folder is not synced yet. A link goes, not what it leads to."""
    gone = False
    for path in paths:
        if held is not None and held.room:
            held.hold(path)
        fault_point("file.before_unlink")
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            return error
        gone = True
        fault_point("file.after_unlink")
    return gone
