"""Propagated vectors: each vector mixed with those of its neighbours in a graph, hop by hop.

X(h) = (1 − α)·P·X(h−1) + α·X(0). Columns do not interact, so a block of columns goes through all
hops in float64 before the next one starts: besides input and output, memory holds a few columns
only.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.features.vectors.pooled_vectors import Doubles, GroupedRows, blocks, match_keys
from jammi_lab.steps.input_tables import InputTable
from jammi_lab.steps.key_types import single_array
from jammi_lab.storage.vector_arrays import Floats, RowNumbers


class Hops(NamedTuple):
    """How vectors go through a graph."""

    steps: int
    """Number of hops."""
    alpha: float
    """Weight of a row's initial vector in each hop."""
    concat: bool
    """Whether the vectors of all hops are returned."""


@dataclass(frozen=True)
class WeightedGraph:
    """The edges, sorted by row, then by the neighbour's key order."""

    row: RowNumbers
    neighbor: RowNumbers
    weight: Doubles
    """The weight of each neighbour."""
    total: Doubles
    """(n,): the divisor of each row's sum; a row with zero keeps its initial vector."""


def load_graph(
    keys: pa.Array, edge_table: InputTable, vectors: str, direction: str, weighting: str
) -> tuple[WeightedGraph, int]:
    """The graph over the rows of a matrix, and the number of edges ignored because an end of them
    is not a row. `vectors`: the name of the matrix. Raises SchemaMismatch."""
    table = edge_table.prepared.run().table()
    table_name = edge_table.step_input.asked
    src, dst = (
        match_keys(keys, single_array(table.column(position)), table_name, column)
        for position, column in enumerate(("src", "dst"))
    )
    weight = (
        np.ones(len(src)) if weighting == "uniform" else _edge_weights(table.column(2), table_name)
    )
    has_rows = (src >= 0) & (dst >= 0)
    if len(has_rows) and len(keys) and not has_rows.any():
        raise SchemaMismatch(
            f"No edge of {table_name!r} connects two rows of {vectors!r}.",
            table=table_name,
            column="src",
            expected=f"keys of {vectors!r}",
            actual=f"keys such as {table.column(0)[0].as_py()!r}",
            hint="Use the graph that was built from these vectors.",
        )
    ends = {"out": [(src, dst)], "in": [(dst, src)], "both": [(src, dst), (dst, src)]}[direction]
    used = has_rows & (src != dst)
    row, neighbor = (np.concatenate([pair[position][used] for pair in ends]) for position in (0, 1))
    weight = np.concatenate([weight[used]] * len(ends))
    order = np.lexsort((-weight, neighbor, row))
    row, neighbor, weight = row[order], neighbor[order], weight[order]
    # of a repeated edge only the one with the greatest weight counts
    first = np.ones(len(row), np.bool_)
    first[1:] = (row[1:] != row[:-1]) | (neighbor[1:] != neighbor[:-1])
    row, neighbor, weight = row[first], neighbor[first], weight[first]
    if weighting == "uniform":
        return _with_self_loops(row, neighbor, len(keys)), int((~has_rows).sum())
    total = np.bincount(row, weights=weight, minlength=len(keys)).astype(np.float64)
    return WeightedGraph(row, neighbor, weight, total), int((~has_rows).sum())


def _with_self_loops(row: RowNumbers, neighbor: RowNumbers, n: int) -> WeightedGraph:
    """The graph with self-loops: each row's mean is over itself and its neighbours."""
    row, neighbor = np.concatenate([row, np.arange(n)]), np.concatenate([neighbor, np.arange(n)])
    order = np.lexsort((neighbor, row))
    return WeightedGraph(
        row[order],
        neighbor[order],
        np.ones(len(row)),
        np.bincount(row, minlength=n).astype(np.float64, copy=False),
    )


def _edge_weights(column: pa.ChunkedArray, table_name: str) -> Doubles:
    """Edge weights max(similarity, 0). Raises SchemaMismatch for values that are not finite
    numbers."""
    array = single_array(column)
    if not (
        pa.types.is_floating(array.type)
        or pa.types.is_integer(array.type)
        or pa.types.is_decimal(array.type)
    ):
        raise SchemaMismatch(
            f"The weights of {table_name!r} have type {array.type}, not a number type.",
            table=table_name,
            column="similarity",
            expected="numbers",
            actual=str(array.type),
        )
    null_count = array.null_count
    values = np.asarray(array.cast(pa.float64(), safe=False).fill_null(math.nan), np.float64)
    if invalid_count := int((~np.isfinite(values)).sum()):
        problem = "NULL" if null_count else "not finite"
        raise SchemaMismatch(
            f"{invalid_count:,} edges of {table_name!r} have no usable weight.",
            table=table_name,
            column="similarity",
            expected="a finite number",
            actual=problem,
            hint="Exclude them in SQL.",
        )
    return np.maximum(values, 0)


def propagate(
    x0: Floats,
    graph: WeightedGraph,
    hops: Hops,
    stage: str,
    on_progress: OnProgress | None,
) -> Floats:
    """X(hops) as (n, width) float32; with `concat` all of X(0) … X(hops) side by side, each
    normalised to unit length (which needs a first pass for the norms)."""
    n, width = x0.shape
    concat = hops.concat
    out = np.empty((n, width * (hops.steps + 1) if concat else width), np.float32)
    squares = np.zeros((hops.steps + 1, n))
    column_blocks = blocks(n, width)
    means = GroupedRows(graph.row, graph.neighbor, graph.weight, n)
    for pass_number in range(2 if concat else 1):
        for number, columns in enumerate(column_blocks):
            if on_progress:
                on_progress(
                    Progress(
                        stage=stage,
                        done=number + pass_number * len(column_blocks),
                        total=len(column_blocks) * (2 if concat else 1),
                        unit="slabs",
                    )
                )
            for hop, x in enumerate(
                _iterate_hops(x0[:, columns].astype(np.float64), means, graph.total, hops)
            ):
                if concat and not pass_number:
                    squares[hop] += np.square(x).sum(1)
                elif concat:
                    norms = np.sqrt(squares[hop])
                    out[:, hop * width + columns.start : hop * width + columns.stop] = (
                        x / np.where(norms > 0, norms, 1)[:, None]
                    )
                elif hop == hops.steps:
                    out[:, columns] = x
    return out


def _iterate_hops(
    x0: Doubles, neighbours: GroupedRows, total: Doubles, hops: Hops
) -> Iterator[Doubles]:
    isolated, divisor = np.flatnonzero(total == 0), np.where(total > 0, total, 1)[:, None]
    x = x0
    yield x
    for _ in range(hops.steps):
        # weights near the limits of float64 may overflow; such a row is refused later by its key
        with np.errstate(over="ignore", invalid="ignore"):
            mean = neighbours(x) / divisor
            mean[isolated] = x0[isolated]
            x = (1 - hops.alpha) * mean + hops.alpha * x0
        yield x
