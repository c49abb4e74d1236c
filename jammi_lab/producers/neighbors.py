"""The producer `neighbor_graph`: each row of an embedding table with the rows most similar to it."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jammi_lab.config import Settings
from jammi_lab.errors import InvalidArgument
from jammi_lab.producers.base import Job, OnProgress, Running
from jammi_lab.producers.inputs import Asked, Inputs, Taken, shared
from jammi_lab.values.descriptors import NeighborGraphDescriptor
from jammi_lab.values.records import Progress, TableKind
from jammi_lab.vectors.approximate import nearest_rows
from jammi_lab.vectors.arrays import array_of, check_exact, check_k
from jammi_lab.vectors.exact import Hits
from jammi_lab.vectors.matrix import Matrix
from jammi_lab.vectors.nearest import Block, in_blocks, nearest_others

if TYPE_CHECKING:
    from jammi_lab.vectors.ann import Ann

REVISION = 1
"""Raised when equal vectors would give other edges than before."""
_TOGETHER = 1024
"""Rows that are asked of an index at a time, between which progress is told and an interrupt arrives."""
_AHEAD = 2
"""Of these at a time: what an index found for one is compared exactly while it is asked for the next."""


class NeighborsProducer:
    """Binds embedding tables."""

    def __init__(self, inputs: Inputs, settings: Settings) -> None:
        self._inputs, self._settings = inputs, settings

    def job(self, name: str, asked: str, k: int, min_similarity: float | None, *, mutual: bool, exact: bool | None) -> Job:
        """The edges as a job. TableNotFound; SchemaMismatch for a table without vectors; InvalidArgument."""
        check_k(k)
        compared = check_exact(exact)
        if not isinstance(mutual, bool | np.bool_):
            raise InvalidArgument(f"mutual is True or False, not {mutual!r}.")
        return self._bound(
            name,
            self._inputs.vectors_named(asked),
            int(k),
            None if min_similarity is None else _floor(min_similarity),
            bool(mutual),
            compared,
            self._settings["vectors.exact_max_rows"] if compared is None else None,
        )

    def from_descriptor(self, name: str, said: NeighborGraphDescriptor) -> Job:
        """A recorded definition as a job over the vectors as they are now. Raises as binding does."""
        asked = (said.vectors.asked, said.vectors.statement)
        return self._bound(name, asked, said.k, said.min_similarity, said.mutual, said.exact, said.exact_max_rows)

    def environment(self) -> dict[str, Any]:
        """What else shapes the rows."""
        return {"revision": REVISION}

    def _bound(self, name: str, asked: Asked, k: int, floor: float | None, mutual: bool, exact: bool | None, few: int | None) -> Job:
        taken = self._inputs.take(asked)
        descriptor = NeighborGraphDescriptor(vectors=taken.said, k=k, min_similarity=floor, mutual=mutual, exact=exact, exact_max_rows=few)

        def rows(on_progress: OnProgress | None) -> Running:
            matrix = self._inputs.matrix(taken)
            return Running(_Edges(matrix, self._blocks(name, taken, matrix, descriptor, on_progress), k, floor, mutual=mutual))

        return Job(
            kind=TableKind.NEIGHBOR_GRAPH,
            descriptor=descriptor,
            environment=self.environment(),
            rows=rows,
            again=lambda: self._bound(name, asked, k, floor, mutual, exact, few),
            key=["src", "dst"],
            **shared([taken]),
        )

    def _blocks(self, name: str, taken: Taken, matrix: Matrix, said: NeighborGraphDescriptor, on_progress: OnProgress | None) -> Iterator[Block]:
        def told(done: int) -> None:
            if on_progress:
                on_progress(Progress(stage=f"neighbours {name}", done=done, total=len(matrix), unit="rows"))

        told(0)
        exact = len(matrix) <= (said.exact_max_rows or 0) if said.exact is None else said.exact
        index = None if exact else self._inputs.index(taken)
        if index is not None and not index.expansion:
            index = None  # it was measured to be no help
        if index is None:
            return nearest_others(matrix.exact, said.k, on_rows=told)
        return _approximate(matrix, index, said.k, max(1, self._settings["vectors.oversample"]), told)


class _Edges:
    """The edges while they are found: src, dst, rank, similarity, in the order of src and rank."""

    def __init__(self, matrix: Matrix, blocks: Iterator[Block], k: int, floor: float | None, *, mutual: bool) -> None:
        self._matrix, self._k = matrix, min(k, max(0, len(matrix) - 1))
        self._floor = None if floor is None else np.float32(np.clip(floor, -2, 2))  # beyond ±1 all numbers say the same
        self._blocks = _mutual(blocks, len(matrix)) if mutual else blocks
        kind = matrix.keys.type
        self.schema = pa.schema([("src", kind), ("dst", kind), ("rank", pa.int32()), ("similarity", pa.float32())])

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """The edges."""
        if self._k == 0:
            return
        for block in self._blocks:
            found, similarities = block.hits
            kept = found >= 0 if self._floor is None else (found >= 0) & (similarities >= self._floor)
            row, at = np.nonzero(kept)
            for start in range(0, len(row), rows):
                some, rank = row[start : start + rows], at[start : start + rows]
                columns = [
                    self._matrix.keys_at(some + block.first),
                    self._matrix.keys_at(found[some, rank]),
                    array_of((rank + 1).astype(np.int32)),
                    array_of(similarities[some, rank]),
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def close(self) -> None:
        """Stop what is still looking."""
        if hasattr(self._blocks, "close"):
            self._blocks.close()


def _mutual(blocks: Iterator[Block], n: int) -> Iterator[Block]:
    """The blocks with −1 in the place of every neighbour that has not the row among its own."""
    held = list(blocks)
    listed = np.sort(np.concatenate([((first + np.arange(len(rows)))[:, None] * n + rows)[rows >= 0] for first, (rows, _) in held]))
    for first, (rows, similarities) in held:
        back = rows * n + (first + np.arange(len(rows)))[:, None]
        there = listed[np.minimum(np.searchsorted(listed, back), len(listed) - 1)] == back if len(listed) else rows < 0
        yield Block(first, Hits(np.where((rows >= 0) & there, rows, -1), similarities))


def _approximate(matrix: Matrix, index: "Ann", k: int, oversample: int, told: Callable[[int], None]) -> Iterator[Block]:
    """The nearest others as an index finds them: it may miss one, and gives none a wrong similarity."""

    def near(first: int, end: int) -> Hits:
        return nearest_rows(matrix, index, np.arange(first, end), k, oversample)

    with contextlib.closing(in_blocks(len(matrix), _TOGETHER, near, _AHEAD)) as blocks:
        for block in blocks:
            yield block
            told(block.first + len(block.hits.rows))


def _floor(given: float) -> float:
    """A floor of similarity. InvalidArgument for what is no finite number."""
    if isinstance(given, int | float | np.integer | np.floating) and not isinstance(given, bool):
        with contextlib.suppress(OverflowError):  # a whole number that no float holds
            if math.isfinite(given):
                return float(given)
    raise InvalidArgument(f"min_similarity is a number from −1 to 1, or None, not {given!r:.80}.")
