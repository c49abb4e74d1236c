"""Search through an index. Its candidates are rescored from the stored vectors, so similarities and
order are those of exact search."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jammi_lab.features.vectors.encoders.blas_threads import usable_cores
from jammi_lab.features.vectors.exact_search import Hits, row_norms
from jammi_lab.features.vectors.index.hnsw import MEASURED_NEIGHBORS_COUNT, AnnIndex
from jammi_lab.features.vectors.index.quantization import normalize
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.storage.vector_arrays import Floats, RowNumbers, check_k, check_queries

DEFAULT_OVERSAMPLE = 2
"""Candidates per hit."""
_CANDIDATE_GROWTH_FACTOR = 4
"""Growth of the number of candidates when a filter left too few."""
_FILTER_EXPANSION_FACTOR = 2
"""Additional growth of the expansion under a filter, relative to that of the candidates; less where
more than half of the rows pass."""
_ROWS_PER_CANDIDATE_RATIO = 32
"""Vectors that can be read sequentially for the cost of one more candidate."""
_MIN_PARALLEL_QUERIES = 8
"""Queries from which on several threads pay off."""
MIN_CANDIDATE_LIMIT = 128
"""Candidates that an index query may always have, however few rows there are."""


def search(
    matrix: Matrix,
    ann: AnnIndex,
    queries: ArrayLike,
    k: int,
    *,
    allow: NDArray[np.bool_] | None = None,
    without: int | None = None,
    oversample: int = DEFAULT_OVERSAMPLE,
    expansion: int = 0,
    always_use_index: bool = False,
) -> Hits | None:
    """The `k` most similar rows of each query, as far as the index finds them; None where reading
    all rows is less work, unless `always_use_index`.

    `allow`: a mask of the rows that may be found; `without`: a row to exclude; `expansion`:
    replaces the measured one. As many rows are found as exist, up to `k`: where a filter leaves too
    few candidates near a query, that query is searched exactly. Raises as `Matrix.search`.
    """
    count = check_k(k)
    checked = check_queries(queries, matrix.dimensions)
    excluded = None if without is None else np.full(len(checked), without, np.int64)
    threads = 1 if len(checked) < _MIN_PARALLEL_QUERIES else usable_cores()
    prepared = _IndexSearch(
        matrix, ann, checked, count, allow, excluded, oversample, threads=threads
    )
    return prepared.run(expansion or ann.expansion, always_use_index=always_use_index)


def nearest_rows(
    matrix: Matrix, ann: AnnIndex, rows: RowNumbers, k: int, oversample: int = DEFAULT_OVERSAMPLE
) -> Hits:
    """For each of some rows of the table its `k` nearest other rows, always as many as exist.
    Raises InvalidArgument for k < 0."""
    prepared = _IndexSearch(
        matrix,
        ann,
        matrix.vectors_at(rows),
        check_k(k),
        None,
        rows,
        oversample,
        threads=usable_cores(),
    )
    hits = prepared.run(ann.expansion, always_use_index=True)
    assert hits is not None, "a forced search always has a result"
    return hits


class _IndexSearch:
    """One search through an index: a batch of queries with a common filter."""

    def __init__(
        self,
        matrix: Matrix,
        ann: AnnIndex,
        queries: Floats,
        k: int,
        allow: NDArray[np.bool_] | None,
        without: RowNumbers | None,
        oversample: int,
        *,
        threads: int,
    ) -> None:
        """`without`: for each query a row to exclude."""
        self._matrix, self._ann, self._queries, self._threads = matrix, ann, queries, threads
        self._allow, self._without = allow, without
        self._passing = len(matrix) if allow is None else int(np.count_nonzero(allow))
        available = self._passing - (without is not None)
        # an excluded row that does not pass the filter anyway takes no other row's place
        excluded_twice = allow is not None and without is not None and not allow[without].all()
        self._count = min(k, self._passing if excluded_twice else available)
        # The expansion was measured with NEIGHBOURS hits. Among fewer candidates the nearest row
        # may be missing, because the stored vectors are coarse.
        reliable = max(self._count, MEASURED_NEIGHBORS_COUNT)
        self._max_candidates = reliable * oversample + (without is not None)
        self._min_candidates = max(self._count, min(reliable * (1 + oversample) // 2, available))

    def run(self, expansion: int, *, always_use_index: bool) -> Hits | None:
        """The hits; None where reading all rows is less work, unless `always_use_index`."""
        rows = len(self._matrix)
        if self._count <= 0 or not len(self._queries):
            return self._empty_hits(max(self._count, 0))
        if expansion == 0:
            return self._read_all() if always_use_index else None
        width, expansion = _widened(self._max_candidates, expansion, rows, self._passing)
        limit = (
            rows
            if always_use_index
            else max(MIN_CANDIDATE_LIMIT, rows // _ROWS_PER_CANDIDATE_RATIO)
        )
        if not always_use_index and max(width, expansion) > limit:
            return None
        units = normalize(self._queries, row_norms(self._queries))
        hits = None
        if self._allow is None and width <= limit:
            hits = self._search_once(units, width, expansion)
        return self._search_repeatedly(units, width, expansion, limit) if hits is None else hits

    def _empty_hits(self, count: int) -> Hits:
        shape = len(self._queries), count
        return Hits(np.empty(shape, np.int64), np.empty(shape, np.float32))

    def _search_once(self, units: Floats, width: int, expansion: int) -> Hits | None:
        """The hits of a single index query without a filter, the usual case; None when it found too
        few candidates."""
        if self._without is None:
            candidates = self._candidates(units, width, expansion)
            return self._rescored(self._queries, candidates) if candidates.min() >= 0 else None
        if len(self._queries) > 1:
            return None
        candidates = self._candidates(units, width, max(expansion, 2 * width))
        others = candidates[(candidates >= 0) & (candidates != self._without[0])]
        if len(others) < self._min_candidates:
            return None
        return self._rescored(self._queries, others[None, : self._max_candidates])

    def _search_repeatedly(self, units: Floats, width: int, expansion: int, limit: int) -> Hits:
        """The hits with ever more candidates, for queries near which few rows pass the filter. What
        is still missing at `limit` candidates is searched exactly."""
        hits, rows = self._empty_hits(self._count), len(self._matrix)
        todo = np.arange(len(self._queries))
        while len(todo) and width <= limit:
            # The expansion was not measured for so many candidates. A graph search that goes twice
            # as far finds the last of them as reliably as the first.
            candidates = self._candidates(units[todo], width, max(expansion, 2 * width))
            valid = candidates >= 0
            if self._allow is not None:
                valid &= self._allow[candidates]
            if self._without is not None:
                valid &= candidates != self._without[todo, None]
            is_enough = valid.sum(1) >= self._min_candidates
            done = todo[is_enough]
            if len(done):
                best = _first_valid(candidates[is_enough], valid[is_enough], self._max_candidates)
                hits.rows[done], hits.similarities[done] = self._rescored(self._queries[done], best)
            todo = todo[~is_enough]
            if width == rows:
                break
            width = min(rows, width * _CANDIDATE_GROWTH_FACTOR)
        for query in todo:
            exact = self._search_exactly(int(query))
            hits.rows[query], hits.similarities[query] = exact.rows[0], exact.similarities[0]
        return hits

    def _read_all(self) -> Hits:
        """The hits of exact search, for an index that was measured to be of no use: its vectors may
        be too coarse for rows that all point in nearly the same direction."""
        if self._without is None:
            return self._matrix.search(self._queries, self._count, allow=self._allow)
        parts = [self._search_exactly(query) for query in range(len(self._queries))]
        return Hits(
            np.concatenate([hits.rows for hits in parts]),
            np.concatenate([hits.similarities for hits in parts]),
        )

    def _search_exactly(self, query: int) -> Hits:
        """The hits of one query, by comparing all vectors."""
        mask = np.ones(len(self._matrix), np.bool_) if self._allow is None else self._allow.copy()
        if self._without is not None:
            mask[self._without[query]] = False
        return self._matrix.search(self._queries[query], self._count, allow=mask)

    def _candidates(self, units: Floats, width: int, expansion: int) -> RowNumbers:
        return self._ann.candidates(units, width, expansion=expansion, threads=self._threads)

    def _rescored(self, queries: Floats, rows: RowNumbers) -> Hits:
        """The best `count` of the candidates, by exact similarity."""
        return Hits(*_rescore(self._matrix, queries, rows, self._count))


def _widened(candidates: int, expansion: int, rows: int, passing: int) -> tuple[int, int]:
    """The number of candidates and the expansion under a filter that `passing` of `rows` rows pass;
    unchanged when all of them pass.

    The nearest rows that pass may lie outside the query's cluster, where the graph search is less
    reliable than measured; so the expansion grows faster than the number of candidates."""
    factor = (rows + _FILTER_EXPANSION_FACTOR * min(passing, rows - passing)) / passing
    return min(rows, -(-candidates * rows // passing)), min(rows, int(expansion * factor))


def _first_valid(candidates: RowNumbers, valid: NDArray[np.bool_], count: int) -> RowNumbers:
    """The first `count` valid candidates of each query, −1 where there are fewer."""
    if valid.all():
        return candidates[:, :count]
    order = np.argsort(~valid, axis=1, kind="stable")[:, :count]
    return np.where(
        np.take_along_axis(valid, order, 1), np.take_along_axis(candidates, order, 1), -1
    )


def _rescore(
    matrix: Matrix, queries: Floats, rows: RowNumbers, count: int
) -> tuple[RowNumbers, Floats]:
    """Rescore candidates exactly and keep the best `count` of each query."""
    similarities = matrix.pairs(queries, rows)
    tie = rows if matrix.order is None else matrix.order[rows]
    if len(rows) == 1:  # plain lexsort of one row is faster
        best = np.lexsort((tie[0], -similarities[0]))[:count]
        return rows[:, best], similarities[:, best]
    order = np.lexsort((tie, -similarities))[:, :count]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(similarities, order, 1)
