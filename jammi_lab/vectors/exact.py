"""Exact search: the similarity of every row is as if computed alone in float64, and found at the speed of a float32 matrix product.

A float32 product gives each row a similarity that is off by at most `margin`; whatever the order of its additions, the error of a dot product
of d terms is at most γ(d)·Σ|aᵢbᵢ| with γ(d) = d·u/(1 − d·u), u = 2⁻²⁴ (Higham, Accuracy and Stability of Numerical Algorithms, §3.1), and
Σ|aᵢbᵢ| ≤ ‖a‖·‖b‖. So the k best lie within two margins of the k-th best of the product. Those few are computed again in float64, each by the
same sum in the same order, so equal rows get equal bits. Where that cannot be relied on (rows so small or large that float32 under- or
overflows, a product outside its margin) every row is computed in float64.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jammi_lab.embedders.blas import cores, one_blas_thread
from jammi_lab.errors import InvalidArgument
from jammi_lab.vectors.arrays import Floats, check_k, check_queries

Doubles = NDArray[np.float64]
Places = NDArray[np.int64]

_BLOCK_BYTES = 64 << 20
"""Of approximate similarities that are held at a time."""
_PART_BYTES = 16 << 20
"""Of vectors that are worth a thread: their product with a query waits for memory, of which one core alone does not get all there is."""
_FEW = 8
"""Queries whose product waits for memory; that of more is arithmetic."""
_RESCORE = 1 << 15
"""Numbers that are computed in float64 at a time: they stay in the cache."""
_SMALLEST, _LARGEST = 2.0**-60, 2.0**60
"""Norms between which no float32 product of unit queries can under- or overflow by more than the margin leaves room for."""


class Hits(NamedTuple):
    """What was found for each query, best first."""

    rows: Places
    """(queries, hits): places of rows in the matrix."""
    similarities: Floats
    """(queries, hits): cosine similarity, 1 for the same direction."""


class Exact:
    """Vectors ready for exact search. `vectors`: (n, d) float32, none of zero or infinite norm; `order`: the place of each row in the
    order of ties (of the keys), None when that is the order of the rows."""

    def __init__(self, vectors: Floats, order: Places | None = None) -> None:
        self.vectors = vectors
        self.order = order
        self.norms = norms_of(vectors)
        with np.errstate(over="ignore", divide="ignore"):
            self._inverse = (1 / self.norms).astype(np.float32)
        self._tame = bool(((self.norms > _SMALLEST) & (self.norms < _LARGEST)).all()) and vectors.shape[1] < 1 << 20
        self.margin = margin(vectors.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self.vectors.nbytes + self.norms.nbytes + self._inverse.nbytes + (0 if self.order is None else self.order.nbytes)

    @property
    def shape(self) -> tuple[int, int]:
        """How many vectors, and of how many dimensions."""
        return len(self.vectors), int(self.vectors.shape[1])

    def at(self, rows: Places) -> Floats:
        """(rows, dimensions) float32: some vectors."""
        return self.vectors[rows]

    def kth(self, queries: Floats, k: int, allow: NDArray[np.bool_]) -> Floats:
        """(q,): how similar the k-th best of the rows of a mask is to each checked query; of at least k rows."""
        return self.search(queries, k, allow=allow).similarities[:, -1]

    def search(self, queries: ArrayLike, k: int, *, allow: NDArray[np.bool_] | None = None) -> Hits:
        """The `k` rows most similar to each query, fewer when there are fewer: by falling similarity, then ascending key.

        `queries`: one vector or (q, d); `allow`: which rows may be found, by a mask of n. Raises SchemaMismatch for a query of another width,
        not finite or all zeros; InvalidArgument (ValueError) for k < 0 and a mask of another length.
        """
        wanted = check_k(k)
        asked = check_queries(queries, self.vectors.shape[1])
        rows = _allowed(allow, len(self.vectors))
        count = min(wanted, len(self.vectors) if rows is None else len(rows))
        hits = Hits(np.empty((len(asked), count), np.int64), np.empty((len(asked), count), np.float32))
        if count == 0:
            return hits
        for at, (places, similarities) in enumerate(self._each(asked, count, rows)):
            hits.rows[at], hits.similarities[at] = self._best(places, similarities, count)
        return hits

    def similarities(self, query: Floats, rows: Places) -> Floats:
        """Exact similarities of some rows to one checked query: float32 of dot / (norm · norm) in float64, within [−1, 1]."""
        wide = query.astype(np.float64)
        norm = np.sqrt(np.square(wide).sum())
        out = np.empty(len(rows), np.float64)
        step = max(1, _RESCORE // len(query))
        for at in range(0, len(rows), step):
            some = rows[at : at + step]
            # a product of two float32 is exact in float64; the sum over a row runs in one order whatever the rows beside it
            dots = (self.vectors[some] * wide).sum(1)
            out[at : at + step] = dots / (self.norms[some] * norm)
        return np.clip(out, -1, 1).astype(np.float32)

    def pairs(self, queries: Floats, rows: Places) -> Floats:
        """Exact similarities of checked queries (q, d) to rows of their own (q, c), with the bits of `similarities`; −2 for the row −1: none."""
        wide = queries.astype(np.float64)
        norms = np.sqrt(np.square(wide).sum(1))
        asked = np.repeat(np.arange(len(queries)), rows.shape[1])
        flat = rows.reshape(-1)
        out = np.empty(len(flat), np.float64)
        step = max(1, _RESCORE // queries.shape[1])
        for at in range(0, len(flat), step):
            some, of = flat[at : at + step], asked[at : at + step]
            dots = (self.vectors[some] * wide[of]).sum(1)
            out[at : at + step] = dots / (self.norms[some] * norms[of])
        found = np.clip(out, -1, 1).astype(np.float32)
        found[flat < 0] = -2
        return found.reshape(rows.shape)

    def _each(self, queries: Floats, count: int, rows: Places | None) -> Iterator[tuple[Places, Floats]]:
        """For each query rows among which its best are, and their exact similarities."""
        everything = np.arange(len(self.vectors)) if rows is None else rows
        if not self._tame or len(everything) <= 4 * count:
            for query in queries:
                yield everything, self.similarities(query, everything)
            return
        picked = None if rows is None or 16 * len(rows) > len(self.vectors) else rows
        vectors, inverse = (self.vectors, self._inverse) if picked is None else (self.vectors[picked], self._inverse[picked])
        barred = None
        if rows is not None and picked is None:
            barred = np.ones(len(self.vectors), np.bool_)
            barred[rows] = False
        wide = queries.astype(np.float64)
        units = (wide / np.sqrt(np.square(wide).sum(1, keepdims=True))).astype(np.float32)
        step = max(1, _BLOCK_BYTES // (4 * len(vectors)))
        for at in range(0, len(queries), step):
            near = _product(units[at : at + step], vectors)
            near *= inverse
            for query, row in zip(queries[at : at + step], near, strict=True):
                if barred is not None:
                    row[barred] = -np.inf
                found = self._candidates(row, count)
                places = found if picked is None else picked[found]
                exact = self.similarities(query, places)
                if np.abs(row[found] - exact).max() <= self.margin:
                    yield places, exact
                else:
                    # never seen; a BLAS that computes in less than float32 would come here
                    yield everything, self.similarities(query, everything)

    def _candidates(self, near: Floats, count: int) -> Places:
        kth = np.partition(near, len(near) - count)[len(near) - count]
        return np.flatnonzero(near >= np.float64(kth) - 2 * self.margin)

    def _best(self, places: Places, similarities: Floats, count: int) -> tuple[Places, Floats]:
        if len(places) > 4 * count:
            kth = np.partition(similarities, len(places) - count)[len(places) - count]
            kept = np.flatnonzero(similarities >= kth)
            places, similarities = places[kept], similarities[kept]
        tie = places if self.order is None else self.order[places]
        order = np.lexsort((tie, -similarities))[:count]
        return places[order], similarities[order]


def _product(units: Floats, vectors: Floats) -> Floats:
    """(q, n): the dot products. BLAS keeps to one thread, since its own spin; large vectors are cut into as many parts as there are cores."""
    parts = min(cores(), vectors.nbytes // _PART_BYTES) if len(units) <= _FEW else 1
    if parts < 2:
        return _part(units, vectors)
    cuts = [len(vectors) * i // parts for i in range(parts + 1)]
    first, *others = [vectors[cuts[i] : cuts[i + 1]] for i in range(parts)]
    with ThreadPoolExecutor(parts - 1, "jammi-product") as pool:
        rest = [pool.submit(_part, units, part) for part in others]
        found = _part(units, first)
    return np.concatenate([found, *(part.result() for part in rest)], axis=1)


def _part(units: Floats, vectors: Floats) -> Floats:
    with one_blas_thread():  # some libraries have a count for each thread
        product: Floats = units @ vectors.T
    return product


def cosines(vectors: Floats, query: Floats) -> Floats:
    """Exact similarities of some vectors to one checked query, with the bits of `Exact.similarities`."""
    wide = query.astype(np.float64)
    norm = np.sqrt(np.square(wide).sum())
    out, norms = np.empty(len(vectors), np.float64), np.empty(len(vectors), np.float64)
    step = max(1, _RESCORE // len(query))
    for at in range(0, len(vectors), step):
        some = vectors[at : at + step].astype(np.float64)
        out[at : at + step] = (some * wide).sum(1)
        norms[at : at + step] = np.sqrt(np.square(some, out=some).sum(1))
    found: Floats = np.clip(out / (norms * norm), -1, 1).astype(np.float32)
    return found


def norms_of(vectors: Floats) -> Doubles:
    """(n,) float64: the norm of each row, by the same sum whatever its place."""
    out = np.empty(len(vectors))
    step = max(1, _RESCORE // max(1, vectors.shape[1]))
    for at in range(0, len(vectors), step):
        wide = vectors[at : at + step].astype(np.float64)
        out[at : at + step] = np.square(wide, out=wide).sum(1)
    return np.sqrt(out, out=out)


def margin(dimensions: int) -> float:
    """What an approximate similarity can at most be off by: γ(d) of the dot product, and the roundings of the query to unit length, of the
    inverse norm, of the product with it and of the exact value, with a little to spare for under- and overflow."""
    u = 2.0**-24
    return (dimensions * u / (1 - dimensions * u)) * (1 + 8 * u) + 8 * u


def _allowed(allow: NDArray[np.bool_] | None, n: int) -> Places | None:
    if allow is None:
        return None
    mask = np.asarray(allow)
    if mask.dtype != np.bool_ or mask.shape != (n,):
        raise InvalidArgument(f"A mask of allowed rows is {n} booleans, not {mask.dtype} of shape {mask.shape}.")
    return np.flatnonzero(mask)
