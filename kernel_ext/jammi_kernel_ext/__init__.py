"""The IPython extension of jammi_lab: `%load_ext jammi_lab` registers `%jammi`, `%%jammi` and
`%%jammi_py`. Loading it imports no part of the engine."""

import ast
import contextlib
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.notebook import NAME_IN_STRING, Notebook, is_workspace
from jammi_lab.core.command_hints import use_cells

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from jammi_lab.workspace.workspace import Workspace

_CELL = re.compile(r"%%jammi(_py)?\s")
_SQL_CELL = re.compile(r"%%sql(?=\s)")
_notebook: Notebook | None = None
_restore: Callable[[], None] | None = None
"""Undoes `load_ipython_extension`; None while the extension is not loaded."""


def _get_notebook(shell: "InteractiveShell | None") -> Notebook:
    global _notebook
    if _notebook is None:
        _notebook = Notebook(shell)
    elif shell is not None:
        _notebook.shell = shell
    return _notebook


def _disable_var_expand(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Turn off IPython's variable expansion for a magic: `{x}` and `$x` are SQL here. Same effect
    as IPython's decorator `no_var_expand`, without importing it."""
    setattr(magic, "_ipython_magic_no_var_expand", True)  # noqa: B010  type checkers know no such attribute of a function
    return magic


def _owns_sql() -> bool:
    """Whether `%%sql`, which editors colour, is a second name of `%%jammi`: nobody else has it."""
    shell = None if _notebook is None else _notebook.shell
    return shell is not None and "sql" not in shell.magics_manager.magics["cell"]


def _may_be_ours(code: str) -> bool:
    return _owns_sql() if _SQL_CELL.match(code) else "jammi" in code[:200]


def _ensure_cell_body(lines: list[str]) -> list[str]:
    """Give `%%sql` its first name, and append an empty line to a one-line `%%jammi` cell: IPython
    rejects a cell magic without a body, and `--help` needs none. InvalidArgument for a `%%jammi`
    below Python."""
    if lines and _SQL_CELL.match(lines[0]) and _owns_sql():
        lines = [_SQL_CELL.sub("%%jammi", lines[0]), *lines[1:]]
    for number, line in enumerate(lines):
        if number and _CELL.match(line):
            _refuse_below_python("".join(lines[:number]))
    return [*lines, "\n"] if len(lines) == 1 and _CELL.match(lines[0]) else lines


def _refuse_below_python(code: str) -> None:
    """Raise InvalidArgument if `code` is whole: a line after it is then no part of a text or of the
    cell of another magic."""
    from jammi_lab.core.errors import InvalidArgument

    with contextlib.suppress(SyntaxError):
        ast.parse(code)
        raise InvalidArgument(
            "%%jammi stands on the first line of a cell.",
            hint="Put what is above it into a cell of its own. In SQL, a comment begins with --.",
        )


setattr(_ensure_cell_body, "has_side_effects", True)  # noqa: B010  lets a terminal still prompt for the lines of the body


class _LazyMagics:
    """The magics and the completion of a notebook, imported on first use."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._magics: Any = None
        self._completion: Any = None

    @_disable_var_expand
    def line(self, line: str) -> Any:
        """Sources, tables, verdicts and recompute of the notebook's workspace. `%jammi help` lists
        what can be typed."""
        return self._load_magics().line(line)

    @_disable_var_expand
    def cell(self, line: str, cell: str) -> Any:
        """Run SQL on the notebook's workspace. `%jammi help jammi` shows the flags."""
        return self._load_magics().cell(line, cell)

    @_disable_var_expand
    def step(self, line: str, cell: str) -> Any:
        """Run Python as a step of the notebook's workspace. `%jammi help jammi_py` shows the
        flags."""
        return self._load_magics().step(line, cell)

    def _load_magics(self) -> Any:
        if self._magics is None:
            from jammi_kernel_ext.magics import Magics

            self._magics = Magics(self._notebook)
        return self._magics

    def complete(self, context: Any) -> dict[str, Any]:
        """Answer IPython's completer, which calls this in every cell. Imports nothing unless the
        cell mentions jammi."""
        name = NAME_IN_STRING.search(context.line_with_cursor[: context.cursor_position])
        owner = self._notebook.namespace.get(name["workspace"]) if name else None
        if not (_may_be_ours(context.full_text) or is_workspace(owner)):
            return {"completions": []}
        if self._completion is None:
            from jammi_kernel_ext.completion import Completion

            self._completion = Completion(self._notebook)
        reply: dict[str, Any] = self._completion(context)
        return reply

    def install_hooks(self, shell: "InteractiveShell") -> Callable[[], None]:
        """Install the hooks for completion and one-line cells. Returns a function that removes
        them."""
        completer: Any = getattr(shell, "Completer", None)
        matchers: list[Any] = []

        def complete(context: Any) -> dict[str, Any]:
            return self.complete(context)

        if hasattr(completer, "suppress_competing_matchers"):  # IPython 8.6: they get a context
            from IPython.core.completer import context_matcher

            matchers = completer.custom_matchers
            matchers.append(context_matcher(priority=200, identifier="jammi.sql")(complete))
        shell.input_transformers_cleanup.append(_ensure_cell_body)

        def remove_hooks() -> None:
            if complete in matchers:
                matchers.remove(complete)
            if _ensure_cell_body in shell.input_transformers_cleanup:
                shell.input_transformers_cleanup.remove(_ensure_cell_body)

        return remove_hooks


def load_ipython_extension(shell: "InteractiveShell") -> None:
    """Register the magics. Idempotent."""
    global _restore
    if _restore is not None:
        return
    notebook, magics = _get_notebook(shell), shell.magics_manager.magics
    notebook.offer_to_resume = lambda: _offer_to_resume(notebook)
    lazy_magics = _LazyMagics(notebook)
    new_magics: dict[tuple[str, str], Callable[..., Any]] = {
        ("line", "jammi"): lazy_magics.line,
        ("cell", "jammi"): lazy_magics.cell,
        ("cell", "jammi_py"): lazy_magics.step,
    }
    for (kind, name), magic in new_magics.items():
        shell.magics_manager.register_function(magic, kind, name)
    events: dict[str, Callable[..., None]] = {
        "pre_run_cell": notebook.cell_begins,
        "post_run_cell": notebook.cell_ends,
        "post_execute": notebook.message_handled,
    }
    for name, call in events.items():
        shell.events.register(name, call)
    remove_hooks = lazy_magics.install_hooks(shell)
    use_cells(True)

    def restore() -> None:
        use_cells(False)
        remove_hooks()
        for (kind, name), magic in new_magics.items():
            if magics[kind].get(name) is magic:  # nobody else took the name since
                del magics[kind][name]
        for name, call in events.items():
            shell.events.unregister(name, call)

    _restore, notebook.loaded = restore, True
    notebook.cell_begins()


def _offer_to_resume(notebook: Notebook) -> None:
    from IPython.display import display

    from jammi_kernel_ext.resume import offer

    if (line := offer(notebook)) is not None:
        display(line)


def unload_ipython_extension(shell: "InteractiveShell") -> None:
    """Remove the magics. The workspace stays open until the kernel ends,
    because variables may still use it."""
    global _restore
    if _restore is not None:
        _restore()
        _restore = None
        notebook = _get_notebook(shell)
        notebook.loaded = False
        notebook.cell_begins()


def get_workspace() -> "Workspace":
    """The notebook's workspace, the one that `%jammi` uses; opened (`./.jammi`) if it is not
    yet. WorkspaceNotFound where that would be a new one beside others."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return _get_notebook(shell).workspace


__all__ = ["get_workspace", "load_ipython_extension", "unload_ipython_extension"]
