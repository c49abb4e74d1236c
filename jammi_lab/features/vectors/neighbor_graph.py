"""The producer `neighbor_graph`: for each row of an embedding table the most similar rows."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jammi_lab.core.definitions import NeighborGraphDescriptor
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.records import OnProgress, Progress
from jammi_lab.core.settings import Settings
from jammi_lab.features.vectors.all_pairs import BatchResult, nearest_others, search_blocks
from jammi_lab.features.vectors.exact_search import Hits
from jammi_lab.features.vectors.index.search import nearest_rows
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.steps.input_tables import InputLoader, InputReference, InputTable, input_fields
from jammi_lab.steps.jobs import Job, RunningJob
from jammi_lab.storage.vector_arrays import check_exact, check_k, to_arrow

if TYPE_CHECKING:
    from jammi_lab.features.vectors.index.hnsw import AnnIndex

OUTPUT_VERSION = 1
"""Increment when equal vectors would give other edges than before."""
_QUERY_BLOCK_ROWS = 1024
"""Rows per index query, between which progress is reported and interrupts are handled."""
_MAX_BLOCKS_AHEAD = 2
"""Index queries in flight: one is rescored exactly while the index answers the next."""


class NeighborGraphProducer:
    """Binds embedding tables."""

    def __init__(self, inputs: InputLoader, settings: Settings) -> None:
        self._inputs, self._settings = inputs, settings

    def job(
        self,
        name: str,
        table: str,
        k: int,
        min_similarity: float | None,
        *,
        mutual: bool,
        exact: bool | None,
    ) -> Job:
        """The job of finding neighbours. Raises TableNotFound, SchemaMismatch for a table without
        vectors, InvalidArgument."""
        check_k(k)
        exact_option = check_exact(exact)
        if not isinstance(mutual, bool | np.bool_):
            raise InvalidArgument(f"mutual must be True or False, got {mutual!r}.")
        return self._bind(
            name,
            self._inputs.find_vectors(table),
            int(k),
            None if min_similarity is None else _check_floor(min_similarity),
            bool(mutual),
            exact_option,
            self._settings["vectors.exact_max_rows"] if exact_option is None else None,
        )

    def from_descriptor(self, name: str, descriptor: NeighborGraphDescriptor) -> Job:
        """The job of a recorded definition over the current vectors. Raises what binding raises."""
        reference = descriptor.vectors.reference
        return self._bind(
            name,
            reference,
            descriptor.k,
            descriptor.min_similarity,
            descriptor.mutual,
            descriptor.exact,
            descriptor.exact_max_rows,
        )

    def environment(self) -> dict[str, Any]:
        """Everything besides the descriptor that shapes the rows."""
        return {"revision": OUTPUT_VERSION}

    def _bind(
        self,
        name: str,
        reference: InputReference,
        k: int,
        floor: float | None,
        mutual: bool,
        exact: bool | None,
        exact_max_rows: int | None,
    ) -> Job:
        table = self._inputs.load(reference)
        descriptor = NeighborGraphDescriptor(
            vectors=table.step_input,
            k=k,
            min_similarity=floor,
            mutual=mutual,
            exact=exact,
            exact_max_rows=exact_max_rows,
        )

        def rows(on_progress: OnProgress | None) -> RunningJob:
            matrix = self._inputs.matrix(table)
            return RunningJob(
                _Edges(
                    matrix,
                    self._search_blocks(name, table, matrix, descriptor, on_progress),
                    k,
                    floor,
                    mutual=mutual,
                )
            )

        return Job(
            descriptor=descriptor,
            environment=self.environment(),
            start=rows,
            rebind=lambda: self._bind(name, reference, k, floor, mutual, exact, exact_max_rows),
            key=["src", "dst"],
            columns={"src": table.key_type, "dst": table.key_type}
            | {"rank": "INTEGER", "similarity": "FLOAT"},
            **input_fields([table]),
        )

    def _search_blocks(
        self,
        name: str,
        table: InputTable,
        matrix: Matrix,
        descriptor: NeighborGraphDescriptor,
        on_progress: OnProgress | None,
    ) -> Iterator[BatchResult]:
        def report_progress(done: int) -> None:
            if on_progress:
                on_progress(
                    Progress(stage=f"neighbours {name}", done=done, total=len(matrix), unit="rows")
                )

        report_progress(0)
        exact = (
            len(matrix) <= (descriptor.exact_max_rows or 0)
            if descriptor.exact is None
            else descriptor.exact
        )
        index = None if exact else self._inputs.index(table)
        if index is not None and not index.expansion:
            index = None  # measured to be slower than reading all vectors
        if index is None:
            return nearest_others(matrix.exact, descriptor.k, on_rows=report_progress)
        return approximate_blocks(
            matrix,
            index,
            descriptor.k,
            max(1, self._settings["vectors.oversample"]),
            report_progress,
        )


class _Edges:
    """The edges, streamed in order of src and rank: columns src, dst, rank, similarity."""

    def __init__(
        self,
        matrix: Matrix,
        blocks: Iterator[BatchResult],
        k: int,
        floor: float | None,
        *,
        mutual: bool,
    ) -> None:
        self._matrix, self._k = matrix, min(k, max(0, len(matrix) - 1))
        # beyond ±1 every floor means the same; clipping keeps it in the range of float32
        self._floor = None if floor is None else np.float32(np.clip(floor, -2, 2))
        self._blocks = _mutual_blocks(blocks, len(matrix)) if mutual else blocks
        kind = matrix.keys.type
        self.schema = pa.schema(
            [("src", kind), ("dst", kind), ("rank", pa.int32()), ("similarity", pa.float32())]
        )

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield the edges."""
        if self._k == 0:
            return
        for block in self._blocks:
            neighbours, similarities = block.hits
            selected = (
                neighbours >= 0
                if self._floor is None
                else (neighbours >= 0) & (similarities >= self._floor)
            )
            row, position = np.nonzero(selected)
            for start in range(0, len(row), rows):
                row_part, rank = row[start : start + rows], position[start : start + rows]
                columns = [
                    self._matrix.keys_at(row_part + block.first),
                    self._matrix.keys_at(neighbours[row_part, rank]),
                    to_arrow((rank + 1).astype(np.int32)),
                    to_arrow(similarities[row_part, rank]),
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def close(self) -> None:
        """Stop the search."""
        if hasattr(self._blocks, "close"):
            self._blocks.close()


def _mutual_blocks(blocks: Iterator[BatchResult], n: int) -> Iterator[BatchResult]:
    """Keep mutual edges: in place of every neighbour that does not list the row, put −1."""
    all_blocks = list(blocks)
    edge_codes = np.sort(
        np.concatenate(
            [
                ((first + np.arange(len(rows)))[:, None] * n + rows)[rows >= 0]
                for first, (rows, _) in all_blocks
            ]
        )
    )
    for first, (rows, similarities) in all_blocks:
        reverse_codes = rows * n + (first + np.arange(len(rows)))[:, None]
        is_mutual = (
            edge_codes[np.minimum(np.searchsorted(edge_codes, reverse_codes), len(edge_codes) - 1)]
            == reverse_codes
            if len(edge_codes)
            else rows < 0
        )
        yield BatchResult(first, Hits(np.where((rows >= 0) & is_mutual, rows, -1), similarities))


def approximate_blocks(
    matrix: Matrix,
    index: "AnnIndex",
    k: int,
    oversample: int,
    report_progress: Callable[[int], None],
) -> Iterator[BatchResult]:
    """The nearest other rows through an index. It may miss a neighbour; similarities are exact."""

    def search_block(first: int, end: int) -> Hits:
        return nearest_rows(matrix, index, np.arange(first, end), k, oversample)

    with contextlib.closing(
        search_blocks(len(matrix), _QUERY_BLOCK_ROWS, search_block, _MAX_BLOCKS_AHEAD)
    ) as blocks:
        for block in blocks:
            yield block
            report_progress(block.first + len(block.hits.rows))


def _check_floor(min_similarity: float) -> float:
    """A validated similarity floor. Raises InvalidArgument unless it is a finite number."""
    if isinstance(min_similarity, int | float | np.integer | np.floating) and not isinstance(
        min_similarity, bool
    ):
        with contextlib.suppress(OverflowError):  # an integer too large for float
            if math.isfinite(min_similarity):
                return float(min_similarity)
    raise InvalidArgument(
        f"min_similarity must be a number from −1 to 1 or None, got {min_similarity!r:.80}."
    )
