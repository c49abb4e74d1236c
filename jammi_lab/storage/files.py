"""Atomic file writes and their fsync, stats that may replace hashing, regular files that are opened
without blocking, recursive listings, and stored locations that cannot leave their folder."""

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import Any, BinaryIO, NamedTuple

from jammi_lab.core.errors import TableDamaged
from jammi_lab.core.interrupts import Signal
from jammi_lab.core.thread_pool import submit
from jammi_lab.core.value import Value
from jammi_lab.storage import own_files
from jammi_lab.storage.object_store import RemoteFile, RemotePath, modified_ns, object_state

_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network mounts cannot sync a folder; they write names through.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sync_file(file: Path | FileIO) -> None:
    """Make the bytes of a complete file durable. Raises OSError."""
    if isinstance(file, FileIO):
        os.fsync(file.fileno())
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_data(file: FileIO) -> None:
    """Make the bytes written to an open file durable, with only the attributes needed to read them.
    Raises OSError."""
    _fdatasync(file.fileno())


class BackgroundFsync:
    """A sync in the background: it starts at once and is complete when `wait` has returned.

    A journaling file system writes its journal once for all syncs at the same time, so small syncs
    should be started together.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync, self._succeeded = sync, False
        self._error: OSError | None = None
        self._done = Signal()
        try:
            submit(self._run)
        except RuntimeError:  # no more threads are allowed
            self._run()

    def _run(self) -> None:
        try:
            self._sync()
            self._succeeded = True
        except OSError as error:
            self._error = error
        except ValueError:  # the file was closed, because its writer gave it up
            pass
        finally:
            self._done.set()

    def wait(self) -> None:
        """Wait until the sync is complete. May be called repeatedly. Raises OSError."""
        self._done.wait()
        if not self._succeeded:
            raise self._error or OSError(errno.EIO, os.strerror(errno.EIO))


_BLOCK_BYTES = 1 << 20
_LONG_BYTES, _MIN_DATA_SHARE = 1 << 30, 1 / 16
_NOT_REGULAR = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO}
"""Error numbers of the system for a path that is not a regular file."""


def open_regular(path: str | Path, flags: int) -> int:
    """A descriptor of an own file, which is created if `flags` say so. Raises FileNotFoundError
    also for anything but a regular file, such as a link, or a pipe, which would block, for a long
    file that is mostly holes, and to write for a hard link; OSError."""
    return _open_with_stat(path, flags | os.O_NOFOLLOW)[0]


def open_any_regular(path: str | Path, flags: int) -> int:
    """As `open_regular`, for a file outside of a workspace: links are followed."""
    return _open_with_stat(path, flags)[0]


def _open_with_stat(path: str | Path, flags: int) -> tuple[int, os.stat_result]:
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, own_files.FILE_MODE_BITS)
        result = os.fstat(descriptor)
        is_written = flags & (os.O_WRONLY | os.O_RDWR)
        if own_files.is_own(result) if is_written else S_ISREG(result.st_mode):
            may_be_hollow = flags & os.O_NOFOLLOW and result.st_size > _LONG_BYTES
            if is_written or not may_be_hollow or not _is_hollow(descriptor, result.st_size):
                return descriptor, result
        os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_REGULAR:
            raise
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))


def _is_hollow(descriptor: int, size: int) -> bool:
    """Whether a long file is nearly all holes. We write none, and to read those of a file that came
    in a second can take hours."""
    data = end = 0
    try:
        while end < size and data < size * _MIN_DATA_SHARE:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            data += end - start
    except OSError as error:
        if error.errno != errno.ENXIO:  # of which no data follows
            return False
    os.lseek(descriptor, 0, os.SEEK_SET)
    return data < size * _MIN_DATA_SHARE


def read_regular(
    path: str | Path, max_bytes: int, *, follow_links: bool
) -> tuple[os.stat_result, bytes | None] | None:
    """Stat, taken before the read, and content of a regular file; the content is None when it is
    larger than `max_bytes` bytes.

    None when it does not exist, is not a regular file (pipes do not block), or is a link and
    `follow_links` is false. Raises OSError when it cannot be read.
    """
    try:
        descriptor, result = _open_with_stat(
            path, os.O_RDONLY | (0 if follow_links else os.O_NOFOLLOW)
        )
    except FileNotFoundError:
        return None
    try:
        size = result.st_size
        if size > max_bytes:
            return result, None
        data = os.read(descriptor, size + 1)
        # The file may be growing, or the system may have returned only a part of it.
        while len(data) != size and (block := os.read(descriptor, _BLOCK_BYTES)):
            data += block
        return result, data
    finally:
        os.close(descriptor)


StoragePath = Path | RemotePath
"""A local file or an object of a store."""
BACKGROUND_SYNC_BYTES = 4 << 20
"""Writing this many bytes takes longer than an fsync."""
_fault_hook: Callable[[str], None] | None = None


def install_fault_hook(hook: Callable[[str], None] | None) -> None:
    """Call `hook` with the name of each fault point passed, until another hook or None is
    installed. It may raise or end the process."""
    global _fault_hook
    _fault_hook = hook


def fault_point(name: str) -> None:
    """A point at which a test may make the process fail. Does nothing otherwise."""
    if _fault_hook is not None:
        _fault_hook(name)


class Stat(Value, frozen=True):
    """The file system's metadata of a file."""

    size: int
    """Size in bytes."""
    mtime_ns: int
    """Last modification; can be set by any program."""
    ctime_ns: int
    """Last change of bytes or attributes; cannot be set."""
    inode: int
    """The file that the name refers to, on its device."""
    device: int = 0
    """The device; 0 where unknown."""


def stat_of(path: str | StoragePath) -> Stat | None:
    """The stat of a path, following links; None when nothing exists there. Raises OSError
    (permission, I/O)."""
    if isinstance(path, RemotePath):
        info = path.info()
        return None if info is None else object_stat(info)
    result = _os_stat(path)
    return None if result is None else to_stat(result)


def regular_stat(path: StoragePath) -> Stat | None:
    """Like `stat_of`, for regular files only: None also for a folder, a device, a dangling link, or
    a pipe, which would block on opening."""
    if isinstance(path, RemotePath):
        return stat_of(path)
    try:
        result = _os_stat(path)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return None
    return to_stat(result) if result is not None and S_ISREG(result.st_mode) else None


def _os_stat(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # of a path that a stranger stored
            raise
        return None


def to_stat(result: os.stat_result) -> Stat:
    """The stat of a local file in the form that is compared."""
    return Stat(
        result.st_size, result.st_mtime_ns, result.st_ctime_ns, result.st_ino, result.st_dev
    )


def route_of(path: str) -> str:
    """The folders and links through which an absolute path leads to a file now. It changes when one
    of them is replaced or renamed, also when that is undone. Raises OSError."""
    route, here, parts = list[str](), "/", path.split("/")[::-1]
    while parts:
        part = parts.pop()
        if not part:
            continue
        here = os.path.join(here, part)
        result = os.lstat(here)
        is_link = S_ISLNK(result.st_mode)
        if S_ISREG(result.st_mode):
            break
        folder = result.st_dev, result.st_ino
        # A new entry moves both times of a folder, a new name only one. When it moves both later,
        # the folder is still the one that had that name.
        if is_link or result.st_ctime_ns > result.st_mtime_ns:
            _renamed_at[folder] = result.st_ctime_ns
        route.append(f"{folder}:{_renamed_at.get(folder, 0)}")
        if len(route) > _MAX_ROUTE:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if is_link:
            target = os.readlink(here)
            here = "/" if target.startswith("/") else os.path.dirname(here)
            parts += target.split("/")[::-1]
    return " ".join(route)


_MAX_ROUTE = 1000
"""More folders and links than a path can lead through."""
_renamed_at: dict[tuple[int, int], int] = {}
"""When a folder or link got its name, as it was seen last, by device and inode."""


def has_stat(result: os.stat_result, stat: Stat) -> bool:
    """Whether `to_stat(result) == stat`, without making a value."""
    return (
        result.st_mtime_ns == stat.mtime_ns
        and result.st_ctime_ns == stat.ctime_ns
        and result.st_size == stat.size
        and result.st_ino == stat.inode
        and result.st_dev == stat.device
    )


def exists(path: StoragePath) -> bool:
    """Whether the name exists, even as a dangling link."""
    return os.path.lexists(path) if isinstance(path, Path) else path.info() is not None


def object_stat(info: Mapping[str, Any]) -> Stat:
    """A stat for an object: its size and its ETag, which changes with the bytes and needs no
    clock."""
    size, modified_ns, tag = object_state(info)
    return Stat(size, modified_ns, modified_ns, tag)


def open_for_reading(path: str | StoragePath, *, follow_links: bool = False) -> BinaryIO:
    """Open a regular file for reading; `follow_links` for one that is not our own. Raises
    FileNotFoundError also for anything else; OSError."""
    if isinstance(path, RemotePath):
        return path.open()
    return open(path, "rb", opener=open_any_regular if follow_links else open_regular)


CLOCK_SECONDS = 2.0
"""The coarsest tick of a file system's clock."""


_COARSE_NS = 10_000_000
"""A file system that counts seconds, or hundredths of them, has no other times."""

_CLOCK_DIFFERENCE_SECONDS = 86_400
"""How far its clock may be behind ours: that of a file server, or one in another time zone."""


def is_settled(stat: Stat, observed_at_ns: int, racy_seconds: float) -> bool:
    """Whether an equal stat later proves equal bytes: the file's times are older than the
    observation by more than the resolution of the clock."""
    changed_ns = max(stat.mtime_ns, stat.ctime_ns)
    if changed_ns % _COARSE_NS == 0:
        racy_seconds += _CLOCK_DIFFERENCE_SECONDS
    return changed_ns < observed_at_ns - int(racy_seconds * 1e9)


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of the bytes, since the system may accept only a part at a time. Raises OSError."""
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[file.write(remaining) :]


class AtomicFile:
    """A file that gets its name only when it is complete and durable: write to `.temp`, then call
    `commit()` or `abort()`.

    The temporary file is in the same folder. Its name begins with `.` and ends with `.tmp`.
    """

    background_sync: BackgroundFsync | None = None
    """The background sync of a complete file that has no name yet."""
    _file: FileIO | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temp = path.with_name(f"{_temporary_prefix(path)}{secrets.token_hex(4)}.tmp")

    @property
    def sync_target(self) -> Path | FileIO:
        """What to sync: the open file once it is complete, which needs no look-up by name, else its
        path."""
        return self._file or self.temp

    def write(self, data: bytes) -> None:
        """Write these bytes as the whole content. Raises OSError."""
        self._file = FileIO(os.fspath(self.temp), "x")
        write_all(self._file, data)

    def finish(self) -> None:
        """Mark the content as complete. A large file is synced in the background until `commit`."""
        self._file = file = FileIO(os.fspath(self.temp))
        if os.fstat(file.fileno()).st_size >= BACKGROUND_SYNC_BYTES:
            self.background_sync = sync_in_background(file)

    def commit(self) -> None:
        """Sync the temporary file, rename it, sync the folder. A file that it replaces keeps its
        permissions. On failure the temporary file is removed and OSError is raised."""
        with contextlib.suppress(FileNotFoundError):
            os.chmod(self.temp, os.stat(self.path).st_mode & 0o777)
        publish_files(self)

    def close(self) -> None:
        """Close the descriptor. May be called at any time and repeatedly."""
        if self._file is not None:
            self._file.close()

    def abort(self) -> None:
        """Remove the temporary file, if it exists and can be removed."""
        self.close()
        with contextlib.suppress(OSError):  # on a read-only disk also without it
            own_files.discard(self.temp)


def _temporary_prefix(path: Path) -> str:
    # Truncated, so that the name with its suffix fits into the 255 bytes of a file name.
    beginning = os.fsencode(path.name)[:200].decode(errors="ignore")
    return f".{beginning}."


def leftovers(path: Path) -> list[Path]:
    """The temporary files of a path, and the logs of SQLite beside them: left by a process that was
    killed, or being written. Raises OSError."""
    name = re.compile(f"{re.escape(_temporary_prefix(path))}[0-9a-f]{{8}}\\.tmp(-[a-z]+)?")
    with os.scandir(path.parent) as entries:
        return [
            path.with_name(entry.name)
            for entry in entries
            if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
        ]


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of a path, as far as the system allows. A process that is writing
    one fails with FileNotFoundError."""
    with contextlib.suppress(OSError):
        for leftover in leftovers(path):
            own_files.discard(leftover)


def publish_files(*files: AtomicFile) -> None:
    """Rename complete files of one folder, in order, once all their bytes are durable. The names
    are durable on return. On failure the temporary files are removed and OSError is raised."""
    _rename_when_durable(files)
    fault_point("file.before_folder_fsync")
    sync_folder(files[0].path.parent)
    fault_point("file.after_folder_fsync")


def _rename_when_durable(
    files: Sequence[AtomicFile], prerequisite: BackgroundFsync | None = None
) -> None:
    """Like `publish_files`, without syncing the folder. No file is renamed before
    `prerequisite` is durable.

    A failed sync is never repeated on the same file: the kernel may have dropped the dirty pages
    and marked them clean.
    """
    try:
        fault_point("file.before_fsync")
        # One file is synced on this thread while the others are synced in the background.
        foreground = files[-1] if files[-1].background_sync is None else None
        background_syncs = [
            file.background_sync or sync_in_background(file.sync_target)
            for file in files
            if file is not foreground
        ]
        if foreground is not None:
            sync_file(foreground.sync_target)
        for syncing in (*background_syncs, prerequisite):
            if syncing is not None:
                syncing.wait()
        for file in files:
            fault_point("file.before_rename")
            file.close()
            os.replace(file.temp, file.path)
    except BaseException:
        for file in files:
            file.abort()
        raise


def sync_in_background(file: Path | FileIO) -> BackgroundFsync:
    """Start syncing a complete file in the background."""
    return BackgroundFsync(lambda: sync_file(file))


def commit_with(
    file: AtomicFile | RemoteFile,
    path: StoragePath,
    data: bytes,
    prerequisite: BackgroundFsync | None = None,
) -> None:
    """Rename a complete file, then write `data` to `path` in the same folder, as the record that
    it is complete. No name exists before `prerequisite` is durable; both are durable on return.
    Raises OSError."""
    if not isinstance(file, AtomicFile) or isinstance(path, RemotePath):
        if prerequisite is not None:
            prerequisite.wait()
        file.commit()
        fault_point("file.after_put")
        if not write_once(path, data):
            raise FileExistsError(errno.EEXIST, "it already exists", str(path))
        file.abort()  # remove the local copy
        return
    record = AtomicFile(path)
    try:
        fault_point("file.before_write")
        record.write(data)
    except BaseException:
        record.abort()
        raise
    _rename_when_durable((file, record), prerequisite)
    fault_point("file.before_folder_fsync")
    sync_folder(path.parent)
    fault_point("file.after_folder_fsync")


def atomic_file(path: StoragePath, *, create: bool = False) -> AtomicFile | RemoteFile:
    """An atomic file at this path. With `create`, the commit to an object store fails when the name
    exists."""
    return RemoteFile(path, create=create) if isinstance(path, RemotePath) else AtomicFile(path)


def write_atomic(path: StoragePath, data: bytes) -> None:
    """Write `data` to `path`, completely and durably, or leave the old content. Raises OSError."""
    if isinstance(path, RemotePath):
        fault_point("file.before_write")
        path.put(data, create=False)
        fault_point("file.after_put")
        return
    file = AtomicFile(path)
    try:
        fault_point("file.before_write")
        file.write(data)
        file.commit()
    except BaseException:
        file.abort()
        raise


def write_outside(path: Path, data: bytes) -> None:
    """As `write_atomic`, for a file outside of a workspace: what a killed process left of an
    earlier attempt is removed, which nobody else does. Raises OSError."""
    remove_leftovers(path)
    write_atomic(path, data)


def write_once(path: StoragePath, data: bytes) -> bool:
    """Write `data` to `path`, completely and durably, unless it exists. Returns whether it was
    written. Raises OSError."""
    if isinstance(path, RemotePath):
        fault_point("file.before_write")
        try:
            path.put(data, create=True)
        except FileExistsError:
            return False
        fault_point("file.after_put")
        return True
    file = AtomicFile(path)
    try:
        file.write(data)
        sync_file(file.sync_target)
        os.link(file.temp, path)  # fails if the name exists, which a rename would replace
    except FileExistsError:
        return False
    finally:
        file.abort()
    sync_folder(path.parent)
    return True


def remove_file(path: StoragePath) -> bool:
    """Remove a file in an own folder durably. Returns whether it existed. Raises OSError, and
    NotADirectoryError when the folder is a link."""
    fault_point("file.before_unlink")
    if isinstance(path, RemotePath):
        existed = path.unlink()
        fault_point("file.after_unlink")
        return existed
    own_files.check_folder(path.parent)
    try:
        own_files.remove(path)
    except FileNotFoundError:
        return False
    fault_point("file.after_unlink")
    sync_folder(path.parent)
    return True


def move_file(path: StoragePath, folder: StoragePath) -> None:
    """Move a file into an own folder, replacing one of the same name. Raises FileNotFoundError,
    OSError, and NotADirectoryError when the folder is a link."""
    if isinstance(path, RemotePath) and isinstance(folder, RemotePath):
        path.move(folder / path.name)
    elif isinstance(path, Path) and isinstance(folder, Path):
        own_files.check_folder(folder)
        os.replace(path, folder / path.name)
        sync_folder(folder)
        sync_folder(path.parent)


def make_folder(path: StoragePath, *, inside: StoragePath | None = None) -> None:
    """Create an own folder and its parents durably; with `inside` only in that folder, which is not
    made again when it was moved away. An object store needs none. Raises OSError, and
    NotADirectoryError when a file is in the way, or a link in the place of the folder."""
    if isinstance(path, RemotePath):
        return
    own_files.check_folder(path)
    if inside is not None:
        os.stat(os.fspath(inside))
    missing = []
    ancestor = path
    while not os.path.isdir(ancestor):
        missing.append(ancestor)
        ancestor = ancestor.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(folder)
            ) from None
        sync_folder(folder.parent)  # else a crash could lose the folder with synced files in it


def resolve_inside(root: StoragePath, relative: str) -> StoragePath:
    """The file at a stored location below `root`. Raises TableDamaged when the location leaves
    `root` through `..`, an absolute path or a symbolic link."""
    requested = Path(relative)
    if isinstance(root, RemotePath):
        if (
            not relative
            or "\0" in relative
            or requested.is_absolute()
            or ".." in requested.parts
            or requested.as_posix() != relative
        ):
            raise _outside_error(relative)
        return root / relative
    base = Path(os.path.realpath(root))
    resolved = base / requested
    if (
        not relative
        or "\0" in relative
        or requested.is_absolute()
        or ".." in requested.parts
        or Path(os.path.realpath(resolved)) != resolved  # a symbolic link anywhere on the path
    ):
        raise _outside_error(relative)
    return resolved


def _outside_error(relative: str) -> TableDamaged:
    return TableDamaged(
        f"The stored location {relative[:200]!r} is outside its folder.",
        hint="Run ws.fsck() to compare catalog and files.",
    )


class ListedFile(NamedTuple):
    """A listed file."""

    size: int
    modified_ns: int
    """When it was last modified."""


def list_files(
    root: StoragePath, folder: str, on_unreadable: Callable[[str, OSError], object] | None = None
) -> Iterator[tuple[str, ListedFile]]:
    """All files below an own folder, recursively, as (path from the root, file). Links are not
    followed.

    `on_unreadable` is called for each folder that cannot be read, such as one that is a link,
    which is then skipped. Without it, such a folder raises OSError.
    """
    try:
        yield from _list_folder(root, folder, on_unreadable)
    except OSError as error:
        if on_unreadable is None:
            raise
        on_unreadable(folder, error)


def _list_folder(
    root: StoragePath, folder: str, on_unreadable: Callable[[str, OSError], object] | None
) -> Iterator[tuple[str, ListedFile]]:
    if isinstance(root, RemotePath):
        for name, info in (root / folder).list_objects().items():
            yield f"{folder}/{name}", ListedFile(info["size"], modified_ns(info))
        return
    own_files.check_folder(root / folder)
    try:
        with os.scandir(root / folder) as entries:
            entries_by_name = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries_by_name:
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from list_files(root, path, on_unreadable)
        else:
            try:
                stat = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield path, ListedFile(stat.st_size, stat.st_mtime_ns)
