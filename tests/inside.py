"""What a workspace is made of, for tests of the rooms below it."""

from typing import Any


def services_of(workspace: Any) -> Any:
    """The `Services` that a workspace holds."""
    return workspace._services


def record_of(handle: Any) -> Any:
    """The catalog's record that a table or a source is made of, which the rooms below take."""
    return handle._record
