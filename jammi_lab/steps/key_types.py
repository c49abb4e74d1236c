"""Comparison of keys of two tables: a common type in which both are exact, so that equality is
exact, too."""

import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.storage.parquet import decoded_column


def single_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array of plain type: no dictionary, view or extension type."""
    column = decoded_column(column)
    array = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
    # pyarrow combines no chunk at all into a chunked array
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def common_type(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """The type in which values of both types can be compared without loss: their own, or the widest
    of texts, of floating-point numbers, or of integers that BIGINT holds. None for others."""
    kinds = (left, right)
    if all(pa.types.is_string(k) or pa.types.is_large_string(k) for k in kinds):
        return pa.large_string()
    if all(pa.types.is_floating(k) for k in kinds):
        return pa.float64()
    if all(pa.types.is_integer(k) and not pa.types.is_uint64(k) for k in kinds):
        return pa.int64()
    return left if left == right and not pa.types.is_nested(left) else None


def to_common_type(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values in their common type with others."""
    values = values.cast(kind)
    if pa.types.is_floating(kind):
        return pc.add(values, pa.scalar(0.0, kind))  # −0 and 0 are one number
    return values
