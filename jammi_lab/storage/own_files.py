"""The files and folders that this program makes, and their removal, which is done nowhere else.

A folder may come from anywhere, and archives and repositories hold links: a link in the place of an
own file or folder would have a foreign one changed or removed. The folder of a workspace itself may
be reached through links; nothing in it that the program made may be one.
"""

import contextlib
import errno
import os
import shutil
from pathlib import Path
from stat import S_ISDIR, S_ISREG

FILE_MODE_BITS = 0o666
"""Permission bits of new files, less those of the umask: a team shares a folder by its group."""


def check_file(path: Path) -> None:
    """Raise FileExistsError when a path is anything but a regular file with one name, or is
    missing. OSError."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if not is_own(os.lstat(path)):
            raise FileExistsError(
                errno.EEXIST, "it is a link, or not a regular file", os.fspath(path)
            )


def is_own(stat: os.stat_result) -> bool:
    """Whether a file may be written in place: not one that has a second name, a hard link, by which
    a foreign file would change."""
    return S_ISREG(stat.st_mode) and stat.st_nlink <= 1


def check_folder(path: Path) -> None:
    """Raise NotADirectoryError when a path is anything but a folder, or is missing. OSError."""
    with contextlib.suppress(FileNotFoundError):
        if not S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is not a folder", os.fspath(path))


def remove(path: str | Path) -> None:
    """Remove the name of an own file; of a link, the link. Raises FileNotFoundError, OSError."""
    os.unlink(path)


def discard(path: str | Path) -> None:
    """As `remove`, for a file that may be missing. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        remove(path)


def remove_folder(folder: str | Path) -> None:
    """Remove a folder of this process with its content, as far as the system allows. Links in it
    are not followed, and a link in its place is left."""
    shutil.rmtree(folder, ignore_errors=True)
