"""Digest of a Python function: its source plus the current values and helper functions that it
names.

The walk follows functions and classes of the user's own code through globals, closures, defaults
and attributes. Modules, the standard library and installed packages are recorded by name only. A
value without a comparable form (a connection, a model) is refused.
"""

import abc
import builtins
import contextlib
import dataclasses
import dis
import enum
import functools
import types
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import msgspec

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.producers.class_members import (
    DUNDER_NAME,
    abstract_bases,
    attributes_of,
    changed_types,
    changed_values,
    dataclass_settings,
    field_value,
    flag_boundary,
    foreign_metaclass,
    is_dataclass,
    is_derived,
    is_field_descriptor,
    is_generated,
    member_attributes,
    own_attributes,
    registered_classes,
    replaced_defaults,
    required_keys,
    struct_settings,
)
from jammi_lab.producers.definition_changes import note_function
from jammi_lab.producers.function_source import (
    InlineSource,
    NoSource,
    constant_form,
    function_form,
    is_library,
    nested_codes,
)
from jammi_lab.producers.library_names import (
    ALIAS_ATTRIBUTES,
    has_hidden_parts,
    has_own_parts,
    is_alias,
    is_foreign,
    library_name,
    text_attribute,
)
from jammi_lab.producers.value_forms import (
    hidden_parts,
    is_array,
    is_plain_proxy,
    memory_owner,
    text_form,
)
from jammi_lab.sources.frames import is_frame

_MUTABLE_TYPES = (list, dict, set, bytearray, types.SimpleNamespace)


_FIELD_DEFAULTS = {"init": True, "repr": True, "hash": None, "compare": True, "kw_only": False}
"""Field options of a dataclass at their defaults."""


_BUILTIN_METHOD_TYPES = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


def function_digest(function: Callable[..., Any], inline_source: InlineSource | None = None) -> str:
    """SHA-256 of everything that determines what the function computes.

    Raises NoSource, with the reason as a clause, when the function cannot be fingerprinted."""
    if not isinstance(function, types.FunctionType):
        raise NoSource(
            f"{_display_name(function)} is a {type(function).__name__}, not a function with source "
            "code"
        )
    walk = _FunctionWalk(function.__module__ or "")
    try:
        form = walk.function(function, inline_source)
        digest = digest_of(["function-1", form, *walk.shared_objects()])
        note_function(digest, function.__name__, form)
        return digest
    except RecursionError:
        raise NoSource("the values that it names are nested too deeply") from None


class _FunctionWalk:
    """One pass over everything that a function names. Functions and classes met before are recorded
    by number, which also ends cycles."""

    def __init__(self, module: str) -> None:
        self._package = module.partition(".")[0] if is_library(module) else None
        self._numbers: dict[int, int] = {}
        self._keep_alive: list[object] = []
        self._open_ids: set[int] = set()
        self._places: dict[int, dict[Hashable, None]] = {}

    def function(
        self, function: types.FunctionType, inline_source: InlineSource | None = None
    ) -> Any:
        """JSON of the body, the defaults and the values of all names of a function."""
        if (number := self._known_number(function)) is not None:
            return number
        where = function.__qualname__
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return {
            "says": function_form(function, inline_source),
            "defaults": self._named_values(enumerate(function.__defaults__ or ()), where, function),
            "keywords": self._named_values(
                (function.__kwdefaults__ or {}).items(), where, function
            ),
            "globals": {
                name: self._global_form(function, name, where)
                for name in sorted(_global_names(function))
            },
            "cells": {
                name: self._cell_form(cell, f"{name}, which {where} uses") for name, cell in cells
            },
            "attributes": self._named_values(
                sorted(
                    (n, v) for n, v in vars(function).items() if not _is_in_closure(function, v)
                ),
                where,
                function,
            ),
        }

    def shared_objects(self) -> list[Any]:
        """Which objects have several names or places, so that a change of one is a change of the
        other: groups of places, numbered as they were met. Empty if there are none."""
        numbers = {
            place: i for i, place in enumerate(p for at in self._places.values() for p in at)
        }
        groups = [[numbers[place] for place in at] for at in self._places.values() if len(at) > 1]
        return [groups] if groups else []

    def _note_place(self, value: Any, place: Hashable) -> None:
        """Note that an object that can change, or a bare `object()`, is at a place."""
        owner = memory_owner(value)
        if (
            isinstance(owner, _MUTABLE_TYPES)
            or type(owner) is object
            or is_dataclass(type(owner))
            or is_array(owner)
        ):
            self._keep_alive.append(owner)
            self._places.setdefault(id(owner), {})[place] = None

    def value(self, value: Any, where: str, place: Hashable = None) -> Any:
        """JSON of one value; different values give different JSON. `place` is the variable or item
        that refers to it. Raises NoSource for a value without a comparable form."""
        if place is not None:
            self._note_place(value, place)
        if value is None or type(value) in (bool, int, float, str, bytes):
            return constant_form(value)
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if (form := self._code_form(value, where)) is not None:
            return form
        if (form := text_form(value)) is not None:
            return [type(value).__name__, *form, *self._extra_state(value, where)]
        if id(value) in self._open_ids:
            return ["circle"]
        self._open_ids.add(id(value))
        form = self._container_form(value, where)
        self._open_ids.discard(id(value))
        if form is None:
            raise NoSource(_refusal_reason(value, where))
        return form

    def _extra_state(self, value: Any, where: str) -> list[Any]:
        """Additional state of a value with a known form: the class and attributes of a user-defined
        subclass, or of an array with a unit. Empty for most values."""
        kind = type(value)
        parts = [self.value(part, where) for part in hidden_parts(value)]
        if is_library(kind.__module__) and not (
            hasattr(value, "dtype") and kind.__module__.partition(".")[0] != "numpy"
        ):
            return parts
        return [
            *parts,
            self.value(kind, where),
            *self._attribute_forms(attributes_of(value), where),
        ]

    def _known_number(self, value: object) -> Any:
        """The number of a function or class that was met before. A new one gets the next number;
        the result is then None."""
        if id(value) in self._numbers:
            return ["met", self._numbers[id(value)]]
        self._numbers[id(value)] = len(self._numbers)
        self._keep_alive.append(value)  # keeps the object alive, so its id stays unique
        return None

    def _code_form(self, value: Any, where: str) -> Any:
        """JSON of functions, classes and their wrappers; None for any other value."""
        if is_alias(value) and (own_parts := self._own_parts(value, where)):
            return ["alias", type(value).__name__, own_parts]
        if (name := library_name(value, self._package)) is not None:
            return ["named", name]
        match value:
            case types.FunctionType():
                return ["function", self.function(value)]
            case type():
                return ["class", self._known_number(value) or self._class_form(value)]
            case types.MethodType():
                return [
                    "method",
                    self.value(value.__self__, where),
                    self.value(value.__func__, where),
                ]
            case _ if isinstance(value, _BUILTIN_METHOD_TYPES):
                return ["method of", self.value(value.__objclass__, where), value.__name__]
        return self._wrapper_form(value, where)

    def _wrapper_form(self, value: Any, where: str) -> Any:
        """JSON of an object of Python's around a function; None for any other value."""
        match value:
            case functools.partial():
                return [
                    "partial",
                    self.value(value.func, where),
                    self._named_values(enumerate(value.args), where),
                    self._named_values(value.keywords.items(), where),
                    *(self._extra_state(value, where) or self._attribute_forms(vars(value), where)),
                ]
            case staticmethod() | classmethod():
                return [
                    type(value).__name__,
                    self.value(value.__func__, where),
                    *self._extra_state(value, where),
                ]
            case property():
                return [
                    "property",
                    [self.value(f, where) for f in (value.fget, value.fset, value.fdel)],
                    *self._extra_state(value, where),
                ]
            case functools.cached_property():
                return [
                    "cached_property",
                    self.value(value.func, where),
                    *self._extra_state(value, where),
                ]
        if type(value).__module__ == "functools" and hasattr(value, "cache_parameters"):
            settings = own_attributes(vars(value), getattr(value.__wrapped__, "__dict__", {})) | (
                value.cache_parameters()
            )
            is_plain = settings == {"maxsize": None, "typed": False}  # functools.cache
            return [
                "cached",
                self.value(value.__wrapped__, where),
                *([] if is_plain else self._attribute_forms(settings, where)),
            ]
        return None

    def _own_parts(self, alias: Any, where: str) -> list[Any]:
        """The parts of `list[C]` and the like, when a class or value of the user's own or the
        bound of a type variable is among them; otherwise empty, and the alias is known by its
        text."""
        if id(alias) in self._open_ids:
            return ["circle"]
        self._open_ids.add(id(alias))
        forms = [
            [name, self.value(part, where)]
            for name in ALIAS_ATTRIBUTES
            if (part := getattr(alias, name, None)) is not None
        ]
        given = {} if type(alias).__name__ != "NewType" else own_attributes(vars(alias))
        forms += self._attribute_forms(given, where)
        self._open_ids.discard(id(alias))
        return forms if given or has_own_parts(forms) or has_hidden_parts(alias) else []

    def _class_form(self, cls: type) -> Any:
        """JSON of a class: its members, bases and fields. Its source text does not matter beyond
        those."""
        where = cls.__qualname__
        if (metaclass := foreign_metaclass(cls)) is not None:
            raise NoSource(f"the class {where} is made by {metaclass} and cannot be compared")
        members: dict[str, Any] = {}
        for name, value in sorted(vars(cls).items()):
            if is_field_descriptor(name, value) or is_derived(cls, name, value):
                continue
            if name == "_generate_next_value_" and isinstance(value, staticmethod):
                # Python 3.12 wraps it even when the source has no decorator
                value = value.__func__  # noqa: PLW2901
            try:
                members[name] = self.value(value, f"{name}, which {where} has", (id(cls), name))
            except NoSource:
                # a method that a dataclass decorator generated from the fields needs no source
                if not (DUNDER_NAME.fullmatch(name) and is_dataclass(cls) and is_generated(value)):
                    raise
        fields = (
            [
                (f.name, self._field_default(f, where), *self._field_options(f, where))
                for f in dataclasses.fields(cls)
            ]
            if is_dataclass(cls)
            else []
        )
        tuple_fields = getattr(cls, "_fields", ())
        return {
            "name": where,
            "bases": [self.value(base, where) for base in cls.__bases__],
            "made by": self.value(type(cls), where),
            "members": members,
            "annotations": [
                [n, str(kind)] for n, kind in vars(cls).get("__annotations__", {}).items()
            ],
            "fields": fields,
            "settings": dataclass_settings(cls),
            "names": [*tuple_fields] if isinstance(tuple_fields, tuple | list) else [],
            "enumerated": self._enum_members(cls, where) if issubclass(cls, enum.Enum) else [],
            **flag_boundary(cls),
            **self._virtual_bases(cls, where),
            **self._generic_bases(cls, where),
            **required_keys(cls),
            **self._struct_form(cls, where),
            **self._replaced_defaults(cls, where),
            **({"types": types_now} if (types_now := changed_types(cls)) else {}),
        }

    def _struct_form(self, cls: type, where: str) -> dict[str, Any]:
        """The fields of a msgspec.Struct, which none of its attributes holds."""
        if not issubclass(cls, msgspec.Struct):
            return {}
        fields = [
            [f.name, f.encode_name, self._field_default(f, where)]
            for f in msgspec.structs.fields(cls)
        ]
        return {"struct": [fields, struct_settings(cls)]}

    def _replaced_defaults(self, cls: type, where: str) -> dict[str, Any]:
        """The defaults of a generated constructor that were changed in place."""
        defaults = replaced_defaults(cls)
        return {} if defaults is None else {"defaults": self._named_values(defaults.items(), where)}

    def _generic_bases(self, cls: type, where: str) -> dict[str, Any]:
        """The bases with their parameters, when these contain classes of the user's own."""
        aliases = vars(cls).get("__orig_bases__", ())
        forms = [self.value(alias, where) for alias in aliases if is_alias(alias)]
        own_forms = [form for form in forms if form[0] == "alias"]
        return {"generic bases": own_forms} if own_forms else {}

    def _virtual_bases(self, cls: type, where: str) -> dict[str, Any]:
        """What was registered with an abstract class, and the abstract classes of Python with which
        the class was registered."""
        registered = registered_classes(cls) if isinstance(cls, abc.ABCMeta) else []
        bases = [base for base in abstract_bases() if cls in registered_classes(base)]
        return {
            key: sorted(digest_of(_FunctionWalk("").value(c, where)) for c in classes)
            for key, classes in (("registered", registered), ("registered with", bases))
            if classes
        }

    def _enum_members(self, cls: type[enum.Enum], where: str) -> list[Any]:
        members = [
            [
                m.name,
                self.value(m.value, where),
                *self._attribute_forms(member_attributes(m), where),
            ]
            for m in cls
        ]
        return members + [[self.value(v, where), name] for v, name in changed_values(cls)]

    def _attribute_forms(self, attributes: Mapping[str, Any], where: str) -> list[Any]:
        """Further attributes of an object, as a list with one element; empty when there are
        none."""
        return [self._named_values(sorted(attributes.items()), where)] if attributes else []

    def _field_options(self, field: "dataclasses.Field[Any]", where: str) -> list[Any]:
        """Field options other than the default value, such as `compare=False`; empty for most."""
        options = [
            [name, getattr(field, name)]
            for name, default in _FIELD_DEFAULTS.items()
            if getattr(field, name) is not default
        ]
        return [options] * bool(options) + self._attribute_forms(field.metadata, where)

    def _field_default(
        self, field: "dataclasses.Field[Any] | msgspec.structs.FieldInfo", where: str
    ) -> Any:
        absent = {id(dataclasses.MISSING), id(msgspec.NODEFAULT)}
        defaults = [v for v in (field.default, field.default_factory) if id(v) not in absent]
        return [self.value(v, where) for v in defaults]

    def _container_form(self, value: Any, where: str) -> Any:
        """JSON of a container; None for any other value."""
        kind = type(value)
        if isinstance(value, enum.Enum):
            return ["member", self.value(kind, where), value.name]
        if is_dataclass(kind):
            names = [f.name for f in dataclasses.fields(value)]
            attributes = {
                name: items for name, items in attributes_of(value).items() if name not in names
            }
            field_values = [
                self.value(field_value(value, name), where, (id(value), name)) for name in names
            ]
            return [
                "instance",
                self.value(kind, where),
                field_values,
                *self._attribute_forms(attributes, where),
            ]
        if kind in (list, tuple):
            return [kind.__name__, self._item_forms(value, where, id(value))]
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return [
                kind.__name__,
                self._item_forms(tuple.__iter__(value), where, id(value)),
                self.value(kind, where),
                *self._attribute_forms(attributes_of(value), where),
            ]
        if kind in (set, frozenset):
            return [
                kind.__name__,
                sorted(digest_of(_FunctionWalk("").value(v, where)) for v in value),
            ]
        if kind in (dict, types.SimpleNamespace) or is_plain_proxy(value):
            items: Mapping[Any, Any] = vars(value) if kind is types.SimpleNamespace else value
            return [
                kind.__name__,
                [
                    [self.value(k, where), self.value(v, where, (id(value), i))]
                    for i, (k, v) in enumerate(items.items())
                ],
            ]
        return None

    def _item_forms(self, values: Iterable[Any], where: str, owner: int) -> list[Any]:
        return [self.value(v, where, (owner, i)) for i, v in enumerate(values)]

    def _named_values(self, pairs: Any, where: str, owner: object = None) -> Any:
        return [
            [
                str(name),
                self.value(
                    value,
                    f"{name}, which {where} has",
                    None if owner is None else (id(owner), str(name)),
                ),
            ]
            for name, value in pairs
        ]

    def _global_form(self, function: types.FunctionType, name: str, where: str) -> Any:
        if name in function.__globals__:
            place = (id(function.__globals__), name)
            return self.value(function.__globals__[name], f"{name}, which {where} names", place)
        if not hasattr(builtins, name):
            return ["absent"]
        builtin = getattr(builtins, name)  # user code may have replaced it
        is_user_function = isinstance(builtin, types.FunctionType) and not is_foreign(
            builtin.__module__ or "", self._package
        )
        return [
            "builtin",
            name,
            *([self.value(builtin, f"{name}, which {where} names")] if is_user_function else []),
        ]

    def _cell_form(self, cell: types.CellType, where: str) -> Any:
        try:
            return self.value(cell.cell_contents, where, id(cell))
        except ValueError:
            return ["empty"]


def _global_names(function: types.FunctionType) -> set[str]:
    """The global names that a function looks up, without attributes and names that it imports
    itself."""
    loads = (
        i
        for code in nested_codes(function.__code__)
        for i in dis.get_instructions(code)
        if i.opname.startswith("LOAD")
    )
    return {i.argval for i in loads if "GLOBAL" in i.opname or i.opname == "LOAD_NAME"} - {
        "__name__",
        "__qualname__",
        "__module__",
    }


def _is_in_closure(function: types.FunctionType, value: object) -> bool:
    """Whether a function is a free variable of another, as the `__wrapped__` of most decorators."""
    with contextlib.suppress(ValueError):  # an empty cell
        return callable(value) and any(c.cell_contents is value for c in function.__closure__ or ())
    return False


def _refusal_reason(value: object, where: str) -> str:
    kind = type(value).__name__
    if is_frame(value):
        return f"the frame {where}, must be an input: register it and name it in inputs="
    return f"the {kind} {where}, cannot be compared by value"


def _display_name(value: object) -> str:
    return text_attribute(value, "__qualname__") or f"an object of {type(value).__qualname__}"
