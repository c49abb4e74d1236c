"""The folders of workspaces that this user trusts. What a file of a folder names beyond the folder
is used only in those.

The list is a file of the user, outside of every workspace: a line for each folder with its inode,
the time of its creation and its path. The path alone would also name a folder that was unpacked or
cloned later in the place of a removed one. Inode and creation time do not travel with a copy, an
archive or a clone, nobody can choose them, and nothing has to be kept in the folder itself.
"""

import contextlib
import ctypes
import functools
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jammi_lab.core.errors import InvalidArgument, WorkspaceReadOnly
from jammi_lab.storage.files import open_any_regular, open_for_reading, write_atomic

MAX_LIST_BYTES = 256 << 10
"""Above this size the list is written anew, without folders that are gone."""
_MAX_READ_BYTES = 16 << 20
"""Of a longer list the folders that were added last are not trusted."""
_CREATION_FIELD = 1 << 11
"""The field of `statx` with the creation time."""
listed_here: set[bytes] = set()
"""Lines that this process added, which hold also where the list cannot be written."""


def trusted_list() -> Path | None:
    """The path of the list; None without a home folder."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    base = configured if os.path.isabs(configured) else os.path.expanduser("~/.config")
    return Path(base, "jammi", "trusted") if os.path.isabs(base) else None


def is_trusted(folder: Path) -> bool:
    """Whether this user trusts a folder."""
    line = _line(os.path.realpath(folder))
    return line is not None and (line in listed_here or line in _read_lines())


def add_trusted(folder: Path) -> None:
    """List an existing folder. InvalidArgument when it is missing or has a line break in its path;
    WorkspaceReadOnly when the list cannot be written: then this process alone trusts the folder."""
    line = _line(os.path.realpath(folder))
    if line is None:
        raise InvalidArgument(
            f"{str(folder)!r} is no folder, or has a line break in its path.",
            hint="Pass the folder of a workspace.",
        )
    listed_here.add(line)
    path = trusted_list()
    if path is None:
        raise _unwritable("there is no home folder")
    try:
        lines = _read_lines()
        if line in lines:
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sum(map(len, lines)) > MAX_LIST_BYTES:
            _remove_missing_folders(path, lines)
        with open(path, "ab", opener=open_any_regular) as file:
            file.write(line + b"\n")
    except OSError as error:
        raise _unwritable(f"{str(path)!r} cannot be written: {error.strerror}") from None


def _unwritable(reason: str) -> WorkspaceReadOnly:
    return WorkspaceReadOnly(
        f"The list of trusted folders cannot be kept: {reason}.",
        hint="Set XDG_CONFIG_HOME to a folder where you have write permission.",
    )


def _remove_missing_folders(path: Path, lines: Iterable[bytes]) -> None:
    kept = [line for line in lines if _line(_path_of(line)) == line]
    write_atomic(path, b"".join(line + b"\n" for line in kept))


def newest_folders(count: int) -> list[str]:
    """The folders that were listed last and are still the same, newest first."""
    found = list[str]()
    for line in reversed([*_read_lines()]):
        path = _path_of(line)
        if _line(path) == line:
            found.append(path)
        if len(found) == count:
            break
    return found


def _read_lines() -> dict[bytes, None]:
    """The lines of the list, in their order. Of anything but a file none is read."""
    path = trusted_list()
    if path is None:
        return {}
    with contextlib.suppress(OSError), open_for_reading(path, follow_links=True) as file:
        return dict.fromkeys(file.read(_MAX_READ_BYTES).split(b"\n"))
    return {}


def _line(real_path: str) -> bytes | None:
    """The line of a folder; None when it is missing, or its path is no line."""
    if not os.path.isdir(real_path) or "\n" in real_path:
        return None
    state = f"{os.stat(real_path).st_ino} {creation_time(real_path)} "
    return state.encode() + os.fsencode(real_path)


def _path_of(line: bytes) -> str:
    return os.fsdecode(line.split(b" ", 2)[-1])


def creation_time(path: str) -> int:
    """When a folder was created, in nanoseconds; 0 where the system does not record it."""
    if (birth := getattr(os.stat(path), "st_birthtime", None)) is not None:
        return int(birth * 1e9)
    statx, buffer = _statx(), ctypes.create_string_buffer(256)
    if statx is None or statx(0, os.fsencode(path), 0, _CREATION_FIELD, buffer) != 0:
        return 0
    mask, seconds, nanoseconds = struct.unpack_from("=I76xqI", buffer)
    return seconds * 10**9 + nanoseconds if mask & _CREATION_FIELD else 0


@functools.cache
def _statx() -> Any:
    """The system call that reads the creation time, which `os` lacks here; None without it."""
    with contextlib.suppress(OSError, AttributeError):
        return ctypes.CDLL(None).statx
    return None
