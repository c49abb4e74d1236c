"""Rows of a mutable table as bytes: what Arrow holds goes in and comes out as it was, bit for bit.

A body is a msgpack array of all columns; moments, dates and times stand as their whole numbers, decimals as text. A key is bytes, or a number, that
sort as the key's values do, so that the order of rows is the same in every kernel and every database.
"""

import decimal
import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from jammi_lab.errors import InvalidArgument, SchemaMismatch, TableDamaged

MOST_KEY_BYTES = 1000
"""A longer key does not fit into an index of PostgreSQL."""
TYPES = "bool, whole numbers, float32, float64, string, binary, date32[day], time64[us], timestamp (with a zone: us only), decimal128"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode
_Encoder = Callable[[pa.ChunkedArray], list[bytes]]
_Reader = Callable[[pa.ChunkedArray], list[Any]]
_MIDDLE = 1 << 63


class Layout:
    """How the rows of one schema are written. SchemaMismatch for a type that is not kept exactly or that cannot be in a key."""

    def __init__(self, schema: pa.Schema, key: Sequence[str], table: str = "") -> None:
        self.schema, self.key = schema, list(key)
        for field in schema:
            if not _kept(field.type):
                raise SchemaMismatch(
                    f"Column {field.name!r} is {field.type}, which a mutable table does not hold.",
                    table=table,
                    column=field.name,
                    expected=TYPES,
                    actual=str(field.type),
                    hint=f"It holds {TYPES}; keep others in a result table, or as text.",
                )
        self._places = [schema.names.index(name) for name in self.key]
        self._encoders = [_key_encoder(schema.field(name), table, alone=len(self.key) == 1) for name in self.key]
        self.numbered = self._encoders == [_whole]
        """Whether a key is one whole number, of eight bytes."""
        self._unsigned = self.numbered and pa.types.is_uint64(schema.field(self.key[0]).type)
        self._readers = [_reader(field.type) for field in schema]

    def bodies(self, rows: pa.Table) -> list[bytes]:
        """The bodies of rows that have exactly the schema."""
        columns = [read(column) for read, column in zip(self._readers, rows.columns, strict=True)]
        return list(map(_encode, zip(*columns, strict=True)))

    def numbers(self, rows: pa.Table) -> list[int]:
        """The keys of such rows as numbers with a sign, where they are `numbered`: in the order of the others."""
        [at] = self._places
        values: list[int] = self._readers[at](rows.column(at))
        return [value - _MIDDLE for value in values] if self._unsigned else values

    def keys(self, rows: pa.Table) -> list[bytes]:
        """The keys of such rows, which have no NULL there. InvalidArgument for one that is too long."""
        columns = [encode(rows.column(at)) for at, encode in zip(self._places, self._encoders, strict=True)]
        keys = columns[0] if len(columns) == 1 else [b"".join(parts) for parts in zip(*columns, strict=True)]
        if keys and max(map(len, keys)) > MOST_KEY_BYTES:
            raise InvalidArgument(f"A key may have up to {MOST_KEY_BYTES} bytes.", hint="Make a digest of the long text the key.")
        return keys

    def table(self, bodies: Iterable[bytes]) -> pa.Table:
        """The rows with these bodies. TableDamaged for what nothing here wrote."""
        try:
            rows = [_decode(body) for body in bodies]
            columns: Any = list(zip(*rows, strict=True)) if rows else [()] * len(self.schema)
            return pa.table([_typed(values, f.type) for values, f in zip(columns, self.schema, strict=True)], schema=self.schema)
        except (msgspec.DecodeError, pa.ArrowException, ValueError, TypeError, decimal.InvalidOperation):
            raise TableDamaged("The catalog is damaged: a row of a mutable table holds what nothing here wrote.") from None

    def values(self, body: bytes) -> Any:
        """The key of one row as Python values: the one value of a key of one column, else a tuple."""
        row = self.table([body]).to_pylist()[0]
        values = tuple(row[name] for name in self.key)
        return values[0] if len(values) == 1 else values

    def key_only(self, body: bytes) -> bytes:
        """The same row with NULL in every column that is not of the key."""
        return _encode([v if at in self._places else None for at, v in enumerate(_decode(body))])


@functools.lru_cache(maxsize=256)
def layout(schema: bytes, key: tuple[str, ...]) -> Layout:
    """The layout of a table of the catalog."""
    return Layout(pa.ipc.read_schema(pa.py_buffer(schema)), key)


def _kept(kind: pa.DataType) -> bool:
    if pa.types.is_timestamp(kind):
        return kind.tz is None or kind.unit == "us"
    if pa.types.is_time64(kind):
        return bool(kind.unit == "us")
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_float32, pa.types.is_float64, pa.types.is_date32, pa.types.is_decimal128)
    wide = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(is_one(kind) for is_one in plain + wide)


def _counted(kind: pa.DataType) -> pa.DataType | None:
    """The whole number that a value of a type stands for."""
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return pa.int64()
    return pa.int32() if pa.types.is_date32(kind) else None


def _reader(kind: pa.DataType) -> _Reader:
    """What gives the values of a column of this type as they stand in a body."""
    if (whole := _counted(kind)) is not None:
        return lambda column: column.cast(whole).to_pylist()
    if pa.types.is_decimal(kind):
        return lambda column: [None if v is None else str(v) for v in column.to_pylist()]
    plain: _Reader = pa.ChunkedArray.to_pylist
    return plain


def _typed(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if (whole := _counted(kind)) is not None:
        return pa.array(values, whole).cast(kind)
    if pa.types.is_decimal(kind):
        values = [None if v is None else decimal.Decimal(v) for v in values]
    return pa.array(values, kind)


def _key_encoder(field: pa.Field, table: str, *, alone: bool) -> _Encoder:
    kind = field.type
    if pa.types.is_boolean(kind):
        return _each(kind, lambda v: b"\1" if v else b"\0")
    if pa.types.is_integer(kind) or _counted(kind) is not None:
        return _whole
    if pa.types.is_decimal(kind):
        scale = kind.scale
        return _each(kind, lambda v: (int(decimal.Decimal(v).scaleb(scale, _EXACT)) + (1 << 127)).to_bytes(16, "big"))
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        raw: Callable[[Any], bytes] = str.encode if text else bytes
        return _each(kind, raw) if alone else _each(kind, lambda v: raw(v).replace(b"\0", b"\0\xff") + b"\0\0")
    raise SchemaMismatch(
        f"Column {field.name!r} is {kind}, which cannot be in a key.",
        table=table,
        column=field.name,
        actual=str(kind),
        hint="Two such numbers may look the same and differ: take whole numbers, decimals or text for the key.",
    )


def _each(kind: pa.DataType, encode: Callable[[Any], bytes]) -> _Encoder:
    read = _reader(kind)
    return lambda column: [encode(v) for v in read(column)]


def _whole(column: pa.ChunkedArray) -> list[bytes]:
    """Whole numbers as eight bytes; those with a sign are moved up, so that the negative ones come first."""
    signed = not pa.types.is_unsigned_integer(column.type)
    if (counted := _counted(column.type)) is not None:
        column = column.cast(counted)
    wide = pa.int64() if signed else pa.uint64()
    numbers = (column if column.type == wide else column.cast(wide)).to_numpy().view(np.uint64)
    moved = numbers ^ np.uint64(_MIDDLE) if signed else numbers
    return [key for (key,) in struct.iter_unpack("8s", moved.astype(">u8").tobytes())]


_EXACT = decimal.Context(prec=60)
