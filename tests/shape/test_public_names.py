"""The public names and what they take are a contract: they equal the committed list.

`python -m tests.shape.test_public_names` writes the list anew, for a change that the changelog
tells.
"""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import jammi_lab as jl
from jammi_lab.core.recipes import RecipeValue
from jammi_lab.steps.recipe import RunnableRecipe
from jammi_lab.steps.row_recipe import RowRecipe
from jammi_lab.steps.step_functions import FunctionRecipe

LIST = Path(__file__).resolve().parents[1] / "data" / "public_names.json"


def parameters(value: Any) -> str:
    """A signature without its annotations, whose names are no part of the contract."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return "?"
    if not inspect.isfunction(value) and not inspect.isclass(value):
        return "?"  # Python 3.13 knows what more of its own methods take
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


PROTOCOL = {
    name for base in (RecipeValue, RunnableRecipe, FunctionRecipe, RowRecipe) for name in vars(base)
} - {"to_dict"}
"""What only a person who writes a recipe of their own needs."""
COPIES = "with_values"
"""How the package makes a changed copy of a value."""


def members(owner: type) -> dict[str, str]:
    """The public attributes of a class by name: what a method takes, or `property`."""
    found = {"()": parameters(owner)} if dataclasses.is_dataclass(owner) else {}
    for name, value in inspect.getmembers_static(owner):
        if (
            name.startswith("_")
            or name == COPIES
            or (issubclass(owner, RecipeValue) and name in PROTOCOL)
        ):
            continue
        value = getattr(value, "__func__", value)  # of a class method, or of one that lists
        found[name] = parameters(value) if inspect.isroutine(value) else "property"
    return found


def held(tmp_path: Path) -> dict[str, type]:
    """What a person holds: the classes of the package, and those of the collections of a
    workspace."""
    with jl.open(tmp_path / "lab") as ws:
        collections = {
            f"Workspace.{name}": type(getattr(ws, name))
            for name in ("sources", "models", "checks", "mutable", "topics")
        }
    return {
        name: value for name in jl.__all__ if isinstance(value := getattr(jl, name), type)
    } | collections


def public_names(tmp_path: Path) -> dict[str, Any]:
    functions = {
        name: parameters(value)
        for name in jl.__all__
        if inspect.isfunction(value := getattr(jl, name))
    }
    return {"functions": functions} | {
        name: members(cls) for name, cls in sorted(held(tmp_path).items())
    }


def test_public_names_and_what_they_take_are_those_of_the_list(tmp_path):
    assert public_names(tmp_path) == json.loads(LIST.read_text())


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        LIST.write_text(json.dumps(public_names(Path(folder)), indent=1, sort_keys=True) + "\n")
