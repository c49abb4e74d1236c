"""Validated conversion between Arrow columns and numpy: vectors as one float32 matrix, keys as one
array of their own type."""

import contextlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.core.errors import DuplicateKey, InvalidArgument, SchemaMismatch
from jammi_lab.core.identifiers import check_count

Floats = NDArray[np.float32]
RowNumbers = NDArray[np.int64]


def to_numpy(values: pa.Array) -> NDArray[Any]:
    """Numbers or booleans without NULL as numpy, without a copy. (pyarrow's `to_numpy` would import
    pandas, which takes a second.)"""
    if pa.types.is_boolean(values.type):
        return to_numpy(values.cast(pa.uint8())).view(np.bool_)
    dtype = np.dtype(values.type.to_pandas_dtype())
    data = values.buffers()[1]
    if data is None or not len(values):
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, len(values), values.offset * dtype.itemsize)


def to_arrow_rows(rows: RowNumbers) -> pa.Array:
    """Row numbers as Arrow, for `take`, without a copy."""
    return to_arrow(rows.astype(np.int64, copy=False))


def to_arrow(numbers: NDArray[Any]) -> pa.Array:
    """Numbers as a flat Arrow array, without a copy. (`pa.array` of numpy would import pandas.)"""
    flat = np.ascontiguousarray(numbers.reshape(-1))
    return pa.Array.from_buffers(
        pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)]
    )


def to_row_numbers(positions: pa.Array) -> RowNumbers:
    """Row numbers as numpy, −1 for each NULL. (`fill_null` with a Python number would import
    pandas.)"""
    return to_numpy(positions.fill_null(to_arrow(np.full(1, -1, np.int32))[0])).astype(np.int64)


def storage_array(keys: pa.Array) -> pa.Array:
    """The keys as a plain array, without an extension type."""
    return keys.storage if isinstance(keys, pa.ExtensionArray) else keys


def find_rows(keys: pa.Array, among: pa.Array) -> RowNumbers:
    """The row of each key among other distinct keys; −1 where it is none of them."""
    wanted, others = storage_array(keys), storage_array(among)
    with contextlib.suppress(pa.ArrowNotImplementedError):
        if wanted.type == others.type:
            return to_row_numbers(pc.index_in(wanted, value_set=others))
    row_of = {key: row for row, key in enumerate(others.to_pylist())}
    return np.fromiter((row_of.get(key, -1) for key in wanted.to_pylist()), np.int64)


def boolean_array(flag: bool, count: int) -> pa.Array:
    """An array of `count` equal booleans."""
    return pa.Array.from_buffers(
        pa.bool_(), count, [None, pa.py_buffer((b"\xff" if flag else b"\0") * (-(-count // 8)))]
    )


def vector_width(kind: pa.DataType, column: str = "vector") -> int | None:
    """The vector width that a type fixes; None for lists of any length. Raises SchemaMismatch for a
    type other than a list of numbers."""
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ) or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise SchemaMismatch(
            f"Column {column!r} holds {kind}, not lists of numbers.",
            column=column,
            expected="FLOAT[n]",
            actual=str(kind),
        )
    return kind.list_size if pa.types.is_fixed_size_list(kind) else None


def chunk_matrices(
    column: pa.ChunkedArray, *, dimensions: int | None = None, name: str = "vector"
) -> list[Floats]:
    """Each chunk as (rows, width) float32, without a copy where it is of fixed-size float32 lists;
    one without rows for a column without any.

    Raises SchemaMismatch, with the first bad row, for a vector that is NULL, contains NULL, has
    another width, is not finite or all zeros; and for a column of another width than `dimensions`,
    or of none.
    """
    width = dimensions or vector_width(column.type, name)
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    if width is None and not chunks:
        raise SchemaMismatch(
            f"Column {name!r} has no rows and no fixed width.",
            column=name,
            expected="FLOAT[n]",
            actual=str(column.type),
        )
    parts, first_row = [], 0
    for chunk in chunks:
        parts.append(chunk_matrix(chunk, width, name, first_row))
        width = parts[-1].shape[1]
        first_row += len(chunk)
    return parts or [np.empty((0, width or 0), np.float32)]


def chunk_matrix(chunk: pa.Array, width: int | None, name: str, first: int) -> Floats:
    """One chunk as (rows, width) float32; `first`: the number of its first row, for errors."""
    fixed_width = vector_width(chunk.type, name)
    if chunk.null_count:
        bad_row = int(np.argmin(to_numpy(chunk.is_valid())))
        raise SchemaMismatch(
            f"Row {first + bad_row} of column {name!r} has a NULL vector.",
            column=name,
            expected="a vector",
            actual="NULL",
        )
    lengths = [fixed_width] if fixed_width is not None else to_numpy(pc.list_value_length(chunk))
    expected = width or int(lengths[0])
    if len(mismatched := np.flatnonzero(np.asarray(lengths) != expected)):
        actual = int(lengths[mismatched[0]])
        raise SchemaMismatch(
            f"Row {first + int(mismatched[0])} of column {name!r} has a vector of width "
            f"{actual}, not {expected}.",
            column=name,
            expected=str(expected),
            actual=str(actual),
        )
    if expected < 1:
        raise SchemaMismatch(
            f"Column {name!r} contains vectors of width 0.",
            column=name,
            expected="FLOAT[n]",
            actual=str(chunk.type),
        )
    values = chunk.flatten()
    if values.null_count:
        bad_row = int(np.argmin(to_numpy(values.is_valid()))) // expected
        raise SchemaMismatch(
            f"Row {first + bad_row} of column {name!r} has a vector that contains NULL.",
            column=name,
            expected="numbers",
            actual="NULL",
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(to_numpy(values), np.float32).reshape(-1, expected)


def to_keys(column: pa.Array | pa.ChunkedArray, name: str = "key") -> pa.Array:
    """The keys as one array of their own type. Raises SchemaMismatch for NULL, NaN and values that
    the type cannot hold."""
    if isinstance(column, pa.ChunkedArray):
        # pyarrow combines no chunk at all into a chunked array
        column = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0)
    if column.null_count:
        bad_row = int(np.argmin(to_numpy(column.is_valid())))
        raise SchemaMismatch(
            f"Row {bad_row} has no key.", column=name, expected="a key in every row", actual="NULL"
        )
    if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
        raise SchemaMismatch(
            "A key is NaN, which equals nothing and cannot be looked up.",
            column=name,
            expected="a number",
            actual="NaN",
        )
    if pa.types.is_decimal(column.type):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:  # a HUGEINT of 39 digits, which no key can look up
            raise SchemaMismatch(
                f"A key has more digits than a {column.type} holds.",
                column=name,
                expected=str(column.type),
            ) from error
    return column


def to_key(value: Any, kind: pa.DataType) -> Any:
    """A literal converted to the type of a key: '17' to 17, '2020-01-31' to a date, text to a UUID
    and a UUID to text. None when the conversion is impossible or loses a part."""
    try:
        if isinstance(kind, pa.ExtensionType) and kind.extension_name == "arrow.uuid":
            return uuid.UUID(value) if isinstance(value, str) else None
        if isinstance(value, uuid.UUID):
            return str(value) if pa.types.is_string(kind) else None
        storage_type = kind.storage_type if isinstance(kind, pa.ExtensionType) else kind
        scalar = to_scalar(value)
        converted = scalar.cast(storage_type)
        return (
            None
            if isinstance(value, bool) or lost_in_cast(scalar, converted)
            else converted.as_py()
        )
    except (pa.ArrowException, ValueError, OverflowError):
        return None


def to_scalar(value: Any) -> pa.Scalar:
    """A Python value as an Arrow scalar, with the nanoseconds of pandas timestamps, which pyarrow
    drops. Raises ArrowInvalid and OverflowError for values that Arrow cannot hold."""
    scalar = pa.scalar(value) if (simple := _simple_scalar(value)) is None else simple
    return (
        pa.scalar(value, pa.timestamp("ns", scalar.type.tz))
        if getattr(value, "nanosecond", 0)
        else scalar
    )


def to_scalar_of_type(value: Any, kind: pa.DataType) -> pa.Scalar | None:
    """An integer or string as a scalar of a key type of its kind; None for anything else. Raises
    ArrowInvalid for a number that the type cannot hold."""
    scalar = _simple_scalar(value)
    same_kind = scalar is not None and (
        pa.types.is_integer(kind) if pa.types.is_integer(scalar.type) else kind == scalar.type
    )
    return scalar.cast(kind) if scalar is not None and same_kind else None


def _simple_scalar(value: Any) -> pa.Scalar | None:
    """An integer or string, the usual keys, as a scalar; None for anything else. (`pa.scalar` would
    import pandas.)"""
    if type(value) is int and -(2**63) <= value < 2**63:
        return to_arrow(np.array([value], np.int64))[0]
    if type(value) is str:
        encoded = value.encode()
        return pa.Array.from_buffers(
            pa.string(),
            1,
            [None, pa.py_buffer(np.array([0, len(encoded)], np.int32)), pa.py_buffer(encoded)],
        )[0]
    return None


def lost_in_cast(original: pa.Scalar, converted: pa.Scalar) -> bool:
    """Whether a cast lost a part of a key: pyarrow casts 17.5 to 17, and a timestamp to its
    date."""
    original_type, converted_type = original.type, converted.type
    if pa.types.is_temporal(original_type) and pa.types.is_temporal(converted_type):
        return bool(converted.cast(original_type) != original)
    if pa.types.is_floating(original_type) and pa.types.is_decimal(converted_type):
        return bool(float(converted.as_py()) != original.as_py())
    return bool(
        (pa.types.is_floating(original_type) or pa.types.is_decimal(original_type))
        and pa.types.is_integer(converted_type)
        and converted.as_py() != original.as_py()
    )


def key_ranks(keys: pa.Array, name: str = "key") -> RowNumbers | None:
    """The rank of each row in ascending key order; None when the rows are in that order. Raises
    DuplicateKey, SchemaMismatch."""
    storage = keys.storage if isinstance(keys, pa.ExtensionArray) else keys
    try:
        if len(storage) < 2 or pc.all(pc.less(storage[:-1], storage[1:])).as_py():
            return None
        order = to_numpy(pc.sort_indices(storage)).astype(np.int64)
        equals_next = pc.equal(
            storage.take(to_arrow_rows(order[:-1])), storage.take(to_arrow_rows(order[1:]))
        )
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise SchemaMismatch(
            f"Keys of type {keys.type} have no order.", column=name, actual=str(keys.type)
        ) from error
    duplicates = np.flatnonzero(to_numpy(equals_next))
    if len(duplicates):
        duplicate_keys = [keys[int(order[i])].as_py() for i in duplicates[:5]]
        raise DuplicateKey(
            f"Key {duplicate_keys[0]!r} occurs in more than one row.",
            keys=duplicate_keys,
            hint="Every row needs a unique key.",
        )
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def check_queries(queries: Any, dimensions: int) -> Floats:
    """One or several queries as (queries, dimensions) float32. Raises SchemaMismatch for another
    width, numbers that are not finite, and all zeros."""
    return parse_queries(queries, dimensions)[0]


def parse_queries(queries: Any, dimensions: int) -> tuple[Floats, bool]:
    """As `check_queries`; also returns whether there were several queries."""
    try:
        with np.errstate(over="ignore"):
            raw = np.asarray(_to_list(queries))
            if raw.dtype.kind == "O":  # a Series of vectors
                raw = np.asarray(raw.tolist())
            # numpy would drop imaginary parts and parse strings
            if raw.dtype.kind not in "fiubO":
                raise TypeError(raw.dtype)
            array = np.ascontiguousarray(raw, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise SchemaMismatch(
            "A query must be a vector of numbers, or several vectors of one width.",
            expected=f"{dimensions} numbers",
        ) from error
    is_batch = array.ndim > 1
    array = array if is_batch else array.reshape(1, -1)
    if array.ndim != 2 or array.shape[1] != dimensions:
        raise SchemaMismatch(
            f"The query has the shape {array.shape} and the vectors have {dimensions} dimensions.",
            expected=str(dimensions),
            actual=str(array.shape),
            hint="Pass a text or such a vector; row= takes a key, k= the number of hits.",
        )
    if np.isfinite(array).all() and array.any(1).all():
        return array, is_batch
    for invalid, problem in (
        (~np.isfinite(array).all(1), "holds a number that is not finite"),
        (~array.any(1), "is all zeros"),
    ):
        if invalid.any():
            raise SchemaMismatch(
                f"Query {int(invalid.argmax())} {problem}.",
                expected="finite numbers that are not all zero",
                actual=problem,
            )
    return array, is_batch


def _to_list(queries: Any) -> Any:
    if isinstance(queries, pa.Array | pa.ChunkedArray):
        return queries.to_pylist()
    # Python would make lists of numbers from these, too
    if isinstance(queries, bytes | bytearray | set | frozenset | Mapping):
        raise TypeError(type(queries))
    if (
        isinstance(queries, Iterable)
        and not hasattr(queries, "__array__")
        and not isinstance(queries, list | tuple)
    ):
        return list(queries)
    return queries


def check_k(k: Any) -> int:
    """A validated number of hits. Raises InvalidArgument unless it is an integer of at least 0."""
    return check_count("k", k)


def check_exact(exact: Any) -> bool | None:
    """A validated `exact` option as None or a Python bool. Raises InvalidArgument for other values,
    including 0 and 1."""
    if exact is None or isinstance(exact, bool | np.bool_):
        return None if exact is None else bool(exact)
    raise InvalidArgument(f"exact must be None, True or False, got {exact!r}.")
