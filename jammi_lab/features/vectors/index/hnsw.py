"""Approximate index of one table: an HNSW graph over its vectors at a storage precision. It returns
candidates, which are rescored exactly.

Every build is measured: some rows are used as queries before they are inserted, and the smallest
search expansion that finds `_MIN_RECALL` of their true neighbours is recorded. For some vectors no
expansion is cheaper than reading all of them: those without any structure (such as uniform ones of
hundreds of dimensions), those that differ less than the precision tells, and thousands of equal
ones, whose edges lead only to each other. Then expansion 0 is recorded, and searches read all
vectors.
"""

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from jammi_lab.core.module_imports import import_modules
from jammi_lab.features.vectors.encoders.blas_threads import usable_cores
from jammi_lab.features.vectors.exact_search import normalize_checked
from jammi_lab.features.vectors.index.shape import BuildParameters, IndexShape
from jammi_lab.storage.vector_arrays import Floats, RowNumbers

if TYPE_CHECKING:
    from usearch.index import Index

    from jammi_lab.features.vectors.matrix import Matrix

_MIN_RECALL, _SUFFICIENT_RECALL = 0.996, 0.99
"""Required recall of held-out rows, so that 0.99 is reached with some room, and that of an index
which reaches the former with no expansion: in a graph of a million rows a few cannot be reached."""
_MAX_SAMPLE_ROWS = 192
"""Held-out rows."""
MEASURED_NEIGHBORS_COUNT = 10
"""Neighbours that are looked for per held-out row."""
_MIN_EQUAL_SIMILARITY = np.float32(1 - 2**-20)
"""Similarity above which two rows count as having the same direction."""
_DISPLACEMENT_RATIO = 0.8
"""Size of the random displacement of a query that equals many rows, relative to its length."""
_EXPANSIONS = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_ROWS_PER_EXPANSION_RATIO = 32
"""Vectors that can be read sequentially for the cost of one step of expansion in the graph."""
_MIN_PARALLEL_INSERT_SIZE = 4096
"""Entries that one thread inserts before others join: rows inserted concurrently into a small graph
may become unreachable."""
_MAX_INTEGER = 127
"""The largest component of a vector stored as integers."""
_METRIC = "ip"
"""The metric of the graph: of unit vectors, 1 − the cosine."""
_CHUNK_ROWS = 2048
"""Vectors inserted, or queries asked, per call of usearch; the work can be stopped in between."""
ProgressCallback = Callable[[int], None]
"""Progress callback: the number of vectors inserted. It may raise to stop the build."""


class AnnIndex:
    """An index that returns candidate rows for queries. Thread-safe."""

    def __init__(self, index: "Index", shape: IndexShape, body: Any = None) -> None:
        """`body`: the bytes that the graph is a view of."""
        self.shape, self.graph, self._body = shape, index, body
        self._lock = threading.Lock()

    def detach_bytes(self) -> Any:
        """Release the graph and return the bytes that it was a view of, if any. The index finds
        nothing from then on."""
        with self._lock:
            self.graph = _empty_index(self.shape, lookups=False)
            body = self._body
            self._body = None
        return body

    def reopen(self) -> "AnnIndex | None":
        """An independent index over the same bytes; None when the graph is not a view of any."""
        return None if self._body is None else open_index(self._body, self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        body = 0 if self._body is None else len(self._body)
        return body + int(self.graph.memory_usage)

    def save(self, path: Path) -> None:
        """Write the graph to a file without a copy in memory. Raises OSError."""
        try:
            with _translate_interrupt():
                self.graph.save(path)
        except RuntimeError as error:
            raise OSError(errno.EIO, str(error), str(path)) from error
        if path.stat().st_size != self.graph.serialized_length:
            raise OSError(errno.EIO, "the index file is incomplete", str(path))

    def candidates(
        self, units: Floats, count: int, *, expansion: int = 0, threads: int = 1
    ) -> RowNumbers:
        """(queries, at most `count`) rows, probable nearest first, −1 where there are fewer.
        `units`: queries of unit length. `expansion`: replaces the measured one."""
        width = min(count, self.shape.count)
        search_expansion = expansion or self.shape.expansion
        out = np.full((len(units), width), -1, np.int64)
        if not width:
            return out
        for start in range(0, len(units), _CHUNK_ROWS):
            chunk = _encoded_queries(self.shape, units[start : start + _CHUNK_ROWS])
            # usearch has one working memory per thread of its own, so our threads take turns
            with self._lock:
                # (usearch's stubs declare no setter)
                self.graph.expansion_search = max(search_expansion, 1)  # type: ignore[misc]
                with _translate_interrupt():
                    matches = self.graph.search(
                        chunk, width, exact=search_expansion == 0, threads=threads
                    )
            labels = matches.keys.reshape(len(chunk), -1).astype(np.int64)
            rows = labels - self.shape.first_label
            counts = getattr(matches, "counts", None)
            if counts is not None:  # only for several queries
                rows[np.arange(rows.shape[1]) >= counts[:, None]] = -1
            out[start : start + _CHUNK_ROWS, : rows.shape[1]] = rows
        return out


def build_index(
    vectors: "Matrix", parameters: BuildParameters, oversample: int, advance: ProgressCallback
) -> AnnIndex:
    """Build an index of all rows. An exception from `advance` stops it. Raises SchemaMismatch,
    TableDamaged."""
    n, width = vectors.shape
    held_out = np.sort(
        np.random.default_rng(0).choice(n, min(_MAX_SAMPLE_ROWS, n // 8), replace=False)
    )
    is_inserted = np.ones(n, np.bool_)
    is_inserted[held_out] = False
    scale = _integer_scale(vectors) if parameters.precision == "i8" else 1.0
    shape = IndexShape(parameters, width, n - len(held_out), 0, scale=scale)
    ann = AnnIndex(_empty_index(shape, lookups=False), shape)
    _insert(ann, vectors, np.flatnonzero(is_inserted), advance, done=0)
    expansion = _measure_expansion(ann, vectors, held_out, is_inserted, oversample)
    _insert(ann, vectors, held_out, advance, done=shape.count)
    return AnnIndex(ann.graph, replace(shape, count=n, expansion=expansion))


def extend_index(
    previous: AnnIndex,
    vectors: "Matrix",
    current_rows: RowNumbers,
    oversample: int,
    advance: ProgressCallback,
) -> AnnIndex:
    """Build an index of all rows by extending that of an earlier version, which is unusable
    afterwards.

    `current_rows`: for each row of the earlier version its current row, −1 when it is gone or its
    vector changed. An exception from `advance` stops it. Raises SchemaMismatch, TableDamaged."""
    n = vectors.shape[0]
    index = _empty_index(previous.shape, lookups=True)
    index.load(previous.detach_bytes())  # releases the old bytes before new ones are allocated
    previous_labels = previous.shape.first_label + np.arange(len(current_rows))
    is_kept = current_rows >= 0
    if not is_kept.all():
        index.remove(previous_labels[~is_kept].astype(np.uint64))
    shape = replace(
        previous.shape,
        count=int(is_kept.sum()),
        removed=previous.shape.removed + int((~is_kept).sum()),
        first_label=previous.shape.first_label + len(current_rows),  # none is in use
    )
    kept_rows = current_rows[is_kept]
    index.rename(previous_labels[is_kept], shape.first_label + kept_rows)
    is_inserted = np.zeros(n, np.bool_)
    is_inserted[kept_rows] = True
    new_rows = np.flatnonzero(~is_inserted)
    ann, expansion = AnnIndex(index, shape), shape.expansion
    if len(new_rows) >= _MAX_SAMPLE_ROWS:
        expansion = _measure_expansion(
            ann,
            vectors,
            new_rows[:: len(new_rows) // _MAX_SAMPLE_ROWS][:_MAX_SAMPLE_ROWS],
            is_inserted,
            oversample,
        )
    _insert(ann, vectors, new_rows, advance, done=n - len(new_rows))
    return AnnIndex(index, replace(shape, count=n, expansion=expansion))


def open_index(body: Any, shape: IndexShape) -> AnnIndex | None:
    """The index in verified bytes, as a view without a copy; None when they contain an index of
    another shape."""
    with import_modules():
        from usearch.index import Index

    index = Index.restore(body, view=True, enable_key_lookups=False)
    if (
        index is None
        or index.dtype.name.lower() != shape.parameters.precision
        or getattr(index.metric_kind, "name", "").lower() != _METRIC
        or (index.ndim, len(index)) != (shape.dimensions, shape.count)
    ):
        return None
    return AnnIndex(index, shape, body)


def _integer_scale(vectors: "Matrix") -> float:
    """The factor that maps the largest component of all unit vectors to the largest integer."""
    largest = 0.0
    for start in range(0, len(vectors), _CHUNK_ROWS):
        rows = np.arange(start, min(start + _CHUNK_ROWS, len(vectors)))
        units = normalize_checked(vectors.vectors_at(rows))
        largest = max(largest, float(np.abs(units).max()))
    return _MAX_INTEGER / largest


def _insert(
    ann: AnnIndex, vectors: "Matrix", rows: RowNumbers, advance: ProgressCallback, *, done: int
) -> None:
    """Insert rows, in chunks. `done`: rows that are inserted already."""
    index, shape = ann.graph, ann.shape
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = rows[start : start + _CHUNK_ROWS]
        stored = _encoded(shape, normalize_checked(vectors.vectors_at(chunk)), shape.scale)
        labels = (shape.first_label + chunk).astype(np.uint64)
        with _translate_interrupt():
            threads = usable_cores() if len(index) >= _MIN_PARALLEL_INSERT_SIZE else 1
            index.add(labels, stored, threads=threads)
        advance(done + start + len(chunk))


def _encoded(shape: IndexShape, units: Floats, scale: float | NDArray[np.float32]) -> Any:
    """(n, d): unit vectors as passed to the graph."""
    if shape.parameters.precision != "i8":
        return units
    return np.clip(np.rint(units * scale), -_MAX_INTEGER, _MAX_INTEGER).astype(np.int8)


def _encoded_queries(shape: IndexShape, units: Floats) -> Any:
    """(q, d): unit queries as passed to the graph. A scaled query gives the same order, so each
    uses the full range of integers."""
    return _encoded(shape, units, _MAX_INTEGER / np.abs(units).max(1, keepdims=True))


@contextlib.contextmanager
def _translate_interrupt() -> Iterator[None]:
    """A context for calls of usearch: turns the RuntimeError with which it reports an interrupt
    back into KeyboardInterrupt."""
    try:
        yield
    except RuntimeError as error:
        if "has been terminated" in str(error):
            raise KeyboardInterrupt from None
        raise


def _empty_index(shape: IndexShape, *, lookups: bool) -> "Index":
    with import_modules():
        from usearch.index import Index

    return Index(
        ndim=shape.dimensions,
        metric=_METRIC,
        dtype=shape.parameters.precision,
        connectivity=shape.parameters.connectivity,
        expansion_add=shape.parameters.build_expansion,
        enable_key_lookups=lookups,
    )


def _measure_expansion(
    ann: AnnIndex,
    vectors: "Matrix",
    held_out: RowNumbers,
    is_inserted: NDArray[np.bool_],
    oversample: int,
) -> int:
    """The smallest expansion that finds the true neighbours of held-out rows; 0 when none is cheap
    enough."""
    if not len(held_out):
        return _EXPANSIONS[0]
    k = min(MEASURED_NEIGHBORS_COUNT, ann.shape.count)
    queries = vectors.vectors_at(held_out)
    thresholds = vectors.kth_similarity(queries, k, is_inserted)
    if (with_equals := np.flatnonzero(thresholds > _MIN_EQUAL_SIMILARITY)).size:
        queries = queries.copy()
        queries[with_equals] = _displaced(queries[with_equals])
        thresholds[with_equals] = vectors.kth_similarity(queries[with_equals], k, is_inserted)
    unit_queries, sufficient = normalize_checked(queries), 0
    for expansion in _affordable_expansions(ann.shape.count):
        rows = ann.candidates(
            unit_queries, k * max(1, oversample), expansion=expansion, threads=usable_cores()
        )
        # every row as near as the k-th counts, because ties are interchangeable
        is_neighbor = vectors.pairs(queries, rows) >= thresholds[:, None]
        recall = np.minimum(is_neighbor.sum(1), k).mean() / k
        if recall >= _MIN_RECALL:
            return expansion
        if recall >= _SUFFICIENT_RECALL:
            sufficient = sufficient or expansion
    return sufficient


def _displaced(vectors: Floats) -> Floats:
    """Directions near those of some vectors. A row with k copies finds itself even in a badly
    connected graph, because equal rows are linked to each other; a query from outside reveals
    that."""
    directions = normalize_checked(vectors)
    noise = np.random.default_rng(0).standard_normal(directions.shape, np.float32)
    return directions + noise * np.float32(_DISPLACEMENT_RATIO / np.sqrt(directions.shape[1]))


def _affordable_expansions(count: int) -> Iterator[int]:
    """The expansions that are less work than reading all vectors; for a small table, where nothing
    is much work, the first few."""
    for expansion in _EXPANSIONS:
        if expansion <= max(_EXPANSIONS[2], count // _ROWS_PER_EXPANSION_RATIO):
            yield expansion
