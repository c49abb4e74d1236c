"""What the values of a notebook's names are to whoever follows its cells: of a library or of the
user, frame, module, or holding code of the user."""

import ast
import builtins
import functools
import operator
import types
from collections.abc import Mapping
from typing import Any

_CODE_HOLDERS = (
    functools.partial,
    operator.methodcaller,
    types.MethodType,
    types.MethodWrapperType,
)
"""Callables of a library that call what they were given."""


def is_library_module(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name is a module of a library, which its own functions do not change."""
    return name in values and is_module(values[name]) and is_installed(values[name].__name__)


def is_library_value(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name is a module, function, class or frame of a library, which changes its
    arguments in place only where it is known for that."""
    if name not in values:
        return hasattr(builtins, name)
    value = values[name]
    module = value.__name__ if is_module(value) else getattr(value, "__module__", None)
    if not is_module(value) and not callable(value):
        module = type(value).__module__
        if module == "builtins":
            return isinstance(value, str | bytes | int | float | complex | bool | None)
    return isinstance(module, str) and is_installed(module)


def is_library_function(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name is a function or class of a library that holds no code of the user."""
    return is_library_value(name, values) and not holds_code(values.get(name))


def holds_code(value: object) -> bool:
    """Whether a callable calls something that it was given, or changes the object of a method."""
    if isinstance(value, types.BuiltinMethodType):  # which is the type of all built-in functions
        return not (value.__self__ is None or is_module(value.__self__))
    return isinstance(value, _CODE_HOLDERS) or type(value).__name__ == "vectorize"


def is_of_user(kind: type) -> bool:
    """Whether a class was defined by the user, in the notebook or in a module of one's own."""
    return not is_installed(kind.__module__)


def is_module(value: object) -> bool:
    """Whether a value is a module."""
    return type(value).__name__ == "module"


def foreign_module(value: object) -> str:
    """The module of a value if it is the user's own, outside the notebook, where code is not seen.
    Empty for values of the notebook and of libraries."""
    if is_module(value):
        module = value.__name__  # type: ignore[attr-defined]
    elif isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        module = value.__module__
    else:
        module = type(value).__module__
    if not isinstance(module, str) or module in ("__main__", "builtins") or is_installed(module):
        return ""
    return module


@functools.lru_cache(maxsize=4096)
def is_installed(module: str) -> bool:
    """Whether a module belongs to Python, to an installed package or to jammi_lab."""
    from jammi_lab.producers.function_source import is_library

    return is_library(module)


def module_value(node: ast.AST, values: Mapping[str, Any]) -> object:
    """The value of attributes of a module; None when that is not known without calling code."""
    if isinstance(node, ast.Name):
        value = values.get(node.id)
        return value if is_module(value) else None
    if not isinstance(node, ast.Attribute):
        return None
    return getattr(module_value(node.value, values), "__dict__", {}).get(node.attr)


def is_frame_name(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name holds a frame."""
    return name in values and type(values[name]).__name__ in ("DataFrame", "LazyFrame", "Table")
