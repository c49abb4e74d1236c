"""Vectors that were made of vectors: rows of key and vector in key order, and the keys by which other tables name rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.errors import SchemaMismatch
from jammi_lab.producers.base import Job, OnProgress, Running
from jammi_lab.producers.inputs import Taken, shared
from jammi_lab.producers.matching import as_type, common_type
from jammi_lab.storage.parquet import group_rows
from jammi_lab.values.descriptors import Descriptor
from jammi_lab.values.records import TableKind
from jammi_lab.vectors.arrays import Floats, found_of
from jammi_lab.vectors.exact import Places, norms_of

Doubles = NDArray[np.float64]
_SLAB = 32 << 20
"""Bytes of a matrix of some columns in float64."""
_MANY = 64
"""A row with more vectors than this is folded on its own."""


class Pooled:
    """Rows of key and vector, once they are given."""

    def __init__(self, name: str, verb: str) -> None:
        self._name, self.stage = name, f"{verb} {name}"
        self._table = pa.table({})

    @property
    def schema(self) -> pa.Schema:
        """key, vector."""
        return self._table.schema

    def give(self, keys: pa.Array, vectors: Floats) -> None:
        """Take the rows. SchemaMismatch for a vector that is not finite or all zeros, with its key."""
        norms = norms_of(vectors)
        bad = ~(np.isfinite(norms) & (norms > 0))
        if bad.any():
            at = int(np.argmax(bad))
            what = "is all zeros" if norms[at] == 0 else "is not finite"
            raise SchemaMismatch(
                f"The vector that {self._name!r} would have for {keys[at].as_py()!r} {what}.",
                table=self._name,
                column="vector",
                expected="finite numbers, not all zero",
                actual=what,
                hint="What it is made of cancels out: leave that row out, or mix in more of its own vector.",
            )
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        self._table = pa.table({"key": keys, "vector": flat})

    def batches(self, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in key order; whole row groups unless a number of rows is said, which are then written without a copy."""
        yield from self._table.to_batches(max_chunksize=rows or group_rows(self.schema))

    def close(self) -> None:
        """Nothing is open."""

    def let_go(self) -> None:
        """The rows are published, or never will be."""
        self._table = self.schema.empty_table()


def pooled_job(
    made: Pooled,
    kind: TableKind,
    descriptor: Descriptor,
    read: Sequence[Taken],
    fill: Callable[[OnProgress | None], dict[str, int]],
    **more: Any,
) -> Job:
    """The job of a table of key and vector. `fill` gives `made` its rows and says what the manifest counts; `more`: what else a job is told."""

    def rows(on_progress: OnProgress | None) -> Running:
        counts = fill(on_progress)
        return Running(made, published=made.let_go, lost=lambda _: made.let_go(), counts=counts)

    return Job(kind=kind, descriptor=descriptor, rows=rows, key=["key"], **more, **shared(read))


def slabs(n: int, width: int) -> list[slice]:
    """Columns of a matrix of n rows, so many at a time as are held in float64."""
    step = max(1, min(width, _SLAB // (8 * max(1, n))))
    return [slice(at, min(at + step, width)) for at in range(0, width, step)]


class Folded:
    """Sums (or the largest) of some vectors for each row, taken one after the other in the order given, whatever rows and columns are beside them."""

    def __init__(self, row: Places, other: Places, weight: Doubles | None, n: int, how: Literal["sum", "max"] = "sum") -> None:
        """`row`, rising: for which of n rows; `other`: which vector goes into it; `weight`: how often, None for once."""
        self._other, self._weight, self._n = other, weight, n
        self._fold: np.ufunc = np.add if how == "sum" else np.maximum
        self._nothing = 0.0 if how == "sum" else -np.inf
        self._count = np.bincount(row, minlength=n)
        self._start = np.cumsum(self._count) - self._count
        self._few, self._many = np.flatnonzero(self._count <= _MANY), np.flatnonzero(self._count > _MANY)

    def __call__(self, x: Doubles) -> Doubles:
        """(n, columns) of (vectors, columns)."""
        out = np.full((self._n, x.shape[1]), self._nothing)
        rows = self._few
        for at in range(int(self._count[rows].max(initial=0))):
            rows = rows[self._count[rows] > at]
            out[rows] = self._fold(out[rows], self._part(x, self._start[rows] + at))
        for row in self._many:
            end = self._start[row] + self._count[row]
            for first in range(self._start[row], end, 4096):
                part = self._part(x, np.arange(first, min(first + 4096, end)))
                part[0] = self._fold(out[row], part[0])
                out[row] = self._fold.accumulate(part)[-1]  # reduced, one column alone would be added pairwise
        return out

    def _part(self, x: Doubles, at: Places) -> Doubles:
        part: Doubles = x[self._other[at]]
        return part if self._weight is None else part * self._weight[at, None]


def places_in(keys: pa.Array, values: pa.Array, table: str, name: str) -> Places:
    """For each value the row that has it as its key; −1 for none. SchemaMismatch for a column that cannot hold such keys."""
    if values.null_count == len(values):  # a NULL without a type is a number to SQL
        return np.full(len(values), -1, np.int64)
    plain = keys.storage if isinstance(keys, pa.ExtensionArray) else keys
    kind = common_type(values.type, plain.type)
    if kind is None:
        raise no_keys(keys, values.type, table, name)
    found = pc.index_in(as_type(values, kind), value_set=as_type(plain, kind), skip_nulls=True)
    return found_of(found)


def no_keys(keys: pa.Array, kind: pa.DataType, table: str, name: str) -> SchemaMismatch:
    """What is said of a column that cannot hold the keys of vectors."""
    return SchemaMismatch(
        f"Column {name!r} of {table!r} holds {kind}, and the vectors have keys of type {keys.type}.",
        table=table,
        column=name,
        expected=str(keys.type),
        actual=str(kind),
        hint="Cast it in SQL, or take a table that is over the same keys.",
    )
