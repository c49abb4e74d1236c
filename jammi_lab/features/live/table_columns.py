"""The columns that a mutable table may have: types whose values are exact and can be compared."""

from collections.abc import Iterable, Sequence

import pyarrow as pa

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.core.identifiers import fold, near_names

_EXACT_TYPES = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_date32,
    pa.types.is_decimal128,
)
TYPES = (
    "bool, integers, float32, float64, string, binary, date32[day], time64[us], "
    "timestamp (with a zone: us only), decimal128"
)


def check_columns(name: str, schema: pa.Schema, primary_key: Sequence[str]) -> list[str]:
    """The columns of the key as the schema spells them. Raises InvalidArgument and SchemaMismatch
    for columns that the mutable table of that name cannot have."""
    columns = [primary_key] if isinstance(primary_key, str) else primary_key
    if not isinstance(columns, Iterable) or not (columns := list(columns)):
        raise InvalidArgument(
            "A mutable table needs a primary key: the columns that identify a row.",
            hint=f"primary_key={schema.names[:1]!r}",
        )
    by_fold = {fold(column): column for column in schema.names}
    for column in columns:
        if not isinstance(column, str) or fold(column) not in by_fold:
            error = SchemaMismatch(
                f"The primary key of {name!r} names {column!r}, which is not one of its columns.",
                table=name,
                column=str(column),
                expected=", ".join(schema.names),
            )
            error.near = tuple(near_names(str(column), schema.names))
            raise error
    key = [by_fold[fold(column)] for column in columns]
    if len(set(key)) < len(key):
        raise InvalidArgument(
            f"The primary key of {name!r} names a column twice.", hint="Name each column once."
        )
    for field in schema:
        _check_type(name, field, is_key=field.name in key)
    return key


def _check_type(name: str, field: pa.Field, *, is_key: bool) -> None:
    is_exact = any(is_type(field.type) for is_type in _EXACT_TYPES) or (
        pa.types.is_timestamp(field.type) and (field.type.tz is None or field.type.unit == "us")
    )
    if not is_exact and field.type != pa.time64("us"):
        raise SchemaMismatch(
            f"Column {field.name!r} is {field.type}, which a mutable table does not support.",
            table=name,
            column=field.name,
            expected=TYPES,
            actual=str(field.type),
            hint=f"Supported: {TYPES}. Store other types in a result table, or as text.",
        )
    if is_key and pa.types.is_floating(field.type):
        raise SchemaMismatch(
            f"Column {field.name!r} is {field.type}, which cannot be in a key.",
            table=name,
            column=field.name,
            actual=str(field.type),
            hint="Floating-point numbers that look equal may differ: use integers, decimals or "
            "text for the key.",
        )
