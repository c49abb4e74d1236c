"""Comparable forms of what belongs to a class: its own members, and what enumerations, dataclasses
and structs keep beside them."""

import abc
import collections.abc
import enum
import inspect
import numbers
import types
from typing import Any, NamedTuple

import msgspec

from jammi_lab.steps.function_source import is_library, is_library_file


class _SampleEnum(enum.Enum):
    pass


class _SampleFlag(enum.Flag):
    pass


class _SampleTuple(NamedTuple):
    field: int


_METACLASSES = (type, abc.ABCMeta, enum.EnumMeta, msgspec.StructMeta)
"""Metaclasses that keep all of a class where it is looked for here."""
_DERIVED = frozenset(
    {
        *("__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"),
        *("__annotations__", "__annotations_cache__", "__annotate__", "__annotate_func__"),
        *("__conditional_annotations__", "__abstractmethods__", "_abc_impl"),
        "_generate_next_value_",
        *("__dataclass_fields__", "__dataclass_params__"),
    }
)
"""Members that tell where a class was defined, follow from others, or have a form of their own."""
_DERIVED_OF_ENUMS = (vars(_SampleEnum).keys() | vars(_SampleFlag).keys()) - {"_boundary_"}
_SLOT_TYPES = (types.MemberDescriptorType, types.GetSetDescriptorType)
_FIELD_PARTS = ("name", "default", "default_factory", "init", "repr", "hash", "compare", "kw_only")
_MEMBER_PARTS = ("_name_", "_sort_order_", "__objclass__")
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
        is_of_enum = issubclass(cls, enum.Enum) and name in _DERIVED_OF_ENUMS
        if name in _DERIVED or (is_of_enum and not isinstance(value, types.FunctionType)):
            continue
        if name == "__replace__" and is_library(getattr(function, "__module__", "")):
            continue  # only Python 3.13 and later write it
        if isinstance(value, _SLOT_TYPES):
            members[name] = (type(value), value.__name__)
        elif type(value) is type(vars(_SampleTuple)["field"]):
            members[name] = value.__reduce__()
        elif (generated := _generated(function)) is not None:
            defaults = generated.__defaults__, generated.__kwdefaults__
            members[name] = (types.FunctionType, *defaults)
        else:
            members[name] = value
    return members


def _generated(function: Any) -> types.FunctionType | None:
    """The method that Python wrote from the fields of a dataclass or named tuple; None for any
    other value. Text that the user executes has the same file name, but not these names."""
    if not isinstance(function, types.FunctionType):
        return None
    code = function.__code__
    is_of_library = is_library_file(code.co_filename)
    if is_of_library and "recursive_repr.<locals>." in code.co_qualname:
        function = inspect.unwrap(function)
        code = function.__code__
    if code.co_filename == "<string>":
        module = str(function.__globals__.get("__name__"))
        is_of_fields = code.co_qualname.startswith("__create_fn__.<locals>.")
        return function if is_of_fields or module.startswith("namedtuple_") else None
    is_of_tuple = is_of_library and code.co_qualname.startswith("namedtuple.<locals>.")
    return function if is_of_tuple else None


def hidden_state(cls: type) -> list[Any]:
    """What a class has beside its members: the fields of a dataclass, the members of an
    enumeration, the fields and settings of a struct. Plain values and those of the user's."""
    state = list[Any]()
    for field in vars(cls).get("__dataclass_fields__", {}).values():
        state.append([getattr(field, part) for part in _FIELD_PARTS])
        state.append([str(field.type), dict(field.metadata)])
    if issubclass(cls, enum.Enum):
        for name, member in cls.__members__.items():
            given = {n: v for n, v in vars(member).items() if n not in _MEMBER_PARTS}
            state.append([name, given])
        by_value = cls._value2member_map_.items()
        state.append({value: m.name for value, m in by_value if m.name in cls.__members__})
    if issubclass(cls, msgspec.Struct):
        config = cls.__struct_config__
        settings = [name for name in dir(config) if not name.startswith("_")]
        state.append([[name, getattr(config, name)] for name in settings])
        state.append([cls.__struct_encode_fields__, cls.__struct_defaults__])
    return state
