"""Files that are whole or not there: atomic writes, stats that may stand for bytes, locations that cannot leave their folder."""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO

from jammi_lab.errors import TableDamaged
from jammi_lab.storage.plain import open_plain
from jammi_lab.storage.remote import RemoteFile, RemotePath, state_of
from jammi_lab.storage.syncing import Syncing, sync_file, sync_folder
from jammi_lab.values.base import Value

Place = Path | RemotePath
"""A file of a folder, or an object of a store."""
_LARGE = 4 << 20
"""Bytes that take longer to write than the sync itself."""
_QUICK = 0.001
"""Seconds that files take to be synced on a disk that is quick."""
_hook: Callable[[str], None] | None = None


def install_fault_hook(hook: Callable[[str], None] | None) -> None:
    """Call `hook` with the name of each fault point that is passed, until another or None is installed. It may raise or end the process."""
    global _hook
    _hook = hook


def fault_point(name: str) -> None:
    """A place at which a test may let the process fail; otherwise nothing."""
    if _hook is not None:
        _hook(name)


class Stat(Value, frozen=True):
    """What the file system says of a file without opening it."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Last change of the bytes, as far as anybody says; can be set at will."""
    ctime_ns: int
    """Last change of bytes or attributes; cannot be set."""
    inode: int
    """Which file stands under the name."""


def stat_of(path: str | Place) -> Stat | None:
    """The stat of what the path leads to; None when nothing is there. OSError (permission, I/O) passes."""
    if isinstance(path, RemotePath):
        said = path.info()
        return None if said is None else object_stat(said)
    found = _found(path)
    return None if found is None else _stat(found)


def plain_stat(path: Place) -> Stat | None:
    """The same of a plain file; None also for a folder, a device, a link that leads nowhere, or a pipe, to open which is to wait."""
    if isinstance(path, RemotePath):
        return stat_of(path)
    try:
        found = _found(path)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return None
    return _stat(found) if found is not None and S_ISREG(found.st_mode) else None


def _found(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _stat(found: os.stat_result) -> Stat:
    return Stat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def is_there(path: Place) -> bool:
    """Whether something has that name, be it a link that leads nowhere."""
    return os.path.lexists(path) if isinstance(path, Path) else path.info() is not None


def object_stat(said: Mapping[str, Any]) -> Stat:
    """What stands for the stat of an object: its size and its ETag, which moves with the bytes and needs no clock."""
    size, when, tag = state_of(said)
    return Stat(size, when, when, tag)


def opened(path: Place) -> BinaryIO:
    """The bytes of a plain file; FileNotFoundError also for what is none. OSError."""
    return path.open() if isinstance(path, RemotePath) else open(path, "rb", opener=open_plain)


def settled(stat: Stat, observed_at_ns: int, racy_seconds: float) -> bool:
    """Whether an equal stat later proves equal bytes: its times were older than the observation by more than the clock's grain."""
    return max(stat.mtime_ns, stat.ctime_ns) < observed_at_ns - int(racy_seconds * 1e9)


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of some bytes: the system may take a part of them only. OSError."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


class AtomicFile:
    """A file that takes its name only when it is whole and durable: write to `.temp`, then `commit()` or `abort()`.

    The temp file lies in the same folder, its name starts with `.` and ends with `.tmp`.
    """

    syncing: Syncing | None = None
    """Of a file that is finished and has no name yet: what makes its bytes durable."""
    _open: FileIO | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temp = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")

    @property
    def whole(self) -> Path | FileIO:
        """What is to be synced: the file itself once it is finished, for which no thread has to find it by its name."""
        return self._open or self.temp

    def put(self, data: bytes) -> None:
        """Write all the bytes that there are. OSError."""
        self._open = FileIO(os.fspath(self.temp), "w")
        write_all(self._open, data)

    def finish(self) -> None:
        """All bytes are there. Those of a large file become durable while something else is done, before `commit`."""
        self._open = file = FileIO(os.fspath(self.temp))
        if os.fstat(file.fileno()).st_size >= _LARGE:
            self.syncing = syncing_file(file)

    def commit(self) -> None:
        """Sync the temp file, give it its name, sync the folder. On failure the temp file is removed and OSError passes."""
        commit_together(self)

    def close(self) -> None:
        """Let go of it, at any moment and more than once."""
        if self._open is not None:
            self._open.close()

    def abort(self) -> None:
        """Remove the temp file, if it is there."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self.temp.unlink()


def commit_together(*files: AtomicFile) -> None:
    """Give finished files of one folder their names, one after the other, when all their bytes are durable; the names are so when this returns. On
    failure their temp files are removed and OSError passes."""
    _name_together(files)
    fault_point("file.before_folder_fsync")
    sync_folder(files[0].path.parent)
    fault_point("file.after_folder_fsync")


def _name_together(files: Sequence[AtomicFile], first: Syncing | None = None) -> None:
    """The same without the folder; no file has its name before `first` is durable.

    A sync that failed is never repeated on the same file: the kernel may have dropped the pages and call them clean.
    """
    try:
        fault_point("file.before_fsync")
        mine = files[-1] if files[-1].syncing is None else None
        begun = [each.syncing or syncing_file(each.whole) for each in files if each is not mine]
        if mine is not None:
            sync_file(mine.whole)
        for syncing in (*begun, first):
            if syncing is not None:
                syncing.wait()
        for each in files:
            fault_point("file.before_rename")
            each.close()
            os.replace(each.temp, each.path)
    except BaseException:
        for each in files:
            each.abort()
        raise


def syncing_file(file: Path | FileIO) -> Syncing:
    """What makes the bytes of a finished file durable, from now on."""
    return Syncing(lambda: sync_file(file))


def commit_with(file: AtomicFile | RemoteFile, path: Place, data: bytes, first: Syncing | None = None) -> Callable[[], None]:
    """Give a finished file its name, and after it put `data` under `path`, in the same folder, where it says that the first is whole; neither name is
    there before `first` is durable. OSError.

    The names are durable when what this returns has been called, which raises OSError, too. On a disk that is quick they become so meanwhile, and the
    caller may hold a lock; they are durable already where it would be held up for long.
    """
    if isinstance(file, RemoteFile) or isinstance(path, RemotePath):
        if first is not None:
            first.wait()
        file.commit()
        fault_point("file.after_put")
        if not write_once(path, data):
            raise FileExistsError(errno.EEXIST, "something is there already", str(path))
        file.abort()  # what was written here before it was put
        return lambda: None
    other = AtomicFile(path)
    try:
        fault_point("file.before_write")
        other.put(data)
    except BaseException:
        other.abort()
        raise
    began = time.monotonic()
    _name_together((file, other), first)
    fault_point("file.before_folder_fsync")
    names = Syncing(lambda: sync_folder(path.parent))
    if time.monotonic() - began > _QUICK:
        names.wait()

    def named() -> None:
        names.wait()
        fault_point("file.after_folder_fsync")

    return named


def atomic_file(path: Place, *, create: bool = False) -> AtomicFile | RemoteFile:
    """A file that takes its name when it is whole; with `create` one in a store only when nothing has that name."""
    return RemoteFile(path, create=create) if isinstance(path, RemotePath) else AtomicFile(path)


def write_atomic(path: Place, data: bytes) -> None:
    """Put `data` under `path`, whole and durable, or leave what was there. OSError."""
    if isinstance(path, RemotePath):
        fault_point("file.before_write")
        path.put(data, create=False)
        fault_point("file.after_put")
        return
    file = AtomicFile(path)
    try:
        fault_point("file.before_write")
        file.put(data)
    except BaseException:
        file.abort()
        raise
    file.commit()


def write_once(path: Place, data: bytes) -> bool:
    """Put `data` under `path`, whole and durable, unless something is there; whether nothing was. OSError."""
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
        file.put(data)
        sync_file(file.whole)
        os.link(file.temp, path)
    except FileExistsError:
        return False
    finally:
        file.abort()
    sync_folder(path.parent)
    return True


def remove(path: Place) -> bool:
    """Whether a file was there to be removed; its name is durably gone. OSError."""
    fault_point("file.before_unlink")
    if isinstance(path, RemotePath):
        there = path.unlink()
        fault_point("file.after_unlink")
        return there
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    fault_point("file.after_unlink")
    sync_folder(path.parent)
    return True


def move(path: Place, folder: Place) -> None:
    """Put a file into a folder, where it takes the place of one of its name. FileNotFoundError, OSError."""
    if isinstance(path, RemotePath) and isinstance(folder, RemotePath):
        path.move(folder / path.name)
    elif isinstance(path, Path) and isinstance(folder, Path):
        os.replace(path, folder / path.name)
        sync_folder(folder)
        sync_folder(path.parent)


def make_folder(path: Place) -> None:
    """Make a folder and those above it, durably; a store needs none. OSError (NotADirectoryError when a file stands there)."""
    if isinstance(path, RemotePath):
        return
    missing = []
    above = path
    while not os.path.isdir(above):
        missing.append(above)
        above = above.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(folder)) from None
        sync_folder(folder.parent)


def inside(root: Place, relative: str) -> Place:
    """The file that a stored location means. TableDamaged when it would leave `root`, through `..`, an absolute path or a symbolic link."""
    wanted = Path(relative)
    if isinstance(root, RemotePath):
        if not relative or "\0" in relative or wanted.is_absolute() or ".." in wanted.parts or wanted.as_posix() != relative:
            raise _leaves(relative)
        return root / relative
    base = Path(os.path.realpath(root))
    plain = base / wanted
    if not relative or "\0" in relative or wanted.is_absolute() or ".." in wanted.parts or Path(os.path.realpath(plain)) != plain:
        raise _leaves(relative)
    return plain


def _leaves(relative: str) -> TableDamaged:
    return TableDamaged(f"The stored location {relative[:200]!r} leaves its folder.", hint="Run ws.check() to compare catalog and files.")


def relative_to(root: Path, path: Path) -> str:
    """The location to store for a file under `root`, with `/`. TableDamaged when it is not under it."""
    try:
        return Path(os.path.realpath(path)).relative_to(os.path.realpath(root)).as_posix()
    except ValueError:
        raise TableDamaged(f"{path.name!r} does not lie in the folder it should.", hint="Run ws.check() to compare catalog and files.") from None
