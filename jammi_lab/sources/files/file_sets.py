"""File sets: the current files of a source. Here the interface and the local implementation;
`remote_files.py` has those for object stores and http."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from jammi_lab.core.identifiers import has_surrogate
from jammi_lab.sources.base import NO_REQUIREMENTS, Requirements
from jammi_lab.sources.files.formats import is_skipped, names_of_kind
from jammi_lab.sources.locations import base_of, expand, literal_path
from jammi_lab.storage.files import Stat, is_settled, open_for_reading, route_of, to_stat

_MAX_LISTINGS = 10


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as it was listed."""

    relative: str
    """The path relative to the source's folder, with `/`; empty if the source is one file."""
    path: str
    """The absolute path or URL."""
    stat: Stat
    """The stat; unknown times and inode are 0."""
    mark: str | None = None
    """Of a remote file, what changes with every change of its bytes: a version or a strong entity
    tag, if its store provides one."""
    route: str = ""
    """Of a local file, what changes when its path leads to another file and then back."""
    realm: str = ""
    """Of a remote file, distinguishes equal paths on different servers."""
    open_remote: Callable[[], BinaryIO] | None = field(default=None, compare=False, repr=False)
    """Opens a remote file. None for a local one."""
    is_copied: bool = field(default=False, compare=False)
    """Of a remote file in a store, whether it is fetched whole when it is opened."""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return self.open_remote is None

    def open(self) -> BinaryIO:
        """Open it for reading, seekable. Raises OSError."""
        if self.open_remote is None:
            return open_for_reading(self.path, follow_links=True)
        return self.open_remote()

    def is_proved(self, at_ns: int, racy_seconds: float) -> bool:
        """Whether its bytes cannot change after this moment without another mark or stat. A file
        modified less than `racy_seconds` before may be written again within one tick of the
        clock."""
        has_settled = bool(self.stat.inode) and is_settled(self.stat, at_ns, racy_seconds)
        return self.mark is not None or has_settled


@dataclass(frozen=True, slots=True)
class ReadAccess:
    """How DuckDB reads the files of a set."""

    addresses: Sequence[str]
    """One unescaped address per file, in order."""
    requirements: Requirements = NO_REQUIREMENTS
    """The fsspec filesystem to register, if DuckDB does not read the files natively; or the secret
    to create, if it reads an object store."""


class FileSet(Protocol):
    """The files of a source."""

    @property
    def is_local(self) -> bool:
        """Whether the files are on this machine."""
        ...

    def list_files(self, kind: str) -> list[SourceFile]:
        """List the files of a kind, sorted by relative path. Raises FileNotFoundError if there are
        none, OSError."""
        ...

    def names(self) -> list[str]:
        """The names of all visible files of any kind; may be empty. Raises OSError."""
        ...

    def read_access(self, source_files: Sequence[SourceFile]) -> ReadAccess:
        """How DuckDB reads these files."""
        ...


class LocalFileSet:
    """A local file, glob or folder, or only these `files` of a folder."""

    is_local = True

    def __init__(self, pattern: str, files: Sequence[str] | None = None) -> None:
        self.pattern = pattern
        self._path = literal_path(pattern)
        self._files = files

    def list_files(self, kind: str) -> list[SourceFile]:
        if self._files and self._path is not None:
            listed = (stat_file(os.path.join(self._path, file), file) for file in self._files)
            return [source_file for source_file in listed if source_file is not None]
        if self._path is None:
            return self._stats(base_of(self.pattern), names_of_kind(kind, expand(self.pattern)))
        if (single := stat_file(self._path, "")) is not None:
            return [single]
        return self._stats(self._path, names_of_kind(kind, _list_folder(self._path)))

    def names(self) -> list[str]:
        if self._path is None:
            return expand(self.pattern)
        if os.path.isdir(self._path):
            return sorted(_list_folder(self._path))
        return [self._path] if os.path.lexists(self._path) else []

    def read_access(self, source_files: Sequence[SourceFile]) -> ReadAccess:
        return ReadAccess([source_file.path for source_file in source_files])

    def _stats(self, base: str, paths: list[str]) -> list[SourceFile]:
        source_files = []
        route_of_folder = functools.cache(route_of)
        for path in paths:
            # A file may be deleted between the listing and its stat.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                source_file = stat_file(path, path.removeprefix(f"{base}/"), route_of_folder)
                source_files += [source_file] if source_file is not None else []
        if not source_files:
            raise FileNotFoundError(errno.ENOENT, "there is no file", self._path or self.pattern)
        return sorted(source_files, key=lambda source_file: source_file.relative)


def stat_file(
    path: str, relative: str, route_of_folder: Callable[[str], str] = route_of
) -> SourceFile | None:
    """A file as it is now; None for a folder. Raises FileNotFoundError, OSError."""
    file_stat = os.lstat(path)
    is_link = stat.S_ISLNK(file_stat.st_mode)
    route = route_of(path) if is_link else route_of_folder(os.path.dirname(path))
    if is_link:
        file_stat = os.stat(path)
    if stat.S_ISDIR(file_stat.st_mode):
        return None
    if has_surrogate(path):
        # Neither DuckDB nor a catalog can hold it.
        readable = path.encode("utf-8", "backslashreplace").decode()
        raise OSError(errno.EILSEQ, "its path is not valid text; rename it", readable)
    if not stat.S_ISREG(file_stat.st_mode):
        # Reading a pipe or device could block for ever.
        raise OSError(errno.EINVAL, "not a regular file", path)
    return SourceFile(
        relative,
        path,
        to_stat(file_stat),
        route=route,
    )


def _list_folder(folder: str) -> list[str]:
    """All files of a folder and its subfolders. Lists again when a subfolder goes away meanwhile,
    because one that was renamed may have been missed. Raises FileNotFoundError when the folder
    itself is missing, OSError."""
    for _ in range(_MAX_LISTINGS):
        try:
            return list(_walk_files(folder))
        except FileNotFoundError:
            if not os.path.isdir(folder):
                raise
    raise OSError(errno.EAGAIN, "its subfolders keep changing", folder)


def _walk_files(folder: str) -> Iterator[str]:
    def raise_error(error: OSError) -> None:
        raise error

    for base, folders, files in os.walk(folder, onerror=raise_error):
        folders[:] = [name for name in folders if not is_skipped(name)]
        yield from (os.path.join(base, name) for name in files if not is_skipped(name))
