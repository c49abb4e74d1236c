"""What the values of a notebook's names are to whoever follows its cells: of a library or of the
user, frame, module, or holding code of the user."""

import ast
import builtins
import functools
import inspect
import math
import operator
import sys
import types
from collections.abc import Mapping
from typing import Any

from jammi_kernel_ext.cell_words import DATA_LIBRARIES, KEEPING_LIBRARIES, OBSERVING_LIBRARIES

_PLAIN_MODULES = frozenset("re datetime decimal fractions pathlib uuid zoneinfo".split())
"""Modules whose objects cannot be changed."""
PLAIN_CONTAINERS = frozenset((dict, list, tuple, set, frozenset, str, bytes))
_IMMUTABLE = frozenset((bool, int, float, complex, str, bytes, type(None)))
_CODE_HOLDERS = (
    functools.partial,
    operator.methodcaller,
    types.MethodType,
    types.MethodWrapperType,
)
"""Callables of a library that call what they were given."""
MAX_PARTS = 100
"""Steps of a pipeline that are examined."""
NAMED = (type, types.FunctionType, types.BuiltinFunctionType)
"""Values that name the module that they are of."""


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
    """Whether a class was defined by the user: in the notebook, in a module of one's own, or by a
    function that makes classes."""
    if kind.__module__ == "types":
        return not hasattr(types, kind.__name__)
    return not is_installed(kind.__module__)


def function_module(value: Any) -> str:
    """The module of a function or class, of a module its name, of any other value the module of its
    class. No code of the user is run."""
    kind = type(value)
    if kind is types.ModuleType:
        return str(value.__name__)
    if kind is types.BuiltinFunctionType and value.__self__ is not None:
        owner = value.__self__
        return str(owner.__name__) if is_module(owner) else type(owner).__module__
    if kind is types.MethodType:
        return type(value.__self__).__module__
    if kind is types.MethodDescriptorType:
        return str(value.__objclass__.__module__)
    if kind is types.FunctionType or isinstance(value, type):
        return value.__module__ if isinstance(value.__module__, str) else ""
    return kind.__module__


def keeps_arguments(function: object) -> bool:
    """Whether a function of a library is known to leave its arguments as they are."""
    if function is None:
        return True
    return function_module(function).partition(".")[0] in KEEPING_LIBRARIES


def is_data(value: object) -> bool:
    """Whether a value is a frame, a column, an array or another value of a library for data, which
    only methods known for it change."""
    return is_data_type(type(value))


def is_data_type(kind: type) -> bool:
    """Whether a class is of a library for data, or that of arrays."""
    return kind.__module__.partition(".")[0] in DATA_LIBRARIES or kind.__name__ == "ndarray"


# What is known of classes is not cached: a cache would keep the classes of the notebook alive.


def is_plain_type(kind: Any) -> bool:
    """Whether values of a class of a library cannot be changed: dates, paths, numbers of numpy."""
    module = kind.__module__.partition(".")[0]
    return module in _PLAIN_MODULES or (module == "numpy" and hasattr(kind, "as_integer_ratio"))


def is_library_object(value: object) -> bool:
    """Whether a value is an object of a library that any of its methods may change: a model, a
    connection, a queue, a generator of random numbers."""
    kind: Any = type(value)
    return _is_changed_by_methods(kind) and not isinstance(value, type)


def _is_changed_by_methods(kind: Any) -> bool:
    return not (
        kind.__module__ == "builtins"
        or issubclass(kind, types.ModuleType)
        or is_data_type(kind)
        or is_plain_type(kind)
    )


def is_immutable_type(kind: Any) -> bool:
    """Whether values of a class cannot be changed, and have no code of the user's."""
    return kind in _IMMUTABLE or is_plain_type(kind)


class _Table:
    """The value of a parameter while it is examined what a function does to frames."""


_Table.__module__, _Table.__name__ = "pyarrow", "Table"
A_FRAME: Any = _Table()


def is_inert(value: object) -> bool:
    """Whether a value has no code of the user's, and is not changed but by methods known for it: a
    frame whose cells hold no objects, a number, a text."""
    kind: Any = type(value)
    return is_immutable_type(kind) or shares_nothing(value)


def is_observer(value: object) -> bool:
    """Whether a value is an object of a library that never changes a frame that it was given: a
    model, a chart. One that may work in place or calls code of the user is none."""
    is_of_library = type(value).__module__.partition(".")[0] in OBSERVING_LIBRARIES
    return is_of_library and not _may_change_inputs(value)


def _may_change_inputs(value: object, depth: int = 4) -> bool:
    """Whether a model, or one that it holds, was made with `copy=False` or its like, or calls code
    of the user."""
    if isinstance(value, types.FunctionType):
        return not is_installed(value.__module__ or "")
    if holds_code(value) or is_of_user(type(value)):
        return True
    if isinstance(value, list | tuple):
        parts = list(value)[:MAX_PARTS]
    elif type(value).__module__.partition(".")[0] in OBSERVING_LIBRARIES:
        options = getattr(value, "__dict__", {})
        if any(options.get(option, True) is False for option in ("copy", "copy_X", "copy_x")):
            return True
        parts = list(options.values())
    else:
        return False
    return depth > 0 and any(_may_change_inputs(part, depth - 1) for part in parts)


def is_data_library(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name is a module, function or class of a library for data."""
    return function_module(values.get(name)).partition(".")[0] in DATA_LIBRARIES | {"numpy"}


def ndarray_type() -> Any:
    """The class of arrays; None while numpy is not imported."""
    return getattr(sys.modules.get("numpy"), "ndarray", None)


def output_position(function: Any) -> float:
    """The position of the parameter `out` of a function of numpy; infinite when it has none."""
    if not callable(function) or function_module(function).partition(".")[0] not in ("numpy", ""):
        return math.inf
    name = str(getattr(function, "__name__", ""))
    for owner in ("numpy", "numpy.ndarray"):
        if _numpy_function(owner, name) is function:
            return _position_by_name(owner, name)
    return _find_output_position(function)


def _numpy_function(owner: str, name: str) -> Any:
    numpy: Any = sys.modules.get("numpy")
    return vars(numpy if owner == "numpy" else numpy.ndarray).get(name) if numpy else None


@functools.lru_cache(maxsize=1024)
def _position_by_name(owner: str, name: str) -> float:
    return _find_output_position(_numpy_function(owner, name))


def _find_output_position(function: Any) -> float:
    try:
        parameters = list(inspect.signature(function).parameters)
    except (ValueError, TypeError):
        return math.inf
    return parameters.index("out") if "out" in parameters else math.inf


def is_module(value: object) -> bool:
    """Whether a value is a module."""
    return isinstance(value, types.ModuleType)


def foreign_module(value: object) -> str:
    """The module of a value if it is the user's own, outside the notebook, where code is not seen.
    Empty for values of the notebook and of libraries."""
    if is_module(value):
        module = value.__name__  # type: ignore[attr-defined]
    elif isinstance(value, NAMED):
        module = value.__module__
    else:
        module = type(value).__module__
    if not isinstance(module, str) or module in ("__main__", "builtins") or is_installed(module):
        return ""
    return module


@functools.lru_cache(maxsize=4096)
def is_installed(module: str) -> bool:
    """Whether a module belongs to Python, to an installed package or to jammi_lab."""
    from jammi_lab.steps.function_source import is_library

    return is_library(module)


def module_value(node: ast.AST, values: Mapping[str, Any]) -> object:
    """The value of attributes of a module; None when that is not known without calling code."""
    if isinstance(node, ast.Name):
        value = values.get(node.id)
        return value if is_module(value) else None
    if not isinstance(node, ast.Attribute):
        return None
    return getattr(module_value(node.value, values), "__dict__", {}).get(node.attr)


def shares_nothing(value: Any) -> bool:
    """Whether a value is a frame whose cells hold no objects: what is taken out of it is new."""
    if type(value).__name__ not in ("DataFrame", "LazyFrame", "Table"):
        return False
    blocks = getattr(getattr(value, "_mgr", None), "blocks", None)  # `dtypes` of pandas is slow
    kinds = getattr(value, "dtypes", ()) if blocks is None else [each.dtype for each in blocks]
    return not any(map(_is_of_objects, kinds))


def _is_of_objects(kind: object) -> bool:
    """Whether a type of columns is that of Python objects, in numpy or polars."""
    name = kind.__name__ if isinstance(kind, type) else type(kind).__name__
    return name in ("ObjectDType", "dtype[object_]", "Object")


def intercepts_assignment(value: object) -> bool:
    """Whether code of the user runs when an attribute or element of an object is assigned."""
    kind = type(value)
    if kind.__setattr__ is not object.__setattr__ or hasattr(kind, "__setitem__"):
        return True
    return any(
        hasattr(type(each), "__set__") and not isinstance(each, types.MemberDescriptorType)
        for base in kind.__mro__[:-1]
        for each in vars(base).values()
    )
