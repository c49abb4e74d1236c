"""Search through an index. Its candidates are rescored from the stored vectors, so similarities and
order are those of exact search."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jammi_lab.features.vectors.encoders.blas_threads import usable_cores
from jammi_lab.features.vectors.exact_search import Hits, normalize_checked
from jammi_lab.features.vectors.index.hnsw import MEASURED_NEIGHBORS_COUNT, AnnIndex
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.storage.vector_arrays import Floats, RowNumbers, check_k, check_queries

_FILTER_EXPANSION_FACTOR = 2
"""Growth of the expansion under a filter, relative to that of the candidates; less where more than
half of the rows pass."""
_ROWS_PER_CANDIDATE_RATIO = 32
"""Vectors that can be read sequentially for the cost of one more candidate."""
_FULL_LOAD_FACTOR = 16
"""All vectors are loaded when more than one row in this many is a candidate."""
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
    oversample: int = 2,
    expansion: int = 0,
    always_use_index: bool = False,
) -> Hits | None:
    """The `k` most similar rows of each query, as far as the index finds them; None where reading
    all rows is less work, unless `always_use_index`.

    `allow`: a mask of the rows that may be found; `oversample`: candidates per hit; `expansion`:
    replaces the measured one. As many rows are found as exist, up to `k`: a query for which the
    index gives too few candidates, or only equally near ones from the last hit on, is searched
    exactly.
    Raises as `Matrix.search`.
    """
    checked = check_queries(queries, matrix.dimensions)
    rows = len(matrix)
    passing = rows if allow is None else int(np.count_nonzero(allow))
    count = min(check_k(k), passing)
    hits = Hits(
        np.empty((len(checked), count), np.int64), np.empty((len(checked), count), np.float32)
    )
    if not hits.rows.size:
        return hits
    # The expansion was measured with this many hits. Among fewer candidates the nearest row may be
    # missing, because the stored vectors are coarse.
    reliable = max(count, MEASURED_NEIGHBORS_COUNT)
    oversample = max(1, oversample)
    most = reliable * oversample
    least = max(count, min(reliable * (1 + oversample) // 2, passing))
    expansion = expansion or ann.shape.expansion
    width, wide_expansion = _widened(most, expansion, rows, passing)
    limit = max(MIN_CANDIDATE_LIMIT, rows // _ROWS_PER_CANDIDATE_RATIO)
    is_useful = expansion > 0 and max(width, wide_expansion) <= limit
    if not is_useful and not always_use_index:
        return None
    if len(checked) * most * _FULL_LOAD_FACTOR > rows:
        _ = matrix.exact
    is_enough = np.zeros(len(checked), np.bool_)
    if expansion > 0:
        if allow is not None:
            # The expansion was not measured for rows that are left out. A graph search that goes
            # twice as far finds the last of the candidates as reliably as the first.
            wide_expansion = max(wide_expansion, 2 * width)
        units = normalize_checked(checked)
        threads = 1 if len(checked) < _MIN_PARALLEL_QUERIES else usable_cores()
        candidates = ann.candidates(units, width, expansion=wide_expansion, threads=threads)
        valid = candidates >= 0
        if allow is not None:
            valid &= allow[candidates]
        is_enough = valid.sum(1) >= least
        best = _first_valid(candidates, valid, most)
        found = _rescore(matrix, checked[is_enough], best[is_enough])
        hits.rows[is_enough] = found.rows[:, :count]
        hits.similarities[is_enough] = found.similarities[:, :count]
        is_enough[is_enough] = _is_certain(found, count)
    rest = np.flatnonzero(~is_enough)
    if len(rest):
        hits.rows[rest], hits.similarities[rest] = matrix.search(checked[rest], count, allow=allow)
    return hits


def _widened(candidates: int, expansion: int, rows: int, passing: int) -> tuple[int, int]:
    """The number of candidates and the expansion under a filter that `passing` of `rows` rows pass;
    unchanged when all of them pass.

    The nearest rows that pass may lie outside the query's cluster, where the graph search is less
    reliable than measured; so the expansion grows faster than the number of candidates."""
    factor = (rows + _FILTER_EXPANSION_FACTOR * min(passing, rows - passing)) / passing
    return min(rows, -(-candidates * rows // passing)), min(rows, int(expansion * factor))


def _is_certain(found: Hits, count: int) -> NDArray[np.bool_]:
    """Whether the last of `count` hits is nearer than the last candidate: else more rows may be as
    near, with smaller keys."""
    if found.rows.shape[1] <= count:
        return np.ones(len(found.rows), np.bool_)
    certain: NDArray[np.bool_] = found.similarities[:, count - 1] != found.similarities[:, -1]
    return certain


def _first_valid(candidates: RowNumbers, valid: NDArray[np.bool_], count: int) -> RowNumbers:
    """The first `count` valid candidates of each query, −1 where there are fewer."""
    if valid.all():
        return candidates[:, :count]
    order = np.argsort(~valid, axis=1, kind="stable")[:, :count]
    return np.where(
        np.take_along_axis(valid, order, 1), np.take_along_axis(candidates, order, 1), -1
    )


def _rescore(matrix: Matrix, queries: Floats, rows: RowNumbers) -> Hits:
    """The candidates of each query by exact similarity, best first."""
    similarities = matrix.pairs(queries, rows)
    tie = rows if matrix.order is None else matrix.order[rows]
    order = np.lexsort((tie, -similarities))
    query = np.arange(len(rows))[:, None]
    return Hits(rows[query, order], similarities[query, order])
