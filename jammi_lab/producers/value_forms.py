"""Values of known types that a text determines, and the memory that arrays share."""

import datetime
import decimal
import hashlib
import logging
import pathlib
import re
import sys
import types
import uuid
from typing import Any

from jammi_lab.producers.function_source import constant_form

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
)


def memory_owner(value: Any) -> Any:
    """The array whose memory a view shows; any other value itself."""
    while is_array(value) and is_array(value.base):
        value = value.base
    return value


def is_array(value: object) -> bool:
    """Whether a value is an array of numpy, which is not imported for that."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def text_form(value: Any) -> list[Any] | None:
    """JSON of a small value of a known type; None for other types."""
    if isinstance(value, re.Pattern):
        return [constant_form(value.pattern), value.flags]
    if isinstance(value, logging.Logger):
        return [value.name]
    if isinstance(value, datetime.date | datetime.time):
        return [value.isoformat(), repr(getattr(value, "tzinfo", None)), getattr(value, "fold", 0)]
    if isinstance(value, _REPR_TYPES) or type(value) is object:
        return [repr(value) if type(value) is not object else ""]
    if isinstance(value, bytearray):
        return [value.hex()]
    numpy = sys.modules.get("numpy")
    if (
        numpy is not None
        and isinstance(value, numpy.ndarray | numpy.generic)
        and value.dtype.kind not in "OV"
    ):
        form = [
            value.dtype.str,
            [*value.shape],
            hashlib.sha256(numpy.ascontiguousarray(value).tobytes()).hexdigest(),
        ]
        # another memory order can change the last bits of a sum
        if not value.flags.c_contiguous:
            form.append([*value.strides])
        masked = sys.modules.get("numpy.ma")
        if masked is not None and isinstance(value, masked.MaskedArray):
            form += [
                hashlib.sha256(masked.getmaskarray(value).tobytes()).hexdigest(),
                repr(value.fill_value),
            ]
        return form
    return None
