"""Typed errors, naming the table, for failed file operations."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from jammi_lab.core import foreign_errors
from jammi_lab.core.errors import JammiError, too_many_open_files
from jammi_lab.storage.object_store import UNREACHABLE_ERRNO

_PLAIN_ERRNOS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    errno.EIO,
}
"""The system's own words for these say it all."""


def reason_of(error: OSError) -> str:
    """Why a file operation failed, in the system's words. Arrow's own text names a temporary file,
    which means nothing to the user."""
    if error.errno in _PLAIN_ERRNOS:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def storage_error(error: OSError, table: str) -> JammiError:
    """The typed error for a failed operation on a table's files."""
    return _explained("table_files", error, f"The files of {table!r}", table=table)


def removal_error(error: OSError, table: str) -> JammiError:
    """The typed error for a failed operation on the files of a dropped table."""
    return _explained("dropped_files", error, f"The files of {table!r}", table=table)


def _explained(group: str, error: OSError, subject: str, **names: str) -> JammiError:
    # Asked first, because the rules cannot be read when no descriptor is left.
    if (exhausted := too_many_open_files(error, subject)) is not None:
        return exhausted
    file = os.fsdecode(error.filename) if error.filename else ""
    explained = foreign_errors.to_error(
        group, _errno_name(error), reason=reason_of(error), file=file, **names
    )
    assert explained is not None, "the last rule of such a group fits any error"
    return explained


def _errno_name(error: OSError) -> str:
    """The name of the errno, by which the rules know an error."""
    if error.errno == UNREACHABLE_ERRNO:
        return "UNREACHABLE"
    if isinstance(error, NotADirectoryError) and error.filename:
        return "ENOTDIR of a file"
    return errno.errorcode.get(error.errno or 0, "")


def report_line(table: str, error: JammiError | OSError) -> str:
    """A report line about a table that was not settled or compared, beginning with its name. A
    failed file operation includes the next step."""
    if isinstance(error, JammiError):
        return f"{table}: {error.message}"
    unsettled = foreign_errors.explain(
        "unsettled_files", _errno_name(error), reason=reason_of(error)
    )
    if unsettled.message:
        return f"{table}: {unsettled.message} {unsettled.hint}"
    typed = storage_error(error, table)
    return f"{table}: {typed.message} {typed.hint}"


def copy_error(error: OSError, target: str) -> JammiError:
    """The typed error for a file or folder that was to be written outside the workspace."""
    return _explained("copied_files", error, f"The copy {target}", target=target)


def read_error(error: OSError, file: str) -> JammiError:
    """The typed error for a file of the workspace that could not be read."""
    return _explained("read_files", error, file, source=file)


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
