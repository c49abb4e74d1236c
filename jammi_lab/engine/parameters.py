"""Statement parameters, converted to values that DuckDB binds, and casts of output types that Arrow
cannot represent."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jammi_lab.core import identifiers
from jammi_lab.core.definitions import encode_param
from jammi_lab.core.errors import InvalidArgument, ParameterMissing
from jammi_lab.core.identifiers import ascii_lower
from jammi_lab.engine.sql import allowlist, tokens
from jammi_lab.engine.sql.parse import ParsedStatement

# DuckDB hands these over as internal bytes, or loses a part: BIT with its padding, TIMETZ without
# its zone, UHUGEINT wrapped to a negative number.
_LOSSLESS_TYPES = {
    "BIT": "VARCHAR",
    "TIME WITH TIME ZONE": "VARCHAR",
    "BIGNUM": "VARCHAR",
    "VARIANT": "VARCHAR",
    "UHUGEINT": "DECIMAL(38,0)",
}
_LOSSY_TYPE = re.compile(
    r"""("(?:[^"]|"")*"|'(?:[^']|'')*')|(?:(?<=^)|(?<=[ (]))("""
    + "|".join(_LOSSLESS_TYPES)
    + r")(?=$|[\[),])"
)
_MISSING_VALUE_TYPES = {"NaTType", "NAType"}
_CALENDAR_UNITS = re.compile(r"\[\d*[YM]\]")
"""Units of time in numpy without a fixed length."""


def to_bindable(value: Any) -> Any:
    """Convert a value to one that DuckDB binds: numpy scalars to Python values, missing values of
    pandas to None, vectors and series to lists.

    InvalidArgument for a type that SQL cannot bind, and for a time finer than a microsecond."""
    if type(value).__name__ in _MISSING_VALUE_TYPES:
        return None
    if type(value).__module__.split(".")[0] == "numpy":
        value = _to_microseconds(value)
    item, shape = getattr(value, "item", None), getattr(value, "shape", None)
    if item is not None and shape == ():
        value = item()
    elif (
        item is not None
        and shape
        and (to_list := getattr(value, "tolist", None) or getattr(value, "to_list", None))
        is not None
    ):
        value = to_list()  # a vector, matrix or series
    # Timestamp and Timedelta of pandas are subclasses of Python's classes, with nanoseconds.
    if getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0):
        raise _precision_error(value)
    if isinstance(value, list | tuple):
        return [to_bindable(v) for v in value]
    if isinstance(value, dict):
        for key in value:
            encode_param(key)
        return {k: to_bindable(v) for k, v in value.items()}
    encode_param(value)
    return value


def _to_microseconds(value: Any) -> Any:
    """A numpy value; times are converted to microseconds. InvalidArgument for a time that would
    lose precision or has no fixed length."""
    if (kind := getattr(getattr(value, "dtype", None), "kind", "")) not in ("M", "m"):
        return value
    if kind == "m" and _CALENDAR_UNITS.search(value.dtype.str):
        raise InvalidArgument(
            "A timedelta in months or years has no fixed number of days.",
            hint="Pass it in days, or write an INTERVAL.",
        )
    coarse = value.astype(f"{kind}8[us]")
    if (coarse.astype(value.dtype).astype("int64") != value.astype("int64")).any():
        raise _precision_error(value)
    return coarse if not value.dtype.str.endswith("M8[D]") or value.shape == () else value


def _precision_error(value: object) -> InvalidArgument:
    return InvalidArgument(
        f"The time {str(value)[:60]} is finer than a microsecond and cannot be bound exactly.",
        hint="Round it to microseconds, or bind its text and cast that to TIMESTAMP_NS.",
    )


def bind_values(
    statements: Sequence[ParsedStatement], params: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The values of all parameters, by name as the statements write it. ParameterMissing (with its
    position) for a missing value, InvalidArgument for an unused one."""
    values = {name: to_bindable(value) for name, value in merge_params(params).items()}
    used = {ascii_lower(name) for parsed in statements for name in parsed.parameters}
    if unused := [name for name in values if ascii_lower(name) not in used]:
        raise InvalidArgument(
            f"No statement uses the parameter {unused[0]}; write ${unused[0]}, not in quotes.",
            near=identifiers.near_names(unused[0], _parameter_names(statements)),
        )
    by_fold = {ascii_lower(name): value for name, value in values.items()}
    if len(by_fold) != len(values):
        raise InvalidArgument("Two parameter names differ only in case; SQL treats them as one.")
    for parsed in statements:
        for name in sorted(parsed.parameters):
            if ascii_lower(name) not in by_fold:
                offset = allowlist.character_offset(
                    parsed.text, tokens.parameter_offset(parsed.text, name)
                )
                error = ParameterMissing(
                    f"The parameter ${name} has no value.", parameter=name, hint=f"Pass {name}=…"
                )
                raise error.with_position(
                    parsed.full_text, None if offset is None else parsed.offset + offset
                )
    return {
        name: by_fold[ascii_lower(name)]
        for parsed in statements
        for name in sorted(parsed.parameters)
    }


def _parameter_names(statements: Iterable[ParsedStatement]) -> list[str]:
    return sorted({name for parsed in statements for name in parsed.parameters})


def with_lossless_casts(sql: str, output: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """The statement with columns that Arrow cannot represent cast to types that it can; names,
    order and other columns stay.

    Returns the number of bytes in front of the statement, and the text."""
    casts = [_LOSSY_TYPE.sub(lambda m: m[1] or _LOSSLESS_TYPES[m[2]], kind) for _, kind in output]
    if casts == [kind for _, kind in output]:
        return 0, sql
    inner = ", ".join(f"c{i}" for i in range(len(output)))
    parts = (
        f"c{i}{'' if target == kind else f'::{target}'} AS {identifiers.quote_identifier(name)}"
        for i, ((name, kind), target) in enumerate(zip(output, casts, strict=True))
    )
    prefix = f"SELECT {', '.join(parts)} FROM (\n"
    return len(prefix.encode()), f"{prefix}{sql}\n) AS t({inner})"


def remaining_parameters(params: Mapping[str, Any], parsed: ParsedStatement) -> dict[str, Any]:
    """The values of the parameters that remain in the executed text. Parameters of table functions
    were already substituted and would be unknown to DuckDB."""
    if not parsed.replaced:
        return dict(params)
    remaining = {
        ascii_lower(node["identifier"])
        for node in allowlist.walk_nodes(parsed.tree)
        if node.get("type") == "VALUE_PARAMETER"
    }
    return {name: value for name, value in params.items() if ascii_lower(name) in remaining}


def merge_params(params: object, keywords: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The values of a statement's `$names`, from a mapping and from keywords, which take
    precedence. Raises InvalidArgument when `params` is not a mapping with string keys."""
    if params is not None and not (
        isinstance(params, Mapping) and all(isinstance(name, str) for name in params)
    ):
        raise InvalidArgument(
            f"params must be a dict of values by name, got {params!r}.",
            hint='For example: params={"name": 1}; a statement uses it as $name.',
        )
    return {**(params or {}), **(keywords or {})}
