"""The keys of a table's rows: their order, look-up and masks."""

import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.vectors.arrays import (
    key_ranks,
    lost_in_cast,
    membership_mask,
    to_arrow_rows,
    to_keys,
    to_numpy,
    to_scalar,
    to_scalar_of_type,
)
from jammi_lab.vectors.exact_search import RowNumbers


class KeyedRows:
    """The rows of a table by their keys. Read-only and thread-safe."""

    def __init__(self, keys: pa.Array) -> None:
        """Raises DuplicateKey, SchemaMismatch for keys without an order."""
        self.keys = keys
        self.order = key_ranks(keys)
        """The rank of each row by key, which breaks ties; None when the rows are in key order."""
        self._integer_keys = to_numpy(keys) if pa.types.is_integer(keys.type) else None

    def __len__(self) -> int:
        return len(self.keys)

    def find_row(self, key: Any) -> int | None:
        """The row number of a key; None when there is no such row."""
        try:
            kind = storage_array(self.keys).type
            stored_key = _stored_key(key, kind)
            key_scalar = (
                pa.scalar(stored_key, kind)
                if (simple := to_scalar_of_type(stored_key, kind)) is None
                else simple
            )
            # an integer never loses a part, and Arrow alone may not hold it
            is_lossy = not isinstance(stored_key, int) and lost_in_cast(
                to_scalar(stored_key), key_scalar
            )
            position = -1 if is_lossy else pc.index(storage_array(self.keys), key_scalar).as_py()
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None  # a value of another type is not a key
        return int(position) if position >= 0 else None

    def keys_at(self, rows: RowNumbers) -> pa.Array:
        """The keys of some rows, in their own type."""
        if self._integer_keys is None:
            return self.keys.take(to_arrow_rows(rows))
        selected = self._integer_keys[rows.reshape(-1)]
        return pa.Array.from_buffers(self.keys.type, len(selected), [None, pa.py_buffer(selected)])

    def key_mask(self, keys: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        """A mask of the rows with one of these keys. Raises SchemaMismatch for keys of another
        type."""
        column = storage_array(to_keys(keys.drop_null()))
        try:
            column = column.cast(storage_array(self.keys).type)
        except pa.ArrowException as error:
            raise SchemaMismatch(
                "The filter returns keys of another type.",
                column="key",
                expected=str(self.keys.type),
                actual=str(keys.type),
            ) from error
        if (
            self._integer_keys is not None
            and (mask_by_table := membership_mask(self._integer_keys, to_numpy(column))) is not None
        ):
            return mask_by_table
        mask: NDArray[np.bool_] = to_numpy(pc.is_in(storage_array(self.keys), value_set=column))
        return mask


def storage_array(keys: pa.Array) -> pa.Array:
    """The keys as a plain array, without an extension type."""
    return keys.storage if isinstance(keys, pa.ExtensionArray) else keys


def _stored_key(key: Any, kind: pa.DataType) -> Any:
    """A UUID as the bytes or the text in which the column stores it."""
    if not isinstance(key, uuid.UUID):
        return key
    return str(key) if pa.types.is_string(kind) or pa.types.is_large_string(kind) else key.bytes
