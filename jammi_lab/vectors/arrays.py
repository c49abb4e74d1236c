"""Vectors and keys out of Arrow columns, checked: one float32 matrix, one array of keys in their own type and order."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.errors import DuplicateKey, InvalidArgument, SchemaMismatch

Floats = NDArray[np.float32]
_CLOSE = 8
"""Flags for each number that `among` makes at most."""


def numbers_of(values: pa.Array) -> NDArray[Any]:
    """Numbers or booleans without NULL as numpy, in their own memory. (pyarrow's `to_numpy` would import pandas, which takes a second.)"""
    if pa.types.is_boolean(values.type):
        return numbers_of(values.cast(pa.uint8())).view(np.bool_)
    dtype = np.dtype(values.type.to_pandas_dtype())
    data = values.buffers()[1]
    if data is None or not len(values):
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, len(values), values.offset * dtype.itemsize)


def among(numbers: NDArray[Any], found: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which whole numbers are among others of their type, where they lie close enough together for a table of flags, which takes a sixth of what
    hashing takes; else None."""
    if not len(numbers):
        return None
    low, high = numbers.min(), numbers.max()
    if int(high) - int(low) > _CLOSE * len(numbers):
        return None
    start = low.astype(np.int64)
    there = np.zeros(int(high) - int(low) + 1, np.bool_)
    there[found[(found >= low) & (found <= high)].astype(np.int64) - start] = True
    mask: NDArray[np.bool_] = there[numbers.astype(np.int64) - start]
    return mask


def places_of(rows: NDArray[np.int64]) -> pa.Array:
    """Numbers of rows for Arrow's `take`, in their own memory."""
    return array_of(rows.astype(np.int64, copy=False))


def array_of(numbers: NDArray[Any]) -> pa.Array:
    """Numbers, flattened, in their own memory. (`pa.array` of numpy would import pandas.)"""
    flat = np.ascontiguousarray(numbers.reshape(-1))
    return pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)])


def found_of(places: pa.Array) -> NDArray[np.int64]:
    """Places with −1 for each NULL. (`fill_null` of a number of Python's would import pandas.)"""
    return numbers_of(places.fill_null(array_of(np.full(1, -1, np.int32))[0])).astype(np.int64)


def flags_of(flag: bool, count: int) -> pa.Array:
    """So many times the same boolean."""
    return pa.Array.from_buffers(pa.bool_(), count, [None, pa.py_buffer((b"\xff" if flag else b"\0") * (-(-count // 8)))])


def width_of(kind: pa.DataType, column: str = "vector") -> int | None:
    """The width that a type of vectors fixes; None for lists of any length. SchemaMismatch for what is no list of numbers."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)) or not (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    ):
        raise SchemaMismatch(f"Column {column!r} holds {kind}, which is no list of numbers.", column=column, expected="FLOAT[n]", actual=str(kind))
    return kind.list_size if pa.types.is_fixed_size_list(kind) else None


def matrix_of(column: pa.Array | pa.ChunkedArray, *, dimensions: int | None = None, name: str = "vector") -> Floats:
    """(rows, width) float32, C-contiguous; the column's own memory when it is one chunk of fixed-size float32 lists.

    SchemaMismatch names the first row that is null, holds a null, has another width, is not finite or all zeros, and a column of another
    width than `dimensions`, or of none.
    """
    width = dimensions or width_of(column.type, name)
    chunks = [c for c in (column.chunks if isinstance(column, pa.ChunkedArray) else [column]) if len(c)]
    if width is None and not chunks:
        raise SchemaMismatch(f"Column {name!r} has no rows and no fixed width.", column=name, expected="FLOAT[n]", actual=str(column.type))
    parts, at = [], 0
    for chunk in chunks:
        parts.append(flat_of(chunk, width, name, at))
        width = parts[-1].shape[1]
        at += len(chunk)
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty((0, width or 0), np.float32)


def flat_of(chunk: pa.Array, width: int | None, name: str, first: int) -> Floats:
    """One chunk as (rows, width) float32; `first` is the number of its first row in errors."""
    fixed = width_of(chunk.type, name)
    if chunk.null_count:
        at = int(np.argmin(numbers_of(chunk.is_valid())))
        raise SchemaMismatch(f"Row {first + at} of column {name!r} has no vector.", column=name, expected="a vector", actual="NULL")
    lengths = [fixed] if fixed is not None else numbers_of(pc.list_value_length(chunk))
    wanted = width or int(lengths[0])
    if len(wrong := np.flatnonzero(np.asarray(lengths) != wanted)):
        actual = int(lengths[wrong[0]])
        raise SchemaMismatch(
            f"Row {first + int(wrong[0])} of column {name!r} has a vector of width {actual}, not {wanted}.",
            column=name,
            expected=str(wanted),
            actual=str(actual),
        )
    if wanted < 1:
        raise SchemaMismatch(f"Column {name!r} holds vectors of no width.", column=name, expected="FLOAT[n]", actual=str(chunk.type))
    values = chunk.flatten()
    if values.null_count:
        at = int(np.argmin(numbers_of(values.is_valid()))) // wanted
        raise SchemaMismatch(f"Row {first + at} of column {name!r} has a vector with a NULL in it.", column=name, expected="numbers", actual="NULL")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(numbers_of(values), np.float32).reshape(-1, wanted)


def keys_of(column: pa.Array | pa.ChunkedArray, name: str = "key") -> pa.Array:
    """The keys as one array of their own type. SchemaMismatch for a NULL among them or a type without an order."""
    if isinstance(column, pa.ChunkedArray):
        # pyarrow gives an array or, of no chunk at all, a chunked one
        column = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0)
    if column.null_count:
        at = int(np.argmin(numbers_of(column.is_valid())))
        raise SchemaMismatch(f"Row {at} has no key.", column=name, expected="a key in every row", actual="NULL")
    if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
        raise SchemaMismatch("A key is NaN, which equals nothing and could never be looked up.", column=name, expected="a number", actual="NaN")
    if pa.types.is_decimal(column.type):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:  # a HUGEINT of 39 digits, which nothing could look up
            raise SchemaMismatch(f"A key has more digits than a {column.type} holds.", column=name, expected=str(column.type)) from error
    return column


def as_key(value: Any, kind: pa.DataType) -> Any:
    """A literal as a key of that type: '17' as 17, '2020-01-31' as a date, a UUID from its text. None when it cannot be one."""
    try:
        if isinstance(kind, pa.ExtensionType) and kind.extension_name == "arrow.uuid":
            return uuid.UUID(value) if isinstance(value, str) else None
        plain = kind.storage_type if isinstance(kind, pa.ExtensionType) else kind
        given = scalar_of(value)
        made = given.cast(plain)
        return None if isinstance(value, bool) or cut_off(given, made) else made.as_py()
    except (pa.ArrowException, ValueError, OverflowError):
        return None


def scalar_of(value: Any) -> pa.Scalar:
    """A value of Python whole: of a time of pandas pyarrow would leave the nanoseconds out. ArrowInvalid, OverflowError for what Arrow has not."""
    found = pa.scalar(value) if (plain := _plainly(value)) is None else plain
    return pa.scalar(value, pa.timestamp("ns", found.type.tz)) if getattr(value, "nanosecond", 0) else found


def scalar_as(value: Any, kind: pa.DataType) -> pa.Scalar | None:
    """A whole number or a text as a value of a type of such; None for anything else. ArrowInvalid for a number that the type does not hold."""
    given = _plainly(value)
    same = given is not None and (pa.types.is_integer(kind) if pa.types.is_integer(given.type) else kind == given.type)
    return given.cast(kind) if given is not None and same else None


def _plainly(value: Any) -> pa.Scalar | None:
    """A whole number or a text, which are most keys, as `pa.scalar` gives it, which would import pandas; None for anything else."""
    if type(value) is int and -(2**63) <= value < 2**63:
        return array_of(np.array([value], np.int64))[0]
    if type(value) is str:
        body = value.encode()
        return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, len(body)], np.int32)), pa.py_buffer(body)])[0]
    return None


def cut_off(given: pa.Scalar, made: pa.Scalar) -> bool:
    """Whether a part of a key was lost when it was given another type: pyarrow makes 17 of 17.5, and a date of a time on that day."""
    was, now = given.type, made.type
    if pa.types.is_temporal(was) and pa.types.is_temporal(now):
        return bool(made.cast(was) != given)
    if pa.types.is_floating(was) and pa.types.is_decimal(now):
        return bool(float(made.as_py()) != given.as_py())
    return bool((pa.types.is_floating(was) or pa.types.is_decimal(was)) and pa.types.is_integer(now) and made.as_py() != given.as_py())


def ascending(keys: pa.Array, name: str = "key") -> NDArray[np.int64] | None:
    """For each row its place in ascending order of the keys; None when rows stand in that order. DuplicateKey, SchemaMismatch."""
    plain = keys.storage if isinstance(keys, pa.ExtensionArray) else keys
    try:
        if len(plain) < 2 or pc.all(pc.less(plain[:-1], plain[1:])).as_py():
            return None
        order = numbers_of(pc.sort_indices(plain)).astype(np.int64)
        equal = pc.equal(plain.take(places_of(order[:-1])), plain.take(places_of(order[1:])))
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise SchemaMismatch(f"Keys of type {keys.type} have no order.", column=name, actual=str(keys.type)) from error
    same = np.flatnonzero(numbers_of(equal))
    if len(same):
        twice = [keys[int(order[i])].as_py() for i in same[:5]]
        raise DuplicateKey(f"Key {twice[0]!r} stands in more than one row.", keys=twice, hint="Every row needs a key of its own.")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def check_queries(queries: Any, dimensions: int) -> Floats:
    """One vector or several as (queries, dimensions) float32. SchemaMismatch for another width, numbers that are not finite, all zeros."""
    return queries_of(queries, dimensions)[0]


def queries_of(queries: Any, dimensions: int) -> tuple[Floats, bool]:
    """The same, and whether it was several."""
    try:
        with np.errstate(over="ignore"):
            given = np.asarray(_plain(queries))
            if given.dtype.kind == "O":  # a Series of vectors
                given = np.asarray(given.tolist())
            if given.dtype.kind not in "fiubO":  # numpy would take the real part of a complex number, and a number out of a text
                raise TypeError(given.dtype)
            array = np.ascontiguousarray(given, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise SchemaMismatch("A query is a vector of numbers, or several of one width.", expected=f"{dimensions} numbers") from error
    several = array.ndim > 1
    array = array if several else array.reshape(1, -1)
    if array.ndim != 2 or array.shape[1] != dimensions:
        raise SchemaMismatch(
            f"The query has the shape {array.shape} and the vectors have {dimensions} dimensions.", expected=str(dimensions), actual=str(array.shape)
        )
    if np.isfinite(array).all() and array.any(1).all():
        return array, several
    for bad, what in ((~np.isfinite(array).all(1), "holds a number that is not finite"), (~array.any(1), "is all zeros")):
        if bad.any():
            raise SchemaMismatch(f"Query {int(bad.argmax())} {what}.", expected="finite numbers that are not all zero", actual=what)
    return array, several


def _plain(queries: Any) -> Any:
    if isinstance(queries, pa.Array | pa.ChunkedArray):
        return queries.to_pylist()
    if isinstance(queries, bytes | bytearray | set | frozenset | Mapping):  # of these, too, Python makes lists of numbers
        raise TypeError(type(queries))
    if isinstance(queries, Iterable) and not hasattr(queries, "__array__") and not isinstance(queries, list | tuple):
        return list(queries)
    return queries


def check_k(k: Any) -> int:
    """The number of hits wanted. InvalidArgument for what is no whole number from 0 on."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
        raise InvalidArgument(f"k is a whole number from 0 on, not {k!r}.")
    return int(k)


def check_exact(exact: Any) -> bool | None:
    """Whether all vectors are compared, in Python's own words. InvalidArgument for what is not None, True or False: 0 and 1 would be two more."""
    if exact is None or isinstance(exact, bool | np.bool_):
        return None if exact is None else bool(exact)
    raise InvalidArgument(f"exact is None, True or False, not {exact!r}.")
