"""The notebook's workspace, opened on first use and closed with the kernel, and its bindings to the
notebook: frames by variable name, tenant, settings."""

import atexit
import functools
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from IPython.core.error import UsageError

from jammi_kernel_ext.interruptible import ProgressLine, display_output
from jammi_lab.core.errors import InvalidArgument, JammiError, WorkspaceNotFound
from jammi_lab.core.module_imports import import_modules
from jammi_lab.core.settings import DEFAULTS, Settings

HABIT_ERRORS = (TypeError, AttributeError, NameError, ImportError, SyntaxError, UsageError)
"""Errors of cells that are not ours, below which a habit of other tools may be answered."""

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from jammi_kernel_ext.badges import Badges
    from jammi_kernel_ext.frame_follower import FrameFollower
    from jammi_kernel_ext.held_names import HeldNames
    from jammi_kernel_ext.marks_line import MarksLine
    from jammi_lab.core.records import Progress
    from jammi_lab.workspace.workspace import Workspace

_DEFAULT_FOLDER = ".jammi"
NAME_IN_STRING = re.compile(
    r"""\b(?P<workspace>\w+)\.(?P<member>\w+)(\(\[?|\[)(["'][^"']*["'],\s*)*["'](?P<name>[^"']*)$"""
)
"""A string that is being typed where a workspace takes names."""


def is_workspace(value: object) -> "TypeGuard[Workspace]":
    """Whether a value is an open workspace. Imports nothing."""
    return type(value).__name__ == "Workspace" and not getattr(value, "_closed", True)


class Notebook:
    """The state of one kernel. It outlives `%unload_ext`, so that reloading finds the workspace and
    its frames."""

    def __init__(self, shell: "InteractiveShell | None") -> None:
        self.shell = shell
        self.loaded = False
        """Whether the extension is loaded, and so `cell_begins` and `cell_ends` are called."""
        self.line = ProgressLine(live=False)
        """The progress line of the running cell."""
        self._workspace: Workspace | None = None
        self._open_arguments: tuple[Path, str | None, bool] | None = None
        self._opened_identity: tuple[int, int] | None = None
        self._tenant: str | None = None
        self._pending_settings: dict[str, Any] = {}
        """Settings for the next workspace: some cannot be changed while one is open."""
        self._cell: tuple[int, Any] = (threading.get_ident(), None)
        self._cell_number: int | None = None
        self._unread: dict[str, Callable[[], Any]] = {}
        """What reads the frames of names that no cell has used since `%jammi resume`."""
        self.offer_to_resume: Callable[[], object] = lambda: None
        """Displays, after a restart, what `%jammi resume` would do."""
        self._cell_source = ""
        atexit.register(self.close)

    @property
    def namespace(self) -> dict[str, Any]:
        """The notebook's variables."""
        return self.shell.user_ns if self.shell is not None else {}

    @property
    def current(self) -> "Workspace | None":
        """The open workspace; None if there is none."""
        return None if self._workspace is None or self._workspace._closed else self._workspace

    @property
    def workspace(self) -> "Workspace":
        """The workspace; if none is open, as `open_default`, with its recovery report.
        WorkspaceNotFound as there, and when its files were removed or replaced: nothing could read
        what is written to them."""
        if self.current is None:
            opened = self.open_default()
            if opened.recovery and self.loaded:
                display_output(opened.recovery)
            return opened
        if self._files_replaced():
            raise WorkspaceNotFound(
                f"The workspace {self.current.path!r} was removed, moved or replaced while "
                "it was open.",
                hint="%jammi open PATH opens what is there now.",
            )
        return self.current

    def open_default(self) -> "Workspace":
        """Use the workspace that a variable holds where there is no `./.jammi`, else open that.
        WorkspaceNotFound where it would be a new one beside others."""
        default = Path(_DEFAULT_FOLDER).absolute()
        if not default.exists():
            held = self._held_workspaces()
            if len(held) == 1:
                self._open_arguments = None
                return self._use(held.pop())
            with import_modules():
                from jammi_lab.store.workspace_identity import workspaces_near
            if near := workspaces_near(default):
                raise WorkspaceNotFound(
                    f"The cells have no workspace yet. Here {'is' if len(near) == 1 else 'are'}"
                    f" {', '.join(near)}.",
                    hint=f"%jammi open {shlex.quote(os.path.join('.', near[0]))} opens it (in "
                    f"Python jl.open({near[0]!r})), %jammi open {_DEFAULT_FOLDER} a new one.",
                )
        return self.open()

    def _held_workspaces(self) -> "set[Workspace]":
        """The open workspaces of variables."""
        return {value for value in dict(self.namespace).values() if is_workspace(value)}

    def _files_replaced(self) -> bool:
        return (
            self._workspace is not None
            and self._workspace._services.file_identity() != self._opened_identity
        )

    def open(
        self,
        path: str = _DEFAULT_FOLDER,
        *,
        catalog: str | None = None,
        read_only: bool = False,
        tenant: str | None = None,
    ) -> "Workspace":
        """Open a workspace in place of the current one. The same location and options return the
        current one, with its frames."""
        arguments = (Path(path).expanduser().absolute(), catalog, read_only)
        current = self.current
        if self._files_replaced():
            self.close()
        elif current is not None and arguments == self._open_arguments:
            if tenant is not None:
                current.bind_tenant(tenant)
            return current
        with import_modules():
            from jammi_lab.workspace import opening
        opened = opening.open(
            path,
            catalog=catalog,
            read_only=read_only,
            tenant=tenant,
            settings=self._pending_settings,
        )
        if self._open_arguments is not None:  # else a variable holds it
            self.close()
        self._pending_settings = {}
        self._open_arguments = arguments
        return self._use(opened)

    def _use(self, opened: "Workspace") -> "Workspace":
        """Bind an open workspace to the notebook."""
        self._workspace = opened
        self._tenant = opened.current_tenant
        self._opened_identity = opened._services.file_identity()
        opened._frames_from(lambda: self.namespace)
        opened.default_progress = self._report
        opened._services.scope.on_bind = self._remember_tenant
        self._unread = {}
        service = opened._services.badges
        service.timeout, service.update_display = self.badges.timeout, self.badges.update_display
        if service.stamps is not None:
            service.stamps.current_cell = self.describe_cell
            service.stamps.current_code = self.digest_cell
            if self._needs_marks_line:
                service.stamps.on_output = self._marks_line.note
        self.apply_settings()
        # Tools that run notebooks unattended run all cells.
        if self.badges.is_interactive() and "%jammi resume" not in self._cell_source:
            self.offer_to_resume()
        return opened

    def _report(self, progress: "Progress") -> None:
        self.line(progress)

    def close(self) -> bool:
        """Close the workspace. Returns whether one was open."""
        workspace, files_replaced = self.current, self._files_replaced()
        self._workspace = None
        if workspace is None:
            return False
        try:
            workspace.close()
        except (JammiError, OSError):
            if not files_replaced:
                raise
        self.apply_settings()
        return True

    @functools.cached_property
    def frames(self) -> "FrameFollower":
        """Follows frames through the cells."""
        from jammi_kernel_ext.frame_follower import FrameFollower

        return FrameFollower(self.namespace)

    @functools.cached_property
    def held_names(self) -> "HeldNames":
        """Records what the variables hold of tables."""
        from jammi_kernel_ext.held_names import HeldNames

        return HeldNames(self.namespace, self.frames)

    @property
    def _needs_marks_line(self) -> bool:
        """Whether the page runs no extension of JupyterLab, and so draws no marks."""
        draws_none = "__vsc_ipynb_file__" in self.namespace or "google.colab" in sys.modules
        return draws_none and self.badges.is_interactive()

    @functools.cached_property
    def _marks_line(self) -> "MarksLine":
        from jammi_kernel_ext.marks_line import MarksLine

        return MarksLine()

    @functools.cached_property
    def badges(self) -> "Badges":
        """The display of freshness badges."""
        from jammi_kernel_ext.badges import Badges

        return Badges(self)

    def setting(self, key: str) -> Any:
        """A cell setting of the open workspace, else its default."""
        return (DEFAULTS if self._workspace is None else self._workspace.settings)[key]

    def apply_settings(self) -> None:
        """Apply the setting that all errors of the kernel follow."""
        JammiError.full_traceback = self.setting("cells.traceback") == "full"

    def queue_setting(self, key: str, value: str) -> Any:
        """Store a setting for the next workspace, and return its parsed value. InvalidArgument."""
        settings = Settings({**self._pending_settings, key: value})
        self._pending_settings[key] = settings[key]
        return settings[key]

    # A cell with a top-level `await` runs in its own context, and context variables that it sets
    # are lost with it. The notebook remembers the tenant for the next cell.

    def cell_begins(self, info: Any = None) -> None:
        """On `pre_run_cell`, in the cell's context: restore the tenant binding and start a progress
        line."""
        if info is not None and self.shell is not None:
            source = getattr(info, "transformed_cell", None)  # absent before IPython 9.16
            number = self.shell.execution_count - bool(info.store_history)
            self._cell_number = number if info.store_history else None
            self._cell_source = str(info.raw_cell)
            if self._needs_marks_line and self._cell_number is not None:
                code = self.digest_cell()
                cell = getattr(info, "cell_id", None) or code
                self._marks_line.cell_begins(cell, number, code)
            self._read_frames_of_cell(number)
            self.frames.begin(
                self.shell.transform_cell(info.raw_cell) if source is None else source, number
            )
        self._cell = (threading.get_ident(), _current_task())
        self.line.clear()
        is_terminal = hasattr(self.shell, "pt_app") and sys.stderr.isatty()
        self.line = ProgressLine(
            live=self.loaded and hasattr(self.shell, "kernel"), terminal=self.loaded and is_terminal
        )
        if self.current is not None:
            self.current._services.scope.resume(self._tenant)

    def bind_later(self, name: str, read: Callable[[], Any], *, now: bool) -> None:
        """Bind a name to what `read` returns: at once, or when a cell names it."""
        if now:
            self.namespace[name] = read()
        else:
            self._unread[name] = read

    def _read_frames_of_cell(self, number: int) -> None:
        """Read the frames that wait for the cell that names them. One that cannot be read now stays
        unbound, with the reason."""
        for name in [each for each in self._unread if has_word(self._cell_source, each)]:
            if self._workspace is None or name in self.namespace:
                continue
            try:
                with self._workspace._services.scope.use(self._tenant):
                    self.namespace[name] = self._unread[name]()
                self.frames.note_read_before(name, number)
                del self._unread[name]
            except JammiError as error:
                from jammi_kernel_ext.display import Note

                display_output(Note(f"{name} is not bound: {error.message}"))

    @property
    def file(self) -> Path | None:
        """The notebook's file, where the front end tells it."""
        session = self.namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME", "")
        file = Path(str(session))
        return file if file.suffix == ".ipynb" else None

    def require_file(self) -> str:
        """The path of the notebook's file. InvalidArgument where the front end does not tell it."""
        if self.file is None:
            raise InvalidArgument(
                "The file of this notebook is not known here.",
                hint="Name it: %jammi check-text FILE.",
            )
        return str(self.file)

    def describe_cell(self) -> str:
        """The running cell and, where the front end tells it, the notebook's file. Empty for a
        cell that gets no number."""
        if self._cell_number is None:
            return ""
        name = "" if self.file is None else f" of {self.file.name}"
        return f"cell [{self._cell_number}]{name}"

    def digest_cell(self) -> str:
        """The digest of the text of the running cell; empty for one that gets no number."""
        from jammi_lab.features.outputs.stamps import code_digest

        return "" if self._cell_number is None else code_digest(self._cell_source)

    def cell_ends(self, result: Any = None) -> None:
        """On `post_run_cell`: clear the progress line, pass the origins of frames on, and record
        what the variables hold of tables."""
        self.line.clear()
        error = getattr(result, "error_in_exec", None) or getattr(result, "error_before_exec", None)
        if isinstance(error, HABIT_ERRORS):
            from jammi_kernel_ext.hints import error_hint

            sys.stderr.write(error_hint(error, self.namespace))
        removed = self.frames.end(is_whole=bool(getattr(result, "success", False)))
        workspaces = {*self._held_workspaces(), *filter(None, [self.current])}
        if workspaces and self._cell_number is not None:
            for services in {ws._services for ws in workspaces}:
                self.held_names.record(services, self.file, f"[{self._cell_number}]", removed)
        if self.current is not None and self._needs_marks_line:
            self._marks_line.cell_ends(self.current, self.digest_cell())

    def message_handled(self) -> None:
        """After each cell and each message to a widget, whose callbacks may have run."""
        self.frames.note_message()

    def _remember_tenant(self, tenant: str | None) -> None:
        """Remember a tenant binding made by the running cell. Bindings in other threads or
        background tasks are ignored."""
        if self._cell == (threading.get_ident(), _current_task()):
            self._tenant = tenant


def has_word(text: str, name: str) -> bool:
    """Whether a text has a name as a word."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _current_task() -> Any:
    asyncio = sys.modules.get("asyncio")  # not imported: no task can be running
    try:
        return None if asyncio is None else asyncio.current_task()
    except RuntimeError:  # no running loop, as in a plain terminal
        return None
