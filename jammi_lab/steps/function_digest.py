"""Digest of a Python function: its source plus the current values and helper functions that it
names.

The walk follows functions and classes of the user's own code through globals, closures, defaults
and members. Modules, the standard library and installed packages are recorded by name only. Plain
values, arrays and frames are compared by value; any other value is refused.
"""

import builtins
import dis
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.steps.class_forms import hidden_state, own_members, refusal_of_class
from jammi_lab.steps.function_source import (
    InlineSource,
    NoSource,
    constant_form,
    function_form,
    is_library,
    nested_codes,
)
from jammi_lab.steps.value_forms import (
    array_parts,
    frame_parts,
    library_name,
    memory_owner,
    text_attribute,
    value_parts,
)

_CONSTANT_TYPES = (types.NoneType, bool, int, float, str, bytes)
_BUILTIN_METHOD_TYPES = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
_CACHE_TYPE = type(functools.cache(len))
_COPIED_BY_CACHES = {*functools.WRAPPER_ASSIGNMENTS, "__wrapped__", "cache_parameters"}
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
        elif kind in _BUILTIN_METHOD_TYPES:
            parts = (value.__objclass__, value.__name__)
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
        elif typing.get_origin(value) is not None:  # list[int] and the like
            parts = (typing.get_origin(value), typing.get_args(value))
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
        """JSON of a container, a frame or a bare `object()`; None for any other value."""
        kind = type(value)
        if kind in (list, tuple):
            return [kind.__name__, [self.value(each, where) for each in value]]
        if kind is dict:
            items = [[self.value(k, where), self.value(v, where)] for k, v in value.items()]
            return [kind.__name__, items]
        if kind in (set, frozenset) and not any(type(each) is object for each in value):
            # each in a walk of its own: they have no order
            forms = [_FunctionWalk(self._module).value(each, where) for each in value]
            return [kind.__name__, sorted(digest_of(form) for form in forms)]
        if kind is object:
            return ["object"]
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
        builtin = getattr(builtins, name)  # user code may have replaced it
        if isinstance(builtin, types.FunctionType):
            return ["builtin", name, self.value(builtin, where)]
        return ["builtin", name]

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
