"""The notebook's one workspace: opened on first use, closed with the kernel, and what a notebook means for it (frames by variable name, tenant)."""

import atexit
import functools
import importlib
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.running import ProgressLine
from jammi_lab.config import DEFAULTS, Settings
from jammi_lab.errors import JammiError, WorkspaceNotFound

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from jammi_kernel_ext.badges import Badges
    from jammi_kernel_ext.configuring import JammiMagics
    from jammi_lab.values.records import Progress
    from jammi_lab.workspace import Workspace

DEFAULT = ".jammi"
"""The folder that the first use opens."""


class Notebook:
    """What one kernel holds. It outlives `%unload_ext`, so that loading again finds the workspace and its frames."""

    def __init__(self, shell: "InteractiveShell | None") -> None:
        self.shell = shell
        self.loaded = False
        """Whether the extension is loaded, so that the notebook is told when cells begin and end."""
        self.line = ProgressLine(live=False)
        """Where work of the running cell says how far it has come."""
        self.configured: JammiMagics | None = None
        """The settings that IPython's configuration gives, once the extension was loaded."""
        self._workspace: Workspace | None = None
        self._opened: tuple[Path, str | None, bool] | None = None
        self._found: tuple[int, int] | None = None
        self._tenant: str | None = None
        self._wished: dict[str, Any] = {}
        """Settings of the workspace that is opened next: some cannot be changed while one is open."""
        self._cell: tuple[int, Any] = (threading.get_ident(), None)
        atexit.register(self.close)

    @property
    def namespace(self) -> Mapping[str, Any]:
        """The notebook's variables."""
        return self.shell.user_ns if self.shell is not None else {}

    @property
    def current(self) -> "Workspace | None":
        """The workspace that is open, if one is."""
        return None if self._workspace is None or self._workspace._closed else self._workspace

    @property
    def workspace(self) -> "Workspace":
        """The workspace; `./.jammi` when none is open yet, and then the cell says what opening it settled. WorkspaceNotFound when its files are gone:
        what would be written into them now, nobody could read again."""
        if self.current is None:
            opened = self.open(DEFAULT)
            if opened.recovery and self.loaded:
                importlib.import_module("IPython.display").display(opened.recovery)
            return opened
        if self._vanished():
            raise WorkspaceNotFound(
                f"The workspace {self.current.path!r} was removed, moved or replaced while it was open.",
                hint="%jammi open PATH opens what is there now.",
            )
        return self.current

    def _vanished(self) -> bool:
        return self._workspace is not None and _mark(self._workspace) != self._found

    def open(self, path: str, *, catalog: str | None = None, read_only: bool = False, tenant: str | None = None) -> "Workspace":
        """Open a workspace in place of the one that is open; the same folder again is the same workspace, with its frames."""
        wanted = (Path(path).expanduser().absolute(), catalog, read_only)
        now = self._workspace
        if self._vanished():
            self.close()
        elif now is not None and not now._closed and wanted == self._opened:
            if tenant is not None:
                now.bind_tenant(tenant)
            return now
        opened: Workspace = importlib.import_module("jammi_lab").open(
            path, catalog=catalog, read_only=read_only, tenant=tenant, settings=self._wished
        )
        self.close()
        self._wished = {}
        self._workspace, self._opened, self._tenant = opened, wanted, opened.current_tenant
        self._found = _mark(opened)
        opened.frames_from(lambda: self.namespace)
        opened.default_progress = self._report
        opened._scope.on_bind = self._bound
        opened._noticing.patience, opened._noticing.later = self.badges.patience, self.badges.later
        if self.configured is not None:
            self.configured.hand_over(opened.settings)
        self.apply_settings()
        return opened

    def _report(self, progress: "Progress") -> None:
        self.line(progress)

    def close(self) -> bool:
        """Close the workspace if there is one; whether there was."""
        was, self._workspace = self._workspace, None
        if was is None or was._closed:
            return False
        gone = _mark(was) != self._found
        try:
            was.close()
        except (JammiError, OSError):
            if not gone:
                raise
        self.apply_settings()
        return True

    @functools.cached_property
    def badges(self) -> "Badges":
        """Who looks on, and how badges reach them."""
        made: Badges = importlib.import_module("jammi_kernel_ext.badges").Badges(self)
        return made

    def setting(self, key: str) -> Any:
        """A setting of cells: the open workspace's, else that of the kernel."""
        if self._workspace is not None:
            return self._workspace.settings[key]
        return DEFAULTS[key] if self.configured is None else self.configured.value(key)

    def apply_settings(self) -> None:
        """Let the settings of cells take effect, and `%config` show them."""
        if self.configured is not None:
            self.configured.show(None if self._workspace is None else self._workspace.settings)
        JammiError.full_traceback = self.setting("cells.traceback") == "full"

    def wish(self, key: str, value: str) -> Any:
        """Keep a setting for the workspace that is opened next, and give what it will be. InvalidArgument."""
        wished = Settings({**self._wished, key: value})
        self._wished[key] = wished[key]
        return wished[key]

    def configure(self, key: str, value: Any) -> None:
        """What `%config` gave holds for the workspace that is open, too."""
        if self.current is not None:
            self.current.settings.set(key, value)
        self.apply_settings()

    # A cell with a top-level `await` runs in a context of its own, and what it binds would be gone with it: the notebook remembers.

    def cell_begins(self, *_: Any) -> None:
        """On `pre_run_cell`, inside the cell's own context: bind what was bound last."""
        self._cell = (threading.get_ident(), _task())
        self.line.clear()
        sat_at = hasattr(self.shell, "pt_app") and sys.stderr.isatty()
        self.line = ProgressLine(live=self.loaded and hasattr(self.shell, "kernel"), terminal=self.loaded and sat_at)
        if self._workspace is not None and not self._workspace._closed:
            self._workspace._scope.resume(self._tenant)

    def cell_ends(self, *_: Any) -> None:
        """On `post_run_cell`: nothing of the progress stays."""
        self.line.clear()

    def _bound(self, tenant: str | None) -> None:
        """Remember a binding made by a cell; a thread or a background task that binds for itself does not count."""
        if self._cell == (threading.get_ident(), _task()):
            self._tenant = tenant


def _mark(ws: "Workspace") -> tuple[int, int] | None:
    """Which files a workspace on this machine has: those that were opened, or others by now. None when there are none, and for one at a URL."""
    if not isinstance(ws._folder, Path):
        return None
    try:
        found = (ws._folder if ws.settings["catalog.url"] else ws._folder / "catalog.sqlite3").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _task() -> Any:
    asyncio = sys.modules.get("asyncio")  # where nothing has loaded it, no task runs
    try:
        return None if asyncio is None else asyncio.current_task()
    except RuntimeError:  # no loop runs here: a plain terminal
        return None
