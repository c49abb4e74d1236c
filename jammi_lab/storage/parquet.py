"""Deterministic Parquet files: the bytes depend only on the rows and their order."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jammi_lab.core.dataframes import nested_types
from jammi_lab.core.errors import SchemaMismatch, first_line
from jammi_lab.core.identifiers import fold
from jammi_lab.storage import own_files
from jammi_lab.storage.files import StoragePath, fault_point, open_for_reading

ROW_GROUP_ROWS = 122_880
"""Rows per row group except the last: what DuckDB reads best."""
_ROW_GROUP_BYTES = 16 << 20
"""Size of the vectors in a row group. Writing and reading one takes twice as much memory."""
WRITER = f"pyarrow {pa.__version__}, layout 2"
"""The writer of a file. Column digests are comparable only within one writer."""

_MIN_DICTIONARY_FACTOR = 16
"""A text column gets a dictionary when its first row group has at least this many rows per distinct
text."""


class ParquetSink:
    """Writer of one Parquet file, row group by row group, from batches of any size.

    Equal rows in equal order give equal bytes, whatever the batch boundaries. About one row group
    is held in memory. Raises SchemaMismatch for columns that share a name, and for types that do
    not survive Parquet or SQL (INTERVAL, UNION).
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = stored_schema(schema)
        self.rows = 0
        self._rows_per_group = row_group_rows(self.schema)
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._file: pa.OSFile | None = None
        self._footers: list[pq.FileMetaData] = []

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Add rows. Raises SchemaMismatch when they do not have the schema of the file; OSError
        when the disk fails."""
        table = _conform(
            batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch]), self.schema
        )
        start = 0
        while table.num_rows - start >= self._rows_per_group - self._pending_rows:
            row_count = self._rows_per_group - self._pending_rows
            self._buffer(table.slice(start, row_count))
            self._flush()
            start += row_count
        if start < table.num_rows:
            self._buffer(table.slice(start))

    def close(self, metadata: Mapping[bytes, bytes] | None = None) -> int:
        """Write the remaining rows and the footer, with this metadata, and return the number of
        rows. Raises OSError."""
        if self._pending_rows or self._writer is None:
            self._flush()
        fault_point("parquet.before_footer")
        assert self._writer is not None
        assert self._file is not None
        if metadata is not None:
            self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        self._file.close()
        fault_point("parquet.after_footer")
        return self.rows

    @property
    def footer(self) -> pq.FileMetaData:
        """The footer of the closed file."""
        return self._footers[0]

    def abort(self) -> None:
        """Remove the file. May be called at any time, repeatedly, also after `close`."""
        self._pending, self._pending_rows = [], 0
        for resource in (self._writer, self._file):
            if resource is not None:
                # Only the descriptor matters, since the file is removed next. A writer that failed
                # raises RuntimeError here: it has no footer.
                with contextlib.suppress(OSError, pa.ArrowException, ValueError, RuntimeError):
                    resource.close()
        own_files.discard(self.path)

    def _buffer(self, piece: pa.Table) -> None:
        self._pending.append(piece)
        self._pending_rows += piece.num_rows

    def _flush(self) -> None:
        # One chunk per column: the writer may end a page where a chunk ends, and batch boundaries
        # must not influence the bytes.
        table = (
            pa.concat_tables(self._pending).combine_chunks()
            if self._pending
            else self.schema.empty_table()
        )
        if self._writer is None:
            # a file object instead of a path saves pyarrow's look-up of a filesystem
            self._file = pa.OSFile(os.fspath(self.path), mode="wb")
            self._writer = pq.ParquetWriter(
                self._file,
                self.schema,
                version="2.6",
                metadata_collector=self._footers,
                **_layout(table),
            )
        fault_point("parquet.before_row_group")
        if table.num_rows:
            self._writer.write_table(table, row_group_size=self._rows_per_group)
        self.rows += table.num_rows
        self._pending, self._pending_rows = [], 0


def row_group_rows(schema: pa.Schema) -> int:
    """Rows per row group, by the types alone: fewer for vectors, whose rows are wide."""
    width = sum(
        f.type.list_size * f.type.value_type.bit_width // 8 for f in schema if _is_vector(f.type)
    )
    return (
        ROW_GROUP_ROWS
        if not width
        else min(ROW_GROUP_ROWS, max(1024, _ROW_GROUP_BYTES // width // 1024 * 1024))
    )


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The schema as stored: names and plain types, without anything that varies. Raises
    SchemaMismatch."""
    if not len(schema):
        raise SchemaMismatch(
            "A result without columns cannot be stored.", hint="Select at least one column."
        )
    names: dict[str, str] = {}
    for name in schema.names:  # evaluated once: pyarrow builds a new list on each access
        earlier = names.get(fold(name))
        names[fold(name)] = name
        if earlier is not None:
            problem = (
                f"Two columns are named {name!r}"
                if earlier == name
                else f"Columns {earlier!r} and {name!r} differ only in case"
            )
            raise SchemaMismatch(
                f"{problem}; column names of a stored table must be unique.",
                column=name,
                hint="Rename one of them with AS.",
            )
    return pa.schema([pa.field(f.name, _stored_type(f.type, f.name)) for f in schema])


def _stored_type(kind: pa.DataType, column: str) -> pa.DataType:
    if kind == _TIME64_NS:  # of a column itself; each value is checked to fit when it is written
        return _TIME64_US
    plain = decoded_type(kind)
    for part in nested_types(plain):
        if part == _TIME64_NS:
            raise _nanoseconds_error(column, kind)
        if pa.types.is_decimal(part) and (part.precision > MAX_DECIMAL_DIGITS or part.scale < 0):
            description = f"decimals of {part.precision} digits with scale {part.scale}"
            raise SchemaMismatch(
                f"Column {column!r} holds {description}, which DuckDB cannot read back exactly.",
                column=column,
                expected=f"at most {MAX_DECIMAL_DIGITS} digits and a scale of at least 0",
                actual=str(kind),
                hint="CAST it to text or to another DECIMAL.",
            )
        if pa.types.is_interval(part) or pa.types.is_duration(part) or pa.types.is_union(part):
            type_name = "a UNION" if pa.types.is_union(part) else "an INTERVAL"
            message = (
                f"Column {column!r} holds {type_name}, which cannot be read back from Parquet."
            )
            raise SchemaMismatch(
                message, column=column, actual=str(kind), hint="CAST it to text or a number."
            )
        # pyarrow 26 loses rows when it casts a list view to a list.
        if pa.types.is_list_view(part) or pa.types.is_large_list_view(part):
            raise SchemaMismatch(
                f"Column {column!r} holds a list view; a plain list is required.",
                column=column,
                actual=str(kind),
            )
        if pa.types.is_struct(part) and not part.num_fields:
            raise SchemaMismatch(
                f"Column {column!r} holds a struct without fields, which Parquet cannot store.",
                column=column,
                actual=str(kind),
            )
    return plain


MAX_DECIMAL_DIGITS = 38
"""DuckDB's maximum decimal precision. It reads longer Parquet decimals as floating-point numbers,
and wrong ones."""
_TIME64_NS, _TIME64_US = pa.time64("ns"), pa.time64("us")
"""DuckDB reads times of day from Parquet in whole microseconds, and would silently drop the rest.
"""


def _nanoseconds_error(column: str, kind: pa.DataType) -> SchemaMismatch:
    message = (
        f"Column {column!r} holds times of day in nanoseconds, which DuckDB reads back in "
        "microseconds."
    )
    return SchemaMismatch(
        message,
        column=column,
        expected=str(_TIME64_US),
        actual=str(kind),
        hint="CAST it to TIME, or to a number.",
    )


def _to_microseconds(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(_TIME64_US)
    except pa.ArrowInvalid:
        raise _nanoseconds_error(name, column.type) from None


def decoded_type(kind: pa.DataType) -> pa.DataType:
    """The type with dictionaries, views and run-length encoding resolved and field metadata
    dropped, at every depth."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return decoded_type(kind.value_type)
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    if pa.types.is_map(kind):
        return pa.map_(
            decoded_type(kind.key_type),
            _decoded_field(kind.item_field),
            keys_sorted=kind.keys_sorted,
        )
    if pa.types.is_struct(kind):
        return pa.struct([_decoded_field(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_decoded_field(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_decoded_field(kind.value_field))
    if pa.types.is_list(kind):
        return pa.list_(_decoded_field(kind.value_field))
    return kind


def _decoded_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, decoded_type(field.type), field.nullable)


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema, check_metadata=True):
        return table
    if table.schema.names != schema.names:
        raise SchemaMismatch(
            "The columns of a batch differ from those of the table.",
            expected=", ".join(schema.names),
            actual=", ".join(table.schema.names),
        )
    columns = []
    for name, column, target_type in zip(schema.names, table.columns, schema.types, strict=True):
        if column.type == _TIME64_NS and target_type == _TIME64_US:
            columns.append(_to_microseconds(column, name))
            continue
        if column.type != target_type and decoded_type(column.type) != target_type:
            raise SchemaMismatch(
                f"Column {name!r} of a batch is {column.type}, not {target_type}.",
                column=name,
                expected=str(target_type),
                actual=str(column.type),
            )
        columns.append(column if column.type == target_type else decoded_column(column))
    return pa.table(columns, schema=schema)


def decoded_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with dictionaries, views and run-length encoding resolved, as in
    `decoded_type`."""
    target_type = decoded_type(column.type)
    if pa.types.is_dictionary(column.type):
        return pa.chunked_array(
            [chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type
        ).cast(target_type)
    if pa.types.is_run_end_encoded(column.type):
        return pa.chunked_array(
            [pc.run_end_decode(chunk) for chunk in column.chunks], column.type.value_type
        ).cast(target_type)
    return column if column.type == target_type else column.cast(target_type)


def _layout(first_group: pa.Table) -> dict[str, Any]:
    """Encodings, compression and statistics of the columns, by their first row group.

    Measured with 1 M rows: text without a dictionary halves the writing time; integers and times as
    deltas are smaller and faster to write and read than plain or dictionary pages; vectors gain
    from no encoding. Floating-point columns have no minimum and maximum: pyarrow leaves NaN out of
    them, and DuckDB, for which NaN is greater than all numbers, would skip its row.
    """
    paths = leaf_paths(first_group.schema)
    flat = {
        f.name: leaves[0]
        for f, leaves in zip(first_group.schema, paths, strict=True)
        if leaves == [f.name]
    }
    vectors = {
        leaf
        for f, leaves in zip(first_group.schema, paths, strict=True)
        for leaf in leaves
        if _is_vector(f.type)
    }
    all_leaves = [leaf for leaves in paths for leaf in leaves]
    dictionary = [leaf for name, leaf in flat.items() if _is_repetitive(first_group[name])]
    return {
        "use_dictionary": dictionary or False,
        "column_encoding": {
            leaf: "DELTA_BINARY_PACKED"
            for name, leaf in flat.items()
            if _is_delta_encodable(first_group.schema.field(name).type)
        }
        or None,
        "compression": {leaf: "none" if leaf in vectors else "zstd" for leaf in all_leaves},
        "compression_level": {leaf: 1 for leaf in all_leaves if leaf not in vectors} or None,
        "write_statistics": [
            leaf
            for f, leaves in zip(first_group.schema, paths, strict=True)
            if not any(map(pa.types.is_floating, nested_types(f.type)))
            for leaf in leaves
        ]
        or False,
    }


def _is_delta_encodable(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_date(kind)
        or pa.types.is_time(kind)
        or pa.types.is_timestamp(kind)
    )


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type))


def _is_repetitive(column: pa.ChunkedArray) -> bool:
    textual = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not textual or not len(column):
        return False
    max_distinct = len(column) // _MIN_DICTIONARY_FACTOR
    # Most texts are distinct, which the first rows show.
    return all(
        pc.count_distinct(rows).as_py() <= max_distinct
        for rows in (column.slice(0, 2 * max_distinct + 1), column)
    )


def leaf_paths(schema: pa.Schema) -> list[list[str]]:
    """For each column of the schema, the paths of its leaves in Parquet."""
    if all(
        _leaf_count(kind) == 1
        and not kind.num_fields
        and not isinstance(kind, pa.BaseExtensionType)
        for kind in schema.types
    ):
        return [[name] for name in schema.names]
    # An empty file tells how Parquet names the leaves of nested types.
    buffer = pa.BufferOutputStream()
    pq.ParquetWriter(buffer, schema).close()
    return [
        leaves for _, leaves in split_leaves(pq.read_metadata(pa.BufferReader(buffer.getvalue())))
    ]


def split_leaves(footer: pq.FileMetaData) -> list[tuple[str, list[str]]]:
    """Each top-level column of a file with the paths of its leaves, assigned by counting, since a
    name may contain dots.

    Raises ValueError when names and leaves do not match.
    """
    schema = footer.schema
    arrow = schema.to_arrow_schema()
    if schema.names == (names := arrow.names) and not any(kind.num_fields for kind in arrow.types):
        return [(name, [name]) for name in names]
    paths = [schema.column(i).path for i in range(footer.num_columns)]
    split, position = [], 0
    for field in arrow:
        count = _leaf_count(field.type)
        leaves = paths[position : position + count]
        if len(leaves) != count or not all(
            p == field.name or p.startswith(field.name + ".") for p in leaves
        ):
            raise ValueError(f"the leaves of column {field.name!r} cannot be determined")
        split.append((field.name, leaves))
        position += count
    if position != len(paths):
        raise ValueError("the footer has more leaves than columns account for")
    return split


def _leaf_count(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _leaf_count(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _leaf_count(kind.value_type)
    return (
        sum(_leaf_count(kind.field(i).type) for i in range(kind.num_fields))
        if kind.num_fields
        else 1
    )


@contextlib.contextmanager
def foreign_types() -> Iterator[None]:
    """Raise ArrowInvalid for whatever a class of another package raises in the block, of which
    Arrow makes the type of a column by its metadata: pandas has some."""
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  of the class, which is another package's
        raise pa.ArrowInvalid(f"a column has a type that is none: {first_line(error)}") from None


def open_parquet(file: BinaryIO, buffer_size: int = 0) -> pq.ParquetFile:
    """A Parquet file read through an open Python file; read it with `use_threads=False`. Raises
    OSError, and pyarrow.ArrowInvalid for an incomplete file and for names and types that are none.

    By default a thread of Arrow reads ahead. One that releases the last buffer of a Python file
    while the interpreter ends aborts the process.
    """
    with foreign_types():
        return pq.ParquetFile(file, buffer_size=buffer_size, pre_buffer=False)


def read_footer(path: StoragePath) -> pq.FileMetaData | None:
    """The footer of a file; None when it does not exist or is not a complete Parquet file. A footer
    proves nothing about the data. Raises OSError for a file that cannot be read."""
    try:
        with open_for_reading(path) as file:
            return open_parquet(file).metadata
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    except OSError as error:
        if error.errno is not None:  # the system's: Arrow's own, of a damaged footer, has none
            raise
        return None
