"""Search through an index: its candidates are rescored from the stored vectors, so that similarity and order are those of exact search."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jammi_lab.embedders.blas import cores
from jammi_lab.vectors.ann import NEIGHBOURS, Ann
from jammi_lab.vectors.arrays import Floats, check_k, check_queries
from jammi_lab.vectors.coding import units_of
from jammi_lab.vectors.exact import Hits, Places, norms_of
from jammi_lab.vectors.matrix import Matrix

OVERSAMPLE = 2
"""Candidates for each hit."""
_WIDER = 4
"""How many times more candidates are asked for when a filter left too few."""
_FARTHER = 2
"""How many times its width a graph is searched under a filter more than the share that passes says; less where more than half the rows pass."""
_WORTH = 32
"""Reading so many vectors in a row costs about as much as one candidate more."""
_TOGETHER = 8
"""Queries from which on several threads are worth it."""
_AT_LEAST = 128
"""Candidates that are worth asking for however few rows there are."""


def search(
    matrix: Matrix,
    ann: Ann,
    queries: ArrayLike,
    k: int,
    *,
    allow: NDArray[np.bool_] | None = None,
    without: int | None = None,
    oversample: int = OVERSAMPLE,
    expansion: int = 0,
    forced: bool = False,
) -> Hits | None:
    """The `k` most similar rows of each query, as far as the index finds them; None where reading all rows is less work, unless `forced`.

    `allow`: which rows may be found, by a mask; `without`: a row that may not; `expansion`: another one than the one that was measured. As many rows
    are found as there are, up to `k`: where the candidates are too few, because few rows pass the filter near a query, that query is searched
    exactly. Raises as `Matrix.search`.
    """
    wanted = check_k(k)
    asked = check_queries(queries, matrix.dimensions)
    left_out = None if without is None else np.full(len(asked), without, np.int64)
    threads = 1 if len(asked) < _TOGETHER else cores()
    return _search(matrix, ann, asked, wanted, allow, left_out, oversample, expansion or ann.expansion, forced=forced, threads=threads)


def nearest_rows(matrix: Matrix, ann: Ann, rows: Places, k: int, oversample: int = OVERSAMPLE) -> Hits:
    """For each of some rows of the table its `k` nearest others, always as many as there are. InvalidArgument for k < 0."""
    wanted = check_k(k)
    queries = matrix.at(rows)
    found = _search(matrix, ann, queries, wanted, None, rows, oversample, ann.expansion, forced=True, threads=cores())
    assert found is not None, "a forced search always answers"
    return found


def _search(
    matrix: Matrix,
    ann: Ann,
    queries: Floats,
    k: int,
    allow: NDArray[np.bool_] | None,
    without: Places | None,
    oversample: int,
    expansion: int,
    *,
    forced: bool,
    threads: int,
) -> Hits | None:
    n = len(matrix)
    allowed = n if allow is None else int(np.count_nonzero(allow))
    few = allowed - (without is not None)  # what is left out may be barred by the filter too: then one more is there, and is found exactly
    count = min(k, allowed if allow is not None and without is not None and not allow[without].all() else few)
    if count <= 0 or not len(queries):
        return Hits(np.empty((len(queries), max(count, 0)), np.int64), np.empty((len(queries), max(count, 0)), np.float32))
    if expansion == 0:
        return _all_read(matrix, queries, count, allow, without) if forced else None
    sure = max(count, NEIGHBOURS)  # as many were measured: of fewer candidates the nearest may be missing, as coarse as what is stored is
    kept = sure * oversample + (without is not None)
    width, expansion = _widened(kept, expansion, n, allowed)
    most = n if forced else max(_AT_LEAST, n // _WORTH)
    if not forced and max(width, expansion) > most:
        return None
    units = units_of(queries, norms_of(queries))
    if allow is None and without is None and width <= most:
        found = ann.candidates(units, width, expansion=expansion, threads=threads)
        if found.min() >= 0:  # as nearly always: then all is done at once
            return Hits(*_best(matrix, queries, found, count))
    if allow is None and without is not None and len(queries) == 1 and width <= most:
        found = ann.candidates(units, width, expansion=max(expansion, 2 * width), threads=threads)
        others = found[(found >= 0) & (found != without[0])]
        if len(others) >= max(count, min(sure * (1 + oversample) // 2, few)):  # all at once for one row, too
            return Hits(*_best(matrix, queries, others[None, :kept], count))
    hits = Hits(np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32))
    todo = np.arange(len(queries))
    while len(todo) and width <= most:
        # so many were never measured: the last of them are found as surely as the first when the search goes further than they do
        found = ann.candidates(units[todo], width, expansion=max(expansion, 2 * width), threads=threads)
        valid = found >= 0
        if allow is not None:
            valid &= allow[found]
        if without is not None:
            valid &= found != without[todo, None]
        enough = valid.sum(1) >= max(count, min(sure * (1 + oversample) // 2, few))
        done = todo[enough]
        if len(done):
            rows = _first(found[enough], valid[enough], kept)
            hits.rows[done], hits.similarities[done] = _best(matrix, queries[done], rows, count)
        todo = todo[~enough]
        if width == n:
            break
        width = min(n, width * _WIDER)
    for at in todo:
        alone = _exactly(matrix, queries[at], count, allow, None if without is None else int(without[at]))
        hits.rows[at], hits.similarities[at] = alone.rows[0], alone.similarities[0]
    return hits


def _widened(kept: int, expansion: int, n: int, allowed: int) -> tuple[int, int]:
    """How many candidates are asked for, and how widely the graph is searched, where `allowed` of `n` rows pass; with all of them as before.

    The nearest that pass may lie beyond the group of rows that a query is in, where the graph is searched less surely than it was measured."""
    times = (n + _FARTHER * min(allowed, n - allowed)) / allowed
    return min(n, -(-kept * n // allowed)), min(n, int(expansion * times))


def _all_read(matrix: Matrix, queries: Floats, count: int, allow: NDArray[np.bool_] | None, without: Places | None) -> Hits:
    """The hits where the index was measured to be no help: its own vectors may be too coarse to tell rows apart that all point nearly one way."""
    if without is None:
        return matrix.search(queries, count, allow=allow)
    each = [_exactly(matrix, query, count, allow, int(row)) for query, row in zip(queries, without, strict=True)]
    return Hits(np.concatenate([e.rows for e in each]), np.concatenate([e.similarities for e in each]))


def _exactly(matrix: Matrix, query: Floats, count: int, allow: NDArray[np.bool_] | None, without: int | None) -> Hits:
    """The hits of one query with all vectors compared."""
    mask = np.ones(len(matrix), np.bool_) if allow is None else allow.copy()
    if without is not None:
        mask[without] = False
    return matrix.search(query, count, allow=mask)


def _first(found: Places, valid: NDArray[np.bool_], kept: int) -> Places:
    """The first `kept` valid candidates of each query, −1 where there are fewer."""
    if valid.all():
        return found[:, :kept]
    order = np.argsort(~valid, axis=1, kind="stable")[:, :kept]
    return np.where(np.take_along_axis(valid, order, 1), np.take_along_axis(found, order, 1), -1)


def _best(matrix: Matrix, queries: Floats, rows: Places, count: int) -> tuple[Places, Floats]:
    similarities = matrix.pairs(queries, rows)
    tie = rows if matrix.order is None else matrix.order[rows]
    if len(rows) == 1:
        best = np.lexsort((tie[0], -similarities[0]))[:count]
        return rows[:, best], similarities[:, best]
    order = np.lexsort((tie, -similarities))[:, :count]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(similarities, order, 1)
