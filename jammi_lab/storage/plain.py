"""Plain files, opened without waiting: what stands under a name may be a pipe, a device, a folder, or a link that leads nowhere."""

import errno
import os
from pathlib import Path
from stat import S_ISREG

_BLOCK = 1 << 20
_NONE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO}
"""What the system says when there is no plain file."""


def open_plain(path: str | Path, flags: int) -> int:
    """A descriptor of a plain file, which `flags` may make. FileNotFoundError also for what is none: a pipe would be waited for; OSError."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        if S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    except OSError as error:
        if error.errno not in _NONE:
            raise
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))


def plain_bytes(path: str | Path, largest: int, *, links: bool) -> tuple[int, bytes | None] | None:
    """The size and the bytes of a plain file, no bytes when they are more than `largest`; None when it is gone, is no plain file (a pipe is not
    waited for), or is a link and `links` are not followed. OSError when it cannot be read."""
    try:
        descriptor = open_plain(path, os.O_RDONLY | (0 if links else os.O_NOFOLLOW))
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(descriptor)
        if found.st_size > largest:
            return found.st_size, None
        data = os.read(descriptor, found.st_size + 1)
        while len(data) != found.st_size and (more := os.read(descriptor, _BLOCK)):  # it grows, or the system gave a part of it only
            data += more
        return len(data), data
    finally:
        os.close(descriptor)
