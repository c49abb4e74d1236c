"""The vectors of one embedding table, with their keys: in memory, or, while an index answers for them, in their file, where some are read."""

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

from jammi_lab.errors import SchemaMismatch, TableDamaged
from jammi_lab.storage.files import Place, opened
from jammi_lab.storage.plain_rows import PlainRows
from jammi_lab.vectors.arrays import (
    Floats,
    among,
    ascending,
    cut_off,
    flat_of,
    found_of,
    keys_of,
    matrix_of,
    numbers_of,
    places_of,
    scalar_as,
    scalar_of,
    width_of,
)
from jammi_lab.vectors.exact import Exact, Hits, Places, cosines
from jammi_lab.vectors.streamed import Rows, Streamed

_ROWS = 1024
"""Rows that are read at a time, so that reading holds little beside the matrix."""
_FEW = 16
"""Of so many rows one is wanted at most, or all are read instead."""


class Matrix:
    """Vectors and keys of a table, searchable at once. Read-only; may be shared between threads."""

    def __init__(self, keys: pa.Array, vectors: Floats) -> None:
        if len(keys) != len(vectors):
            raise SchemaMismatch(f"There are {len(keys)} keys for {len(vectors)} vectors.", expected=str(len(vectors)), actual=str(len(keys)))
        self._begin(keys, int(vectors.shape[1]), None, lambda: vectors)
        _ = self.exact

    def _begin(self, keys: pa.Array, dimensions: int, rows: PlainRows | None, load: Callable[[], Floats]) -> None:
        self.keys = keys
        self.order = ascending(keys)
        """The place of each row in the order of ties (of the keys), None when that is the order of the rows."""
        self.dimensions = dimensions
        """Width of a vector."""
        self._numbers = numbers_of(keys) if pa.types.is_integer(keys.type) else None
        self._rows, self._load, self._lock = rows, load, threading.Lock()
        self._exact: Exact | None = None

    @classmethod
    def in_file(cls, path: Path, *, key: str = "key", vector: str = "vector") -> Self:
        """The same, with vectors that stay in the file until all of them are asked for. Raises as `from_parquet`."""
        try:
            rows = PlainRows.of(path, vector)
            with pq.ParquetFile(path) as file:
                keys = keys_of(file.read([key]).column(0), key)
                width = width_of(file.schema_arrow.field(vector).type, vector)
        except (KeyError, pa.ArrowException, OSError):
            return cls.from_parquet(path, key=key, vector=vector)
        if rows is None or width is None:
            return cls.from_parquet(path, key=key, vector=vector)
        made = cls.__new__(cls)
        made._begin(keys, width, rows, lambda: cls.from_parquet(path, key=key, vector=vector).vectors)
        return made

    @classmethod
    def from_arrow(cls, table: pa.Table, *, key: str = "key", vector: str = "vector", dimensions: int | None = None) -> Self:
        """From a table in memory; its vectors are not copied when they are one chunk of FLOAT[n]. SchemaMismatch, DuplicateKey."""
        for name in (key, vector):
            if name not in table.column_names:
                raise SchemaMismatch(f"There is no column {name!r}.", column=name, expected=name, actual=", ".join(table.column_names))
        return cls(keys_of(table.column(key), key), matrix_of(table.column(vector), dimensions=dimensions, name=vector))

    @classmethod
    def from_parquet(cls, path: Place, *, key: str = "key", vector: str = "vector") -> Self:
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
    def exact(self) -> Exact:
        """What searches it, by places, with all vectors in memory. Raises as `from_parquet`."""
        with self._lock:
            if self._exact is None:
                vectors = self._load().view()
                vectors.flags.writeable = False
                exact = Exact(vectors, self.order)
                _check(exact, self.keys)
                self._exact, self._load = exact, lambda: vectors
            return self._exact

    @property
    def vectors(self) -> Floats:
        """(rows, dimensions) float32, read-only."""
        return self.exact.vectors

    @property
    def rows(self) -> Rows:
        """What an index is made from: all vectors where they are in memory, else some at a time out of their file."""
        held, rows = self._exact, self._rows
        return self.exact if held is not None or rows is None else Streamed(rows, len(self), self.dimensions)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        held = self._exact
        return (0 if held is None else held.nbytes) + int(self.keys.nbytes) + (0 if self._rows is None else self._rows.nbytes)

    def at(self, rows: Places) -> Floats:
        """(rows, dimensions) float32: the vectors of some rows. TableDamaged."""
        held = self._exact
        if held is not None or self._rows is None or len(rows) * _FEW > len(self):
            return self.vectors[rows]
        return self.rows.at(rows)

    def pairs(self, queries: Floats, rows: Places) -> Floats:
        """Exact similarities of checked queries (q, d) to rows of their own (q, c), with the bits of exact search; −2 for the row −1: none."""
        if self._exact is not None or rows.size * _FEW > len(self):
            return self.exact.pairs(queries, rows)
        if len(queries) == 1 and rows.min() >= 0:
            return cosines(self.at(rows[0]), queries[0]).reshape(1, -1)
        known, places = np.unique(np.maximum(rows, 0), return_inverse=True)
        return Exact(self.at(known)).pairs(queries, np.where(rows < 0, -1, places.reshape(rows.shape)))

    def search(self, queries: ArrayLike, k: int, *, allow: NDArray[np.bool_] | None = None) -> Hits:
        """The `k` most similar rows of each query, by falling similarity, then ascending key; see `Exact.search` for arguments and errors."""
        return self.exact.search(queries, k, allow=allow)

    def neighbours(self, row: int, k: int, *, allow: NDArray[np.bool_] | None = None) -> Hits:
        """The `k` rows most similar to a row of the matrix, itself left out. InvalidArgument for k < 0."""
        mask = np.ones(len(self), np.bool_) if allow is None else allow.copy()
        mask[row] = False
        return self.search(self.vectors[row], k, allow=mask)

    def row_of(self, key: Any) -> int | None:
        """The place of the row with that key; None when there is none."""
        try:
            kind = _storage(self.keys).type
            stored = _stored(key, kind)
            wanted = pa.scalar(stored, kind) if (plain := scalar_as(stored, kind)) is None else plain
            # a whole number is never cut, and may be too long for Arrow alone
            cut = not isinstance(stored, int) and cut_off(scalar_of(stored), wanted)
            at = -1 if cut else pc.index(_storage(self.keys), wanted).as_py()
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None  # what is not of the keys' type is no key
        return int(at) if at >= 0 else None

    def keys_at(self, rows: Places) -> pa.Array:
        """The keys of rows, in their own type."""
        if self._numbers is None:
            return self.keys.take(places_of(rows))
        found = self._numbers[rows.reshape(-1)]
        return pa.Array.from_buffers(self.keys.type, len(found), [None, pa.py_buffer(found)])

    def places_in(self, other: "Matrix") -> Places:
        """For each row its place in another matrix: where the same key has the same vector, bit by bit; −1 where there is none."""
        mine, theirs = _storage(self.keys), _storage(other.keys)
        if mine.type != theirs.type or self.dimensions != other.dimensions or not len(other):
            return np.full(len(self), -1, np.int64)
        found = pc.index_in(mine, value_set=theirs)
        places: Places = found_of(found)
        vectors, others = self.rows, other.rows
        for at in range(0, len(places), _ROWS):
            some = slice(at, at + _ROWS)
            there = places[some]
            mine_here = vectors.at(np.arange(at, at + len(there)))
            same = (mine_here.view(np.uint32) == others.at(np.maximum(there, 0)).view(np.uint32)).all(1)
            places[some] = np.where(same, there, -1)
        return places

    def mask_of(self, keys: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        """Which rows have one of these keys: what a filter leaves. SchemaMismatch for keys of another type."""
        column = _storage(keys_of(keys.drop_null()))
        try:
            column = column.cast(_storage(self.keys).type)
        except pa.ArrowException as error:
            raise SchemaMismatch(
                "The filter gives keys of another type.", column="key", expected=str(self.keys.type), actual=str(keys.type)
            ) from error
        if self._numbers is not None and (found := among(self._numbers, numbers_of(column))) is not None:
            return found
        mask: NDArray[np.bool_] = numbers_of(pc.is_in(_storage(self.keys), value_set=column))
        return mask


def _check(exact: Exact, keys: pa.Array) -> None:
    """Nothing, when every vector has a direction. SchemaMismatch."""
    bad = ~(np.isfinite(exact.norms) & (exact.norms > 0))
    if bad.any():
        at = int(bad.argmax())
        what = "is all zeros" if exact.norms[at] == 0 else "is not finite"
        raise SchemaMismatch(f"The vector of key {keys[at].as_py()!r} {what}.", column="vector", expected="finite, not all zero", actual=what)


def _storage(keys: pa.Array) -> pa.Array:
    return keys.storage if isinstance(keys, pa.ExtensionArray) else keys


def _stored(key: Any, kind: pa.DataType) -> Any:
    """A UUID as the bytes or the text that stand for it."""
    if not isinstance(key, uuid.UUID):
        return key
    return str(key) if pa.types.is_string(kind) or pa.types.is_large_string(kind) else key.bytes
