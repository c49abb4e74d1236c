"""BM25 over postings (Robertson and Zaragoza 2009): for each term the rows that contain it, with
its share of their score.

The score of a row is the sum over the terms of a query, as often as they occur there, of
ln(1 + (N − n + ½) / (n + ½)) · c · (k1 + 1) / (c + k1 · (1 − b + b · length / mean length)), where
n of N rows contain the term, this one c times.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jammi_lab.vectors.arrays import to_numpy
from jammi_lab.vectors.exact_search import RowNumbers
from jammi_lab.words.documents import sorted_vocabulary

_SATURATION_FACTOR, _LENGTH_RATIO = 1.2, 0.75
"""k1 and b."""
Scores = NDArray[np.float64]


class WordHits(NamedTuple):
    """The rows that contain a term of a query, best first."""

    rows: RowNumbers
    scores: Scores


class Postings(NamedTuple):
    """The arrays of an index; they may be mapped from a file."""

    term_bytes: NDArray[np.uint8]
    """The terms as UTF-8, one after the other, in ascending order."""
    term_ends: NDArray[np.int64]
    """Where each term ends."""
    posting_ends: NDArray[np.int64]
    """Where the postings of each term end."""
    rows: NDArray[np.int32]
    """The rows of each posting, ascending within a term."""
    weights: Scores
    """The share of each posting in the score of its row."""

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All arrays, in their order."""
        return tuple(self)


class WordIndex:
    """Postings, ready to search. Read-only and thread-safe."""

    def __init__(self, postings: Postings, row_count: int) -> None:
        self.postings, self.row_count = postings, row_count

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.postings.arrays)

    @classmethod
    def from_documents(cls, documents: Iterable[pa.RecordBatch | pa.Table]) -> "WordIndex":
        """The index of documents with the columns of `documents.SCHEMA`."""
        parts = [batch for each in documents for batch in _as_batches(each)]
        terms = pa.chunked_array(
            [batch["terms"].flatten().dictionary_encode() for batch in parts],
            pa.dictionary(pa.int32(), pa.string()),
        ).unify_dictionaries()
        dictionary = terms.chunk(0).dictionary if terms.num_chunks else pa.array([], pa.string())
        vocabulary, ranks = sorted_vocabulary(dictionary)
        codes = ranks[_concatenate([to_numpy(chunk.indices) for chunk in terms.chunks])]
        counts = _concatenate([to_numpy(b["counts"].flatten()) for b in parts])
        lengths = _concatenate([to_numpy(b["length"]) for b in parts])
        term_counts = _concatenate([to_numpy(b["terms"].value_lengths()) for b in parts])
        rows = np.repeat(np.arange(len(lengths), dtype=np.int32), term_counts)
        frequencies = np.bincount(codes, minlength=len(vocabulary))
        weights = _weights(codes, counts, rows, lengths, frequencies)
        order = np.argsort(codes, kind="stable")
        encoded = [term.encode() for term in vocabulary.to_pylist()]
        return cls(
            Postings(
                np.frombuffer(b"".join(encoded), np.uint8),
                np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded))),
                np.cumsum(frequencies).astype(np.int64, copy=False),
                rows[order],
                weights[order],
            ),
            len(lengths),
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
            total += times * float(_rarity(self.row_count, np.array(span.stop - span.start)))
        return total

    def _scores(self, terms: Sequence[str]) -> tuple[RowNumbers, Scores]:
        """The rows that contain one of the terms, ascending, and their scores."""
        rows: list[NDArray[np.int32]] = []
        weights: list[Scores] = []
        for term, times in Counter(terms).items():
            if (place := self._find_term(term)) is not None:
                span = _span(self.postings.posting_ends, place)
                rows.append(self.postings.rows[span])
                weights.append(self.postings.weights[span] * times)
        if not rows:
            return np.empty(0, np.int64), np.empty(0)
        all_rows = np.concatenate(rows)
        totals = np.bincount(all_rows, np.concatenate(weights)).astype(np.float64, copy=False)
        matching_rows = np.flatnonzero(totals).astype(np.int64, copy=False)
        scores: Scores = totals[matching_rows]
        return matching_rows, scores

    def _find_term(self, term: str) -> int | None:
        """The place of a term among all terms, by bisection; None when no row contains it."""
        wanted, low, high = term.encode(), 0, len(self.postings.term_ends)
        while low < high:
            middle = (low + high) // 2
            current = self.postings.term_bytes[_span(self.postings.term_ends, middle)].tobytes()
            if current == wanted:
                return middle
            low, high = (middle + 1, high) if current < wanted else (low, middle)
        return None


def _span(ends: NDArray[np.int64], place: int) -> slice:
    return slice(int(ends[place - 1]) if place else 0, int(ends[place]))


def _rarity(row_count: int, frequencies: NDArray[np.int64]) -> Scores:
    """The weight of terms that so many of the rows contain."""
    rarity: Scores = np.log1p((row_count - frequencies + 0.5) / (frequencies + 0.5))
    return rarity


def _weights(
    codes: NDArray[np.int64],
    counts: NDArray[np.int32],
    rows: NDArray[np.int32],
    lengths: NDArray[np.int32],
    frequencies: NDArray[np.int64],
) -> Scores:
    """The share of each posting in the score of its row."""
    mean = float(lengths.mean(dtype=np.float64)) if len(lengths) else 0.0
    relative_lengths = lengths / (mean or 1.0)
    damping = _SATURATION_FACTOR * (1 - _LENGTH_RATIO + _LENGTH_RATIO * relative_lengths)
    rarity = _rarity(len(lengths), frequencies)
    weights: Scores = rarity[codes] * (counts * (_SATURATION_FACTOR + 1) / (counts + damping[rows]))
    return weights


def _as_batches(documents: pa.RecordBatch | pa.Table) -> list[pa.RecordBatch]:
    return documents.to_batches() if isinstance(documents, pa.Table) else [documents]


def _concatenate(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.empty(0, np.int32)
