"""The files of one source as they lie there now: a local file, glob or folder, the same on an object store, or one file behind http."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from jammi_lab.sources.base import ScopedSecret
from jammi_lab.sources.kinds import of_kind, skipped
from jammi_lab.sources.locations import base_of, expand, literal_path
from jammi_lab.storage.files import Stat


@dataclass(frozen=True, slots=True)
class Item:
    """One file as it was seen."""

    relative: str
    """Where under the source's folder, with `/`; empty when the source is one file."""
    path: str
    """Absolute path or URL."""
    stat: Stat
    """What the file system says; times and inode are 0 where it does not know."""
    mark: str | None = None
    """For a remote file, what moves whenever its bytes do: a version or a strong entity tag, when its store has such a thing."""
    hint: str | None = None
    """For a remote file without a mark, what most likely moves with its bytes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How DuckDB reads the files of a place."""

    addresses: Sequence[str]
    """One for each file, in their order; nothing in them is escaped."""
    filesystem: object | None = None
    """The fsspec filesystem that it must know, when it does not read by itself."""
    scoped: ScopedSecret | None = None
    """The credential that it needs, when it reads an object store by itself."""


class Place(Protocol):
    """Where the files of a source are."""

    @property
    def local(self) -> bool:
        """Whether the files are this machine's."""
        ...

    @property
    def realm(self) -> str:
        """What tells apart two places whose paths are the same; empty for this machine."""
        ...

    def items(self, kind: str) -> list[Item]:
        """The files of this kind, sorted by relative path; one stat for each. FileNotFoundError when there is none, OSError."""
        ...

    def names(self) -> list[str]:
        """Names of all visible files, of whatever kind; empty when nothing is there. OSError."""
        ...

    def open(self, item: Item) -> BinaryIO:
        """The file's bytes, seekable. OSError."""
        ...

    def reading(self, items: Sequence[Item]) -> Reading:
        """How DuckDB reads these files."""
        ...


class LocalPlace:
    """A file, a glob or a folder of this machine."""

    local = True
    realm = ""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._path = literal_path(pattern)

    def items(self, kind: str) -> list[Item]:
        if self._path is None:
            return self._stats(base_of(self.pattern), of_kind(kind, expand(self.pattern)))
        if (alone := _item(self._path, "")) is not None:
            return [alone]
        return self._stats(self._path, of_kind(kind, _walk(self._path)))

    def names(self) -> list[str]:
        if self._path is None:
            return expand(self.pattern)
        if os.path.isdir(self._path):
            return sorted(_walk(self._path))
        return [self._path] if os.path.lexists(self._path) else []

    def open(self, item: Item) -> BinaryIO:
        return open(item.path, "rb")

    def reading(self, items: Sequence[Item]) -> Reading:
        return Reading([item.path for item in items])

    def _stats(self, base: str, paths: list[str]) -> list[Item]:
        items = []
        for path in paths:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # gone since it was listed
                item = _item(path, os.path.relpath(path, base).replace(os.sep, "/"))
                items += [item] if item is not None else []
        if not items:
            raise FileNotFoundError(errno.ENOENT, "no file is there", self._path or self.pattern)
        return sorted(items, key=lambda item: item.relative)


def _item(path: str, relative: str) -> Item | None:
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", path)  # reading a pipe or device would wait for ever
    return Item(relative, path, Stat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))


def _walk(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise error

    for base, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(base, name) for name in files if not skipped(name))
