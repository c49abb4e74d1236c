"""Digests of Arrow data by value, independent of chunking, offsets, dictionaries and the bytes
under nulls."""

import hashlib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.storage.parquet import decoded_column, decoded_type

SLICE_ROWS = 1 << 20
"""Rows decoded at a time."""


def arrow_digests(table: pa.Table) -> dict[str, str]:
    """SHA-256 of each column over its type, nulls and values in row order. Raises SchemaMismatch
    for a UNION or for two columns with the same name."""
    names = table.schema.names
    if len(set(names)) != len(names):
        duplicate = next(n for n in names if names.count(n) > 1)
        raise SchemaMismatch(
            f"Two columns are named {duplicate!r}.",
            column=duplicate,
            hint="Give one of them another name.",
        )
    return dict(zip(names, map(_column_digest, names, table.columns), strict=True))


def rows_digest(table: pa.Table) -> str:
    """SHA-256 over the names, types and values of all columns. Raises SchemaMismatch as
    `arrow_digests`."""
    return digest_of(
        [
            [name, str(table.schema.field(name).type), digest]
            for name, digest in arrow_digests(table).items()
        ]
    )


def reader_digests(batches: pa.RecordBatchReader) -> tuple[dict[str, str], int]:
    """Like `arrow_digests`, for a stream of which only one batch at a time is in memory, with the
    number of rows. Raises SchemaMismatch for a UNION."""
    running = RunningDigests(batches.schema)
    for batch in batches:
        running.update(batch)
    return running.digests(), running.rows


def table_digest(table: pa.Table) -> str:
    """SHA-256 over names, types and values of all columns, and the number of rows. Raises
    SchemaMismatch as `arrow_digests`."""
    return digest_of({"columns": list(arrow_digests(table).items()), "rows": table.num_rows})


class RunningDigests:
    """Like `arrow_digests`, for rows that arrive in batches of any size. Raises SchemaMismatch as
    `arrow_digests`."""

    def __init__(self, schema: pa.Schema) -> None:
        arrow_digests(schema.empty_table())
        self._schema, self.rows = schema, 0
        self._streams = {name: _ColumnHashes(name) for name in schema.names}

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the next rows."""
        self.rows += batch.num_rows
        for name, column in zip(self._schema.names, batch.columns, strict=True):
            for chunk in decoded_column(pa.chunked_array([column])).chunks:
                self._streams[name].update(chunk)

    def digests(self) -> dict[str, str]:
        """A digest for each column over all rows added so far."""
        return {
            field.name: _typed_digest(field.type, self.rows, self._streams[field.name])
            for field in self._schema
        }


def _column_digest(name: str, column: pa.ChunkedArray) -> str:
    streams = _ColumnHashes(name)
    plain = decoded_column(column)
    for chunk in plain.chunks:
        for start in range(0, len(chunk), SLICE_ROWS):
            streams.update(chunk.slice(start, SLICE_ROWS))
    return _typed_digest(plain.type, len(plain), streams)


def _typed_digest(kind: pa.DataType, rows: int, streams: "_ColumnHashes") -> str:
    return digest_of({"type": _type_name(kind), "rows": rows, "streams": streams.digests()})


def _type_name(kind: pa.DataType) -> str:
    """The name of the type without the width of offsets: strings are equal in all libraries."""
    return str(decoded_type(kind)).replace("large_", "")


class _ColumnHashes:
    """One running hash per stream of a column: validity, lengths and values, at every nesting
    depth.

    Other batch boundaries only split each stream at other points, which a running hash does not
    see.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._hashes: dict[str, Any] = {}

    def digests(self) -> dict[str, str]:
        return {stream: running_hash.hexdigest() for stream, running_hash in self._hashes.items()}

    def update(self, values: pa.Array, stream: str = "") -> None:
        """Add an array: first which values are valid, then the valid values."""
        kind = values.type
        self._hash_fixed_width(stream + "?", values.is_valid().cast(pa.uint8()))
        # The bytes under nulls are arbitrary and must not be hashed.
        if values.null_count:
            values = values.drop_null()
        if isinstance(kind, pa.BaseExtensionType):
            self.update(values.storage, stream + "x")
        elif pa.types.is_null(kind):
            return
        elif pa.types.is_struct(kind):
            for i, child in enumerate(values.flatten()):
                self.update(child, f"{stream}.{i}")
        elif pa.types.is_map(kind):
            entry_type = pa.struct(
                [pa.field("key", kind.key_type, nullable=False), pa.field("value", kind.item_type)]
            )
            self.update(values.cast(pa.list_(entry_type)), stream + "m")
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._hash_lengths(stream, pc.list_value_length(values))
            self.update(values.flatten(), stream + "[")
        elif pa.types.is_fixed_size_list(kind):
            self.update(values.flatten(), stream + "[")
        elif (
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_binary(kind)
            or pa.types.is_large_binary(kind)
        ):
            self._hash_texts(stream, values)
        elif pa.types.is_boolean(kind):  # as bytes: bits depend on the offset of the slice
            self._hash_fixed_width(stream, values.cast(pa.uint8()))
        elif (
            pa.types.is_primitive(kind)
            or pa.types.is_fixed_size_binary(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_interval(kind)
        ):
            self._hash_fixed_width(stream, values)
        else:
            raise SchemaMismatch(
                f"Column {self._column!r} holds {kind}, which has no digest.",
                column=self._column,
                actual=str(kind),
            )

    def _hash_texts(self, stream: str, values: pa.Array) -> None:
        self._hash_lengths(stream, pc.binary_length(values))
        wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
        _, offsets, data = values.buffers()
        if data is None or not len(values):
            self._hash_of(stream)
            return
        bounds = pa.Array.from_buffers(
            pa.int64() if wide else pa.int32(),
            len(values) + 1,
            [None, offsets],
            offset=values.offset,
        )
        first, last = bounds[0].as_py(), bounds[len(values)].as_py()
        self._hash_of(stream).update(data.slice(first, last - first))

    def _hash_lengths(self, stream: str, lengths: pa.Array) -> None:
        # As int64, so that types with 32-bit and 64-bit offsets have equal digests.
        self._hash_fixed_width(stream + "#", lengths.cast(pa.int64()))

    def _hash_fixed_width(self, stream: str, values: pa.Array) -> None:
        """Hash the bytes of a fixed-width array without nulls."""
        running_hash = self._hash_of(stream)
        if len(values) and (data := values.buffers()[1]) is not None:
            width = values.type.bit_width // 8
            running_hash.update(data.slice(values.offset * width, len(values) * width))

    def _hash_of(self, stream: str) -> Any:
        return self._hashes.setdefault(stream, hashlib.sha256())
