"""The nearest others of every row of a matrix: every pair is compared, at the speed of a float32 matrix product, with the answers of `exact`.

A block of rows against all rows is one product. Of each row of it the largest of some groups of numbers bound the k-th best from below, so that
only the few numbers at or above that bound, less two margins, are computed again in float64 (see `exact` for why that is all of them).
Rows with equal bits have equal neighbours: one of them is compared, and of each such group only as many can be found as are asked for.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from jammi_lab.embedders.blas import cores, one_blas_thread
from jammi_lab.vectors.arrays import Floats
from jammi_lab.vectors.entries import first_equal
from jammi_lab.vectors.exact import Doubles, Exact, Hits, Places

_BLOCK_BYTES = 24 << 20
"""Of approximate similarities that one thread holds at a time."""
_RESCORE = 1 << 16
"""Numbers that are computed in float64 at a time."""
_GROUPS = 16
"""How many groups are formed at least for each neighbour wanted: the more, the closer the bound."""


class Block(NamedTuple):
    """The neighbours of some rows in a run."""

    first: int
    """The first of the rows."""
    hits: Hits
    """For each row the places of its neighbours and their similarities, best first."""


def pair_similarities(vectors: Floats, norms: Doubles, left: Places, right: Places) -> Floats:
    """Exact similarity of each pair of rows: the bits that `Exact.similarities` gives."""
    out = np.empty(len(left), np.float64)
    step = max(1, _RESCORE // max(1, vectors.shape[1]))
    for at in range(0, len(left), step):
        some, others = left[at : at + step], right[at : at + step]
        dots = (vectors[some] * vectors[others].astype(np.float64)).sum(1)
        out[at : at + step] = dots / (norms[some] * norms[others])
    return np.clip(out, -1, 1).astype(np.float32)


def nearest_others(exact: Exact, k: int, *, on_rows: Callable[[int], None] | None = None) -> Iterator[Block]:
    """For every row the `k` most similar other rows, fewer when there are fewer: by falling similarity, then ascending place.

    `on_rows` is told how many rows are done. Blocks come in the order of the rows; who stops asking, or is interrupted, stops the threads.
    """
    search, count = _Pairs(exact, k), len(exact.vectors)
    with one_blas_thread(), contextlib.closing(in_blocks(count, search.block, search.lists, cores())) as blocks:
        for first, hits in blocks:
            yield search.block_of(first, hits, on_rows)


def in_blocks(count: int, step: int, work: Callable[[int, int], Hits], width: int) -> Generator[Block]:
    """The hits of all rows from 0 to `count`, in blocks of `step` rows that `width` threads work on, in their order. Who closes it, or is
    interrupted, stops the threads."""
    pool = ThreadPoolExecutor(min(width, max(1, -(-count // step))), thread_name_prefix="jammi-pairs")
    try:
        yield from _in_order(pool, count, step, work, width)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(pool: ThreadPoolExecutor, count: int, step: int, work: Callable[[int, int], Hits], width: int) -> Generator[Block]:
    """Not loops inside `try`: CPython 3.13 takes an interrupt between two turns past the handlers (python/cpython#130279)."""
    running: deque[tuple[int, Future[Hits]]] = deque()
    for first in range(0, count, step):
        running.append((first, pool.submit(work, first, min(first + step, count))))
        if len(running) > width:
            yield _first(running)
    while running:
        yield _first(running)


def _first(running: "deque[tuple[int, Future[Hits]]]") -> Block:
    at, future = running.popleft()
    return Block(at, future.result())


class _Pairs:
    """The rows of a matrix against each other."""

    def __init__(self, exact: Exact, k: int) -> None:
        if exact.order is not None:
            raise ValueError("rows must stand in the order of their keys")
        vectors, self._norms, self._margin = exact.vectors, exact.norms, exact.margin
        self._vectors = vectors
        self._count = min(k, len(vectors) - 1)
        """Neighbours of each row."""
        self._wanted = self._count + 1
        """What is looked for: with the row itself."""
        self._units = np.empty(vectors.shape, np.float32)
        for at in range(0, len(vectors), 4096):
            some = slice(at, at + 4096)
            self._units[some] = vectors[some] / self._norms[some, None]
        self._first_equal, self._columns = _equal_rows(exact, self._wanted)
        self._has_equals = None if self._first_equal is None else np.bincount(self._first_equal, minlength=len(vectors)) > 1
        self._others = self._units if self._columns is None else self._units[self._columns]
        self.block = int(min(4096, max(16, _BLOCK_BYTES // (4 * max(1, len(self._others))))))
        self._kept: dict[int, tuple[Places, Floats]] = {}
        """The lists of rows that others are equal to."""

    def lists(self, start: int, end: int) -> Hits:
        """For each row of a run that is the first of its kind the best rows, itself among them."""
        rows = np.arange(start, end)
        if self._first_equal is not None:
            rows = rows[self._first_equal[start:end] == rows]
        near = self._units[rows] @ self._others.T
        at, column = self._candidates(near)
        places = column if self._columns is None else self._columns[column]
        similarities = pair_similarities(self._vectors, self._norms, rows[at], places)
        unsure = np.unique(at[np.abs(near[at, column] - similarities) > self._margin])
        if len(unsure):  # never seen; a BLAS that computes in less than float32 would come here
            at, places, similarities = self._all_pairs(rows, at, places, similarities, unsure)
        order = np.lexsort((places, -similarities, at))
        at, places, similarities = at[order], places[order], similarities[order]
        best = np.arange(len(at)) - np.searchsorted(at, at) < self._wanted
        shape = (len(rows), self._wanted)
        return Hits(places[best].reshape(shape), similarities[best].reshape(shape))

    def block_of(self, start: int, found: Hits, on_rows: Callable[[int], None] | None) -> Block:
        """The neighbours of all rows of a run."""
        end = min(start + self.block, len(self._vectors))
        if self._first_equal is not None:
            found = self._spread(start, end, found)
        rows, similarities = found
        # a row that is not in its own list has that many equal ones before it: then the last is one too many
        own = rows == np.arange(start, end)[:, None]
        own[~own.any(1), -1] = True
        shape = (end - start, self._count)
        if on_rows is not None:
            on_rows(end)
        return Block(start, Hits(rows[~own].reshape(shape), similarities[~own].reshape(shape)))

    def _spread(self, start: int, end: int, found: Hits) -> Hits:
        """The lists of first rows, given to those that are equal to them too."""
        assert self._first_equal is not None
        firsts = self._first_equal[start:end]
        rows = np.empty((end - start, self._wanted), np.int64)
        similarities = np.empty((end - start, self._wanted), np.float32)
        new = firsts == np.arange(start, end)
        rows[new], similarities[new] = found
        assert self._has_equals is not None
        for at in np.flatnonzero(new & self._has_equals[start:end]):
            self._kept[start + int(at)] = (rows[at].copy(), similarities[at].copy())
        for at in np.flatnonzero(~new):
            rows[at], similarities[at] = self._kept[int(firsts[at])]
        return Hits(rows, similarities)

    def _candidates(self, near: Floats) -> tuple[Places, Places]:
        """Row and column of every number that may be among the best of its row."""
        count, width = near.shape
        wanted = min(self._wanted, width)
        groups = _GROUPS * wanted
        each = width // groups
        bounds = near if each < 2 else near[:, : each * groups].reshape(count, each, groups).max(1)
        kth = np.partition(bounds, bounds.shape[1] - wanted, axis=1)[:, bounds.shape[1] - wanted]
        least = np.nextafter((kth.astype(np.float64) - 2 * self._margin).astype(np.float32), np.float32(-np.inf))
        flat = np.flatnonzero((near >= least[:, None]).reshape(-1))
        at = flat // width
        return at, flat - at * width

    def _all_pairs(self, rows: Places, at: Places, places: Places, similarities: Floats, unsure: Places) -> tuple[Places, Places, Floats]:
        """The candidates, with every column for the rows whose product is not to be believed."""
        keep = ~np.isin(at, unsure)
        everything = np.arange(len(self._vectors)) if self._columns is None else self._columns
        more = [pair_similarities(self._vectors, self._norms, np.full(len(everything), rows[row]), everything) for row in unsure]
        return (
            np.concatenate([at[keep], np.repeat(unsure, len(everything))]),
            np.concatenate([places[keep], np.tile(everything, len(unsure))]),
            np.concatenate([similarities[keep], *more]),
        )


def _equal_rows(exact: Exact, wanted: int) -> tuple[Places | None, Places | None]:
    """For each row the first one with the same bits, and the rows that can be found: of equal ones only the first `wanted`. None and None when no two
    rows are equal, None for the rows when all of them can be found."""
    first = first_equal(exact)
    if first is None:
        return None, None
    order = np.argsort(first, kind="stable")
    nth = np.empty(len(order), np.int64)
    nth[order] = np.arange(len(order)) - np.searchsorted(first[order], first[order])
    findable = np.flatnonzero(nth < wanted)
    return first, None if len(findable) == len(order) else findable
