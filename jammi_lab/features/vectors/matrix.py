"""Vectors and keys of one embedding table: in memory, or, while an index answers searches, in the
Parquet file, from which single rows are read."""

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from jammi_lab.core.errors import SchemaMismatch, TableDamaged
from jammi_lab.features.vectors.exact_search import (
    ExactSearch,
    Hits,
    check_directions,
    row_norms,
    similarities,
)
from jammi_lab.storage.files import StoragePath, open_for_reading
from jammi_lab.storage.parquet import open_parquet
from jammi_lab.storage.parquet_rows import ParquetRowReader
from jammi_lab.storage.vector_arrays import (
    Floats,
    RowNumbers,
    chunk_matrix,
    find_rows,
    key_ranks,
    lost_in_cast,
    storage_array,
    to_arrow_rows,
    to_key,
    to_keys,
    to_numpy,
    to_scalar,
    to_scalar_of_type,
    vector_width,
)


class KeyedRows:
    """The rows of a table by their keys. Read-only and thread-safe."""

    def __init__(self, keys: pa.Array) -> None:
        """Raises DuplicateKey, SchemaMismatch for keys without an order."""
        self.keys = keys
        self.order = key_ranks(keys)
        """The rank of each row by key, which breaks ties; None when the rows are in key order."""

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
        if position < 0:
            return None
        return int(position)

    def first_keys(self, count: int) -> list[Any]:
        """The first keys."""
        keys: list[Any] = storage_array(self.keys.slice(0, count)).to_pylist()
        return keys

    def typed_key(self, key: Any) -> Any:
        """A key converted to the type of the keys, as SQL converts a literal; unchanged when that
        is impossible."""
        converted = to_key(key, self.keys.type)
        return key if converted is None else converted

    def keys_at(self, rows: RowNumbers) -> pa.Array:
        """The keys of some rows, in their own type."""
        return self.keys.take(to_arrow_rows(rows))

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
        mask: NDArray[np.bool_] = to_numpy(pc.is_in(storage_array(self.keys), value_set=column))
        return mask


def _stored_key(key: Any, kind: pa.DataType) -> Any:
    """A UUID as the bytes or the text in which the column stores it."""
    if not isinstance(key, uuid.UUID):
        return key
    return str(key) if pa.types.is_string(kind) or pa.types.is_large_string(kind) else key.bytes


BATCH_ROWS = 1024
"""Rows per batch when reading, to need little memory besides the matrix."""


class Matrix(KeyedRows):
    """Vectors and keys of a table, ready to search. Read-only and thread-safe."""

    def __init__(self, keys: pa.Array, vectors: Floats) -> None:
        if len(keys) != len(vectors):
            raise SchemaMismatch(
                f"There are {len(keys)} keys for {len(vectors)} vectors.",
                expected=str(len(vectors)),
                actual=str(len(keys)),
            )
        self._initialize(keys, int(vectors.shape[1]), None, lambda: vectors)
        _ = self.exact

    def _initialize(
        self,
        keys: pa.Array,
        dimensions: int,
        rows: ParquetRowReader | None,
        load: Callable[[], Floats],
    ) -> None:
        super().__init__(keys)
        self.dimensions = dimensions
        """Width of a vector."""
        self._rows, self._load, self._lock = rows, load, threading.Lock()
        self._exact: ExactSearch | None = None

    @classmethod
    def from_file_lazily(cls, path: Path) -> Self:
        """A matrix whose vectors stay in the file until all of them are needed. Raises as
        `from_parquet`."""
        try:
            rows = ParquetRowReader.for_column(path, "vector")
            with pq.ParquetFile(path) as file:
                keys = to_keys(file.read(["key"]).column(0))
                width = vector_width(file.schema_arrow.field("vector").type)
        except (KeyError, pa.ArrowException, OSError):
            return cls.from_parquet(path)
        if rows is None or width is None:
            return cls.from_parquet(path)
        matrix = cls.__new__(cls)
        matrix._initialize(keys, width, rows, lambda: cls.from_parquet(path).vectors)
        return matrix

    @classmethod
    def from_parquet(cls, path: StoragePath) -> Self:
        """A matrix of a result table's file with the columns key and vector, whose bytes the caller
        has verified. Raises TableDamaged when the file cannot be read, SchemaMismatch,
        DuplicateKey."""
        try:
            with (
                open_for_reading(path) as raw,
                open_parquet(raw, 1 << 20) as file,
            ):
                width = file.schema_arrow.field("vector").type.list_size
                vectors = np.empty((file.metadata.num_rows, width), np.float32)
                keys: list[pa.Array] = []
                first_row = 0
                for batch in file.iter_batches(
                    BATCH_ROWS, columns=["key", "vector"], use_threads=False
                ):
                    vectors[first_row : first_row + len(batch)] = chunk_matrix(
                        batch.column("vector"), width, "vector", first_row
                    )
                    keys.append(batch.column("key"))
                    first_row += len(batch)
                chunked = pa.chunked_array(keys, file.schema_arrow.field("key").type)
        except FileNotFoundError as error:
            raise TableDamaged(
                f"The file {path.name} no longer exists.", table=path.stem
            ) from error
        except (KeyError, AttributeError) as error:
            raise SchemaMismatch(
                f"The file {path.name} has no columns 'key' and 'vector' of type FLOAT[n].",
                column="vector",
            ) from error
        except (pa.ArrowException, OSError) as error:
            raise TableDamaged(
                f"The file {path.name} cannot be read as Parquet.", table=path.stem
            ) from error
        return cls(to_keys(chunked), vectors)

    @property
    def exact(self) -> ExactSearch:
        """Exact search over all vectors, which are loaded first. Raises as `from_parquet`."""
        with self._lock:
            if self._exact is None:
                vectors = self._load().view()
                vectors.flags.writeable = False
                exact = ExactSearch(vectors, self.order)
                check_directions(exact.norms, self.keys)
                self._exact, self._load = exact, lambda: vectors
            return self._exact

    @property
    def vectors(self) -> Floats:
        """(rows, dimensions) float32, read-only."""
        return self.exact.vectors

    @property
    def shape(self) -> tuple[int, int]:
        """Number of vectors and their width."""
        return len(self), self.dimensions

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        exact = self._exact
        return (
            (0 if exact is None else exact.nbytes)
            + int(self.keys.nbytes)
            + (0 if self._rows is None else self._rows.nbytes)
        )

    def vectors_at(self, rows: RowNumbers) -> Floats:
        """The vectors of some rows: (rows, dimensions) float32. Raises TableDamaged."""
        if self._exact is not None or self._rows is None:
            return self.vectors[rows]
        try:
            return self._rows.take(rows)
        except OSError as error:
            raise TableDamaged(
                "The vectors can no longer be read from their file.",
                hint="ws.fsck() compares catalog and files.",
            ) from error

    def pairs(self, queries: Floats, rows: RowNumbers) -> Floats:
        """Exact similarities of checked queries (q, d) to rows of their own (q, c), with the bits
        of exact search; −2 for row −1, which means none. Raises TableDamaged."""
        if not len(self):
            return np.full(rows.shape, -2, np.float32)
        query, flat = np.repeat(np.arange(len(queries)), rows.shape[1]), rows.reshape(-1)
        if self._exact is not None or self._rows is None:
            exact = self.exact
            out = similarities(exact.vectors, exact.norms, queries, query, flat)
        else:
            vectors, places = self.vectors_at(np.maximum(flat, 0)), np.arange(len(flat))
            out = similarities(vectors, row_norms(vectors), queries, query, places)
        out[flat < 0] = -2
        return out.reshape(rows.shape)

    def kth_similarity(self, queries: Floats, k: int, allow: NDArray[np.bool_]) -> Floats:
        """(q,): the similarity of the k-th best of the masked rows to each checked query; reads
        vectors in parts. The mask must have at least k rows. Raises TableDamaged."""
        best = np.empty((len(queries), 0), np.float32)
        allowed = np.flatnonzero(allow)
        for start in range(0, len(allowed), BATCH_ROWS):
            part = ExactSearch(self.vectors_at(allowed[start : start + BATCH_ROWS]))
            found = part.search(queries, k).similarities
            best = -np.sort(-np.concatenate([best, found], axis=1), axis=1)[:, :k]
        return best[:, -1]

    def search(self, queries: ArrayLike, k: int, *, allow: NDArray[np.bool_] | None = None) -> Hits:
        """The `k` most similar rows of each query, by descending similarity, then ascending key.
        See `ExactSearch.search` for arguments and errors."""
        return self.exact.search(queries, k, allow=allow)

    def match_rows(self, other: "Matrix") -> RowNumbers:
        """For each row the row of another matrix with the same key and a vector with the same bits;
        −1 where there is none."""
        if (
            self.keys.type != other.keys.type
            or self.dimensions != other.dimensions
            or not len(other)
        ):
            return np.full(len(self), -1, np.int64)
        rows = find_rows(self.keys, other.keys)
        for start in range(0, len(rows), BATCH_ROWS):
            batch = slice(start, start + BATCH_ROWS)
            matched = rows[batch]
            own_vectors = self.vectors_at(np.arange(start, start + len(matched)))
            is_equal = (
                own_vectors.view(np.uint32)
                == other.vectors_at(np.maximum(matched, 0)).view(np.uint32)
            ).all(1)
            rows[batch] = np.where(is_equal, matched, -1)
        return rows
