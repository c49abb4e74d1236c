"""Digests of Arrow data by value: independent of chunks, offsets, dictionaries, and of what lies under nulls."""

import concurrent.futures
import hashlib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.canonical import digest_of
from jammi_lab.errors import SchemaMismatch
from jammi_lab.storage.parquet import plain_column, plain_type

_SPLIT = 16 << 20
"""From this many bytes on, columns are hashed on two threads (hashing lets go of the interpreter)."""
_SLICE = 1 << 20
"""Rows that are unpacked at a time."""


def arrow_digests(table: pa.Table) -> dict[str, str]:
    """A SHA-256 for each column over its type, nulls and values, in the order of the rows; SchemaMismatch for a UNION or two columns of one name."""
    names = table.schema.names
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise SchemaMismatch(f"Two columns are called {twice!r}.", column=twice, hint="Give one of them another name.")
    if len(names) < 2 or table.nbytes < _SPLIT:
        return dict(zip(names, map(_column_digest, names, table.columns), strict=True))
    with concurrent.futures.ThreadPoolExecutor(2, "jammi-digest") as pool:
        return dict(zip(names, pool.map(_column_digest, names, table.columns), strict=True))


def reader_digests(batches: pa.RecordBatchReader) -> tuple[dict[str, str], int]:
    """The same over rows as they come, of which never more than a batch is held, and how many they are. SchemaMismatch for a UNION."""
    streams = [_Streams(name) for name in batches.schema.names]
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        for running, column in zip(streams, batch.columns, strict=True):
            for chunk in plain_column(pa.chunked_array([column])).chunks:
                running.take(chunk)
    kinds = [_type_word(field.type) for field in batches.schema]
    said = (digest_of({"type": kind, "rows": rows, "streams": running.digests()}) for kind, running in zip(kinds, streams, strict=True))
    return dict(zip(batches.schema.names, said, strict=True)), rows


def table_digest(table: pa.Table) -> str:
    """One SHA-256 over names, types and values of all columns, and the number of rows. SchemaMismatch as `arrow_digests`."""
    return digest_of({"columns": list(arrow_digests(table).items()), "rows": table.num_rows})


class RunningDigests:
    """The same digests over rows that come in batches; how they are cut does not matter. SchemaMismatch as `arrow_digests`."""

    def __init__(self, schema: pa.Schema) -> None:
        arrow_digests(schema.empty_table())
        self._schema, self.rows = schema, 0
        self._streams = {name: _Streams(name) for name in schema.names}

    def take(self, batch: pa.RecordBatch) -> None:
        """The next rows."""
        self.rows += batch.num_rows
        for name, column in zip(self._schema.names, batch.columns, strict=True):
            for chunk in plain_column(pa.chunked_array([column])).chunks:
                self._streams[name].take(chunk)

    def digests(self) -> dict[str, str]:
        """A digest for each column over all rows so far."""
        return {field.name: _said(field.type, self.rows, self._streams[field.name]) for field in self._schema}


def _column_digest(name: str, column: pa.ChunkedArray) -> str:
    streams = _Streams(name)
    plain = plain_column(column)
    for chunk in plain.chunks:
        for start in range(0, len(chunk), _SLICE):
            streams.take(chunk.slice(start, _SLICE))
    return _said(plain.type, len(plain), streams)


def _said(kind: pa.DataType, rows: int, streams: "_Streams") -> str:
    return digest_of({"type": _type_word(kind), "rows": rows, "streams": streams.digests()})


def _type_word(kind: pa.DataType) -> str:
    """The type's name, with the width of offsets left out: a text is a text in every library."""
    return str(plain_type(kind)).replace("large_", "")


class _Streams:
    """One running hash for each stream of a column: validity, lengths, values, at every depth.

    Cutting the rows differently cuts each stream differently, which a running hash does not see.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._hashes: dict[str, Any] = {}

    def digests(self) -> dict[str, str]:
        return {place: running.hexdigest() for place, running in self._hashes.items()}

    def take(self, values: pa.Array, place: str = "") -> None:
        """Feed an array: which values are there, then those that are."""
        kind = values.type
        self._feed(place + "?", values.is_valid().cast(pa.uint8()))
        if values.null_count:
            values = values.drop_null()
        if isinstance(kind, pa.BaseExtensionType):
            self.take(values.storage, place + "x")
        elif pa.types.is_null(kind):
            return
        elif pa.types.is_struct(kind):
            for i, child in enumerate(values.flatten()):
                self.take(child, f"{place}.{i}")
        elif pa.types.is_map(kind):
            entry = pa.struct([pa.field("key", kind.key_type, nullable=False), pa.field("value", kind.item_type)])
            self.take(values.cast(pa.list_(entry)), place + "m")
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._lengths(place, pc.list_value_length(values))
            self.take(values.flatten(), place + "[")
        elif pa.types.is_fixed_size_list(kind):
            self.take(values.flatten(), place + "[")
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            self._texts(place, values)
        elif pa.types.is_boolean(kind):
            self._feed(place, values.cast(pa.uint8()))
        elif pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_decimal(kind) or pa.types.is_interval(kind):
            self._feed(place, values)
        else:
            raise SchemaMismatch(f"Column {self._column!r} holds {kind}, which has no digest.", column=self._column, actual=str(kind))

    def _texts(self, place: str, values: pa.Array) -> None:
        self._lengths(place, pc.binary_length(values))
        wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
        _, offsets, data = values.buffers()
        if data is None or not len(values):
            self._hash(place)
            return
        bounds = pa.Array.from_buffers(pa.int64() if wide else pa.int32(), len(values) + 1, [None, offsets], offset=values.offset)
        first, last = bounds[0].as_py(), bounds[len(values)].as_py()
        self._hash(place).update(data.slice(first, last - first))

    def _lengths(self, place: str, lengths: pa.Array) -> None:
        self._feed(place + "#", lengths.cast(pa.int64()))

    def _feed(self, place: str, values: pa.Array) -> None:
        """The bytes of a fixed-width array without nulls."""
        running = self._hash(place)
        if len(values) and (data := values.buffers()[1]) is not None:
            width = values.type.bit_width // 8
            running.update(data.slice(values.offset * width, len(values) * width))

    def _hash(self, place: str) -> Any:
        return self._hashes.setdefault(place, hashlib.sha256())
