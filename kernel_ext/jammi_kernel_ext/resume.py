"""`%jammi resume`: after a restart, binds again the variables that held tables, or results and
frames of all their rows, and finds the Python steps of the notebook's cells. Nothing is run; a
frame is read when a cell names it.

What each variable held was recorded when a cell ended (`held_names.py`).
"""

import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.cell_lines import parse_step
from jammi_kernel_ext.display import Note
from jammi_kernel_ext.held_names import Form, HeldTable, recorded_names
from jammi_kernel_ext.notebook import has_word
from jammi_lab.core.errors import InvalidArgument, JammiError, TableNotFound
from jammi_lab.core.forms import listing_table
from jammi_lab.core.html import Rendered, ReprMixin, plain_text, vstack
from jammi_lab.core.identifiers import fold, near_or_all
from jammi_lab.features.outputs.stamps import short
from jammi_lab.sources.read_errors import MAX_FILE_BYTES
from jammi_lab.storage.files import open_for_reading
from jammi_lab.workspace.result_table import ResultTable

if TYPE_CHECKING:
    from jammi_kernel_ext.notebook import Notebook
    from jammi_lab.workspace.workspace import Workspace

_NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What parsing a text raises; the last two for one that is nested deeply."""
_FORMS = {"read": "result", "scan": "lazy frame", "exact": "exact pandas"}
_STEP = "%%jammi_py"
_MAX_OFFERED = 3


@dataclass(frozen=True)
class BoundVariable:
    """A variable that is bound again."""

    name: str
    held: HeldTable
    table: ResultTable
    state: str
    """The verdict on the table, and whether a newer version is ready."""


@dataclass(repr=False)
class Resumed(ReprMixin):
    """What `%jammi resume` bound, and what not."""

    bound: Sequence[BoundVariable]
    unbound: Mapping[str, str]
    """By variable, the cell to run and why."""
    steps: Sequence[str]
    """The recipes whose Python step was found."""

    def _rendered(self) -> Rendered:
        rows = [
            (
                each.name,
                f"{each.table.name} version {each.table.version}",
                _FORMS.get(each.held.form, each.held.form),
                each.held.cell,
                each.state,
            )
            for each in self.bound
        ]
        lines = [f"{name}: {reason}" for name, reason in self.unbound.items()]
        if rows:
            headers = ["variable", "of", "as", "cell", "verdict"]
            found = listing_table(headers, rows, aligned="lllll")
        elif lines:
            found = plain_text("No variable is bound again.")
        else:
            found = plain_text("No variable is missing that this workspace has on record.")
        if self.steps:
            lines.append(f"Python steps found: {', '.join(self.steps)}")
        return vstack(found, *map(plain_text, lines))


def resume(notebook: "Notebook", file: str | None) -> Resumed:
    """Bind the variables of a notebook again, by default the running one, that this kernel does not
    have. InvalidArgument for a file that is no notebook."""
    path = notebook.file if file is None else Path(file)
    cells = None if path is None else _code_cells(path)
    ws, unbound = notebook.workspace, dict[str, str]()
    tables = dict[str, tuple[HeldTable, ResultTable]]()
    for name, held in _missing_names(notebook, path, cells).items():
        if not held.form:
            unbound[name] = f"run cell {held.cell}, which computes it from {held.table}"
            continue
        try:
            table = ws.table(held.table, held.version)
            if short(table._record.digest) != held.digest:
                version = f"version {table.version} of {table.name!r}"
                raise TableNotFound(f"{version} is not the one that it read.")
        except JammiError as error:
            unbound[name] = f"run cell {held.cell}: {error.message}"
            continue
        table._is_of_recipe = not held.is_exact
        tables[name] = held, table
        read = functools.partial(_read, table, held.form)
        notebook.bind_later(name, read, now=held.form == "table")
    states = _states(ws, {table.name for _, table in tables.values()})
    bound = list[BoundVariable]()
    for name, (held, table) in tables.items():
        newest, verdict = states.get(table.name, (table.version, ""))
        ready = f"version {newest} is ready; " if newest != table.version else ""
        bound.append(BoundVariable(name, held, table, ready + verdict))
    return Resumed(bound, unbound, _find_steps(notebook, cells or (), unbound))


def _states(ws: "Workspace", names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """The newest version of each table, and the verdict on it, from one pass."""
    services = ws._services
    verdicts = services.freshness.current_verdicts(sorted(names))
    states = {}
    for name, verdict in verdicts.items():
        newest = services.catalog.result_tables.newest(name)
        states[name] = 0 if newest is None else newest[0].version, str(verdict)
    return states


def _read(table: ResultTable, form: Form) -> Any:
    """The table, or its rows, which are read now. TableNotFound; TableDamaged."""
    if form == "table":
        return table
    return table.pandas(exact=True) if form == "exact" else getattr(table, form)()


def offer(notebook: "Notebook") -> Note | None:
    """The line that offers to resume; None where there is nothing to bind again."""
    path, ready = notebook.file, notebook.workspace._services.lookup.has_ready_version
    if path is None:
        return None
    try:
        cells = _code_cells(path)
    except InvalidArgument:
        return None
    missing = _missing_names(notebook, path, cells)
    names = [n for n, held in missing.items() if held.form and ready(held.table)]
    if not names:
        return None
    listed = ", ".join(names[:_MAX_OFFERED])
    more = f" and {len(names) - _MAX_OFFERED} more" if len(names) > _MAX_OFFERED else ""
    return Note(f"%jammi resume binds {listed}{more} again, as cells of this notebook did.")


def _missing_names(
    notebook: "Notebook", path: Path | None, cells: Sequence[str] | None
) -> dict[str, HeldTable]:
    """What the names held that the kernel does not have, and that a cell still has where the cells
    are known."""
    services, text = notebook.workspace._services, "\n".join(cells or ())
    # a kernel knows its notebook by the name that it had when it began, or not at all
    recorded = recorded_names(services, path) or recorded_names(services, notebook.file)
    return {
        name: held
        for name, held in recorded.items()
        if name not in notebook.namespace and (cells is None or has_word(text, name))
    }


def _code_cells(file: Path) -> list[str]:
    """The texts of the code cells of a notebook, as saved last. InvalidArgument."""
    try:
        with open_for_reading(file, follow_links=True) as opened:
            cells = json.loads(opened.read(MAX_FILE_BYTES))["cells"]
        return ["".join(each["source"]) for each in cells if each["cell_type"] == "code"]
    except OSError as error:
        problem, folder = error.strerror, file.parent
        if os.path.isdir(file):
            problem, folder = "it is a folder", file
        notebooks = [each.name for each in folder.glob("*.ipynb")]
        raise InvalidArgument(
            f"{str(file)!r} cannot be read: {problem}.",
            **near_or_all(file.name, notebooks, "The folder has"),
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidArgument(f"{str(file)!r} is not a notebook of format 4.") from None


def _find_steps(notebook: "Notebook", cells: Iterable[str], unbound: dict[str, str]) -> list[str]:
    """Give the workspace, in a trusted folder, the Python steps of the cells whose text is that of
    their recipe, and return the recipes; `unbound` gets the others. Defining a step runs none of
    it."""
    from jammi_lab.core.recipes import parse_descriptor
    from jammi_lab.steps.cell_step import build_step
    from jammi_lab.steps.step_functions import FunctionRecipe

    services = notebook.workspace._services
    if not services.source_directory.outside.trusts_folder:
        return []
    found = dict[str, str]()
    for cell in cells:
        first_line, _, text = cell.partition("\n")
        if not first_line.startswith(f"{_STEP} "):
            continue
        try:
            options = parse_step(first_line.removeprefix(_STEP))
            name = options["NAME"]
            step = build_step(name, options["inputs"], text, notebook.namespace)
            record = services.catalog.recipes.get(name)
            recipe = None if record is None else parse_descriptor(record.descriptor)
        except (JammiError, *_NOT_PYTHON):
            continue
        if isinstance(recipe, FunctionRecipe) and recipe.is_defined_by(step):
            services.step_functions.remember(recipe.with_values(function=step))
            found[fold(name)] = name
            unbound.pop(name, None)
        elif recipe is not None and fold(name) not in found:
            unbound[name] = f"run the cell of step {name}: it changed, or names what is missing"
    return [*found.values()]
