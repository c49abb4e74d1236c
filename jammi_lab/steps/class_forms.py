"""Comparable forms of what belongs to a class: its own members, and the fields that a dataclass or
a struct of msgspec keeps beside them. Enumerations and named tuples are refused."""

import abc
import collections.abc
import inspect
import numbers
import types
from typing import Any

import msgspec

from jammi_lab.steps.function_source import is_library, is_library_file

_METACLASSES = (type, abc.ABCMeta, msgspec.StructMeta)
"""Metaclasses that keep all of a class where it is looked for here."""
_DERIVED = frozenset(
    {
        *("__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"),
        *("__annotations__", "__annotations_cache__", "__annotate__", "__annotate_func__"),
        *("__conditional_annotations__", "__abstractmethods__", "_abc_impl"),
        *("__dataclass_fields__", "__dataclass_params__"),
    }
)
"""Members that tell where a class was defined, follow from others, or have a form of their own."""
_SLOT_TYPES = (types.MemberDescriptorType, types.GetSetDescriptorType)
_FIELD_PARTS = ("name", "default", "default_factory", "init", "repr", "hash", "compare", "kw_only")
_ABSTRACT_CLASSES = [
    value
    for module in (collections.abc, numbers)
    for value in vars(module).values()
    if isinstance(value, abc.ABCMeta)
]
"""Python's own abstract classes for containers and numbers."""


def refusal_of_class(cls: type) -> str:
    """Why a class cannot be compared by its members, as a clause; empty when it can."""
    if type(cls) not in _METACLASSES:
        return f"the class {cls.__qualname__} is made by {type(cls).__name__}"
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return f"the class {cls.__qualname__} is a named tuple"
    is_virtual = any(cls in _virtual_subclasses(each) for each in _ABSTRACT_CLASSES)
    if is_virtual or (isinstance(cls, abc.ABCMeta) and _virtual_subclasses(cls)):
        return f"the class {cls.__qualname__} has to do with ABCMeta.register"
    return ""


def _virtual_subclasses(cls: type) -> list[type | None]:
    """The virtual subclasses of an abstract class."""
    references = abc._get_dump(cls)[0]  # type: ignore[attr-defined]  # no public way
    return [reference() for reference in references]


def own_members(cls: type) -> dict[str, Any]:
    """The members of a class that do not follow from others, in the order of their names. A method
    that was generated from fields is its defaults, the place of a field its name or number."""
    members = dict[str, Any]()
    for name, value in sorted(vars(cls).items()):
        function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if name in _DERIVED:
            continue
        if name == "__replace__" and is_library(getattr(function, "__module__", "")):
            continue  # only Python 3.13 and later write it
        if isinstance(value, _SLOT_TYPES):
            members[name] = (type(value), value.__name__)
        elif (generated := _generated(function)) is not None:
            defaults = generated.__defaults__, generated.__kwdefaults__
            members[name] = (types.FunctionType, *defaults)
        else:
            members[name] = value
    return members


def _generated(function: Any) -> types.FunctionType | None:
    """The method that Python wrote from the fields of a dataclass; None for any other value. Text
    that the user executes has the same file name, but not these names."""
    if not isinstance(function, types.FunctionType):
        return None
    code = function.__code__
    is_of_library = is_library_file(code.co_filename)
    if is_of_library and "recursive_repr.<locals>." in code.co_qualname:
        function = inspect.unwrap(function)
        code = function.__code__
    is_of_fields = code.co_qualname.startswith("__create_fn__.<locals>.")
    return function if code.co_filename == "<string>" and is_of_fields else None


def hidden_state(cls: type) -> list[Any]:
    """What a class has beside its members: the fields of a dataclass, the fields and settings of a
    struct."""
    state = list[Any]()
    for field in vars(cls).get("__dataclass_fields__", {}).values():
        state.append([getattr(field, part) for part in _FIELD_PARTS])
        state.append([str(field.type), dict(field.metadata)])
    if issubclass(cls, msgspec.Struct):
        config = cls.__struct_config__
        settings = [name for name in dir(config) if not name.startswith("_")]
        state.append([[name, getattr(config, name)] for name in settings])
        state.append([cls.__struct_encode_fields__, cls.__struct_defaults__])
    return state
