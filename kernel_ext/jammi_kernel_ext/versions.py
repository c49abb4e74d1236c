"""The lines of `%jammi` on versions of a table: diff, history, restore, export, edit."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.display import Note
from jammi_kernel_ext.notebook import Notebook
from jammi_lab.commands.shared import Answer, SharedVerbs
from jammi_lab.commands.words import Values
from jammi_lab.core.errors import InvalidArgument, TableNotFound
from jammi_lab.core.recipes import parse_descriptor

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
        name, path = values["NAME"], values["PATH"]
        try:
            table = self._ws.table(name)
        except TableNotFound as error:
            if path in self._ws:
                error.hint = f"The table comes first: %jammi export {path} {name}"
            raise
        return Note(f"{name} is written to {table.export(path)}.")

    def _edit(self, values: Values) -> Any:
        recipe = self._ws.recipe(values["NAME"])
        cell = _cell_of(recipe)
        if cell is None:
            raise InvalidArgument(
                f"{recipe.name} is a recipe of kind {recipe.kind}, which no cell defines.",
                hint=f"ws.recipe({recipe.name!r}) shows its definition.",
            )
        if self._notebook.shell is not None:
            self._notebook.shell.set_next_input(cell)
        return Note(f"The cell that makes {recipe.name} is below.")


def _cell_of(recipe: Any) -> str | None:
    """The text of the cell that defines a recipe; None for kinds that no cell defines."""
    from jammi_lab.steps.step_functions import cell_inputs

    made: Any = parse_descriptor(recipe._record.descriptor)
    values, text = _values_given(made), recipe.definition.rstrip()
    if recipe.kind == "sql":
        line = _line_of(["-m", recipe.name], {"key": values.get("key", [])})
        return f"%%jammi {line}\n{text}"
    module, _, function = str(getattr(made, "function", "")).partition(":")
    if module == "cell":
        if "over" in values:
            values["map"] = values.pop("over")
        else:
            values["inputs"] = [
                address if name == address.rpartition(".")[2] else f"{name}={address}"
                for name, address in zip(cell_inputs(function), values["inputs"], strict=True)
            ]
        return f"%%jammi_py {_line_of([recipe.name], values)}\n{text}"
    if module != "__main__" or "<" in function:
        return None
    arguments = ", ".join(f"{name}={value!r}" for name, value in values.items())
    verb = made.VERB.removeprefix("ws.")
    call = f"{verb}({recipe.name!r}, {function}, {arguments})"
    return f"{text}\n\njammi_lab.get_workspace().{call}"


def _values_given(made: Any) -> dict[str, Any]:
    """The values of a recipe's fields that differ from their defaults, but for its function."""
    values = {}
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        is_default = value == field.default or value in (None, [], {})
        if field.init and field.name not in ("function", "schema") and not is_default:
            values[field.name] = value
    if made.kind == "python":
        values["inputs"] = [each.asked for each in made.inputs]
    if getattr(made, "schema", None):
        values["schema"] = dict(made.schema)
    return values


def _line_of(words: list[str], values: Mapping[str, Any]) -> str:
    """The first line of a cell: words, then flags with these values."""
    for name, value in values.items():
        if flag_words := value if isinstance(value, list) else [str(value)]:
            words += [f"--{name.replace('_', '-')}", *flag_words]
    return shlex.join(words)
