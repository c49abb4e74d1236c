"""The definition of a Python function as a digest: its source, and the values and helper functions that it names, as they are now.

Followed are functions and classes of the person's own code, through globals, closures, defaults and attributes. Modules are known by their names
only, and so is what comes from the standard library or an installed package. A value that has no form of its own (a connection, a model) is refused.
"""

import builtins
import dataclasses
import datetime
import decimal
import dis
import enum
import functools
import hashlib
import logging
import pathlib
import re
import sys
import sysconfig
import types
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jammi_lab.canonical import digest_of
from jammi_lab.producers.sourcetree import NoSource, Written, codes, constant, says
from jammi_lab.sources.frames import is_frame

_OURS = frozenset({"jammi_lab", "jammi_kernel_ext", "jammi_widgets"})
_STDLIB = pathlib.Path(sysconfig.get_path("stdlib"))
_AS_TEXT = (decimal.Decimal, uuid.UUID, pathlib.PurePath, datetime.timedelta, datetime.tzinfo, range, slice, complex, types.EllipsisType)
_SPECIAL = re.compile(r"__\w+__")
_OF_ENUMS = re.compile(r"_\w+_")
"""Attributes that only Python gives to an enumeration."""
_FOLLOWS = frozenset(
    {
        *("__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__", "__slots__", "__type_params__", "_abc_impl"),
        *("__annotations__", "__annotations_cache__", "__orig_bases__", "__parameters__", "__abstractmethods__", "__protocol_attrs__"),
        *("__required_keys__", "__optional_keys__", "__readonly_keys__", "__mutable_keys__", "__total__", "__dataclass_fields__"),
    }
)
"""Attributes of a class that say where it stands, or follow from the rest."""
_OF_NAMED_TUPLES = frozenset({"__new__", "__repr__", "__getnewargs__", "__replace__", "_make", "_replace", "_asdict"})
_MOVED = {"pathlib._local": "pathlib"}
"""Where Python 3.13 keeps what other releases keep under another name."""
_SETTINGS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
"""What a dataclass was asked for that shapes its values: what later releases say beyond that is said by its fields and methods."""
_PLAIN = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset)
_METHODS = (types.FunctionType, classmethod, staticmethod, property)


_USUAL = {"init": True, "repr": True, "hash": None, "compare": True, "kw_only": False}
"""What a field of a dataclass does that was asked for nothing."""


_MADE = 1 << 9
"""The flag of a class that was made while Python ran (Py_TPFLAGS_HEAPTYPE)."""


class _One(NamedTuple):
    field: int


_DESCRIPTORS = (
    *(types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType),
    type(vars(_One)["field"]),
)


def function_digest(function: Callable[..., Any], written: Written | None = None) -> str:
    """The digest of what a function says. NoSource, with a clause, when that cannot be told."""
    if not isinstance(function, types.FunctionType):
        raise NoSource(f"{_called(function)} is a {type(function).__name__} and no function with a source")
    walk = _Walk(function.__module__ or "")
    try:
        return digest_of(["function-1", walk.function(function, written)])
    except RecursionError:
        raise NoSource("what it names is nested too deeply") from None


def is_library(module: str) -> bool:
    """Whether a module belongs to Python, to an installed package or to jammi_lab: it is known by its name and not followed."""
    if module == "__main__":  # whatever was started: a notebook's variables live there
        return False
    if module.partition(".")[0] in _OURS:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module.partition(".")[0] in sys.stdlib_module_names or module in sys.modules
    return of_library(file)


def of_library(file: str | None) -> bool:
    """Whether a file belongs to Python or to an installed package; what has none does."""
    if file is None or file in ("built-in", "frozen"):
        return True
    path = pathlib.Path(file)
    return path.is_relative_to(_STDLIB) or not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


class _Walk:
    """One pass over all that a function names; what was met before is named by its number."""

    def __init__(self, module: str) -> None:
        self._package = module.partition(".")[0] if is_library(module) else None
        self._seen: dict[int, int] = {}
        self._held: list[object] = []
        self._open: set[int] = set()

    def function(self, function: types.FunctionType, written: Written | None = None) -> Any:
        """Body, defaults, and what its names stand for."""
        if (met := self._met(function)) is not None:
            return met
        where = function.__qualname__
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return {
            "says": says(function, written),
            "defaults": self._values(enumerate(function.__defaults__ or ()), where),
            "keywords": self._values((function.__kwdefaults__ or {}).items(), where),
            "globals": {name: self._global(function, name, where) for name in sorted(_global_names(function))},
            "cells": {name: self._cell(cell, f"{name}, which {where} uses") for name, cell in cells},
            "attributes": self._values(sorted((n, v) for n, v in vars(function).items() if n != "__wrapped__"), where),
        }

    def value(self, value: Any, where: str) -> Any:
        """One value as JSON that differs when it does. NoSource for one that has no such form."""
        if value is None or type(value) in (bool, int, float, str, bytes):
            return constant(value)
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if (found := self._code(value, where)) is not None:
            return found
        if (found := _text_form(value)) is not None:
            return [type(value).__name__, *found, *self._beyond(value, where)]
        if id(value) in self._open:
            return ["circle"]
        self._open.add(id(value))
        found = self._container(value, where)
        self._open.discard(id(value))
        if found is None:
            raise NoSource(_refusal(value, where))
        return found

    def _beyond(self, value: Any, where: str) -> list[Any]:
        """What a value of a known form is beside that: an object of the person's own class, or an array with a unit; nothing for most."""
        kind = type(value)
        if is_library(kind.__module__) and not (hasattr(value, "dtype") and kind.__module__.partition(".")[0] != "numpy"):
            return []
        return [self.value(kind, where), *self._besides(getattr(value, "__dict__", {}), where)]

    def _met(self, value: object) -> Any:
        """The number of a function or class that was met before; None for one that is new, which then has one."""
        if id(value) in self._seen:
            return ["met", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._held.append(value)  # so that no other object gets its id meanwhile
        return None

    def _code(self, value: Any, where: str) -> Any:
        """Functions, classes and what wraps them; None for anything else."""
        if (named := self._by_name(value)) is not None:
            return ["named", named]
        match value:
            case types.FunctionType():
                return ["function", self.function(value)]
            case type():
                return ["class", self._met(value) or self._class(value)]
            case functools.partial():
                return [
                    "partial",
                    self.value(value.func, where),
                    self._values(enumerate(value.args), where),
                    self._values(value.keywords.items(), where),
                    *self._besides(vars(value), where),
                ]
            case types.MethodType():
                return ["method", self.value(value.__self__, where), self.value(value.__func__, where)]
            case staticmethod() | classmethod():
                return [type(value).__name__, self.value(value.__func__, where)]
            case property():
                return ["property", [self.value(f, where) for f in (value.fget, value.fset, value.fdel)]]
            case functools.cached_property():
                return ["cached_property", self.value(value.func, where)]
        if type(value).__module__ == "functools" and hasattr(value, "__wrapped__"):  # what functools.cache makes
            return ["cached", self.value(value.__wrapped__, where)]
        return None

    def _by_name(self, value: Any) -> str | None:
        """`module:name` of what belongs to a library or to Python; None for the person's own."""
        if type(value).__module__ == "typing" or isinstance(value, types.GenericAlias | types.UnionType):
            return repr(value)
        module, name = _text(value, "__module__"), _text(value, "__qualname__")
        if isinstance(value, types.FunctionType | type):
            if module is None or name is None or not self._foreign(module):
                return None
            closed = isinstance(value, types.FunctionType) and value.__closure__ is not None
            if "<locals>" not in name and not closed and not _borrowed(value, module, name):
                return f"{_MOVED.get(module, module)}:{name}"
        for home in (module, type(value).__module__):
            if home is not None and self._foreign(home) and (found := _kept_in(home, value)) is not None:
                return found
        return None

    def _foreign(self, module: str) -> bool:
        return is_library(module) and (self._package is None or module.partition(".")[0] != self._package)

    def _class(self, cls: type) -> Any:
        """The functions, values and bases of a class; its text does not matter beyond them."""
        where = cls.__qualname__
        members: dict[str, Any] = {}
        for name, value in sorted(vars(cls).items()):
            if isinstance(value, _DESCRIPTORS) or _follows(cls, name, value):
                continue
            if name == "_generate_next_value_" and isinstance(value, staticmethod):  # as Python 3.12 keeps what was written without it
                value = value.__func__  # noqa: PLW2901
            try:
                members[name] = self.value(value, f"{name}, which {where} has")
            except NoSource:
                if not (_SPECIAL.fullmatch(name) and _is_dataclass(cls) and _by_python(value)):  # a decorator wrote it from the fields
                    raise
        fields = [(f.name, self._default(f, where), *self._asked(f, where)) for f in dataclasses.fields(cls)] if _is_dataclass(cls) else []
        named = getattr(cls, "_fields", ())
        return {
            "name": where,
            "bases": [self.value(base, where) for base in cls.__bases__],
            "made by": self.value(type(cls), where),
            "members": members,
            "annotations": [[n, str(kind)] for n, kind in vars(cls).get("__annotations__", {}).items()],
            "fields": fields,
            "settings": _settings(cls),
            "names": [*named] if isinstance(named, tuple | list) else [],
            "enumerated": [self._member(m, where) for m in cls] if issubclass(cls, enum.Enum) else [],
            **_boundary(cls),
        }

    def _member(self, member: enum.Enum, where: str) -> Any:
        given = {name: value for name, value in vars(member).items() if not (_OF_ENUMS.fullmatch(name) or name == "name")}
        return [member.name, self.value(member.value, where), *self._besides(given, where)]

    def _besides(self, given: Mapping[str, Any], where: str) -> list[Any]:
        """What an object was given beside what makes it; nothing for most."""
        return [self._values(sorted(given.items()), where)] if given else []

    def _asked(self, field: "dataclasses.Field[Any]", where: str) -> list[Any]:
        """What was asked of a field beside its default: `compare=False`, say; nothing for most."""
        asked = [[name, getattr(field, name)] for name, usual in _USUAL.items() if getattr(field, name) is not usual]
        return [asked] * bool(asked) + self._besides(field.metadata, where)

    def _default(self, field: "dataclasses.Field[Any]", where: str) -> Any:
        given = [v for v in (field.default, field.default_factory) if v is not dataclasses.MISSING]
        return [self.value(v, where) for v in given]

    def _container(self, value: Any, where: str) -> Any:
        """What holds other values; None for anything else."""
        kind = type(value)
        if isinstance(value, enum.Enum):
            return ["member", self.value(kind, where), value.name]
        if _is_dataclass(kind):
            names = [f.name for f in dataclasses.fields(value)]
            given = {name: held for name, held in getattr(value, "__dict__", {}).items() if name not in names}
            said = [self.value(getattr(value, name, None), where) for name in names]
            return ["instance", self.value(kind, where), said, *self._besides(given, where)]
        if kind in (list, tuple):
            return [kind.__name__, [self.value(v, where) for v in value]]
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return [kind.__name__, [self.value(v, where) for v in value], self.value(kind, where)]
        if kind in (set, frozenset):
            return [kind.__name__, sorted(digest_of(_Walk("").value(v, where)) for v in value)]
        if kind is dict or kind in (types.MappingProxyType, types.SimpleNamespace):
            held: Mapping[Any, Any] = vars(value) if kind is types.SimpleNamespace else value
            return [kind.__name__, [[self.value(k, where), self.value(v, where)] for k, v in held.items()]]
        return None

    def _values(self, pairs: Any, where: str) -> Any:
        return [[str(name), self.value(value, f"{name}, which {where} has")] for name, value in pairs]

    def _global(self, function: types.FunctionType, name: str, where: str) -> Any:
        if name in function.__globals__:
            return self.value(function.__globals__[name], f"{name}, which {where} names")
        if not hasattr(builtins, name):
            return ["absent"]
        found = getattr(builtins, name)  # a person may have put a function of his own there
        own = isinstance(found, types.FunctionType) and not self._foreign(found.__module__ or "")
        return ["builtin", name, *([self.value(found, f"{name}, which {where} names")] if own else [])]

    def _cell(self, cell: types.CellType, where: str) -> Any:
        try:
            return self.value(cell.cell_contents, where)
        except ValueError:
            return ["empty"]


def _global_names(function: types.FunctionType) -> set[str]:
    """The names that a function looks up outside itself; attributes and the names of what it imports are not among them."""
    loads = (i for code in codes(function.__code__) for i in dis.get_instructions(code) if i.opname.startswith("LOAD"))
    return {i.argval for i in loads if "GLOBAL" in i.opname or i.opname == "LOAD_NAME"} - {"__name__", "__qualname__", "__module__"}


def _is_dataclass(cls: type) -> bool:
    """Whether it is one; a metaclass may answer to any name."""
    return isinstance(getattr(cls, "__dataclass_fields__", None), dict)


def _settings(cls: type) -> str:
    """What a dataclass was asked for, as Python 3.11 writes it; for anything else nothing."""
    asked = getattr(cls, "__dataclass_params__", "")
    if type(asked).__name__ != "_DataclassParams":
        return repr(asked)
    return f"_DataclassParams({','.join(f'{name}={getattr(asked, name)!r}' for name in _SETTINGS)})"


def _follows(cls: type, name: str, value: object) -> bool:
    """Whether an attribute of a class is no value that a person gave it: it follows from the rest, or a decorator keeps it there."""
    if isinstance(value, types.FunctionType) and _is_dataclass(cls) and (value.__code__.co_filename == "<string>" or name == "__replace__"):
        return _SPECIAL.fullmatch(name) is not None and _by_python(value)
    if isinstance(value, _METHODS):
        return issubclass(cls, tuple) and name in _OF_NAMED_TUPLES and _by_python(getattr(value, "__func__", value))
    if name in _FOLLOWS or (issubclass(cls, enum.Enum) and _OF_ENUMS.fullmatch(name)) or (name == "__match_args__" and _is_dataclass(cls)):
        return True
    return _SPECIAL.fullmatch(name) is not None and type(value) not in _PLAIN and not _given(value)


def _boundary(cls: type) -> dict[str, str]:
    """What an enumeration of flags does with a value that is none of its own, where that is not what Python's does."""
    if not issubclass(cls, enum.Flag):
        return {}
    usual = next(base for base in cls.__mro__ if base.__module__ == enum.__name__)
    said = repr(getattr(cls, "_boundary_", None))
    return {} if said == repr(getattr(usual, "_boundary_", None)) else {"boundary": said}


def _given(value: object) -> bool:
    """Whether what a class keeps under a special name is of the person's own making: `__call__` behind functools.cache, an object as `__len__`."""
    kind = value if isinstance(value, type) else type(value)
    return kind.__module__ == "functools" or not is_library(kind.__module__)


def _by_python(value: object) -> bool:
    """Whether a function was made by Python, from a text or by a function of its own."""
    return isinstance(value, types.FunctionType) and (value.__code__.co_filename == "<string>" or of_library(value.__code__.co_filename))


def _text(value: object, name: str) -> str | None:
    """An attribute, when it is a text: objects that answer to any name answer with something else."""
    found = getattr(value, name, None)
    return found if isinstance(found, str) else None


def _borrowed(value: object, module: str, name: str) -> bool:
    """Whether a class was made by a function of a library, which gave it its own name: `dataclasses.make_dataclass` and `types.new_class` do."""
    if not (isinstance(value, type) and value.__flags__ & _MADE):
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not value


def _kept_in(module: str, value: object) -> str | None:
    """Under which name a module, or the package that it is part of, keeps this very object; None when it does not."""
    for home in (module, module.partition(".")[0]):
        for name, held in [*vars(sys.modules[home]).items()] if home in sys.modules else ():
            if held is value:
                return f"{home}:{name}"
    return None


def _text_form(value: Any) -> list[Any] | None:
    """The form of a small value of a known type; None for others."""
    if isinstance(value, re.Pattern):
        return [constant(value.pattern), value.flags]
    if isinstance(value, logging.Logger):
        return [value.name]
    if isinstance(value, datetime.date | datetime.time):
        return [value.isoformat(), repr(getattr(value, "tzinfo", None)), getattr(value, "fold", 0)]
    if isinstance(value, _AS_TEXT) or type(value) is object:
        return [repr(value) if type(value) is not object else ""]
    if isinstance(value, bytearray):
        return [value.hex()]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind not in "OV":
        form = [value.dtype.str, [*value.shape], hashlib.sha256(numpy.ascontiguousarray(value).tobytes()).hexdigest()]
        if not value.flags.c_contiguous:  # the same numbers in another order of memory: a sum may be another in its last bits
            form.append([*value.strides])
        masked = sys.modules.get("numpy.ma")
        if masked is not None and isinstance(value, masked.MaskedArray):
            form += [hashlib.sha256(masked.getmaskarray(value).tobytes()).hexdigest(), repr(value.fill_value)]
        return form
    return None


def _refusal(value: object, where: str) -> str:
    kind = type(value).__name__
    if is_frame(value):
        return f"the frame {where}, is an input: give it to inputs= under a name"
    return f"the {kind} {where}, has no value that could be compared"


def _called(value: object) -> str:
    return _text(value, "__qualname__") or f"an object of {type(value).__qualname__}"
