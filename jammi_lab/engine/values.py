"""Values that go in and out: bound parameters, and output types that Arrow does not hold as they are."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jammi_lab import names
from jammi_lab.engine import gate, tokens
from jammi_lab.engine.statements import Parsed
from jammi_lab.errors import InvalidArgument, ParameterMissing
from jammi_lab.names import ascii_lower
from jammi_lab.values.descriptors import bound, encode_param

# DuckDB hands these over as internal bytes, or loses a part: BIT with its padding, TIMETZ without its zone, UHUGEINT wrapped to a negative number.
_LOSSY = {"BIT": "VARCHAR", "TIME WITH TIME ZONE": "VARCHAR", "BIGNUM": "VARCHAR", "VARIANT": "VARCHAR", "UHUGEINT": "DECIMAL(38,0)"}
_LOSSY_TYPE = re.compile(r"""("(?:[^"]|"")*"|'(?:[^']|'')*')|(?:(?<=^)|(?<=[ (]))(""" + "|".join(_LOSSY) + r")(?=$|[\[),])")
_ABSENT = {"NaTType", "NAType"}
_FINE, _CALENDAR = re.compile(r"\[\d*(?:ns|ps|fs|as)\]"), re.compile(r"\[\d*[YM]\]")
"""Units of numpy's times that are finer than Python's, and those that have no length."""


def plain(value: Any) -> Any:
    """A value as DuckDB binds it: numpy scalars become Python's, pandas' missing marks None, vectors and series lists.

    InvalidArgument for what SQL cannot bind, and for times that it cannot bind whole."""
    if type(value).__name__ in _ABSENT:
        return None
    if type(value).__module__.split(".")[0] == "numpy":
        value = _in_microseconds(value)
    item, shape = getattr(value, "item", None), getattr(value, "shape", None)
    if item is not None and shape == ():
        value = item()
    elif item is not None and shape and (listed := getattr(value, "tolist", None) or getattr(value, "to_list", None)) is not None:
        value = listed()  # a vector, matrix or series
    if getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0):  # pandas' own times are Python's and have a part more
        raise _too_fine(value)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        for key in value:
            encode_param(key)
        return {k: plain(v) for k, v in value.items()}
    encode_param(value)
    return value


def _in_microseconds(value: Any) -> Any:
    """A value of numpy, a time in the unit that Python has. InvalidArgument when it is not one of those."""
    if (kind := getattr(getattr(value, "dtype", None), "kind", "")) not in ("M", "m"):
        return value
    if kind == "m" and _CALENDAR.search(value.dtype.str):
        raise InvalidArgument("A length of time in months or years has no number of days.", hint="Give it in days, or write an INTERVAL.")
    coarse = value.astype(f"{kind}8[us]")
    if _FINE.search(value.dtype.str) and (coarse.astype(value.dtype).astype("int64") != value.astype("int64")).any():
        raise _too_fine(value)
    return coarse if not value.dtype.str.endswith("M8[D]") or value.shape == () else value


def _too_fine(value: object) -> InvalidArgument:
    return InvalidArgument(
        f"The time {str(value)[:60]} is finer than a microsecond and cannot be bound whole.",
        hint="Round it to microseconds, or bind its text and cast that to TIMESTAMP_NS.",
    )


def bind_values(statements: Sequence[Parsed], params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The given values, each needed by some statement and none missing. ParameterMissing with its place, InvalidArgument for an unused one."""
    given = {name: plain(value) for name, value in bound(params).items()}
    wanted = {ascii_lower(name) for parsed in statements for name in parsed.parameters}
    if unused := [name for name in given if ascii_lower(name) not in wanted]:
        raise InvalidArgument(f"No statement uses the parameter {unused[0]}.", near=names.near(unused[0], _typed(statements)))
    by_fold = {ascii_lower(name): value for name, value in given.items()}
    if len(by_fold) != len(given):
        raise InvalidArgument("Two parameters differ only in case; SQL takes them for one.")
    for parsed in statements:
        for name in sorted(parsed.parameters):
            if ascii_lower(name) not in by_fold:
                at = gate.offset_in(parsed.text, tokens.parameter_at(parsed.text, name))
                error = ParameterMissing(f"The parameter ${name} has no value.", parameter=name, hint=f"Pass {name}=…")
                raise error.at(parsed.whole, None if at is None else parsed.offset + at)
    return {name: by_fold[ascii_lower(name)] for parsed in statements for name in sorted(parsed.parameters)}


def _typed(statements: Iterable[Parsed]) -> list[str]:
    return sorted({name for parsed in statements for name in parsed.parameters})


def lossless(sql: str, output: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """The statement with what Arrow would lose cast to what it holds exactly; names, order and other columns stay.

    First, how many bytes stand before it in the text."""
    casts = [_LOSSY_TYPE.sub(lambda m: m[1] or _LOSSY[m[2]], kind) for _, kind in output]
    if casts == [kind for _, kind in output]:
        return 0, sql
    inner = ", ".join(f"c{i}" for i in range(len(output)))
    parts = (
        f"c{i}{'' if cast == kind else f'::{cast}'} AS {names.quote(name)}" for i, ((name, kind), cast) in enumerate(zip(output, casts, strict=True))
    )
    before = f"SELECT {', '.join(parts)} FROM (\n"
    return len(before.encode()), f"{before}{sql}\n) AS t({inner})"
