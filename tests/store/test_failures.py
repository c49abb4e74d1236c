"""What a failed file operation is called."""

import errno

import pytest

from jammi_lab.errors import ResourceExhausted, WorkspaceReadOnly
from jammi_lab.store.failures import storage_error


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.EACCES, WorkspaceReadOnly, "The files of 't' cannot be written: Permission denied."),
        (errno.EROFS, WorkspaceReadOnly, "The files of 't' cannot be written: Read-only file system."),
        (errno.ENOSPC, ResourceExhausted, "There is no space for the files of 't': No space left on device."),
    ],
)
def test_a_failure_is_said_in_the_system_s_words_and_names_no_temporary_file(number, kind, said):
    error = storage_error(OSError(number, f"Failed to open local file '/lab/results/.t.tmp'. Detail: [errno {number}]"), "t")
    assert type(error) is kind and error.message == said and error.hint
