"""BM25 over postings (Robertson and Zaragoza 2009): for each term the rows that contain it, with
its share of their score.

The score of a row is the sum over the terms of a query, as often as they occur there, of
ln(1 + (N − n + ½) / (n + ½)) · c · (k1 + 1) / (c + k1 · (1 − b + b · length / mean length)), where
n of N rows contain the term, this one c times.
"""

import bisect
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.features.words.documents import sorted_vocabulary
from jammi_lab.storage.vector_arrays import RowNumbers, to_arrow_rows, to_numpy

_SATURATION_FACTOR, _LENGTH_RATIO = 1.2, 0.75
"""k1 and b."""
Scores = NDArray[np.float64]


class WordHits(NamedTuple):
    """The rows that contain a term of a query, best first."""

    rows: RowNumbers
    scores: Scores


class Postings(NamedTuple):
    """The arrays of an index."""

    terms: pa.Array
    """The terms as large_string, in ascending order."""
    posting_ends: NDArray[np.int64]
    """Where the postings of each term end."""
    rows: NDArray[np.int32]
    """The rows of each posting, ascending within a term."""
    counts: NDArray[np.int32]
    """How often the row of each posting contains the term."""
    lengths: NDArray[np.int32]
    """The number of terms of each row, with repetitions."""


class WordIndex:
    """Postings, ready to search. Read-only and thread-safe."""

    def __init__(self, postings: Postings) -> None:
        self.postings = postings
        self._damping = _damping(postings.lengths)
        """What the count of a term in each row is damped by."""

    @property
    def row_count(self) -> int:
        """The number of documents."""
        return len(self.postings.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in (*self.postings, self._damping))

    @classmethod
    def from_documents(cls, documents: pa.Array) -> "WordIndex":
        """The index of documents: the column `terms` of `documents.SCHEMA`."""
        flat, lengths = _split_terms(documents)
        terms = flat.dictionary_encode()
        vocabulary, ranks = sorted_vocabulary(terms.dictionary)
        codes = ranks[to_numpy(terms.indices)]
        rows = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        # equal terms of a row follow each other
        is_first = np.ones(len(codes), np.bool_)
        is_first[1:] = (codes[1:] != codes[:-1]) | (rows[1:] != rows[:-1])
        starts = np.flatnonzero(is_first)
        counts = np.diff(starts, append=len(codes)).astype(np.int32)
        codes, rows = codes[starts], rows[starts]
        order = np.argsort(codes, kind="stable")
        return cls(
            Postings(
                vocabulary,
                np.cumsum(np.bincount(codes, minlength=len(vocabulary))),
                rows[order],
                counts[order],
                lengths,
            )
        )

    def search(
        self,
        terms: Sequence[str],
        k: int,
        *,
        allow: NDArray[np.bool_] | None = None,
        order: NDArray[np.int64] | None = None,
    ) -> WordHits:
        """The `k` best rows for the terms of a query, by descending score, then ascending row, or
        the row's rank in `order`. Rows that contain none of the terms are no hits."""
        rows, scores = self._scores(terms)
        if allow is not None:
            passing = allow[rows]
            rows, scores = rows[passing], scores[passing]
        if 0 < k < len(rows):
            least = np.partition(scores, len(scores) - k)[len(scores) - k]
            best = scores >= least
            rows, scores = rows[best], scores[best]
        ranked = np.lexsort((rows if order is None else order[rows], -scores))[: max(0, k)]
        return WordHits(rows[ranked], scores[ranked])

    def score_rows(self, terms: Sequence[str], rows: RowNumbers) -> Scores:
        """The scores of some rows; 0 for one that contains none of the terms."""
        found, scores = self._scores(terms)
        if not len(found):
            return np.zeros(len(rows))
        places = np.minimum(np.searchsorted(found, rows), len(found) - 1)
        return np.where(found[places] == rows, scores[places], 0.0)

    def full_score(self, terms: Sequence[str]) -> float:
        """The score of a row of mean length that contains each of the terms as often as the query
        does; terms that no row contains count, too."""
        total = 0.0
        for term, times in Counter(terms).items():
            place = self._find_term(term)
            span = slice(0, 0) if place is None else _span(self.postings.posting_ends, place)
            total += times * _rarity(self.row_count, span.stop - span.start)
        return total

    def _scores(self, terms: Sequence[str]) -> tuple[RowNumbers, Scores]:
        """The rows that contain one of the terms, ascending, and their scores."""
        rows: list[NDArray[np.int32]] = []
        weights: list[Scores] = []
        for term, times in Counter(terms).items():
            if (place := self._find_term(term)) is not None:
                span = _span(self.postings.posting_ends, place)
                term_rows, counts = self.postings.rows[span], self.postings.counts[span]
                rarity = _rarity(self.row_count, span.stop - span.start)
                rows.append(term_rows)
                weights.append(
                    counts
                    * (times * rarity * (_SATURATION_FACTOR + 1))
                    / (counts + self._damping[term_rows])
                )
        if not rows:
            return np.empty(0, np.int64), np.empty(0)
        totals: Scores = np.bincount(np.concatenate(rows), np.concatenate(weights)).astype(
            np.float64, copy=False
        )
        matching_rows = np.flatnonzero(totals).astype(np.int64, copy=False)
        return matching_rows, totals[matching_rows]

    def _find_term(self, term: str) -> int | None:
        """The place of a term among all terms, by bisection; None when no row contains it."""
        terms = self.postings.terms
        place = bisect.bisect_left(terms, term, key=lambda each: each.as_py())
        return place if place < len(terms) and terms[place].as_py() == term else None


def _span(ends: NDArray[np.int64], place: int) -> slice:
    return slice(int(ends[place - 1]) if place else 0, int(ends[place]))


def _rarity(row_count: int, frequency: int) -> float:
    """The weight of a term that so many of the rows contain."""
    return math.log1p((row_count - frequency + 0.5) / (frequency + 0.5))


def _damping(lengths: NDArray[np.int32]) -> Scores:
    """k1 · (1 − b + b · length / mean length) of each row."""
    mean = float(lengths.mean(dtype=np.float64)) if len(lengths) else 0.0
    relative_lengths: Scores = lengths / np.float64(mean or 1.0)
    return _SATURATION_FACTOR * (1 - _LENGTH_RATIO + _LENGTH_RATIO * relative_lengths)


def _split_terms(terms: pa.Array) -> tuple[pa.Array, NDArray[np.int32]]:
    """The terms of all documents, one after the other, and the number of each one's."""
    # splitting an empty text gives one empty part; a comparison with "" would import pandas
    filled = np.flatnonzero(to_numpy(pc.binary_length(terms)))
    lists = pc.split_pattern(terms.take(to_arrow_rows(filled)), pattern=" ")
    lengths = np.zeros(len(terms), np.int32)
    lengths[filled] = to_numpy(lists.value_lengths())
    return lists.flatten(), lengths
