"""The index of a table from that of an earlier version: the postings of rows that did not change
are taken over. The result is equal, array by array, to one made from the documents."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jammi_lab.core.definitions import TEXT_DIGEST_COLUMN
from jammi_lab.features.words.documents import sorted_vocabulary
from jammi_lab.features.words.word_index import Postings, WordIndex, pack_terms
from jammi_lab.storage.vector_arrays import RowNumbers, find_rows, to_arrow_rows, to_numpy

_MIN_UNCHANGED_SHARE = 0.5
"""Where fewer rows are unchanged, an index is made from the documents in less time."""


def unchanged_rows(rows: pa.Table, earlier_rows: pa.Table) -> RowNumbers | None:
    """For each row the earlier row with its key and its text, or −1; None where an update does not
    pay. Raises KeyError for a table without digests of its texts."""
    keys, earlier_keys = (each["key"].combine_chunks() for each in (rows, earlier_rows))
    digests, earlier_digests = (
        each[TEXT_DIGEST_COLUMN].combine_chunks() for each in (rows, earlier_rows)
    )
    sources = find_rows(keys, earlier_keys)
    known = np.flatnonzero(sources >= 0)
    is_equal = pc.equal(
        digests.take(to_arrow_rows(known)), earlier_digests.take(to_arrow_rows(sources[known]))
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
    removed = np.flatnonzero(rows < 0)
    frequencies = np.zeros(len(vocabulary), np.int64)
    frequencies[old_ranks] = np.diff(old.posting_ends, prepend=0) - np.bincount(
        np.searchsorted(old.posting_ends, removed, "right"), minlength=len(old_ranks)
    )
    rows, ends = np.delete(rows, removed), np.cumsum(frequencies)
    added_rows = changed.astype(np.int32)[added.rows]
    added_frequencies = np.diff(added.posting_ends, prepend=0)
    added_codes = np.repeat(added_ranks, added_frequencies)
    places = _places_in_spans(
        rows, ends[added_codes] - frequencies[added_codes], ends[added_codes], added_rows
    )
    frequencies[added_ranks] += added_frequencies
    used = np.flatnonzero(frequencies)
    lengths = np.empty(len(terms), np.int32)
    lengths[unchanged], lengths[changed] = old.lengths[sources[unchanged]], added.lengths
    return WordIndex(
        Postings(
            *pack_terms(vocabulary.take(to_arrow_rows(used))),
            np.cumsum(frequencies[used]),
            np.insert(rows, places, added_rows),
            np.insert(np.delete(old.counts, removed), places, added.counts),
            lengths,
        )
    )


def _places_in_spans(
    rows: NDArray[np.int32],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    wanted: NDArray[np.int32],
) -> NDArray[np.int64]:
    """For each wanted row its place in its own ascending span of the rows, by bisection of all
    spans at once: the terms of all postings as numbers would take longer to make."""
    low, high = starts.copy(), ends.copy()
    while len(open_spans := np.flatnonzero(low < high)):
        middle = (low[open_spans] + high[open_spans]) // 2
        is_less = rows[middle] < wanted[open_spans]
        low[open_spans[is_less]] = middle[is_less] + 1
        high[open_spans[~is_less]] = middle[~is_less]
    return low


def _merge_vocabularies(
    old: Postings, added: Postings
) -> tuple[pa.Array, NDArray[np.int64], NDArray[np.int64]]:
    """The terms of both, ascending, and the place there of each term of either."""
    encoded = pa.concat_arrays([old.terms, added.terms]).dictionary_encode()
    vocabulary, ranks = sorted_vocabulary(encoded.dictionary)
    codes = ranks[to_numpy(encoded.indices)]
    return vocabulary, codes[: len(old.term_ends)], codes[len(old.term_ends) :]
