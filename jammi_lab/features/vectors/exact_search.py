"""Exact search: similarities as if every row were computed in float64, at the speed of a float32
matrix product.

A float32 product gives each row a similarity that is off by at most `margin`. Whatever the order of
its additions, the error of a dot product of d terms is at most γ(d)·Σ|aᵢbᵢ| with γ(d) = d·u/(1 −
d·u), u = 2⁻²⁴ (Higham, Accuracy and Stability of Numerical Algorithms, §3.1), and Σ|aᵢbᵢ| ≤
‖a‖·‖b‖. So the k best lie within two margins of the k-th best of the product. Those few are
computed again in float64, each by the same sum in the same order, so equal rows get equal bits.
Where the bound does not hold (rows so small or large that float32 under- or overflows, a product
outside its margin) every row is computed in float64.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.thread_pool import ThreadPool
from jammi_lab.features.vectors.encoders.blas_threads import one_blas_thread, usable_cores
from jammi_lab.storage.vector_arrays import Floats, RowNumbers, check_k, check_queries

Doubles = NDArray[np.float64]

MAX_BLOCK_BYTES = 64 << 20
"""Size of a block of approximate similarities in memory."""
THREAD_PART_BYTES = 16 << 20
"""Size of vectors per thread of a product with few queries. Such a product waits for memory, and
one core alone does not use the full memory bandwidth."""
MAX_MEMORY_BOUND_QUERIES = 8
"""Most queries whose product is limited by memory; with more it is limited by arithmetic."""
RESCORE_CHUNK_SIZE = 1 << 15
"""Numbers per step in float64, so that they stay in the cache."""
_MIN_SAFE_NORM, _MAX_SAFE_NORM = 2.0**-60, 2.0**60
"""Norms between which no float32 product of unit queries under- or overflows by more than the
margin allows for."""


class Hits(NamedTuple):
    """The result of a search: rows per query, best first."""

    rows: RowNumbers
    """(queries, hits): row numbers in the matrix."""
    similarities: Floats
    """(queries, hits): cosine similarity; 1 for the same direction."""


class ExactSearch:
    """Vectors prepared for exact search.

    `vectors`: (n, d) float32, no norm zero or infinite; `order`: the rank of each row by key, which
    breaks ties; None when the rows are in key order."""

    def __init__(self, vectors: Floats, order: RowNumbers | None = None) -> None:
        self.vectors = vectors
        self.order = order
        self.norms = row_norms(vectors)
        with np.errstate(over="ignore", divide="ignore"):
            self.inverse_norms = (1 / self.norms).astype(np.float32)
        self._safe_norms = (
            bool(((self.norms > _MIN_SAFE_NORM) & (self.norms < _MAX_SAFE_NORM)).all())
            and vectors.shape[1] < 1 << 20
        )
        self.margin = margin(vectors.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return (
            self.vectors.nbytes
            + self.norms.nbytes
            + self.inverse_norms.nbytes
            + (0 if self.order is None else self.order.nbytes)
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of vectors and their width."""
        return len(self.vectors), int(self.vectors.shape[1])

    def vectors_at(self, rows: RowNumbers) -> Floats:
        """The vectors of some rows: (rows, dimensions) float32."""
        return self.vectors[rows]

    def kth_similarity(self, queries: Floats, k: int, allow: NDArray[np.bool_]) -> Floats:
        """(q,): the similarity of the k-th best of the masked rows to each checked query. The mask
        must have at least k rows."""
        return self.search(queries, k, allow=allow).similarities[:, -1]

    def search(self, queries: ArrayLike, k: int, *, allow: NDArray[np.bool_] | None = None) -> Hits:
        """The `k` rows most similar to each query, or fewer when fewer exist: by descending
        similarity, then ascending key.

        `queries`: one vector or (q, d); `allow`: a mask (n,) of the rows that may be found. Raises
        SchemaMismatch for a query of another width, not finite or all zeros; InvalidArgument
        (ValueError) for k < 0 and for a mask of another length.
        """
        limit = check_k(k)
        checked = check_queries(queries, self.vectors.shape[1])
        allowed_rows = _allowed_rows(allow, len(self.vectors))
        count = min(limit, len(self.vectors) if allowed_rows is None else len(allowed_rows))
        hits = Hits(
            np.empty((len(checked), count), np.int64), np.empty((len(checked), count), np.float32)
        )
        if count == 0:
            return hits
        for number, (candidates, similarities) in enumerate(
            self._search_each(checked, count, allowed_rows)
        ):
            hits.rows[number], hits.similarities[number] = self._best(
                candidates, similarities, count
            )
        return hits

    def similarities(self, query: Floats, rows: RowNumbers) -> Floats:
        """Exact similarities of some rows to one checked query: dot / (norm · norm) in float64,
        clipped to [−1, 1], as float32."""
        wide_query = query.astype(np.float64)
        norm = np.sqrt(np.square(wide_query).sum())
        out = np.empty(len(rows), np.float64)
        step = max(1, RESCORE_CHUNK_SIZE // len(query))
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            # a product of two float32 is exact in float64, and each row is summed in the same
            # order whatever other rows are in the block
            dots = (self.vectors[chunk] * wide_query).sum(1)
            out[start : start + step] = dots / (self.norms[chunk] * norm)
        return np.clip(out, -1, 1).astype(np.float32)

    def pairs(self, queries: Floats, rows: RowNumbers) -> Floats:
        """Exact similarities of checked queries (q, d) to rows of their own (q, c), with the bits
        of `similarities`; −2 for row −1, which means none."""
        wide_queries = queries.astype(np.float64)
        norms = np.sqrt(np.square(wide_queries).sum(1))
        query_of = np.repeat(np.arange(len(queries)), rows.shape[1])
        flat = rows.reshape(-1)
        out = np.empty(len(flat), np.float64)
        step = max(1, RESCORE_CHUNK_SIZE // queries.shape[1])
        for start in range(0, len(flat), step):
            chunk, chunk_queries = flat[start : start + step], query_of[start : start + step]
            dots = (self.vectors[chunk] * wide_queries[chunk_queries]).sum(1)
            out[start : start + step] = dots / (self.norms[chunk] * norms[chunk_queries])
        similarities = np.clip(out, -1, 1).astype(np.float32)
        similarities[flat < 0] = -2
        return similarities.reshape(rows.shape)

    def _search_each(
        self, queries: Floats, count: int, rows: RowNumbers | None
    ) -> Iterator[tuple[RowNumbers, Floats]]:
        """Yield, for each query, rows that include its best ones, and their exact similarities."""
        all_rows = np.arange(len(self.vectors)) if rows is None else rows
        if not self._safe_norms or len(all_rows) <= 4 * count:
            for query in queries:
                yield all_rows, self.similarities(query, all_rows)
            return
        yield from self._compared(queries, count, rows, all_rows)

    def _compared(
        self, queries: Floats, count: int, rows: RowNumbers | None, all_rows: RowNumbers
    ) -> Iterator[tuple[RowNumbers, Floats]]:
        """`_search_each` by a product with every vector."""
        subset = None if rows is None or 16 * len(rows) > len(self.vectors) else rows
        vectors, inverse = (
            (self.vectors, self.inverse_norms)
            if subset is None
            else (self.vectors[subset], self.inverse_norms[subset])
        )
        excluded = None
        if rows is not None and subset is None:
            excluded = np.ones(len(self.vectors), np.bool_)
            excluded[rows] = False
        wide_queries = queries.astype(np.float64)
        units = (wide_queries / np.sqrt(np.square(wide_queries).sum(1, keepdims=True))).astype(
            np.float32
        )
        step = max(1, MAX_BLOCK_BYTES // (4 * len(vectors)))
        for start in range(0, len(queries), step):
            approximate = _dot_products(units[start : start + step], vectors)
            approximate *= inverse
            for query, approximate_row in zip(
                queries[start : start + step], approximate, strict=True
            ):
                if excluded is not None:
                    approximate_row[excluded] = -np.inf
                positions = self._candidates(approximate_row, count)
                candidates = positions if subset is None else subset[positions]
                exact = self.similarities(query, candidates)
                if np.abs(approximate_row[positions] - exact).max() <= self.margin:
                    yield candidates, exact
                else:
                    # only with a BLAS that computes in less than float32; never seen
                    yield all_rows, self.similarities(query, all_rows)

    def _candidates(self, approximate: Floats, count: int) -> RowNumbers:
        threshold = np.partition(approximate, len(approximate) - count)[len(approximate) - count]
        return np.flatnonzero(approximate >= np.float64(threshold) - 2 * self.margin)

    def _best(
        self, candidates: RowNumbers, similarities: Floats, count: int
    ) -> tuple[RowNumbers, Floats]:
        if len(candidates) > 4 * count:
            threshold = np.partition(similarities, len(candidates) - count)[len(candidates) - count]
            selected = np.flatnonzero(similarities >= threshold)
            candidates, similarities = candidates[selected], similarities[selected]
        tie = candidates if self.order is None else self.order[candidates]
        order = np.lexsort((tie, -similarities))[:count]
        return candidates[order], similarities[order]


def _dot_products(units: Floats, vectors: Floats) -> Floats:
    """(q, n): the dot products. BLAS itself is limited to one thread, because its own threads spin;
    large vectors are instead split over all cores here."""
    parts = (
        min(usable_cores(), vectors.nbytes // THREAD_PART_BYTES)
        if len(units) <= MAX_MEMORY_BOUND_QUERIES
        else 1
    )
    if parts < 2:
        return part_product(units, vectors)
    bounds = [len(vectors) * i // parts for i in range(parts + 1)]
    first, *other_parts = [vectors[bounds[i] : bounds[i + 1]] for i in range(parts)]
    with ThreadPool(parts - 1, "jammi-product") as pool:
        futures = [pool.submit(part_product, units, part) for part in other_parts]
        first_part = part_product(units, first)
    return np.concatenate([first_part, *(part.result() for part in futures)], axis=1)


def part_product(units: Floats, vectors: Floats) -> Floats:
    """Scores of queries (rows) by vectors (columns) of one part of the table."""
    with one_blas_thread():  # some libraries have one limit per thread
        product: Floats = units @ vectors.T
    return product


def cosines(vectors: Floats, query: Floats) -> Floats:
    """Exact similarities of some vectors to one checked query, with the bits of
    `ExactSearch.similarities`."""
    wide_query = query.astype(np.float64)
    norm = np.sqrt(np.square(wide_query).sum())
    out, norms = np.empty(len(vectors), np.float64), np.empty(len(vectors), np.float64)
    step = max(1, RESCORE_CHUNK_SIZE // len(query))
    for start in range(0, len(vectors), step):
        chunk = vectors[start : start + step].astype(np.float64)
        out[start : start + step] = (chunk * wide_query).sum(1)
        norms[start : start + step] = np.sqrt(np.square(chunk, out=chunk).sum(1))
    similarities: Floats = np.clip(out / (norms * norm), -1, 1).astype(np.float32)
    return similarities


def row_norms(vectors: Floats) -> Doubles:
    """(n,) float64: the norm of each row; equal rows get equal bits."""
    out = np.empty(len(vectors))
    step = max(1, RESCORE_CHUNK_SIZE // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64)
        out[start : start + step] = np.square(block, out=block).sum(1)
    return np.sqrt(out, out=out)


def margin(dimensions: int) -> float:
    """The maximal error of an approximate similarity: γ(d) of the dot product, plus the roundings
    of the unit query, of the inverse norm, of the product with it and of the exact value, plus some
    room for under- and overflow."""
    u = 2.0**-24
    return (dimensions * u / (1 - dimensions * u)) * (1 + 8 * u) + 8 * u


def _allowed_rows(allow: NDArray[np.bool_] | None, n: int) -> RowNumbers | None:
    if allow is None:
        return None
    mask = np.asarray(allow)
    if mask.dtype != np.bool_ or mask.shape != (n,):
        raise InvalidArgument(
            f"A mask of allowed rows must be {n} booleans, got {mask.dtype} of shape {mask.shape}."
        )
    return np.flatnonzero(mask)
