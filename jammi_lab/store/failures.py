"""What the file system says when it fails, said as one of our errors that names the table."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from jammi_lab.errors import InvalidArgument, JammiError, ResourceExhausted, SourceUnavailable, WorkspaceReadOnly
from jammi_lab.storage.remote import UNREACHABLE

_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FILE = {errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_MORE_OPEN = {errno.EMFILE, errno.ENFILE}


def reason_of(error: OSError) -> str:
    """Why a file operation failed, in the system's words: Arrow's are about a temporary file, of which nobody knows."""
    if error.errno in _FORBIDDEN | _FULL | _NO_MORE_OPEN:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def storage_error(error: OSError, table: str) -> JammiError:
    """The typed error that a failed file operation on a table's files amounts to."""
    reason = reason_of(error)
    if error.errno == UNREACHABLE:
        return SourceUnavailable(f"The store of the files of {table!r} cannot be used: {reason}.", hint="Try again when it answers.")
    if error.errno in _FORBIDDEN:
        return WorkspaceReadOnly(f"The files of {table!r} cannot be written: {reason}.", hint="See who may write to the workspace's folder.")
    if isinstance(error, NotADirectoryError) and error.filename:
        said = f"{os.fsdecode(error.filename)!r} is no folder, and is where the files of {table!r} belong."
        return WorkspaceReadOnly(said, hint="Move what is there elsewhere and try again; tables that are missing then can be recomputed.")
    if error.errno in _FULL:
        return ResourceExhausted(f"There is no space for the files of {table!r}: {reason}.", hint="Make room and run it again.")
    if error.errno in _NO_MORE_OPEN:
        hint = "Close files that this kernel holds open, or let it have more (ulimit -n), and run it again."
        return ResourceExhausted(f"The files of {table!r} cannot be opened: {reason}.", hint=hint)
    return ResourceExhausted(f"The disk failed at the files of {table!r}: {reason}.", hint="See to the disk and run it again.")


def removal_error(error: OSError, table: str) -> JammiError:
    """The same for the files of a table that is dropped."""
    later = "with the next table that is dropped, or when the workspace is opened again"
    if error.errno in _NO_FILE:
        said = f"{table!r} is dropped, but what has the name of one of its files is none: {reason_of(error)}."
        return WorkspaceReadOnly(said, hint=f"Move it elsewhere; the rest goes {later}.")
    hint = f"See who may write to the workspace's folder; they go {later}."
    kind = WorkspaceReadOnly if error.errno in _FORBIDDEN else SourceUnavailable if error.errno == UNREACHABLE else ResourceExhausted
    return kind(f"{table!r} is dropped, but its files cannot be removed: {reason_of(error)}.", hint=hint)


def told_of(table: str, error: JammiError | OSError) -> str:
    """A line of a report about a table that was not settled or compared, with the table's name first; a failed file operation says what to do."""
    if isinstance(error, JammiError):
        return f"{table}: {error.message}"
    if error.errno in _FORBIDDEN:
        return f"{table}: its files may not be read or changed: {reason_of(error)}. See who may use the workspace's folder."
    if error.errno in _NO_FILE:
        return f"{table}: what has the name of one of its files is none: {reason_of(error)}. Move it elsewhere, and run ws.check(repair=True)."
    typed = storage_error(error, table)
    return f"{table}: {typed.message} {typed.hint}"


def copy_error(error: OSError, target: Path) -> JammiError:
    """The same for a file that somebody wanted to have written elsewhere."""
    if error.errno in _FORBIDDEN:
        return InvalidArgument(f"{str(target)!r} cannot be written: {reason_of(error)}.", hint="Choose a file in a folder that you may write to.")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidArgument(f"{str(target)!r} cannot be written: {reason_of(error)}.", hint="Choose a shorter name.")
    return ResourceExhausted(f"The copy {target} could not be written: {reason_of(error)}.", hint="See whether there is room.")


def leave(error: BaseException, said: str) -> None:
    """Note at what ended the making of a table what was kept of it, as a clause."""
    error._jammi_left = said  # type: ignore[attr-defined]  # it goes up to where the table is given up


def left_by(error: BaseException) -> str:
    """What was kept of a table whose making this ended, as a clause."""
    return getattr(error, "_jammi_left", "nothing was left behind")


@contextlib.contextmanager
def explained(table: str, said: Callable[[OSError, str], JammiError] = storage_error) -> Iterator[None]:
    """A block whose failed file operations are raised as typed errors that name the table: ResourceExhausted, WorkspaceReadOnly."""
    try:
        yield
    except OSError as error:
        raise said(error, table) from error
