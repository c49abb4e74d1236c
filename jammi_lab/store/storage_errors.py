"""Typed errors, naming the table, for failed file operations."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    ResourceExhausted,
    SourceUnavailable,
    WorkspaceReadOnly,
    too_many_open_files,
)
from jammi_lab.storage.object_store import UNREACHABLE_ERRNO

_PERMISSION_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_REGULAR_ERRNOS = {errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
_NO_SPACE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TOO_MANY_OPEN_ERRNOS = {errno.EMFILE, errno.ENFILE}


def reason_of(error: OSError) -> str:
    """Why a file operation failed, in the system's words. Arrow's own text names a temporary file,
    which means nothing to the user."""
    known = _PERMISSION_ERRNOS | _NO_SPACE_ERRNOS | _TOO_MANY_OPEN_ERRNOS | {errno.EIO}
    if error.errno in known:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def storage_error(error: OSError, table: str) -> JammiError:
    """The typed error for a failed operation on a table's files."""
    reason = reason_of(error)
    if error.errno == UNREACHABLE_ERRNO:
        return SourceUnavailable(
            f"The object store with the files of {table!r} cannot be used: {reason}.",
            hint="Try again when it responds.",
        )
    if error.errno in _PERMISSION_ERRNOS:
        return WorkspaceReadOnly(
            f"The files of {table!r} cannot be written: {reason}.",
            hint="Check the write permission on the workspace's folder.",
        )
    if isinstance(error, NotADirectoryError) and error.filename:
        message = (
            f"{os.fsdecode(error.filename)!r} must be a folder and no link, because the files of "
            f"{table!r} belong there."
        )
        return WorkspaceReadOnly(
            message,
            hint="Move it elsewhere and try again; tables that are missing then can be recomputed.",
        )
    if error.errno in _NO_SPACE_ERRNOS:
        return ResourceExhausted(
            f"No space is left for the files of {table!r}: {reason}.",
            hint="Free some space and run it again.",
        )
    if error.errno in _TOO_MANY_OPEN_ERRNOS:
        hint = (
            "Close files that this kernel has open, or raise the limit (ulimit -n), and run "
            "it again."
        )
        return ResourceExhausted(f"The files of {table!r} cannot be opened: {reason}.", hint=hint)
    return ResourceExhausted(
        f"The disk failed on the files of {table!r}: {reason}.",
        hint="Check the disk and run it again.",
    )


def removal_error(error: OSError, table: str) -> JammiError:
    """The typed error for a failed operation on the files of a dropped table."""
    occasion = "when the next table is dropped or the workspace is reopened"
    if error.errno in _NOT_REGULAR_ERRNOS:
        message = (
            f"{table!r} is dropped, but one of its files is not a regular file: {reason_of(error)}."
        )
        return WorkspaceReadOnly(
            message, hint=f"Move it elsewhere; the rest is removed {occasion}."
        )
    hint = f"Check the write permission on the workspace's folder; they are removed {occasion}."
    kind = (
        WorkspaceReadOnly
        if error.errno in _PERMISSION_ERRNOS
        else SourceUnavailable
        if error.errno == UNREACHABLE_ERRNO
        else ResourceExhausted
    )
    return kind(
        f"{table!r} is dropped, but its files cannot be removed: {reason_of(error)}.", hint=hint
    )


def report_line(table: str, error: JammiError | OSError) -> str:
    """A report line about a table that was not settled or compared, beginning with its name. A
    failed file operation includes the next step."""
    if isinstance(error, JammiError):
        return f"{table}: {error.message}"
    if error.errno in _PERMISSION_ERRNOS:
        return (
            f"{table}: its files cannot be read or changed: {reason_of(error)}. Check the "
            "permissions of the workspace's folder."
        )
    if error.errno in _NOT_REGULAR_ERRNOS:
        return (
            f"{table}: one of its files is not a regular file: {reason_of(error)}. Move it "
            "elsewhere, and run ws.fsck(repair=True)."
        )
    typed = storage_error(error, table)
    return f"{table}: {typed.message} {typed.hint}"


def copy_error(error: OSError, target: str) -> JammiError:
    """The typed error for a file or folder that was to be written outside the workspace."""
    if (exhausted := too_many_open_files(error, f"The copy {target}")) is not None:
        return exhausted
    if error.errno in _PERMISSION_ERRNOS:
        return InvalidArgument(
            f"{target!r} cannot be written: {reason_of(error)}.",
            hint="Choose a file in a folder where you have write permission.",
        )
    if error.errno == errno.ENAMETOOLONG:
        return InvalidArgument(
            f"{target!r} cannot be written: {reason_of(error)}.", hint="Choose a shorter name."
        )
    return ResourceExhausted(
        f"The copy {target} could not be written: {reason_of(error)}.", hint="Check the free space."
    )


def attach_remains(error: BaseException, clause: str) -> None:
    """Attach to the error that ended a build a clause about what was kept of the table."""
    # An attribute, because the error passes through foreign code up to the publisher.
    error._jammi_left = clause  # type: ignore[attr-defined]


def remains_of(error: BaseException) -> str:
    """The clause about what was kept of the table whose build this error ended."""
    return getattr(error, "_jammi_left", "nothing was left behind")


@contextlib.contextmanager
def translate_storage_errors(
    table: str, to_error: Callable[[OSError, str], JammiError] = storage_error
) -> Iterator[None]:
    """Context manager that raises OSErrors as typed errors that name the table: ResourceExhausted,
    WorkspaceReadOnly."""
    try:
        yield
    except OSError as error:
        raise to_error(error, table) from error
