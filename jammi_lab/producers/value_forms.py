"""Values of known types that a text determines, and the memory that arrays share."""

import datetime
import decimal
import gc
import hashlib
import logging
import pathlib
import re
import sys
import types
import typing
import uuid
import zoneinfo
from pickle import PicklingError
from typing import Any

from jammi_lab.producers.function_source import constant_form, is_library, is_usual

_REPR_TYPES = (
    decimal.Decimal,
    uuid.UUID,
    pathlib.PurePath,
    datetime.timedelta,
    datetime.tzinfo,
    range,
    slice,
    complex,
    types.EllipsisType,
    type(getattr(typing, "NoDefault", ...)),  # from Python 3.13 on, of each type variable
)


_LOGGER_ATTRIBUTES = frozenset(
    {
        *("name", "level", "parent", "propagate", "handlers", "disabled", "filters", "manager"),
        "_cache",
    }
)
"""What Python itself sets on a logger; that is a setting of the kernel."""


def memory_owner(value: Any) -> Any:
    """The array whose memory a view shows; any other value itself."""
    while is_array(value) and is_array(value.base):
        value = value.base
    return value


def is_array(value: object) -> bool:
    """Whether a value is an array of numpy, which is not imported for that."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_plain_proxy(value: object) -> bool:
    """Whether a value is a read-only view of an ordinary dict."""
    return isinstance(value, types.MappingProxyType) and [
        type(each) for each in gc.get_referents(value)
    ] == [dict]


def text_form(value: Any) -> list[Any] | None:
    """JSON of a small value of a known type; None for other types, and for a time zone that was
    read from an open file. A class of the user's own may say something else of its objects, so the
    library's methods are called."""
    kind = type(value)
    library_type: Any = next(each for each in kind.__mro__ if is_library(each.__module__))
    if isinstance(value, re.Pattern):
        return [constant_form(value.pattern), value.flags]
    if isinstance(value, logging.Logger):
        return [value.name]
    if isinstance(value, zoneinfo.ZoneInfo) and _is_read_from_a_file(value):
        return None
    if isinstance(value, datetime.date | datetime.time):
        zone = getattr(value, "tzinfo", None)
        name = "" if _is_hidden(zone) else repr(zone)
        return [library_type.isoformat(value), name, getattr(value, "fold", 0)]
    if isinstance(value, pathlib.PurePath) and kind is not library_type:
        return [library_type.__name__, [*library_type.parts.fget(value)]]
    if kind is object or library_type is datetime.tzinfo:
        return [""]
    if isinstance(value, _REPR_TYPES):
        return [library_type.__repr__(value)]
    if isinstance(value, bytearray):
        return [bytearray.hex(value)]
    return _array_form(value)


def _is_hidden(zone: Any) -> bool:
    """Whether the text of a time zone does not tell its rules."""
    return not is_library(type(zone).__module__) or (
        isinstance(zone, zoneinfo.ZoneInfo) and _is_read_from_a_file(zone)
    )


def _is_read_from_a_file(zone: zoneinfo.ZoneInfo) -> bool:
    """Whether a time zone was made from an open file: its key then says nothing of its rules."""
    try:
        zone.__reduce__()
    except PicklingError:
        return True
    return False


def _array_form(value: Any) -> list[Any] | None:
    """JSON of an array or scalar of numpy that holds its values itself; None for anything else."""
    numpy = sys.modules.get("numpy")
    if (
        numpy is None
        or not isinstance(value, numpy.ndarray | numpy.generic)
        or value.dtype.kind in "OV"
    ):
        return None
    form = [value.dtype.str, [*value.shape]]
    if value.dtype.kind != "T":  # texts of any length lie elsewhere: `hidden_parts`
        form.append(hashlib.sha256(numpy.ascontiguousarray(value).tobytes()).hexdigest())
    # another memory order can change the last bits of a sum
    if not value.flags.c_contiguous:
        form.append([*value.strides])
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        form += [
            hashlib.sha256(masked.getmaskarray(value).tobytes()).hexdigest(),
            repr(value.fill_value),
            *(["hard mask"] if value.hardmask else []),
        ]
    return form


def hidden_parts(value: Any) -> list[Any]:
    """What determines a value of a known type beside its `text_form`; empty for most values."""
    parts: list[Any]
    if isinstance(value, complex):
        parts = [value.real, value.imag]
        return [] if all(map(is_usual, parts)) else parts
    if isinstance(value, logging.Logger):
        given = {n: each for n, each in vars(value).items() if n not in _LOGGER_ATTRIBUTES}
        return [given] if given and type(value) is logging.Logger else []
    if isinstance(value, slice):
        bounds = [value.start, value.stop, value.step]
        return [] if all(type(each) in (int, str, types.NoneType) for each in bounds) else bounds
    if isinstance(value, uuid.UUID):
        parts = [] if value.is_safe is uuid.SafeUUID.unknown else [value.is_safe.name]
        return parts if type(value) is uuid.UUID else [*parts, value.int]
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
        zone, unit = getattr(value, "tzinfo", None), getattr(value, "unit", None)
        # only those of pandas have a unit
        return [zone] * _is_hidden(zone) + [unit] * (type(unit) is str)
    if is_array(value) or hasattr(value, "dtype"):
        dtype: Any = value.dtype
        parts = [dict(dtype.metadata)] if getattr(dtype, "metadata", None) else []
        if dtype.kind == "T":
            parts += [value.tolist(), repr(dtype)]
        return parts
    return []
