"""Files that are whole or not there: atomic writes, stats that may stand for bytes, locations that cannot leave their folder."""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from jammi_lab.errors import TableDamaged
from jammi_lab.values.base import Value

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


def stat_of(path: str | Path) -> Stat | None:
    """The stat of what the path leads to; None when nothing is there. OSError (permission, I/O) passes."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Stat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def settled(stat: Stat, observed_at_ns: int, racy_seconds: float) -> bool:
    """Whether an equal stat later proves equal bytes: its times were older than the observation by more than the clock's grain."""
    return max(stat.mtime_ns, stat.ctime_ns) < observed_at_ns - int(racy_seconds * 1e9)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network mounts cannot sync a folder; they write names through
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the bytes of a finished file durable. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AtomicFile:
    """A file that takes its name only when it is whole and durable: write to `.temp`, then `commit()` or `abort()`.

    The temp file lies in the same folder, its name starts with `.` and ends with `.tmp`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temp = path.parent / f".{path.name[:200]}.{secrets.token_hex(4)}.tmp"

    def commit(self) -> None:
        """Sync the temp file, give it its name, sync the folder. On failure the temp file is removed and OSError passes.

        A sync that failed is never repeated on the same file: the kernel may have dropped the pages and call them clean.
        """
        try:
            fault_point("file.before_fsync")
            sync_file(self.temp)
            fault_point("file.before_rename")
            os.replace(self.temp, self.path)
        except BaseException:
            self.abort()
            raise
        fault_point("file.before_folder_fsync")
        sync_folder(self.path.parent)
        fault_point("file.after_folder_fsync")

    def abort(self) -> None:
        """Remove the temp file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.temp.unlink()


def write_atomic(path: Path, data: bytes) -> None:
    """Put `data` under `path`, whole and durable, or leave what was there. OSError."""
    file = AtomicFile(path)
    try:
        fault_point("file.before_write")
        file.temp.write_bytes(data)
    except BaseException:
        file.abort()
        raise
    file.commit()


def remove(path: Path) -> bool:
    """Whether a file was there to be removed; its name is durably gone. OSError."""
    fault_point("file.before_unlink")
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    fault_point("file.after_unlink")
    sync_folder(path.parent)
    return True


def make_folder(path: Path) -> None:
    """Make a folder and those above it, durably. OSError (FileExistsError when a file stands there)."""
    missing = []
    above = path
    while not above.is_dir():
        missing.append(above)
        above = above.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def inside(root: Path, relative: str) -> Path:
    """The file that a stored location means. TableDamaged when it would leave `root`, through `..`, an absolute path or a symbolic link."""
    wanted = Path(relative)
    base = Path(os.path.realpath(root))
    plain = base / wanted
    if not relative or "\0" in relative or wanted.is_absolute() or ".." in wanted.parts or Path(os.path.realpath(plain)) != plain:
        raise TableDamaged(f"The stored location {relative[:200]!r} leaves its folder.", hint="Run ws.check() to compare catalog and files.")
    return plain


def relative_to(root: Path, path: Path) -> str:
    """The location to store for a file under `root`, with `/`. TableDamaged when it is not under it."""
    try:
        return Path(os.path.realpath(path)).relative_to(os.path.realpath(root)).as_posix()
    except ValueError:
        raise TableDamaged(f"{path.name!r} does not lie in the folder it should.", hint="Run ws.check() to compare catalog and files.") from None
