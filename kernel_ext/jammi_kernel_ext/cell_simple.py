"""The names of the most frequent statements of cells, `late = df[df.n > 1].groupby("id").sum()`: an
expression of frames, numbers, methods and functions without effects. The result is that of
`names_of`, in less than half of its time; all other statements are left to it."""

import ast
import builtins
import functools
import types
from collections.abc import Mapping
from typing import Any

from jammi_kernel_ext.cell_calls import OUTPUT_PARAMETERS
from jammi_kernel_ext.cell_state import states_of, uses_files
from jammi_kernel_ext.cell_syntax import NamesOfCell
from jammi_kernel_ext.cell_values import (
    PLAIN_CONTAINERS,
    is_data_type,
    is_installed,
    keeps_arguments,
)
from jammi_kernel_ext.cell_words import (
    DATA_LIBRARIES,
    IN_PLACE,
    OPAQUE_ATTRIBUTES,
    OPAQUE_NAMES,
    SETTERS,
    TEXT_METHODS,
)

_PLAIN = frozenset((bool, int, float, type(None))) | PLAIN_CONTAINERS
_PARTS: dict[type, tuple[str, ...]] = {
    ast.BinOp: ("left", "right"),
    ast.UnaryOp: ("operand",),
    ast.Subscript: ("value", "slice"),
    ast.Slice: ("lower", "upper", "step"),
}
"""The parts of expressions that are one expression each, or none."""
_LISTS: dict[type, tuple[str, ...]] = {
    ast.Tuple: ("elts",),
    ast.List: ("elts",),
    ast.Dict: ("keys", "values"),
    ast.BoolOp: ("values",),
}
"""The parts of expressions that are lists of expressions."""


def simple_names(statement: ast.stmt, values: Mapping[str, Any]) -> NamesOfCell | None:
    """The names of a simple statement, given the values of the notebook's names; None for any
    other."""
    node: Any = statement
    if type(node) is ast.Expr:
        loaded = _loaded_names(node.value, values)
        return None if loaded is None else NamesOfCell(loaded)
    if type(node) is not ast.Assign or len(node.targets) > 1:
        return None
    target = node.targets[0]
    if type(target) is not ast.Name or (loaded := _loaded_names(node.value, values)) is None:
        return None
    return NamesOfCell(loaded, {target.id}, aliases=[(target, node.value)])


def _loaded_names(value: ast.expr, values: Mapping[str, Any]) -> set[str] | None:
    """The names that an expression reads; None when it is not simple."""
    loaded, pending = set[str](), list[Any]([value])
    for node in pending:  # grows while it is read
        kind = type(node)
        if kind is ast.Constant or node is None:
            continue
        if kind is ast.Name:
            if node.id not in loaded:
                if not _is_simple_value(node.id, values):
                    return None
                loaded.add(node.id)
        elif kind is ast.Attribute:
            if not _is_simple_method(node.attr):
                return None
            pending.append(node.value)
        elif kind is ast.Call:
            if not _add_call(loaded, pending, node, values):
                return None
        elif kind in _PARTS:
            for part in _PARTS[kind]:
                pending.append(getattr(node, part))
        elif kind in _LISTS:
            for part in _LISTS[kind]:
                pending += getattr(node, part)
        elif kind is ast.Compare:
            pending.append(node.left)
            pending += node.comparators
        else:
            return None
    return loaded


def _add_call(
    loaded: set[str], pending: list[Any], call: ast.Call, values: Mapping[str, Any]
) -> bool:
    """Add what a call names, and its parts to those still to be examined; False when it is not
    simple."""
    function = _simple_function(call.func, values)
    if function is None or not _has_simple_arguments(call):
        return False
    if type(function) is str:
        loaded.add(function)
    else:
        pending.append(function)
    pending += call.args
    for keyword in call.keywords:
        pending.append(keyword.value)
    return True


def _is_simple_value(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name holds a frame, a column, an array, a number, a text or a plain container."""
    if name not in values or name in OPAQUE_NAMES:
        return False
    kind = type(values[name])
    return kind in _PLAIN or (is_data_type(kind) and is_installed(kind.__module__))


def _simple_function(function: Any, values: Mapping[str, Any]) -> Any:
    """The name of a built-in function, or of the library of a function, or the method of a frame,
    whose parts are still to be examined; None for any other."""
    if type(function) is ast.Name:
        name = function.id
        return name if name not in values and _is_simple_builtin(name) else None
    if type(function) is not ast.Attribute:
        return None
    root: Any = function.value
    if type(root) is ast.Name and type(library := values.get(root.id)) is types.ModuleType:
        is_simple = root.id not in OPAQUE_NAMES and _is_simple_function(library, function.attr)
        return root.id if is_simple else None
    while (kind := type(root)) is not ast.Name:
        if kind is ast.Call:
            root = root.func
        elif kind is ast.Attribute or kind is ast.Subscript:
            root = root.value
        else:
            return None
    return function if is_data_type(type(values.get(root.id))) else None


def _is_simple_function(library: types.ModuleType, name: str) -> bool:
    """Whether a function of a library for data leaves its arguments and all state as they are."""
    return (
        _is_library_for_data(library.__name__)
        and _is_simple_method(name)
        and keeps_arguments(vars(library).get(name))
    )


def _has_simple_arguments(call: ast.Call) -> bool:
    """Whether no argument of a call may be an output, or text that names variables."""
    if len(call.args) > 1:
        return False
    for argument in call.args:
        if _is_text(argument):
            return False
    for keyword in call.keywords:
        if not _is_simple_keyword(keyword.arg) or _is_text(keyword.value):
            return False
    return True


def _is_text(argument: ast.expr) -> bool:
    """Whether an argument is a text of more than one word."""
    if type(argument) is not ast.Constant:
        return False
    return type(argument.value) is str and not argument.value.isidentifier()


@functools.lru_cache(maxsize=4096)
def _is_simple_method(name: str) -> bool:
    """Whether a method or attribute of this name has no meaning of its own for cells."""
    return not (
        name in IN_PLACE
        or name in OPAQUE_ATTRIBUTES
        or name in SETTERS
        or name in TEXT_METHODS
        or name.startswith("register")
        or (uses_files(name) and name != "rename")  # of columns
    )


@functools.lru_cache(maxsize=256)
def _is_simple_builtin(name: str) -> bool:
    return hasattr(builtins, name) and name not in OPAQUE_NAMES and _is_simple_method(name)


@functools.lru_cache(maxsize=256)
def _is_library_for_data(module: str) -> bool:
    is_known = module.partition(".")[0] in DATA_LIBRARIES | {"numpy"}
    return is_known and is_installed(module) and not states_of(module)


@functools.lru_cache(maxsize=4096)
def _is_simple_keyword(name: str | None) -> bool:
    """Whether a keyword is given, and is none that tells a function to change something."""
    return name is not None and not (
        name in OUTPUT_PARAMETERS or name == "copy" or name.startswith("overwrite_")
    )
