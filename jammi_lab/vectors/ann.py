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
from jammi_lab.errors import SchemaMismatch
from jammi_lab.vectors.arrays import Floats
from jammi_lab.vectors.exact import Places, norms_of
from jammi_lab.vectors.streamed import Rows

if TYPE_CHECKING:
    from usearch.index import Index

METRIC = "ip"
"""Of vectors of unit length: 1 − the cosine of the angle."""
_TARGET = 0.996
"""Of the true neighbours of held-out rows, so that 0.99 is found with room to spare."""
_SAMPLE, _NEIGHBOURS = 192, 10
_SAME = np.float32(1 - 2**-20)
"""A similarity from which on two rows have one direction."""
_ASIDE = 0.8
"""How far aside of a row that is there many times is asked, against its length."""
_EXPANSIONS = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_WORTH = 32
"""Reading so many vectors in a row costs about as much as one step of an expansion in the graph."""
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
    """Vectors in it: rows of the table."""
    scale: float
    """What a component of a unit vector is multiplied with, where whole numbers are stored; else 1."""
    expansion: int
    """How widely the graph is searched; 0 where reading every vector is less work."""
    removed: int = 0
    """Vectors that were taken out since it was made anew."""


class Ann:
    """Candidates for the rows most similar to a query. May be shared between threads."""

    def __init__(self, index: "Index", shape: Shape, rows: Places | None = None, body: Any = None) -> None:
        """`rows`: the row of each number that the index knows, −1 for none; None where these are the same. `body`: the bytes that it lives in."""
        self.shape, self._index, self._rows, self._body = shape, index, rows, body
        self._lock = threading.Lock()

    @property
    def rows(self) -> Places | None:
        """The row of each number that the index knows; None where they are the same."""
        return self._rows

    def _row_of(self, numbers: NDArray[np.uint64]) -> Places:
        places = numbers.astype(np.int64)
        return places if self._rows is None else self._rows[np.minimum(places, len(self._rows) - 1)]

    def taken(self) -> Any:
        """The bytes that it lived in, if any, which nothing holds here any more, nor the graph: it finds nothing from now on."""
        with self._lock:
            self._index, body, self._body = _empty(self.shape.dimensions, self.shape.parameters, lookups=False), self._body, None
        return body

    def again(self) -> "Ann | None":
        """Another one over the same bytes, if it lives in any: what is done with it leaves this one as it is."""
        return None if self._body is None else restored(self._body, self.shape, self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return (len(self._body) if self._body is not None else 0) + int(self._index.memory_usage) + (0 if self._rows is None else self._rows.nbytes)

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
        asked = _encoded(units, "i8", _each(units)) if self.shape.parameters.precision == "i8" else units
        for at in range(0, len(units), _CHUNK):
            some = asked[at : at + _CHUNK]
            with self._lock:  # an index has one set of working memory for each of its own threads, not of ours
                self._index.expansion_search = max(wide, 1)  # type: ignore[misc]  # its setter is not typed as one
                with _stoppable():
                    found = self._index.search(some, width, exact=wide == 0, threads=threads)
            counts = getattr(found, "counts", None)
            if counts is None:  # of one query
                out[at, : found.keys.size] = self._row_of(found.keys.reshape(-1))
            else:
                there = np.arange(found.keys.shape[1]) < counts[:, None]
                out[at : at + _CHUNK, : found.keys.shape[1]] = np.where(there, self._row_of(found.keys), -1)
        return out


def build(vectors: Rows, parameters: Parameters, oversample: int, advance: Advance) -> Ann:
    """An index of all rows. What `advance` raises ends it. TableDamaged."""
    n, width = vectors.shape
    scale = _scale(vectors, parameters.precision)
    index = _empty(width, parameters, lookups=False)
    held = np.sort(np.random.default_rng(0).choice(n, min(_SAMPLE, n // 8), replace=False))
    first = np.ones(n, np.bool_)
    first[held] = False
    put = _Putting(index, vectors, parameters.precision, scale, advance)
    put.rows(np.flatnonzero(first))
    ann = Ann(index, Shape(parameters, width, n - len(held), scale, 0))
    expansion = _measured(ann, vectors, held, first, oversample)
    put.rows(held)
    return Ann(index, replace(ann.shape, count=n, expansion=expansion))


def appended(old: Ann, vectors: Rows, kept: Places, oversample: int, advance: Advance) -> Ann:
    """An index of all rows, made from that of an earlier version, which finds nothing afterwards. `kept`: for each row of the earlier version its
    row now, −1 where it is gone or has another vector. What `advance` raises ends it. TableDamaged."""
    parameters, n = old.shape.parameters, vectors.shape[0]
    index = _empty(old.shape.dimensions, parameters, lookups=True)
    index.load(old.taken())  # so that its bytes go before others come
    numbers = np.arange(len(kept)) if old.rows is None else old.rows
    now = np.where(numbers >= 0, kept[numbers], -1)
    gone = np.flatnonzero((numbers >= 0) & (now < 0))
    if len(gone):
        index.remove(gone.astype(np.uint64))
    new = np.setdiff1d(np.arange(n), now[now >= 0])
    rows = np.concatenate([now, new])
    ann = Ann(index, replace(old.shape, count=n - len(new), removed=old.shape.removed + len(gone)), now)
    expansion = ann.expansion
    if len(new) >= _SAMPLE:
        there = np.zeros(n, np.bool_)
        there[now[now >= 0]] = True
        expansion = _measured(ann, vectors, new[:: len(new) // _SAMPLE][:_SAMPLE], there, oversample)
    _Putting(index, vectors, parameters.precision, old.shape.scale, advance, done=ann.shape.count).rows(new, len(now))
    return Ann(index, replace(ann.shape, count=n, expansion=expansion), rows)


def restored(body: Any, shape: Shape, rows: Places | None) -> Ann | None:
    """The index in bytes that are known to be those that were written; None when they hold another one. The bytes are not copied."""
    from usearch.index import Index

    found = Index.restore(body, view=True, enable_key_lookups=False)
    numbers = shape.count if rows is None else int((rows >= 0).sum())
    if found is None or found.dtype.name.lower() != shape.parameters.precision or str(getattr(found.metric_kind, "name", "")).lower() != METRIC:
        return None
    if (found.ndim, len(found), numbers) != (shape.dimensions, shape.count, shape.count):
        return None
    return Ann(found, shape, rows, body)


def units_of(vectors: Floats, norms: NDArray[np.float64]) -> Floats:
    """(n, d) float32 of length 1, whatever the size of the vectors."""
    return (vectors / norms[:, None]).astype(np.float32)


def _units(vectors: Floats) -> Floats:
    """The same, of vectors whose norms nobody knows yet. SchemaMismatch."""
    norms = norms_of(vectors)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise SchemaMismatch("A vector has no direction.", column="vector", expected="finite, not all zero", actual="not finite, or all zero")
    return units_of(vectors, norms)


def version() -> str:
    """The version of usearch, as far as the layout of its files may depend on it."""
    import usearch

    return ".".join(usearch.__version__.split(".")[:2])


class _Putting:
    """Puts rows into an index, some at a time."""

    def __init__(self, index: "Index", vectors: Rows, precision: str, scale: float, advance: Advance, done: int = 0) -> None:
        self._index, self._vectors, self._precision, self._scale, self._advance, self._done = index, vectors, precision, scale, advance, done

    def rows(self, rows: Places, first: int | None = None) -> None:
        """Put rows in, under their own numbers, or under consecutive ones from `first`."""
        numbers = rows if first is None else np.arange(first, first + len(rows))
        for at in range(0, len(rows), _CHUNK):
            some = rows[at : at + _CHUNK]
            units = _units(self._vectors.at(some))
            with _stoppable():
                self._index.add(numbers[at : at + _CHUNK].astype(np.uint64), _encoded(units, self._precision, self._scale), threads=cores())
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


def _empty(dimensions: int, parameters: Parameters, *, lookups: bool) -> "Index":
    from usearch.index import Index

    return Index(
        ndim=dimensions,
        metric=METRIC,
        dtype=parameters.precision,
        connectivity=parameters.connectivity,
        expansion_add=parameters.build_expansion,
        enable_key_lookups=lookups,
    )


def _measured(ann: Ann, vectors: Rows, held: Places, there: NDArray[np.bool_], oversample: int) -> int:
    """The least expansion with which the true neighbours of held-out rows are found among the rows that are in; 0 when none is worth it."""
    if not len(held):
        return _EXPANSIONS[0]
    k = min(_NEIGHBOURS, ann.shape.count)
    queries = vectors.at(held)
    least = vectors.kth(queries, k, there)
    if (twins := np.flatnonzero(least > _SAME)).size:
        queries = queries.copy()
        queries[twins] = _aside(queries[twins])
        least[twins] = vectors.kth(queries[twins], k, there)
    units = _units(queries)
    for expansion in _worth(ann.shape.count):
        rows = ann.candidates(units, k * oversample, expansion=expansion, threads=cores())
        found = vectors.pairs(queries, rows) >= least[:, None]  # rows that are as near as the k-th count, whichever of them was meant
        if np.minimum(found.sum(1), k).mean() >= _TARGET * k:
            return expansion
    return 0


def _aside(vectors: Floats) -> Floats:
    """Directions near those of some vectors. A row that is there k times over is found by itself however badly its graph hangs together: equal rows
    have edges to each other only. A question from outside is what shows it."""
    units = _units(vectors)
    away = np.random.default_rng(0).standard_normal(units.shape, np.float32)
    return units + away * np.float32(_ASIDE / np.sqrt(units.shape[1]))


def _worth(count: int) -> Iterator[int]:
    """The expansions that are less work than reading everything; a few for a small table, where nothing is much work."""
    for expansion in _EXPANSIONS:
        if expansion <= max(_EXPANSIONS[2], count // _WORTH):
            yield expansion


def _scale(vectors: Rows, precision: str) -> float:
    """What makes the largest component of a unit vector the largest whole number that is stored."""
    if precision != "i8":
        return 1.0
    largest = 0.0
    for at in range(0, vectors.shape[0], _CHUNK):
        part = vectors.at(np.arange(at, min(at + _CHUNK, vectors.shape[0])))
        largest = max(largest, float((np.abs(part).max(1) / norms_of(part)).max()))
    return 127.0 / largest


def _each(units: Floats) -> NDArray[np.float32]:
    """A scale for each query: their own sizes do not change the order of what they find."""
    scales: NDArray[np.float32] = 127 / np.abs(units).max(1, keepdims=True)
    return scales


def _encoded(units: Floats, precision: str, scale: float | NDArray[np.float32]) -> NDArray[Any]:
    """Unit vectors as they are handed over: whole numbers that use the whole range for i8, else as they are."""
    if precision != "i8":
        return units
    whole: NDArray[np.int8] = np.clip(np.rint(units * scale), -127, 127).astype(np.int8)
    return whole
