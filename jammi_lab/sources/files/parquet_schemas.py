"""Schemas in the footers of Parquet files: checks of each file, and the common types of the files
of a folder.

DuckDB takes the columns of a list of files from the footer of the first one and casts all others
to its types, whatever their values are: 2.5 to 2, 5 to true (1.5.5). With `union_by_name` it takes
a type for all files; where `common_type` has one, DuckDB's holds the same values.
"""

import os
import re
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.dataframes import nested_types
from jammi_lab.core.errors import SchemaMismatch, SourceUnavailable, first_line
from jammi_lab.core.identifiers import fold, quote_identifier
from jammi_lab.sources.files.file_checks import check_column_count, check_same_columns
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.sources.files.formats import partitions
from jammi_lab.sources.files.readers import (
    partition_options,
    partition_types,
    path_literal,
    place_of,
)
from jammi_lab.sources.read_errors import display_name, file_error, is_damage
from jammi_lab.sources.scratch_duckdb import shown_types
from jammi_lab.storage.arrow_values import (
    cast_losslessly,
    common_type,
    has_periods,
    with_sql_precision,
)
from jammi_lab.storage.files import CLOCK_SECONDS
from jammi_lab.storage.parquet import MAX_DECIMAL_DIGITS, decoded_type, open_parquet

_MAX_CACHED_FILES = 10_000
_MAX_CACHED_SCHEMAS = 256
_MAX_EXACT_INTEGER = 2**53
_IGNORED_METADATA = (b"ARROW:schema", b"pandas")
"""What DuckDB does not read, and what differs between files of equal columns."""
_PARTITION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names of partitions that every reader spells alike."""
_MICROSECONDS = {"s": "{} * 1000000", "ms": "{} * 1000", "us": "{}", "ns": "{} // 1000"}


@dataclass(frozen=True, slots=True)
class FileSchema:
    """What the footer of a file says of its columns."""

    elements: str
    """The columns as Parquet writes them."""
    metadata: tuple[tuple[bytes, bytes], ...]
    """Metadata that may change how DuckDB reads the file."""
    types: tuple[tuple[str, pa.DataType], ...]
    """Name and type of each column. Durations, which Parquet does not have, are those of the
    metadata that Arrow writes; DuckDB reads them as integers (1.5.5)."""


_schemas = BoundedCache[SourceFile, FileSchema](_MAX_CACHED_FILES)
"""By place and stat, of files that passed the checks."""
_interned = BoundedCache[FileSchema, FileSchema](_MAX_CACHED_SCHEMAS)


def schemas_of(source_files: Sequence[SourceFile]) -> list[FileSchema]:
    """The schema of each file, read and checked once per content as proved by its stat.

    Raises SchemaMismatch for decimals with more digits than DuckDB supports and for times that are
    finer than a microsecond, SourceUnavailable for a file that is not Parquet or has too many
    columns, OSError.
    """
    schemas = []
    for source_file in source_files:
        schema = _schemas.get(source_file)
        if schema is None:
            now = time.time_ns()
            schema = _read_schema(source_file)
            schema = _interned.get(schema) or schema
            _interned.put(schema, schema)
            if source_file.is_proved(now, CLOCK_SECONDS):
                _schemas.put(source_file, schema)
        schemas.append(schema)
    return schemas


def has_one_schema(schemas: Sequence[FileSchema]) -> bool:
    """Whether all files have the columns and types of the first."""
    return schemas.count(schemas[0]) == len(schemas)  # compares equal objects by identity


def is_uniform(source_files: Sequence[SourceFile], schemas: Sequence[FileSchema]) -> bool:
    """Whether each of the files has the columns and types of all of them."""
    return has_one_schema(schemas) and not partition_types(source_files)


def build_select(
    source_files: Sequence[SourceFile],
    addresses: Sequence[str],
    schemas: Sequence[FileSchema],
) -> str:
    """A SELECT of all rows of these files, in order. `addresses` are the names under which DuckDB
    reads them. Raises SourceUnavailable for a name that is not UTF-8."""
    columns = _columns_without_pushdown(schemas) | _durations(schemas)
    columns |= _partition_columns(source_files)
    replaced = ", ".join(f"{value} AS {name}" for name, value in columns.items())
    options = [
        "can_have_nan=true",  # of which most writers' statistics say nothing
        f"union_by_name={'false' if has_one_schema(schemas) else 'true'}",
        *partition_options(source_files),
    ]
    return (
        f"SELECT *{f' REPLACE ({replaced})' if replaced else ''} FROM "
        f"read_parquet([{', '.join(map(path_literal, addresses))}], {', '.join(options)})"
    )


def _durations(schemas: Sequence[FileSchema]) -> dict[str, str]:
    """The expression that reads each column of durations as INTERVAL, by quoted name."""
    expressions = {}
    for schema in dict.fromkeys(schemas):
        for name, kind in schema.types:
            if pa.types.is_duration(kind):
                quoted = quote_identifier(name)
                expressions[quoted] = f"to_microseconds({_MICROSECONDS[kind.unit].format(quoted)})"
    return expressions


def _columns_without_pushdown(schemas: Sequence[FileSchema]) -> dict[str, str]:
    """How columns are selected that have another type in some files, and bytes. DuckDB 1.5.5 casts
    a condition to the type of each file: `v < 2.5` misses the 2 of a file of integers, and
    `v = 2.5` finds it; and equality finds no bytes that a dictionary holds. `least` of one value
    is that value, costs nothing, and stops the pushdown."""
    expressions = {}
    first = dict[str, tuple[str, pa.DataType]]()
    for schema in dict.fromkeys(schemas):
        for name, kind in schema.types:
            known_name, known = first.setdefault(fold(name), (name, kind))
            if kind != known or pa.binary() in nested_types(kind):
                quoted = quote_identifier(known_name)
                expressions[quoted] = f"least({quoted})"
    return expressions


def _partition_columns(source_files: Sequence[SourceFile]) -> dict[str, str]:
    """How partition columns are selected. DuckDB 1.5.5 takes the statistics of a partition column
    from a column of that name or place in the file, where it reads a single one: `max(k)` fails or
    is wrong, and so is `k > 5`. An expression around the column has no statistics; files are
    skipped by it as before."""
    keys = partition_types(source_files)
    names = [quote_identifier(name) for name in keys if _PARTITION_NAME.fullmatch(name)]
    return {name: f"greatest({name}, {name})" for name in names}


def check_common_types(
    source_files: Sequence[SourceFile],
    schemas: Sequence[FileSchema],
    options: Mapping[str, Any],
) -> list[str]:
    """Check that the files have common columns and types that hold all their values, and that their
    `key=value` folders agree; returns what was decided, one sentence for each column.

    Raises SourceUnavailable, which names the column, two files and their types; OSError.
    """
    first_by_schema: dict[FileSchema, SourceFile] = {}
    for source_file, schema in zip(source_files, schemas, strict=True):
        first_by_schema.setdefault(schema, source_file)
    _check_partitions(source_files, schemas)
    if len(first_by_schema) == 1:
        return []
    merges = bool(options.get("union_by_name"))
    if not merges:
        _check_same_columns(first_by_schema)
    common: dict[str, tuple[str, pa.DataType, SourceFile]] = {}
    found: dict[str, dict[pa.DataType, SourceFile]] = {}
    for schema, source_file in first_by_schema.items():
        for name, kind in schema.types:
            earlier = common.setdefault(fold(name), (name, kind, source_file))
            both = common_type(earlier[1], kind, merges_fields=merges)
            if both is None and _are_exact_doubles(source_files, schemas, name, (earlier[1], kind)):
                both = pa.float64()
            if both is None:
                raise _type_error(name, earlier[2], earlier[1], source_file, kind)
            if both != earlier[1]:
                common[fold(name)] = (earlier[0], both, source_file)
            found.setdefault(fold(name), {}).setdefault(kind, source_file)
    notes = []
    for key, (name, kind, _) in common.items():
        places = [f"{place_of(file)} has {each}" for each, file in found[key].items()]
        if len(places) > 1:
            [shown] = shown_types(pa.schema([(name, kind)]))
            notes.append(f"{name}: {shown}, because {', '.join(places)}")
    return notes


def _read_schema(source_file: SourceFile) -> FileSchema:
    name = os.path.basename(source_file.path)
    try:
        with source_file.open() as file:
            footer = open_parquet(file).metadata
            fields = footer.schema.to_arrow_schema()
            check_column_count(name, len(fields))
            if not len(fields):
                raise SourceUnavailable(
                    f"{display_name(name)} has no columns.", hint="Write it with columns."
                )
            fine = []
            for field in fields:
                _check_type(name, field)
                if any(_is_cut(part) for part in nested_types(field.type)):
                    fine.append(field.name)
            if fine:
                _check_whole_microseconds(name, pq.read_table(file, columns=fine))
    except pa.ArrowNotImplementedError as error:
        raise SourceUnavailable(
            f"A column of {display_name(name)} cannot be read: {first_line(error)}.",
            hint="Write it as another type, such as DECIMAL or text.",
        ) from None
    except pa.ArrowException:
        raise file_error("not a complete Parquet file", name) from None
    except OSError as error:
        if not is_damage(str(error)):
            raise
        raise file_error("not a complete Parquet file", name) from None
    elements = str(footer.schema).partition("\n")[2]  # its first line is the object's address
    return FileSchema(
        elements,
        tuple(
            sorted(
                pair for pair in (footer.metadata or {}).items() if pair[0] not in _IGNORED_METADATA
            )
        ),
        tuple((field.name, plain_type(field.type)) for field in fields),
    )


def _is_cut(kind: pa.DataType) -> bool:
    """Whether DuckDB reads values of a type in microseconds and drops the last digits."""
    is_naive = pa.types.is_timestamp(kind) and kind.tz is None
    return getattr(kind, "unit", "") == "ns" and not is_naive


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without what the metadata of Arrow adds and DuckDB does not read: dictionaries,
    widths of offsets and of lists, names of list items, time zones other than UTC."""
    if isinstance(kind, pa.ExtensionType):
        return plain_type(kind.storage_type)
    kind = decoded_type(kind)
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pa.timestamp(kind.unit, "UTC")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    return kind


def _check_type(name: str, field: pa.Field) -> None:
    for part in nested_types(field.type):
        if pa.types.is_decimal(part) and part.precision > MAX_DECIMAL_DIGITS:
            raise SchemaMismatch(
                f"Column {field.name!r} of {name} has decimals of {part.precision} digits; DuckDB "
                f"supports at most {MAX_DECIMAL_DIGITS} and would read other numbers.",
                column=field.name,
                expected=f"at most {MAX_DECIMAL_DIGITS} digits",
                actual=str(part),
                hint=f"Convert the column to text, DOUBLE or at most {MAX_DECIMAL_DIGITS} digits "
                "with pyarrow, which reads it correctly.",
            )
        is_period = has_periods(field)
        if is_period or (pa.types.is_duration(part) and part != field.type):
            found = "periods of pandas" if is_period else f"durations inside of {field.type}"
            raise SchemaMismatch(
                f"Column {field.name!r} of {name} has {found}, which DuckDB reads as integers.",
                column=field.name,
                actual=str(field.type),
                hint="Convert them to text or integers, or write durations as a column.",
            )


def _check_whole_microseconds(name: str, table: pa.Table) -> None:
    for field, column in zip(table.schema, table.columns, strict=True):
        try:
            cast_losslessly(column, with_sql_precision(field.type, times=True))
        except pa.ArrowInvalid as error:
            raise SchemaMismatch(
                f"Column {field.name!r} of {name} has times that are finer than a microsecond, "
                f"which SQL would truncate ({error}).",
                column=field.name,
                actual=str(field.type),
                hint="Round them to microseconds.",
            ) from None


def _check_same_columns(first_by_schema: Mapping[FileSchema, SourceFile]) -> None:
    (first_schema, first), *others = first_by_schema.items()
    first_names = [name for name, _ in first_schema.types]
    for schema, source_file in others:
        names = [name for name, _ in schema.types]
        check_same_columns(place_of(source_file), names, place_of(first), first_names)


def _check_partitions(source_files: Sequence[SourceFile], schemas: Sequence[FileSchema]) -> None:
    """Raise SourceUnavailable for files that do not have the same `key=value` folders, of which
    DuckDB would ignore some, and for a key that is also a column of other values, which DuckDB
    would replace."""
    if not partition_types(source_files):
        return
    for source_file, schema in zip(source_files, schemas, strict=True):
        pairs = {fold(key): value for key, value in partitions(source_file.path).items()}
        for name, _ in schema.types:
            value = pairs.get(fold(name))
            if value is not None and not _is_everywhere(value, source_file, name):
                raise SourceUnavailable(
                    f"{place_of(source_file)} has a column {name!r} with values other than that of "
                    "its folder.",
                    hint="Rename the folders, or remove the column from the files.",
                )


def _is_everywhere(value: str, source_file: SourceFile, name: str) -> bool:
    """Whether by its statistics a column has no other value."""
    return all(
        part is not None
        and part.has_min_max
        and part.null_count == 0
        and str(part.min) == urllib.parse.unquote(value) == str(part.max)
        for part in _statistics(source_file, name)
    )


def _are_exact_doubles(
    source_files: Sequence[SourceFile],
    schemas: Sequence[FileSchema],
    name: str,
    kinds: tuple[pa.DataType, pa.DataType],
) -> bool:
    """Whether the types are DOUBLE and integers, and by the statistics of the files every integer
    is one that a DOUBLE holds."""
    if pa.float64() not in kinds or not any(pa.types.is_integer(kind) for kind in kinds):
        return False
    for source_file, schema in zip(source_files, schemas, strict=True):
        types = {fold(column): kind for column, kind in schema.types}
        if not pa.types.is_integer(types.get(fold(name), pa.null())):
            continue
        for part in _statistics(source_file, name):
            if part is None or (part.num_values and not part.has_min_max):
                return False
            if part.num_values and max(-part.min, part.max) > _MAX_EXACT_INTEGER:
                return False
    return True


def _statistics(source_file: SourceFile, name: str) -> list[Any]:
    """The statistics of a plain column in each row group; None where there are none."""
    with source_file.open() as file:
        footer = open_parquet(file).metadata
    paths = [fold(footer.schema.column(leaf).path) for leaf in range(len(footer.schema))]
    if fold(name) not in paths:
        return [None]
    leaf = paths.index(fold(name))
    groups = range(footer.num_row_groups)
    return [footer.row_group(group).column(leaf).statistics for group in groups]


def _type_error(
    name: str, first: SourceFile, first_type: pa.DataType, other: SourceFile, kind: pa.DataType
) -> SourceUnavailable:
    return SourceUnavailable(
        f"{place_of(first)} and {place_of(other)} differ: {name!r} is {first_type} in the first "
        f"and {kind} in the second, and no type is known to hold the values of both.",
        hint=f"Write {name!r} with one type in all files, or add the files as two sources.",
    )
