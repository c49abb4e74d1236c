"""Digest of a Python function: its source plus the current values and helper functions that it
names.

The walk follows functions and classes of the user's own code through globals, closures, defaults
and members. Modules, the standard library and installed packages are recorded by name only. Plain
values, arrays and frames are compared by value; any other value is refused.
"""

import abc
import builtins
import collections.abc
import datetime
import decimal
import dis
import functools
import hashlib
import inspect
import io
import logging
import numbers
import pathlib
import pickle
import re
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.sources.frames import is_frame
from jammi_lab.steps.function_source import (
    InlineSource,
    NoSource,
    constant_form,
    function_form,
    is_library,
    is_library_file,
    nested_codes,
)

# --------------------------------------------------------------------------------------------------
# Comparable forms of what belongs to a class: its own members, and the fields that a dataclass has
# beside them. Enumerations, named tuples and classes of libraries such as msgspec are refused.

_METACLASSES = (type, abc.ABCMeta)
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
    """What a class has beside its members: the fields of a dataclass."""
    state = list[Any]()
    for field in vars(cls).get("__dataclass_fields__", {}).values():
        state.append([getattr(field, part) for part in _FIELD_PARTS])
        state.append([str(field.type), dict(field.metadata)])
    return state


# --------------------------------------------------------------------------------------------------
# Values that a Python function may name: their comparable forms, and the names under which
# libraries have their objects.

_CANONICAL_MODULES = {"pathlib._local": "pathlib"}
"""Modules that Python 3.13 names differently from other releases."""
_HEAP_TYPE_FLAG = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: the flag of classes created at run time."""
_LOGGER_ATTRIBUTES = vars(logging.Logger("")).keys() | {"manager"}  # noqa: LOG001
_PATH_TYPE = type(pathlib.Path())
_EAGER_FRAMES = ("DataFrame", "Table", "RecordBatch")
_NOT_IN_THE_ARRAY = "OVT"
"""Kinds of numpy types whose values lie elsewhere or have parts: objects, records, long texts."""


def value_parts(value: Any) -> list[Any] | None:
    """JSON of a value that has parts of a known type, and none that can change; None for any other
    value. A subclass of a known type has its own rules, and is none."""
    kind = type(value)
    if kind in _PARTS:
        return _PARTS[kind](value)
    is_moment = isinstance(value, datetime.date | datetime.time) and is_library(kind.__module__)
    return _moment_parts(value) if is_moment else None


def _moment_parts(value: Any) -> list[Any] | None:
    """A date or time of Python or pandas. None for one in a time zone that is not of Python, or was
    read from a file: the name of such a zone does not tell its rules."""
    zone = getattr(value, "tzinfo", None)
    if not (zone is None or is_library(type(zone).__module__)):
        return None
    try:
        pickle.dumps(zone)  # refuses a zone that was read from a file
    except pickle.PicklingError:
        return None
    unit = str(getattr(value, "unit", ""))  # of pandas
    return [value.isoformat(), repr(zone), getattr(value, "fold", 0), unit]


def _logger_parts(value: logging.Logger) -> list[Any] | None:
    return [value.name] if vars(value).keys() <= _LOGGER_ATTRIBUTES else None


def _by_text(value: object) -> list[Any]:
    return [repr(value)]


_PARTS: dict[type, Callable[[Any], list[Any] | None]] = {
    re.Pattern: lambda value: [constant_form(value.pattern), value.flags],
    logging.Logger: _logger_parts,
    **dict.fromkeys((decimal.Decimal, datetime.timedelta, datetime.timezone, range), _by_text),
    **dict.fromkeys((pathlib.PurePosixPath, pathlib.PureWindowsPath, _PATH_TYPE), _by_text),
}


def memory_owner(value: Any) -> Any:
    """The array whose memory a view shows; any other value itself."""
    numpy = sys.modules.get("numpy")
    while numpy is not None and isinstance(getattr(value, "base", None), numpy.ndarray):
        value = value.base
    return value


def array_parts(value: Any) -> list[Any] | None:
    """JSON of an array or scalar of numpy that holds its values itself; None for any other
    value."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not is_library(type(value).__module__):
        return None
    if not (type(value) is numpy.ndarray or isinstance(value, numpy.generic)):
        return None
    if value.dtype.kind in _NOT_IN_THE_ARRAY or value.dtype.metadata:
        return None
    form = [value.dtype.str, [*value.shape], _digest(numpy.ascontiguousarray(value).tobytes())]
    if not value.flags.c_contiguous:  # another order can change the last bits of a sum
        form.append([*value.strides])
    return form


class _LibraryPickler(pickle.Pickler):
    """Pickles objects of libraries alone: those of the user's own classes are pickled without the
    code of their class."""

    def reducer_override(self, value: Any) -> Any:
        """Refuse a value of the user's own. Raises PicklingError."""
        if not is_library(getattr(value, "__module__", None) or type(value).__module__):
            raise pickle.PicklingError(f"a {type(value).__name__} is not an object of a library")
        return NotImplemented


def frame_parts(value: Any) -> list[Any] | None:
    """JSON of a frame of pandas, polars or pyarrow with everything that belongs to it, such as its
    index; None for any other value, and for a frame with values of the user's own classes."""
    kind = type(value)
    if not (is_frame(value) and is_library(kind.__module__) and kind.__name__ in _EAGER_FRAMES):
        return None
    # pandas joins the columns of a frame in memory at times, and always those of a copy
    frame = value.copy() if hasattr(value, "copy") else value
    sink = io.BytesIO()
    try:
        _LibraryPickler(sink, protocol=5).dump(frame)
    except Exception:  # noqa: BLE001  libraries raise errors of their own
        return None
    return [_digest(sink.getvalue())]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def library_name(value: Any, package: str | None) -> str | None:
    """`module:name` under which a library has this very object; None when none has it. `package`: a
    package of a library that counts as the user's own."""
    module, name = text_attribute(value, "__module__"), text_attribute(value, "__qualname__")
    is_definition = isinstance(value, types.FunctionType | type)
    if is_definition and module is not None and name is not None:
        if not is_foreign(module, package):
            return None
        is_static = isinstance(value, type) and not value.__flags__ & _HEAP_TYPE_FLAG
        if is_static or _attribute(module, name) is value:
            return f"{_CANONICAL_MODULES.get(module, module)}:{name}"
    for owner in (module, type(value).__module__):
        if owner is None or not is_foreign(owner, package):
            continue
        for place in (owner, owner.partition(".")[0]):
            for exported, attribute in [*vars(sys.modules.get(place, types)).items()]:
                if attribute is value:
                    return f"{place}:{exported}"
    return None


def _attribute(module: str, name: str) -> Any:
    """What a module has under a qualified name; None when it has nothing."""
    target: Any = sys.modules.get(module)
    for part in name.split("."):
        target = getattr(target, part, None)
    return target


def is_foreign(module: str, package: str | None) -> bool:
    """Whether a module is of a library, and not of the package."""
    return is_library(module) and (package is None or module.partition(".")[0] != package)


def text_attribute(value: object, name: str) -> str | None:
    """An attribute when it is a string. Objects with `__getattr__` may return anything."""
    attribute = getattr(value, name, None)
    return attribute if isinstance(attribute, str) else None


# --------------------------------------------------------------------------------------------------
# The digest of a function.

_CONSTANT_TYPES = (types.NoneType, bool, int, float, str, bytes)
_CACHE_TYPE = type(functools.cache(len))
_COPIED_BY_CACHES = {*functools.WRAPPER_ASSIGNMENTS, "__wrapped__", "cache_parameters"}
# as they are without what user code binds there, which is compared like any global
_BUILTINS = {
    name: value
    for name, value in vars(builtins).items()
    if value is NotImplemented
    or value is Ellipsis
    or is_library(text_attribute(value, "__module__") or "__main__")
}
_NAMES_OF_THE_PLACE = {"__name__", "__qualname__", "__module__"}


def function_digest(function: Callable[..., Any], inline_source: InlineSource | None = None) -> str:
    """SHA-256 of everything that determines what the function computes.

    Raises NoSource, with the reason as a clause, when the function cannot be fingerprinted."""
    if not isinstance(function, types.FunctionType):
        name = text_attribute(function, "__qualname__") or "an object"
        kind = type(function).__name__
        raise NoSource(f"{name} is a {kind}, not a function with source code")
    walk = _FunctionWalk(function.__module__ or "")
    walk.number(function)
    try:
        return digest_of(["function-2", walk.function(function, inline_source)])
    except RecursionError:
        raise NoSource("the values that it names are nested too deeply") from None


class _FunctionWalk:
    """One pass over everything that a function names. What can change and was met before is
    recorded by number: that ends circles, and tells one object under two names from two objects."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._package = module.partition(".")[0] if is_library(module) else None
        self._numbers: dict[int, int] = {}
        self._keep_alive: list[object] = []

    def number(self, value: object) -> list[Any]:
        """JSON of the number of an object, which is the next one for a new object."""
        self._keep_alive.append(value)  # its id stays unique
        return ["met", self._numbers.setdefault(id(value), len(self._numbers))]

    def function(
        self, function: types.FunctionType, inline_source: InlineSource | None = None
    ) -> dict[str, Any]:
        """JSON of the body, the defaults and the values of all names of a function."""
        where = function.__qualname__
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return {
            "says": function_form(function, inline_source),
            "defaults": self._named_values(enumerate(function.__defaults__ or ()), where),
            "keywords": self._named_values((function.__kwdefaults__ or {}).items(), where),
            "globals": {
                name: self._global_form(function, name) for name in sorted(global_names(function))
            },
            "cells": {name: self._cell_form(cell, name, where) for name, cell in cells},
            "attributes": self._named_values(sorted(vars(function).items()), where),
        }

    def value(self, value: Any, where: str) -> Any:
        """JSON of one value; different values give different JSON. Raises NoSource for a value
        without a comparable form."""
        kind = type(value)
        if kind in _CONSTANT_TYPES:
            return constant_form(value)
        if kind is types.ModuleType:
            return ["module", value.__name__]
        if (name := library_name(value, self._package)) is not None:
            return ["named", name]
        if (parts := value_parts(value)) is not None:
            return [kind.__name__, *parts]
        if (parts := array_parts(value)) is not None:
            return [kind.__name__, *parts, self.number(memory_owner(value))]
        if kind not in (tuple, frozenset):
            if id(value) in self._numbers:
                return self.number(value)
            self.number(value)
        form = self._code_form(value, where) or self._container_form(value, where)
        if form is None:
            raise NoSource(f"the {kind.__name__} {where}, cannot be compared by value")
        return form

    def _code_form(self, value: Any, where: str) -> Any:
        """JSON of functions, classes and Python's own objects around them; None for any other
        value. Those of a subclass, and partials with attributes, have none."""
        kind = type(value)
        if kind is types.FunctionType:
            return ["function", self.function(value)]
        if issubclass(kind, type):
            return ["class", self._class_form(value)]
        parts: tuple[Any, ...]
        if kind is types.MethodType:
            parts = (value.__self__, value.__func__)
        elif kind is functools.partial and not vars(value):
            parts = (value.func, value.args, value.keywords)
        elif kind in (staticmethod, classmethod):
            parts = (value.__func__,)
        elif kind is property:
            parts = (value.fget, value.fset, value.fdel)
        elif kind is functools.cached_property:
            parts = (value.func,)
        elif kind is _CACHE_TYPE:
            given = {n: v for n, v in vars(value).items() if n not in _COPIED_BY_CACHES}
            parts = (value.__wrapped__, value.cache_parameters(), given)
        else:
            return None
        return [kind.__name__, [self.value(part, where) for part in parts]]

    def _class_form(self, cls: type) -> dict[str, Any]:
        """JSON of a class: its bases, its members with the sources of its methods, its fields."""
        where = cls.__qualname__
        if reason := refusal_of_class(cls):
            raise NoSource(reason)
        try:
            annotations = inspect.get_annotations(cls).items()
        except Exception:  # noqa: BLE001  Python 3.14 evaluates them here, and code may fail
            raise NoSource(f"the annotations of {where} cannot be evaluated") from None
        return {
            "name": where,
            "made by": type(cls).__name__,
            "bases": [self.value(base, f"a base of {where}") for base in cls.__bases__],
            "members": self._named_values(own_members(cls).items(), where),
            "annotations": [[name, str(annotation)] for name, annotation in annotations],
            "hidden": self.value(hidden_state(cls), f"a field of {where}"),
        }

    def _container_form(self, value: Any, where: str) -> Any:
        """JSON of a container or a frame; None for any other value."""
        kind = type(value)
        if kind in (list, tuple):
            return [kind.__name__, [self.value(each, where) for each in value]]
        if kind is dict:
            items = [[self.value(k, where), self.value(v, where)] for k, v in value.items()]
            return [kind.__name__, items]
        if kind in (set, frozenset):
            # each in a walk of its own: they have no order
            forms = [_FunctionWalk(self._module).value(each, where) for each in value]
            return [kind.__name__, sorted(digest_of(form) for form in forms)]
        frame = frame_parts(value)
        return None if frame is None else [kind.__name__, *frame]

    def _named_values(self, pairs: Iterable[tuple[Any, Any]], where: str) -> list[Any]:
        return [
            [str(name), self.value(value, f"{name}, which {where} has")] for name, value in pairs
        ]

    def _global_form(self, function: types.FunctionType, name: str) -> Any:
        where = f"{name}, which {function.__qualname__} names"
        if name in function.__globals__:
            return self.value(function.__globals__[name], where)
        if not hasattr(builtins, name):
            return ["absent"]
        builtin = getattr(builtins, name)
        if builtin is _BUILTINS.get(name) and not isinstance(builtin, types.FunctionType):
            return ["builtin", name]
        return ["builtin", name, self.value(builtin, where)]

    def _cell_form(self, cell: types.CellType, name: str, where: str) -> Any:
        try:
            contents = cell.cell_contents
        except ValueError:
            return ["empty"]
        return self.value(contents, f"{name}, which {where} uses")


def global_names(function: types.FunctionType) -> set[str]:
    """The global names that a function looks up, without attributes and names that it imports
    itself."""
    instructions = [
        instruction
        for code in nested_codes(function.__code__)
        for instruction in dis.get_instructions(code)
    ]
    loads = [i for i in instructions if i.opname.startswith("LOAD")]
    names = {i.argval for i in loads if "GLOBAL" in i.opname or i.opname == "LOAD_NAME"}
    return names - _NAMES_OF_THE_PLACE
