"""What the status item of JupyterLab opens."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_lab.core.surfaces import load_surface

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace

_kept: "list[Workspace]" = []
"""Workspaces that were opened here; the kernel closes them when it ends."""


def show_workbench(path: str) -> Any:
    """The Workbench of the workspace in a folder: of the one that the kernel has open, else of one
    that is opened for it. WorkspaceNotFound."""
    from jammi_lab.workspace import opening, workspace

    folder = Path(path).resolve()
    for ws in sorted(workspace._open, key=lambda each: each.read_only):
        own = ws._services.folder
        if isinstance(own, Path) and own.resolve() == folder:
            return load_surface("widgets").Workbench(ws)
    _kept.append(opening.open(path, create=False))
    return load_surface("widgets").Workbench(_kept[-1])
