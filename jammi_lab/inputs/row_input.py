"""Conversion of user-supplied schemas and rows to Arrow, shared by all of this room."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from jammi_lab.core.errors import InvalidArgument, NameInvalid, SchemaMismatch
from jammi_lab.core.identifiers import check_name, fold, near_or_all
from jammi_lab.sources.frames import as_arrow, is_frame
from jammi_lab.sources.scratch_duckdb import arrow_type, sql_types
from jammi_lab.storage.arrow_values import cast_losslessly, to_arrow_array, widens
from jammi_lab.storage.parquet import decoded_type

SchemaLike: TypeAlias = "pa.Schema | Mapping[str, Any]"
"""A pyarrow Schema, or a mapping of column to the name of an Arrow or SQL type (or the Arrow type
itself)."""
_EXAMPLES = "int64, string, bool, float64, timestamp[us, tz=UTC], DECIMAL(20, 4), VARCHAR[]"
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:,\s*tz=([\w/+:-]+))?\]")
_DECIMAL = re.compile(r"decimal128\((\d+),\s*(\d+)\)")


def schema_of(schema_like: SchemaLike, *, reserved: Iterable[str] = ()) -> pa.Schema:
    """Convert to an Arrow schema, with dictionaries and views replaced by their value types and
    without metadata.

    Raises InvalidArgument for anything else, NameInvalid for a column name that is empty, duplicate
    (ignoring case) or in `reserved`, SchemaMismatch for a type that is unknown or that SQL cannot
    hold.
    """
    if isinstance(schema_like, pa.Schema):
        fields = list(schema_like)
    elif isinstance(schema_like, Mapping):
        fields = [
            pa.field(check_name(name, "column"), _resolve_type(name, kind))
            for name, kind in schema_like.items()
        ]
    else:
        raise InvalidArgument(
            "A schema must be a pyarrow Schema or a dict of column and type name, got "
            f"{type(schema_like).__name__}."
        )
    if not fields:
        raise SchemaMismatch("A schema needs at least one column.")
    invalid_names = {fold(name): "the name is reserved" for name in reserved}
    for field in fields:
        check_name(field.name, "column")
        if (why := invalid_names.get(fold(field.name))) is not None:
            raise NameInvalid(
                f"Invalid column name {field.name!r}: {why}.",
                name=field.name,
                hint="Rename the column.",
            )
        invalid_names[fold(field.name)] = "the name occurs twice (case is ignored)"
    schema = pa.schema([pa.field(f.name, decoded_type(f.type), f.nullable) for f in fields])
    for field in schema:
        if pa.types.is_float16(field.type) or pa.types.is_null(field.type):
            raise SchemaMismatch(
                f"Column {field.name!r} is {field.type}, which SQL does not support.",
                column=field.name,
                actual=str(field.type),
            )
    sql_types(schema)
    return schema


def _arrow_type(name: str) -> pa.DataType | None:
    """The type of that name in Arrow, else in SQL; None for an unknown name."""
    if match := _TIMESTAMP.fullmatch(name):
        return pa.timestamp(match[1], match[2])
    if match := _DECIMAL.fullmatch(name):
        name = f"DECIMAL({match[1]},{match[2]})"
    try:
        return pa.type_for_alias(name)
    except (ValueError, pa.ArrowException):
        return arrow_type(name)


def to_arrow_rows(rows: Any, schema: pa.Schema, target: str) -> pa.Table:
    """Convert rows to an Arrow table of exactly that schema. `rows`: a RecordBatch, a Table, any
    frame, or a list of dicts (a missing column is NULL).

    Only lossless conversions are made: a wider number, a finer time unit, another width of offsets,
    a dictionary's values, a column of only NULL; in a list of dicts every value that stays equal.
    Raises SchemaMismatch with the column (`target` names the target in the message);
    InvalidArgument for anything that is not rows.
    """
    if isinstance(rows, Mapping):
        raise InvalidArgument(
            "Rows must be a RecordBatch, a Table, a frame or a list of dicts, got a single dict.",
            hint="Pass a list: [{…}].",
        )
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        return _from_dicts(rows, schema, target)
    if not is_frame(rows):
        raise InvalidArgument(
            "Rows must be a RecordBatch, a Table, a frame or a list of dicts, got "
            f"{type(rows).__name__}."
        )
    if isinstance(rows, pa.Table) and rows.schema.equals(schema):
        return pa.table(
            [
                _check_null(field, column, target)
                for field, column in zip(schema, rows.columns, strict=True)
            ],
            schema=schema,
        )
    table = as_arrow(rows)
    _check_columns(table.schema.names, schema, target, require_all=True)
    return pa.table(
        [_convert_column(field, table[field.name], target) for field in schema], schema=schema
    )


def _from_dicts(rows: Sequence[Any], schema: pa.Schema, target: str) -> pa.Table:
    for row in rows:
        if not isinstance(row, Mapping):
            raise InvalidArgument(
                f"A row must be a dict, got {type(row).__name__}.",
                hint="For example table.insert([{'id': 1, 'label': 'a'}]).",
            )
    _check_columns(dict.fromkeys(name for row in rows for name in row), schema, target)
    columns = []
    for field in schema:
        try:
            column = pa.chunked_array(
                [to_arrow_array([row.get(field.name) for row in rows], field.type)]
            )
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            type_name = next(
                (
                    type(v).__name__
                    for row in rows
                    if not _fits(v := row.get(field.name), field.type)
                ),
                "another type",
            )
            # the message does not show the value, which may be sensitive
            raise _mismatch_error(
                field, type_name, target, f"a value of type {type_name} that does not fit"
            ) from None
        columns.append(_check_null(field, column, target))
    return pa.table(columns, schema=schema)


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        to_arrow_array([value], kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _check_columns(
    columns: Iterable[Any], schema: pa.Schema, target: str, *, require_all: bool = False
) -> None:
    names = list(columns)
    for name in names:
        if name not in schema.names:
            raise SchemaMismatch(
                f"{target} has no column {name!r}.",
                column=str(name),
                expected=", ".join(schema.names),
                **near_or_all(str(name), schema.names),
            )
    if (
        require_all
        and (missing := next((name for name in schema.names if name not in names), None))
        is not None
    ):
        raise SchemaMismatch(
            f"The rows have no column {missing!r}, which {target[:1].lower()}{target[1:]} needs.",
            column=missing,
            expected=str(schema.field(missing).type),
        )


def _convert_column(field: pa.Field, column: pa.ChunkedArray, target: str) -> pa.ChunkedArray:
    if not (
        _base_type_name(column.type) == _base_type_name(field.type)
        or pa.types.is_null(column.type)
        or widens(column.type, field.type)
    ):
        raise _mismatch_error(field, str(column.type), target)
    return cast_column(field, column, target)


def cast_column(field: pa.Field, column: pa.ChunkedArray, target: str) -> pa.ChunkedArray:
    """The values as the field has them. Raises SchemaMismatch for one that its type would change,
    and for NULL where it takes none."""
    try:
        return _check_null(field, cast_losslessly(column, field.type), target)
    except pa.ArrowException:
        raise _mismatch_error(field, str(column.type), target) from None


def _base_type_name(kind: pa.DataType) -> str:
    """A type's name without the width of offsets and the names of list items."""
    return re.sub(r"<(element|item|l|array): ", "<", str(kind).replace("large_", ""))


def _check_null(field: pa.Field, column: pa.ChunkedArray, target: str) -> pa.ChunkedArray:
    if column.null_count and not field.nullable:
        raise SchemaMismatch(
            f"Column {field.name!r} of {target[:1].lower()}{target[1:]} cannot be NULL.",
            column=field.name,
            actual="NULL",
        )
    return column


def _mismatch_error(
    field: pa.Field, actual: str, target: str, description: str = ""
) -> SchemaMismatch:
    return SchemaMismatch(
        f"Column {field.name!r} of {target[:1].lower()}{target[1:]} is {field.type}, got "
        f"{description or actual}.",
        column=field.name,
        expected=str(field.type),
        actual=actual,
        hint="Convert the column first; nothing was written.",
    )


def _resolve_type(name: str, kind: Any) -> pa.DataType:
    resolved = _arrow_type(kind) if isinstance(kind, str) else kind
    if not isinstance(resolved, pa.DataType):
        raise SchemaMismatch(
            f"Column {name!r}: unknown type {kind!r}.",
            column=name,
            actual=str(kind),
            hint=f"Use an SQL type, or an Arrow type: {_EXAMPLES}.",
        )
    return resolved
