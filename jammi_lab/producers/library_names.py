"""Names of library objects and aliases of `typing`: what a digest records instead of a value."""

import sys
import types
from typing import Any

from jammi_lab.producers.function_source import is_library

_CANONICAL_MODULES = {"pathlib._local": "pathlib"}
"""Modules that Python 3.13 names differently from other releases."""
_HEAP_TYPE_FLAG = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: the flag of classes created at run time."""
_HIDDEN_ATTRIBUTES = ("__bound__", "__constraints__", "__default__", "__supertype__", "__value__")
"""The attributes of typing's objects that their text does not show."""
ALIAS_ATTRIBUTES = ("__origin__", "__args__", "__metadata__", *_HIDDEN_ATTRIBUTES)
"""The attributes of typing's objects that hold other types."""


def library_name(value: Any, package: str | None) -> str | None:
    """`module:name` of an object of a library; None for one of the user's own. `package`: a package
    of a library that counts as the user's own."""
    if is_alias(value) or (type(value).__module__ == "typing" and is_library(value.__module__)):
        return repr(value)
    module, name = text_attribute(value, "__module__"), text_attribute(value, "__qualname__")
    if isinstance(value, types.FunctionType | type):
        if module is None or name is None or not is_foreign(module, package):
            return None
        is_closure = isinstance(value, types.FunctionType) and value.__closure__ is not None
        if (
            "<locals>" not in name
            and not is_closure
            and not _has_borrowed_name(value, module, name)
        ):
            return f"{_CANONICAL_MODULES.get(module, module)}:{name}"
    for owner in (module, type(value).__module__):
        if (
            owner is not None
            and is_foreign(owner, package)
            and (exported_name := _export_name(owner, value)) is not None
        ):
            return exported_name
    return None


def is_foreign(module: str, package: str | None) -> bool:
    """Whether a module is of a library, and not of the package."""
    return is_library(module) and (package is None or module.partition(".")[0] != package)


def is_alias(value: object) -> bool:
    """Whether a value is an object of `typing` that stands for types, such as `list[int]`."""
    return not isinstance(value, type) and (
        type(value).__module__ == "typing"
        or isinstance(value, types.GenericAlias | types.UnionType)
    )


def has_hidden_parts(alias: Any) -> bool:
    """Whether a type variable or new type of the user's own has a bound, constraints, a default or
    a supertype."""
    parts = [getattr(alias, name, None) for name in _HIDDEN_ATTRIBUTES]
    return not is_library(text_attribute(alias, "__module__") or "") and any(
        part is not None and part != () and type(part).__name__ != "NoDefaultType" for part in parts
    )


def has_own_parts(form: Any) -> bool:
    """Whether the form of a part of an alias is more than names and constants, or is a value that
    Python abbreviates in a text."""
    if not isinstance(form, list) or form[:1] == ["named"]:
        return False
    kinds = ("class", "alias", "instance", "function", "member", "met", "ndarray", "Pattern")
    return form[:1] in [[kind] for kind in kinds] or any(map(has_own_parts, form))


def text_attribute(value: object, name: str) -> str | None:
    """An attribute when it is a string. Objects with `__getattr__` may return anything."""
    attribute = getattr(value, name, None)
    return attribute if isinstance(attribute, str) else None


def _has_borrowed_name(value: object, module: str, name: str) -> bool:
    """Whether a class was created by a library function that gave the class its own module name, as
    those of the standard library that make data classes and types do."""
    if not (isinstance(value, type) and value.__flags__ & _HEAP_TYPE_FLAG):
        return False
    target: Any = sys.modules.get(module)
    for part in name.split("."):
        target = getattr(target, part, None)
    return target is not value


def _export_name(module: str, value: object) -> str | None:
    """The `module:name` under which a module, or its top-level package, exports this very object;
    None when it does not."""
    for owner in (module, module.partition(".")[0]):
        for name, attribute in [*vars(sys.modules[owner]).items()] if owner in sys.modules else ():
            if attribute is value:
                return f"{owner}:{name}"
    return None
