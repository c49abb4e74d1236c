"""Encoding of the rows of a mutable table as bytes, exact for every value that Arrow holds.

A body is a msgpack array of all columns; timestamps, dates and times are stored as integers,
decimals as text. A key is a byte string or an integer that sorts as the key's values do, so that
the order of rows is the same in every kernel and every database.
"""

import decimal
import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch, TableDamaged, invalid_row_error

MAX_KEY_BYTES = 1000
"""Longer keys do not fit into an index of PostgreSQL."""
TYPES = (
    "bool, integers, float32, float64, string, binary, date32[day], time64[us], "
    "timestamp (with a zone: us only), decimal128"
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode
_Encoder = Callable[[pa.ChunkedArray], list[bytes]]
_Reader = Callable[[pa.ChunkedArray], list[Any]]
_SIGN_OFFSET = 1 << 63


class Layout:
    """The encoding of the rows of one schema. Raises SchemaMismatch for a type that cannot be
    stored exactly or cannot be in a key."""

    def __init__(self, schema: pa.Schema, key: Sequence[str], table: str = "") -> None:
        self.schema, self.key = schema, list(key)
        for field in schema:
            if not _is_supported(field.type):
                raise SchemaMismatch(
                    f"Column {field.name!r} is {field.type}, which a mutable table does not "
                    "support.",
                    table=table,
                    column=field.name,
                    expected=TYPES,
                    actual=str(field.type),
                    hint=f"Supported: {TYPES}. Store other types in a result table, or as text.",
                )
        self._key_positions = [schema.names.index(name) for name in self.key]
        self._encoders = [
            _key_encoder(schema.field(name), table, is_only_column=len(self.key) == 1)
            for name in self.key
        ]
        self.numbered = self._encoders == [_encode_integers]
        """Whether a key is one whole number, of eight bytes."""
        self._unsigned = self.numbered and pa.types.is_uint64(schema.field(self.key[0]).type)
        self._readers = [_reader(field.type) for field in schema]

    def bodies(self, rows: pa.Table) -> list[bytes]:
        """The bodies of rows that have exactly the schema."""
        columns = [read(column) for read, column in zip(self._readers, rows.columns, strict=True)]
        return list(map(_encode, zip(*columns, strict=True)))

    def integer_keys(self, rows: pa.Table) -> list[int]:
        """The integer keys of such rows where they are `numbered`; unsigned keys are shifted into
        the signed range, which keeps their order."""
        [position] = self._key_positions
        values: list[int] = self._readers[position](rows.column(position))
        return [value - _SIGN_OFFSET for value in values] if self._unsigned else values

    def keys(self, rows: pa.Table) -> list[bytes]:
        """The keys of such rows, which must have no NULL there. Raises InvalidArgument for one that
        is too long."""
        columns = [
            encode(rows.column(position))
            for position, encode in zip(self._key_positions, self._encoders, strict=True)
        ]
        keys = (
            columns[0]
            if len(columns) == 1
            else [b"".join(parts) for parts in zip(*columns, strict=True)]
        )
        if keys and max(map(len, keys)) > MAX_KEY_BYTES:
            raise InvalidArgument(
                f"A key may have up to {MAX_KEY_BYTES} bytes.",
                hint="Use a digest of the long text as the key.",
            )
        return keys

    def table(self, bodies: Iterable[bytes]) -> pa.Table:
        """The rows of these bodies. Raises TableDamaged for invalid data."""
        try:
            rows = [_decode(body) for body in bodies]
            columns: Any = list(zip(*rows, strict=True)) if rows else [()] * len(self.schema)
            return pa.table(
                [_to_array(values, f.type) for values, f in zip(columns, self.schema, strict=True)],
                schema=self.schema,
            )
        except (
            msgspec.DecodeError,
            pa.ArrowException,
            ValueError,
            TypeError,
            decimal.InvalidOperation,
        ):
            raise TableDamaged(
                "The catalog is damaged: a row of a mutable table contains invalid data."
            ) from None

    def key_values(self, body: bytes) -> Any:
        """The key of one row as Python values: a single value for one key column, else a tuple."""
        row = self.table([body]).to_pylist()[0]
        values = tuple(row[name] for name in self.key)
        return values[0] if len(values) == 1 else values

    def null_non_key(self, body: bytes) -> bytes:
        """The same row with NULL in every column outside of the key."""
        return _encode(
            [v if i in self._key_positions else None for i, v in enumerate(_decode(body))]
        )


def stored_schema(body: bytes) -> pa.Schema:
    """The schema of a mutable table or topic, from its row in the catalog. Raises TableDamaged."""
    try:
        return pa.ipc.read_schema(pa.py_buffer(body))
    except (pa.ArrowInvalid, OSError):
        raise invalid_row_error() from None


@functools.lru_cache(maxsize=256)
def cached_layout(schema: bytes, key: tuple[str, ...]) -> Layout:
    """The layout of a table of the catalog. Raises TableDamaged."""
    columns = stored_schema(schema)
    if not {*columns.names}.issuperset(key):
        raise invalid_row_error()
    return Layout(columns, key)


def _is_supported(kind: pa.DataType) -> bool:
    if pa.types.is_timestamp(kind):
        return kind.tz is None or kind.unit == "us"
    if pa.types.is_time64(kind):
        return bool(kind.unit == "us")
    fixed_width = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_float32,
        pa.types.is_float64,
        pa.types.is_date32,
        pa.types.is_decimal128,
    )
    variable_width = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
    )
    return any(is_type(kind) for is_type in fixed_width + variable_width)


def _integer_type(kind: pa.DataType) -> pa.DataType | None:
    """The integer type in which values of a type are stored, if they are."""
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return pa.int64()
    return pa.int32() if pa.types.is_date32(kind) else None


def _reader(kind: pa.DataType) -> _Reader:
    """The function that returns the values of a column as they are stored in a body."""
    if (integer_type := _integer_type(kind)) is not None:
        return lambda column: column.cast(integer_type).to_pylist()
    if pa.types.is_decimal(kind):
        return lambda column: [None if v is None else str(v) for v in column.to_pylist()]
    to_pylist: _Reader = pa.ChunkedArray.to_pylist
    return to_pylist


def _to_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if (integer_type := _integer_type(kind)) is not None:
        return pa.array(values, integer_type).cast(kind)
    if pa.types.is_decimal(kind):
        values = [None if v is None else decimal.Decimal(v) for v in values]
    return pa.array(values, kind)


def _key_encoder(field: pa.Field, table: str, *, is_only_column: bool) -> _Encoder:
    kind = field.type
    if pa.types.is_boolean(kind):
        return _encode_each(kind, lambda v: b"\1" if v else b"\0")
    if pa.types.is_integer(kind) or _integer_type(kind) is not None:
        return _encode_integers
    if pa.types.is_decimal(kind):
        scale = kind.scale
        return _encode_each(
            kind,
            lambda v: (int(decimal.Decimal(v).scaleb(scale, _EXACT_CONTEXT)) + (1 << 127)).to_bytes(
                16, "big"
            ),
        )
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if (
        text
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    ):
        raw: Callable[[Any], bytes] = str.encode if text else bytes
        return (
            _encode_each(kind, raw)
            if is_only_column
            else _encode_each(kind, lambda v: raw(v).replace(b"\0", b"\0\xff") + b"\0\0")
        )
    raise SchemaMismatch(
        f"Column {field.name!r} is {kind}, which cannot be in a key.",
        table=table,
        column=field.name,
        actual=str(kind),
        hint="Floating-point numbers that look equal may differ: use integers, decimals or text "
        "for the key.",
    )


def _encode_each(kind: pa.DataType, encode: Callable[[Any], bytes]) -> _Encoder:
    read = _reader(kind)
    return lambda column: [encode(v) for v in read(column)]


def _encode_integers(column: pa.ChunkedArray) -> list[bytes]:
    """Integers as eight big-endian bytes; signed ones are shifted so that negative ones sort
    first."""
    signed = not pa.types.is_unsigned_integer(column.type)
    if (integer_type := _integer_type(column.type)) is not None:
        column = column.cast(integer_type)
    wide_type = pa.int64() if signed else pa.uint64()
    numbers = (
        (column if column.type == wide_type else column.cast(wide_type)).to_numpy().view(np.uint64)
    )
    shifted = numbers ^ np.uint64(_SIGN_OFFSET) if signed else numbers
    return [key for (key,) in struct.iter_unpack("8s", shifted.astype(">u8").tobytes())]


_EXACT_CONTEXT = decimal.Context(prec=60)
