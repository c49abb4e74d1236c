"""What a workspace is made of, for tests of the rooms below it."""

from typing import Any


def services_of(workspace: Any) -> Any:
    """The `Services` that a workspace holds."""
    return workspace._services
