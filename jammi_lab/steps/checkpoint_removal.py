"""Deletes the checkpoints that contain values of a dropped mutable table."""

import contextlib

from jammi_lab.features.rows import output_log
from jammi_lab.steps import checkpoint
from jammi_lab.storage.files import StoragePath, list_files, remove_file


def remove_checkpoints_of_table(root: StoragePath, table_id: int) -> None:
    """Delete the checkpoints of a workspace that contain values of a mutable table."""
    for path, _ in list_files(root, "checkpoints"):
        read_ids = (
            output_log.logged_table_ids
            if path.endswith(output_log.SUFFIX)
            else checkpoint.saved_table_ids
        )
        with contextlib.suppress(OSError, ValueError):  # an ArrowInvalid is a ValueError
            if table_id in read_ids(root / path):
                remove_file(root / path)
