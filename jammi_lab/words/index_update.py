"""The index of a table from that of an earlier version: the postings of rows that did not change
are taken over. The result is equal, array by array, to one made from the documents."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.vectors.arrays import to_arrow_rows, to_numpy
from jammi_lab.vectors.exact_search import RowNumbers
from jammi_lab.vectors.matrix import find_rows
from jammi_lab.words.documents import sorted_vocabulary
from jammi_lab.words.word_index import Postings, WordIndex, pack_terms

_MIN_UNCHANGED_SHARE = 0.5
"""Where fewer rows are unchanged, an index is made from the documents in less time."""


def unchanged_rows(
    keys: pa.Array, terms: pa.Array, earlier_keys: pa.Array, earlier_terms: pa.Array
) -> RowNumbers | None:
    """For each row the earlier row with its key and its terms, or −1; None where an update does not
    pay."""
    sources = find_rows(keys, earlier_keys)
    known = np.flatnonzero(sources >= 0)
    is_equal = pc.equal(
        terms.take(to_arrow_rows(known)), earlier_terms.take(to_arrow_rows(sources[known]))
    )
    sources[known[~to_numpy(is_equal)]] = -1
    kept = sources[sources >= 0]
    is_ordered = bool((np.diff(kept) > 0).all())
    return sources if is_ordered and len(kept) >= _MIN_UNCHANGED_SHARE * len(keys) else None


def update_index(earlier: WordIndex, terms: pa.Array, sources: RowNumbers) -> WordIndex:
    """The index of the documents `terms`, given the earlier row of each unchanged one, ascending,
    and −1 for the others."""
    old, changed, unchanged = (
        earlier.postings,
        np.flatnonzero(sources < 0),
        np.flatnonzero(sources >= 0),
    )
    added = WordIndex.from_documents([terms.take(to_arrow_rows(changed))]).postings
    vocabulary, old_ranks, added_ranks = _merge_vocabularies(old, added)

    row_of = np.full(len(old.lengths), -1, np.int32)
    row_of[sources[unchanged]] = unchanged
    rows = row_of[old.rows]
    is_kept = rows >= 0
    rows, codes = rows[is_kept], _codes(old, old_ranks)[is_kept]
    added_rows = changed.astype(np.int32)[added.rows]
    added_codes = _codes(added, added_ranks)
    # both are ascending by term, then row
    places = np.searchsorted(
        codes * len(terms) + rows, added_codes * len(terms) + added_rows.astype(np.int64)
    )
    frequencies = np.bincount(codes, minlength=len(vocabulary))
    frequencies += np.bincount(added_codes, minlength=len(vocabulary))
    used = np.flatnonzero(frequencies)
    lengths = np.empty(len(terms), np.int32)
    lengths[unchanged], lengths[changed] = old.lengths[sources[unchanged]], added.lengths
    return WordIndex(
        Postings(
            *pack_terms(vocabulary.take(to_arrow_rows(used))),
            np.cumsum(frequencies[used]),
            np.insert(rows, places, added_rows),
            np.insert(old.counts[is_kept], places, added.counts),
            lengths,
        )
    )


def _merge_vocabularies(
    old: Postings, added: Postings
) -> tuple[pa.Array, NDArray[np.int64], NDArray[np.int64]]:
    """The terms of both, ascending, and the place there of each term of either."""
    encoded = pa.concat_arrays([old.terms, added.terms]).dictionary_encode()
    vocabulary, ranks = sorted_vocabulary(encoded.dictionary)
    codes = ranks[to_numpy(encoded.indices)]
    return vocabulary, codes[: len(old.term_ends)], codes[len(old.term_ends) :]


def _codes(postings: Postings, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The term of each posting, as its rank."""
    codes: NDArray[np.int64] = np.repeat(ranks, np.diff(postings.posting_ends, prepend=0))
    return codes
