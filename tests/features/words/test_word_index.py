"""Postings and their scores, against BM25 written out."""

import io
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_lab.features.words import word_tables
from jammi_lab.features.words.documents import analyze_texts
from jammi_lab.features.words.word_index import WordIndex
from tests.features.words import bm25
from tests.sizes import examples

WORDS = ["ant", "bee", "cow", "dog", "éé", "東"]
documents = st.lists(st.lists(st.sampled_from(WORDS), max_size=6), max_size=12)
queries = st.lists(st.sampled_from([*WORDS, "absent"]), max_size=4)


def index_of(texts: list[list[str]]) -> WordIndex:
    lines = [" ".join(words) for words in texts]
    return WordIndex.from_documents(analyze_texts(lines, "exact")["terms"])


@settings(max_examples=examples(300))
@given(documents, queries, st.integers(0, 15))
def test_hits_are_those_of_bm25_written_out(texts, query, k):
    index = index_of(texts)
    hits = index.search(query, k)
    expected = bm25.scores(texts, query)
    assert np.allclose(hits.scores, [expected[row] for row in hits.rows], rtol=0, atol=1e-9)
    # Equal scores may differ in their last bit here and there, so ranks are compared by score.
    best = sorted((score for score in expected if score > 0), reverse=True)[:k]
    assert np.allclose(hits.scores, best, rtol=0, atol=1e-9)
    told = list(zip(-hits.scores, hits.rows, strict=True))
    assert told == sorted(told)
    everything = np.arange(len(texts))
    assert np.allclose(index.score_rows(query, everything), expected, rtol=0, atol=1e-9)


@settings(max_examples=examples(120))
@given(documents, queries, st.integers(1, 5), st.data())
def test_a_mask_leaves_the_best_of_the_others(texts, query, k, data):
    index, allow = (
        index_of(texts),
        np.array(
            data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), bool
        ),
    )
    hits, whole = index.search(query, k, allow=allow), index.search(query, len(texts))
    assert list(hits.rows) == [row for row in whole.rows if allow[row]][:k]


def test_a_table_is_read_by_the_calling_thread_alone(tmp_path, monkeypatch):
    """A thread of Arrow that releases a buffer while the interpreter ends aborts the process."""
    rows = analyze_texts([f"w{n} text" for n in range(10_000)], "exact")
    keys = pa.array(range(10_000))
    pq.write_table(pa.table({"key": keys, "terms": rows["terms"]}), tmp_path / "t.parquet")
    threads: set[int] = set()

    class File(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            threads.add(threading.get_ident())
            return super().readinto(buffer)

        def read(self, size: int | None = -1) -> Any:
            threads.add(threading.get_ident())
            return super().read(size)

    monkeypatch.setattr(word_tables, "open_for_reading", lambda path: File(path))
    word_tables._make(tmp_path / "t.parquet")
    assert threads == {threading.get_ident()}
