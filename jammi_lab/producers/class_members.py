"""Members of a class: which of them Python or a decorator derived from the others, and what else
belongs to a class without being a member."""

import abc
import collections.abc
import dataclasses
import enum
import functools
import inspect
import numbers
import re
import types
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypedDict

import msgspec

from jammi_lab.producers.function_source import is_library, is_library_file

DUNDER_NAME = re.compile(r"__\w+__")


class _SampleEnum(enum.Enum):
    MEMBER = 1


class _SampleFlag(enum.Flag):
    MEMBER = 1


_ENUM_ATTRIBUTES = frozenset(vars(_SampleEnum)) | frozenset(vars(_SampleFlag))
_MEMBER_ATTRIBUTES = frozenset(vars(_SampleEnum.MEMBER)) | frozenset(vars(_SampleFlag.MEMBER))
"""What Python itself sets on an enumeration, and on its members."""


_DERIVED_ATTRIBUTES = frozenset(
    {
        *(
            "__module__",
            "__qualname__",
            "__doc__",
            "__firstlineno__",
            "__static_attributes__",
            "__type_params__",
            "_abc_impl",
        ),
        *(
            "__annotations__",
            "__annotations_cache__",
            "__annotate__",
            "__annotate_func__",
            "__conditional_annotations__",
            "__orig_bases__",
            "__parameters__",
            "__abstractmethods__",
            "__protocol_attrs__",
            "__non_callable_proto_members__",
        ),
        *(
            "__required_keys__",
            "__optional_keys__",
            "__readonly_keys__",
            "__mutable_keys__",
            "__total__",
            "__closed__",
            "__extra_items__",
            "__dataclass_fields__",
            "__dataclass_params__",
        ),
    }
)
"""Class attributes that describe the definition's location or follow from the other attributes."""


_NAMED_TUPLE_METHODS = frozenset(
    {"__new__", "__repr__", "__getnewargs__", "__replace__", "_make", "_replace", "_asdict"}
)


_DATACLASS_PARAMETERS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
"""Dataclass parameters that shape its values. Parameters of later releases show in the fields and
methods anyway."""


_METHOD_TYPES = (types.FunctionType, classmethod, staticmethod, property)


class _SampleTuple(NamedTuple):
    field: int


class _SampleDict(TypedDict):
    field: int


class _SampleProtocol(Protocol):
    pass


_FIELD_DESCRIPTOR_TYPES = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    type(vars(_SampleTuple)["field"]),
)
"""Types of the descriptors that Python itself puts into a class for its slots and fields."""


_ABSTRACT_MODULES = (collections.abc, numbers)


_METACLASSES = frozenset(
    {
        *(object, type, abc.ABCMeta, enum.EnumMeta, msgspec.StructMeta),
        *(type(_SampleProtocol), type(_SampleDict)),
    }
)
"""Metaclasses that keep all of a class in its attributes, or whose fields are known."""


def foreign_metaclass(cls: type) -> str | None:
    """The name of the metaclass of a library, if a class has one: it may keep defaults of fields
    where nothing shows them. None for a class of Python or of the user's own metaclass."""
    return next(
        (
            base.__qualname__
            for base in inspect.getmro(type(cls))
            if base not in _METACLASSES and is_library(base.__module__)
        ),
        None,
    )


def struct_settings(cls: type[msgspec.Struct]) -> list[str]:
    """The settings of a msgspec.Struct."""
    config: Any = cls.__struct_config__
    names = [name for name in dir(config) if not name.startswith("_")]
    return [f"{name}={getattr(config, name)!r}" for name in names]


def is_dataclass(cls: type) -> bool:
    """Whether a class is a dataclass. (A metaclass may answer any attribute name, hence the type
    check.)"""
    return isinstance(getattr(cls, "__dataclass_fields__", None), dict)


def dataclass_settings(cls: type) -> str:
    """The parameters of a dataclass in the notation of Python 3.11; "''" for other classes."""
    parameters = getattr(cls, "__dataclass_params__", "")
    if type(parameters).__name__ != "_DataclassParams":
        return repr(parameters)
    fields = ",".join(f"{name}={getattr(parameters, name)!r}" for name in _DATACLASS_PARAMETERS)
    return f"_DataclassParams({fields})"


def is_field_descriptor(name: str, value: object) -> bool:
    """Whether a class attribute is what Python itself puts there for a slot or a field."""
    if not isinstance(value, _FIELD_DESCRIPTOR_TYPES):
        return False
    return getattr(value, "__name__", name) == name  # else that of another slot


def is_derived(cls: type, name: str, value: object) -> bool:
    """Whether a class attribute is implied by the rest of the class or was added by a decorator,
    rather than written by the user."""
    if (
        isinstance(value, types.FunctionType)
        and is_dataclass(cls)
        and (value.__code__.co_filename == "<string>" or name == "__replace__")
    ):
        return DUNDER_NAME.fullmatch(name) is not None and is_generated(value)
    if isinstance(value, _METHOD_TYPES):
        return (
            issubclass(cls, tuple)
            and name in _NAMED_TUPLE_METHODS
            and is_generated(getattr(value, "__func__", value))
        )
    if (
        name in _DERIVED_ATTRIBUTES
        or (name == "__slots__" and (is_dataclass(cls) or value == ()))
        or (issubclass(cls, enum.Enum) and name.startswith("_") and name in _ENUM_ATTRIBUTES)
        or (name == "__match_args__" and is_dataclass(cls))
    ):
        return True
    # Python sets `__hash__` beside a method `__eq__`; a bare object is a decorator's mark
    return (name == "__hash__" and value is None and "__eq__" in vars(cls)) or (
        DUNDER_NAME.fullmatch(name) is not None and type(value) is object
    )


def required_keys(cls: type) -> dict[str, Any]:
    """The required keys of a TypedDict."""
    keys = vars(cls).get("__required_keys__")
    return {"required": sorted(keys)} if isinstance(keys, frozenset) else {}


def registered_classes(cls: type) -> list[type]:
    """The virtual subclasses of an abstract class."""
    references = abc._get_dump(cls)[0]  # type: ignore[attr-defined]  # no public way
    return [each for reference in references if (each := reference()) is not None]


@functools.cache
def abstract_bases() -> list[type]:
    """Python's own abstract classes for containers and numbers."""
    return [
        value
        for module in _ABSTRACT_MODULES
        for value in vars(module).values()
        if isinstance(value, abc.ABCMeta)
    ]


def flag_boundary(cls: type) -> dict[str, str]:
    """The boundary of a Flag enumeration, when it differs from that of Python's own class."""
    if not issubclass(cls, enum.Flag):
        return {}
    standard_class = next(base for base in cls.__mro__ if base.__module__ == enum.__name__)
    boundary = repr(getattr(cls, "_boundary_", None))
    return (
        {}
        if boundary == repr(getattr(standard_class, "_boundary_", None))
        else {"boundary": boundary}
    )


def changed_values(cls: type[enum.Enum]) -> list[tuple[Any, str]]:
    """The numbers and texts for which an enumeration returns another member than the one that has
    the value, because its table was changed."""
    by_value = getattr(cls, "_value2member_map_", {})
    plain = [(v, m) for v, m in by_value.items() if type(v) in (int, str)]
    found = [(v, str(m.name)) for v, m in plain if (type(v), v) != (type(m._value_), m._value_)]
    return found + [
        (m._value_, "absent")
        for m in cls
        if type(m._value_) in (int, str) and m._value_ not in by_value
    ]


def member_attributes(member: enum.Enum) -> dict[str, Any]:
    """What the user or a method of the enumeration set on a member."""
    return {
        name: value
        for name, value in vars(member).items()
        if name not in _MEMBER_ATTRIBUTES and not (name == "name" or DUNDER_NAME.fullmatch(name))
    }


def changed_types(cls: type) -> dict[str, str]:
    """The types of the fields of a dataclass that are no longer those of its annotations."""
    annotations = vars(cls).get("__annotations__", {})
    fields = vars(cls).get("__dataclass_fields__", {}) if is_dataclass(cls) else {}
    return {
        name: str(field.type)
        for name, field in fields.items()
        if name in annotations and field.type is not annotations[name]
    }


def field_value(value: object, name: str) -> Any:
    """The value of a field, whatever the class answers; None for a field without one."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return None


def own_attributes(
    attributes: Mapping[str, Any], copied: Mapping[str, Any] = types.MappingProxyType({})
) -> dict[str, Any]:
    """The attributes of an object of Python's that the user set, but for those copied from another
    object."""
    return {
        name: value
        for name, value in attributes.items()
        if not (DUNDER_NAME.fullmatch(name) or name == "cache_parameters")
        and copied.get(name) is not value
    }


def attributes_of(value: object) -> dict[str, Any]:
    """The attributes of an object, with those in slots of classes of the user's own."""
    slots = {
        name
        for cls in type(value).__mro__
        if not is_library(cls.__module__)
        for name, member in vars(cls).items()
        if isinstance(member, types.MemberDescriptorType)
    }
    return {name: getattr(value, name) for name in sorted(slots) if hasattr(value, name)} | {
        **getattr(value, "__dict__", {})
    }


def is_generated(value: object) -> bool:
    """Whether a function was generated by Python or belongs to a library. Code that a user passes
    to `exec` has the file name of generated code, but not its names."""
    if not isinstance(value, types.FunctionType):
        return False
    code = value.__code__
    return is_library_file(code.co_filename) or (
        code.co_filename == "<string>"
        and (
            code.co_qualname.startswith("__create_fn__.<locals>.")
            or str(value.__globals__.get("__name__")).startswith("namedtuple_")
        )
    )


def replaced_defaults(cls: type) -> dict[str, Any] | None:
    """The argument defaults of the generated constructor of a dataclass or named tuple, when they
    were replaced after the class was created; else None."""
    constructor: Any
    if is_dataclass(cls):
        constructor = vars(cls).get("__init__")
        created = {
            f.name: _default_argument(f) for f in vars(cls).get("__dataclass_fields__", {}).values()
        }
    else:
        constructor = getattr(vars(cls).get("__new__"), "__func__", None)
        created = getattr(cls, "_field_defaults", {})
    if not is_generated(constructor):
        return None
    code = constructor.__code__
    defaults = dict(
        zip(
            reversed(code.co_varnames[: code.co_argcount]),
            reversed(constructor.__defaults__ or ()),
            strict=False,
        )
    ) | (constructor.__kwdefaults__ or {})
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    absent = dataclasses.MISSING
    is_changed = any(defaults.get(n, absent) is not created.get(n, absent) for n in parameters)
    return defaults if is_changed else None


def _default_argument(field: "dataclasses.Field[Any]") -> Any:
    """What the generated `__init__` has as the default of a field."""
    if field.default_factory is dataclasses.MISSING:
        return field.default
    return dataclasses._HAS_DEFAULT_FACTORY  # type: ignore[attr-defined]  # no public way
