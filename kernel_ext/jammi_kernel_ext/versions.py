"""The lines of `%jammi` on versions of a table: diff, history, restore, export, edit."""

import shlex
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.display import Note
from jammi_kernel_ext.notebook import Notebook
from jammi_lab.commands.shared import Answer, SharedVerbs
from jammi_lab.commands.words import Values
from jammi_lab.core.definitions import decode_param
from jammi_lab.core.errors import InvalidArgument

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace


class VersionVerbs(SharedVerbs):
    """The lines that compare, restore and export versions."""

    _notebook: Notebook

    @property
    def _ws(self) -> "Workspace":
        return self._notebook.workspace

    def _history(self, values: Values) -> Any:
        history = self._ws._services.tables.history(values["NAME"])
        return Answer(history, panel=("DiffView", (values["NAME"],), {"history": True}))

    def _diff(self, values: Values) -> Any:
        diff = self._ws.table(values["NAME"], values["B"]).diff(values["A"])
        versions = {"old": values["A"], "new": values["B"]}
        return Answer(diff, panel=("DiffView", (values["NAME"],), versions))

    def _restore(self, values: Values) -> Any:
        return self._ws.table(values["NAME"], values["V"]).restore()

    def _export(self, values: Values) -> Any:
        path = self._ws.table(values["NAME"]).export(values["PATH"])
        return Note(f"{values['NAME']} is written to {path}.")

    def _edit(self, values: Values) -> Any:
        recipe = self._ws.recipe(values["NAME"])
        cell = _cell_of(recipe)
        if cell is None:
            raise InvalidArgument(
                f"{recipe.name} is a recipe of kind {recipe.kind}, which no cell defines.",
                hint=f"ws.recipes()[{recipe.name!r}] shows its definition.",
            )
        if self._notebook.shell is not None:
            self._notebook.shell.set_next_input(cell)
        return Note(f"The cell that makes {recipe.name} is below.")


def _cell_of(recipe: Any) -> str | None:
    """The text of the cell that defines a recipe; None for kinds that no cell defines."""
    name, descriptor = shlex.quote(recipe.name), recipe._record.descriptor
    if recipe.kind == "row_map":
        return _row_map_cell(recipe)
    key = f" --key {shlex.join(descriptor['key'])}" if descriptor.get("key") else ""
    if recipe.kind == "sql":
        return f"%%jammi -m {name}{key}\n{recipe.definition}"
    if str(descriptor.get("function")).startswith("cell:"):
        inputs = shlex.join(each["asked"] for each in descriptor["inputs"])
        return (
            f"%%jammi_py {name}{' --inputs ' if inputs else ''}{inputs}{key}\n{recipe.definition}"
        )
    module, _, function = str(descriptor.get("function")).partition(":")
    if recipe.kind == "python" and module == "__main__" and "<" not in function:
        given = [each["asked"] for each in descriptor["inputs"]]
        key = f", key={descriptor['key']!r}" if descriptor.get("key") else ""
        call = f"compute({recipe.name!r}, {function}, inputs={given!r}{key})"
        return f"{recipe.definition}\n\njammi_lab.get_workspace().{call}"
    return None


def _row_map_cell(recipe: Any) -> str | None:
    """The text of the cell that defines a row map; None when its function is in a module."""
    descriptor = recipe._record.descriptor
    defaults = {"version": None, "on_error": "raise", "concurrency": 1, "cost": None}
    if str(descriptor["function"]).startswith("cell:"):
        options = {"map": descriptor["asked"], "key": descriptor["key"]} | {
            name.replace("_", "-"): descriptor[name]
            for name, default in defaults.items()
            if descriptor.get(name, default) != default
        }
        flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        line = shlex.join([recipe.name, *flags, "--inputs", *descriptor["inputs"]])
        return f"%%jammi_py {line}\n{descriptor['source']}"
    module, _, function = str(descriptor["function"]).partition(":")
    if module != "__main__" or "<" in function:
        return None
    params = {name: decode_param(value) for name, value in descriptor.get("params", {}).items()}
    schema = dict(descriptor["schema"]) if descriptor.get("schema") else None
    values = {**{name: descriptor.get(name, d) for name, d in defaults.items()}}
    values |= {"params": params or None, "schema": schema, "batch": descriptor.get("batch", 1)}
    defaults |= {"params": None, "schema": None, "batch": 1}
    options = {"over": descriptor["asked"], "key": descriptor["key"]}
    options |= {"inputs": descriptor["inputs"]}
    options |= {name: value for name, value in values.items() if value != defaults[name]}
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    call = f"map({recipe.name!r}, {function}, {arguments})"
    return f"{descriptor['source']}\n\njammi_lab.get_workspace().{call}"
