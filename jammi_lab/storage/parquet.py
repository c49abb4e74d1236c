"""Parquet files whose bytes depend on nothing but the rows and their order."""

import contextlib
import os
from io import FileIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jammi_lab.errors import SchemaMismatch
from jammi_lab.names import fold
from jammi_lab.storage.files import Place, fault_point, opened, write_all
from jammi_lab.storage.growing import Growing

ROW_GROUP = 122_880
"""Rows of each row group but the last: what DuckDB reads best."""
_GROUP_BYTES = 16 << 20
"""Of vectors in a row group: writing and reading one takes twice that."""
WRITER = f"pyarrow {pa.__version__}, layout 2"
"""What wrote a file; column digests compare within one writer only."""

_SMALL = 1 << 20
"""Bytes in memory of a table whose file is made there, too."""

_AS_THEY_ARE = frozenset(
    kind.id
    for kind in (
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_()),
        *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.date32(), pa.timestamp("us")),
    )
)
"""Types that are stored as they are, whatever their parameters: most columns have one, and need not be asked about all others."""

_FEW = 16
"""A text column gets a dictionary when its first row group has at least this many rows for each distinct text."""


class ParquetSink:
    """A Parquet file that is being written, row group by row group, from batches of any size.

    Equal rows in equal order make equal bytes, however they were cut into batches; no more than about one row group is held.
    SchemaMismatch for columns that share a name, and for types that Parquet or SQL would not give back (INTERVAL, UNION).
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = stored_schema(schema)
        self.rows = 0
        self._group = group_rows(self.schema)
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._file: pa.OSFile | pa.BufferOutputStream | None = None
        self._footers: list[pq.FileMetaData] = []
        self.growing = Growing(path)
        """What has taken in of the file, for its digest, while it was written."""

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Take rows. SchemaMismatch when they are not of the sink's schema; OSError when the disk does not take them."""
        table = _conform(batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch]), self.schema)
        start = 0
        while table.num_rows - start >= self._group - self._held_rows:
            taken = self._group - self._held_rows
            self._hold(table.slice(start, taken))
            self._flush()
            self.growing.grew()
            start += taken
        if start < table.num_rows:
            self._hold(table.slice(start))

    def close(self) -> int:
        """Write what is left and the footer, and give the number of rows. OSError."""
        if self._held_rows or self._writer is None:
            self._flush(last=True)
        fault_point("parquet.before_footer")
        assert self._writer is not None
        assert self._file is not None
        self._writer.close()
        if isinstance(self._file, pa.BufferOutputStream):
            with FileIO(os.fspath(self.path), "w") as file:
                write_all(file, memoryview(self._file.getvalue()))
        self._file.close()
        fault_point("parquet.after_footer")
        return self.rows

    @property
    def footer(self) -> pq.FileMetaData:
        """What the footer of the closed file says."""
        return self._footers[0]

    def abort(self) -> None:
        """Leave no file. Fine at any moment, more than once, after `close` too."""
        self._held, self._held_rows = [], 0
        for each in (self._writer, self._file):
            if each is not None:
                with contextlib.suppress(OSError, pa.ArrowException, ValueError):  # only the descriptor matters: the file goes next
                    each.close()
        self.growing.abort()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def _hold(self, piece: pa.Table) -> None:
        self._held.append(piece)
        self._held_rows += piece.num_rows

    def _flush(self, *, last: bool = False) -> None:
        # One chunk per column: where a chunk ends, the writer may end a page.
        table = pa.concat_tables(self._held).combine_chunks() if self._held else self.schema.empty_table()
        if self._writer is None:
            # what is small is written in one go; and given a path, pyarrow looks for a filesystem first
            self._file = pa.BufferOutputStream() if last and table.nbytes <= _SMALL else pa.OSFile(os.fspath(self.path), mode="wb")
            self._writer = pq.ParquetWriter(self._file, self.schema, version="2.6", metadata_collector=self._footers, **_layout(table))
        fault_point("parquet.before_row_group")
        if table.num_rows:
            self._writer.write_table(table, row_group_size=self._group)
        self.rows += table.num_rows
        self._held, self._held_rows = [], 0


def group_rows(schema: pa.Schema) -> int:
    """Rows of a row group, by the types alone: fewer where there are vectors, whose rows are wide."""
    width = sum(f.type.list_size * f.type.value_type.bit_width // 8 for f in schema if _is_vector(f.type))
    return ROW_GROUP if not width else min(ROW_GROUP, max(1024, _GROUP_BYTES // width // 1024 * 1024))


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The schema as it is written: names and plain types, nothing that varies. SchemaMismatch."""
    if not len(schema):
        raise SchemaMismatch("A result without columns cannot be stored.", hint="Select at least one column.")
    seen: dict[str, str] = {}
    for name in schema.names:  # pyarrow makes the list anew each time that it is asked for
        other = seen.get(fold(name))
        seen[fold(name)] = name
        if other is not None:
            both = f"Two columns are called {name!r}" if other == name else f"Columns {other!r} and {name!r} differ only in case"
            raise SchemaMismatch(f"{both}; a stored table needs one name for each.", column=name, hint="Name one of them differently with AS.")
    return pa.schema([pa.field(f.name, _stored_type(f.type, f.name)) for f in schema])


def _stored_type(kind: pa.DataType, column: str) -> pa.DataType:
    if kind.id in _AS_THEY_ARE:
        return kind
    if kind == _FINE:
        return _COARSE
    plain = plain_type(kind)
    for part in parts_of(plain):
        if part == _FINE:
            raise _too_fine(column, kind)
        if pa.types.is_decimal(part) and (part.precision > MOST_DIGITS or part.scale < 0):
            found = f"decimals of {part.precision} digits, {part.scale} behind the point"
            raise SchemaMismatch(
                f"Column {column!r} holds {found}, which DuckDB would not read back as they are.",
                column=column,
                expected=f"at most {MOST_DIGITS} digits, from 0 on behind the point",
                actual=str(kind),
                hint="CAST it to text or to another DECIMAL.",
            )
        if pa.types.is_interval(part) or pa.types.is_duration(part) or pa.types.is_union(part):
            word = "a UNION" if pa.types.is_union(part) else "an INTERVAL"
            said = f"Column {column!r} holds {word}, which Parquet cannot give back."
            raise SchemaMismatch(said, column=column, actual=str(kind), hint="CAST it to text or a number.")
        if pa.types.is_list_view(part) or pa.types.is_large_list_view(part):  # pyarrow 26 loses rows when it casts one to a list
            raise SchemaMismatch(f"Column {column!r} holds a list view; a plain list is needed.", column=column, actual=str(kind))
        if pa.types.is_struct(part) and not part.num_fields:
            raise SchemaMismatch(f"Column {column!r} holds a struct without fields, which Parquet cannot hold.", column=column, actual=str(kind))
    return plain


MOST_DIGITS = 38
"""Of a decimal, the most that DuckDB has; of a longer one in Parquet it makes floating-point numbers, and wrong ones."""
_FINE, _COARSE = pa.time64("ns"), pa.time64("us")
"""DuckDB reads times of day from Parquet in whole microseconds, and would drop the rest without a word."""


def _too_fine(column: str, kind: pa.DataType) -> SchemaMismatch:
    said = f"Column {column!r} holds times of day in nanoseconds, which DuckDB would read back in microseconds."
    return SchemaMismatch(said, column=column, expected=str(_COARSE), actual=str(kind), hint="CAST it to TIME, or to a number.")


def _coarse(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(_COARSE)
    except pa.ArrowInvalid:
        raise _too_fine(name, column.type) from None


def parts_of(kind: pa.DataType) -> list[pa.DataType]:
    """The type and all types inside it."""
    if isinstance(kind, pa.BaseExtensionType):
        return parts_of(kind.storage_type)
    return [kind] + [part for i in range(kind.num_fields) for part in parts_of(kind.field(i).type)]


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type with dictionaries, views and run lengths resolved and field metadata dropped, at every depth."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), _plain_field(kind.item_field), keys_sorted=kind.keys_sorted)
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pa.types.is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, plain_type(field.type), field.nullable)


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema, check_metadata=True):
        return table
    if table.schema.names != schema.names:
        raise SchemaMismatch(
            "A batch does not have the columns of the table.", expected=", ".join(schema.names), actual=", ".join(table.schema.names)
        )
    columns = []
    for name, found, wanted in zip(schema.names, table.columns, schema.types, strict=True):
        if found.type == _FINE and wanted == _COARSE:
            columns.append(_coarse(found, name))
            continue
        if found.type != wanted and plain_type(found.type) != wanted:
            raise SchemaMismatch(
                f"Column {name!r} of a batch is {found.type}, not {wanted}.", column=name, expected=str(wanted), actual=str(found.type)
            )
        columns.append(found if found.type == wanted else plain_column(found))
    return pa.table(columns, schema=schema)


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with dictionaries, views and run lengths resolved, as `plain_type` says."""
    wanted = plain_type(column.type)
    if pa.types.is_dictionary(column.type):
        return pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type).cast(wanted)
    if pa.types.is_run_end_encoded(column.type):
        return pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], column.type.value_type).cast(wanted)
    return column if column.type == wanted else column.cast(wanted)


def _layout(first: pa.Table) -> dict[str, Any]:
    """How the columns are written, by what their first row group looks like.

    Measured, 1 M rows: text without a dictionary halves the write; whole numbers and times as deltas are smaller and faster to
    write and to read than plain or dictionary pages; vectors gain nothing from anything. Floating-point numbers have no least and
    greatest: pyarrow leaves NaN out of them, and DuckDB, for which NaN is greater than all numbers, would pass over its row.
    """
    paths = leaf_paths(first.schema)
    flat = {f.name: leaves[0] for f, leaves in zip(first.schema, paths, strict=True) if leaves == [f.name]}
    vectors = {leaf for f, leaves in zip(first.schema, paths, strict=True) for leaf in leaves if _is_vector(f.type)}
    every = [leaf for leaves in paths for leaf in leaves]
    dictionary = [leaf for name, leaf in flat.items() if _repeats(first[name])]
    return {
        "use_dictionary": dictionary or False,
        "column_encoding": {leaf: "DELTA_BINARY_PACKED" for name, leaf in flat.items() if _is_counted(first.schema.field(name).type)} or None,
        "compression": {leaf: "none" if leaf in vectors else "zstd" for leaf in every},
        "compression_level": {leaf: 1 for leaf in every if leaf not in vectors} or None,
        "write_statistics": [leaf for f, leaves in zip(first.schema, paths, strict=True) if not _has_floats(f.type) for leaf in leaves] or False,
    }


def _is_counted(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind))


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type))


def _has_floats(kind: pa.DataType) -> bool:
    return any(pa.types.is_floating(part) for part in parts_of(kind))


def _repeats(column: pa.ChunkedArray) -> bool:
    textual = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return textual and len(column) > 0 and pc.count_distinct(column).as_py() * _FEW <= len(column)


def leaf_paths(schema: pa.Schema) -> list[list[str]]:
    """For each column of the schema, the paths of its leaves as Parquet names them."""
    if all(_leaf_count(kind) == 1 and not kind.num_fields and not isinstance(kind, pa.BaseExtensionType) for kind in schema.types):
        return [[name] for name in schema.names]
    buffer = pa.BufferOutputStream()
    pq.ParquetWriter(buffer, schema).close()
    return [leaves for _, leaves in split_leaves(pq.read_metadata(pa.BufferReader(buffer.getvalue())))]


def split_leaves(footer: pq.FileMetaData) -> list[tuple[str, list[str]]]:
    """Each top-level column of a file, and the paths of its leaves; found by counting, since a name may itself hold dots.

    ValueError when names and leaves do not fit together.
    """
    schema = footer.schema
    arrow = schema.to_arrow_schema()
    if schema.names == (names := arrow.names) and not any(kind.num_fields for kind in arrow.types):
        return [(name, [name]) for name in names]
    paths = [schema.column(i).path for i in range(footer.num_columns)]
    split, at = [], 0
    for field in arrow:
        count = _leaf_count(field.type)
        leaves = paths[at : at + count]
        if len(leaves) != count or not all(p == field.name or p.startswith(field.name + ".") for p in leaves):
            raise ValueError(f"the leaves of column {field.name!r} cannot be told apart")
        split.append((field.name, leaves))
        at += count
    if at != len(paths):
        raise ValueError("the footer has more leaves than columns account for")
    return split


def _leaf_count(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _leaf_count(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _leaf_count(kind.value_type)
    return sum(_leaf_count(kind.field(i).type) for i in range(kind.num_fields)) if kind.num_fields else 1


def footer_at(path: Place) -> pq.FileMetaData | None:
    """The footer of a file; None when it is not there or is no closed Parquet. A footer proves nothing about the data."""
    try:
        with opened(path) as file:
            return footer_of(file)
    except OSError:
        return None


def footer_of(file: Any) -> pq.FileMetaData | None:
    """The footer of an open file or of bytes in memory; None when it is no closed Parquet. OSError when it cannot be read."""
    try:
        return pq.read_metadata(file)
    except pa.ArrowInvalid:
        return None
