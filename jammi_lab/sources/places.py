"""The files of one source as they lie there now: a local file, glob or folder, or the same behind an fsspec URL."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from jammi_lab.sources.kinds import of_kind, skipped
from jammi_lab.sources.locations import base_of, expand, literal_path, scheme_of
from jammi_lab.storage.files import Stat

if TYPE_CHECKING:
    import fsspec

_MARKS = {"s3": ("VersionId", "ETag"), "gs": ("generation", "etag"), "abfs": ("etag",)}
"""For each fsspec protocol, what it tells about a file that moves with every change of its bytes."""


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
    """For a remote file, what stands for its bytes, when its store has such a thing."""


class Place(Protocol):
    """Where the files of a source are."""

    @property
    def filesystem(self) -> object | None:
        """The fsspec filesystem, when it is not this machine's."""
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


def place_of(pattern: str) -> Place:
    """The place that an absolute pattern or URL means."""
    return LocalPlace(pattern) if scheme_of(pattern) is None else RemotePlace(pattern)


class LocalPlace:
    """A file, a glob or a folder of this machine."""

    filesystem: object | None = None

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


class RemotePlace:
    """A file, a glob or a folder behind an fsspec URL."""

    def __init__(self, pattern: str) -> None:
        import fsspec

        self.pattern = pattern
        self._fs: fsspec.AbstractFileSystem = fsspec.filesystem(scheme_of(pattern))
        self.filesystem: object | None = self._fs

    def items(self, kind: str) -> list[Item]:
        self._fs.invalidate_cache()
        base, found = self._found()
        paths = found if base is None else of_kind(kind, found)
        if not paths:
            raise FileNotFoundError(errno.ENOENT, "no file is there", self.pattern)
        return sorted((self._item(base, path) for path in paths), key=lambda item: item.relative)

    def names(self) -> list[str]:
        self._fs.invalidate_cache()
        try:
            return sorted(self._found()[1])
        except FileNotFoundError:
            return []

    def open(self, item: Item) -> BinaryIO:
        return cast(BinaryIO, self._fs.open(item.path, "rb"))

    def _found(self) -> tuple[str | None, list[str]]:
        """The folder that paths are relative to (None: one file), and the paths, as the filesystem writes them."""
        literal = literal_path(self.pattern)
        if literal is None:
            base = self._fs._strip_protocol(base_of(self.pattern))
            return base, [
                path for path, info in self._fs.glob(self.pattern, detail=True).items() if info["type"] == "file" and self._visible(path, base)
            ]
        path = self._fs._strip_protocol(literal)
        if self._fs.info(path)["type"] == "file":
            return None, [path]
        return path, [below for below in self._fs.find(path) if self._visible(below, path)]

    @staticmethod
    def _visible(path: str, base: str) -> bool:
        *folders, name = path[len(base) :].strip("/").split("/")
        return not skipped(name) and not any(folder.startswith(".") for folder in folders)

    def _item(self, base: str | None, path: str) -> Item:
        info = self._fs.info(path)
        protocol = self._fs.protocol if isinstance(self._fs.protocol, str) else self._fs.protocol[0]
        marks = [f"{key} {info[key]}" for key in _MARKS.get(protocol, ()) if info.get(key)]
        relative = "" if base is None else path[len(base) :].strip("/")
        return Item(relative, self._fs.unstrip_protocol(path), Stat(int(info["size"]), 0, 0, 0), marks[0] if marks else None)
