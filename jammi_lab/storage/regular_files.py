"""Regular files, opened without blocking: a name may refer to a pipe, a device, a folder or a
dangling link."""

import errno
import os
from pathlib import Path
from stat import S_ISREG

_BLOCK_BYTES = 1 << 20
_NOT_REGULAR = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO}
"""Error numbers of the system for a path that is not a regular file."""


def open_regular(path: str | Path, flags: int) -> int:
    """A descriptor of a regular file, which is created if `flags` say so. Raises FileNotFoundError
    also for anything else, since opening a pipe would block; OSError."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        if S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_REGULAR:
            raise
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))


def read_regular(
    path: str | Path, max_bytes: int, *, follow_links: bool
) -> tuple[int, bytes | None] | None:
    """Size and content of a regular file; the content is None when it is larger than `max_bytes`
    bytes.

    None when it does not exist, is not a regular file (pipes do not block), or is a link and
    `follow_links` is false. Raises OSError when it cannot be read.
    """
    try:
        descriptor = open_regular(path, os.O_RDONLY | (0 if follow_links else os.O_NOFOLLOW))
    except FileNotFoundError:
        return None
    try:
        stat = os.fstat(descriptor)
        if stat.st_size > max_bytes:
            return stat.st_size, None
        data = os.read(descriptor, stat.st_size + 1)
        # The file may be growing, or the system may have returned only a part of it.
        while len(data) != stat.st_size and (block := os.read(descriptor, _BLOCK_BYTES)):
            data += block
        return len(data), data
    finally:
        os.close(descriptor)
