"""Search by meaning and words: candidates of both sides, ranked by one value.

A row's value is its similarity plus 1.5 times the sixth power of its share of the query's words:
its BM25 score over the score of a row of mean length that holds every word of the query once, at
most 1. So a row that holds nearly all words of a query, as for a code or a name, comes first, and
otherwise meaning decides. Reciprocal rank fusion lost up to a third of the better side
(docs/why/words.md has the measurements).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jammi_lab.core.errors import SchemaMismatch
from jammi_lab.storage.vector_arrays import (
    find_rows,
    storage_array,
    to_arrow,
    to_arrow_rows,
    to_numpy,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jammi_lab.features.vectors.matrix import Matrix
    from jammi_lab.features.words.word_tables import WordTable
    from jammi_lab.storage.vector_arrays import RowNumbers

_WORDS_FACTOR, _SHARE_EXPONENT_FACTOR = 1.5, 6
_MIN_CANDIDATES_COUNT = 100
_CANDIDATES_FACTOR = 10
"""Candidates of each side for each hit."""
OUTPUT_VERSION = 1
"""Increment when the same candidates would be ranked otherwise."""


def candidate_count(k: int) -> int:
    """The number of candidates of each side for `k` hits."""
    return max(_MIN_CANDIDATES_COUNT, _CANDIDATES_FACTOR * k)


@dataclass(frozen=True)
class TablePair:
    """A table of vectors and one of words, whose rows belong together by key."""

    matrix: "Matrix"
    words: "WordTable"
    has_equal_keys: bool
    """Whether both have the same keys in the same order, so that their row numbers are equal."""

    @classmethod
    def from_tables(
        cls, matrix: "Matrix", words: "WordTable", names: tuple[str, str]
    ) -> "TablePair":
        """SchemaMismatch for keys of different types; `names`: those of the tables, for it."""
        mine, theirs = storage_array(matrix.keys), storage_array(words.keys.keys)
        if mine.type != theirs.type:
            raise SchemaMismatch(
                f"The keys of {names[0]!r} and {names[1]!r} have different types.",
                column="key",
                expected=str(mine.type),
                actual=str(theirs.type),
                hint="Create both from the same source with the same key.",
            )
        return cls(matrix, words, mine.equals(theirs))

    def rank(
        self,
        query: "NDArray[np.float32]",
        terms: Sequence[str],
        meaning_rows: "RowNumbers",
        word_rows: "RowNumbers",
        k: int,
    ) -> pa.Table:
        """The `k` best of the candidates of both sides, which come best first: key, score,
        similarity, rank_meaning, rank_words."""
        index = self.words.index
        keys, rows, rows_of_words = self._union(meaning_rows, word_rows)
        similarities = self.matrix.pairs(query.reshape(1, -1), rows[None])[0]
        scores = index.score_rows(terms, np.maximum(rows_of_words, 0))
        scores[rows_of_words < 0] = 0.0
        shares = np.minimum(1.0, scores / (index.full_score(terms) or 1.0))
        values = np.where(rows >= 0, similarities, 0.0) + _WORDS_FACTOR * (
            shares**_SHARE_EXPONENT_FACTOR
        )
        key_order = np.empty(len(keys), np.int64)
        key_order[to_numpy(pc.sort_indices(storage_array(keys))).astype(np.int64)] = np.arange(
            len(keys)
        )
        best = np.lexsort((key_order, -values))[:k]
        meaning_ranks, word_ranks = np.zeros(len(keys), np.int32), np.zeros(len(keys), np.int32)
        meaning_ranks[: len(meaning_rows)] = np.arange(1, len(meaning_rows) + 1)
        places = np.full(int(rows_of_words.max(initial=-1)) + 1, -1, np.int64)
        known = rows_of_words >= 0
        places[rows_of_words[known]] = np.flatnonzero(known)
        word_ranks[places[word_rows]] = np.arange(1, len(word_rows) + 1)
        return pa.table(
            {
                "key": keys.take(to_arrow_rows(best)),
                "score": _nullable(scores[best], rows_of_words[best] < 0),
                "similarity": _nullable(similarities[best], rows[best] < 0),
                "rank_meaning": _nullable(meaning_ranks[best], meaning_ranks[best] == 0),
                "rank_words": _nullable(word_ranks[best], word_ranks[best] == 0),
            }
        )

    def _union(
        self, meaning_rows: "RowNumbers", word_rows: "RowNumbers"
    ) -> "tuple[pa.Array, RowNumbers, RowNumbers]":
        """The keys of all candidates, those of meaning first, with their rows in both tables, −1
        where one has no such key."""
        if self.has_equal_keys:
            others = word_rows[~np.isin(word_rows, meaning_rows)]
            rows = np.concatenate([meaning_rows, others])
            return self.matrix.keys_at(rows), rows, rows
        mine, theirs = storage_array(self.matrix.keys), storage_array(self.words.keys.keys)
        rows_of_theirs = find_rows(theirs.take(to_arrow_rows(word_rows)), mine)
        is_other = ~np.isin(rows_of_theirs, meaning_rows)
        keys = pa.concat_arrays(
            [
                self.matrix.keys.take(to_arrow_rows(meaning_rows)),
                self.words.keys.keys.take(to_arrow_rows(word_rows[is_other])),
            ]
        )
        rows = np.concatenate([meaning_rows, rows_of_theirs[is_other]])
        return keys, rows, find_rows(keys, theirs)


def _nullable(values: "NDArray[Any]", is_null: "NDArray[np.bool_]") -> pa.Array:
    """Numbers, some of which are NULL."""
    array, validity = to_arrow(values), pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    return pa.Array.from_buffers(array.type, len(array), [validity, array.buffers()[1]])
