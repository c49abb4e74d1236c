"""Derived vectors: the shared output (key, vector) and arithmetic of producers that combine
vectors, and the lookup of keys in other tables."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.features.vectors.exact_search import check_directions, row_norms
from jammi_lab.steps.jobs import RunningJob, TableRows
from jammi_lab.steps.key_types import common_type, to_common_type
from jammi_lab.storage.vector_arrays import Floats, RowNumbers, to_row_numbers

Doubles = NDArray[np.float64]
BLOCK_BYTES = 32 << 20
"""Bytes of one block of columns in float64."""


def pooled_job(name: str, keys: pa.Array, vectors: Floats, counts: Mapping[str, int]) -> RunningJob:
    """The job whose rows (key, vector) these are; `counts`: for the manifest. Raises
    SchemaMismatch, with the key, for a vector that is not finite or all zeros."""
    check_directions(
        row_norms(vectors),
        keys,
        table=name,
        hint="The combined vectors cancel out: exclude that row, or give its own vector more "
        "weight.",
    )
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    rows = TableRows(pa.table({"key": keys, "vector": flat}))
    return RunningJob(
        rows, on_published=rows.release, on_lost=lambda _: rows.release(), counts=counts
    )


def blocks(n: int, width: int) -> list[slice]:
    """Column ranges of a matrix of n rows, each small enough to be converted to float64."""
    step = max(1, min(width, BLOCK_BYTES // (8 * max(1, n))))
    return [slice(start, min(start + step, width)) for start in range(0, width, step)]


class GroupedRows:
    """Row-wise sum or maximum over selected vectors. The terms of a row are added one after the
    other in the given order, so its result does not depend on other rows and columns."""

    def __init__(
        self,
        row: RowNumbers,
        vector_row: RowNumbers,
        weight: Doubles | None,
        n: int,
        reduction: Literal["sum", "max"] = "sum",
    ) -> None:
        """`row`: the output row of each term; `vector_row`: its vector; `weight`: its factor, None
        for 1."""
        self._row, self._vector_row, self._weight = row, vector_row, weight
        self._n, self._reduction = n, reduction

    def __call__(self, x: Doubles) -> Doubles:
        """Reduce (vectors, columns) to (n, columns)."""
        out = np.full((self._n, x.shape[1]), -np.inf)
        for number, column in enumerate(np.ascontiguousarray(x.T)):
            terms = column[self._vector_row]
            if self._weight is not None:
                terms *= self._weight
            if self._reduction == "max":
                np.maximum.at(out[:, number], self._row, terms)
            else:  # one term after the other, where `sum` would add pairwise
                out[:, number] = np.bincount(self._row, terms, self._n)
        return out


def match_keys(keys: pa.Array, values: pa.Array, table: str, name: str) -> RowNumbers:
    """For each value the row with that key; −1 for none. Raises SchemaMismatch for a column whose
    type cannot hold the keys."""
    if values.null_count == len(values):  # an untyped NULL column has an integer type in SQL
        return np.full(len(values), -1, np.int64)
    storage = keys.storage if isinstance(keys, pa.ExtensionArray) else keys
    kind = common_type(values.type, storage.type)
    if kind is None:
        raise key_type_error(keys, values.type, table, name)
    positions = pc.index_in(
        to_common_type(values, kind), value_set=to_common_type(storage, kind), skip_nulls=True
    )
    return to_row_numbers(positions)


def key_type_error(keys: pa.Array, kind: pa.DataType, table: str, name: str) -> SchemaMismatch:
    """The error for a column whose type cannot hold the keys of the vectors."""
    return SchemaMismatch(
        f"Column {name!r} of {table!r} holds {kind}, and the vectors have keys of type "
        f"{keys.type}.",
        table=table,
        column=name,
        expected=str(keys.type),
        actual=str(kind),
        hint="Cast it in SQL, or use a table with the same keys.",
    )
