"""Places that are not this machine's: object stores and whatever else fsspec reaches, and single files behind http."""

from __future__ import annotations

import datetime
import errno
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from jammi_lab.canonical import digest_of
from jammi_lab.sources import objects
from jammi_lab.sources.kinds import of_kind, skipped
from jammi_lab.sources.locations import base_of, literal_path, scheme_of
from jammi_lab.sources.objects import Access, asking
from jammi_lab.sources.places import Item, LocalPlace, Place, Reading
from jammi_lab.storage.files import Stat

if TYPE_CHECKING:
    import fsspec

    from jammi_lab.sources.mounted import Mounted
    from jammi_lab.sources.web import Door, Told

_MARKS = {"s3": ("VersionId", "ETag"), "gs": ("generation", "etag"), "az": ("etag",)}
"""For each store, what it tells about a file that moves with every change of its bytes."""
_NO_VERSION = "null"
"""The version id that s3 gives to whatever is written while a bucket's versioning is suspended: the next object under the key has it, too."""
_UNREADABLE = frozenset("?\\*[")
"""Characters of a key that DuckDB's own reader does not take as part of it, or by which it would list more than the key."""
_mounts: dict[str, Mounted] = {}
_mounting = threading.Lock()


def place_of(pattern: str, access: Access | Door | None = None) -> Place:
    """The place that an absolute pattern or URL means, entered by `access`. ExtensionMissing."""
    scheme = scheme_of(pattern)
    if scheme is None:
        return LocalPlace(pattern)
    if scheme in ("http", "https"):
        return WebPlace(pattern, cast("Door | None", access))
    return StorePlace(pattern, cast("Access | None", access))


def _mounted(identity: str, opens: Callable[[str], BinaryIO]) -> Mounted:
    """The filesystem by which DuckDB reads with one access; the first one stays."""
    from jammi_lab.sources.mounted import Mounted

    with _mounting:
        return _mounts.setdefault(identity, Mounted(opens))


class StorePlace:
    """A file, a glob or a prefix of an object store, or of what else fsspec reaches (`memory://`)."""

    local = False

    def __init__(self, pattern: str, access: Access | None = None) -> None:
        scheme = scheme_of(pattern) or ""
        self.pattern = pattern
        self._store = objects.STORES.get(scheme)
        self._access = access if access is not None else Access(self._store) if self._store is not None else None
        if self._access is not None:
            self._fs: fsspec.AbstractFileSystem = self._access.filesystem
        else:
            import fsspec

            self._fs = fsspec.filesystem(scheme)
        self.realm = str(self._access.options.get("endpoint_url", "")) if self._access is not None else ""

    def items(self, kind: str) -> list[Item]:
        """One listing for a prefix or glob, one question for a file. FileNotFoundError when there is none; PermissionError; Unreachable."""
        with asking(self.pattern):
            base, found = self._found()
            paths = list(found) if base is None else of_kind(kind, found)
            if not paths:
                raise FileNotFoundError(errno.ENOENT, "no file is there", self.pattern)
            return sorted((self._item(base, path, found[path]) for path in paths), key=lambda item: item.relative)

    def names(self) -> list[str]:
        """Names of all visible files; empty when nothing is there. OSError as `items`."""
        try:
            with asking(self.pattern):
                return sorted(self._found()[1])
        except FileNotFoundError:
            return []

    def open(self, item: Item) -> BinaryIO:
        """The bytes of one file. OSError as `items`."""
        return self._opened(self._fs._strip_protocol(item.path))

    def _opened(self, path: str) -> BinaryIO:
        with asking(path):
            return cast(BinaryIO, self._fs.open(path, "rb"))

    def reading(self, items: Sequence[Item]) -> Reading:
        """By DuckDB's own reader where it can, else through fsspec."""
        if self._access is None:
            return Reading([item.path for item in items], filesystem=self._fs)
        paths = [self._fs._strip_protocol(item.path) for item in items]
        if not any(_UNREADABLE & set(path) for path in paths):
            scoped = objects.scoped(self._access, self._prefix())
            if scoped is not None:
                return Reading([f"s3://{path}" for path in paths], scoped=scoped)
        mounted = _mounted(self._access.identity, self._opened)
        return Reading([mounted.address(path, item.stat.size) for path, item in zip(paths, items, strict=True)], filesystem=mounted)

    def _prefix(self) -> str:
        """All that is read begins with it."""
        literal = literal_path(self.pattern)
        return str(self._fs._strip_protocol(base_of(self.pattern) if literal is None else literal))

    def _found(self) -> tuple[str | None, Mapping[str, Mapping[str, Any]]]:
        """The folder that paths are relative to (None: one file), and what is told of each path, as the filesystem writes it."""
        self._fs.invalidate_cache()
        literal = literal_path(self.pattern)
        if literal is None:
            base = self._fs._strip_protocol(base_of(self.pattern))
            found = self._files(self._fs.glob(self.pattern, detail=True), base)
            if not found and self._store is not None:
                objects.look_for(self._fs, base.split("/", 1)[0])  # a glob is silent about a bucket that is not there
            return base, found
        path = self._fs._strip_protocol(literal)
        if not (literal.endswith("/") and self._store is not None):  # an object's key may end so, and would hold no rows
            info = self._fs.info(path)
            if info["type"] == "file":
                return None, {path: info}
        found = self._files(self._fs.find(path, detail=True), path)
        if not found and self._store is not None:
            objects.look_for(self._fs, path.split("/", 1)[0])
        return path, found

    @staticmethod
    def _files(found: Mapping[str, Mapping[str, Any]], base: str) -> dict[str, Mapping[str, Any]]:
        return {path: info for path, info in found.items() if info["type"] == "file" and not path.endswith("/") and _visible(path, base)}

    def _item(self, base: str | None, path: str, info: Mapping[str, Any]) -> Item:
        marks = [f"{key} {info[key]}" for key in _MARKS.get(self._store or "", ()) if info.get(key) not in (None, "", _NO_VERSION)]
        relative = "" if base is None else path[len(base) :].strip("/")
        moment = info.get("LastModified") or info.get("last_modified") or info.get("mtime")
        seconds = int(moment.timestamp()) if isinstance(moment, datetime.datetime) else 0
        return Item(relative, self._fs.unstrip_protocol(path), Stat(int(info["size"]), seconds * 10**9, 0, 0), marks[0] if marks else None)


def _visible(path: str, base: str) -> bool:
    *folders, name = path[len(base) :].strip("/").split("/")
    return not skipped(name) and not any(folder.startswith(".") for folder in folders)


class WebPlace:
    """One file behind http or https."""

    local = False

    def __init__(self, address: str, door: Door | None = None) -> None:
        from jammi_lab.sources.web import Door

        self.address = literal_path(address) or address
        self._door = door or Door()
        self.realm = self._door.identity if self._door.query else ""  # what was taken out may be part of what is asked for

    def items(self, kind: str) -> list[Item]:  # noqa: ARG002  one file is of whatever kind it was added as
        """The file, as its server tells it now. FileNotFoundError, PermissionError, Unreachable."""
        from jammi_lab.sources import web

        told = web.ask(self.address, self._door)
        if told.size is None:
            size, digest = self._counted(told)
            return [Item("", self.address, Stat(size, 0, 0, 0), f"SHA-256 {digest}")]
        mark = f"ETag {told.etag}" if told.etag is not None else None
        hint = f"Last-Modified {told.modified}" if told.modified is not None else None
        return [Item("", self.address, Stat(told.size, (told.modified or 0) * 10**9, 0, 0), mark, hint)]

    def _counted(self, told: Told) -> tuple[int, str]:
        from jammi_lab.sources import web

        whole, size = hashlib.sha256(), 0
        with web.read(self.address, self._door, told) as file:
            while block := file.read(1 << 20):
                whole.update(block)
                size += len(block)
        return size, whole.hexdigest()

    def names(self) -> list[str]:
        """Its address; empty when nothing is there. OSError as `items`."""
        try:
            return [item.path for item in self.items("")]
        except FileNotFoundError:
            return []

    def open(self, item: Item) -> BinaryIO:
        """The bytes of the file. OSError as `items`."""
        return self._opened(item.path)

    def _opened(self, address: str) -> BinaryIO:
        from jammi_lab.sources import web

        return web.read(address, self._door, web.ask(address, self._door))

    def reading(self, items: Sequence[Item]) -> Reading:
        """Through fsspec: its bytes come as they do for the digest."""
        mounted = _mounted(digest_of(["web", self._door.identity]), self._opened)
        return Reading([mounted.address(item.path, item.stat.size) for item in items], filesystem=mounted)
