"""The producer `graph_propagation`: vectors, each mixed with those of its neighbours in a graph, hop by hop.

X(h) = (1 − α)·P·X(h−1) + α·X(0). Columns do not touch each other, so some of them at a time go through all hops in float64: beside what is read
and what is put out, memory holds a few columns.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.errors import InvalidArgument, SchemaMismatch
from jammi_lab.producers.base import Job, OnProgress
from jammi_lab.producers.inputs import Asked, Inputs, Taken
from jammi_lab.producers.matching import whole
from jammi_lab.producers.pooled import Doubles, Folded, Pooled, places_in, pooled_job, slabs
from jammi_lab.producers.sql import environment as sql_environment
from jammi_lab.values.descriptors import GraphPropagationDescriptor
from jammi_lab.values.records import Progress, TableKind
from jammi_lab.vectors.arrays import Floats
from jammi_lab.vectors.exact import Places

REVISION = 1
"""Raised when equal vectors and edges would give other rows than before."""
_CHOICES = {"direction": ("out", "in", "both"), "weighting": ("uniform", "similarity"), "output": ("final", "concat")}


class PropagationProducer:
    """Binds embedding tables and edges."""

    def __init__(self, inputs: Inputs, engine: Engine) -> None:
        self._inputs, self._engine = inputs, engine

    def job(self, name: str, asked: str, edges: str, hops: int, alpha: float, extra: Sequence[Provider] = (), **chosen: str) -> Job:
        """The vectors as a job; `chosen`: direction, weighting, output. TableNotFound; SchemaMismatch; InvalidArgument."""
        if isinstance(hops, bool) or not isinstance(hops, int | np.integer) or not 1 <= hops <= 3:
            raise InvalidArgument(f"hops is 1, 2 or 3, not {hops!r}.")
        if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.integer | np.floating) or not 0 <= alpha <= 1:
            raise InvalidArgument(f"alpha is a number from 0 to 1, not {alpha!r}.")
        for what, choices in _CHOICES.items():
            if chosen[what] not in choices:
                raise InvalidArgument(f"{what} is {', '.join(choices[:-1])} or {choices[-1]}, not {chosen[what]!r}.")
        columns = ["src", "dst"] + (["similarity"] if chosen["weighting"] == "similarity" else [])
        vectors = self._inputs.vectors_named(asked)
        graph = self._inputs.table_named(edges, columns, extra, to="of edges")
        return self._bound(name, vectors, graph, {"hops": int(hops), "alpha": float(alpha), **chosen}, extra)

    def from_descriptor(self, name: str, said: GraphPropagationDescriptor, extra: Sequence[Provider] = ()) -> Job:
        """A recorded definition as a job over its inputs as they are now. Raises as binding does."""
        told = {field: getattr(said, field) for field in ("hops", "alpha", *_CHOICES)}
        return self._bound(name, (said.vectors.asked, said.vectors.statement), (said.edges.asked, said.edges.statement), told, extra)

    def environment(self) -> dict[str, Any]:
        """What else shapes the rows."""
        return {"revision": REVISION, "select": sql_environment(self._engine)}

    def _bound(self, name: str, vectors: Asked, graph: Asked, told: dict[str, Any], extra: Sequence[Provider]) -> Job:
        taken, edges = self._inputs.take(vectors), self._inputs.take(graph, extra)
        descriptor = GraphPropagationDescriptor(vectors=taken.said, edges=edges.said, **told)
        record = taken.record
        width = (record.dimensions or 0 if record else 0) * (descriptor.hops + 1 if descriptor.output == "concat" else 1)
        made = Pooled(name, "propagate")

        def fill(on_progress: OnProgress | None) -> dict[str, int]:
            matrix = self._inputs.matrix(taken)
            graph, ignored = _edges(matrix.keys, edges, descriptor)
            made.give(matrix.keys, _propagated(matrix.vectors, graph, descriptor, made.stage, on_progress))
            return {"edges_ignored": ignored}

        return pooled_job(
            made,
            TableKind.GRAPH_PROPAGATION,
            descriptor,
            [taken, edges],
            fill,
            environment=self.environment(),
            again=lambda: self._bound(name, vectors, graph, told, extra),
            dimensions=width,
            model_id=f"propagation-{descriptor.weighting}",
        )


@dataclass(frozen=True)
class Graph:
    """Who is gathered from, row by row: in the order of rows, then of the neighbours' keys."""

    row: Places
    other: Places
    weight: Doubles
    """The share of each neighbour."""
    total: Doubles
    """(n,): by what the sum of a row is divided; zero leaves it as it was at first."""


def _edges(keys: pa.Array, taken: Taken, said: GraphPropagationDescriptor) -> tuple[Graph, int]:
    """The graph over the rows of a matrix, and how many edges it has not, because an end of them is no row. SchemaMismatch."""
    table = taken.prepared.run().table()
    asked = taken.said.asked
    src, dst = (places_in(keys, whole(table.column(at)), asked, column) for at, column in enumerate(("src", "dst")))
    weight = np.ones(len(src)) if said.weighting == "uniform" else _weights(table.column(2), asked)
    known = (src >= 0) & (dst >= 0)
    if len(known) and len(keys) and not known.any():
        raise SchemaMismatch(
            f"No edge of {asked!r} joins two rows of {said.vectors.asked!r}.",
            table=asked,
            column="src",
            expected=f"keys of {said.vectors.asked!r}",
            actual=f"keys such as {table.column(0)[0].as_py()!r}",
            hint="Take the graph that was made of these vectors.",
        )
    ends = {"out": [(src, dst)], "in": [(dst, src)], "both": [(src, dst), (dst, src)]}[said.direction]
    kept = known & (src != dst)
    row, other = (np.concatenate([pair[at][kept] for pair in ends]) for at in (0, 1))
    weight = np.concatenate([weight[kept]] * len(ends))
    order = np.lexsort((-weight, other, row))
    row, other, weight = row[order], other[order], weight[order]
    first = np.ones(len(row), np.bool_)  # an edge that is there several times counts once, with its greatest weight
    first[1:] = (row[1:] != row[:-1]) | (other[1:] != other[:-1])
    row, other, weight = row[first], other[first], weight[first]
    if said.weighting == "uniform":
        return _with_itself(row, other, len(keys)), int((~known).sum())
    total = np.bincount(row, weights=weight, minlength=len(keys)).astype(np.float64)
    return Graph(row, other, weight, total), int((~known).sum())


def _with_itself(row: Places, other: Places, n: int) -> Graph:
    """The mean over a row itself and its neighbours."""
    row, other = np.concatenate([row, np.arange(n)]), np.concatenate([other, np.arange(n)])
    order = np.lexsort((other, row))
    return Graph(row[order], other[order], np.ones(len(row)), np.bincount(row, minlength=n).astype(np.float64, copy=False))


def _weights(column: pa.ChunkedArray, asked: str) -> Doubles:
    """max(similarity, 0). SchemaMismatch for what is no finite number."""
    plain = whole(column)
    if not (pa.types.is_floating(plain.type) or pa.types.is_integer(plain.type) or pa.types.is_decimal(plain.type)):
        raise SchemaMismatch(
            f"The weights of {asked!r} are {plain.type}, no numbers.", table=asked, column="similarity", expected="numbers", actual=str(plain.type)
        )
    missing = plain.null_count
    values = np.asarray(plain.cast(pa.float64(), safe=False).fill_null(math.nan), np.float64)
    if bad := int((~np.isfinite(values)).sum()):
        what = "NULL" if missing else "not finite"
        raise SchemaMismatch(
            f"{bad:,} edges of {asked!r} have no weight.", table=asked, column="similarity", expected="a finite number", actual=what,
            hint="Leave them out in SQL.",
        )  # fmt: skip
    return np.maximum(values, 0)


def _propagated(x0: Floats, graph: Graph, said: GraphPropagationDescriptor, stage: str, on_progress: OnProgress | None) -> Floats:
    """X(hops), or all blocks X(0) … X(hops) beside each other, each of unit length; (n, width) float32."""
    n, width = x0.shape
    concat = said.output == "concat"
    out = np.empty((n, width * (said.hops + 1) if concat else width), np.float32)
    squares = np.zeros((said.hops + 1, n))
    parts = slabs(n, width)
    means = Folded(graph.row, graph.other, graph.weight, n)
    for turn in range(2 if concat else 1):
        for at, some in enumerate(parts):
            if on_progress:
                on_progress(Progress(stage=stage, done=at + turn * len(parts), total=len(parts) * (2 if concat else 1), unit="slabs"))
            for hop, x in enumerate(_hops(x0[:, some].astype(np.float64), means, graph.total, said)):
                if concat and not turn:
                    squares[hop] += np.square(x).sum(1)
                elif concat:
                    norms = np.sqrt(squares[hop])
                    out[:, hop * width + some.start : hop * width + some.stop] = x / np.where(norms > 0, norms, 1)[:, None]
                elif hop == said.hops:
                    out[:, some] = x
    return out


def _hops(x0: Doubles, neighbours: Folded, total: Doubles, said: GraphPropagationDescriptor) -> Iterator[Doubles]:
    alone, divisor = np.flatnonzero(total == 0), np.where(total > 0, total, 1)[:, None]
    x = x0
    yield x
    for _ in range(said.hops):
        with np.errstate(over="ignore", invalid="ignore"):  # of weights near the end of the numbers; the row is refused by its key
            mean = neighbours(x) / divisor
            mean[alone] = x0[alone]
            x = (1 - said.alpha) * mean + said.alpha * x0
        yield x
