"""Arrow values for display, including those that Python has no object for."""

import contextlib
import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_FULL_BYTES = 1_000_000
"""Size of nested values above which only the first items are converted to Python objects."""
_MAX_ITEMS = 100


class TruncatedList(list[Any]):
    """The first items of a long list, which has `total` items."""

    def __init__(self, items: list[Any], total: int) -> None:
        super().__init__(items)
        self.total = total


DEFAULT_DIGITS = 10
"""The largest number of digits with which a floating-point number is displayed."""


def to_rows_display(
    table: "pa.Table",
    decimals: Mapping[str, int] = MappingProxyType({}),
    digits: int = DEFAULT_DIGITS,
) -> list[tuple[Any, ...]]:
    """The rows of a table as people write them: floating-point numbers with at most `digits`
    digits, or the decimals of their column, and timestamps that are all at midnight as dates."""
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = to_display(column, decimals.get(name))
        if name not in decimals:
            values = [_shortened(value, digits) for value in values]
        given = [value for value in values if value is not None]
        if given and all(map(is_midnight, given)):
            values = [None if value is None else value.date() for value in values]
        columns.append(values)
    return list(zip(*columns, strict=True))


def _shortened(value: Any, digits: int) -> Any:
    """A number with fewer digits; its whole part, and other values, stay as they are."""
    if not isinstance(value, float) or not abs(value) < 10**digits:
        return value
    return float(f"{value:.{digits}g}")


def is_midnight(value: Any) -> bool:
    """Whether a value is a timestamp without a time of day and a time zone."""
    is_time = isinstance(value, dt.datetime) and value.tzinfo is None
    return is_time and value.time() == dt.time() and not getattr(value, "nanosecond", 0)


def to_display(column: "pa.ChunkedArray", decimals: int | None = None) -> list[Any]:
    """The exact values of a column for display. float32 values get as many digits as distinguish
    them (Python would show those of a double), or the given number of decimals. Dates before the
    year 1 and after 9999 are strings."""
    import pyarrow as pa

    if decimals is not None:
        return [None if value is None else f"{value:.{decimals}f}" for value in column.to_pylist()]
    is_large = pa.types.is_nested(column.type) and column.nbytes > _MAX_FULL_BYTES
    if is_large or column.type == pa.time64("ns"):  # of which a Python time drops digits
        return [_scalar_value(scalar) for chunk in column.chunks for scalar in chunk]
    # Arrow prints a float32 with the fewest digits that distinguish it.
    try:
        values: list[Any] = (
            column.cast(pa.string()) if pa.types.is_float32(column.type) else column
        ).to_pylist(maps_as_pydicts="lossy")
    except (OverflowError, ValueError, TypeError):
        # Dates out of range, nanoseconds without pandas, or map keys that Python cannot hash.
        values = [_scalar_value(scalar) for chunk in column.chunks for scalar in chunk]
    return values


def _scalar_value(scalar: "pa.Scalar") -> Any:
    """One value as a Python object where one exists, else as a string."""
    import pyarrow as pa

    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_map(kind):
        return {
            _map_key(key): _scalar_value(value)
            for key, value in zip(scalar.values.field(0), scalar.values.field(1), strict=True)
        }
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        values = [_scalar_value(scalar[position]) for position in range(len(names))]
        has_names = len(set(names)) == len(names)  # row(1, 2) has none
        return dict(zip(names, values, strict=True)) if has_names else tuple(values)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return TruncatedList(
            [_scalar_value(item) for item in scalar.values.slice(0, _MAX_ITEMS)], len(scalar.values)
        )
    if pa.types.is_date32(kind):
        with contextlib.suppress(OverflowError, ValueError):
            return scalar.as_py()
        return _time_text(scalar, "D")
    if pa.types.is_timestamp(kind):
        return _time_text(scalar, kind.unit, "" if kind.tz is None else "+00:00")
    if pa.types.is_time64(kind):
        return _time_text(scalar, kind.unit).split(" ")[1]
    return scalar.as_py()


def _map_key(scalar: "pa.Scalar") -> Any:
    """A map key as a hashable object."""
    from jammi_lab.core.html import to_text

    value = _scalar_value(scalar)
    return to_text(value) if isinstance(value, dict | list) else value


def _time_text(scalar: "pa.Scalar", unit: str, zone: str = "") -> str:
    """A date, a timestamp or a time in ISO 8601, in which the year before 1 is 0."""
    import numpy as np

    if abs(scalar.value) >= 2 ** (scalar.type.bit_width - 1) - 1:
        return "infinity" if scalar.value > 0 else "-infinity"
    day, _, clock = str(np.array(scalar.value, f"datetime64[{unit}]")).partition("T")
    if day.startswith("-"):
        day = f"-{day[1:]:0>10}"
    if "." in clock:
        clock = clock.rstrip("0").rstrip(".")
    return f"{day} {clock}".rstrip() + zone
