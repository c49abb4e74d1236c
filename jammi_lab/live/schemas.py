"""What people give as a schema or as rows, as Arrow has it: the same for everything in this room."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from jammi_lab.errors import InvalidArgument, NameInvalid, SchemaMismatch
from jammi_lab.names import check_name, fold, near
from jammi_lab.sources.frames import as_arrow, is_frame
from jammi_lab.sources.scratch import sql_types
from jammi_lab.storage.parquet import plain_type
from jammi_lab.storage.python_values import array_of

SchemaLike: TypeAlias = "pa.Schema | Mapping[str, Any]"
"""A pyarrow Schema, or column → the name of an Arrow type (or the type)."""
_EXAMPLES = "int64, string, bool, float64, timestamp[us, tz=UTC], decimal128(20, 4), list<string>"
_UNITS = ("s", "ms", "us", "ns")
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:,\s*tz=([\w/+:-]+))?\]")
_DECIMAL = re.compile(r"decimal(128|256)?\((\d+),\s*(-?\d+)\)")
_NESTED = re.compile(r"(list|large_list|fixed_size_list|struct|map)<(.*)>(?:\[(\d+)\])?", re.DOTALL)
_FIXED_BINARY = re.compile(r"fixed_size_binary\[(\d+)\]")


def schema_of(given: SchemaLike, *, reserved: Iterable[str] = ()) -> pa.Schema:
    """The schema that was meant, with dictionaries and views as their values and without metadata.

    Raises InvalidArgument for what is no schema, NameInvalid for a column that is called nothing, twice (case does not count) or as one of
    `reserved`, SchemaMismatch for a type that there is not or that SQL cannot hold.
    """
    if isinstance(given, pa.Schema):
        fields = list(given)
    elif isinstance(given, Mapping):
        fields = [pa.field(check_name(name, "column"), _given_type(name, kind)) for name, kind in given.items()]
    else:
        raise InvalidArgument(f"A schema is a pyarrow Schema or a dict of column and type name, not a {type(given).__name__}.")
    if not fields:
        raise SchemaMismatch("A schema needs at least one column.")
    taken = {fold(name): "it is used for bookkeeping" for name in reserved}
    for field in fields:
        check_name(field.name, "column")
        if (why := taken.get(fold(field.name))) is not None:
            raise NameInvalid(f"A column cannot be called {field.name!r} here: {why}.", name=field.name, hint="Give it another name.")
        taken[fold(field.name)] = "another one is called so (case does not count)"
    schema = pa.schema([pa.field(f.name, plain_type(f.type), f.nullable) for f in fields])
    for field in schema:
        if pa.types.is_float16(field.type) or pa.types.is_null(field.type):
            raise SchemaMismatch(f"Column {field.name!r} is {field.type}, which SQL cannot hold.", column=field.name, actual=str(field.type))
    sql_types(schema)
    return schema


def type_of(word: str) -> pa.DataType | None:
    """The Arrow type of that name, as `str(type)` writes it; None when there is none."""
    word = word.strip()
    if found := _TIMESTAMP.fullmatch(word):
        return pa.timestamp(found[1], found[2])
    try:
        if found := _DECIMAL.fullmatch(word):
            return (pa.decimal256 if found[1] == "256" else pa.decimal128)(int(found[2]), int(found[3]))
        if found := _FIXED_BINARY.fullmatch(word):
            return pa.binary(int(found[1]))
        if found := _NESTED.fullmatch(word):
            return _nested(found[1], found[2], found[3])
        kind: pa.DataType = pa.type_for_alias(word)
    except (ValueError, pa.ArrowException):
        return None
    return kind


def rows_of(rows: Any, schema: pa.Schema, what: str) -> pa.Table:
    """Rows as an Arrow table of exactly that schema. `rows`: a RecordBatch, a Table, any frame, or a list of dicts (a column left out is NULL).

    Only what loses nothing, whatever the values, is converted: a narrower number, a coarser moment, another width of offsets, a dictionary's values,
    a column of nothing but NULL; of a list of dicts each value that stays what it is. SchemaMismatch names the column, `what` the thing in the
    message; InvalidArgument for what are no rows.
    """
    exactly = isinstance(rows, pa.Table) and rows.schema.equals(schema, check_metadata=True)
    if exactly and all(field.nullable for field in schema):
        return rows
    if isinstance(rows, Mapping):
        raise InvalidArgument("Rows are a RecordBatch, a Table, a frame or a list of dicts, not a single dict.", hint="Put it into a list: [{…}].")
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        return _from_dicts(rows, schema, what)
    if not is_frame(rows):
        raise InvalidArgument(f"Rows are a RecordBatch, a Table, a frame or a list of dicts, not a {type(rows).__name__}.")
    if isinstance(rows, pa.Table) and rows.schema.equals(schema):
        return pa.table([_not_null(field, column, what) for field, column in zip(schema, rows.columns, strict=True)], schema=schema)
    table = as_arrow(rows)
    _same_columns(table.schema.names, schema, what, all_of=True)
    return pa.table([_column(field, table[field.name], what) for field in schema], schema=schema)


def _from_dicts(rows: Sequence[Any], schema: pa.Schema, what: str) -> pa.Table:
    for row in rows:
        if not isinstance(row, Mapping):
            raise InvalidArgument(f"A row is a dict, not a {type(row).__name__}.")
    _same_columns(dict.fromkeys(name for row in rows for name in row), schema, what)
    columns = []
    for field in schema:
        try:
            column = pa.chunked_array([array_of([row.get(field.name) for row in rows], field.type)])
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            wrong = next((type(v).__name__ for row in rows if not _fits(v := row.get(field.name), field.type)), "another type")
            raise _mismatch(field, wrong, what, f"a value of type {wrong} that it does not hold") from None  # which one may be nobody's business
        columns.append(_not_null(field, column, what))
    return pa.table(columns, schema=schema)


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        array_of([value], kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _same_columns(found: Iterable[Any], schema: pa.Schema, what: str, *, all_of: bool = False) -> None:
    names = list(found)
    for name in names:
        if name not in schema.names:
            hint = "" if (like := near(str(name), schema.names)) else f"Its columns are {', '.join(schema.names)}."
            error = SchemaMismatch(f"{what} has no column {name!r}.", column=str(name), expected=", ".join(schema.names), hint=hint)
            error.near = tuple(like)
            raise error
    if all_of and (missing := next((name for name in schema.names if name not in names), None)) is not None:
        raise SchemaMismatch(
            f"The rows lack the column {missing!r} of {what[:1].lower()}{what[1:]}.", column=missing, expected=str(schema.field(missing).type)
        )


def _column(field: pa.Field, column: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    if column.type != field.type:
        if not (_plainly(column.type) == _plainly(field.type) or pa.types.is_null(column.type) or _widens(column.type, field.type)):
            raise _mismatch(field, str(column.type), what)
        try:
            column = column.cast(field.type)
        except pa.ArrowException:  # a moment too far away for the finer unit
            raise _mismatch(field, str(column.type), what) from None
    return _not_null(field, column, what)


def _widens(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of the first type is one of the second, too."""
    kinds = pa.types
    fits = False
    if kinds.is_integer(found) and kinds.is_integer(wanted):
        signs = kinds.is_signed_integer(found), kinds.is_signed_integer(wanted)
        fits = signs[0] <= signs[1] and found.bit_width < wanted.bit_width
    elif kinds.is_floating(wanted) and (kinds.is_integer(found) or kinds.is_floating(found)):
        fits = found.bit_width <= {64: 32, 32: 16}.get(wanted.bit_width, 0)  # the widest whole number that its digits hold
    elif kinds.is_decimal(found) and kinds.is_decimal(wanted):
        fits = found.scale <= wanted.scale and found.precision - found.scale <= wanted.precision - wanted.scale
    elif (kinds.is_timestamp(found) and kinds.is_timestamp(wanted) and found.tz == wanted.tz) or (kinds.is_time(found) and kinds.is_time(wanted)):
        fits = _UNITS.index(found.unit) < _UNITS.index(wanted.unit)
    return fits


def _plainly(kind: pa.DataType) -> str:
    """A type's name without the width of offsets and the names of a list's items."""
    return re.sub(r"<(element|item|l|array): ", "<", str(kind).replace("large_", ""))


def _not_null(field: pa.Field, column: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    if column.null_count and not field.nullable:
        raise SchemaMismatch(f"Column {field.name!r} of {what[:1].lower()}{what[1:]} takes no NULL.", column=field.name, actual="NULL")
    return column


def _mismatch(field: pa.Field, actual: str, what: str, given: str = "") -> SchemaMismatch:
    return SchemaMismatch(
        f"Column {field.name!r} of {what[:1].lower()}{what[1:]} is {field.type}, and what was given is {given or actual}.",
        column=field.name,
        expected=str(field.type),
        actual=actual,
        hint="Convert the column first; nothing was written.",
    )


def _given_type(name: str, kind: Any) -> pa.DataType:
    found = kind if isinstance(kind, pa.DataType) else type_of(kind) if isinstance(kind, str) else None
    if found is None:
        raise SchemaMismatch(f"Column {name!r}: there is no type {kind!r}.", column=name, actual=str(kind), hint=f"Types are Arrow's: {_EXAMPLES}.")
    return found


def _nested(word: str, inside: str, size: str | None) -> pa.DataType | None:
    parts = [_part(part) for part in _parts(inside)]
    kinds = [kind for _, kind in parts]
    if any(kind is None for kind in kinds):
        return None
    match word, len(parts):
        case "list", 1:
            return pa.list_(kinds[0])
        case "large_list", 1:
            return pa.large_list(kinds[0])
        case "fixed_size_list", 1 if size is not None:
            return pa.list_(kinds[0], int(size))
        case "map", 2:
            return pa.map_(*kinds)
        case "struct", _ if all(name for name, _ in parts):
            return pa.struct([pa.field(name, kind) for name, kind in parts])
    return None


def _part(text: str) -> tuple[str, pa.DataType | None]:
    """The name and type of `name: type`, or of a type alone."""
    named = re.fullmatch(r"\s*(\w+)\s*:\s*(.+)", text, re.DOTALL)
    if named is not None:
        return named[1], type_of(named[2].removesuffix(" not null"))
    return "", type_of(text)


def _parts(text: str) -> list[str]:
    """What stands between the commas outside brackets."""
    depth, start, parts = 0, 0, []
    for at, character in enumerate(text):
        depth += (character in "<[(") - (character in ">])")
        if character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]
