"""The producer `graph_propagation`: each vector mixed with those of its neighbours in a graph, hop
by hop.

X(h) = (1 − α)·P·X(h−1) + α·X(0). Columns do not interact, so a block of columns goes through all
hops in float64 before the next one starts: besides input and output, memory holds a few columns
only.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.core.definitions import GraphPropagationDescriptor
from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.features.vectors.pooled_vectors import (
    Doubles,
    GroupedRows,
    PooledVectors,
    blocks,
    match_keys,
    pooled_job,
)
from jammi_lab.steps.input_tables import InputLoader, InputReference, InputTable, check_choices
from jammi_lab.steps.jobs import Job, vector_columns
from jammi_lab.steps.key_types import single_array
from jammi_lab.steps.sql import environment as sql_environment
from jammi_lab.storage.vector_arrays import Floats, RowNumbers

OUTPUT_VERSION = 1
"""Increment when equal vectors and edges would give other rows than before."""
_CHOICES = {
    "direction": ("out", "in", "both"),
    "weighting": ("uniform", "similarity"),
    "output": ("final", "concat"),
}


class PropagationProducer:
    """Binds embedding tables and edge tables."""

    def __init__(self, inputs: InputLoader, engine: Engine) -> None:
        self._inputs, self._engine = inputs, engine

    def job(
        self,
        name: str,
        table: str,
        edges: str,
        hops: int,
        alpha: float,
        resolvers: Sequence[NameResolver] = (),
        **choices: str,
    ) -> Job:
        """The job of a propagation. `choices`: direction, weighting and output. Raises
        TableNotFound, SchemaMismatch, InvalidArgument."""
        if isinstance(hops, bool) or not isinstance(hops, int | np.integer) or not 1 <= hops <= 3:
            raise InvalidArgument(f"hops must be 1, 2 or 3, got {hops!r}.")
        if (
            isinstance(alpha, bool)
            or not isinstance(alpha, int | float | np.integer | np.floating)
            or not 0 <= alpha <= 1
        ):
            raise InvalidArgument(f"alpha must be a number from 0 to 1, got {alpha!r}.")
        check_choices(choices, _CHOICES)
        columns = ["src", "dst"] + (["similarity"] if choices["weighting"] == "similarity" else [])
        vectors = self._inputs.find_vectors(table)
        graph = self._inputs.select_columns(edges, columns, resolvers, purpose="of edges")
        return self._bind(
            name, vectors, graph, {"hops": int(hops), "alpha": float(alpha), **choices}, resolvers
        )

    def from_descriptor(
        self,
        name: str,
        descriptor: GraphPropagationDescriptor,
        resolvers: Sequence[NameResolver] = (),
    ) -> Job:
        """The job of a recorded definition over the current inputs. Raises what binding raises."""
        options = {field: getattr(descriptor, field) for field in ("hops", "alpha", *_CHOICES)}
        return self._bind(
            name, descriptor.vectors.reference, descriptor.edges.reference, options, resolvers
        )

    def environment(self) -> dict[str, Any]:
        """Everything besides the descriptor that shapes the rows."""
        return {"revision": OUTPUT_VERSION, "select": sql_environment(self._engine)}

    def _bind(
        self,
        name: str,
        vectors: InputReference,
        graph: InputReference,
        options: dict[str, Any],
        resolvers: Sequence[NameResolver],
    ) -> Job:
        vector_table, edge_table = self._inputs.load(vectors), self._inputs.load(graph, resolvers)
        descriptor = GraphPropagationDescriptor(
            vectors=vector_table.step_input, edges=edge_table.step_input, **options
        )
        record = vector_table.record
        width = (record.dimensions or 0 if record else 0) * (
            descriptor.hops + 1 if descriptor.output == "concat" else 1
        )
        output = PooledVectors(name, "propagate")

        def fill(on_progress: OnProgress | None) -> dict[str, int]:
            matrix = self._inputs.matrix(vector_table)
            graph, ignored = _load_graph(matrix.keys, edge_table, descriptor)
            output.set_rows(
                matrix.keys,
                _propagate(matrix.vectors, graph, descriptor, output.stage, on_progress),
            )
            return {"edges_ignored": ignored}

        return pooled_job(
            output,
            descriptor,
            [vector_table, edge_table],
            fill,
            environment=self.environment(),
            rebind=lambda: self._bind(name, vectors, graph, options, resolvers),
            dimensions=width,
            columns=vector_columns(vector_table.key_type, width),
            model_id=f"propagation-{descriptor.weighting}",
        )


@dataclass(frozen=True)
class WeightedGraph:
    """The edges, sorted by row, then by the neighbour's key order."""

    row: RowNumbers
    neighbor: RowNumbers
    weight: Doubles
    """The weight of each neighbour."""
    total: Doubles
    """(n,): the divisor of each row's sum; a row with zero keeps its initial vector."""


def _load_graph(
    keys: pa.Array, edge_table: InputTable, descriptor: GraphPropagationDescriptor
) -> tuple[WeightedGraph, int]:
    """The graph over the rows of a matrix, and the number of edges ignored because an end of them
    is not a row. Raises SchemaMismatch."""
    table = edge_table.prepared.run().table()
    table_name = edge_table.step_input.asked
    src, dst = (
        match_keys(keys, single_array(table.column(position)), table_name, column)
        for position, column in enumerate(("src", "dst"))
    )
    weight = (
        np.ones(len(src))
        if descriptor.weighting == "uniform"
        else _edge_weights(table.column(2), table_name)
    )
    has_rows = (src >= 0) & (dst >= 0)
    if len(has_rows) and len(keys) and not has_rows.any():
        raise SchemaMismatch(
            f"No edge of {table_name!r} connects two rows of {descriptor.vectors.asked!r}.",
            table=table_name,
            column="src",
            expected=f"keys of {descriptor.vectors.asked!r}",
            actual=f"keys such as {table.column(0)[0].as_py()!r}",
            hint="Use the graph that was built from these vectors.",
        )
    ends = {"out": [(src, dst)], "in": [(dst, src)], "both": [(src, dst), (dst, src)]}[
        descriptor.direction
    ]
    used = has_rows & (src != dst)
    row, neighbor = (np.concatenate([pair[position][used] for pair in ends]) for position in (0, 1))
    weight = np.concatenate([weight[used]] * len(ends))
    order = np.lexsort((-weight, neighbor, row))
    row, neighbor, weight = row[order], neighbor[order], weight[order]
    # of a repeated edge only the one with the greatest weight counts
    first = np.ones(len(row), np.bool_)
    first[1:] = (row[1:] != row[:-1]) | (neighbor[1:] != neighbor[:-1])
    row, neighbor, weight = row[first], neighbor[first], weight[first]
    if descriptor.weighting == "uniform":
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


def _propagate(
    x0: Floats,
    graph: WeightedGraph,
    descriptor: GraphPropagationDescriptor,
    stage: str,
    on_progress: OnProgress | None,
) -> Floats:
    """X(hops) as (n, width) float32; with output "concat" all of X(0) … X(hops) side by side, each
    normalised to unit length (which needs a first pass for the norms)."""
    n, width = x0.shape
    concat = descriptor.output == "concat"
    out = np.empty((n, width * (descriptor.hops + 1) if concat else width), np.float32)
    squares = np.zeros((descriptor.hops + 1, n))
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
                _iterate_hops(x0[:, columns].astype(np.float64), means, graph.total, descriptor)
            ):
                if concat and not pass_number:
                    squares[hop] += np.square(x).sum(1)
                elif concat:
                    norms = np.sqrt(squares[hop])
                    out[:, hop * width + columns.start : hop * width + columns.stop] = (
                        x / np.where(norms > 0, norms, 1)[:, None]
                    )
                elif hop == descriptor.hops:
                    out[:, columns] = x
    return out


def _iterate_hops(
    x0: Doubles, neighbours: GroupedRows, total: Doubles, descriptor: GraphPropagationDescriptor
) -> Iterator[Doubles]:
    isolated, divisor = np.flatnonzero(total == 0), np.where(total > 0, total, 1)[:, None]
    x = x0
    yield x
    for _ in range(descriptor.hops):
        # weights near the limits of float64 may overflow; such a row is refused later by its key
        with np.errstate(over="ignore", invalid="ignore"):
            mean = neighbours(x) / divisor
            mean[isolated] = x0[isolated]
            x = (1 - descriptor.alpha) * mean + descriptor.alpha * x0
        yield x
