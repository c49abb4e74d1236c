"""All-pairs search: the nearest other rows of every row of a matrix, with the results of exact
search at the speed of a float32 matrix product.

A block of rows against all rows is one product. In each of its rows, the maxima of some groups of
numbers bound the k-th best from below. Only the few numbers at or above that bound, minus two
margins, are computed again in float64 (`exact_search.py` shows why these are enough). Rows with
equal bits have equal neighbours, so only the first of them is compared, and at most as many equal
rows take part as neighbours are wanted.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from jammi_lab.core.thread_pool import ThreadPool
from jammi_lab.features.vectors.encoders.blas_threads import one_blas_thread, usable_cores
from jammi_lab.features.vectors.exact_search import Doubles, ExactSearch, Hits
from jammi_lab.features.vectors.index.duplicates import first_equal_rows
from jammi_lab.storage.vector_arrays import Floats, RowNumbers

MAX_BLOCK_BYTES = 24 << 20
"""Size of the approximate similarities that one thread has in memory."""
RESCORE_CHUNK_SIZE = 1 << 16
"""Numbers per step in float64."""
_MIN_GROUPS_PER_NEIGHBOR = 16
"""Least number of groups per wanted neighbour; more groups give a tighter bound."""


class BatchResult(NamedTuple):
    """The neighbours of a range of rows."""

    first: int
    """The first row."""
    hits: Hits
    """For each row its neighbours and their similarities, best first."""


def pair_similarities(
    vectors: Floats, norms: Doubles, left: RowNumbers, right: RowNumbers
) -> Floats:
    """The exact similarity of each pair of rows, with the bits of `ExactSearch.similarities`."""
    out = np.empty(len(left), np.float64)
    step = max(1, RESCORE_CHUNK_SIZE // max(1, vectors.shape[1]))
    for start in range(0, len(left), step):
        left_rows, right_rows = left[start : start + step], right[start : start + step]
        dots = (vectors[left_rows] * vectors[right_rows].astype(np.float64)).sum(1)
        out[start : start + step] = dots / (norms[left_rows] * norms[right_rows])
    return np.clip(out, -1, 1).astype(np.float32)


def nearest_others(
    exact: ExactSearch, k: int, *, on_rows: Callable[[int], None] | None = None
) -> Iterator[BatchResult]:
    """For every row the `k` most similar other rows, or fewer when fewer exist: by descending
    similarity, then ascending row number. Yields blocks in row order.

    `on_rows` gets the number of finished rows. Closing the iterator, or an interrupt, stops the
    threads.
    """
    search, count = AllPairs(exact, k), len(exact.vectors)
    with (
        one_blas_thread(),
        contextlib.closing(
            search_blocks(count, search.block, search.search_range, usable_cores())
        ) as blocks,
    ):
        for first, hits in blocks:
            yield search.neighbors_of_range(first, hits, on_rows)


def search_blocks(
    count: int, step: int, work: Callable[[int, int], Hits], width: int
) -> Generator[BatchResult]:
    """Yield the hits of rows 0 to `count` in order, in blocks of `step` rows that `width` threads
    compute. Closing the iterator, or an interrupt, stops the threads."""
    pool = ThreadPool(min(width, max(1, -(-count // step))), "jammi-pairs")
    try:
        yield from _ordered_results(pool, count, step, work, width)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ordered_results(
    pool: ThreadPool, count: int, step: int, work: Callable[[int, int], Hits], width: int
) -> Generator[BatchResult]:
    """A function of its own, because CPython 3.13 can deliver an interrupt between two iterations
    of a loop inside `try` past its handlers (python/cpython#130279)."""
    running: deque[tuple[int, Future[Hits]]] = deque()
    for first in range(0, count, step):
        running.append((first, pool.submit(work, first, min(first + step, count))))
        if len(running) > width:
            yield _next_result(running)
    while running:
        yield _next_result(running)


def _next_result(running: "deque[tuple[int, Future[Hits]]]") -> BatchResult:
    first_row, future = running.popleft()
    return BatchResult(first_row, future.result())


class AllPairs:
    """The rows of one matrix compared with each other."""

    def __init__(self, exact: ExactSearch, k: int) -> None:
        if exact.order is not None:
            raise ValueError("rows must stand in the order of their keys")
        vectors, self._norms, self._margin = exact.vectors, exact.norms, exact.margin
        self._vectors = vectors
        self._count = min(k, len(vectors) - 1)
        """Neighbours per row."""
        self._search_count = self._count + 1
        """Rows searched per row: the neighbours and the row itself."""
        self._units = np.empty(vectors.shape, np.float32)
        for start in range(0, len(vectors), 4096):
            block = slice(start, start + 4096)
            self._units[block] = vectors[block] / self._norms[block, None]
        self._first_equal, self._columns = _equal_rows(exact, self._search_count)
        self._has_equals = (
            None
            if self._first_equal is None
            else np.bincount(self._first_equal, minlength=len(vectors)) > 1
        )
        self._other_units = self._units if self._columns is None else self._units[self._columns]
        self.block = int(
            min(4096, max(16, MAX_BLOCK_BYTES // (4 * max(1, len(self._other_units)))))
        )
        self._lists_by_first: dict[int, tuple[RowNumbers, Floats]] = {}
        """The lists of rows that have equal rows further down."""

    def search_range(self, start: int, end: int) -> Hits:
        """The best rows, itself among them, of each row of a range that is the first of its
        equals."""
        rows = np.arange(start, end)
        if self._first_equal is not None:
            rows = rows[self._first_equal[start:end] == rows]
        approximate = self._units[rows] @ self._other_units.T
        row_index, column = self._candidates(approximate)
        candidates = column if self._columns is None else self._columns[column]
        similarities = pair_similarities(self._vectors, self._norms, rows[row_index], candidates)
        out_of_margin = np.unique(
            row_index[np.abs(approximate[row_index, column] - similarities) > self._margin]
        )
        if len(out_of_margin):  # only with a BLAS that computes in less than float32; never seen
            row_index, candidates, similarities = self._with_all_columns(
                rows, row_index, candidates, similarities, out_of_margin
            )
        order = np.lexsort((candidates, -similarities, row_index))
        row_index = row_index[order]
        candidates = candidates[order]
        similarities = similarities[order]
        best = (
            np.arange(len(row_index)) - np.searchsorted(row_index, row_index) < self._search_count
        )
        shape = (len(rows), self._search_count)
        return Hits(candidates[best].reshape(shape), similarities[best].reshape(shape))

    def neighbors_of_range(
        self, start: int, lists: Hits, on_rows: Callable[[int], None] | None
    ) -> BatchResult:
        """The neighbours of all rows of a range."""
        end = min(start + self.block, len(self._vectors))
        if self._first_equal is not None:
            lists = self._copy_to_equals(start, end, lists)
        rows, similarities = lists
        # a row that is not in its own list has that many equal rows before it; then the last entry
        # of the list is the surplus one
        is_self = rows == np.arange(start, end)[:, None]
        is_self[~is_self.any(1), -1] = True
        shape = (end - start, self._count)
        if on_rows is not None:
            on_rows(end)
        return BatchResult(
            start, Hits(rows[~is_self].reshape(shape), similarities[~is_self].reshape(shape))
        )

    def _copy_to_equals(self, start: int, end: int, lists: Hits) -> Hits:
        """Copy the lists of first rows to the rows that equal them."""
        assert self._first_equal is not None
        firsts = self._first_equal[start:end]
        rows = np.empty((end - start, self._search_count), np.int64)
        similarities = np.empty((end - start, self._search_count), np.float32)
        is_first = firsts == np.arange(start, end)
        rows[is_first], similarities[is_first] = lists
        assert self._has_equals is not None
        for offset in np.flatnonzero(is_first & self._has_equals[start:end]):
            self._lists_by_first[start + int(offset)] = (
                rows[offset].copy(),
                similarities[offset].copy(),
            )
        for offset in np.flatnonzero(~is_first):
            rows[offset], similarities[offset] = self._lists_by_first[int(firsts[offset])]
        return Hits(rows, similarities)

    def _candidates(self, approximate: Floats) -> tuple[RowNumbers, RowNumbers]:
        """Row and column of every number that may be among the best of its row."""
        count, width = approximate.shape
        count_wanted = min(self._search_count, width)
        groups = _MIN_GROUPS_PER_NEIGHBOR * count_wanted
        group_size = width // groups
        bounds = (
            approximate
            if group_size < 2
            else approximate[:, : group_size * groups].reshape(count, group_size, groups).max(1)
        )
        thresholds = np.partition(bounds, bounds.shape[1] - count_wanted, axis=1)[
            :, bounds.shape[1] - count_wanted
        ]
        lower_bound = np.nextafter(
            (thresholds.astype(np.float64) - 2 * self._margin).astype(np.float32),
            np.float32(-np.inf),
        )
        flat = np.flatnonzero((approximate >= lower_bound[:, None]).reshape(-1))
        row_index = flat // width
        return row_index, flat - row_index * width

    def _with_all_columns(
        self,
        rows: RowNumbers,
        row_index: RowNumbers,
        candidates: RowNumbers,
        similarities: Floats,
        out_of_margin: RowNumbers,
    ) -> tuple[RowNumbers, RowNumbers, Floats]:
        """The candidates, with all columns for the rows whose product exceeds its margin."""
        keep = ~np.isin(row_index, out_of_margin)
        all_rows = np.arange(len(self._vectors)) if self._columns is None else self._columns
        similarity_parts = [
            pair_similarities(
                self._vectors, self._norms, np.full(len(all_rows), rows[row]), all_rows
            )
            for row in out_of_margin
        ]
        return (
            np.concatenate([row_index[keep], np.repeat(out_of_margin, len(all_rows))]),
            np.concatenate([candidates[keep], np.tile(all_rows, len(out_of_margin))]),
            np.concatenate([similarities[keep], *similarity_parts]),
        )


def _equal_rows(exact: ExactSearch, max_equals: int) -> tuple[RowNumbers | None, RowNumbers | None]:
    """For each row the first row with the same bits; and the rows that can be found, which are the
    first `max_equals` of each group of equals. (None, None) when all rows differ; None for the
    second when all rows can be found."""
    first = first_equal_rows(exact)
    if first is None:
        return None, None
    order = np.argsort(first, kind="stable")
    nth = np.empty(len(order), np.int64)
    nth[order] = np.arange(len(order)) - np.searchsorted(first[order], first[order])
    findable = np.flatnonzero(nth < max_equals)
    return first, None if len(findable) == len(order) else findable
