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

import functools
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.core.thread_pool import ThreadPool
from jammi_lab.features.vectors.encoders.blas_threads import one_blas_thread, usable_cores
from jammi_lab.storage.vector_arrays import Floats, RowNumbers, check_k, check_queries

# --------------------------------------------------------------------------------------------------
# A copy of vectors in one byte per component. Reading a quarter of the bytes rules out all but a
# few rows, which exact search then compares.
# A unit row is u = s·c + e with a float s and integers c from −127 to 127; a unit query is likewise
# v = t·b + f. The product of the integers is exact, so |v·u − t·s·(b·c)| = |t·b·e + f·u| ≤ (1 +
# ‖f‖)·‖e‖ + ‖f‖.

# --------------------------------------------------------------------------------------------------
# The search.

Doubles = NDArray[np.float64]


_MIN_BYTES = 8 << 20
_MIN_PART_BYTES = 16 << 20
"""Bytes that are worth a thread of their own: one core alone does not use the full memory
bandwidth."""
_MIN_WIDTH, _MAX_WIDTH = 96, 1 << 17
"""Components from which fewer bytes are worth the work for each row, and up to which a product of
integers stays below 2³¹."""
_MAX_INTEGER = 127
_CHUNK_NUMBERS = 1 << 15
"""Numbers per step of making the copy, so that they stay in the cache."""
_ROUNDING = 2.0**-18
"""More than all roundings to float32 of a similarity."""


def pays_off(vectors: Floats) -> bool:
    """Whether a copy of these vectors is read faster than they are."""
    width = vectors.shape[1]
    return (
        vectors.nbytes >= _MIN_BYTES
        and _MIN_WIDTH <= width < _MAX_WIDTH
        and _multiplies_exactly(width)
    )


@functools.cache
def _multiplies_exactly(width: int) -> bool:
    """Whether the kernel that this processor gets sums integers of this width without saturating,
    which would rule out rows that are among the best."""
    rows = np.repeat(np.array([[_MAX_INTEGER], [-_MAX_INTEGER], [1]], np.int8), width, axis=1)
    exact = rows.astype(np.int64) @ rows[0]
    return np.array_equal(_products(rows[0], rows), exact)


def _products(codes: NDArray[np.int8], rows: NDArray[np.int8]) -> NDArray[np.int32]:
    import numkong  # here, like usearch: most kernels search no vectors

    products = np.empty(len(rows), np.int32)
    numkong.dot(codes, rows, out=products)
    return products


class NarrowCopy:
    """The copy of some vectors (n, d) whose norms are neither zero nor infinite. Thread-safe."""

    def __init__(self, vectors: Floats, norms: Doubles) -> None:
        self._codes = np.empty(vectors.shape, np.int8)
        self._scales = np.empty(len(vectors), np.float32)
        self._error = 0.0
        step = _CHUNK_NUMBERS // vectors.shape[1] + 1
        for start in range(0, len(vectors), step):
            part = slice(start, start + step)
            units = vectors[part] / norms[part, None]
            self._codes[part], self._scales[part], error = _narrowed(units)
            self._error = max(self._error, error)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self._codes.nbytes + self._scales.nbytes

    def similarities(self, unit: Doubles) -> tuple[Floats, float]:
        """(n,): about the similarity of each row to a unit query, and the most by which one is
        off."""
        codes, scales, lost = _narrowed(unit[None])
        parts = max(1, min(usable_cores(), self._codes.nbytes // _MIN_PART_BYTES))
        first, *others = np.array_split(self._codes, parts)
        with ThreadPool(parts, "jammi-product") as pool:
            futures = [pool.submit(_products, codes[0], part) for part in others]
            products = [_products(codes[0], first), *(future.result() for future in futures)]
        near = np.multiply(np.concatenate(products), self._scales * scales, dtype=np.float32)
        return near, (1 + lost) * self._error + lost + _ROUNDING


def _narrowed(units: Doubles) -> tuple[NDArray[np.int8], Floats, float]:
    """The integers of unit vectors (n, d), their scales (n,), and the largest norm of what these
    leave out."""
    scales = (np.abs(units).max(1) / _MAX_INTEGER).astype(np.float32)
    codes = np.rint(units / scales[:, None])
    lost = np.square(units - codes * scales[:, None]).sum(1).max()
    return codes.astype(np.int8), scales, float(np.sqrt(lost))


MAX_BLOCK_BYTES = 24 << 20
"""Size of a block of approximate similarities in memory."""
RESCORE_CHUNK_SIZE = 1 << 15
"""Numbers per step in float64, so that they stay in the cache."""
_MIN_SAFE_NORM, _MAX_SAFE_NORM = 2.0**-60, 2.0**60
"""Norms between which no float32 product of unit queries under- or overflows by more than the
margin allows for."""
_MIN_ROWS_PER_HIT = 256
"""Rows per wanted hit from which a narrow copy is read."""
_GROUPS_PER_HIT, _MIN_GROUPS = 16, 1024
"""Groups of columns per wanted hit, and at least; more groups give a tighter bound."""


class Hits(NamedTuple):
    """The result of a search: rows per query, best first."""

    rows: RowNumbers
    """(queries, hits): row numbers in the matrix."""
    similarities: Floats
    """(queries, hits): cosine similarity; 1 for the same direction."""


class _Pairs(NamedTuple):
    """Rows that may be among the best of some queries, with their exact similarities."""

    query: RowNumbers
    row: RowNumbers
    similarity: Floats


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
        self._narrow: NarrowCopy | None = None
        self._searches = 0

    @functools.cached_property
    def _is_narrowable(self) -> bool:
        return self._safe_norms and pays_off(self.vectors)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return (
            self.vectors.nbytes
            + self.norms.nbytes
            + self.inverse_norms.nbytes
            + (0 if self.order is None else self.order.nbytes)
            + (0 if self._narrow is None else self._narrow.nbytes)
        )

    def search(self, queries: ArrayLike, k: int, *, allow: NDArray[np.bool_] | None = None) -> Hits:
        """The `k` rows most similar to each query, or fewer when fewer exist: by descending
        similarity, then ascending key.

        `queries`: one vector or (q, d); `allow`: a mask (n,) of the rows that may be found. Raises
        SchemaMismatch for a query of another width, not finite or all zeros; InvalidArgument
        (ValueError) for k < 0 and for a mask of another length.
        """
        limit = check_k(k)
        checked = check_queries(queries, self.vectors.shape[1])
        allowed = _allowed_rows(allow, len(self.vectors))
        count = min(limit, len(self.vectors) if allowed is None else len(allowed))
        hits = Hits(
            np.empty((len(checked), count), np.int64), np.empty((len(checked), count), np.float32)
        )
        if count == 0:
            return hits
        step = max(1, MAX_BLOCK_BYTES // (4 * len(self.vectors)))
        for start in range(0, len(checked), step):
            block = slice(start, start + step)
            best = self._best(self._candidates(checked[block], count, allowed), count)
            hits.rows[block], hits.similarities[block] = best
        return hits

    def _candidates(self, queries: Floats, count: int, allowed: RowNumbers | None) -> _Pairs:
        """Pairs that include the best `count` allowed rows of each query."""
        allowed = self._without_far_rows(queries, count, allowed)
        searched_count = len(self.vectors) if allowed is None else len(allowed)
        if not self._safe_norms or searched_count <= 4 * count:
            return self._all_pairs(queries, allowed)
        units = _units(queries).astype(np.float32)
        if allowed is not None and 16 * searched_count <= len(self.vectors):
            approximate = dot_products(units, self.vectors[allowed]) * self.inverse_norms[allowed]
        else:
            approximate = dot_products(units, self.vectors)
            approximate *= self.inverse_norms
            if allowed is not None:
                approximate = approximate[:, allowed]
        bounds = _lower_bounds(approximate, count, self.margin)
        flat = np.flatnonzero(approximate >= bounds[:, None])
        query, row = np.divmod(flat, searched_count)
        if allowed is not None:
            row = allowed[row]
        similarity = similarities(self.vectors, self.norms, queries, query, row)
        if (np.abs(approximate.reshape(-1)[flat] - similarity) > self.margin).any():
            # only with a BLAS that computes in less than float32; never seen
            return self._all_pairs(queries, allowed)
        return _Pairs(query, row, similarity)

    def _without_far_rows(
        self, queries: Floats, count: int, allowed: RowNumbers | None
    ) -> RowNumbers | None:
        """The allowed rows without those that a copy of fewer bytes rules out. The copy is made at
        the second search, as the first may stay the only one, and given up where it rules out too
        few."""
        total = len(self.vectors)
        if len(queries) > 1 or _MIN_ROWS_PER_HIT * count > total or not self._is_narrowable:
            return allowed
        if allowed is not None and 16 * len(allowed) <= total:
            return allowed
        self._searches += 1
        if self._searches == 1:
            return allowed
        narrow = self._narrow = self._narrow or NarrowCopy(self.vectors, self.norms)
        near, error = narrow.similarities(_units(queries)[0])
        if allowed is not None:
            near = near[allowed]
        rows = np.flatnonzero(near >= _lower_bounds(near[None], count, error))
        if 16 * len(rows) > total:
            self._narrow, self._is_narrowable = None, False
            return allowed
        if allowed is not None:
            rows = allowed[rows]
        return rows

    def _all_pairs(self, queries: Floats, allowed: RowNumbers | None) -> _Pairs:
        """The pairs of each query and all allowed rows."""
        rows = np.arange(len(self.vectors)) if allowed is None else allowed
        query = np.repeat(np.arange(len(queries)), len(rows))
        row = np.tile(rows, len(queries))
        return _Pairs(query, row, similarities(self.vectors, self.norms, queries, query, row))

    def _best(self, pairs: _Pairs, count: int) -> Hits:
        """The best `count` pairs of each query."""
        tie = pairs.row if self.order is None else self.order[pairs.row]
        order = np.lexsort((tie, -pairs.similarity, pairs.query))
        query = pairs.query[order]
        best = order[np.arange(len(query)) - np.searchsorted(query, query) < count]
        return Hits(pairs.row[best].reshape(-1, count), pairs.similarity[best].reshape(-1, count))


def _lower_bounds(approximate: Floats, count: int, error: float) -> Floats:
    """(q,): what the best `count` numbers of each row are not below, when each number is off by
    `error`. The maxima of groups of columns bound the k-th best, too, and are fewer."""
    groups = max(_MIN_GROUPS, _GROUPS_PER_HIT * count)
    size = approximate.shape[1] // groups
    numbers = approximate
    if size >= 2:
        grouped = approximate[:, : size * groups].reshape(len(approximate), size, groups)
        numbers = grouped.max(1)
    kth_best = np.partition(numbers, -count, axis=1)[:, -count].astype(np.float64)
    rounded = (kth_best - 2 * error).astype(np.float32)
    return np.nextafter(rounded, np.float32(-np.inf))


def _units(queries: Floats) -> Doubles:
    """(q, d): the queries at unit length."""
    wide_queries = queries.astype(np.float64)
    units: Doubles = wide_queries / np.sqrt(np.square(wide_queries).sum(1, keepdims=True))
    return units


def dot_products(units: Floats, vectors: Floats) -> Floats:
    """(q, n): the dot products. BLAS is limited to one thread, because its own threads spin."""
    with one_blas_thread():  # some libraries have one limit per thread
        product: Floats = units @ vectors.T
    return product


def similarities(
    vectors: Floats, norms: Doubles, queries: Floats, query: RowNumbers, rows: RowNumbers
) -> Floats:
    """The exact similarity of each pair of a checked query and a row: dot / (norm · norm) in
    float64, clipped to [−1, 1], as float32. `query`: the number of the query of each pair."""
    wide_queries = queries.astype(np.float64)
    query_norms = np.sqrt(np.square(wide_queries).sum(1))
    out = np.empty(len(rows), np.float64)
    step = max(1, RESCORE_CHUNK_SIZE // max(1, queries.shape[1]))
    for start in range(0, len(rows), step):
        chunk, chunk_query = rows[start : start + step], query[start : start + step]
        # a product of two float32 is exact in float64, and each row is summed in the same order
        # whatever other rows are in the block
        dots = (vectors[chunk] * wide_queries[chunk_query]).sum(1)
        out[start : start + step] = dots / (norms[chunk] * query_norms[chunk_query])
    return np.clip(out, -1, 1).astype(np.float32)


def row_norms(vectors: Floats) -> Doubles:
    """(n,) float64: the norm of each row; equal rows get equal bits."""
    out = np.empty(len(vectors))
    step = max(1, RESCORE_CHUNK_SIZE // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64)
        out[start : start + step] = np.square(block, out=block).sum(1)
    return np.sqrt(out, out=out)


def check_directions(
    norms: Doubles, keys: pa.Array, column: str = "vector", *, table: str = "", hint: str = ""
) -> None:
    """Raise SchemaMismatch, with its key, for the first vector that cannot be searched: one that is
    not finite or all zeros. `norms`: in float64."""
    unusable = ~(np.isfinite(norms) & (norms > 0))
    if not unusable.any():
        return
    row = int(unusable.argmax())
    key, problem = keys[row].as_py(), "is all zeros" if norms[row] == 0 else "is not finite"
    raise SchemaMismatch(
        f"The vector of key {key!r} {problem}.",
        table=table,
        column=column,
        expected="finite numbers, not all zero",
        actual=problem,
        key=key,
        hint=hint,
    )


def normalize_checked(vectors: Floats) -> Floats:
    """(n, d) float32: the vectors at unit length; their norms are computed in float64, so that very
    small and large vectors work, too. Raises SchemaMismatch for one without a direction."""
    norms = row_norms(vectors)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise SchemaMismatch(
            "A vector has no direction.",
            column="vector",
            expected="finite, not all zero",
            actual="not finite, or all zero",
        )
    return (vectors / norms[:, None]).astype(np.float32)


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
