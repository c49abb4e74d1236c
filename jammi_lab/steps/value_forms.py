"""Values that a Python function may name: their comparable forms, and the names under which
libraries have their objects."""

import datetime
import decimal
import hashlib
import io
import logging
import pathlib
import pickle
import re
import sys
import types
from collections.abc import Callable
from typing import Any

from jammi_lab.sources.frames import is_frame
from jammi_lab.steps.function_source import constant_form, is_library

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
