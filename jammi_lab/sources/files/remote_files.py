"""Remote file sets: object stores and other fsspec filesystems, and single files over http."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import hashlib
import itertools
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.sources.base import Requirements
from jammi_lab.sources.files import object_stores
from jammi_lab.sources.files.file_sets import FileSet, LocalFileSet, ReadAccess, SourceFile
from jammi_lab.sources.files.formats import is_skipped, names_of_kind
from jammi_lab.sources.files.object_stores import StoreAccess, translate_errors
from jammi_lab.sources.locations import (
    HTTP_SCHEMES,
    STORES,
    Unreachable,
    base_of,
    literal_path,
    scheme_of,
)
from jammi_lab.sources.temporary_copies import MAX_COPIES_BYTES, TemporaryCopy, load_copy
from jammi_lab.storage.files import Stat

if TYPE_CHECKING:
    import fsspec

    from jammi_lab.sources.files.fsspec_mount import MountedFilesystem
    from jammi_lab.sources.files.http import HeadResponse, HttpCredentials

_MARK_FIELDS = {"s3": ("VersionId", "ETag"), "gs": ("generation", "etag"), "az": ("etag",)}
"""For each store, the metadata that change with every change of a file's bytes."""
_NO_VERSION = "null"
"""The version id of all s3 objects written while a bucket's versioning is suspended; it does not
identify a version."""
_DELTA_LOG = "_delta_log"
_UNREADABLE_CHARACTERS = frozenset("?\\*[")
"""Characters of a key that DuckDB's native reader misinterprets, or treats as wildcards."""
_mounted_filesystems: dict[str, MountedFilesystem] = {}
_mounts_lock = threading.Lock()
MAX_PART_BYTES = 16 << 20
"""Of a larger Parquet file DuckDB fetches the parts that a statement needs; everything else is
fetched whole, once for all that is done with one listing."""
_listing_numbers = itertools.count()


def _fetched_copy(open_file: Callable[[], BinaryIO], size: int) -> TemporaryCopy:
    """A copy of a fetched file. Raises Unreachable for another size or without room, and what
    `open_file` raises."""

    def write(path: Path) -> None:
        with path.open("wb") as copy:
            shutil.copyfileobj(file, copy, _BLOCK_BYTES)
            if copy.tell() != size:
                raise Unreachable("the file changed during the read")

    with open_file() as file:
        return TemporaryCopy("bytes", write)


_BLOCK_BYTES = 1 << 20


def _opened_by(
    open_file: Callable[[], BinaryIO],
    source_file: SourceFile,
    identity: str,
    *,
    has_parts: bool,
    trusts_mark: bool,
) -> SourceFile:
    """The listed file, opened by a copy unless it is too large or is read in parts. A copy is used
    for all listings with the same mark where that is trusted. Opening raises as
    `_fetched_copy`."""
    size = source_file.stat.size
    if size > (MAX_PART_BYTES if has_parts else MAX_COPIES_BYTES):
        return dataclasses.replace(source_file, open_remote=open_file)
    mark = source_file.mark if trusts_mark else None
    key = digest_of([identity, source_file.path, size, mark or next(_listing_numbers)])

    def open_copy() -> BinaryIO:
        return load_copy(key, lambda: _fetched_copy(open_file, size)).path.open("rb")

    return dataclasses.replace(source_file, open_remote=open_copy, is_copied=True)


def file_set_for(
    pattern: str,
    access: StoreAccess | HttpCredentials | None = None,
    *,
    trusts_marks: bool = True,
) -> FileSet:
    """The file set of an absolute pattern or URL, with credentials `access`; whether an equal mark
    proves equal bytes to it. Raises ExtensionMissing."""
    scheme = scheme_of(pattern)
    if scheme is None:
        return LocalFileSet(pattern)
    if scheme in HTTP_SCHEMES:
        credentials = cast("HttpCredentials | None", access)
        return HttpFileSet(pattern, credentials, trusts_marks=trusts_marks)
    return StoreFileSet(pattern, cast("StoreAccess | None", access), trusts_marks=trusts_marks)


def _mounted(identity: str, paths: Sequence[str], source_files: Sequence[SourceFile]) -> ReadAccess:
    """How DuckDB reads the files in these places through the filesystem of one access, which is
    created once."""
    from jammi_lab.sources.files.fsspec_mount import MountedFilesystem

    with _mounts_lock:
        mounted = _mounted_filesystems.setdefault(identity, MountedFilesystem())
    addresses = [
        mounted.address(path, source_file.stat.size, source_file.open)
        for path, source_file in zip(paths, source_files, strict=True)
    ]
    return ReadAccess(addresses, Requirements(filesystem=mounted))


class StoreFileSet:
    """A file, glob or prefix in an object store."""

    is_local = False

    def __init__(
        self, pattern: str, access: StoreAccess | None = None, *, trusts_marks: bool = True
    ) -> None:
        self.pattern, self._trusts_marks = pattern, trusts_marks
        self._access = access or StoreAccess(STORES[scheme_of(pattern) or ""])
        self.filesystem: fsspec.AbstractFileSystem = self._access.filesystem
        self.realm = str(self._access.options.get("endpoint_url", ""))

    def list_files(self, kind: str) -> list[SourceFile]:
        """List the files: one listing for a prefix or glob, one request for a file. Raises
        FileNotFoundError if there are none, PermissionError, Unreachable."""
        with translate_errors(self.pattern):
            base, info_by_path = self._list_paths()
            data_paths = [path for path in info_by_path if f"/{_DELTA_LOG}/" not in path]
            paths = data_paths if base is None else names_of_kind(kind, data_paths)
            if not paths:
                raise FileNotFoundError(errno.ENOENT, "there is no file", self.pattern)
            return sorted(
                (self._source_file(kind, base, path, info_by_path[path]) for path in paths),
                key=lambda source_file: source_file.relative,
            )

    def names(self) -> list[str]:
        """The names of all visible files and of a Delta log, which tells a Delta table from plain
        files; may be empty. Raises OSError as `list_files`."""
        try:
            with translate_errors(self.pattern):
                return sorted(self._list_paths()[1])
        except FileNotFoundError:
            return []

    def read_access(self, source_files: Sequence[SourceFile]) -> ReadAccess:
        """DuckDB's native reader if it can read the files and not all are copied, else fsspec."""
        paths = [self.filesystem._strip_protocol(source_file.path) for source_file in source_files]
        is_copied = (
            all(source_file.is_copied for source_file in source_files)
            and sum(source_file.stat.size for source_file in source_files) <= MAX_COPIES_BYTES
        )
        if not is_copied and not any(_UNREADABLE_CHARACTERS & set(path) for path in paths):
            secret = object_stores.duckdb_secret(self._access, self._prefix())
            if secret is not None:
                addresses = [f"s3://{path}" for path in paths]
                return ReadAccess(addresses, Requirements(scoped_secret=secret))
        return _mounted(self._access.identity, paths, source_files)

    def _prefix(self) -> str:
        """The common prefix of all files."""
        literal = literal_path(self.pattern)
        return str(
            self.filesystem._strip_protocol(base_of(self.pattern) if literal is None else literal)
        )

    def _list_paths(self) -> tuple[str | None, Mapping[str, Mapping[str, Any]]]:
        """The folder that paths are relative to (None for a single file), and the filesystem's
        metadata by path."""
        self.filesystem.invalidate_cache()
        literal = literal_path(self.pattern)
        if literal is None:
            base = self.filesystem._strip_protocol(base_of(self.pattern))
            info_by_path = self._visible_files(
                self.filesystem.glob(self.pattern, detail=True), base
            )
            if not info_by_path:
                object_stores.check_bucket_exists(
                    self.filesystem, base.split("/", 1)[0]
                )  # a glob is silent about a bucket that is not there
            return base, info_by_path
        path = self.filesystem._strip_protocol(literal)
        # In a store a key may end with a slash; such an object marks a folder and has no rows.
        if not literal.endswith("/"):
            info = self.filesystem.info(path)
            if info["type"] == "file":
                return None, {path: info}
        info_by_path = self._visible_files(self.filesystem.find(path, detail=True), path)
        if not info_by_path:
            object_stores.check_bucket_exists(self.filesystem, path.split("/", 1)[0])
        return path, info_by_path

    @staticmethod
    def _visible_files(
        info_by_path: Mapping[str, Mapping[str, Any]], base: str
    ) -> dict[str, Mapping[str, Any]]:
        return {
            path: info
            for path, info in info_by_path.items()
            if info["type"] == "file" and not path.endswith("/") and _is_visible(path, base)
        }

    def _source_file(
        self, kind: str, base: str | None, path: str, info: Mapping[str, Any]
    ) -> SourceFile:
        size = int(info["size"])
        mark = next(
            (
                f"{key} {info[key]}"
                for key in _MARK_FIELDS[self._access.store]
                if info.get(key) not in (None, "", _NO_VERSION)
            ),
            None,
        )
        name = str(mark).split(" ", 1)[0]
        relative = "" if base is None else path[len(base) :].strip("/")
        modified = info.get("LastModified") or info.get("last_modified") or info.get("mtime")
        seconds = int(modified.timestamp()) if isinstance(modified, datetime.datetime) else 0

        def open_file() -> BinaryIO:
            with translate_errors(path):
                file = self.filesystem.open(path, "rb")
            found = getattr(file, "details", {}).get(name)
            if found is not None and mark != f"{name} {found}":
                file.close()
                raise Unreachable("the file changed during the read")
            return cast(BinaryIO, file)

        source_file = SourceFile(
            relative,
            self.filesystem.unstrip_protocol(path),
            Stat(size, seconds * 10**9, 0, 0),
            mark,
            realm=self.realm,
        )
        return _opened_by(
            open_file,
            source_file,
            self._access.identity,
            has_parts=kind == "parquet",
            trusts_mark=self._trusts_marks,
        )


def _is_visible(path: str, base: str) -> bool:
    parts = path[len(base) :].strip("/").split("/")
    return not any(is_skipped(part) for part in parts if part != _DELTA_LOG)


class HttpFileSet:
    """One file over http or https."""

    is_local = False

    def __init__(
        self, url: str, credentials: HttpCredentials | None = None, *, trusts_marks: bool = True
    ) -> None:
        from jammi_lab.sources.files.http import HttpCredentials

        self.url, self._trusts_marks = literal_path(url) or url, trusts_marks
        self._credentials = credentials or HttpCredentials()
        # The stripped query may select the content, so it distinguishes equal URLs.
        self.realm = self._credentials.identity if self._credentials.query else ""

    def list_files(self, kind: str) -> list[SourceFile]:
        """The file with its current metadata. Raises FileNotFoundError, PermissionError,
        Unreachable."""
        from jammi_lab.sources.files import http

        metadata = http.head(self.url, self._credentials)
        # The date is compared, too: there are servers whose tags do not change with the bytes.
        mark = None
        if metadata.etag is not None:
            mark = f"ETag {metadata.etag} {metadata.date} {metadata.address}"
        if (size := metadata.size) is None:
            size, digest = self._download_digest(metadata)
            mark = f"SHA-256 {digest}"
        has_parts = metadata.ranges and kind == "parquet"
        whole_or_parts = dataclasses.replace(metadata, ranges=has_parts)

        def open_file() -> BinaryIO:
            return http.open_url(self.url, self._credentials, whole_or_parts)

        source_file = SourceFile("", self.url, Stat(size, 0, 0, 0), mark, realm=self.realm)
        return [
            _opened_by(
                open_file,
                source_file,
                self._credentials.identity,
                has_parts=has_parts,
                trusts_mark=self._trusts_marks,
            )
        ]

    def _download_digest(self, metadata: HeadResponse) -> tuple[int, str]:
        from jammi_lab.sources.files import http

        digest, size = hashlib.sha256(), 0
        with http.open_url(self.url, self._credentials, metadata) as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
        return size, digest.hexdigest()

    def names(self) -> list[str]:
        """The URL; empty if there is no file. Raises OSError as `list_files`."""
        try:
            return [source_file.path for source_file in self.list_files("")]
        except FileNotFoundError:
            return []

    def read_access(self, source_files: Sequence[SourceFile]) -> ReadAccess:
        """Through fsspec, so that DuckDB reads the same bytes as the digest."""
        identity = digest_of(["web", self._credentials.identity])
        paths = [source_file.path for source_file in source_files]
        return _mounted(identity, paths, source_files)
