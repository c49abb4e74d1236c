"""The vectors of one embedding table in memory, with their keys."""

import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from jammi_lab.errors import SchemaMismatch, TableDamaged
from jammi_lab.storage.files import Place, opened
from jammi_lab.vectors.arrays import Floats, ascending, flat_of, keys_of, matrix_of, numbers_of, places_of, width_of
from jammi_lab.vectors.exact import Exact, Hits, Places

_ROWS = 1024
"""Rows that are read at a time, so that reading holds little beside the matrix."""


class Matrix:
    """Vectors and keys of a table, searchable at once. Read-only; may be shared between threads."""

    def __init__(self, keys: pa.Array, vectors: Floats) -> None:
        if len(keys) != len(vectors):
            raise SchemaMismatch(f"There are {len(keys)} keys for {len(vectors)} vectors.", expected=str(len(vectors)), actual=str(len(keys)))
        vectors = vectors.view()
        vectors.flags.writeable = False
        self.keys = keys
        self._exact = Exact(vectors, ascending(keys))
        norms = self._exact.norms
        if not (np.isfinite(norms) & (norms > 0)).all():
            at = int((~(np.isfinite(norms) & (norms > 0))).argmax())
            what = "is all zeros" if norms[at] == 0 else "is not finite"
            raise SchemaMismatch(f"The vector of key {keys[at].as_py()!r} {what}.", column="vector", expected="finite, not all zero", actual=what)

    @classmethod
    def from_arrow(cls, table: pa.Table, *, key: str = "key", vector: str = "vector", dimensions: int | None = None) -> "Matrix":
        """From a table in memory; its vectors are not copied when they are one chunk of FLOAT[n]. SchemaMismatch, DuplicateKey."""
        for name in (key, vector):
            if name not in table.column_names:
                raise SchemaMismatch(f"There is no column {name!r}.", column=name, expected=name, actual=", ".join(table.column_names))
        return cls(keys_of(table.column(key), key), matrix_of(table.column(vector), dimensions=dimensions, name=vector))

    @classmethod
    def from_parquet(cls, path: Place, *, key: str = "key", vector: str = "vector") -> "Matrix":
        """From a result table; its bytes are taken for the published ones. TableDamaged when they cannot be read, SchemaMismatch, DuplicateKey."""
        try:
            with opened(path) as raw, pq.ParquetFile(raw, buffer_size=1 << 20, pre_buffer=False) as file:
                kind = file.schema_arrow.field(vector).type
                count = file.metadata.num_rows
                if (width := width_of(kind, vector)) is None:
                    return cls.from_arrow(file.read([key, vector]), key=key, vector=vector)
                vectors = np.empty((count, width), np.float32)
                keys: list[pa.Array] = []
                at = 0
                for batch in file.iter_batches(_ROWS, columns=[key, vector], use_threads=False):
                    vectors[at : at + len(batch)] = flat_of(batch.column(vector), width, vector, at)
                    keys.append(batch.column(key))
                    at += len(batch)
                chunked = pa.chunked_array(keys, file.schema_arrow.field(key).type)
        except FileNotFoundError as error:
            raise TableDamaged(f"The file {path.name} is gone.", table=path.stem) from error
        except KeyError as error:
            raise SchemaMismatch(f"The file {path.name} has no columns {key!r} and {vector!r}.", column=vector) from error
        except (pa.ArrowException, OSError) as error:
            raise TableDamaged(f"The file {path.name} cannot be read as Parquet.", table=path.stem) from error
        return cls(keys_of(chunked, key), vectors)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"Matrix({len(self)} × {self.dimensions})"

    @property
    def vectors(self) -> Floats:
        """(rows, dimensions) float32, read-only."""
        return self._exact.vectors

    @property
    def dimensions(self) -> int:
        """Width of a vector."""
        return int(self.vectors.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self._exact.nbytes + int(self.keys.nbytes)

    def search(self, queries: ArrayLike, k: int, *, allow: NDArray[np.bool_] | None = None) -> Hits:
        """The `k` most similar rows of each query, by falling similarity, then ascending key; see `Exact.search` for arguments and errors."""
        return self._exact.search(queries, k, allow=allow)

    def neighbours(self, row: int, k: int, *, allow: NDArray[np.bool_] | None = None) -> Hits:
        """The `k` rows most similar to a row of the matrix, itself left out. InvalidArgument for k < 0."""
        mask = np.ones(len(self), np.bool_) if allow is None else allow.copy()
        mask[row] = False
        return self.search(self.vectors[row], k, allow=mask)

    def row_of(self, key: Any) -> int | None:
        """The place of the row with that key; None when there is none."""
        try:
            kind = _storage(self.keys).type
            at = pc.index(_storage(self.keys), pa.scalar(_stored(key, kind), kind)).as_py()
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None  # what is not of the keys' type is no key
        return int(at) if at >= 0 else None

    def keys_at(self, rows: Places) -> pa.Array:
        """The keys of rows, in their own type."""
        return self.keys.take(places_of(rows))

    def mask_of(self, keys: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        """Which rows have one of these keys: what a filter leaves. SchemaMismatch for keys of another type."""
        column = _storage(keys_of(keys.drop_null()))
        try:
            column = column.cast(_storage(self.keys).type)
        except pa.ArrowException as error:
            raise SchemaMismatch(
                "The filter gives keys of another type.", column="key", expected=str(self.keys.type), actual=str(keys.type)
            ) from error
        mask: NDArray[np.bool_] = numbers_of(pc.is_in(_storage(self.keys), value_set=column))
        return mask


def _storage(keys: pa.Array) -> pa.Array:
    return keys.storage if isinstance(keys, pa.ExtensionArray) else keys


def _stored(key: Any, kind: pa.DataType) -> Any:
    """A UUID as the bytes or the text that stand for it."""
    if not isinstance(key, uuid.UUID):
        return key
    return str(key) if pa.types.is_string(kind) or pa.types.is_large_string(kind) else key.bytes
