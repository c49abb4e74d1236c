"""The approximate index of one table: a graph over its vectors at a storage precision. It gives candidates, which are rescored exactly.

What an index is good for is measured when it is made: some rows are asked for before they are put in, and the least expansion that finds
`_TARGET` of their true neighbours is kept. Vectors without any structure (uniform ones of hundreds of dimensions) have no such expansion that
would be less work than reading everything; there the index says so, and all vectors of the table are read.
"""

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jammi_lab.embedders.blas import cores
from jammi_lab.vectors.arrays import Floats
from jammi_lab.vectors.coding import Coding, units
from jammi_lab.vectors.entries import Entries, first_equal
from jammi_lab.vectors.exact import Places
from jammi_lab.vectors.streamed import Rows

if TYPE_CHECKING:
    from usearch.index import Index

_TARGET = 0.996
"""Of the true neighbours of held-out rows, so that 0.99 is found with room to spare."""
_SAMPLE = 192
NEIGHBOURS = 10
"""Of each held-out row that are looked for."""
_SAME = np.float32(1 - 2**-20)
"""A similarity from which on two rows have one direction."""
_ASIDE = 0.8
"""How far aside of a row that is there many times is asked, against its length."""
_EXPANSIONS = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_WORTH = 32
"""Reading so many vectors in a row costs about as much as one step of an expansion in the graph."""
_ALONE = 4096
"""Entries that one thread puts in before others help: what two put into a small graph at once may be reached from nowhere."""
_CHUNK = 2048
"""Vectors that are put in, and queries that are asked, between two moments at which the work can be stopped."""
Advance = Callable[[int], None]
"""Told how many vectors are in; may raise to stop."""


@dataclass(frozen=True)
class Parameters:
    """How an index is made."""

    precision: str
    """bf16, f16, i8 or f32."""
    connectivity: int
    """Edges of a vector in the graph."""
    build_expansion: int
    """How widely the place of a new vector is searched for."""


@dataclass(frozen=True)
class Shape:
    """What an index holds and how it is asked: all that is needed beside its bytes."""

    parameters: Parameters
    dimensions: int
    count: int
    """Rows of the table that are in it."""
    coding: Coding
    """What it stores of a vector."""
    expansion: int
    """How widely the graph is searched; 0 where reading every vector is less work."""
    removed: int = 0
    """Vectors that were taken out since it was made anew."""


class Ann:
    """Candidates for the rows most similar to a query. May be shared between threads."""

    def __init__(self, index: "Index", shape: Shape, entries: Entries | None = None, body: Any = None) -> None:
        """`entries`: the rows of each entry; None where each row is one, under its own number. `body`: the bytes that it lives in."""
        self.shape, self._index, self._entries, self._body = shape, index, entries, body
        self._lock = threading.Lock()

    @property
    def numbers(self) -> Places | None:
        """The number of the entry of each row; None where each row is one, under its own number."""
        return None if self._entries is None else self._entries.numbers

    def taken(self) -> Any:
        """The bytes that it lived in, if any, which nothing holds here any more, nor the graph: it finds nothing from now on."""
        with self._lock:
            self._index, body, self._body = _empty(self.shape, lookups=False), self._body, None
        return body

    def again(self) -> "Ann | None":
        """Another one over the same bytes, if it lives in any: what is done with it leaves this one as it is."""
        return None if self._body is None else restored(self._body, self.shape, self.numbers)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        body, entries = (0 if self._body is None else len(self._body)), (0 if self._entries is None else self._entries.nbytes)
        return body + entries + int(self._index.memory_usage)

    @property
    def expansion(self) -> int:
        """How widely the graph is searched; 0 where reading every vector is less work."""
        return self.shape.expansion

    def save(self, path: Path) -> None:
        """Write what `restored` makes an equal index of; nothing is held beside the index. OSError."""
        try:
            with _stoppable():
                self._index.save(path)
        except RuntimeError as error:
            raise OSError(errno.EIO, str(error), str(path)) from error
        if path.stat().st_size != self._index.serialized_length:
            raise OSError(errno.EIO, "the index is not there as a whole", str(path))

    def candidates(self, units: Floats, count: int, *, expansion: int = 0, threads: int = 1) -> Places:
        """(queries, at most `count`) rows, the likely nearest of each query first; −1 where there are fewer. `units`: queries of unit length.
        `expansion`: another one than the one that was measured."""
        width = min(count, self.shape.count)
        wide = expansion or self.shape.expansion
        out = np.full((len(units), width), -1, np.int64)
        if not width:
            return out
        asked, most = self.shape.coding.queries(units), min(width, len(self._index))
        for at in range(0, len(units), _CHUNK):
            some = asked[at : at + _CHUNK]
            with self._lock:  # an index has one set of working memory for each of its own threads, not of ours
                self._index.expansion_search = max(wide, 1)  # type: ignore[misc]  # its setter is not typed as one
                with _stoppable():
                    found = self._index.search(some, most, exact=wide == 0, threads=threads)
            keys = found.keys.reshape(len(some), -1).astype(np.int64)
            counts = getattr(found, "counts", None)
            if counts is not None:  # of several queries
                keys[np.arange(keys.shape[1]) >= counts[:, None]] = -1
            if self._entries is not None:
                out[at : at + _CHUNK] = self._entries.rows_of(keys, width)
            else:
                out[at : at + _CHUNK, : keys.shape[1]] = keys
        return out


def build(vectors: Rows, parameters: Parameters, oversample: int, advance: Advance) -> Ann:
    """An index of all rows. What `advance` raises ends it. SchemaMismatch, TableDamaged."""
    n, width = vectors.shape
    same = first_equal(vectors)
    rows = np.arange(n) if same is None else np.unique(same)
    entries = None if same is None else Entries(np.searchsorted(rows, same))
    held = np.sort(np.random.default_rng(0).choice(len(rows), min(_SAMPLE, len(rows) // 8), replace=False))
    there = ~np.isin(np.arange(n) if entries is None else entries.numbers, held)
    shape = Shape(parameters, width, int(there.sum()), Coding.of(vectors, parameters.precision), 0)
    index = _empty(shape, lookups=False)
    put = _Putting(index, vectors, shape.coding, advance, done=n - len(rows))
    put.rows(np.delete(rows, held), np.delete(np.arange(len(rows)), held))
    expansion = _measured(Ann(index, shape, entries), vectors, rows[held], there, oversample)
    put.rows(rows[held], held)
    return Ann(index, replace(shape, count=n, expansion=expansion), entries)


def appended(old: Ann, vectors: Rows, kept: Places, oversample: int, advance: Advance) -> Ann:
    """An index of all rows, made from that of an earlier version, which finds nothing afterwards. `kept`: for each row of the earlier version its
    row now, −1 where it is gone or has another vector. What `advance` raises ends it. SchemaMismatch, TableDamaged."""
    n = vectors.shape[0]
    index = _empty(old.shape, lookups=True)
    index.load(old.taken())  # so that its bytes go before others come
    before = np.arange(len(kept)) if old.numbers is None else old.numbers
    numbers: Places = np.full(n, -1, np.int64)
    numbers[kept[kept >= 0]] = before[kept >= 0]
    gone = np.setdiff1d(before, numbers)
    if len(gone):
        index.remove(gone.astype(np.uint64))
    same = first_equal(vectors)
    first: Places = np.arange(n) if same is None else same
    entry: Places = np.full(n, -1, np.int64)
    entry[first[numbers >= 0]] = numbers[numbers >= 0]
    new = np.setdiff1d(first, first[numbers >= 0])
    entry[new] = np.arange(len(new)) + before.max() + 1
    entries, there = Entries(entry[first]), ~np.isin(first, new)
    shape = replace(old.shape, count=int(there.sum()), removed=old.shape.removed + len(gone))
    expansion = shape.expansion
    if len(new) >= _SAMPLE:
        expansion = _measured(Ann(index, shape, entries), vectors, new[:: len(new) // _SAMPLE][:_SAMPLE], there, oversample)
    _Putting(index, vectors, shape.coding, advance, done=n - len(new)).rows(new, entry[new])
    return Ann(index, replace(shape, count=n, expansion=expansion), entries)


def restored(body: Any, shape: Shape, numbers: Places | None) -> Ann | None:
    """The index in bytes that are known to be those that were written; None when they hold another one. The bytes are not copied."""
    from usearch.index import Index

    found = Index.restore(body, view=True, enable_key_lookups=False)
    if found is None or found.dtype.name.lower() != shape.parameters.precision or _metric(found) != shape.coding.metric:
        return None
    rows = shape.count if numbers is None else len(numbers)
    if rows != shape.count or found.ndim != shape.dimensions:
        return None
    entries = None if numbers is None else Entries(numbers)
    return None if len(found) != (rows if entries is None else len(entries)) else Ann(found, shape, entries, body)


def _metric(index: "Index") -> str:
    return str(getattr(index.metric_kind, "name", "")).lower()


class _Putting:
    """Puts rows into an index, some at a time."""

    def __init__(self, index: "Index", vectors: Rows, coding: Coding, advance: Advance, done: int = 0) -> None:
        """`done`: rows that are in before the first."""
        self._index, self._vectors, self._coding, self._advance, self._done = index, vectors, coding, advance, done

    def rows(self, rows: Places, numbers: Places) -> None:
        """Put rows in, under numbers."""
        for at in range(0, len(rows), _CHUNK):
            some = rows[at : at + _CHUNK]
            stored = self._coding.rows(self._vectors.at(some))
            with _stoppable():
                threads = cores() if len(self._index) >= _ALONE else 1
                self._index.add(numbers[at : at + _CHUNK].astype(np.uint64), stored, threads=threads)
            self._done += len(some)
            self._advance(self._done)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """A call of usearch: it looks for an interrupt itself, swallows it, and says a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        if "has been terminated" in str(error):
            raise KeyboardInterrupt from None
        raise


def _empty(shape: Shape, *, lookups: bool) -> "Index":
    from usearch.index import Index

    return Index(
        ndim=shape.dimensions,
        metric=shape.coding.metric,
        dtype=shape.parameters.precision,
        connectivity=shape.parameters.connectivity,
        expansion_add=shape.parameters.build_expansion,
        enable_key_lookups=lookups,
    )


def _measured(ann: Ann, vectors: Rows, held: Places, there: NDArray[np.bool_], oversample: int) -> int:
    """The least expansion with which the true neighbours of held-out rows are found among the rows that are in; 0 when none is worth it."""
    if not len(held):
        return _EXPANSIONS[0]
    k = min(NEIGHBOURS, ann.shape.count)
    queries = vectors.at(held)
    least = vectors.kth(queries, k, there)
    if (twins := np.flatnonzero(least > _SAME)).size:
        queries = queries.copy()
        queries[twins] = _aside(queries[twins])
        least[twins] = vectors.kth(queries[twins], k, there)
    asked = units(queries)
    for expansion in _worth(ann.shape.count):
        rows = ann.candidates(asked, k * oversample, expansion=expansion, threads=cores())
        found = vectors.pairs(queries, rows) >= least[:, None]  # rows that are as near as the k-th count, whichever of them was meant
        if np.minimum(found.sum(1), k).mean() >= _TARGET * k:
            return expansion
    return 0


def _aside(vectors: Floats) -> Floats:
    """Directions near those of some vectors. A row that is there k times over is found by itself however badly its graph hangs together: equal rows
    have edges to each other only. A question from outside is what shows it."""
    here = units(vectors)
    away = np.random.default_rng(0).standard_normal(here.shape, np.float32)
    return here + away * np.float32(_ASIDE / np.sqrt(here.shape[1]))


def _worth(count: int) -> Iterator[int]:
    """The expansions that are less work than reading everything; a few for a small table, where nothing is much work."""
    for expansion in _EXPANSIONS:
        if expansion <= max(_EXPANSIONS[2], count // _WORTH):
            yield expansion
