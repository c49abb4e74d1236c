"""The cells of jammi_lab: `%load_ext jammi_lab` brings `%jammi`, `%%jammi` and `%%jammi_py`. Loading it loads none of the engine."""

import importlib
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from jammi_kernel_ext.notebook import Notebook

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from jammi_lab.workspace import Workspace

_CELL = re.compile(r"%%jammi(_py)?\s")
_WORKSPACE = ("jammi_lab.workspace", "Workspace")
_notebook: Notebook | None = None
_restore: Callable[[], None] | None = None
"""Puts back what was there before; None while the magics are not loaded."""


def _current(shell: "InteractiveShell | None") -> Notebook:
    global _notebook
    if _notebook is None:
        _notebook = Notebook(shell)
    elif shell is not None:
        _notebook.shell = shell
    return _notebook


def _verbatim(magic: Callable[..., Any]) -> Callable[..., Any]:
    """What IPython's own decorator `no_var_expand` does, without loading it: `{x}` and `$x` are SQL here."""
    setattr(magic, "_ipython_magic_no_var_expand", True)  # noqa: B010  a function has no such attribute for type checkers
    return magic


def _matcher(complete: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    """What IPython's own decorator `context_matcher` does, without loading it."""

    def ours(context: Any) -> dict[str, Any]:
        return complete(context)

    for name, value in (("matcher_api_version", 2), ("matcher_priority", 200), ("matcher_identifier", "jammi.sql")):
        setattr(ours, name, value)
    return ours


def _with_a_body(lines: list[str]) -> list[str]:
    """A cell of ours of one line, with an empty one below: IPython refuses a cell magic without it, and `--help` needs none."""
    return [*lines, "\n"] if len(lines) == 1 and _CELL.match(lines[0]) else lines


setattr(_with_a_body, "has_side_effects", True)  # noqa: B010  a terminal asks for the lines below all the same


class _Later:
    """The magics and forms of a notebook, loaded when the first of them is used."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._magics: Any = None
        self._completion: Any = None
        self._own_inspect: Any = None

    @_verbatim
    def line(self, line: str) -> Any:
        """Sources, tables, verdicts and recompute of the notebook's workspace. `%jammi help` lists what can be typed."""
        return self._loaded().line(line)

    @_verbatim
    def cell(self, line: str, cell: str) -> Any:
        """Run SQL on the notebook's workspace. `%jammi help jammi` shows the flags."""
        return self._loaded().cell(line, cell)

    @_verbatim
    def step(self, line: str, cell: str) -> Any:
        """Run Python as a step of the notebook's workspace. `%jammi help jammi_py` shows the flags."""
        return self._loaded().step(line, cell)

    def _loaded(self) -> Any:
        if self._magics is None:
            self._magics = importlib.import_module("jammi_kernel_ext.magics").Magics(self._notebook)
        return self._magics

    def complete(self, context: Any) -> dict[str, Any]:
        """What IPython's completer asks in every cell: nothing is loaded for those that are not ours."""
        if "jammi" not in context.full_text[:200]:
            return {"completions": []}
        if self._completion is None:
            self._completion = importlib.import_module("jammi_kernel_ext.completion").Completion(self._notebook)
        answer: dict[str, Any] = self._completion(context)
        return answer

    def inspect(self, code: str, cursor_pos: int, *more: Any, **named: Any) -> Any:
        """What Shift+Tab asks of the kernel."""
        found = (
            importlib.import_module("jammi_kernel_ext.inspecting").answer(self._notebook.current, code, cursor_pos) if "jammi" in code[:200] else None
        )
        return self._own_inspect(code, cursor_pos, *more, **named) if found is None else found

    def stand_in(self, shell: "InteractiveShell") -> Callable[[], None]:
        """Answer Tab and Shift+Tab, and take cells of one line, from now on; what is returned puts back what was there."""
        complete = _matcher(self.complete)
        matchers = getattr(getattr(shell, "Completer", None), "custom_matchers", None)
        if matchers is not None:
            matchers.append(complete)
        shell.input_transformers_cleanup.append(_with_a_body)
        kernel: Any = getattr(shell, "kernel", None)
        if kernel is not None:
            self._own_inspect, kernel.do_inspect = kernel.do_inspect, self.inspect

        def back() -> None:
            if matchers is not None and complete in matchers:
                matchers.remove(complete)
            if _with_a_body in shell.input_transformers_cleanup:
                shell.input_transformers_cleanup.remove(_with_a_body)
            if kernel is not None:
                vars(kernel).pop("do_inspect", None)

        return back

    @staticmethod
    def html(workspace: "Workspace") -> str:
        """For the formatter of text/html."""
        return str(importlib.import_module("jammi_kernel_ext.display").where(workspace, "html"))

    @staticmethod
    def text(workspace: "Workspace", printer: Any, _cycle: bool) -> None:
        """For the formatter of text/plain."""
        printer.text(importlib.import_module("jammi_kernel_ext.display").where(workspace, "text"))


def _configured(notebook: Notebook, shell: "InteractiveShell") -> Callable[[], None]:
    """Let `%config JammiMagics` and IPython's configuration files give the settings of cells; what is returned takes that back."""
    if notebook.configured is None:
        notebook.configured = importlib.import_module("jammi_kernel_ext.configuring").JammiMagics(parent=shell, changed=notebook.configure)
    ours, configurables = notebook.configured, cast("list[Any]", shell.configurables)
    configurables.append(ours)
    notebook.apply_settings()

    def back() -> None:
        if ours in configurables:
            configurables.remove(ours)

    return back


def load_ipython_extension(shell: "InteractiveShell") -> None:
    """Register the magics; twice is once."""
    global _restore
    if _restore is not None:
        return
    notebook, magics = _current(shell), shell.magics_manager.magics
    configured_no_more = _configured(notebook, shell)  # first: a wrong value there refuses to load, and nothing is brought
    ours = _Later(notebook)
    brought: dict[tuple[str, str], Callable[..., Any]] = {("line", "jammi"): ours.line, ("cell", "jammi"): ours.cell, ("cell", "jammi_py"): ours.step}
    before = {(kind, name): magics[kind].get(name) for kind, name in brought}
    for (kind, name), magic in brought.items():
        shell.magics_manager.register_function(magic, kind, name)
    events = {"pre_run_cell": notebook.cell_begins, "post_run_cell": notebook.cell_ends}
    for name, call in events.items():
        shell.events.register(name, call)
    formats: dict[str, Callable[..., Any]] = {"text/plain": ours.text, "text/html": ours.html}
    formatters = shell.display_formatter.formatters if shell.display_formatter is not None else {}
    earlier = {kind: formatters[kind].for_type_by_name(*_WORKSPACE, form) for kind, form in formats.items() if kind in formatters}

    answers_no_more = ours.stand_in(shell)

    def restore() -> None:
        answers_no_more()
        configured_no_more()
        for (kind, name), magic in before.items():
            magics[kind].pop(name, None)
            if magic is not None:
                magics[kind][name] = magic
        for name, call in events.items():
            shell.events.unregister(name, call)
        for kind, form in earlier.items():
            formatters[kind].pop(".".join(_WORKSPACE), None)
            if form is not None:
                formatters[kind].for_type_by_name(*_WORKSPACE, form)

    _restore, notebook.loaded = restore, True
    notebook.cell_begins()


def unload_ipython_extension(shell: "InteractiveShell") -> None:
    """Put back what was there before. The workspace stays open for the variables that hold it, until the kernel ends."""
    global _restore
    if _restore is not None:
        _restore()
        _restore = None
        notebook = _current(shell)
        notebook.loaded = False
        notebook.cell_begins()


def get_workspace() -> "Workspace":
    """The notebook's workspace, the one that `%jammi` uses; opened (`./.jammi`) if it is not yet."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return _current(shell).workspace


__all__ = ["get_workspace", "load_ipython_extension", "unload_ipython_extension"]
