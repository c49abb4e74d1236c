"""The nearest other rows of every row of a matrix, by exact search of blocks of rows in threads.

Of rows with equal bits only as many can be found as neighbours are wanted: else each of n equal
rows would be compared exactly with n others.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from jammi_lab.core.thread_pool import ThreadPool
from jammi_lab.features.vectors.encoders.blas_threads import usable_cores
from jammi_lab.features.vectors.exact_search import MAX_BLOCK_BYTES, ExactSearch, Hits
from jammi_lab.storage.vector_arrays import RowNumbers


class BatchResult(NamedTuple):
    """The neighbours of a range of rows."""

    first: int
    """The first row."""
    hits: Hits
    """For each row its neighbours and their similarities, best first."""


def nearest_others(
    exact: ExactSearch, k: int, *, on_rows: Callable[[int], None] | None = None
) -> Iterator[BatchResult]:
    """For every row the `k` most similar other rows, or fewer when fewer exist: by descending
    similarity, then ascending row number. Yields blocks in row order.

    `exact`: of rows in key order. `on_rows` gets the number of finished rows. Closing the iterator,
    or an interrupt, stops the threads.
    """
    total = len(exact.vectors)
    count = min(k, total - 1)
    findable = _findable_rows(exact, count + 1)
    others = exact if findable is None else ExactSearch(exact.vectors[findable])

    def search_range(start: int, end: int) -> Hits:
        """The neighbours of a range of rows: the best rows without the row itself."""
        rows, similarities = others.search(exact.vectors[start:end], count + 1)
        if findable is not None:
            rows = findable[rows]
        return without_themselves(Hits(rows, similarities), np.arange(start, end))

    step = min(4096, max(16, MAX_BLOCK_BYTES // (4 * max(1, total))))
    with contextlib.closing(search_blocks(total, step, search_range, usable_cores())) as blocks:
        for block in blocks:
            if on_rows is not None:
                on_rows(block.first + len(block.hits.rows))
            yield block


def without_themselves(hits: Hits, rows: RowNumbers) -> Hits:
    """The hits of some rows, one less for each: without the row itself."""
    is_self = hits.rows == rows[:, None]
    # a row that is not found has that many equal rows before it; the last one is surplus
    is_self[~is_self.any(1), -1] = True
    shape = len(rows), hits.rows.shape[1] - 1
    return Hits(hits.rows[~is_self].reshape(shape), hits.similarities[~is_self].reshape(shape))


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


def _findable_rows(exact: ExactSearch, max_equals: int) -> RowNumbers | None:
    """The first `max_equals` rows of each group of rows with equal bits; None when these are all
    rows."""
    vectors = np.ascontiguousarray(exact.vectors)
    bits = vectors.view(np.dtype((np.void, vectors.itemsize * vectors.shape[1]))).reshape(-1)
    _, group = np.unique(bits, return_inverse=True)
    order = np.argsort(group, kind="stable")
    nth = np.empty(len(order), np.int64)
    nth[order] = np.arange(len(order)) - np.searchsorted(group[order], group[order])
    findable = np.flatnonzero(nth < max_equals)
    return None if len(findable) == len(order) else findable
